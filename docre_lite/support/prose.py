"""Words set as a typesetter would: documents are lists of words, and a reader wants "Selmouth, which"."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

# Words that join the one before them, and words that join the next.
_CLOSES = re.compile(r"[,.;:!?%)\]}’”…']+|['’](s|t|re|ve|ll|d|m)|n['’]t", re.IGNORECASE)
_OPENS = re.compile(r"[(\[{“‘]+")


def gaps(words: Sequence[str]) -> list[str]:
    """The separator before each word: a space or nothing. Straight double quotes open and close in turn."""
    out, close, quoted = [], True, False
    for word in words:
        ends = quoted if word == '"' else bool(_CLOSES.fullmatch(word))
        out.append("" if close or ends else " ")
        close = not quoted if word == '"' else bool(_OPENS.fullmatch(word))
        quoted ^= word == '"'
    return out


def printable(text: str) -> str:
    """The text with control characters, and those that turn the direction of writing, as JSON's escapes.

    A stranger's title or file name must not steer the terminal.
    """
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def joined(words: Sequence[str]) -> str:
    """The words as a line of text."""
    return "".join(gap + word for gap, word in zip(gaps(words), words, strict=True))
