"""Character text to documents: one plain rule for sentences and words, and marked-up text.

The rule, in full (made for English and other languages with spaces and Latin punctuation):

* A *word* is a run of letters and digits, a number with its inner points and commas (3.5, 1,000), initials
  with their points (U.S., e.g.), a clitic ('s 't 're 've 'll 'd 'm), a run of points (...), or any other
  single character that is not a space. So words end at hyphens and slashes.
* A word is cut where a mention begins or ends, so that a mention is always a whole number of words.
* A *sentence* ends after . ! or ? (with closing quotes and brackets) before a space and a capital letter, a
  digit or an opening quote or bracket; not after an abbreviation of `ABBREVIATIONS`, not after a single
  letter (J. Smith, U.S.), and never inside a mention. In case of doubt it does not end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from ..support import DataError
from ..support.checks import place
from ..types import Document, Entity, Mention

ABBREVIATIONS = frozenset(
    "al approx apr aug ca capt cf co col corp dec dr ed eds eq eqs feb fig figs ft gen gov hon inc jan jr jul jun lt "
    "ltd maj mar messrs mr mrs ms mt no nos nov oct pp prof pt ref refs rep resp rev sen sep sept sgt spp sr st ste "
    "viz vol vols vs".split()
)
_WORD = re.compile(
    r"""(?<![^\W_])(?:[^\W\d_]\.){2,}       # initials and e.g.: letter, point, letter, point
    | \d+(?:[.,]\d+)+                       # 3.5  1,000,000
    | ['’](?:s|t|re|ve|ll|d|m)(?![^\W_])    # clitics
    | (?:[^\W_][\u0300-\u036f]*)+           # letters and digits, with combining accents
    | \.{2,}
    | \S""",
    re.VERBOSE | re.IGNORECASE,
)
# A run of points is looked at once, from its start. The group is the first letter of what follows.
_END = re.compile(r"""(?<![.!?])[.!?]++["'”’)\]]*+(?=\s+["'“‘(\[]*([^\W_]))""")
_LAST_WORD = re.compile(r"([^\W\d_]+)\.$")


@dataclass(frozen=True, slots=True)
class Span:
    """A mention in characters `[start, end)` of the text; `key` identifies its entity."""

    start: int
    end: int
    type: str
    key: str


def split_sentences(text: str, spans: Iterable[Span] = (), breaks: Iterable[int] = ()) -> list[tuple[int, int]]:
    """Sentences as character ranges. `breaks` are places where a sentence always ends (after a title)."""
    inside = [(s.start, s.end) for s in spans]
    ends = {m.end() for m in _END.finditer(text) if not _goes_on(text, m)} | set(breaks)
    ends = {e for e in ends if not any(start < e < end for start, end in inside)}
    cuts = sorted({0, len(text), *ends})
    return [(a, b) for a, b in pairwise(cuts) if text[a:b].strip()]


def _goes_on(text: str, end: re.Match) -> bool:
    """Does the sentence continue after this point: a small letter follows, or it belongs to an abbreviation?"""
    if end[1].islower():
        return True
    last = _LAST_WORD.search(text[max(0, end.start() - 40) : end.end()])
    return last is not None and (len(last[1]) == 1 or last[1].lower() in ABBREVIATIONS)


def split_words(text: str, start: int, end: int, cuts: Iterable[int] = ()) -> list[tuple[int, int]]:
    """Words of `text[start:end]` as character ranges, also cut at the places in `cuts`."""
    words = []
    inner = sorted(c for c in set(cuts) if start < c < end)
    for match in _WORD.finditer(text, start, end):
        a, b = match.span()
        here = [c for c in inner if a < c < b]
        words += zip([a, *here], [*here, b], strict=True)
    return words


def build(title: str, text: str, spans: list[Span], where: str, breaks: Iterable[int] = ()) -> Document:
    """A document from text and mentions in characters: one entity per key, in order of first mention."""
    here = place(where, title)
    for span in spans:
        if not 0 <= span.start < span.end <= len(text) or not text[span.start : span.end].strip():
            raise DataError(
                f"{here}: mention [{span.start}, {span.end}] is empty or outside the text of {len(text)} characters; "
                "give [first character, last character + 1]"
            )
    spans = sorted((_stripped(span, text) for span in spans), key=lambda s: (s.start, s.end))
    cuts = {c for s in spans for c in (s.start, s.end)}
    sentences = [split_words(text, a, b, cuts) for a, b in split_sentences(text, spans, breaks)]
    starts = {a: (s, w) for s, words in enumerate(sentences) for w, (a, _) in enumerate(words)}
    ends = {b: w + 1 for words in sentences for w, (_, b) in enumerate(words)}
    mentions: dict[str, dict[Mention, None]] = {}
    for span in spans:
        sentence, start = starts[span.start]
        name = " ".join(text[span.start : span.end].split())
        mention = Mention(name, sentence, start, ends[span.end], span.type)
        mentions.setdefault(span.key, {})[mention] = None
    return Document(
        title=title,
        sentences=tuple(tuple(text[a:b] for a, b in words) for words in sentences),
        entities=tuple(Entity(tuple(m), id=key) for key, m in mentions.items()),
    )


def _stripped(span: Span, text: str) -> Span:
    """The span without the spaces at its ends, which belong to no word."""
    name = text[span.start : span.end]
    start = span.start + len(name) - len(name.lstrip())
    return replace(span, start=start, end=start + len(name.strip()))


def plain_name(name: str) -> str:
    """The name as it is compared where only names tell what is one entity: see `front.spans`."""
    name = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return re.sub(r"^(?:the|an?) (?=.)|(?<=.) ?['’]s$", "", name)


# --- marked-up text -------------------------------------------------------------------------------------------------

_MARK = re.compile(r"\[[^\[\]|\n]*(?:\[[^\[\]]*\][^\[\]|\n]*)*\|[^|\[\]\n]+\|[^|\[\]\n]+\]")


def is_marked_up(text: str) -> bool:
    """Does the text hold at least one mention `[name|TYPE|number]`?"""
    return bool(_MARK.search(text))


def from_text(text: str, title: str = "text") -> Document:
    """One document from marked-up text: `[Marie Curie|PER|1] was born in [Warsaw|LOC|2].`

    A mention is `[name|TYPE|number]`; mentions with the same number form one entity. Anything but a number
    becomes the entity's id (`[Warsaw|LOC|Q270]`). Mentions may nest: `[[Paris|LOC|2] Opera|ORG|3]`. Other
    brackets are text; a backslash keeps `[`, `]` and `|` from being read as marks. A first line `# Title`
    gives the document's title. The rule at the head of this module splits sentences and words.

    Raises:
        DataError: for an unclosed mark, one that lacks a part, or several documents (blank lines).
    """
    documents = from_texts(text, title)
    if len(documents) != 1:
        raise DataError(
            f"{title}: {len(documents)} documents where one belongs (a blank line separates documents); "
            "join the paragraphs, or use from_texts for several"
        )
    return documents[0]


def from_texts(text: str, title: str = "text", where: str | None = None) -> list[Document]:
    """The documents of a marked-up text, separated by blank lines; without a title they are numbered."""
    blocks = [b for b in re.split(r"\n[^\S\n]*(?:\n[^\S\n]*)+", text.replace("\r\n", "\n").strip()) if b.strip()]
    documents = []
    for i, block in enumerate(blocks):
        at = f"{where or title}: document {i}"
        name = title if len(blocks) == 1 else f"{title} {i}"
        first, _, rest = block.partition("\n")
        if first.startswith("# "):
            name, block = first[2:].strip() or name, rest
        if not block.strip():
            raise DataError(f"{place(at, name)}: a title without text; add the text below it")
        documents.append(_marked_up(block, name, at))
    return documents


def _marked_up(marked: str, title: str, where: str) -> Document:
    here = place(where, title)
    text: list[str] = []  # characters of the plain text
    spans: list[Span] = []
    opened: list[tuple[int, list[int]]] = []  # where a bracket opened in `text`, and its own bars
    i = 0
    while i < len(marked):
        c = marked[i]
        if c == "\\" and marked[i + 1 : i + 2] in ("[", "]", "|"):
            text.append(marked[i + 1])
            i += 2
            continue
        if c == "[":
            opened.append((len(text), []))
        elif c == "|" and opened:
            opened[-1][1].append(len(text))
        elif c == "]" and opened:
            start, bars = opened.pop()
            if bars:
                name, *rest = _parts(text, start + 1, bars)
                if len(rest) != 2 or not all(part.strip() for part in (name, *rest)):
                    raise DataError(
                        f"{here}: mention {''.join(text[start:])[:40] + ']'!r} does not have three parts; "
                        "write [name|TYPE|number], or a backslash before brackets that are text"
                    )
                del text[bars[0] :], text[start]
                for k, span in enumerate(spans):  # the bracket before inner mentions was removed
                    if span.start > start:
                        spans[k] = Span(span.start - 1, span.end - 1, span.type, span.key)
                spans.append(Span(start, len(text), rest[0].strip(), rest[1].strip()))
                i += 1
                continue
        text.append(c)
        i += 1
    for start, bars in opened:
        if bars:
            raise DataError(
                f"{here}: mention {''.join(text[start:])[:40]!r} is not closed; "
                "write [name|TYPE|number], or a backslash before a bracket that is text"
            )
    document = build(title, "".join(text), spans, where)
    entities = tuple(Entity(e.mentions, id=None if e.id.isdecimal() else e.id) for e in document.entities)
    return Document(title, document.sentences, entities)


def _parts(text: list[str], start: int, bars: list[int]) -> list[str]:
    ends = [*bars, len(text)]
    return ["".join(text[a:b]) for a, b in zip([start, *(b + 1 for b in bars)], ends, strict=True)]
