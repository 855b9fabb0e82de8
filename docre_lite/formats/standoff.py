"""Annotation tools' files, whose mentions are characters of a text: BioC, brat, Label Studio.

All three become documents by one rule. Mentions with a concept id form one entity per id. Of the others, those that the
file declares equal form one, and so do those with the same type and name (`text.plain_name`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..support import DataError
from ..support.checks import place
from ..types import Document, Triple
from .faults import Faults, character_way, squeezed, whole_number
from .files import decode, parse_json
from .pubtator import split_ids
from .text import Span, build, plain_name

SAME = frozenset({"equiv", "coref", "coreference", "coreferent", "same", "same_as", "sameas", "identity", "identical"})


@dataclass(frozen=True)
class Mark:
    """A mention as a tool writes it: characters `[start, end)`, the text there, and concept ids if it has any."""

    id: str
    start: int
    end: int
    type: str
    name: str
    concepts: tuple[str, ...] = ()


Link = tuple[str, str, str]  # relation, and the ids of its two mentions or concepts


def assembled(
    title: str,
    text: str,
    marks: Sequence[Mark],
    links: Iterable[Link],
    where: str,
    faults: Faults,
    breaks: Iterable[int] = (),
) -> Document:
    """A document from marks, and links between them; links named as in `SAME` make two marks one entity."""
    here = place(where, title)
    kept: list[Mark] = []
    for mark in marks:
        with faults.part("mention"):
            _check(mark, text, marks, here)
            kept.append(mark)
    links = list(links)
    keys = _keys(kept, [(a, b) for kind, a, b in links if kind.lower() in SAME])
    spans = {Span(m.start, m.end, m.type, key): None for m in kept for key in keys[m.id]}
    document = build(title, text, list(spans), where, breaks)
    position = {entity.id: i for i, entity in enumerate(document.entities)}
    ids = {concept for mark in kept for concept in mark.concepts}
    triples: dict[Triple, None] = {}
    for relation, *ends in links:
        if relation.lower() in SAME:
            continue
        with faults.part("relation"):
            sides = [keys.get(end) or ((end,) if end in ids else ()) for end in ends]
            if absent := [end for end, side in zip(ends, sides, strict=True) if not side]:
                raise DataError(f"{here}: {relation!r} names {absent[0]!r}, which is no mention and no concept of it")
            pairs = [(position[h], position[t]) for h in sides[0] for t in sides[1] if h != t]
            if not pairs:
                faults.notes["relations of an entity to itself, left out because that is no pair of entities"] += 1
            triples |= {Triple(title, h, relation, t): None for h, t in pairs}
    entities = tuple(replace(e, id=e.id if e.id in ids else None) for e in document.entities)
    return replace(document, entities=entities, triples=tuple(triples))


def _check(mark: Mark, text: str, marks: Sequence[Mark], here: str) -> None:
    if not mark.type.strip():
        raise DataError(f"{here}: mention {mark.id} has no type; give it one")
    if not squeezed(text[mark.start : mark.end]) or squeezed(text[mark.start : mark.end]) != squeezed(mark.name):
        way = character_way(text, [(m.start, m.end, m.name) for m in marks])
        raise DataError(
            f"{here}: mention {mark.id}: characters {mark.start} to {mark.end} of the text are not "
            f"{mark.name[:40]!r}; {way or 'correct the offsets'}"
        )


def _keys(marks: Sequence[Mark], same: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The keys of the entities to which each mark belongs: its concepts, or one for all marks that are the same."""
    root = {mark.id: mark.id for mark in marks}

    def find(mark: str) -> str:
        while root[mark] != mark:
            mark = root[mark] = root[root[mark]]
        return mark

    def join(a: str, b: str) -> None:
        root[find(b)] = find(a)

    for a, b in same:
        if a in root and b in root:
            join(a, b)
    named: dict[tuple[str, str], str] = {}
    for mark in marks:
        if not mark.concepts:
            join(named.setdefault((mark.type, plain_name(mark.name)), mark.id), mark.id)
    concepts = {find(mark.id): mark.concepts for mark in reversed(marks) if mark.concepts}
    return {m.id: m.concepts or concepts.get(find(m.id)) or (f"mention {find(m.id)}",) for m in marks}


# --- BioC -----------------------------------------------------------------------------------------------------------

_TYPE = ("type", "entity_type")
_CONCEPT = ("identifier", "NormalizedId", "MESH", "NCBI GENE", "NCBI Gene", "concept_id", "database_id")


