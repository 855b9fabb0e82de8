"""Scores from raw text to triples: the triples of found entities, compared with gold entities and their triples."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from ..evaluate import Fact, Scores, by_title, score
from ..support import DataError
from ..types import Document, Entity, Triple

Place = tuple[int, int]  # a mention's characters [start, end), spaces not counted


def score_found(
    predicted: Iterable[Triple],
    found: Sequence[Document],
    gold: Sequence[Document],
    seen: Collection[Fact] | None = None,
    *,
    overlap: float = 1.0,
) -> Scores:
    """End-to-end scores: `predicted` are triples of the entities in `found`, and `gold` has the true ones.

    A found entity counts for the gold entity with which it shares most mentions (`matches`). A predicted triple is
    right if head, relation and tail are right after this exchange. Triples that become equal count once. A triple of an
    entity that counts for none is wrong, and a gold triple of an entity that nobody found is missed. Types do
    not matter. The rest is as in `evaluate.score`.

    Args:
        found, gold: documents with the same titles and texts; words may be cut differently.
        seen: facts of the training set, for Ign F1.
        overlap: see `matches`.

    Raises:
        DataError: a title or a text that only one side has, or a prediction about an entity that is not in `found`.
    """
    read, known = by_title(found), by_title(gold)
    if strange := sorted(read.keys() ^ known.keys()):
        raise DataError(f"{strange[0]!r} is only among the {'found' if strange[0] in read else 'gold'} documents")
    counted = {title: _counted(read[title], known[title], overlap) for title in known}
    triples = []
    for triple in predicted:
        numbers = counted[triple.title][1] if triple.title in counted else []
        if not (0 <= triple.head < len(numbers) and 0 <= triple.tail < len(numbers)):
            raise DataError(
                f"prediction for {triple.title!r}: pair ({triple.head}, {triple.tail}), but {len(numbers)} entities "
                "were found there, numbered from 0; give the documents that the model read"
            )
        triples.append(replace(triple, head=numbers[triple.head], tail=numbers[triple.tail]))
    return score(triples, [document for document, _ in counted.values()], seen)


def matches(found: Document, gold: Document, overlap: float = 1.0) -> list[int | None]:
    """The gold entity that each found entity counts for; `None` if they share no mention.

    It is the one with which it shares most mentions, and of several the first. A mention is shared if both have it in
    the same place. With `overlap` below 1, a mention counts in part: by the share of characters in common (of all
    characters of both), if that is at least `overlap`.
    """
    ours, theirs = _places(found), _places(gold)
    shared = [[sum(_best(a, g, overlap) for a in f) for g in theirs] for f in ours]
    return [max(range(len(row)), key=row.__getitem__) if any(row) else None for row in shared]


def _best(place: Place, places: Iterable[Place], least: float) -> float:
    best = max(_common(place, other) for other in places)
    return best if best >= least else 0.0


def mention_scores(found: Sequence[Document], gold: Sequence[Document]) -> dict[str, float]:
    """Precision, recall and F1 of mentions (place and type) and of entities (all places), pooled over documents."""
    read = by_title(found)
    hits: Counter[str] = Counter()
    for document in gold:
        for what, of in (("mention", _typed), ("entity", lambda d: {frozenset(places) for places in _places(d)})):
            ours, theirs = of(read[document.title]), of(document)
            hits.update({f"{what} right": len(ours & theirs), f"{what} found": len(ours), f"{what} gold": len(theirs)})
    ratios = {}
    for what in ("mention", "entity"):
        right, ours, theirs = (hits[f"{what} {part}"] for part in ("right", "found", "gold"))
        ratios[f"{what}_precision"] = right / ours if ours else 0.0
        ratios[f"{what}_recall"] = right / theirs if theirs else 0.0
        ratios[f"{what}_f1"] = 2 * right / (ours + theirs) if ours + theirs else 0.0
    return ratios


def _counted(found: Document, gold: Document, overlap: float) -> tuple[Document, list[int]]:
    """Gold with the found entities that count for none behind its own, and the number there of each found entity."""
    if _letters(found) != _letters(gold):
        raise DataError(f"{gold.title!r}: found and gold documents have different texts; give the same text to both")
    begin, at = [row[0] for row in _words(gold)], _words(found)
    numbers, more = [], []
    for entity, match in zip(found.entities, matches(found, gold, overlap), strict=True):
        if match is None:
            match = len(gold.entities) + len(more)
            sentences = [bisect_right(begin, at[m.sentence][m.start]) - 1 for m in entity.mentions]
            there = zip(entity.mentions, sentences, strict=True)  # gold's sentences; its words may be other ones
            more.append(Entity(tuple(replace(m, sentence=s, start=0, end=1) for m, s in there)))
        numbers.append(match)
    return replace(gold, entities=(*gold.entities, *more)), numbers


def _letters(document: Document) -> str:
    return "".join("".join(word.split()) for sentence in document.sentences for word in sentence)


def _words(document: Document) -> list[list[int]]:
    """Where each word begins, by sentence, spaces not counted; and where the sentence ends."""
    at, begin = 0, []
    for sentence in document.sentences:
        row = [at]
        for word in sentence:
            at += len("".join(word.split()))
            row.append(at)
        begin.append(row)
    return begin


def _places(document: Document) -> list[set[Place]]:
    at = _words(document)
    return [{(at[m.sentence][m.start], at[m.sentence][m.end]) for m in entity.mentions} for entity in document.entities]


def _typed(document: Document) -> set[tuple[Place, str]]:
    at = _words(document)
    return {((at[m.sentence][m.start], at[m.sentence][m.end]), m.type) for e in document.entities for m in e.mentions}


def _common(a: Place, b: Place) -> float:
    """Characters that two places have in common, as a share of all their characters."""
    both = min(a[1], b[1]) - max(a[0], b[0])
    return both / (a[1] - a[0] + b[1] - b[0] - both) if both > 0 else 0.0
