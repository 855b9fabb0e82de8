"""Documents from a text and the spans of its mentions, whichever program found them.

The rule for entities, where nobody says which mentions belong together (`by_name`): two mentions are one entity if they
have the same type and the same name, compared without an article (the, a, an) at the start, without 's at the end, in
lower case, with one space for any run of spaces, and with compatible characters taken as one (NFKC). So "The
Tidal Society's" and "tidal society" are one entity; "Clara Ramvik", "Ramvik" and "she" are three.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import index
from typing import Any

from ..formats.text import Span, build, plain_name
from ..support import DataError
from ..support.checks import place
from ..types import Document

SHAPE = 'give (start, end, type), (start, end, type, entity), or {"start": …, "end": …, "type": …}'
FIELDS = ("start", "end", "type", "entity")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


def by_name(mentions: Iterable[tuple[str, str, Hashable | None]]) -> list[Hashable]:
    """The entity of each mention (name, type, entity or `None`): as given, else by the rule at the head of this module.

    A mention without entity joins a given entity that has a mention of the same name and type, if just one has.
    """
    mentions = [((plain_name(name), kind), key) for name, kind, key in mentions]
    given: dict[tuple[str, str], set] = defaultdict(set)
    for name, key in mentions:
        if key is not None:
            given[name].add(key)
    return [
        key if key is not None else next(iter(given[name])) if len(given[name]) == 1 else ("by name", *name)
        for name, key in mentions
    ]


def from_spans(text: str, spans: Iterable[Any], title: str = "text", *, where: str = "from_spans") -> Document:
    """One document from a text and its mentions, as character spans.

    A span is `(start, end, type)` or `(start, end, type, entity)`: characters `[start, end)` of the text, a type,
    and anything (a string or a whole number) that is the same for all mentions of an entity. Mappings with these keys
    are taken too (`label` means type), and other keys are ignored, apart from `text`: the name, which must be found
    at that place. Mentions without `entity` are grouped by name and type; the rule is at the head of this module.
    Strings that are not numbers become the ids of their entities.

    Mentions may nest and overlap; the same span twice in one entity counts once. Spaces at the ends of a span are
    left out. `formats.text` splits sentences and words, and a blank line ends a sentence.

    Args:
        where: begins every message, usually the file and the number of the document.

    Raises:
        DataError: one line naming the span, the fault and the way out. Offsets in bytes or UTF-16 units are named as
            such if they fit. Where they merely seem to be such offsets, a warning says so.
    """
    here = place(where, title)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{here}: no text; give a string with at least one word")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{here}: character {error.start} of the text is not valid Unicode; decode it again") from None
    read, names = [], []
    for i, span in enumerate(spans):
        at = f"{here}: span {i}"
        *fields, name = _fields(span, at)
        read.append(_checked(fields, at))
        names.append(name)
    _check_places(text, read, names, here)
    keys = by_name((text[a:b], kind, key) for a, b, kind, key in read)
    numbers = {key: str(n) for n, key in enumerate(dict.fromkeys(keys))}
    ids = {numbers[key]: key for key in numbers if isinstance(key, str) and not key.isdecimal()}
    numbered = [Span(a, b, kind, numbers[key]) for (a, b, kind, _), key in zip(read, keys, strict=True)]
    document = build(title, text, numbered, where, paragraphs(text))
    return replace(document, entities=tuple(replace(e, id=ids.get(e.id or "")) for e in document.entities))


def paragraphs(text: str) -> list[int]:
    """Where blank lines begin: a sentence ends there, with or without a full stop."""
    return [match.start() for match in _BLANK_LINE.finditer(text)]


def _fields(span: Any, at: str) -> Sequence[Any]:
    """Start, end, type, entity and name; the last two are `None` where they are not given."""
    if isinstance(span, Span):
        return span.start, span.end, span.type, span.key, None
    if isinstance(span, Mapping):
        values = {"type": span.get("label")} | dict(span)
        lacking = [name for name in FIELDS[:3] if values.get(name) is None]
        if lacking:
            raise DataError(f"{at}: field {lacking[0]}: missing; {SHAPE}")
        return *(values.get(name) for name in FIELDS), values.get("text")
    if isinstance(span, str | bytes) or not isinstance(span, Sequence) or len(span) not in (3, 4):
        raise DataError(f"{at}: {str(span)[:40]!r} is not a span; {SHAPE}")
    return *span, *([None] * (5 - len(span)))


def _checked(fields: Sequence[Any], at: str) -> tuple[int, int, str, str | None]:
    start, end, kind, key = fields
    for name, value in (("start", start), ("end", end)):
        if not _whole(value):
            raise DataError(f"{at}: field {name}: {str(value)[:30]!r} where a whole number belongs; {SHAPE}")
    if not isinstance(kind, str) or not kind.strip():
        raise DataError(f"{at}: field type: {str(kind)[:30]!r} where a type such as 'PER' belongs; {SHAPE}")
    if key is not None and not isinstance(key, str) and not _whole(key):
        raise DataError(f"{at}: field entity: {str(key)[:30]!r} where a string or a whole number belongs; {SHAPE}")
    return index(start), index(end), str(kind), None if key is None else str(key)


def _whole(value: Any) -> bool:
    """A whole number, numpy's too."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _check_places(text: str, spans: Sequence[tuple], names: Sequence[str | None], here: str) -> None:
    """Refuses spans that are empty, outside the text, or elsewhere than their names, and names the unit they fit."""

    def fault(start: int, end: int, name: str | None) -> str | None:
        if not 0 <= start < end:
            return "is empty"
        if end > len(text):
            return f"is outside the text of {len(text)} characters"
        if not text[start:end].strip():
            return "holds nothing but spaces"
        if name is not None and name.strip() != text[start:end].strip():
            return f"is {text[start:end][:30]!r} in the text, not {str(name)[:30]!r}"
        return None

    def fit(spans: Iterable[tuple[int, int] | None]) -> bool:
        return all(s is not None and not fault(*s, name) for s, name in zip(spans, names, strict=True))

    places = [(a, b) for a, b, *_ in spans]
    readings = {} if text.isascii() else {how: _read_as(text, places, *how) for how in UNITS}
    for i, (place_, name) in enumerate(zip(places, names, strict=True)):
        if found := fault(*place_, name):
            readings = readings | {("counted from 1", ""): [(a - 1, b - 1) for a, b in places]}
            readings |= {("with an inclusive end", ""): [(a, b + 1) for a, b in places]}
            # without names, only an end that is too large or a span without length tells one unit from another
            telling = any(names) or any(b > len(text) or a == b for a, b in places)
            fitting = {how: read for (how, _), read in readings.items() if telling and fit(read)}
            best = [how for how, read in fitting.items() if not any(_cuts(text, s) for s in read if s)] or [*fitting]
            hint = f"; they fit as offsets {' or '.join(best)}" if best else ""
            raise DataError(
                f"{here}: span {i}: [{place_[0]}, {place_[1]}] {found}; "
                f"give [first character, last character + 1]{hint}"
            )
    cut = sum(_cuts(text, s) for s in places)
    for (how, _), read in readings.items():
        if cut and fit(read) and not any(_cuts(text, s) for s in read if s):
            warnings.warn(
                f"{here}: {cut} of {len(places)} spans begin or end inside a word, and none would if they were offsets "
                f"{how}; give characters, as Python counts them",
                stacklevel=3,
            )


UNITS = (("in UTF-8 bytes", "utf-8"), ("in UTF-16 units, as JavaScript and Java count", "utf-16-le"))


def _read_as(text: str, places: Iterable[tuple[int, int]], how: str, encoding: str) -> list[tuple[int, int] | None]:
    """The characters at these places if they were bytes or UTF-16 units; `None` for a place inside a character."""
    width = 2 if encoding == "utf-16-le" else 1
    at, where = 0, {0: 0}
    for i, c in enumerate(text):
        at += len(c.encode(encoding)) // width
        where[at] = i + 1
    return [(where[a], where[b]) if a in where and b in where else None for a, b in places]


def _cuts(text: str, span: tuple[int, int]) -> bool:
    """Does the span begin or end inside a word?"""
    return any(text[i - 1 : i].isalnum() and text[i : i + 1].isalnum() for i in span)
