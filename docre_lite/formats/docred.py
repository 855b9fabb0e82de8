"""Converts between DocRED's JSON object and `Document`.

Beyond DocRED's fields, a label may have "premises" and "depth", a document "variant_of" and "candidates",
and a mention "id" (that of its entity). They are written only if present.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral

from ..support import DataError
from ..support.checks import place, span_fault
from ..types import NA, Document, Entity, Mention, Triple
from .faults import LENIENT, Faults, way_of

_KINDS = {list: "a list", str: "a string", int: "a whole number", dict: "an object {...}"}
UNRELATED = frozenset({"no_relation", "no relation", "none", "na", "n/a", "null", "other"})  # how other data call NA


def _kind(value, kind: type, here: str):
    """The value, if it is of that kind; lists may also be tuples and arrays, and whole numbers NumPy's."""
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is list and (isinstance(value, tuple) or hasattr(value, "tolist")):
        return list(value) if isinstance(value, tuple) else _kind(value.tolist(), list, here)
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


def document_from_json(obj: object, where: str, *, labels: bool = True, faults: Faults | None = None) -> Document:
    """One document from DocRED's JSON object: title, sents, vertexSet, labels (optional, as in a test file).

    Entities are sorted by first mention and labels follow them; `Document.order` keeps the file's
    numbering. Mentions are in reading order. Repeated labels are merged, with the union of their evidence.
    Labels may be a list of objects, or an object of lists as in the hub's parquet; h / t / r may be called
    head / tail / relation_id. An entity's id is the "id" of its mentions if they all agree.

    Args:
        obj: the object as `json` reads it, or with tuples and NumPy's numbers in it. It is not changed.
        where: begins every message, usually `file: document 12`.
        labels: if false, they are not read.
        faults: receives the faulty mentions and labels to leave out. Without it, the first is an error.

    Raises:
        DataError: one line naming document, field and the way out.
    """
    faults = faults or Faults(where)
    obj = _kind(obj, dict, where)
    title = _field(obj, "title", str, f"{where}: field ")
    here = f"{place(where, title)}: field "
    sentences = _sentences(obj, here)
    if empty := sum(not word for words in sentences for word in words):
        faults.notes["empty words, kept so that positions fit"] += empty
    entities: dict[int, Entity] = {}
    for number, mentions in enumerate(_lists(obj, "vertexSet", here)):
        if entity := _entity(mentions, f"{here}vertexSet[{number}]", sentences, obj, faults):
            entities[number] = entity
    begin = {number: (entity.mentions[0].sentence, entity.mentions[0].start) for number, entity in entities.items()}
    order = sorted(entities, key=begin.__getitem__)  # stable: ties keep the file's order
    position = {number: i for i, number in enumerate(order)}

    def entity(number: object, field: str) -> int:
        if (number := _kind(number, int, here + field)) not in position:
            raise DataError(f"{here}{field}: entity {_short(number)} is absent; there are {len(entities)}, from 0")
        return position[number]

    candidates = _candidates(obj, entity, here, faults)
    document = Document(
        title=title,
        sentences=sentences,
        entities=tuple(entities[e] for e in order),
        triples=_triples(obj, title, entity, len(sentences), candidates, here, faults) if labels else (),
        candidates=candidates,
        variant_of=_field(obj, "variant_of", str, here, default=None),
        order=tuple(order) if order != list(range(len(order))) else None,
    )
    _refuse_broken_strings(document, here)
    return document


def _sentences(obj: dict, here: str) -> tuple[tuple[str, ...], ...]:
    sentences = tuple(
        tuple(_kind(word, str, f"{here}sents[{s}][{w}]") for w, word in enumerate(words))
        for s, words in enumerate(_lists(obj, "sents", here))
    )
    if not any(sentences):
        raise DataError(f"{here}sents: no words; remove the document or give it a text")
    return sentences


def _lists(obj: dict, key: str, here: str) -> list[list]:
    return [_kind(part, list, f"{here}{key}[{i}]") for i, part in enumerate(_field(obj, key, list, here))]


def _entity(mentions: list, here: str, sentences: tuple, obj: dict, faults: Faults) -> Entity | None:
    """An entity, or none if all its mentions are faulty and left out."""
    read, ids = [], set()
    if not mentions:
        with faults.part("mention"):
            raise DataError(f"{here}: an entity without mentions; remove it or add one")
    for m, mention in enumerate(mentions):
        with faults.part("mention"):
            found, identity = _mention(mention, f"{here}[{m}]", sentences, obj)
            read.append(found)
            ids.add(identity)
    if not read:
        return None
    in_reading_order = sorted(read, key=lambda m: (m.sentence, m.start, m.end))
    if len({m.type for m in read}) > 1:
        faults.notes["entities whose mentions have several types, of which the first counts"] += 1
    return Entity(tuple(in_reading_order), id=ids.pop() if len(ids) == 1 else None)


