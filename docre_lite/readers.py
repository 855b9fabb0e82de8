"""Files to documents: DocRED JSON in its variants, PubTator and marked-up text, told apart by content.

Numbers in messages count from 0, as the indices in the file do; only line and column count from 1.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from docre_lite.checks import DataError, check, describe, first_mention_order, place
from docre_lite.pubtator import from_pubtator, is_pubtator
from docre_lite.text import from_text, from_texts, is_marked_up
from docre_lite.types import NA, Document, Entity, Mention, Relations, Triple

__all__ = [
    "DataError",
    "check",
    "describe",
    "document_from_json",
    "document_to_json",
    "file_number",
    "first_mention_order",
    "from_text",
    "from_texts",
    "read",
    "read_relations",
    "write_docred",
]

FORMATS = "DocRED JSON, JSON lines, DocRED parquet, PubTator, or text marked up like [Marie Curie|PER|1]"


def read(
    path: str | Path,
    *,
    hypernyms: Mapping[str, Sequence[str]] | str | Path | None = None,
    relations: Relations | None = None,
    strict: bool = True,
) -> list[Document]:
    """The documents of a file. What the file is, is told by what it holds; its name does not matter.

    Read are: DocRED / Re-DocRED JSON, plain or gzipped; one such object a line; the hub's parquet of
    DocRED (labels as head / tail / relation_id); PubTator (BioCreative V CDR), plain or gzipped; and
    marked-up plain text (`from_text`).

    Entities come in order of first mention, whatever the file's order, and labels follow them:
    `Document.order` keeps the file's numbering and `document_to_json` writes it back. Mentions come
    in reading order; a label given twice is merged, with the union of its evidence.

    Args:
        hypernyms: PubTator only, see `pubtator.drop_hypernyms`. It looks at gold labels; off by default.
        relations: if given, a relation that it lacks is an error.
        strict: if false, titles that occur twice are numbered and labels from an entity to itself
            dropped; otherwise both are errors.

    Raises:
        DataError: one line naming file, document, field and the way out.
    """
    path = Path(path)
    data = _bytes(path)
    if data[:4] == b"PAR1":
        documents = _from_objects(_parquet(data, path), str(path), strict)
    else:
        text = _decode(data, path)
        if is_pubtator(text):
            documents = from_pubtator(text, str(path), hypernyms=hypernyms, strict=strict)
        elif _looks_like_json(text):
            documents = _from_objects(_json_objects(text, path), str(path), strict)
        elif is_marked_up(text):
            documents = from_texts(text, title=path.stem, where=str(path))
        else:
            raise DataError(f"{path}: not a format that is read here; give {FORMATS}")
    if not documents:
        raise DataError(f"{path}: holds no documents; give a file with at least one")
    if not strict:
        documents = _number_titles(documents)
    check(documents, str(path), relations)
    return documents


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name one file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path, or fetch public data with `docre-lite data`") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error):
            raise DataError(f"{path}: the gzip file is truncated or damaged; download it again") from None
    if not data.strip():
        raise DataError(f"{path}: the file is empty; give {FORMATS}")
    return data


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        ) from None


# --- JSON -----------------------------------------------------------------------------------------------------------


def _looks_like_json(text: str) -> bool:
    """An object, or a list of anything; a text may begin with a mention in brackets, which is no JSON list."""
    return bool(re.match(r'\s*(\{|\[\s*(["{\]\d-]|$))', text)) or (text.lstrip()[:1] == "[" and not is_marked_up(text))


def _json(text: str, where: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: line {error.lineno} column {error.colno}: malformed JSON ({error.msg}); mend it there"
        ) from None
    except RecursionError:
        raise DataError(f"{where}: JSON nested too deeply; DocRED JSON is a list of documents") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{where}: malformed JSON ({str(error).split(';')[0]}); mend it there") from None


def _json_objects(text: str, path: Path) -> list:
    """The list of documents that a JSON file holds: a list, one object, or one object a line."""
    # split("\n"): a word may hold one of the rarer line ends that splitlines() also cuts at
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and all(line.lstrip()[0] == "{" for _, line in lines):
        return [_json(line, f"{path}: line {i}") for i, line in lines]
    data = _json(text, str(path))
    if isinstance(data, dict) and not {"sents", "vertexSet"} & data.keys():
        raise DataError(f"{path}: a JSON object without 'sents' and 'vertexSet' is no document; give {FORMATS}")
    return [data] if isinstance(data, dict) else data


def _parquet(data: bytes, path: Path) -> list[dict]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading parquet needs pyarrow; `pip install pyarrow`, or give JSON") from None
    try:
        return pyarrow.parquet.read_table(BytesIO(data)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        line = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: damaged parquet file ({line}); download it again") from None


def _from_objects(objects: list, where: str, strict: bool) -> list[Document]:
    return [document_from_json(obj, f"{where}: document {i}", strict=strict) for i, obj in enumerate(objects)]


def _field(obj, key: str, kind: type, here: str, default=...):
    """`obj[key]`, if it is of that kind. A field that is absent or null becomes the default, if there is one."""
    value = obj.get(key)
    if value is None and default is not ...:
        return default
    name = {list: "a list", str: "a string", int: "a whole number"}[kind]
    if value is None:
        raise DataError(f"{here}{key}: missing; give {name}")
    return _kind(value, kind, f"{here}{key}")


def _kind(value, kind: type, here: str):
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    name = {list: "a list", str: "a string", int: "a whole number", dict: "an object {...}"}[kind]
    raise DataError(f"{here}: {type(value).__name__} {str(value)[:30]!r} where {name} belongs; correct it")


def document_from_json(obj: dict, where: str, *, strict: bool = True) -> Document:
    """One document from DocRED's JSON object: title, sents, vertexSet, labels (optional, as in a test file).

    Beyond DocRED: "premises" and "depth" of a label, "variant_of" and "candidates" of a document, "id" of a
    mention (the entity's, where all its mentions agree). Labels may be a list of objects, or an object
    of lists as in the hub's parquet; h / t / r may be called head / tail / relation_id.

    Args:
        obj: the object as `json` reads it. It is not changed.
        where: begins every message, usually `file: document 12`.
        strict: see `read`.
    """
    _kind(obj, dict, where)
    title = _field(obj, "title", str, f"{where}: field ")
    here = f"{place(where, title)}: field "
    sentences = tuple(
        tuple(
            _kind(word, str, f"{here}sents[{s}][{w}]") for w, word in enumerate(_kind(words, list, f"{here}sents[{s}]"))
        )
        for s, words in enumerate(_field(obj, "sents", list, here))
    )
    entities = [
        _entity(_kind(mentions, list, f"{here}vertexSet[{e}]"), f"{here}vertexSet[{e}]")
        for e, mentions in enumerate(_field(obj, "vertexSet", list, here))
    ]
    # stable: entities that begin at the same word keep the file's order
    order = sorted(
        range(len(entities)), key=lambda e: (entities[e].mentions[0].sentence, entities[e].mentions[0].start)
    )
    position = {number: i for i, number in enumerate(order)}

    def entity(number: int, field: str) -> int:
        if _kind(number, int, here + field) not in position:
            raise DataError(f"{here}{field}: entity {number} is absent; there are {len(entities)}, from 0")
        return position[number]

    document = Document(
        title=title,
        sentences=sentences,
        entities=tuple(entities[e] for e in order),
        triples=_triples(obj, title, entity, here, strict),
        candidates=_candidates(obj, entity, here),
        variant_of=_field(obj, "variant_of", str, here, default=None),
        order=tuple(order) if order != sorted(order) else None,
    )
    _encodable(document, here)
    check([document], where)
    return document


def _entity(mentions: list, here: str) -> Entity:
    if not mentions:
        raise DataError(f"{here}: an entity without mentions; remove it or add one")
    read = []
    for m, mention in enumerate(mentions):
        field = f"{here}[{m}]."
        _kind(mention, dict, field[:-1])
        pos = _field(mention, "pos", list, field)
        if len(pos) != 2:
            raise DataError(f"{field}pos: {str(pos)[:40]} has not two numbers; give [first word, last word + 1]")
        start, end = (_kind(p, int, f"{field}pos[{i}]") for i, p in enumerate(pos))
        sentence = _field(mention, "sent_id", int, field)
        if sentence < 0 or not 0 <= start < end:
            raise DataError(
                f"{field}pos: [{start}, {end}] of sentence {sentence} is empty or negative; "
                "give [first word, last word + 1]"
            )
        read.append(
            Mention(_field(mention, "name", str, field), sentence, start, end, _field(mention, "type", str, field))
        )
    ids = {_field(m, "id", str, f"{here}[{i}].", default=None) for i, m in enumerate(mentions)}
    in_reading_order = sorted(read, key=lambda m: (m.sentence, m.start, m.end))
    return Entity(tuple(in_reading_order), id=ids.pop() if len(ids) == 1 else None)


def _labels(obj: dict, here: str) -> list[dict]:
    """Labels under DocRED's names, from a list of objects or an object of lists."""
    labels = obj.get("labels")
    if isinstance(labels, dict):
        columns = {key: _kind(column, list, f"{here}labels.{key}") for key, column in labels.items()}
        lengths = {key: len(column) for key, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{here}labels: columns of different lengths {lengths}; give one value a label in each")
        labels = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    elif labels is None:
        labels = []
    renamed = {"head": "h", "tail": "t", "relation_id": "r"}
    return [
        {renamed.get(key, key): value for key, value in _kind(label, dict, f"{here}labels[{i}]").items()}
        for i, label in enumerate(_kind(labels, list, f"{here}labels"))
    ]


def _triples(obj: dict, title: str, entity, here: str, strict: bool) -> tuple[Triple, ...]:
    merged: dict[Triple, Triple] = {}
    for i, label in enumerate(_labels(obj, here)):
        field = f"{here}labels[{i}]."
        head = entity(_field(label, "h", int, field), f"labels[{i}].h")
        tail = entity(_field(label, "t", int, field), f"labels[{i}].t")
        if head == tail and not strict:
            continue
        evidence = _field(label, "evidence", list, field, default=[])
        premises = _field(label, "premises", list, field, default=[])
        triple = Triple(
            title,
            head,
            _field(label, "r", str, field),
            tail,
            evidence=tuple(sorted({_kind(s, int, f"{field}evidence") for s in evidence})),
            premises=tuple(_premise(p, entity, here, f"labels[{i}].premises[{j}]") for j, p in enumerate(premises)),
            depth=_field(label, "depth", int, field, default=0),
        )
        if triple.relation in (NA, "Na"):
            raise DataError(f"{field}r: {triple.relation!r} is the class of unrelated pairs; remove the label")
        if triple in merged:  # equal up to evidence: the same fact twice
            both = {*merged[triple].evidence, *triple.evidence}
            merged[triple] = replace(merged[triple], evidence=tuple(sorted(both)))
        else:
            merged[triple] = triple
    return tuple(merged.values())


def _premise(premise, entity, here: str, field: str) -> tuple[int, str, int]:
    if len(_kind(premise, list, here + field)) != 3:
        raise DataError(f"{here}{field}: not three values; give [head, relation, tail]")
    head, relation, tail = premise
    return entity(head, field), _kind(relation, str, here + field), entity(tail, field)


def _candidates(obj: dict, entity, here: str) -> frozenset[tuple[int, int]] | None:
    candidates = _field(obj, "candidates", list, here, default=None)
    if candidates is None:
        return None
    for i, pair in enumerate(candidates):
        if len(_kind(pair, list, f"{here}candidates[{i}]")) != 2:
            raise DataError(f"{here}candidates[{i}]: not two numbers; give [head, tail]")
    return frozenset(tuple(entity(n, f"candidates[{i}]") for n in pair) for i, pair in enumerate(candidates))


def _encodable(document: Document, here: str) -> None:
    """JSON can name half of a surrogate pair, which no tokenizer takes and no UTF-8 file can hold."""
    strings = [document.title, document.variant_of or "", *(w for s in document.sentences for w in s)]
    strings += [s for e in document.entities for m in e.mentions for s in (m.name, m.type, e.id or "")]
    strings += [s for t in document.triples for s in (t.relation, *(r for _, r, _ in t.premises))]
    try:
        "".join(strings).encode()
    except UnicodeEncodeError:
        broken = next(s for s in strings if re.search("[\ud800-\udfff]", s))
        raise DataError(f"{here.removesuffix('field ')}the string {broken!a} is no valid Unicode; retype it") from None


def _number_titles(documents: list[Document]) -> list[Document]:
    """`Title`, `Title (2)`, …: what strict=False makes of equal titles."""
    taken = {d.title for d in documents}
    seen: set[str] = set()
    numbered = []
    for document in documents:
        title, n = document.title, 1
        while title in seen or (n > 1 and title in taken):
            n += 1
            title = f"{document.title} ({n})"
        seen.add(title)
        triples = tuple(replace(t, title=title) for t in document.triples)
        numbered.append(document if n == 1 else replace(document, title=title, triples=triples))
    return numbered


def file_number(document: Document, entity: int) -> int:
    """The number that the file gives to an entity of the document, for writing predictions back."""
    return entity if document.order is None else document.order[entity]


def document_to_json(document: Document) -> dict:
    """DocRED's JSON object, in the file's own entity numbering: the inverse of `document_from_json`.

    What DocRED has no place for is written only where present, so that plain DocRED stays plain.
    """
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
        "labels": [_label(document, t) for t in document.triples],
        "sents": [list(words) for words in document.sentences],
    }
    if document.candidates is not None:
        obj["candidates"] = sorted([file_number(document, h), file_number(document, t)] for h, t in document.candidates)
    if document.variant_of is not None:
        obj["variant_of"] = document.variant_of
    return obj


def _label(document: Document, triple: Triple) -> dict:
    label = {
        "h": file_number(document, triple.head),
        "t": file_number(document, triple.tail),
        "r": triple.relation,
        "evidence": list(triple.evidence),
    }
    if triple.premises:
        label["premises"] = [[file_number(document, h), r, file_number(document, t)] for h, r, t in triple.premises]
    if triple.depth:
        label["depth"] = triple.depth
    return label


def write_docred(documents: Sequence[Document], path: str | Path) -> None:
    """Write documents as DocRED JSON, one document a line inside the list. A name ending in .gz is compressed."""
    path = Path(path)
    lines = ",\n".join(json.dumps(document_to_json(d), ensure_ascii=False) for d in documents)
    data = f"[\n{lines}\n]\n".encode()
    # mtime=0: equal documents make equal files
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


# --- relations ------------------------------------------------------------------------------------------------------


def read_relations(path: str | Path, labels: str | Path | None = None) -> Relations:
    """The classes of a task from `rel2id.json` (name to number, NA at 0) or `rel_info.json` (name to label), or both.

    With `rel_info.json` alone the classes are numbered in its order after NA. A JSON list of names is
    read too. "Na", as DocRED's public map spells it, becomes NA.
    """
    maps = [_map(Path(p)) for p in (path, labels) if p is not None]
    numbered = [m for m in maps if all(isinstance(v, int) for v in m[1].values())]
    labelled = [m for m in maps if all(isinstance(v, str) for v in m[1].values())]
    if len(numbered) + len(labelled) != len(maps) or len(numbered) > 1 or len(labelled) > 1:
        raise DataError(f"{path}: give one map of names to numbers, one of names to labels, or one of each")
    texts = labelled[0][1] if labelled else {}
    if not numbered:
        return Relations((NA, *(name for name in texts if name not in (NA, "Na"))), texts)
    where, ids = numbered[0]
    if sorted(ids.values()) != list(range(len(ids))):
        raise DataError(f"{where}: the numbers of {len(ids)} relations must be 0 to {len(ids) - 1}, each once")
    names = sorted(ids, key=ids.__getitem__)
    if names[0] not in (NA, "Na"):
        raise DataError(f"{where}: number 0 is {names[0]!r}; NA, the class of unrelated pairs, must be number 0")
    if {NA, "Na"} & set(names[1:]):
        raise DataError(f"{where}: NA is named twice; keep the one with number 0")
    return Relations((NA, *names[1:]), texts)


def _map(path: Path) -> tuple[Path, dict]:
    data = _json(_decode(_bytes(path), path), str(path))
    if isinstance(data, list) and all(isinstance(name, str) for name in data) and len(set(data)) == len(data):
        data = {name: i for i, name in enumerate(data)}
    if not isinstance(data, dict) or not data or any(isinstance(v, bool) for v in data.values()):
        raise DataError(f'{path}: no relation map; give {{"NA": 0, "P17": 1, …}} or {{"P17": "country", …}}')
    return path, data
