"""What chapters show as HTML: documents, weighted tokens, live source, tables."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from torch import Tensor

from ..support import PACKAGE
from ..support.prose import gaps, joined
from ..types import Document, Mention

_TINTS = ("0,114,178", "213,94,0", "0,158,115", "170,68,153", "230,159,0", "86,180,233", "136,34,85", "120,120,120")


def document(document: Document, highlight: Iterable[int] = (), weights=None, evidence: Iterable[int] = ()) -> HTML:
    """The text with its entities, numbered; `highlight` entities stand out, `evidence` sentences carry a bar.

    `weights`, one per word of the document, shade the words and underline them in proportion.
    """
    highlight, evidence, shaded = set(highlight), set(evidence), iter(())
    if weights is not None:
        what = f"document {document.title!r} has {document.words} words"
        shaded = _shades([word for sentence in document.sentences for word in sentence], weights, what)
    opening, closing = defaultdict(str), defaultdict(str)
    for number, entity in enumerate(document.entities):
        strong = "font-weight:700;outline:2px solid" if number in highlight else ""
        look = f"background:rgba({_TINTS[number % len(_TINTS)]},.28);border-radius:3px;padding:0 2px;{strong}"
        for m in entity.mentions:
            about = escape(f"entity {number}: {entity.name}, type {m.type}")
            opening[m.sentence, m.start] += f'<span title="{about}" style="{look}">'
            closing[m.sentence, m.end - 1] += f"<sup>{number}</sup></span>"
    rows = [f"<p><strong>{escape(document.title)}</strong></p>"]
    for s, sentence in enumerate(document.sentences):
        words = [
            gap + opening[s, w] + next(shaded, escape(word)) + closing[s, w]
            for w, (gap, word) in enumerate(zip(gaps(sentence), sentence, strict=True))
        ]
        colour, note = ("#e07b00", ' title="evidence sentence"') if s in evidence else ("transparent", "")
        look = f"margin:.2em 0;padding-left:.6em;border-left:4px solid {colour}"
        rows.append(f'<p{note} style="{look}"><small>[{s}]</small> {"".join(words)}</p>')
    return HTML(_frame("\n".join(rows)))


def sentence(words: Sequence[str]) -> str:
    """A sentence of a document for readers: "Selmouth, which", not "Selmouth , which". Tokens stay as they are."""
    return joined(words)


def starred(document: Document) -> Document:
    """The document as the encoder reads it, ATLOP section 3.1: a star before and after each mention, as a word.

    With a word-level encoder, `attention[1:-1]` of a pair is one weight per word of it.
    """
    spans = {(m.sentence, m.start, m.end) for entity in document.entities for m in entity.mentions}
    sentences, place = [], {}
    for s, sentence in enumerate(document.sentences):
        words: list[str] = []
        for w, word in enumerate(sentence):
            words += ["*"] * sum((s, w) == (line, start) for line, start, _ in spans)
            place[s, w] = len(words)
            words.append(word)
            words += ["*"] * sum((s, w + 1) == (line, end) for line, _, end in spans)
        sentences.append(tuple(words))

    def moved(m: Mention) -> Mention:
        return dataclasses.replace(m, start=place[m.sentence, m.start], end=place[m.sentence, m.end - 1] + 1)

    entities = tuple(dataclasses.replace(e, mentions=tuple(map(moved, e.mentions))) for e in document.entities)
    return dataclasses.replace(document, sentences=tuple(sentences), entities=entities)


def heat(tokens: Sequence[str], weights) -> HTML:
    """A strip of tokens, shaded and underlined by their weights; hover for the number."""
    return HTML(_frame(f"<p>{' '.join(_shades(tokens, weights, f'there are {len(tokens)} tokens'))}</p>"))


def source(*objects) -> Markdown:
    """The source of functions or classes, read from the module while the cell runs: never pasted, never stale."""
    blocks = []
    for thing in objects:
        thing = inspect.unwrap(thing)
        file = Path(inspect.getsourcefile(thing)).resolve()
        where = file.relative_to(PACKAGE.parent) if PACKAGE in file.parents else file.name
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        blocks.append(f"`{thing.__qualname__}` in `{where}`\n\n```python\n{code}\n```")
    return Markdown("\n\n".join(blocks))


def say(text: str) -> Markdown:
    """A sentence with numbers that this chapter computed: `say(f"The model finds **{n}** triples.")`."""
    return Markdown(text)


def table(rows, caption: str = "", digits: int = 1) -> HTML:
    """Rows (mappings, dataclasses or a DataFrame) as a table with column headers and a caption."""
    text = records(rows).to_html(index=False, border=0, na_rep="", float_format=f"%.{digits}f", justify="left")
    text = text.replace("<th></th>", "<td></td>").replace("<th>", '<th scope="col">')  # an empty header is none
    if caption:
        text = text.replace("<thead>", f"<caption><span>{escape(caption)}</span></caption><thead>", 1)
    return HTML(_frame(text))


def _frame(html: str) -> str:
    return f'<div class="docre" style="overflow-x:auto;line-height:1.9">{html}</div>'


def records(rows) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame | Mapping):
        return pd.DataFrame(rows)
    return pd.json_normalize([dataclasses.asdict(r) if dataclasses.is_dataclass(r) else dict(r) for r in rows])


def _shades(words: Sequence[str], weights, what: str) -> Iterator[str]:
    values = array(weights)
    if values.shape != (len(words),):
        raise ValueError(f"{what}, so `weights` must be {len(words)} numbers, not an array of shape {values.shape}")
    shares = values.clip(min=0) / max(values.max(initial=0), 1e-12)
    looks = [f"background:rgba(230,159,0,{0.4 * x:.2f});border-bottom:{round(5 * x)}px solid #b35900" for x in shares]
    spans = zip(words, values, looks, strict=True)
    return iter([f'<span title="{value:.3g}" style="{look}">{escape(word)}</span>' for word, value, look in spans])


def array(values) -> np.ndarray:
    return np.asarray(values.detach().float().cpu() if isinstance(values, Tensor) else values, dtype=float)
