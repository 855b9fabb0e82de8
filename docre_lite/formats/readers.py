"""Files to documents: DocRED JSON in its variants, PubTator and marked-up text, recognised by content.

Numbers in messages count from 0, like the indices in the file; only lines and columns count from 1.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..support import DataError
from ..support.checks import check
from ..support.store import write_whole
from ..types import NA, Document, Relations
from .convert import from_dwie, from_renet
from .docred import UNRELATED, document_from_json, document_to_json
from .faults import FIT, Faults, agree, way_of
from .files import FORMATS, decode, parquet_rows, parse_json, read_bytes
from .pubtator import drop_hypernyms, from_pubtator, is_pubtator, tree_numbers
from .standoff import bioc_objects, brat_pairs, foreign, from_bioc, from_brat, from_label_studio
from .stream import UNPACKED
from .text import from_texts, is_marked_up

READ = ("auto", "docred", "pubtator", "text", "biored", "bioc", "brat", "label-studio", "dwie", "gda")
PAIRS = {"cdr": "Chemical:Disease", "gda": "Gene:Disease"}  # the candidates of these data sets: head type, tail type


@dataclass(frozen=True)
class File:
    """What was read from a file: its documents, its format, and facts worth telling, each with its count."""

    documents: list[Document]
    format: str
    facts: Mapping[str, int]


def read(
    path: str | Path,
    *,
    format: str = "auto",
    pairs: str | Iterable | None = None,
    ids: str = "auto",
    hypernyms: Mapping[str, Sequence[str]] | str | Path | None = None,
    relations: Relations | None = None,
    labels: bool = True,
    strict: bool = True,
    unpacked: int = UNPACKED,
) -> list[Document]:
    """The documents of a file. The content determines the format; the file's name does not matter.

    Accepts DocRED / Re-DocRED JSON, also as one object per line; the hub's parquet of DocRED; PubTator
    (`from_pubtator`); and marked-up text (`from_text`); plain, gzipped, or alone in a zip archive. Entities are in
    order of first mention, whatever the file's order: see `document_from_json`. If fewer than nine mentions in ten are
    what their name says, a warning gives an example, and how the positions seem to be meant.

    Args:
        format: one of `READ` where the content is not to decide: also other tools' files, which `docre-lite convert`
            turns into DocRED JSON.
        pairs: the pairs to classify, as types of head and tail: "Chemical:Disease", several of them, or the name of
            a data set in `PAIRS`. A label that goes the other way round is turned. By default all pairs; a model that
            was trained with restricted pairs applies its own.
        ids: PubTator, BioC and brat only: the characters that join several concept ids, see `from_pubtator`.
        hypernyms: PubTator only, see `pubtator.drop_hypernyms`. It looks at gold labels; off by default.
        relations: if given, a relation that it lacks is an error.
        labels: if false, labels are not read.
        strict: if false, faulty mentions, labels, lines and documents are left out with a warning that counts them,
            and repeated titles are numbered. Where it would be more than half of them, that is an error all the same.
        unpacked: most bytes that an archive may unpack to.

    Raises:
        DataError: one line naming file, document, field and the way out.
    """
    given = {"format": format, "pairs": pairs, "ids": ids, "hypernyms": hypernyms, "unpacked": unpacked}
    return look(path, **given, relations=relations, labels=labels, strict=strict).documents


def look(
    path: str | Path,
    *,
    format: str = "auto",
    pairs: str | Iterable | None = None,
    ids: str = "auto",
    hypernyms: Mapping[str, Sequence[str]] | str | Path | None = None,
    relations: Relations | None = None,
    labels: bool = True,
    strict: bool = True,
    unpacked: int = UNPACKED,
) -> File:
    """`read`, with what there is to tell about the file."""
    path = Path(path)
    if format not in READ:
        raise ValueError(f"no format {format!r}; have {', '.join(READ)}")
    directions = typed(pairs)
    faults = Faults(str(path), lenient=not strict)
    kind, documents = _documents(path, format, faults, {"ids": ids, "labels": labels}, unpacked)
    if directions:
        places = [f"{path}: document {i}" for i in range(len(documents))]
        documents = [_directed(*part, directions, faults) for part in zip(documents, places, strict=True)]
    if hypernyms is not None:
        trees = tree_numbers(hypernyms)
        documents = [drop_hypernyms(document, trees) for document in documents]
    faults.tell(len(documents))
    if not documents:
        raise DataError(f"{path}: contains no documents; give a file with at least one")
    if not strict:
        documents = _number_titles(documents)
    check(documents, str(path), relations)
    right, total = agreement(documents)
    if right < FIT * total:
        _warn_of_names(path, documents, right, total)
    facts = {"names": total, "names_right": right, **faults.facts}
    return File(documents, kind, facts)


def _documents(
    path: Path, format: str, faults: Faults, given: dict[str, Any], unpacked: int
) -> tuple[str, list[Document]]:
    """The format of a file, and its documents."""
    where, ids = str(path), given["ids"]
    if format == "gda":
        return format, from_renet(path, faults)
    if format == "brat":
        pairs = [
            [decode(read_bytes(p, empty=True), p, empty=True) for p in pair] + [pair[0].stem]
            for pair in brat_pairs(path)
        ]
        return format, _each(pairs, lambda pair, at: from_brat(*pair, at, ids, faults), where, faults)
    data = read_bytes(path, limit=unpacked)
    if data[:4] == b"PAR1":
        rows = parquet_rows(data, path)
        return ("dwie" if format == "dwie" else "docred parquet"), _json(rows, format, where, given, faults)
    if format == "bioc" or (format == "biored" and data.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"<", b"{", b"[")):
        return "bioc", _each(bioc_objects(data, path), lambda obj, at: from_bioc(obj, at, ids, faults), where, faults)
    text = decode(data, path)
    if format in ("pubtator", "biored") or (format == "auto" and is_pubtator(text)):
        return "pubtator", from_pubtator(text, where, **given, faults=faults)
    if format in ("docred", "dwie", "label-studio") or (format == "auto" and _is_json(text)):
        return ("docred" if format == "auto" else format), _json(
            _json_objects(text, path, faults), format, where, given, faults
        )
    if format == "text" or is_marked_up(text):
        return "text", from_texts(text, title=path.stem, where=where)
    raise DataError(f"{path}: unknown format{_seems(text)}; give {FORMATS}")


def _text(path: Path) -> str:
    return decode(read_bytes(path, empty=True), path, empty=True)


def _json(objects: list, format: str, where: str, given: dict[str, Any], faults: Faults) -> list[Document]:
    """The documents of JSON objects or parquet rows."""
    reader = {
        "dwie": lambda obj, at: from_dwie(obj, at, faults)[0],
        "label-studio": lambda obj, at: from_label_studio(obj, at, faults),
    }.get(format, lambda obj, at: document_from_json(obj, at, labels=given["labels"], faults=faults))
    if format in ("auto", "docred") and objects and (other := foreign(objects[0])):
        raise DataError(f"{where}: {other}")
    return _each(objects, reader, where, faults)


def _each(parts: list, reader, where: str, faults: Faults) -> list[Document]:
    documents = []
    for i, part in enumerate(parts):
        with faults.part("document"):
            documents.append(reader(part, f"{where}: document {i}"))
    return documents


def _seems(text: str) -> str:
    if text.lstrip()[:1] == "<":
        return " (XML: for BioC, `docre-lite convert FILE --from bioc --to documents.json`)"
    if re.match(r"T\d+\t\w+ \d+ \d+", text):
        return " (it looks like brat's .ann: `docre-lite convert FOLDER --from brat --to documents.json`)"
    return ""


# --- pairs ----------------------------------------------------------------------------------------------------------


def typed(pairs: str | Iterable | None) -> tuple[tuple[str, str], ...]:
    """Types of head and tail, from a data set's name, "Chemical:Disease", or several of either; none for "all" pairs.

    Raises ValueError for anything else.
    """
    found: list[tuple[str, str]] = []
    for pair in [pairs] if isinstance(pairs, str) else pairs or ():
        if pair == "all":
            return ()
        told = PAIRS.get(pair, pair) if isinstance(pair, str) else pair
        ends = tuple(told.split(":")) if isinstance(told, str) else tuple(told)
        if len(ends) != 2 or not all(isinstance(end, str) and end.strip() for end in ends):
            raise ValueError(f"pairs={pair!r} is neither HEAD:TAIL, as in Chemical:Disease, nor {' nor '.join(PAIRS)}")
        found.append((ends[0].strip(), ends[1].strip()))
    return tuple(found)


def _directed(document: Document, where: str, directions: tuple[tuple[str, str], ...], faults: Faults) -> Document:
    """The document with the candidates of these types, and with labels turned into their direction."""
    narrowed = document.restricted(directions)
    if document.candidates is not None:  # the file names its own
        narrowed = replace(narrowed, candidates=narrowed.candidates & document.candidates)
    candidates, triples = narrowed.candidates, []
    for triple in document.triples:
        head, tail = triple.head, triple.tail
        if (head, tail) not in candidates and (tail, head) in candidates:
            triple = replace(triple, head=tail, tail=head)
        with faults.part("label of the pairs"):
            if (triple.head, triple.tail) not in candidates:
                kinds = ":".join(document.entities[e].type for e in (head, tail))
                raise DataError(
                    f'{where} ("{document.title}"): {triple.relation} links {kinds}, which is not among the '
                    "candidates that pairs allow; allow it, or remove the label"
                )
            triples.append(triple)
    return replace(narrowed, triples=tuple(dict.fromkeys(triples)))


# --- names ----------------------------------------------------------------------------------------------------------


def agreement(documents: Sequence[Document]) -> tuple[int, int]:
    """How many mentions are, spaces aside, what their name says, and of how many with a name."""
    return agree(_places(documents))


def _places(documents: Sequence[Document]) -> list:
    return [
        (d.sentences, [(m.name, m.sentence, m.start, m.end) for e in d.entities for m in e.mentions]) for d in documents
    ]


def _warn_of_names(path: Path, documents: Sequence[Document], right: int, total: int) -> None:
    places = _places(documents)
    way = way_of(places)
    wrong = next(
        (document, name, words[sentence][start:end])
        for document, (words, mentions) in zip(documents, places, strict=True)
        for name, sentence, start, end in mentions
        if not agree([(words, [(name, sentence, start, end)])])[0] and name.strip()
    )
    document, name, found = wrong
    warnings.warn(
        f"{path}: {right} of {total} mentions are what their name says; in {document.title[:60]!r}, the mention "
        f"{name[:40]!r} is at {' '.join(found)[:40]!r}; {f'it seems that {way}' if way else 'check the positions'}",
        stacklevel=4,
    )


def write_docred(documents: Sequence[Document], path: str | Path) -> Path:
    """Write documents as DocRED JSON: a list, one document per line. A name that ends in .gz means compression.

    Raises DataError, before anything is written, for a document that could not be read again.
    """
    check(documents, str(path))
    lines = ",\n".join(json.dumps(document_to_json(d), ensure_ascii=False) for d in documents)
    return write_text(f"[\n{lines}\n]\n", Path(path))


def write_text(text: str, path: Path) -> Path:
    """Write the whole file or none; compressed if its name ends in .gz. Equal texts give equal files."""
    write_whole(path, gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


def read_relations(path: str | Path, labels: str | Path | None = None) -> Relations:
    """The classes of a task from `rel2id.json` (name to number, NA at 0) or `rel_info.json` (name to label), or both.

    With `rel_info.json` alone, the classes are numbered in its order, after NA. A JSON list of names is
    accepted too. "Na", as DocRED's public map spells it, becomes NA.
    """
    maps = [(Path(p), _map(Path(p))) for p in (path, labels) if p is not None]
    numbered = [m for m in maps if all(isinstance(value, int) for value in m[1].values())]
    labelled = [m for m in maps if all(isinstance(value, str) for value in m[1].values())]
    if len(numbered) + len(labelled) != len(maps) or len(numbered) > 1 or len(labelled) > 1:
        both = " and ".join(str(p) for p, _ in maps)
        raise DataError(f"{both}: give one map of names to numbers, one of names to labels, or one of each")
    texts = labelled[0][1] if labelled else {}
    if texts and all(str(value).strip().isdigit() for value in texts.values()):
        raise DataError(f'{labelled[0][0]}: its numbers are texts ({{"NA": "0"}}); write them as numbers: {{"NA": 0}}')
    if not numbered:
        return Relations((NA, *(name for name in texts if name not in (NA, "Na"))), texts)
    where, ids = numbered[0]
    if sorted(ids.values()) != list(range(len(ids))):
        raise DataError(f"{where}: the numbers of {len(ids)} relations must be 0 to {len(ids) - 1}, each once")
    names = sorted(ids, key=ids.__getitem__)
    if names[0] not in (NA, "Na"):
        raise DataError(f"{where}: number 0 is {names[0]!r}; NA, the class of unrelated pairs, must be number 0")
    if {NA, "Na"} & set(names[1:]):
        raise DataError(f"{where}: NA occurs twice; keep the one with number 0")
    for name in names[1:]:
        if name.strip().lower() in UNRELATED:
            warnings.warn(
                f"{where}: {name!r} is a class of its own beside NA; if it means unrelated, remove it", stacklevel=2
            )
    return Relations((NA, *names[1:]), texts)


def _map(path: Path) -> dict:
    data = parse_json(decode(read_bytes(path), path), str(path))
    if isinstance(data, list) and all(isinstance(name, str) for name in data) and len(set(data)) == len(data):
        data = {name: i for i, name in enumerate(data)}
    if not isinstance(data, dict) or not data or any(isinstance(value, bool) for value in data.values()):
        raise DataError(f'{path}: not a relation map; give {{"NA": 0, "P17": 1, ...}} or {{"P17": "country", ...}}')
    return data


def _is_json(text: str) -> bool:
    """Is it an object or a list? A text may begin with a mention in brackets, which is not a list."""
    if re.match(r"\s*(\{|\[\s*([{\]]|$))", text):
        return True
    return text.lstrip()[0] == "[" and not is_marked_up(text)


def _json_objects(text: str, path: Path, faults: Faults) -> list:
    """The documents of a JSON file: a list, one object, or one object per line."""
    # not splitlines(): a word may contain one of the rarer line ends
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and all(line.lstrip()[0] == "{" for _, line in lines):
        found = []
        for i, line in lines:
            with faults.part("line"):
                found.append(parse_json(line, f"{path}: line {i}"))
        return found
    data = parse_json(text, str(path))
    if isinstance(data, dict) and not {"sents", "vertexSet"} & data.keys():
        other = foreign(data) or f"a JSON object without 'sents' and 'vertexSet' is not a document; give {FORMATS}"
        raise DataError(f"{path}: {other}")
    return [data] if isinstance(data, dict) else data


def _number_titles(documents: list[Document]) -> list[Document]:
    """Numbers repeated titles for strict=False: `Title`, `Title (2)`, ..."""
    taken = {d.title for d in documents}
    seen: set[str] = set()
    numbered = []
    for document in documents:
        title, n = document.title, 1
        while title in seen or (n > 1 and title in taken):
            n += 1
            title = f"{document.title} ({n})"
        seen.add(title)
        triples = tuple(replace(triple, title=title) for triple in document.triples)
        numbered.append(document if n == 1 else replace(document, title=title, triples=triples))
    return numbered
