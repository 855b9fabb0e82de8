"""A paper's ladder and ablations on the embedded corpus, several seeds each: `python benchmarks/corpus.py`.

Each run is one row of `results/corpus_<paper>.json`, written as soon as it is done; runs that stand there are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from accelerate.utils import set_seed

from docre_lite.corpus import counterfactuals, generate
from docre_lite.corpus.rules import close
from docre_lite.evaluate import score, seen_facts
from docre_lite.model import DocRE, build, paper
from docre_lite.predict import predict, tune
from docre_lite.predict import run as forward
from docre_lite.train import configure, environment, fit
from docre_lite.types import Triple

RESULTS = Path(__file__).parent / "results"
BY_ROUND = ("f1", "precision", "recall", "inter_f1", "infer_f1", "composed_f1", "composed_recall_by_depth")
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


def run(name: str, variant: str, seed: int, epochs: int, train, dev, test, changed) -> dict:
    """Trains once with the recipe for the tiny encoder; scores the last epoch on dev and test."""
    config, settings = configure(name, "tiny", variant=variant, seed=seed, epochs=epochs)
    set_seed(seed)
    model = build(name, train, "tiny", **settings)
    begin = time.process_time()
    history = [step.loss for step in fit(model, train, (), config)]
    seconds = time.process_time() - begin
    tune(model, dev)
    seen = seen_facts(train)
    row = {"paper": name, "variant": variant, "seed": seed, "train": len(train), "epochs": config.epochs}
    for split, documents in (("dev", dev), ("test", test), ("counterfactual", changed)):
        scores = score(predict(model, documents), documents, seen).to_dict()
        row[split] = {key: scores[key] for key in KEPT}
    row |= closed(model, test, seen) | by_round(model, test, seen)
    parameters = sum(p.numel() for p in model.parameters())
    row |= {"last_loss": sum(history[-50:]) / 50, "cpu_seconds": round(seconds, 1), "parameters": parameters}
    return row | {"environment": environment()}


def by_round(model: DocRE, test, seen) -> dict:
    """For DocRE-II the test scores after each round, the base's first, and what W_c's weights rest on."""
    if not getattr(model.classifier.options, "rounds", 0):  # another paper, or the base alone
        return {}
    options, rows = model.classifier.options, []
    for rounds in range(5):
        model.classifier.options = replace(options, rounds=rounds)
        figures = score(predict(model, test), test, seen).to_dict()
        rows.append({"rounds": rounds, **{key: figures[key] for key in BY_ROUND}})
    model.classifier.options = options
    return {"rounds": rows, "weight_halves": model.classifier.halves()} | by_answers(model, test, seen)


@torch.inference_mode()
def by_answers(model: DocRE, test, seen) -> dict:
    """The test scores after one round that is told other answers than the base's: none at all, or all stated facts."""
    classifier, options, names, rows = model.classifier, model.classifier.options, model.relations.names, []
    classifier.options = replace(options, rounds=1)
    for told in ("none", "stated"):
        found = []
        for where, batch, pairs, _ in forward(model, test):
            answers = torch.zeros_like(batch.labels)
            for b, k in enumerate(where):
                for t in test[k].triples:
                    answers[b, t.head, t.tail, names.index(t.relation)] = told == "stated" and t.depth == 0
            classifier.read = lambda logits, mask, answers=answers: answers
            chosen = classifier(pairs).chosen
            del classifier.read  # the class's own again
            for b, head, tail, relation in chosen.nonzero().tolist():
                found.append(Triple(test[where[b]].title, head, names[relation], tail))
        figures = score(found, test, seen).to_dict()
        rows.append({"told": told, **{key: figures[key] for key in BY_ROUND}})
    classifier.options = options
    return {"answers": rows}


def closed(model: DocRE, test, seen) -> dict:
    """The scores once all that follows from the model's triples by the corpus's rules is added to them."""
    facts: dict[str, list] = {}
    for t in predict(model, test):
        facts.setdefault(t.title, []).append((t.head, t.relation, t.tail))
    added = [Triple(title, *fact) for title, known in facts.items() for fact in close(known)]
    figures = score(added, test, seen).to_dict()
    return {"test_closed": {key: figures[key] for key in ("f1", "precision", "recall", "composed_f1", "infer_f1")}}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--paper", default="atlop")
    ask.add_argument("--variants", nargs="*", help="default: all of the paper's")
    ask.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    ask.add_argument("--train", type=int, default=600)
    ask.add_argument("--epochs", type=int, default=6)
    args = ask.parse_args()
    train, dev, test = generate("train", args.train), generate("dev", 150), generate("test", 150)
    changed = [document for document in counterfactuals(100) if document.variant_of]
    path = RESULTS / f"corpus_{args.paper}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    done = {(row["variant"], row["seed"], row["train"], row["epochs"]) for row in rows}
    for seed in args.seeds:
        for variant in args.variants or paper(args.paper).variants:
            if (variant, seed, args.train, args.epochs) in done:
                continue
            rows.append(run(args.paper, variant, seed, args.epochs, train, dev, test, changed))
            path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            found = rows[-1]
            print(variant, seed, f"{100 * found['dev']['f1']:.1f}", f"{found['cpu_seconds']} s", flush=True)


if __name__ == "__main__":
    main()
