"""What to do with a faulty part of a file, and how a mention's position may be meant if it does not fit its name."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..support import DataError

FIT = 0.9  # share of mentions that must be what their name says
FEW = ("relation", "label", "candidate")  # small files have one or two of these, so all of them may be slips
SOME = 3  # so many are not
LENIENT = "drop it on reading: --lenient (in Python: strict=False)"

Span = tuple[int, int]  # start and end


class Faults:
    """Reads a file part by part. A faulty part is an error; with `lenient`, it is dropped and counted.

        with faults.part("mention"):
            mentions.append(...)  # a DataError in here leaves this mention out

    Attributes:
        read: parts read, by kind, faulty ones included.
        dropped: the message of each fault, by kind.
        notes: warnings about the whole file, each with its count.
        facts: what `docre-lite data info` tells of the file beside them.
    """

    def __init__(self, where: str, lenient: bool = False):
        self.where, self.lenient = where, lenient
        self.read: Counter[str] = Counter()
        self.dropped: dict[str, list[str]] = {}
        self.notes: Counter[str] = Counter()
        self.facts: Counter[str] = Counter()

    @contextmanager
    def part(self, kind: str) -> Iterator[None]:
        self.read[kind] += 1
        try:
            yield
        except DataError as fault:
            if not self.lenient:
                raise
            self.dropped.setdefault(kind, []).append(str(fault))

    def tell(self, kept: int) -> None:
        """Warns of what was dropped and noted. Raises DataError if it was more than half, or if no document is left."""
        for note, count in self.notes.items():
            warnings.warn(f"{self.where}: {note}: {count}", stacklevel=4)
        if not self.dropped:
            return
        faulty = {kind: len(faults) for kind, faults in self.dropped.items()}
        counts = ", ".join(f"{n} of {self.read[kind]} {kind}s" for kind, n in faulty.items())
        first = next(iter(self.dropped.values()))[0].removeprefix(f"{self.where}: ")
        told = f"{self.where}: dropped {counts} as faulty; the first: {first}"
        much = [k for k, n in faulty.items() if 2 * n > self.read[k] and (n >= SOME or k not in FEW)]
        if much or not kept or 2 * sum(faulty.values()) > self.read.total():
            raise DataError(f"{told}; this is more than half of them, so the file needs another reading, not a filter")
        warnings.warn(told, stacklevel=4)


def whole_number(string: str) -> bool:
    return string.isascii() and string.isdigit() and len(string) < 10


def squeezed(text: str) -> str:
    """The text without spaces, which tokenizers and names treat differently."""
    return "".join(text.split())


def better(fits: Callable[[str], float], ways: Iterable[str]) -> str | None:
    """The first way to read positions under which nearly all mentions are what their name says, and more than as given.

    `fits` is the share of mentions that are, `""` means as given.
    """
    least = max(FIT, fits("") + 1e-9)
    return next((way for way in ways if way and fits(way) >= least), None)


# --- positions in words ---------------------------------------------------------------------------------------------

Place = tuple[str, int, int, int]  # name, sentence, start, end


def spoken(sentences: Sequence[Sequence[str]], sentence: int, start: int, end: int) -> str:
    inside = 0 <= sentence < len(sentences) and 0 <= start < end
    return squeezed("".join(sentences[sentence][start:end])) if inside else ""


WORDS: dict[str, Callable[[Sequence[Sequence[str]], int, int, int], str]] = {
    "": spoken,
    "positions count from 1: subtract 1 from both": lambda s, k, a, b: spoken(s, k, a - 1, b - 1),
    "an end is the mention's last word: add 1 to it": lambda s, k, a, b: spoken(s, k, a, b + 1),
    "positions count from 1 and include the last word: subtract 1 from the start": lambda s, k, a, b: spoken(
        s, k, a - 1, b
    ),
    "sentences count from 1: subtract 1 from sent_id": lambda s, k, a, b: spoken(s, k - 1, a, b),
    "positions count words of the whole document: give those of the sentence": lambda s, k, a, b: spoken(
        [[w for sentence in s for w in sentence]], 0, a, b
    ),
    "positions count characters of the sentence: give words": lambda s, k, a, b: (
        squeezed(" ".join(s[k])[a:b]) if 0 <= k < len(s) and 0 <= a < b else ""
    ),
    "positions count characters of the document: give words of the sentence": lambda s, k, a, b: (
        squeezed(" ".join(w for sentence in s for w in sentence)[a:b]) if 0 <= a < b else ""
    ),
}


def agree(documents: Iterable[tuple[Sequence[Sequence[str]], Sequence[Place]]], way: str = "") -> tuple[int, int]:
    """How many mentions are what their name says under a way to read their positions, and of how many."""
    right = total = 0
    for sentences, places in documents:
        for name, *place in places:
            if name := squeezed(name):
                total += 1
                right += WORDS[way](sentences, *place) == name
    return right, total


def way_of(documents: Sequence[tuple[Sequence[Sequence[str]], Sequence[Place]]]) -> str | None:
    """How the positions seem to be meant, if not as words `[start, end)` of a sentence."""

    def fits(way: str) -> float:
        right, total = agree(documents, way)
        return right / total if total else 0.0

    return better(fits, WORDS)


# --- positions in characters ----------------------------------------------------------------------------------------


def _encoded(encoding: str, width: int) -> Callable[[str, int, int], str]:
    def cut(text: str, start: int, end: int) -> str:
        return text.encode(encoding, "surrogatepass")[width * start : width * end].decode(encoding, "replace")

    return cut


def _without(characters: str) -> Callable[[str, int, int], str]:
    def cut(text: str, start: int, end: int) -> str:
        return "".join(c for c in text if c not in characters)[start:end]

    return cut


CHARACTERS: dict[str, Callable[[str, int, int], str]] = {
    "": lambda text, a, b: text[a:b],
    "offsets count from 1: subtract 1 from both": lambda text, a, b: text[a - 1 : b - 1] if a else "",
    "an end is the mention's last character: add 1 to it": lambda text, a, b: text[a : b + 1],
    "offsets count from 1 and include the last character: subtract 1 from the start": lambda text, a, b: (
        text[a - 1 : b] if a else ""
    ),
    "offsets count bytes of UTF-8: count characters": _encoded("utf-8", 1),
    "offsets count UTF-16 code units, as in JavaScript and Java: count characters": _encoded("utf-16-le", 2),
    "offsets count a line end as two characters: count one": lambda text, a, b: text.replace("\n", "\r\n")[a:b],
    "offsets leave out line ends: count them": _without("\r\n"),
    "offsets leave out all spaces: count them": _without(" \n\r\t"),
}


Ways = Mapping[str, Callable[[str, int, int], str]]


def character_way(text: str, named: Sequence[tuple[int, int, str]], more: Ways | None = None) -> str | None:
    """How the offsets of mentions (start, end, name) seem to be meant, if not as characters `[start, end)`.

    `more` are ways of one format alone.
    """

    ways = CHARACTERS | (more or {})

    def fits(way: str) -> float:
        right = [ways[way](text, a, b) in (name, squeezed(name)) for a, b, name in named]
        return sum(right) / len(right) if right else 0.0

    return better(fits, ways)
