"""DRE-MIR's Figures 4 and 5 on the embedded corpus: `python benchmarks/mask_rates.py`.

For each seed the ATLOP encoder of `corpus_modules.py`, frozen; on it one DRE-MIR for each share of pairs that is hidden
in training. Every model is then scored with growing shares hidden at test time, over the same test features. Each
model is one row of `results/mask_rates.json`, written at once; rows that stand there are skipped.

Share 0 is the variant `no_mir`. It has learnt no vector for a hidden pair, so hidden pairs are zeros for it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from corpus_modules import RATES, SEEN, base

# corpus_modules must come first: it sets the number of threads
# ruff: isort: split
import torch
from accelerate.utils import set_seed

from docre_lite.corpus import generate
from docre_lite.evaluate import score
from docre_lite.model import DocRE, PairClassifier, classifier
from docre_lite.predict import run
from docre_lite.support.machine import environment
from docre_lite.train import configure, fit_frozen
from docre_lite.types import Document, PairFeatures, Triple

RESULTS = Path(__file__).parent / "results" / "mask_rates.json"
IN_TRAINING = (0.0, 0.1, 0.2, 0.5)
AT_TEST = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MEASURED = ("f1", "infer_f1", "composed_f1")


def trained(atlop: DocRE, rate: float, seed: int, epochs: int, documents: list[Document]) -> DocRE:
    """DRE-MIR on a frozen encoder, trained with that share of each document's pairs hidden."""
    arm = {"mask_rate": rate} if rate else {"variant": "no_mir"}
    config, settings = configure("dre_mir", "tiny", seed=seed, epochs=epochs, **RATES["dre_mir"], **arm)
    set_seed(seed)
    model = DocRE(atlop.tokenizer, atlop.encoder, classifier("dre_mir", atlop.tokenizer, atlop.encoder, **settings))
    for _ in fit_frozen(model, documents, config):
        pass
    if rate == 0:
        model.classifier.hidden_cell = torch.nn.Parameter(torch.zeros(1, settings["map_width"]))
    return model


def triples(part: PairClassifier, features: list[PairFeatures], names: tuple[str, ...]) -> list[Triple]:
    found = []
    with torch.inference_mode():
        for pairs in features:
            for b, head, tail, relation in part(pairs).chosen.nonzero().tolist():
                found.append(Triple(pairs.batch.documents[b].title, head, names[relation], tail))
    return found


def curve(model: DocRE, features: list[PairFeatures], documents: list[Document], draws: int) -> list[dict]:
    """Scores for each share hidden at test time, means over draws of the hidden pairs."""
    part, points = model.classifier.eval(), []
    for rate in AT_TEST:
        part.options, found = replace(part.options, test_mask_rate=rate), []
        for draw in range(draws if rate else 1):
            torch.manual_seed(draw)
            scores = score(triples(part, features, model.relations.names), documents)
            found.append({name: getattr(scores, name) for name in MEASURED})
        points.append({"rate": rate} | {name: sum(f[name] for f in found) / len(found) for name in MEASURED})
        points[-1]["draws"] = len(found)
    return points


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    ask.add_argument("--rates", type=float, nargs="*", default=list(IN_TRAINING), help="shares hidden in training")
    ask.add_argument("--train", type=int, default=500, help="documents, none of them seen by the encoder")
    ask.add_argument("--test", type=int, default=150)
    ask.add_argument("--seen", type=int, default=SEEN, help="documents that the encoder is trained on")
    ask.add_argument("--epochs", type=int, default=4)
    ask.add_argument("--draws", type=int, default=2, help="draws of the hidden pairs for each share at test time")
    args = ask.parse_args()
    documents, test = generate("train", args.seen + args.train), generate("test", args.test)
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    done = {(r["train_rate"], r["seed"], r["train"], r["epochs"]) for r in rows}
    for seed in args.seeds:
        rates = [rate for rate in args.rates if (rate, seed, args.train, args.epochs) not in done]
        if not rates:
            continue
        atlop = base(documents[: args.seen], seed)
        with torch.inference_mode():
            features = [replace(pairs, attention=None, pooled=pairs.context) for _, _, pairs, _ in run(atlop, test)]
        for rate in rates:
            begin = time.process_time()
            model = trained(atlop, rate, seed, args.epochs, documents[args.seen :])
            row = {"train_rate": rate, "seed": seed, "train": args.train, "test": args.test, "epochs": args.epochs}
            row["cpu_seconds"] = round(time.process_time() - begin, 1)
            row["curve"] = curve(model, features, test, args.draws)
            row |= {"f1": row["curve"][0]["f1"], "environment": environment()}
            rows.append(row)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            figures = " ".join(f"{100 * point['f1']:.1f}" for point in row["curve"])
            print(f"hidden in training {rate:g}, seed {seed}: {figures} ({row['cpu_seconds']} s)", flush=True)


if __name__ == "__main__":
    main()
