"""Pictures and tables of the book: documents, pair matrices, heat maps, curves, live source, stored results.

Nothing here is needed to train or predict. Figures come back closed, so a cell shows them once, by its last line.
Colour never speaks alone: entities carry their number, weights a bar, cells their sign, lines their dash and marker.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure
from torch import Tensor

from .types import Document, Triple

# Told apart by colour-blind readers and in greyscale: lightness climbs by 15 of 100 from one to the next.
COLOURS = ("#14284b", "#7d2560", "#0072b2", "#e07b00", "#7cc7b0")
SEQUENTIAL = "cividis"  # for amounts; perceptually even, safe for colour-blind readers
DIVERGING = "PuOr"  # for amounts with a sign
_TINTS = ("0,114,178", "213,94,0", "0,158,115", "170,68,153", "230,159,0", "86,180,233", "136,34,85", "120,120,120")
_SIGNS = {
    "stated": ("#7cc4ec", ""), "composed": ("#e8c62c", "*"),
    "hit": ("#7cc7b0", ""), "missed": ("#f2f2f2", "o"), "wrong": ("#f0a07a", "x"),
}  # fmt: skip
_PACKAGE = Path(__file__).resolve().parent


def style() -> None:
    """One look for all figures: sharp SVG, the book's colours, quiet axes. Call once at the head of a chapter."""
    lines = cycler(linestyle=["-", "--", "-.", ":", (0, (3, 1, 1, 1))], marker=["o", "s", "^", "D", "v"])
    sns.set_theme(style="ticks", rc={"figure.figsize": (6.4, 3.6), "figure.constrained_layout.use": True})
    plt.rcParams.update({"axes.prop_cycle": cycler(color=COLOURS) + lines, "lines.markersize": 5, "font.size": 10})
    plt.rcParams.update({"axes.titleweight": "bold", "axes.titlesize": 11, "axes.labelsize": 10})
    plt.rcParams["svg.hashsalt"] = "docre_lite"  # the same figure gives the same file
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # a script, not a notebook
        return
    set_matplotlib_formats("svg")


