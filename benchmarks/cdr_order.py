"""What does the order of entities reveal on CDR, without reading? `python benchmarks/cdr_order.py TRAIN DEV`.

Three orders of the same documents and gold pairs: by first mention, as this package reads them; at random; and as a
public loader numbers them. Its preprocessed file lists a document's related pairs before the unrelated ones, and
numbers entities as the pairs list them. "positives_first" is that order; "positives_first_turned" also has
the loader's direction, from the entity mentioned first to the other, whichever of the two is the chemical.

Three predictors: yes to every pair; the share of related pairs at each place (head, tail) of the matrix; and a U-Net
that knows only the number of entities. Held-out training documents choose the threshold, by F1. Scores cover all
chemical–disease pairs. They characterise an order of entities and predictors that do not read, not any published
number. Writes `results/cdr_order.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from docre_lite.bench.probes import train_probe
from docre_lite.formats.readers import read
from docre_lite.objectives import best_threshold
from docre_lite.support.machine import environment
from docre_lite.types import Document

RESULTS = Path(__file__).parent / "results"
Scorer = Callable[[Document], np.ndarray]  # a score for every pair of `document.pairs()`


# Orders -----------------------------------------------------------------------------------------------------------


def first_mention(document: Document) -> Document:
    return document


def at_random(document: Document) -> Document:
    """An order that depends on the title alone, so that all predictors see the same."""
    order = list(range(len(document.entities)))
    random.Random(document.title).shuffle(order)
    return document.permuted(order)


def positives_first(document: Document) -> Document:
    """Entities numbered as in the list of pairs: related pairs, then the others, each in order of mention.

    A pair lists the entity mentioned first before the other. The document's own entities must be in order
    of first mention. Entities in no pair come last.
    """
    gold = {(triple.head, triple.tail) for triple in document.triples}
    in_text = sorted((min(pair), max(pair), pair not in gold) for pair in document.pairs())
    named = [entity for *pair, _ in sorted(in_text, key=lambda pair: pair[2]) for entity in pair]
    return document.permuted(list(dict.fromkeys([*named, *range(len(document.entities))])))


def positives_first_turned(document: Document) -> Document:
    """The same, and every pair goes from the entity that is mentioned first to the other."""
    return positives_first(
        replace(
            document,
            triples=tuple(replace(t, head=min(t.head, t.tail), tail=max(t.head, t.tail)) for t in document.triples),
            candidates=frozenset((min(pair), max(pair)) for pair in document.pairs()),
        )
    )


ORDERS = (first_mention, at_random, positives_first, positives_first_turned)


# Predictors -------------------------------------------------------------------------------------------------------


def say_yes(train: Sequence[Document], seed: int, epochs: int) -> Scorer:
    return lambda document: np.ones(len(document.pairs()))


def table(train: Sequence[Document], seed: int, epochs: int) -> Scorer:
    """The share of related pairs at each place of the matrix; a place never seen in training has the overall share."""
    seen = Counter(pair for document in train for pair in document.pairs())
    related = Counter(pair for document in train for pair in gold_pairs(document))
    overall = related.total() / seen.total()
    return lambda document: np.array([related[p] / seen[p] if p in seen else overall for p in document.pairs()])


def count(train: Sequence[Document], seed: int, epochs: int) -> Scorer:
    probe = train_probe("count", train, epochs, seed)
    return lambda document: probe.margins(document)[:, 0].numpy()


def gold_pairs(document: Document) -> set[tuple[int, int]]:
    return {(triple.head, triple.tail) for triple in document.triples}


def gold(document: Document) -> np.ndarray:
    related = gold_pairs(document)
    return np.array([pair in related for pair in document.pairs()], dtype=bool)


def first_pair_is_gold(document: Document) -> bool:
    """Are entities 0 and 1 related, in either direction?"""
    return not {(0, 1), (1, 0)}.isdisjoint(gold_pairs(document))


# The experiment ---------------------------------------------------------------------------------------------------


def run(predictor, train: Sequence[Document], test: Sequence[Document], held_out: int, seed: int, epochs: int) -> dict:
    """Train on some, choose the threshold on the held-out, score on the test documents."""
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    scorer = predictor([train[i] for i in order[held_out:]], seed, epochs)
    scores, labels = _all(scorer, [train[i] for i in order[:held_out]])
    threshold, tuned = best_threshold(scores, labels, int(labels.sum()))
    scores, labels = _all(scorer, test)
    chosen = scores > threshold
    right = int((chosen & labels).sum())
    return {
        "f1": round(2 * right / (int(chosen.sum()) + int(labels.sum())), 4),
        "precision": round(right / max(int(chosen.sum()), 1), 4),
        "recall": round(right / int(labels.sum()), 4),
        "held_out_f1": round(tuned, 4),
    }


def _all(scorer: Scorer, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([scorer(d) for d in documents]), np.concatenate([gold(d) for d in documents])


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("train", type=Path, help="CDR's training set (PubTator)")
    ask.add_argument("dev", type=Path, help="CDR's development set; scored, unless --test is given")
    ask.add_argument("--test", type=Path, help="score on this file, and train on the development set too")
    ask.add_argument("--held-out", type=int, default=100, help="training documents that choose the threshold")
    ask.add_argument("--epochs", type=int, default=5, help="epochs of the U-Net")
    ask.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = ask.parse_args()
    torch.set_num_threads(1)
    train, test, names = read(options.train, pairs="cdr"), read(options.dev, pairs="cdr"), [options.train.name]
    if options.test:
        train, test, names = train + test, read(options.test, pairs="cdr"), [*names, options.dev.name]
    rows = []
    for order in ORDERS:
        ordered, scored = ([order(document) for document in documents] for documents in (train, test))
        first = sum(map(first_pair_is_gold, scored)) / len(scored)
        for predictor in (say_yes, table, count):
            for seed in options.seeds:
                begin = time.process_time()
                row = {"order": order.__name__, "predictor": predictor.__name__, "seed": seed}
                row |= run(predictor, ordered, scored, options.held_out, seed, options.epochs)
                row |= {"first_pair_gold": round(first, 4), "cpu_seconds": round(time.process_time() - begin, 1)}
                rows.append(row)
                print(row, flush=True)
    record = {
        "environment": environment(),
        "train": {"files": names, "documents": len(train), "held_out": options.held_out, "epochs": options.epochs},
        "scored": {
            "file": (options.test or options.dev).name,
            "documents": len(test),
            "pairs": sum(len(document.pairs()) for document in test),
            "gold": sum(len(gold_pairs(document)) for document in test),
        },
        "rows": rows,
    }
    (RESULTS / "cdr_order.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
