"""PubTator files (BioCreative V CDR): title, abstract, mentions with concept ids, relations between concepts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from docre_lite.checks import DataError, place
from docre_lite.text import Span, build
from docre_lite.types import Document, Triple

_TEXT_LINE = re.compile(r"([^|\s\[]+)\|([ta])\|(.*)")
# head type → tail type of the tasks in this format: CDR asks which chemical causes which disease, GDA which gene
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
    without a concept (`-1`) for none; mentions of one concept are one entity, in order of first mention.
    Where all mentions are chemicals and diseases, the candidates are all pairs chemical → disease.

    Args:
        where: begins every message.
        hypernyms: see `drop_hypernyms`.
        strict: if false, relations from a concept to itself are dropped instead of refused.
    """
    blocks = _blocks(text, where)
    types = frozenset(fields[4] for block in blocks for _, fields in block["mentions"] if fields[5].strip() != "-1")
    direction = next((pair for kinds, pair in PAIRS.items() if types and types <= kinds), None)
    documents = [_document(block, f"{where}: document {i}", direction, strict) for i, block in enumerate(blocks)]
    if hypernyms is not None:
        trees = _trees(hypernyms)
        documents = [drop_hypernyms(document, trees) for document in documents]
    return documents


def _blocks(text: str, where: str) -> list[dict]:
    """One record a document: id, texts by t / a, and the tab-separated lines with their line numbers."""
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
                raise DataError(f"{at}: abstract of {name} without its title before it; put `{name}|t|…` above")
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


def _document(block: dict, where: str, direction: tuple[str, str] | None, strict: bool) -> Document:
    here = place(where, block["id"])
    title = block["t"]
    text = f"{title} {block.get('a', '')}"  # offsets count one character between the two
    spans: dict[Span, None] = {}
    for number, (_, start, end, name, kind, concepts, *_) in block["mentions"]:
        if not (start.isascii() and end.isascii() and start.isdigit() and end.isdigit()):
            raise DataError(f"{here}: line {number}: offsets {start!r}, {end!r} are no whole numbers; correct them")
        if len(start) > 9 or len(end) > 9 or text[int(start) : int(end)] != name:
            raise DataError(
                f"{here}: line {number}: characters {start[:9]} to {end[:9]} of the text are not {name[:40]!r}; "
                "offsets count from 0 over the title, one space and the abstract"
            )
        for concept in concepts.split("|"):
            if concept.strip() not in ("", "-1"):
                spans[Span(int(start), int(end), kind, concept.strip())] = None
    document = build(block["id"], text, list(spans), where, breaks=[len(title)])
    position = {entity.id: i for i, entity in enumerate(document.entities)}
    triples: dict[Triple, None] = {}
    for number, (_, relation, head, tail) in block["relations"]:
        for concept in (head, tail):
            if concept not in position:
                raise DataError(
                    f"{here}: line {number}: {relation} names concept {concept!r}, which no mention has; "
                    "add a mention or remove the relation"
                )
        if head != tail or strict:
            triples[Triple(block["id"], position[head], relation, position[tail])] = None
    candidates = None
    if direction is not None:
        kinds = [entity.type for entity in document.entities]
        candidates = frozenset((h, t) for h, a in enumerate(kinds) for t, b in enumerate(kinds) if (a, b) == direction)
    return replace(document, triples=tuple(triples), candidates=candidates)


def drop_hypernyms(document: Document, trees: Mapping[str, Sequence[str]]) -> Document:
    """Drop the candidates that a more specific gold pair makes moot. **Looks at the gold labels.**

    An unrelated pair is dropped if its disease or its chemical is a hypernym of the one in a related pair
    of the same document. The practice is the task's own and most published CDR scores rest on it, but
    new text has no gold pairs: a score with it is not comparable to one without, and it is worth about
    one point to a model that says yes to every pair.

    Args:
        trees: the MeSH tree numbers of a concept id, as in {"D001145": ["C14.280.067", …]}. X is a hypernym
            of Y if a tree number of X, followed by a point, begins one of Y's.
    """
    gold = {(t.head, t.tail) for t in document.triples}

    def above(general: int, specific: int) -> bool:
        upper, lower = (trees.get(document.entities[e].id or "", ()) for e in (general, specific))
        return any(low.startswith(f"{up}.") for up in upper for low in lower)

    kept = {
        (h, t)
        for h, t in document.pairs()
        if (h, t) in gold or not any(above(h, head) or above(t, tail) for head, tail in gold)
    }
    return replace(document, candidates=frozenset(kept))


def _trees(hypernyms: Mapping[str, Sequence[str]] | str | Path) -> Mapping[str, Sequence[str]]:
    if isinstance(hypernyms, Mapping):
        return hypernyms
    try:
        trees = json.loads(Path(hypernyms).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{hypernyms}: no JSON of MeSH tree numbers ({error}); give {{id: [number, …]}}") from None
    if not isinstance(trees, dict) or not all(isinstance(v, list) for v in trees.values()):
        raise DataError(f'{hypernyms}: no map of MeSH tree numbers; give {{"D001145": ["C14.280.067", …], …}}')
    return trees