def document(document: Document, highlight: Iterable[int] = (), weights=None, evidence: Iterable[int] = ()) -> HTML:
    """The text with its entities, numbered; `highlight` entities stand out, `evidence` sentences carry a bar.

    `weights`, one a word of the document, shade the words and underline them in proportion.
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
        words = [opening[s, w] + next(shaded, escape(word)) + closing[s, w] for w, word in enumerate(sentence)]
        colour, note = ("#e07b00", ' title="evidence sentence"') if s in evidence else ("transparent", "")
        look = f"margin:.2em 0;padding-left:.6em;border-left:4px solid {colour}"
        rows.append(f'<p{note} style="{look}"><small>[{s}]</small> {" ".join(words)}</p>')
    return HTML(_frame("\n".join(rows)))


def heat(tokens: Sequence[str], weights) -> HTML:
    """A strip of tokens, shaded and underlined by their weights; hover for the number."""
    return HTML(_frame(f"<p>{' '.join(_shades(tokens, weights, f'there are {len(tokens)} tokens'))}</p>"))


def pair_matrix(
    matrix,
    names: Sequence[str],
    *,
    title: str = "",
    label: str = "",
    mask=None,
    numbers: bool | None = None,
    pairs: Iterable[tuple[int, int]] = (),
    limits: tuple[float, float] | None = None,
    diverging: bool = False,
) -> Figure:
    """An N x N matrix, heads in rows and tails in columns. `label` names the quantity and its unit.

    Cells outside `mask` (else the diagonal) stay empty; `pairs` are framed; `numbers` are written for N up to 12.
    """
    values = _array(matrix)
    n = len(names)
    if values.shape != (n, n):
        raise ValueError(f"a matrix of {n} names must be {n} x {n}, not {' x '.join(map(str, values.shape))}")
    hidden = np.eye(n, dtype=bool) if mask is None else _array(mask) == 0
    low, high = limits or (None, None)
    figure, axes = _square(n, names, title, room=1.4)
    sns.heatmap(
        values, mask=hidden, annot=n <= 12 if numbers is None else numbers, fmt=".2f", annot_kws={"size": 8}, ax=axes,
        vmin=low, vmax=high, center=0 if diverging else None, cmap=DIVERGING if diverging else SEQUENTIAL,
        square=True, linewidths=0.5, linecolor="#bbbbbb", cbar_kws={"label": label, "shrink": 0.8},
    )  # fmt: skip
    _entity_axes(axes, names)
    for head, tail in pairs:
        axes.add_patch(plt.Rectangle((tail, head), 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5))
    return figure


def triples_matrix(document: Document, predicted: Iterable[Triple] | None = None, title: str = "") -> Figure:
    """The gold triples of a document as a matrix; with `predicted`, what was hit, missed (o) and wrong (x).

    A number in a cell is a relation of the legend. Gold triples are stated in the text, or composed of others (*).
    """
    gold = {(t.head, t.tail, t.relation): t for t in document.triples}
    facts, found = set(gold), set(gold)
    if predicted is not None:
        found = {(t.head, t.tail, t.relation) for t in predicted if t.title == document.title}
        facts |= found

    def kind(fact) -> str:
        if fact not in gold:
            return "wrong"
        if fact not in found:
            return "missed"
        return "hit" if predicted is not None else "composed" if gold[fact].depth else "stated"

    relations = sorted({relation for _, _, relation in facts})
    names = [f"{entity.name} {i}" for i, entity in enumerate(document.entities)]
    figure, axes = _square(len(names), names, title or document.title, room=2.6)
    sns.heatmap(np.eye(len(names)), cmap=["white", "#cccccc"], cbar=False, ax=axes, linewidths=0.5, linecolor="#dddddd")
    axes.set_aspect("equal")
    cells, legend = defaultdict(list), {}
    for fact in sorted(facts):
        colour, mark = _SIGNS[kind(fact)]
        cells[fact[:2]].append(f"{relations.index(fact[2]) + 1}{mark}")
        patch = plt.Rectangle((fact[1], fact[0]), 1, 1, facecolor=colour, edgecolor="#777777", linewidth=0.5)
        legend[f"{kind(fact)} {mark}".strip()] = axes.add_patch(patch)
    for (head, tail), text in cells.items():
        axes.text(tail + 0.5, head + 0.5, " ".join(text), ha="center", va="center", size=8, color="black")
    for i, relation in enumerate(relations, 1):
        legend[f"{i} {relation}"] = plt.Rectangle((0, 0), 0, 0, alpha=0)
    axes.legend(legend.values(), legend, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=8)
    _entity_axes(axes, names)
    return figure


def curves(
    history, y: Sequence[str] = ("loss",), x: str = "step", xlabel: str = "", ylabel: str = "", title: str = ""
) -> Figure:
    """Lines over training. `history`: a table, or records (mappings or dataclasses) with the fields `x` and `y`.

    Fields of a field are written with a dot: `y=["loss", "scores.f1"]`.
    """
    table = _frame_of(history)
    figure, axes = plt.subplots()
    plt.close(figure)
    for name in y:
        known = table[[x, name]].dropna()
        axes.plot(known[x], known[name], label=name, markevery=max(1, len(known) // 12))
    axes.set(xlabel=xlabel or x, ylabel=ylabel or ", ".join(y), title=title)
    if len(y) > 1:
        axes.legend(frameon=False)
    sns.despine(figure)
    return figure


def bars(
    values: Mapping[str, float], errors: Mapping[str, float] | None = None, xlabel: str = "", title: str = ""
) -> Figure:
    """Horizontal bars with their numbers; `errors` are half-lengths of the whiskers (say in `xlabel` of what)."""
    figure, axes = plt.subplots(figsize=(6.4, 0.6 + 0.42 * len(values)))
    plt.close(figure)
    names, widths = list(values), [float(v) for v in values.values()]
    whiskers = None if errors is None else [float(errors[name]) for name in names]
    drawn = axes.barh(names, widths, xerr=whiskers, color=COLOURS[2], edgecolor="#14284b", capsize=3)
    axes.bar_label(drawn, fmt="%.1f", padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel=xlabel, title=title)
    sns.despine(figure)
    return figure


def alt(figure: Figure) -> str:
    """A first draft of a figure's alternative text, from its titles and axes; write what one should see in it."""
    said = []
    for axes in figure.axes:
        parts = (("", axes.get_title()), ("across: ", axes.get_xlabel()), ("down: ", axes.get_ylabel()))
        said.append("; ".join(name + text for name, text in parts if text))
    return ". ".join(filter(None, said))


