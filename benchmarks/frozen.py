"""All papers and ablations on the same features: `python benchmarks/frozen.py` (a few minutes per arm).

The encoder comes with the package and stays frozen; each paper's part is trained alone, on documents that the encoder
has not seen, with five seeds: two rows of a seed differ only in the module over the pairs. Each row goes to
`results/frozen_{paper}.json` at once, with counts per document of 600 test documents; stored rows are skipped.
Several of these scripts may run at once, on different papers.

`python benchmarks/frozen.py --rates` tries two learning rates for each paper on dev, seed 0, and stores the scores.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from corpus import by_round, closed
from models import CHOSEN, DEV, RATES, READ, SHOWN, TEST, head
from torch import nn

from docre_lite.bench import rows
from docre_lite.bench.counts import DEPTHS, by_document
from docre_lite.bench.results import counts, f1_of
from docre_lite.corpus import generate
from docre_lite.evaluate import score, seen_facts
from docre_lite.model import DocRE
from docre_lite.papers.dre_mir import MODES, InferenceLayer
from docre_lite.predict import predict
from docre_lite.support.machine import environment
from docre_lite.train import shuffled
from docre_lite.types import fingerprint

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2, 3, 4)
WATCHED = 100  # dev documents scored after each epoch
PLAN = {  # the full model and its decisive ablation first
    "atlop": ["atlop", "no_context", "global_threshold", "no_adaptive_loss"],
    "docunet": ["docunet", "no_unet", "similarity", "no_balanced_softmax"],
    "paee": ["paee", "no_eer", "no_par", "zero_fill", "no_potential", "unet", "ffn", "soft_tag"],
    "docre_ii": [
        *(
            "docre_ii",
            "base",
            "with_paths",
            "no_contrast",
            "negative_pairs",
            "no_fusion",
            "best_only",
            "freeze_base",
            "one_stage",
        ),
        "no_noise",
    ],
    "dre_mir": ["dre_mir", "no_inference", "no_mir", "only_mask_path", "only_masked_points", "no_imsa", "one_layer"],
}


class Paths(InferenceLayer):
    """DRE-MIR's attention over paths in place of DocRE-II's along lines."""

    def __init__(self, width: int):
        super().__init__(width, width)
        del self.norm, self.feed, self.feed_norm
        self.fuse = nn.Linear(2 * width, width)

    def forward(self, queries, memory, cells, keep_weights=False):
        found = [self.query(queries), *(part(self.fuse(memory)) for part in (self.key, self.value))]
        split = [x.unflatten(-1, (len(MODES), self.width)).unbind(-2) for x in found]
        mixed = [self._head(h, *(part[h] for part in split), cells)[0] for h in range(len(MODES))]
        return self.out(torch.cat(mixed, -1)), None


def with_paths(model: DocRE) -> None:
    for layer in model.classifier.matrix:
        layer.attend = nn.ModuleList(Paths(model.classifier.options.map_width) for _ in range(2))


# Arms of our own that no setting of a paper gives: the part to replace in the new model.
OURS = {("docre_ii", "with_paths"): with_paths}


def row_of(reader: DocRE, paper: str, variant: str, seed: int, data: dict, only_dev: bool = False, **settings) -> dict:
    """A row: the arm is trained, then scored on dev, on test, and on changed test documents."""
    change = OURS.get((paper, variant))
    given = {**settings} if variant == paper or change else {"variant": variant, **settings}
    curve: list[dict] = []

    def watch(epoch: int, model: DocRE) -> None:
        curve.append({"epoch": epoch, "f1": score(predict(model, data["dev"][:WATCHED]), data["dev"][:WATCHED]).f1})

    begin = time.process_time()
    model = head(reader, paper, data["train"], data["dev"], seed, watch, change, **given)
    row = {"paper": paper, "variant": variant, "seed": seed, "train": len(data["train"]), "settings": settings}
    row |= {
        "epochs": curve[-1]["epoch"],
        "curve": stages(model, curve),
        "rate": settings.get("classifier_lr", CHOSEN[paper]),
    }
    row |= {"cpu_seconds": round(time.process_time() - begin, 1), "rates_tried": tried(paper)}
    row |= {"parameters": sum(p.numel() for p in model.classifier.parameters())}
    row["dev"] = scores(model, data["dev"], data["seen"])
    if only_dev:
        return row | {"environment": environment()}
    row["test"] = scores(model, data["test"], data["seen"], counted=True)
    row["documents"] = {
        s: {"documents": len(data[s]), "checksum": fingerprint(data[s])[:12]} for s in ("train", "dev", "test")
    }
    if not model.classifier.equivariant:
        row["test_orders"] = orders(model, data["test"], data["seen"])
    if getattr(model.classifier.options, "mask_rate", 0):
        row["test_hidden"] = hidden(model, data["test"], data["seen"])
    row |= closed(model, data["test"], data["seen"]) | by_round(model, data["test"], data["seen"])
    return row | {"environment": environment()}


def tried(paper: str) -> list[float]:
    """The rates already compared on dev, as far as they are stored; the current one if none are."""
    stored = [row["rate"] for row in rows.stored(RESULTS / "rates_frozen.json") if row["paper"] == paper]
    return sorted({*stored, CHOSEN[paper]})


def stages(model: DocRE, curve: list[dict]) -> list[dict]:
    """The curve, with the stage of each epoch if a base is trained first."""
    first = int(model.classifier.base_share * len(curve))
    return [point | {"stage": 1 if point["epoch"] <= first else 2} for point in curve] if first else curve


def scores(model: DocRE, documents, seen, counted: bool = False) -> dict:
    found = predict(model, documents)
    figures = score(found, documents, seen).to_dict()
    for key in ("by_relation", *(() if counted else ("by_entities", "by_related"))):
        figures.pop(key, None)
    by = by_document(found, documents, seen)
    for depth in DEPTHS:
        key = f"depth_{depth}_f1"
        figures[key] = float(f1_of(counts([{"x": {"by_document": by}}], "x", key)[0].sum(0).astype(float))) / 100
    return figures | ({"by_document": by} if counted else {})


def orders(model: DocRE, documents, seen) -> dict:
    """Scores with the entities numbered at random, and sorted by type."""
    arranged = {
        "shuffled": [shuffled(document, k) for k, document in enumerate(documents)],
        "by type": [d.permuted(sorted(range(len(d.entities)), key=lambda i: d.entities[i].type)) for d in documents],
    }
    return {name: scores(model, some, seen) for name, some in arranged.items()}


def hidden(model: DocRE, documents, seen) -> dict:
    """Scores while this share of the pairs is hidden."""
    found, options = {}, model.classifier.options
    for rate in (0.1, 0.2, 0.3, 0.4, 0.5):
        model.classifier.options = replace(options, test_mask_rate=rate)
        torch.manual_seed(0)
        found[str(rate)] = scores(model, documents, seen)
    model.classifier.options = options
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--papers", nargs="*", default=list(PLAN))
    ask.add_argument("--variants", nargs="*", help="default: the plan's")
    ask.add_argument("--first", type=int, help="only this many of each paper's variants")
    ask.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    ask.add_argument("--rates", action="store_true", help="only try the rates, on dev")
    ask.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of an arm of its own")
    args = ask.parse_args()
    torch.set_num_threads(1)
    data = {"train": generate("train", SHOWN, first=READ), "dev": generate("dev", DEV), "test": generate("test", TEST)}
    data["seen"] = seen_facts(data["train"])
    reader, own = DocRE.load("atlop"), dict(item.split("=") for item in args.set)
    if args.rates:
        return try_rates(reader, args.papers, data)
    for seed in args.seeds:
        for paper in args.papers:
            for variant in args.variants or PLAN[paper][: args.first]:
                path = RESULTS / f"frozen_{paper}.json"
                known = {"paper": paper, "variant": variant, "seed": seed, "settings": own}
                if any(rows.same(row, known) for row in rows.stored(path)):
                    continue
                row = row_of(reader, paper, variant, seed, data, **own)
                rows.keep(path, row)
                figures = [f"{s} {100 * row[s]['f1']:.1f} {100 * row[s]['composed_f1']:.1f}" for s in ("dev", "test")]
                print(paper, variant, seed, own, *figures, f"{row['cpu_seconds']} s", flush=True)


def try_rates(reader: DocRE, papers: list[str], data: dict) -> None:
    """Dev F1 of each paper at each rate, seed 0. For the current rate, the stored row serves if there is one."""
    kept = ("paper", "variant", "seed", "train", "epochs", "rate", "curve", "cpu_seconds", "environment")
    path = RESULTS / "rates_frozen.json"
    for paper in papers:
        for rate in RATES:
            settings = {"classifier_lr": rate}
            known = {"paper": paper, "variant": paper, "seed": 0, "settings": settings}
            if any(rows.same(row, known) for row in rows.stored(path)):
                continue
            first = known | {"settings": {}}
            same = [row for row in rows.stored(RESULTS / f"frozen_{paper}.json") if rows.same(row, first)]
            if rate != CHOSEN[paper] or not same:
                same = [row_of(reader, paper, paper, 0, data, only_dev=True, **settings)]
            row = {key: same[0][key] for key in kept} | {"settings": settings, "dev": {"f1": same[0]["dev"]["f1"]}}
            rows.keep(path, row)
            print(paper, rate, f"dev {100 * row['dev']['f1']:.1f}", f"{row['cpu_seconds']} s", flush=True)


if __name__ == "__main__":
    main()
