"""Checks that report a faulty document in one line, and a description of what a file holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..support import DataError
from ..types import Document, Relations


def place(where: str, title: object) -> str:
    """`file: document 12 ("Title")`: the start of every message about one document."""
    line = " ".join(str(title).split())[:60]
    return f'{where} ("{line.encode(errors="replace").decode()}")'


def check(documents: Sequence[Document], where: str, relations: Relations | None = None) -> None:
    """Raise `DataError` on the first document that the rest of the package could not handle.

    Args:
        documents: those that a reader returned, or that you made by hand.
        where: begins the message, usually the file.
        relations: if given, a triple with a relation that it lacks is an error.
    """
    first: dict[str, int] = {}
    for i, document in enumerate(documents):
        here = place(f"{where}: document {i}", document.title)
        if document.title in first:
            raise DataError(
                f"{here}: field title: document {first[document.title]} has the same title, so their triples would "
                "be mixed up; rename one, or read them in Python with strict=False to number them"
            )
        first[document.title] = i
        _check_document(document, here)
        for triple in document.triples if relations is not None else ():
            if triple.relation not in relations:
                raise DataError(
                    f"{here}: field labels: relation {triple.relation!r} is not among the {len(relations)} of the "
                    "relation map; add it there, or leave the map out to take the relations from the data"
                )


def span_fault(sentence: int, start: int, end: int, lengths: Sequence[int]) -> str | None:
    """The fault of a mention of words `[start, end)`, with its remedy; `None` if there is none."""
    if not 0 <= sentence < len(lengths):
        return f"sent_id: {sentence} is outside the {len(lengths)} sentences; count them from 0"
    if not 0 <= start < end <= lengths[sentence]:
        return (
            f"pos: [{start}, {end}] is empty or outside sentence {sentence} of {lengths[sentence]} words; "
            "give [first word, last word + 1]"
        )
    return None


def _check_document(document: Document, here: str) -> None:
    n = len(document.entities)
    lengths = [len(sentence) for sentence in document.sentences]
    if not sum(lengths):
        raise DataError(f"{here}: field sents: no words; remove the document or give it a text")
    for e, entity in enumerate(document.entities):
        if not entity.mentions:
            raise DataError(f"{here}: entity {e}: has no mentions; remove the entity or add a mention")
        for mention in entity.mentions:
            if fault := span_fault(mention.sentence, mention.start, mention.end, lengths):
                raise DataError(f"{here}: entity {e}, mention {mention.name!r}: {fault}")
    for triple in document.triples:
        pair = (triple.head, triple.tail)
        if not (0 <= triple.head < n and 0 <= triple.tail < n):
            raise DataError(f"{here}: field labels: {pair} names an entity that is absent; there are {n}, from 0")
        if triple.head == triple.tail:
            raise DataError(
                f"{here}: field labels: {triple.relation!r} relates entity {triple.head} to itself; remove the label, "
                "or read the file in Python with strict=False to drop it"
            )
        if any(not 0 <= s < len(lengths) for s in triple.evidence):
            raise DataError(
                f"{here}: field labels: evidence {list(triple.evidence)} is outside the {len(lengths)} sentences; "
                f"count them from 0 to {len(lengths) - 1}"
            )
        if any(not (0 <= h < n and 0 <= t < n) for h, _, t in triple.premises):
            raise DataError(f"{here}: field labels: premises name an entity that is absent; there are {n}, from 0")
    for pair in document.candidates or ():
        if not (0 <= pair[0] < n and 0 <= pair[1] < n) or pair[0] == pair[1]:
            raise DataError(f"{here}: field candidates: {pair} is not a pair of different entities among the {n}")
    if document.candidates is not None:
        for triple in document.triples:
            if (triple.head, triple.tail) not in document.candidates:
                raise DataError(
                    f"{here}: field labels: the pair {(triple.head, triple.tail)} is related but not among the "
                    "candidates, so no model could find it; add it there, or leave candidates out"
                )
    if document.order is not None and sorted(document.order) != list(range(n)):
        raise DataError(f"{here}: field order: {document.order} does not number the {n} entities")


def first_mention_order(document: Document) -> bool:
    """Does the file number its entities in order of first mention?"""
    return document.order is None or list(document.order) == sorted(document.order)


def describe(documents: Sequence[Document], train: Iterable[Document] | None = None) -> dict:
    """Counts for `docre-lite data info`: plain numbers, ready for JSON.

    `share_related` is the share of candidate pairs with at least one relation, `share_inter_sentence`
    the share of triples whose head and tail have no sentence in common. `warnings` lists documents with
    the same text under different titles, within the file and, if `train` is given, between the two.
    """
    pairs = related = multi = inter = 0
    relations: Counter[str] = Counter()
    for document in documents:
        labelled = Counter((t.head, t.tail) for t in document.triples)
        pairs += len(document.pairs())
        related += len(labelled)
        multi += sum(count > 1 for count in labelled.values())
        inter += sum(not document.same_sentence(t.head, t.tail) for t in document.triples)
        relations.update(t.relation for t in document.triples)
    entities = [len(document.entities) for document in documents]
    triples = sum(relations.values())
    return {
        "documents": len(documents),
        "sentences": sum(len(d.sentences) for d in documents),
        "words": sum(d.words for d in documents),
        "entities": sum(entities),
        "mentions": sum(len(e.mentions) for d in documents for e in d.entities),
        "entities_per_document": {
            "min": min(entities, default=0),
            "mean": sum(entities) / max(len(entities), 1),
            "max": max(entities, default=0),
        },
        "pairs": pairs,
        "related_pairs": related,
        "share_related": related / max(pairs, 1),
        "multi_label_pairs": multi,
        "triples": triples,
        "share_inter_sentence": inter / max(triples, 1),
        "relations": dict(sorted(relations.items(), key=lambda item: (-item[1], item[0]))),
        "not_in_first_mention_order": [d.title for d in documents if not first_mention_order(d)],
        "warnings": _equal_texts(documents, train),
    }


def _equal_texts(documents: Sequence[Document], train: Iterable[Document] | None) -> list[str]:
    """Leaks: the same words under two titles, or in training and evaluation data."""
    warnings = []
    seen = {d.sentences: d.title for d in train or ()}
    for document in documents:
        if document.sentences in seen:
            warnings.append(f'"{document.title}" has the text of "{seen[document.sentences]}" in the training data')
    seen = {}
    for document in documents:
        other = seen.setdefault(document.sentences, document.title)
        if other is not document.title:
            warnings.append(f'"{document.title}" has the text of "{other}" in the same file')
    return warnings