def source(*objects) -> Markdown:
    """The source of functions or classes, read from the module while the cell runs: never pasted, never stale."""
    blocks = []
    for thing in objects:
        thing = inspect.unwrap(thing)
        file = Path(inspect.getsourcefile(thing)).resolve()
        where = file.relative_to(_PACKAGE.parent) if _PACKAGE in file.parents else file.name
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        blocks.append(f"`{thing.__qualname__}` in `{where}`\n\n```python\n{code}\n```")
    return Markdown("\n\n".join(blocks))


def say(text: str) -> Markdown:
    """A sentence with numbers that this chapter computed: `say(f"The model finds **{n}** triples.")`."""
    return Markdown(text)


def results(name: str = "") -> list[dict]:
    """Rows of the stored benchmarks whose file name starts with `name`; [] if there are none."""
    folders = (_PACKAGE / "results", _PACKAGE.parent / "benchmarks" / "results")
    folder = next((f for f in folders if f.is_dir()), folders[0])
    rows = []
    for file in sorted(folder.glob(f"{name}*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        rows += content if isinstance(content, list) else [content]
    return rows


def speed() -> dict[str, dict]:
    """The stored row of `docre-lite bench speed` by paper: on a CPU, in fp32."""
    rows = [r for r in results("speed") if r["precision"] == "fp32" and r["device"] == "cpu"]
    return {r["paper"]: r for r in rows}


def table(rows, caption: str = "", digits: int = 1) -> HTML:
    """Rows (mappings, dataclasses or a DataFrame) as a table with column headers and a caption."""
    text = _frame_of(rows).to_html(index=False, border=0, na_rep="", float_format=f"%.{digits}f", justify="left")
    text = text.replace("<th>", '<th scope="col">')
    if caption:
        text = text.replace("<thead>", f"<caption>{escape(caption)}</caption><thead>", 1)
    return HTML(_frame(text))


def _frame(html: str) -> str:
    return f'<div class="docre" style="overflow-x:auto;line-height:1.9">{html}</div>'


def _frame_of(rows) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame | Mapping):
        return pd.DataFrame(rows)
    return pd.json_normalize([dataclasses.asdict(r) if dataclasses.is_dataclass(r) else dict(r) for r in rows])


def _array(values) -> np.ndarray:
    return np.asarray(values.detach().float().cpu() if isinstance(values, Tensor) else values, dtype=float)


def _shades(words: Sequence[str], weights, what: str) -> Iterator[str]:
    values = _array(weights)
    if values.shape != (len(words),):
        raise ValueError(f"{what}, so `weights` must be {len(words)} numbers, not an array of shape {values.shape}")
    shares = values.clip(min=0) / max(values.max(initial=0), 1e-12)
    looks = [f"background:rgba(230,159,0,{0.4 * x:.2f});border-bottom:{round(5 * x)}px solid #b35900" for x in shares]
    spans = zip(words, values, looks, strict=True)
    return iter([f'<span title="{value:.3g}" style="{look}">{escape(word)}</span>' for word, value, look in spans])


def _square(n: int, names: Sequence[str], title: str, room: float) -> tuple[Figure, plt.Axes]:
    """A closed figure for an N x N matrix, with room for the names and, in inches, for what stands at the right."""
    side = max(2.2, 0.36 * n)
    margin = 0.07 * max(map(len, names), default=0) + 0.5
    figure, axes = plt.subplots(figsize=(side + margin + room, side + margin))
    plt.close(figure)
    axes.set_title(title)
    return figure, axes


def _entity_axes(axes: plt.Axes, names: Sequence[str]) -> None:
    places = np.arange(len(names)) + 0.5
    axes.set_xticks(places, names, rotation=90, fontsize=8)
    axes.set_yticks(places, names, rotation=0, fontsize=8)
    axes.tick_params(length=0)
    axes.set(xlabel="tail entity", ylabel="head entity")
    sns.despine(ax=axes, left=True, bottom=True)
