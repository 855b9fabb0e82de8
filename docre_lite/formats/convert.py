"""Converts data sets with formats of their own into documents: DWIE (news) and GDA (genes and diseases)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..support import DataError
from ..support.checks import place
from ..types import Document, Triple
from .faults import Faults, character_way
from .pubtator import from_pubtator
from .text import Span, build

# A DWIE concept has several types, from coarse to fine. The entity gets the first of these that the concept has.
COARSE = ("person", "organization", "location", "event", "time", "money", "role", "work_of_art")


def from_dwie(obj: object, where: str, faults: Faults | None = None) -> tuple[Document, frozenset[str]]:
    """One article of DWIE as a document, and its tags ("train" or "test").

    Uses the keys id, content, tags, mentions (begin, end, text, concept), concepts (concept, tags) and
    relations (s, p, o), as in DWIE's own JSON; a list of objects may also be an object of lists, as in
    parquet. Each concept becomes an entity (id: its link to Wikipedia, if it has one); its type is the first
    of `COARSE` among its `type::` tags, else the alphabetically first that is not entity, value or other.
    Concepts without mentions are left out, together with their relations. Our own rule (`formats.text`)
    splits sentences and words, so they differ from conversions made with other tokenizers.

    Args:
        where: begins every message.
        faults: receives the mentions whose offsets do not fit their text, to leave them out; without it, an error.
    """
    faults = faults or Faults(where)
    if not isinstance(obj, dict):
        raise DataError(f"{where}: {type(obj).__name__} where a DWIE object belongs")
    here = place(where, obj.get("id", ""))
    try:
        name, content, tags = str(obj["id"]), obj["content"], frozenset(obj["tags"])
        concepts = {int(c["concept"]): c for c in _rows(obj["concepts"])}
        mentions = [(int(m["begin"]), int(m["end"]), m["text"], int(m["concept"])) for m in _rows(obj["mentions"])]
        relations = [(int(r["s"]), str(r["p"]), int(r["o"])) for r in _rows(obj["relations"])]
        types = {number: _dwie_type(concept.get("tags") or ()) for number, concept in concepts.items()}
        links = {number: concept.get("link") or None for number, concept in concepts.items()}
        spans = []
        for begin, end, spoken, concept in mentions:
            with faults.part("mention"):
                if content[begin:end] != spoken or not spoken.strip():
                    way = character_way(content, [(a, b, text) for a, b, text, _ in mentions])
                    raise DataError(
                        f"{here}: field mentions: characters {begin} to {end} of content are not {spoken!r}; "
                        f"{way or 'correct them'}"
                    )
                spans.append(Span(begin, end, types[concept], str(concept)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{here}: not DWIE's format ({type(error).__name__}: {error}); give articles with content"
        ) from None
    breaks = [i for i, c in enumerate(content) if c == "\n"]  # paragraphs
    document = build(name, content, spans, where, breaks)
    position = {int(entity.id or 0): i for i, entity in enumerate(document.entities)}
    triples = dict.fromkeys(
        Triple(name, position[s], p, position[o]) for s, p, o in relations if s != o and {s, o} <= position.keys()
    )
    entities = tuple(replace(e, id=links[int(e.id or 0)]) for e in document.entities)
    return replace(document, entities=entities, triples=tuple(triples)), tags


def _rows(table: list | dict) -> list[dict]:
    if isinstance(table, dict):
        return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    return list(table)


def _dwie_type(tags: Iterable[str]) -> str:
    types = {tag.removeprefix("type::") for tag in tags if tag.startswith("type::")}
    coarse = [name for name in COARSE if name in types]
    return next(iter(coarse or sorted(types - {"entity", "value", "other"})), "misc")


def split_dwie(articles: Iterable[tuple[Document, frozenset[str]]]) -> dict[str, list[Document]]:
    """Train, dev and test. Test is DWIE's own; every seventh of its training articles, sorted by id, is dev.

    This is **not** LogiRE's split (602 / 98 / 99), whose list of articles comes in an archive of its own:
    the sizes are similar (601 / 101 / 100 of 802), but scores are not exactly comparable.
    """
    articles = sorted(articles, key=lambda article: article[0].title)
    train = [document for document, tags in articles if "test" not in tags]
    return {
        "train": [document for i, document in enumerate(train) if i % 7],
        "dev": train[::7],
        "test": [document for document, tags in articles if "test" in tags],
    }


def from_renet(folder: Path, faults: Faults | None = None) -> list[Document]:
    """GDA as RENET publishes it: a folder with abstracts.txt, anns.txt and labels.csv.

    abstracts.txt holds blocks of PubMed id, title and abstract, anns.txt holds mentions in PubTator's lines, and
    labels.csv holds rows `id,gene,disease,label`, where label 1 means a relation (GDA). All gene × disease
    pairs are candidates. The labels are distant: they come from a database, not from annotators.

    `faults` receives faulty lines to leave out; without it, the first is an error.
    """
    faults = faults or Faults(str(folder))
    lines: dict[str, list[str]] = {}
    found: dict[str, list[str]] = {}
    for name in ("abstracts.txt", "anns.txt", "labels.csv"):
        try:
            lines[name] = (folder / name).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise DataError(
                f"{folder / name}: no such file; give RENET's folder with abstracts, anns, labels"
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(f"{folder / name}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    number = None
    for line in map(str.rstrip, lines["abstracts.txt"]):
        if line.isdigit():
            number = line
            found[number] = []
        elif line and number is not None:
            part = "a" if found[number] else "t"
            found[number].append(f"{number}|{part}|{line}")
    for i, line in enumerate(lines["anns.txt"], 1):
        if line.strip():
            _of(found, line.split("\t")[0], f"{folder / 'anns.txt'}: line {i}").append(line)
    for i, line in enumerate(lines["labels.csv"], 1):
        cells = line.split(",")
        if cells[0].isdigit() and cells[-1].strip() == "1":
            at = f"{folder / 'labels.csv'}: line {i}"
            _of(found, cells[0], at).append("\t".join([cells[0], "GDA", *cells[1:3]]))
    text = "\n\n".join("\n".join(block) for block in found.values() if block)
    documents = from_pubtator(text, str(folder), faults=faults)
    return [document.restricted((("Gene", "Disease"),)) for document in documents]


def _of(found: dict[str, list[str]], number: str, at: str) -> list[str]:
    if number not in found:
        raise DataError(f"{at}: no abstract {number!r} in abstracts.txt; the files belong to different releases")
    return found[number]
