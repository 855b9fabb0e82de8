"""Papers on the very same features: `python benchmarks/corpus_modules.py`.

For each seed an ATLOP model is trained on 600 documents of the embedded corpus. Its encoder is then frozen, and every
paper's part is trained alone on documents that this encoder has not seen. What differs between two rows of a seed is
the module over the pairs, and nothing else. Each row goes to `results/corpus_modules.json` at once; those that stand
there are skipped.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from accelerate.utils import set_seed
from corpus import by_round, closed

from docre_lite.bench import rows
from docre_lite.corpus import generate
from docre_lite.evaluate import score, seen_facts
from docre_lite.model import DocRE, build, classifier
from docre_lite.predict import predict, tune
from docre_lite.support.machine import environment
from docre_lite.train import configure, fit, fit_frozen

RESULTS = Path(__file__).parent / "results" / "corpus_modules.json"
CACHE = Path(__file__).parent.parent / "_build" / "base"
SEEN = 600  # documents that the encoder is trained on
KEPT = ("f1", "ign_f1", "precision", "recall", "intra_f1", "inter_f1", "infer_f1", "composed_f1", "stated_recall")
KEPT += (
    "composed_recall_by_depth",
    "rela_f1",
    "rela_recall",
    "rela_precision",
    "rela_accuracy",
    "evidence_f1",
    "by_entities",
    "by_related",
)
EPOCHS = {"docre_ii": 9}  # two stages share them; 4 for every other paper
# On features that stand still larger steps pay than with an encoder that is trained along.
RATES = {"dre_mir": {"classifier_lr": 3e-3, "matrix_lr": 3e-3}}
PLAN = {
    "atlop": ["atlop"],
    "docunet": ["docunet", "no_unet", "similarity", "no_balanced_softmax"],
    "paee": ["paee", "no_par", "no_eer", "zero_fill", "no_potential", "unet", "ffn", "soft_tag"],
    "docre_ii": [
        "docre_ii",
        "base",
        "no_contrast",
        "negative_pairs",
        "no_fusion",
        "best_only",
        "freeze_base",
        "one_stage",
        "no_noise",
    ],
    "dre_mir": ["dre_mir", "no_mir", "no_inference", "only_mask_path", "only_masked_points", "no_imsa", "one_layer"],
}


def base(documents, seed: int) -> DocRE:
    """ATLOP of that seed; kept between scripts and for as long as the source tree is at the same commit."""
    commit = environment()["commit"]
    kept = CACHE / f"atlop-{seed}-{commit}"
    if kept.is_dir():
        return DocRE.load(kept)
    config, settings = configure("atlop", "tiny", seed=seed)
    set_seed(seed)
    model = build("atlop", documents, "tiny", **settings)
    for _ in fit(model, documents, (), config):
        pass
    if commit and not commit.endswith("+"):
        model.save(kept)
    return model.eval()


def run(atlop: DocRE, name: str, variant: str, seed: int, epochs: int, documents, dev, test, seen) -> dict:
    of, *more = variant.split()  # "no_imsa matrix_lr=3e-4": a variant with other settings
    settings = RATES.get(name, {}) | dict(pair.split("=") for pair in more)
    config, settings = configure(name, "tiny", variant=of, seed=seed, epochs=epochs, **settings)
    set_seed(seed)
    model = DocRE(atlop.tokenizer, atlop.encoder, classifier(name, atlop.tokenizer, atlop.encoder, **settings))
    begin = time.process_time()
    losses = [step.loss for step in fit_frozen(model, documents, config)]
    row = {"paper": name, "variant": variant, "seed": seed, "train": len(documents), "epochs": epochs}
    row |= {"cpu_seconds": round(time.process_time() - begin, 1), "last_loss": sum(losses[-50:]) / 50}
    tune(model, dev)
    row |= {"parameters": sum(p.numel() for p in model.classifier.parameters())} | scores(model, dev, test, seen)
    return row | closed(model, test, seen) | by_round(model, test, seen)


def scores(model: DocRE, dev, test, seen) -> dict:
    found = {}
    for split, documents in (("dev", dev), ("test", test)):
        figures = score(predict(model, documents), documents, seen).to_dict()
        found[split] = {key: figures[key] for key in KEPT}
    return found | {"environment": environment()}


def arm(row: dict) -> tuple:
    return tuple(row[key] for key in ("paper", "variant", "seed", "train", "epochs"))


def keep(row: dict) -> None:
    rows.keep(RESULTS, row, lambda old, new: arm(old) == arm(new))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    ask.add_argument("--papers", nargs="*", default=list(PLAN))
    ask.add_argument("--variants", nargs="*", help="default: the plan's; settings may follow: 'no_imsa matrix_lr=3e-4'")
    ask.add_argument("--train", type=int, default=500, help="documents, none of them seen by the encoder")
    ask.add_argument("--epochs", type=int, help="default: 4, and 9 for DocRE-II, whose two stages share them")
    args = ask.parse_args()
    known = {v for p in args.papers for v in PLAN[p]}
    if unknown := [v for v in args.variants or () if v.split()[0] not in known]:
        ask.error(f"no variant {unknown[0].split()[0]!r} of {', '.join(args.papers)}; have {', '.join(sorted(known))}")
    documents, dev, test = generate("train", SEEN + args.train), generate("dev", 150), generate("test", 150)
    done = set(map(arm, rows.stored(RESULTS)))
    for seed in args.seeds:
        arms = [
            (p, v, args.epochs or EPOCHS.get(p, 4))
            for p in args.papers
            for v in args.variants or PLAN[p]
            if v.split()[0] in PLAN[p]
        ]
        arms = [(p, v, n) for p, v, n in arms if (p, v, seed, args.train, n) not in done]
        if not arms:
            continue
        atlop = base(documents[:SEEN], seed)
        if ("atlop", "base", seed, SEEN, 6) not in done:
            row = {"paper": "atlop", "variant": "base", "seed": seed, "train": SEEN, "epochs": 6}
            keep(row | scores(atlop, dev, test, seen_facts(documents[:SEEN])))
        for name, variant, epochs in arms:
            seen = seen_facts(documents)
            found = run(atlop, name, variant, seed, epochs, documents[SEEN:], dev, test, seen)
            keep(found)
            figures = " ".join(f"{100 * found['test'][k]:.1f}" for k in ("f1", "inter_f1", "infer_f1", "composed_f1"))
            print(name, variant, seed, figures, f"{found['cpu_seconds']} s", flush=True)


if __name__ == "__main__":
    main()