def _mention(mention: object, here: str, sentences: tuple, obj: dict) -> tuple[Mention, str | None]:
    field = f"{here}."
    mention = _kind(mention, dict, here)
    pos = _field(mention, "pos", list, field)
    if len(pos) != 2:
        raise DataError(f"{field}pos: {_short(pos)} is not two numbers; give [first word, last word + 1]")
    start, end = (_kind(p, int, f"{field}pos[{i}]") for i, p in enumerate(pos))
    sentence = _field(mention, "sent_id", int, field)
    name, kind = _field(mention, "name", str, field), _field(mention, "type", str, field)
    if not kind.strip():
        raise DataError(f"{field}type: is empty; give the entity's type, or one word for all, such as ENTITY")
    if fault := span_fault(sentence, start, end, [len(words) for words in sentences]):
        way = _way(obj, sentences)
        raise DataError(f"{field}{fault}{f' (it seems that {way})' if way else ''}")
    return Mention(name, sentence, start, end, kind), _field(mention, "id", str, field, default=None)


def _way(obj: dict, sentences: tuple) -> str | None:
    """How the positions of a document seem to be meant, if its names fit another way to read them."""
    places = []
    for mention in (m for entity in obj["vertexSet"] if isinstance(entity, list) for m in entity):
        try:
            sentence, (start, end) = int(mention["sent_id"]), mention["pos"]
            places.append((str(mention["name"]), sentence, int(start), int(end)))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return way_of([(sentences, places)])


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
    obj: dict, title: str, entity: Callable, sentences: int, candidates: frozenset | None, here: str, faults: Faults
) -> tuple[Triple, ...]:
    merged: dict[Triple, Triple] = {}
    for i, label in enumerate(_labels(obj, here)):
        with faults.part("label"):
            triple = _triple(label, title, entity, sentences, here, i)
            if triple.relation.strip().lower() in UNRELATED:
                faults.notes[f"labels {triple.relation!r}, read as any relation (an unrelated pair needs none)"] += 1
            if candidates is not None and (triple.head, triple.tail) not in candidates:
                pair = [label["h"], label["t"]]
                raise DataError(f"{here}candidates: lacks the related pair {pair}; add it, or leave candidates out")
            if triple in merged:  # triples are equal up to their evidence: the same fact twice
                evidence = {*triple.evidence, *merged[triple].evidence}
                triple = replace(merged[triple], evidence=tuple(sorted(evidence)))
            merged[triple] = triple
    return tuple(merged.values())


def _triple(label: dict, title: str, entity: Callable, sentences: int, here: str, i: int) -> Triple:
    field = f"{here}labels[{i}]."
    head = entity(_field(label, "h", int, field), f"labels[{i}].h")
    tail = entity(_field(label, "t", int, field), f"labels[{i}].t")
    relation = _field(label, "r", str, field)
    if head == tail:
        raise DataError(f"{field}h: {relation!r} relates entity {label['h']} to itself; remove the label, or {LENIENT}")
    if relation in (NA, "Na"):
        raise DataError(f"{field}r: {relation!r} is the class of unrelated pairs; remove the label")
    if not relation.strip():
        raise DataError(f"{field}r: is empty; give the relation's name, or remove the label")
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
    if depth < 0:
        raise DataError(f"{field}depth: {depth} is negative; give the number of composition steps, 0 if stated")
    return Triple(title, head, relation, tail, tuple(sorted(evidence)), premises=premises, depth=depth)


def _premise(premise: object, entity: Callable[[object, str], int], here: str, field: str) -> tuple[int, str, int]:
    if len(_kind(premise, list, here + field)) != 3:
        raise DataError(f"{here}{field}: {_short(premise)} is not three values; give [head, relation, tail]")
    head, relation, tail = premise
    return entity(head, field), _kind(relation, str, here + field), entity(tail, field)


def _candidates(obj: dict, entity: Callable, here: str, faults: Faults) -> frozenset[tuple[int, int]] | None:
    if obj.get("candidates") is None:
        return None
    pairs = set()
    for i, pair in enumerate(_field(obj, "candidates", list, here)):
        with faults.part("candidate"):
            pair = _kind(pair, list, f"{here}candidates[{i}]")
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
    """DocRED's JSON object in the file's own entity numbering: the inverse of `document_from_json`.

    Where reading left entities out, the others move up.
    """
    numbers = {number: k for k, number in enumerate(sorted(document.order or range(len(document.entities))))}
    of = [numbers[file_number(document, i)] for i in range(len(document.entities))]
    vertices: list = [None] * len(document.entities)
    for i, entity in enumerate(document.entities):
        extra = {} if entity.id is None else {"id": entity.id}
        vertices[of[i]] = [
            {"name": m.name, "sent_id": int(m.sentence), "pos": [int(m.start), int(m.end)], "type": m.type, **extra}
            for m in entity.mentions
        ]
    obj = {
        "title": document.title,
        "vertexSet": vertices,
        "labels": [_label(of, triple) for triple in document.triples],
        "sents": [list(words) for words in document.sentences],
    }
    if document.candidates is not None:
        obj["candidates"] = sorted([of[h], of[t]] for h, t in document.candidates)
    if document.variant_of is not None:
        obj["variant_of"] = document.variant_of
    return obj


def _label(of: list[int], triple: Triple) -> dict:
    evidence = [int(s) for s in triple.evidence]
    label = {"h": of[triple.head], "t": of[triple.tail], "r": triple.relation, "evidence": evidence}
    if triple.premises:
        label["premises"] = [[of[h], r, of[t]] for h, r, t in triple.premises]
    if triple.depth:
        label["depth"] = int(triple.depth)
    return label
