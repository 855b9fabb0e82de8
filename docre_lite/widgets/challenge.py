"""A puzzle for the reader: which single word must go so that a model loses a fact that it found?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..model import DocRE
from ..predict import run
from ..types import Document, Entity

VARIANTS = 100  # most documents to read, each without a different word
READ = 10_000  # most words of all of them together: about a second for a tiny model


def without(document: Document, sentence: int, word: int) -> Document:
    """The document without its triples and without one word, which is not part of a name."""
    lines = list(document.sentences)
    lines[sentence] = lines[sentence][:word] + lines[sentence][word + 1 :]

    def moved(mention):
        by = int(mention.sentence == sentence and mention.start > word)
        return replace(mention, start=mention.start - by, end=mention.end - by)

    entities = tuple(Entity(tuple(map(moved, entity.mentions)), entity.id) for entity in document.entities)
    return replace(document, sentences=tuple(lines), entities=entities, triples=())


def one_word(model: DocRE, document: Document) -> dict[str, Any] | None:
    """A fact that the model finds but loses without a certain word outside all names; None if there is no such word.

    Gold facts come before others, composed ones before stated ones, then words of a sentence that does not mention both
    entities, then words that change few other facts, then those that lower the margin most. Words of the relation's
    own name do not count: striking "author" to lose an author would be too easy.
    """
    places = _places(document)
    margins, chosen = _read(model, [document, *(without(document, *place) for place in places)])
    gold = {(t.head, t.relation, t.tail): t.depth for t in document.triples}
    best, found = (), None
    for k, (sentence, word) in enumerate(places, start=1):
        lost, moved = (chosen[0] & ~chosen[k]).nonzero().tolist(), int((chosen[0] ^ chosen[k]).sum())
        text = document.sentences[sentence][word]
        here = {i for i, entity in enumerate(document.entities) if sentence in entity.sentences}
        for h, t, r in lost:
            relation = model.relations.names[r]
            if text.lower() in relation.lower().split("_"):
                continue
            depth, after = gold.get((h, relation, t), -1), float(margins[k, h, t, r])
            key = (depth, not {h, t} <= here, -moved, float(margins[0, h, t, r]) - after)
            if key > best:
                place = sum(map(len, document.sentences[:sentence])) + word
                found = {"fact": [h, relation, t], "word": place, "margin": round(float(margins[0, h, t, r]), 2)}
                best, found["after"] = key, round(after, 2)
    return found


def _places(document: Document) -> list[tuple[int, int]]:
    """Words outside all names, as (sentence, word): no more than can be tried at once."""
    named = {(m.sentence, w) for entity in document.entities for m in entity.mentions for w in range(m.start, m.end)}
    words = [(s, w) for s, line in enumerate(document.sentences) for w, text in enumerate(line) if text.isalpha()]
    most = min(VARIANTS, READ // max(document.words, 1))
    return [place for place in words if place not in named][:most]


@torch.inference_mode()
def _read(model: DocRE, documents: list[Document]) -> tuple[Tensor, Tensor]:
    """Margins [variants, N, N, R] of documents with the same entities, and the relations chosen."""
    margins: dict[int, Tensor] = {}
    chosen: dict[int, Tensor] = {}
    for where, _, _, prediction in run(model, documents, batch_size=16, labels=False):
        margins |= zip(where, prediction.margin.float().cpu(), strict=True)
        chosen |= zip(where, prediction.chosen.cpu(), strict=True)
    order = range(len(documents))
    return torch.stack([margins[k] for k in order]), torch.stack([chosen[k] for k in order])
