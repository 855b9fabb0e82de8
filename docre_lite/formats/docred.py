"""Converts between DocRED's JSON object and `Document`.

Beyond DocRED's fields, a label may have "premises" and "depth", a document "variant_of" and "candidates",
and a mention "id" (that of its entity). They are written only if present.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

from ..support import DataError
from ..types import NA, Document, Entity, Mention, Triple
from .checks import place, span_fault

_KINDS = {list: "a list", str: "a string", int: "a whole number", dict: "an object {...}"}


def _kind(value, kind: type, here: str):
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise DataError(f"{here}: {_short(value)} where {_KINDS[kind]} belongs; correct it")


def _short(value) -> str:
    text = json.dumps(value, default=str)
    return f"{text[:27]}..." if len(text) > 30 else text


def _field(obj: dict, key: str, kind: type, here: str, default=...):
    """`obj[key]`, checked for that kind. A field that is absent or null becomes the default, if there is one."""
    value = obj.get(key)
    if value is not None:
        return _kind(value, kind, here + key)
    if default is ...:
        raise DataError(f"{here}{key}: missing; give {_KINDS[kind]}")
    return default


def document_from_json(obj: object, where: str, *, strict: bool = True) -> Document:
    """One document from DocRED's JSON object: title, sents, vertexSet, labels (optional, as in a test file).

    Entities are sorted by first mention and labels follow them; `Document.order` keeps the file's
    numbering. Mentions are in reading order. Repeated labels are merged, with the union of their evidence.
    Labels may be a list of objects, or an object of lists as in the hub's parquet; h / t / r may be called
    head / tail / relation_id. An entity's id is the "id" of its mentions if they all agree.

    Args:
        obj: the object as `json` reads it. It is not changed.
        where: begins every message, usually `file: document 12`.
        strict: if false, labels from an entity to itself are dropped instead of rejected.

    Raises:
        DataError: one line naming document, field and the way out.
    """
    obj = _kind(obj, dict, where)
    title = _field(obj, "title", str, f"{where}: field ")
    here = f"{place(where, title)}: field "
    sentences = tuple(
        tuple(_kind(word, str, f"{here}sents[{s}][{w}]") for w, word in enumerate(words))
        for s, words in enumerate(_lists(obj, "sents", here))
    )
    lengths = [len(words) for words in sentences]
    if not sum(lengths):
        raise DataError(f"{here}sents: no words; remove the document or give it a text")
    entities = [
        _entity(mentions, f"{here}vertexSet[{e}]", lengths) for e, mentions in enumerate(_lists(obj, "vertexSet", here))
    ]
    begin = [(entity.mentions[0].sentence, entity.mentions[0].start) for entity in entities]
    order = sorted(range(len(entities)), key=begin.__getitem__)  # stable: ties keep the file's order
    position = {number: i for i, number in enumerate(order)}

    def entity(number: object, field: str) -> int:
        if _kind(number, int, here + field) not in position:
            raise DataError(f"{here}{field}: entity {_short(number)} is absent; there are {len(entities)}, from 0")
        return position[number]

    document = Document(
        title=title,
        sentences=sentences,
        entities=tuple(entities[e] for e in order),
        triples=_triples(obj, title, entity, len(lengths), here, strict),
        candidates=_candidates(obj, entity, here),
        variant_of=_field(obj, "variant_of", str, here, default=None),
        order=tuple(order) if order != sorted(order) else None,
    )
    _check_candidates(document, here)
    _refuse_broken_strings(document, here)
    return document


def _check_candidates(document: Document, here: str) -> None:
    for triple in document.triples if document.candidates is not None else ():
        if (triple.head, triple.tail) not in document.candidates:
            pair = [file_number(document, triple.head), file_number(document, triple.tail)]
            raise DataError(f"{here}candidates: lacks the related pair {pair}; add it, or leave candidates out")


def _lists(obj: dict, key: str, here: str) -> list[list]:
    return [_kind(part, list, f"{here}{key}[{i}]") for i, part in enumerate(_field(obj, key, list, here))]


def _entity(mentions: list, here: str, lengths: list[int]) -> Entity:
    if not mentions:
        raise DataError(f"{here}: an entity without mentions; remove it or add one")
    read, ids = [], set()
    for m, mention in enumerate(mentions):
        _kind(mention, dict, f"{here}[{m}]")
        field = f"{here}[{m}]."
        pos = _field(mention, "pos", list, field)
        if len(pos) != 2:
            raise DataError(f"{field}pos: {_short(pos)} is not two numbers; give [first word, last word + 1]")
        start, end = (_kind(p, int, f"{field}pos[{i}]") for i, p in enumerate(pos))
        sentence = _field(mention, "sent_id", int, field)
        if fault := span_fault(sentence, start, end, lengths):
            raise DataError(f"{field}{fault}")
        name, kind = _field(mention, "name", str, field), _field(mention, "type", str, field)
        read.append(Mention(name, sentence, start, end, kind))
        ids.add(_field(mention, "id", str, field, default=None))
    in_reading_order = sorted(read, key=lambda m: (m.sentence, m.start, m.end))
    return Entity(tuple(in_reading_order), id=ids.pop() if len(ids) == 1 else None)


def _labels(obj: dict, here: str) -> list[dict]:
    """Labels under DocRED's names, from a list of objects or an object of lists."""
    labels = obj.get("labels")
    if isinstance(labels, dict):
        columns = {key: _kind(column, list, f"{here}labels.{key}") for key, column in labels.items()}
        lengths = {key: len(column) for key, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{here}labels: columns of different lengths {lengths}; give each one value per label")
        labels = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    renamed = {"head": "h", "tail": "t", "relation_id": "r"}
    return [
        {renamed.get(key, key): value for key, value in _kind(label, dict, f"{here}labels[{i}]").items()}
        for i, label in enumerate(_kind([] if labels is None else labels, list, f"{here}labels"))
    ]


def _triples(
    obj: dict, title: str, entity: Callable[[object, str], int], sentences: int, here: str, strict: bool
) -> tuple[Triple, ...]:
    merged: dict[Triple, Triple] = {}
    for i, label in enumerate(_labels(obj, here)):
        field = f"{here}labels[{i}]."
        head = entity(_field(label, "h", int, field), f"labels[{i}].h")
        tail = entity(_field(label, "t", int, field), f"labels[{i}].t")
        relation = _field(label, "r", str, field)
        if head == tail and not strict:
            continue
        if head == tail:
            raise DataError(
                f"{field}h: {relation!r} relates entity {label['h']} to itself; remove the label, "
                "or read the file in Python with strict=False to drop it"
            )
        if relation in (NA, "Na"):
            raise DataError(f"{field}r: {relation!r} is the class of unrelated pairs; remove the label")
        evidence = {_kind(s, int, f"{field}evidence") for s in _field(label, "evidence", list, field, default=[])}
        if any(not 0 <= s < sentences for s in evidence):
            raise DataError(
                f"{field}evidence: {_short(sorted(evidence))} is outside the {sentences} sentences; count them from 0"
            )
        premises = tuple(
            _premise(premise, entity, here, f"labels[{i}].premises[{j}]")
            for j, premise in enumerate(_field(label, "premises", list, field, default=[]))
        )
        depth = _field(label, "depth", int, field, default=0)
        triple = Triple(title, head, relation, tail, tuple(sorted(evidence)), premises=premises, depth=depth)
        if triple in merged:  # triples are equal up to their evidence: the same fact twice
            evidence.update(merged[triple].evidence)
            triple = replace(merged[triple], evidence=tuple(sorted(evidence)))
        merged[triple] = triple
    return tuple(merged.values())


def _premise(premise: object, entity: Callable[[object, str], int], here: str, field: str) -> tuple[int, str, int]:
    if len(_kind(premise, list, here + field)) != 3:
        raise DataError(f"{here}{field}: {_short(premise)} is not three values; give [head, relation, tail]")
    head, relation, tail = premise
    return entity(head, field), _kind(relation, str, here + field), entity(tail, field)


def _candidates(obj: dict, entity: Callable[[object, str], int], here: str) -> frozenset[tuple[int, int]] | None:
    if obj.get("candidates") is None:
        return None
    pairs = set()
    for i, pair in enumerate(_lists(obj, "candidates", here)):
        if len(pair) != 2 or pair[0] == pair[1]:
            raise DataError(f"{here}candidates[{i}]: {_short(pair)} is not a pair of different entities; remove it")
        pairs.add((entity(pair[0], f"candidates[{i}]"), entity(pair[1], f"candidates[{i}]")))
    return frozenset(pairs)


def _refuse_broken_strings(document: Document, here: str) -> None:
    """JSON can contain half of a surrogate pair, which no tokenizer accepts and no UTF-8 file can hold."""
    strings = [document.title, document.variant_of or "", *(w for s in document.sentences for w in s)]
    strings += [s for e in document.entities for m in e.mentions for s in (m.name, m.type, e.id or "")]
    strings += [s for t in document.triples for s in (t.relation, *(r for _, r, _ in t.premises))]
    for string in strings:
        if not string.isascii() and re.search("[\ud800-\udfff]", string):
            raise DataError(f"{here.removesuffix('field ')}the string {string[:30]!a} is not valid Unicode; retype it")


def file_number(document: Document, entity: int) -> int:
    """The number of an entity in the document's file, for writing predictions back."""
    return entity if document.order is None else document.order[entity]


def document_to_json(document: Document) -> dict:
    """DocRED's JSON object in the file's own entity numbering: the inverse of `document_from_json`."""
    vertices: list = [None] * len(document.entities)
    for i, entity in enumerate(document.entities):
        extra = {} if entity.id is None else {"id": entity.id}
        vertices[file_number(document, i)] = [
            {"name": m.name, "sent_id": m.sentence, "pos": [m.start, m.end], "type": m.type, **extra}
            for m in entity.mentions
        ]
    obj = {
        "title": document.title,
        "vertexSet": vertices,
        "labels": [_label(document, triple) for triple in document.triples],
        "sents": [list(words) for words in document.sentences],
    }
    if document.candidates is not None:
        obj["candidates"] = sorted([file_number(document, h), file_number(document, t)] for h, t in document.candidates)
    if document.variant_of is not None:
        obj["variant_of"] = document.variant_of
    return obj


def _label(document: Document, triple: Triple) -> dict:
    head, tail = file_number(document, triple.head), file_number(document, triple.tail)
    label = {"h": head, "t": tail, "r": triple.relation, "evidence": list(triple.evidence)}
    if triple.premises:
        label["premises"] = [[file_number(document, h), r, file_number(document, t)] for h, r, t in triple.premises]
    if triple.depth:
        label["depth"] = triple.depth
    return label
