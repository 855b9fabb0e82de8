"""Checks that report a faulty document in one line, wherever it comes from: a file, or your own code.

Every room relies on them, so they know `types.Document` by its fields only.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from . import DataError


def place(where: str, title: object) -> str:
    """`file: document 12 ("Title")`: the start of every message about one document."""
    line = " ".join(str(title).split())[:60]
    return f'{where} ("{line.encode(errors="replace").decode()}")'


def check(
    documents: Sequence[Any],
    where: str = "documents",
    relations: Any = None,
    *,
    labels: bool = True,
    titles: bool = True,
    candidates: bool = True,
) -> None:
    """Raise `DataError` on the first document that the rest of the package could not handle.

    Args:
        documents: those that a reader returned, or that you made by hand.
        where: begins the message, usually the file.
        relations: if given, a triple with a relation that it lacks is an error.
        labels: check the triples, too.
        titles: two documents with one title are an error.
        candidates: a triple of a pair that is no candidate is an error.
    """
    first: dict[str, int] = {}
    for i, document in enumerate(documents):
        if not hasattr(document, "entities"):
            raise DataError(f"{where}: document {i} is a {type(document).__name__}; give docre_lite.Document objects")
        here = place(f"{where}: document {i}", document.title)
        if titles and document.title in first:
            raise DataError(
                f"{here}: field title: document {first[document.title]} has the same title, so their triples would "
                "be mixed up; rename one, or number them: --lenient (in Python: strict=False)"
            )
        first[document.title] = i
        _check_document(document, here, labels, labels and candidates)
        for triple in document.triples if labels and relations is not None else ():
            if triple.relation not in relations:
                raise DataError(
                    f"{here}: field labels: relation {triple.relation!r} is not among the {len(relations)} of the "
                    "relation map; add it there, or leave the map out to take the relations from the data"
                )


def span_fault(sentence: Any, start: Any, end: Any, lengths: Sequence[int]) -> str | None:
    """The fault of a mention of words `[start, end)`, with its remedy; `None` if there is none."""
    if not 0 <= sentence < len(lengths):
        return f"sent_id: {sentence} is outside the {len(lengths)} sentences; count them from 0"
    if not 0 <= start < end <= lengths[sentence]:
        return (
            f"pos: [{start}, {end}] is empty or outside sentence {sentence} of {lengths[sentence]} words; "
            "give [first word, last word + 1]"
        )
    return None


def _check_document(document: Any, here: str, labels: bool, candidates: bool) -> None:
    n = len(document.entities)
    lengths = [len(sentence) for sentence in document.sentences]
    if not sum(lengths):
        raise DataError(f"{here}: field sents: no words; remove the document or give it a text")
    for s, sentence in enumerate(document.sentences):
        if isinstance(sentence, str) or not all(isinstance(word, str) for word in sentence):
            raise DataError(f"{here}: field sents[{s}]: is not a sequence of words; give strings, one per word")
    for e, entity in enumerate(document.entities):
        if not entity.mentions:
            raise DataError(f"{here}: entity {e}: has no mentions; remove the entity or add a mention")
        for mention in entity.mentions:
            at = f"{here}: entity {e}, mention {mention.name!r}"
            span = (mention.sentence, mention.start, mention.end)
            if not all(_whole(number) for number in span):
                raise DataError(f"{at}: sentence, start and end are {span}; give whole numbers")
            if not (isinstance(mention.name, str) and isinstance(mention.type, str) and mention.type.strip()):
                raise DataError(f"{at}: name or type {mention.type!r} is not a text; give each mention both")
            if fault := span_fault(*span, lengths):
                raise DataError(f"{at}: {fault}")
    for triple in document.triples if labels else ():
        _check_triple(document, triple, n, len(lengths), here)
    for pair in document.candidates or ():
        if not _pair_of(pair, n) or pair[0] == pair[1]:
            raise DataError(f"{here}: field candidates: {pair} is not a pair of different entities among the {n}")
    if document.candidates is not None:
        for triple in document.triples if candidates else ():
            if (triple.head, triple.tail) not in document.candidates:
                raise DataError(
                    f"{here}: field labels: the pair {(triple.head, triple.tail)} is related but not among the "
                    "candidates, so no model could find it; add it there, or leave candidates out"
                )
    order = document.order
    if order is not None and (len(order) != n or len(set(order)) != n or not all(_whole(k) and k >= 0 for k in order)):
        raise DataError(f"{here}: field order: {order} does not number the {n} entities")


def _check_triple(document: Any, triple: Any, n: int, sentences: int, here: str) -> None:
    pair = (triple.head, triple.tail)
    if not _pair_of(pair, n):
        raise DataError(f"{here}: field labels: {pair} names an entity that is absent; there are {n}, from 0")
    if triple.title != document.title:
        raise DataError(f"{here}: field labels: a triple has the title {triple.title!r}; give it the document's")
    if not isinstance(triple.relation, str) or not triple.relation.strip():
        raise DataError(f"{here}: field labels: the relation of {pair} is {triple.relation!r}; give its name")
    if triple.head == triple.tail:
        raise DataError(
            f"{here}: field labels: {triple.relation!r} relates entity {triple.head} to itself; remove the label, "
            "or drop it on reading: --lenient (in Python: strict=False)"
        )
    if any(not (_whole(s) and 0 <= s < sentences) for s in triple.evidence):
        raise DataError(
            f"{here}: field labels: evidence {list(triple.evidence)} is outside the {sentences} sentences; "
            f"count them from 0 to {sentences - 1}"
        )
    if any(not _pair_of((h, t), n) for h, _, t in triple.premises):
        raise DataError(f"{here}: field labels: premises name an entity that is absent; there are {n}, from 0")


def _whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)  # also NumPy's


def _pair_of(pair: Sequence, n: int) -> bool:
    return len(pair) == 2 and all(_whole(entity) and 0 <= entity < n for entity in pair)
