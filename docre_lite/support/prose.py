"""Words set as a typesetter would: documents are lists of words, and a reader wants "Selmouth, which"."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What stands close to the word before it, and what stands close to the next.
_CLOSES = re.compile(r"[,.;:!?%)\]}’”…']+|['’](s|t|re|ve|ll|d|m)|n['’]t", re.IGNORECASE)
_OPENS = re.compile(r"[(\[{“‘]+")


def gaps(words: Sequence[str]) -> list[str]:
    """What stands before each word of a sentence: a space or nothing. Straight double quotes open and close in turn."""
    out, close, quoted = [], True, False
    for word in words:
        ends = quoted if word == '"' else bool(_CLOSES.fullmatch(word))
        out.append("" if close or ends else " ")
        close = not quoted if word == '"' else bool(_OPENS.fullmatch(word))
        quoted ^= word == '"'
    return out


def joined(words: Sequence[str]) -> str:
    """The words as a line of text."""
    return "".join(gap + word for gap, word in zip(gaps(words), words, strict=True))
