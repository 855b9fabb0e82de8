"""PubTator files (BioCreative V CDR): title, abstract, mentions with concept ids, relations between concepts."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..support import DataError
from ..types import Document, Triple
from .checks import place
from .text import Span, build

_TEXT_LINE = re.compile(r"([^|\s\[]+)\|([ta])\|(.*)")
# head type → tail type of the tasks in this format: CDR relates chemicals to diseases, GDA relates genes to them
PAIRS = {
    frozenset({"Chemical", "Disease"}): ("Chemical", "Disease"),
    frozenset({"Gene", "Disease"}): ("Gene", "Disease"),
}


def is_pubtator(text: str) -> bool:
    return bool(_TEXT_LINE.match(text.lstrip()))


def from_pubtator(
    text: str,
    where: str = "text",
    *,
    hypernyms: Mapping[str, Sequence[str]] | str | Path | None = None,
    strict: bool = True,
) -> list[Document]:
    """Documents of a PubTator file; the PubMed id is the title.

    The title is the first sentence. A mention of several concepts (`D006470|D003556`) counts for each, one
    without a concept (`-1`) for none; mentions of one concept form one entity, in order of first mention.
    If all mentions of the file are chemicals and diseases, the candidates are all pairs chemical →
    disease (with genes: gene → disease), and a relation written the other way round is reversed.

    Args:
        where: begins every message.
        hypernyms: see `drop_hypernyms`.
        strict: if false, mentions whose offsets do not fit their text, and relations of unmentioned
            concepts or of a concept to itself, are dropped with a warning instead of rejected.
    """
    blocks = _blocks(text, where)
    types = frozenset(fields[4] for block in blocks for _, fields in block["mentions"] if _concepts(fields))
    direction = next((pair for kinds, pair in PAIRS.items() if types and types <= kinds), None)
    dropped: list[str] = []
    documents = []
    for i, block in enumerate(blocks):
        at = f"{where}: document {i}"
        document = _document(block, at, dropped if not strict else None)
        documents.append(document if direction is None else _directed(document, direction))
    if dropped:
        warnings.warn(f"{where}: dropped {len(dropped)} faulty lines; the first: {dropped[0]}", stacklevel=2)
    if hypernyms is not None:
        trees = _trees(hypernyms)
        documents = [drop_hypernyms(document, trees) for document in documents]
    return documents


def _blocks(text: str, where: str) -> list[dict]:
    """One record per document: id, texts by t / a, and the tab-separated lines with their line numbers."""
    blocks: list[dict] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        at = f"{where}: line {number}"
        if not line.strip():
            continue
        if match := _TEXT_LINE.match(line):
            name, part, content = match.groups()
            if part == "t":
                blocks.append({"id": name, "t": content, "mentions": [], "relations": []})
            elif not blocks or blocks[-1]["id"] != name or "a" in blocks[-1]:
                raise DataError(f"{at}: abstract of {name} without a title before it; put `{name}|t|…` above")
            else:
                blocks[-1]["a"] = content
            continue
        fields = line.split("\t")
        if not blocks or fields[0] != blocks[-1]["id"]:
            raise DataError(f"{at}: {line[:30]!r} belongs to no document above it; begin one with `id|t|title`")
        if len(fields) in (6, 7):
            blocks[-1]["mentions"].append((number, fields))
        elif len(fields) == 4:
            blocks[-1]["relations"].append((number, fields))
        else:
            raise DataError(
                f"{at}: {len(fields)} columns; a mention has 6 or 7 (id, start, end, name, type, concept) and a "
                "relation 4 (id, type, concept, concept), separated by tabs"
            )
    return blocks


def _concepts(fields: list[str]) -> list[str]:
    return [concept for part in fields[5].split("|") if (concept := part.strip()) not in ("", "-1")]


def _document(block: dict, where: str, dropped: list[str] | None) -> Document:
    """One document; faulty lines are collected in `dropped`, or rejected if it is `None`."""
    here = place(where, block["id"])
    text = f"{block['t']} {block.get('a', '')}"  # offsets count one character between the two
    spans: dict[Span, None] = {}
    for number, fields in block["mentions"]:
        fault = _mention_fault(fields, text)
        if fault is None:
            start, end = int(fields[1]), int(fields[2])
            spans.update((Span(start, end, fields[4], concept), None) for concept in _concepts(fields))
        elif dropped is None:
            raise DataError(f"{here}: line {number}: {fault}")
        else:
            dropped.append(f"line {number}: {fault}")
    document = build(block["id"], text, list(spans), where, breaks=[len(block["t"])])
    position = {entity.id: i for i, entity in enumerate(document.entities)}
    triples: dict[Triple, None] = {}
    for number, (_, relation, head, tail) in block["relations"]:
        if head in position and tail in position and head != tail:
            triples[Triple(block["id"], position[head], relation, position[tail])] = None
            continue
        fault = f"{relation} relates {head!r} to itself; remove the line, or read with strict=False"
        if head != tail:
            absent = tail if head in position else head
            fault = f"{relation} names concept {absent!r}, which no mention has; add a mention or remove the relation"
        if dropped is None:
            raise DataError(f"{here}: line {number}: {fault}")
        dropped.append(f"line {number}: {fault}")
    return replace(document, triples=tuple(triples))


def _mention_fault(fields: list[str], text: str) -> str | None:
    start, end, name = fields[1:4]
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in (start, end)):
        return f"offsets {start[:20]!r}, {end[:20]!r} are not whole numbers; correct them"
    if text[int(start) : int(end)] != name or not name.strip():
        return (
            f"characters {start} to {end} of the text are not {name[:40]!r}; "
            "offsets count from 0 over the title, one space and the abstract"
        )
    return None


def _directed(document: Document, direction: tuple[str, str]) -> Document:
    """The document with candidates head type → tail type, and with every triple in that direction."""
    kinds = [entity.type for entity in document.entities]
    indexed = list(enumerate(kinds))
    candidates = frozenset((h, t) for h, a in indexed for t, b in indexed if (a, b) == direction)
    triples = tuple(
        replace(triple, head=triple.tail, tail=triple.head)
        if (kinds[triple.tail], kinds[triple.head]) == direction
        else triple
        for triple in document.triples
    )
    return replace(document, triples=triples, candidates=candidates)


def drop_hypernyms(document: Document, trees: Mapping[str, Sequence[str]]) -> Document:
    """Drop the candidates that a more specific gold pair makes moot. **Looks at the gold labels.**

    An unrelated pair is dropped if the same document relates its head to a more specific tail: if a
    chemical causes *hepatitis*, "it causes *liver disease*" is not a negative. The task itself prescribes
    this, and most published CDR scores use it (1,012 + 4,075 pairs remain on CDR's development set). But new
    text has no gold pairs, so scores with and without it are not comparable: it is worth about one
    point of F1 to a model that says yes to every pair.

    The public filter intends to do the same for chemicals, but it looks up a disease's tree numbers among
    those of chemicals, so that half has no effect; it is left out here to keep the published candidates.

    Args:
        trees: the MeSH tree numbers of each concept id, as in {"D001145": ["C14.280.067", ...]}. X is a
            hypernym of Y if a tree number of X, followed by a point, begins one of Y's. `readers.read` and
            `from_pubtator` also accept a file: such JSON, or MeSH's descriptors in ASCII (d2025.bin).
    """
    gold = {(triple.head, triple.tail) for triple in document.triples}

    def above(general: int, specific: int) -> bool:
        upper, lower = (trees.get(document.entities[e].id or "", ()) for e in (general, specific))
        return any(low.startswith(f"{up}.") for up in upper for low in lower)

    def moot(head: int, tail: int) -> bool:
        return any(h == head and above(tail, t) for h, t in gold)

    kept = {pair for pair in document.pairs() if pair in gold or not moot(*pair)}
    return replace(document, candidates=frozenset(kept))


def _trees(hypernyms: Mapping[str, Sequence[str]] | str | Path) -> Mapping[str, Sequence[str]]:
    if isinstance(hypernyms, Mapping):
        return hypernyms
    try:
        text = Path(hypernyms).read_text(encoding="utf-8")
        trees = _descriptors(text) if text.startswith("*NEWRECORD") else json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{hypernyms}: not JSON of MeSH tree numbers ({error}); give {{id: [number, …]}}, or MeSH's descriptors in "
            "ASCII as the National Library of Medicine distributes them (d2025.bin)"
        ) from None
    if not isinstance(trees, dict) or not all(isinstance(v, list) for v in trees.values()):
        raise DataError(f'{hypernyms}: not a map of MeSH tree numbers; give {{"D001145": ["C14.280.067", …], …}}')
    return trees


def _descriptors(text: str) -> dict[str, list[str]]:
    """Tree numbers by id from MeSH's ASCII descriptors: a record has a line `UI = id`, and `MN = number` for each."""
    trees: dict[str, list[str]] = {}
    for record in text.split("*NEWRECORD")[1:]:
        fields = [line.partition(" = ")[::2] for line in record.splitlines()]
        ids = [value.strip() for key, value in fields if key == "UI"]
        trees |= {concept: [value.strip() for key, value in fields if key == "MN"] for concept in ids}
    return trees
