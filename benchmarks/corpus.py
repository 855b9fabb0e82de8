"""What the rows of the plan `lite` say beside scores: `docre-lite bench run lite`, then `python benchmarks/corpus.py`.

To each stored row whose run still has its folder: the test scores once everything that follows from the model's
triples is added to them, and for DocRE-II those after each round and with other answers. Rows that have them are left.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from docre_lite.bench import plans, rows
from docre_lite.corpus import generate
from docre_lite.corpus.rules import close
from docre_lite.evaluate import score, seen_facts
from docre_lite.model import DocRE
from docre_lite.predict import predict
from docre_lite.predict import run as forward
from docre_lite.types import Triple

BY_ROUND = ("f1", "precision", "recall", "inter_f1", "infer_f1", "composed_f1", "composed_recall_by_depth")


def by_round(model: DocRE, test, seen) -> dict:
    """For DocRE-II, the test scores after each round, the base's first, and the weights W_c gives to both matrices."""
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
    """The test scores after one round that reads other answers than the base's: none at all, or all stated facts."""
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
    """The scores after adding everything that follows from the model's triples by the corpus's rules."""
    facts: dict[str, list] = {}
    for t in predict(model, test):
        facts.setdefault(t.title, []).append((t.head, t.relation, t.tail))
    added = [Triple(title, *fact) for title, known in facts.items() for fact in close(known)]
    figures = score(added, test, seen).to_dict()
    return {"test_closed": {key: figures[key] for key in ("f1", "precision", "recall", "composed_f1", "infer_f1")}}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--runs", type=Path, default=Path("runs"), help="the --out of `docre-lite bench run`")
    runs, plan = ask.parse_args().runs, plans.load("lite")
    sizes = plan.data["corpus"]["corpus"]
    test, seen = generate("test", sizes["test"]), seen_facts(generate("train", sizes["train"]))
    torch.set_num_threads(1)
    for run in plan.runs:
        path, folder = plan.file(run, rows.RESULTS), runs / plan.name / run.name / "model"
        row = next((r for r in rows.stored(path) if rows.complete(r) and rows.same(r, plan.identity(run))), None)
        if row is None or "test_closed" in row or not folder.is_dir():
            continue
        model = DocRE.load(folder)
        rows.keep(path, row | closed(model, test, seen) | by_round(model, test, seen))
        print(run.name, flush=True)


if __name__ == "__main__":
    main()
