"""PubTator files: title, abstract, mentions with concept ids, relations between concepts.

CDR, GDA, BioRED, NCBI Disease and tmVar all use this format, each with conventions of its own:

* Several ids of one mention are joined by `|` (CDR), `,` (BioRED), `;` or `+`. But a variant's id contains bars and
  signs itself: `p|SUB|V|25|M`, `c|DEL|436_436+1|AG`.
* A mention without an id has `-`, `-1`, nothing, or no column for it.
* A relation may have a fifth column (BioRED: is it novel?), and name the types of its concepts (`Disease|D003110`).
* Lines of three columns are notes on the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..support import DataError
from ..support.checks import place
from ..types import Document, Triple
from .faults import Faults, character_way, squeezed, whole_number
from .text import Span, build

_TEXT_LINE = re.compile(r"([^|\s\[]+)\|([ta])\|(.*)")
NO_CONCEPT = frozenset({"", "-", "-1", "none", "null", "nil", "cui-less"})
SEPARATORS = "|,;+"
_VARIANT = re.compile(r"(?:tmVar:)?[a-zA-Z]?\|")  # its first bar comes after one letter at most, or none
# D003110, MESH:D003110, 2247, CVCL_0224, rs1801133
_CONCEPT = re.compile(r"(?:[A-Za-z][\w.]*[:_])*[A-Za-z]{0,8}\d[\w.:]*")


def is_pubtator(text: str) -> bool:
    return bool(_TEXT_LINE.match(text.lstrip()))


def from_pubtator(
    text: str,
    where: str = "text",
    *,
    ids: str = "auto",
    labels: bool = True,
    faults: Faults | None = None,
) -> list[Document]:
    """Documents of a PubTator file; the PubMed id is the title.

    The title is the first sentence. A mention of several concepts (`D006470|D003556`) counts for each, one
    without a concept (`-`, `-1`) for none; mentions of one concept form one entity, in order of first mention.
    A relation of a concept to itself is no pair of entities: it is left out and counted.

    Args:
        where: begins every message.
        ids: the characters that join several ids of a mention; "whole" if there are none. "auto" splits at any of
            `|,;+` if every part looks like an id, but not a variant's id, nor one that a relation names as a whole.
        labels: if false, relations are not read.
        faults: receives the faulty lines to leave out: offsets that do not fit their text, relations of concepts
            without a mention. Without it, the first is an error.
    """
    faults = faults or Faults(where)
    documents = []
    for i, block in enumerate(_blocks(text, where, faults)):
        with faults.part("document"):
            documents.append(_document(block, f"{where}: document {i}", ids, labels, faults))
    whole = faults.read["mention"] - len(faults.dropped.get("mention", ()))
    if whole and not any(document.entities for document in documents):
        faults.notes["mentions, none with a concept id, so there are no entities"] += whole
    return documents


Line = tuple[int, list[str]]  # its number, and its columns


@dataclass
class _Block:
    """A document as it is written."""

    id: str
    title: str
    abstract: str | None = None
    lines: list[Line] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"{self.title} {self.abstract or ''}"  # offsets count one character between the two


def _blocks(text: str, where: str, faults: Faults) -> Iterator[_Block]:
    block = None
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        match = _TEXT_LINE.match(line)
        if match and match[2] == "t":
            if block:
                yield block
            block = _Block(match[1], match[3])
            continue
        with faults.part("line"):
            _add(block, line, match, number, f"{where}: line {number}")
    if block:
        yield block


def _add(block: _Block | None, line: str, match: re.Match | None, number: int, at: str) -> None:
    """Adds a line to the document above it."""
    if match:
        if block is None or block.id != match[1] or block.abstract is not None:
            raise DataError(f"{at}: abstract of {match[1]} without a title before it; put `{match[1]}|t|…` above")
        block.abstract = match[3]
        return
    columns = line.split("\t")
    if len(columns) == 1 and block is not None and line.split()[0] == block.id:
        raise DataError(f"{at}: its columns are separated by spaces; PubTator separates them by tabs: replace them")
    if block is None or columns[0] != block.id:
        raise DataError(f"{at}: {line[:30]!r} belongs to no document above it; begin one with `id|t|title`")
    if len(columns) < 3:
        raise DataError(
            f"{at}: {len(columns)} columns; a mention has 6 (id, start, end, name, type, concept) and a relation 4 "
            "(id, type, concept, concept), separated by tabs"
        )
    block.lines.append((number, columns))


def _sorted(block: _Block) -> tuple[list[Line], list[Line], int]:
    """The lines of mentions, those of relations, and the number of notes."""
    mentions, relations, doubtful, notes = [], [], [], 0
    for number, columns in block.lines:
        if len(columns) == 3:
            notes += 1
        elif len(columns) == 4:
            relations.append((number, columns))
        elif len(columns) == 5:
            doubtful.append((number, columns))
        else:
            mentions.append((number, columns))
    named = {columns[5] for _, columns in mentions}
    for number, columns in doubtful:  # a mention without a concept, or a relation with a fifth column
        start, end = columns[1:3]
        spans = whole_number(start) and whole_number(end) and not {end, columns[3]} <= named
        (mentions if spans else relations).append((number, columns))
    return sorted(mentions), sorted(relations), notes


def _document(block: _Block, where: str, ids: str, labels: bool, faults: Faults) -> Document:
    here, text = place(where, block.id), block.text
    mentions, relations, notes = _sorted(block)
    if notes:
        faults.notes["lines of three columns, neither mention nor relation, passed over"] += notes
    arguments = {argument for _, columns in relations for argument in columns[2:4]}
    spans: dict[Span, None] = {}
    for number, columns in mentions:
        with faults.part("mention"):
            _check_mention(columns, text, mentions, len(block.title), f"{here}: line {number}")
            start, end, _, kind, *identity = columns[1:6]
            for concept in split_ids(identity[0] if identity else "", ids, faults, arguments):
                spans[Span(int(start), int(end), kind.strip(), concept)] = None
    document = build(block.id, text, list(spans), where, breaks=[len(block.title)])
    position = {entity.id: i for i, entity in enumerate(document.entities)}
    _note_types(document, faults)
    triples: dict[Triple, None] = {}
    for number, columns in relations if labels else ():
        with faults.part("relation"):
            at, relation = f"{here}: line {number}", columns[1].strip()
            if not relation:
                raise DataError(f"{at}: a relation without a type; give the type in its second column")
            heads, tails = (_named(argument.strip(), position, ids, at, relation) for argument in columns[2:4])
            pairs = [(h, t) for h in heads for t in tails if h != t]
            if not pairs:
                faults.notes["relations of a concept to itself, left out because that is no pair of entities"] += 1
            triples |= {Triple(block.id, h, relation, t): None for h, t in pairs}
    return replace(document, triples=tuple(triples))


def _check_mention(columns: list[str], text: str, mentions: list[Line], title: int, at: str) -> None:
    start, end, name = columns[1:4]
    if not (whole_number(start) and whole_number(end)):
        raise DataError(f"{at}: offsets {start[:20]!r}, {end[:20]!r} are not whole numbers; correct them")
    if not columns[4].strip():
        raise DataError(f"{at}: a mention without a type; give it in the fifth column")
    if squeezed(text[int(start) : int(end)]) != squeezed(name) or not name.strip():
        numbered = [c for _, c in mentions if whole_number(c[1]) and whole_number(c[2])]
        joined = {  # the title's length is where the character between title and abstract is
            "offsets leave out the space between title and abstract: count it": lambda text, a, b: (
                f"{text[:title]}{text[title + 1 :]}"[a:b]
            )
        }
        way = character_way(text, [(int(c[1]), int(c[2]), c[3]) for c in numbered], joined)
        raise DataError(
            f"{at}: characters {start} to {end} of the text are not {name[:40]!r}; "
            f"{way or 'offsets count from 0 over the title, one space and the abstract'}"
        )


def split_ids(identity: str, ids: str, faults: Faults, whole: Collection[str] = ()) -> tuple[str, ...]:
    """The concepts of a mention, from the ids that it has in the file; `ids` as in `from_pubtator`.

    `whole` are ids that are known to be one, whatever characters they hold.
    """
    identity = identity.strip()
    if identity.lower() in NO_CONCEPT:
        faults.facts["mentions without a concept"] += 1
        return ()
    separators = {"auto": SEPARATORS, "whole": ""}.get(ids, ids)
    parts = re.split(f"[{re.escape(separators)}]", identity) if separators else [identity]
    if ids == "auto" and len(parts) > 1:
        if identity in whole:
            parts = [identity]
        elif _VARIANT.match(identity):
            parts = re.split(r"[,;]", identity)
            parts = parts if all(_VARIANT.match(part) or _CONCEPT.fullmatch(part) for part in parts) else [identity]
        elif not all(_CONCEPT.fullmatch(part.strip()) or part.strip().lower() in NO_CONCEPT for part in parts):
            parts = [identity]
            faults.notes["ids that look joined but were read as one (if they are joined, say by what: ids)"] += 1
    found = dict.fromkeys(part.strip() for part in parts if part.strip().lower() not in NO_CONCEPT)
    if len(found) > 1:
        joints = " ".join(sorted({c for c in identity if c in separators}))
        faults.facts[f"mentions of several concepts, joined by {joints}"] += 1
    return tuple(found)


def _note_types(document: Document, faults: Faults) -> None:
    mixed = sum(len({mention.type for mention in entity.mentions}) > 1 for entity in document.entities)
    if mixed:
        faults.notes["entities whose mentions have several types, of which the first counts"] += mixed


def _named(argument: str, position: Mapping[str, int], ids: str, at: str, relation: str) -> list[int]:
    """The entities that a relation's column names: one concept, one with its type, or several of a mention."""
    if argument in position:
        return [position[argument]]
    bare = re.sub(r"^[A-Za-z]\w+[|:]", "", argument)
    if bare in position:
        return [position[bare]]
    parts = split_ids(argument, ids, Faults(at))
    if absent := [part for part in parts if part not in position] or ([] if parts else [argument]):
        raise DataError(
            f"{at}: {relation} names concept {absent[0]!r}, which no mention has; add a mention or remove the relation"
        )
    return [position[part] for part in parts]


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
            hypernym of Y if a tree number of X, followed by a point, begins one of Y's. `readers.read` also
            accepts a file: such JSON, or MeSH's descriptors in ASCII (d2025.bin).
    """
    gold = {(triple.head, triple.tail) for triple in document.triples}

    def above(general: int, specific: int) -> bool:
        upper, lower = (trees.get(document.entities[e].id or "", ()) for e in (general, specific))
        return any(low.startswith(f"{up}.") for up in upper for low in lower)

    def moot(head: int, tail: int) -> bool:
        return any(h == head and above(tail, t) for h, t in gold)

    kept = {pair for pair in document.pairs() if pair in gold or not moot(*pair)}
    return replace(document, candidates=frozenset(kept))


def tree_numbers(hypernyms: Mapping[str, Sequence[str]] | str | Path) -> Mapping[str, Sequence[str]]:
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