def bioc_objects(data: bytes, path: Path) -> list[dict]:
    """The documents of a BioC file, XML or JSON, as plain objects."""
    if data.lstrip()[:1] == b"<":
        try:
            from bioc import biocjson, biocxml
        except ImportError:
            raise DataError(f"{path}: reading BioC's XML needs bioc; run `pip install docre_lite[bioc]`") from None
        try:
            collection = biocxml.loads(data.decode("utf-8-sig"))
        except Exception as error:  # whatever lxml and bioc raise for files that are not BioC's
            raise DataError(f"{path}: not BioC's XML ({' '.join(str(error).split())[:100]}); correct it") from None
        return json.loads(biocjson.dumps(collection))["documents"]
    text = decode(data, path)
    try:
        found = json.loads(text)
    except json.JSONDecodeError:  # one object per line, as PubTator's service sends them
        found = [parse_json(line, f"{path}: line {i}") for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if isinstance(found, Mapping):
        lists = [value for key, value in found.items() if isinstance(value, list) and key in ("documents", "PubTator3")]
        found = lists[0] if lists else [found]
    return found


def from_bioc(obj: Any, where: str, ids: str, faults: Faults) -> Document:
    """A document from BioC's object. A relation names its mentions in nodes, or its concepts in infons."""
    with reading(where, "BioC"):
        title = str(obj.get("id") or obj.get("pmid"))
        passages = [part for passage in obj["passages"] for part in (passage.get("sentences") or [passage])]
        text, breaks, annotations = "", [], list(obj.get("annotations") or ())
        relations = list(obj.get("relations") or ())
        for passage in passages:
            begin = int(passage["offset"])
            text = text.ljust(begin)[:begin] if len(text) <= begin else text
            if begin < len(text):
                raise DataError(f"{where}: a passage begins at {begin}, inside the one before it; correct its offset")
            breaks.append(begin)
            text += passage.get("text") or ""
        for passage in {id(p): p for p in (*obj["passages"], *passages)}.values():
            annotations += passage.get("annotations") or ()
            relations += passage.get("relations") or ()
        marks = []
        for i, annotation in enumerate(annotations):
            infons, spans = annotation["infons"], annotation["locations"]
            start = min(int(span["offset"]) for span in spans)
            end = max(int(span["offset"]) + int(span["length"]) for span in spans)
            concept = next((str(infons[key]) for key in _CONCEPT if infons.get(key)), "")
            kind = next((str(infons[key]) for key in _TYPE if infons.get(key)), "")
            # the text of a mention in pieces leaves out what lies between them
            name = annotation["text"] if len(spans) == 1 else text[start:end]
            marks.append(Mark(str(annotation.get("id", i)), start, end, kind, name, split_ids(concept, ids, faults)))
        links = [link for relation in relations if (link := _bioc_link(relation))]
    return assembled(title, text, marks, links, where, faults, breaks[1:])


def _bioc_link(relation: dict) -> Link | None:
    infons = relation["infons"]
    nodes = [str(node["refid"]) for node in relation.get("nodes") or ()]
    named = next((str(infons[key]) for key in ("type", "relation", "relation type") if infons.get(key)), "")
    if len(nodes) == 2:
        return named, nodes[0], nodes[1]
    if isinstance(infons.get("role1"), Mapping):  # PubTator's service
        return named, *(str(infons[role]["identifier"]) for role in ("role1", "role2"))
    for pair in (("entity1", "entity2"), ("Chemical", "Disease"), ("Gene", "Disease")):
        if all(infons.get(key) for key in pair):
            return named, *(str(infons[key]) for key in pair)
    raise DataError(f"a relation {named!r} without two nodes and without entity1 and entity2")


# --- brat -----------------------------------------------------------------------------------------------------------


def brat_pairs(path: Path) -> list[tuple[Path, Path]]:
    """The .ann files of a folder, or the one given, each with its .txt."""
    found = sorted(path.rglob("*.ann")) if path.is_dir() else [path]
    if not found:
        raise DataError(f"{path}: contains no .ann file; give a folder of brat's pairs NAME.txt and NAME.ann")
    for file in found:
        if not file.with_suffix(".txt").is_file():
            raise DataError(f"{file}: has no {file.with_suffix('.txt').name} beside it; give brat's pairs")
    return [(file, file.with_suffix(".txt")) for file in found]


def from_brat(annotations: str, text: str, title: str, where: str, ids: str, faults: Faults) -> Document:
    """A document from brat's lines: T (mention), R (relation), * Equiv, N (concept). Leaves out events and notes."""
    marks: dict[str, Mark] = {}
    links: list[Link] = []
    concepts: dict[str, list[str]] = {}
    for number, line in enumerate(annotations.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip() or line[0] in "#AME":
            if line.startswith("E"):
                faults.notes["events, passed over"] += 1
            continue
        with faults.part("line"):
            key, _, rest = line.partition("\t")
            told, _, name = rest.partition("\t")
            parts = re.split(r"[ ;]", told)
            if key[0] == "T" and len(parts) >= 3 and all(map(whole_number, parts[1:])):
                numbers = [int(part) for part in parts[1:]]
                start, end = min(numbers), max(numbers)
                marks[key] = Mark(key, start, end, parts[0], name if len(numbers) == 2 else text[start:end])
            elif key[0] == "R" and len(parts) == 3:
                links.append((parts[0], parts[1].partition(":")[2], parts[2].partition(":")[2]))
            elif key == "*":
                links += [(parts[0], parts[1], other) for other in parts[2:]]
            elif key[0] == "N" and len(parts) == 3:
                concepts.setdefault(parts[1], []).append(parts[2])
            else:
                raise DataError(
                    f"{where}: line {number}: {line[:40]!r} is none of brat's; a mention is `T1<tab>TYPE 0 4<tab>text` "
                    "and a relation `R1<tab>TYPE Arg1:T1 Arg2:T2`"
                )
    found = [replace(m, concepts=split_ids(",".join(concepts.get(m.id, ())), ids, faults)) for m in marks.values()]
    return assembled(title, text, found, links, where, faults, [i for i, c in enumerate(text) if c == "\n"])


# --- Label Studio ---------------------------------------------------------------------------------------------------


def from_label_studio(obj: Any, where: str, faults: Faults) -> Document:
    """A document from a task of Label Studio's JSON export: its first annotation that was not cancelled."""
    with reading(where, "Label Studio"):
        texts = [value for value in obj["data"].values() if isinstance(value, str)]
        text = obj["data"]["text"] if isinstance(obj["data"].get("text"), str) else max(texts, key=len, default="")
        title = str(obj["data"].get("title") or obj.get("file_upload") or f"task {obj['id']}")
        done = [a for a in obj.get("annotations") or obj.get("completions") or () if not a.get("was_cancelled")]
        results = done[0]["result"] if done else []
        marks, links = [], []
        for result in results:
            value = result.get("value") or {}
            if result.get("type") == "relation":
                ends = [result["from_id"], result["to_id"]]
                if result.get("direction") == "left":
                    ends.reverse()
                links += [(str(label), *ends) for label in result.get("labels") or ["related"]]
            elif labels := value.get("labels") or value.get("hypertextlabels"):
                start, end = int(value["start"]), int(value["end"])
                name = value.get("text", text[start:end])
                marks.append(Mark(str(result["id"]), start, end, str(labels[0]), name))
    return assembled(title, text, marks, links, where, faults, [i for i, c in enumerate(text) if c == "\n"])


@contextmanager
def reading(where: str, format: str) -> Iterator[None]:
    """Turns what a file of another shape raises into a DataError that names the format."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, DataError) and str(error).startswith(where):
            raise
        reason = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:100]
        raise DataError(f"{where}: not {format}'s format: {reason}; export it again") from None


# --- what a file of JSON is, if not ours -----------------------------------------------------------------------------

FOREIGN: tuple[tuple[str, frozenset[str], str], ...] = tuple(
    (name, frozenset(keys.split()), way)
    for name, keys, way in (
        ("Label Studio's export", "data annotations", "label-studio"),
        ("Label Studio's export", "data completions", "label-studio"),
        ("BioC JSON", "passages", "bioc"),
        ("BioC JSON", "documents source", "bioc"),
        ("BioC JSON", "PubTator3", "bioc"),
        ("an article of DWIE", "content mentions concepts relations", "dwie"),
        ("data for SpERT", "tokens entities relations", ""),
        ("data for SciIE or DyGIE++", "sentences ner relations", ""),
        ("data for DyGIE++", "doc_key sentences", ""),
        ("data in TACRED's format", "token subj_start obj_start", ""),
        ("data for OpenNRE", "h t relation", ""),
        ("a submission of predictions", "h_idx t_idx r", "score"),
        ("an export of doccano", "text entities relations", ""),
        ("an export of Prodigy", "text spans", ""),
        ("spaCy's JSON of a document", "text ents tokens", ""),
        ("spaCy's JSON of a document", "paragraphs", ""),
        ("data for REBEL", "docid triples", ""),
        ("a notebook", "cells nbformat", ""),
    )
)


def foreign(obj: object) -> str | None:
    """What a JSON object is, if it is not DocRED's, and the way to read it."""
    if not isinstance(obj, Mapping) or "vertexSet" in obj:
        return None
    for name, keys, way in FOREIGN:
        if keys <= obj.keys():
            if way == "score":
                return f"is {name}, not documents; give it to `docre-lite score --predictions`"
            if way:
                return f"is {name}; convert it with `docre-lite convert FILE --from {way} --to documents.json`"
            return f"is {name}, which is not read; write it as DocRED JSON (title, sents, vertexSet, labels)"
    return None
