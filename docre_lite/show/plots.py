"""What chapters show as figures: matrices over entity pairs, curves, bars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.figure import Figure

from ..types import Document, Triple
from .inks import INK, PAPER, parameters
from .phone import render
from .text import array, records

# Distinguished by colour-blind readers and in greyscale: lightness climbs by 15 of 100 from one to the next.
COLOURS = ("#14284b", "#7d2560", "#0072b2", "#e07b00", "#7cc7b0")
SEQUENTIAL = "cividis"  # for amounts; perceptually even, safe for colour-blind readers
DIVERGING = "PuOr"  # for amounts with a sign
_CODES = {"parent_organization": "org", "publication_date": "dat"}  # part_of is `par`, publisher is `pub`
_SIGNS = {
    "stated": ("#7cc4ec", ""), "composed": ("#e8c62c", "*"),
    "hit": ("#7cc7b0", ""), "missed": ("#f2f2f2", "o"), "wrong": ("#f0a07a", "x"),
}  # fmt: skip


def style() -> None:
    """One look for all figures: sharp SVG, the book's colours, quiet axes. Call once at the head of a chapter.

    In a notebook a figure carries a second drawing for phones, see `docre_lite.show.phone`.
    """
    lines = cycler(linestyle=["-", "--", "-.", ":", (0, (3, 1, 1, 1))], marker=["o", "s", "^", "D", "v"])
    sns.set_theme(style="ticks", rc={"figure.figsize": (6.4, 3.6), "figure.constrained_layout.use": True})
    plt.rcParams.update({"axes.prop_cycle": cycler(color=COLOURS) + lines, "lines.markersize": 5, "font.size": 10})
    plt.rcParams.update({"axes.titleweight": "bold", "axes.titlesize": 11, "axes.labelsize": 10})
    plt.rcParams.update(parameters())
    plt.rcParams["svg.hashsalt"] = "docre_lite"  # the same figure gives the same file
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # a script, not a notebook
        return
    set_matplotlib_formats("svg")
    if kernel := get_ipython():
        kernel.display_formatter.formatters["image/svg+xml"].for_type(Figure, render)


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
    digits: int = 2,
) -> Figure:
    """An N x N matrix, heads in rows and tails in columns. `label` names the quantity and its unit.

    Cells outside `mask` (else the diagonal) stay empty; `pairs` are framed; `numbers` are written for N up to 12,
    with so many `digits` after the point.
    """
    values = array(matrix)
    n = len(names)
    if values.shape != (n, n):
        raise ValueError(f"a matrix of {n} names must be {n} x {n}, not {' x '.join(map(str, values.shape))}")
    hidden = np.eye(n, dtype=bool) if mask is None else array(mask) == 0
    low, high = limits or (None, None)
    figure, axes = _square(n, names, title, below=0.7)
    sns.heatmap(
        values, mask=hidden, annot=n <= 12 if numbers is None else numbers, fmt=f".{digits}f", annot_kws={"size": 8},
        ax=axes, vmin=low, vmax=high, center=0 if diverging else None, cmap=DIVERGING if diverging else SEQUENTIAL,
        square=True, linewidths=0.5, linecolor="#bbbbbb",
        cbar_kws={"label": label, "orientation": "horizontal", "shrink": 0.8, "aspect": 30},
    )  # fmt: skip
    _entity_axes(axes, names)
    for head, tail in pairs:
        axes.add_patch(plt.Rectangle((tail, head), 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5))
    return figure


def triples_matrix(document: Document, predicted: Iterable[Triple] | None = None, title: str = "") -> Figure:
    """The gold triples of a document as a matrix; with `predicted`, what was hit, missed (o) and wrong (x).

    Three letters in a cell name a relation, the same in every figure; the legend spells them out. Gold triples are
    stated in the text, or composed of others (*).
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

    codes = relation_codes({relation for _, _, relation in facts})
    names = [f"{entity.name} {i}" for i, entity in enumerate(document.entities)]
    figure, axes = _square(len(names), names, title or document.title, beside=2.6)
    sns.heatmap(np.eye(len(names)), cmap=[PAPER, "#cccccc"], cbar=False, ax=axes, linewidths=0.5, linecolor="#dddddd")
    axes.set_aspect("equal")
    cells, legend = defaultdict(list), {}
    for fact in sorted(facts):
        colour, mark = _SIGNS[kind(fact)]
        cells[fact[:2]].append(codes[fact[2]] + (f" {mark}" if mark.isalpha() else mark))
        patch = plt.Rectangle((fact[1], fact[0]), 1, 1, facecolor=colour, edgecolor="#777777", linewidth=0.5)
        legend[f"{kind(fact)} {mark}".strip()] = axes.add_patch(patch)
    for (head, tail), text in cells.items():
        look = {"ha": "center", "va": "center", "linespacing": 0.9, "size": 8 if len(text) < 3 else 6}
        axes.text(tail + 0.5, head + 0.5, _literal("\n".join(text)), color=INK, **look)
    for relation, code in codes.items():
        legend[f"{code} {relation}"] = plt.Rectangle((0, 0), 0, 0, alpha=0)
    axes.legend(legend.values(), legend, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=8)
    _entity_axes(axes, names)
    return figure


def relation_codes(relations: Iterable[str]) -> dict[str, str]:
    """Three letters for each relation, in order of its name: `pob` for place_of_birth, `sib` for sibling.

    Those of the embedded corpus never depend on which others are there. Other names take as many letters as they need.
    """
    codes: dict[str, str] = {}
    for name in sorted(relations):
        words = name.split("_")
        code = _CODES.get(name) or ("".join(w[0] for w in words) if len(words) == 3 and all(words) else name[:3])
        more = (name[:size] for size in range(4, len(name) + 1))
        while code in codes.values() and code != name:
            code = next(more, name)
        codes[name] = code
    return codes


def curves(
    history, y: Sequence[str] = ("loss",), x: str = "step", xlabel: str = "", ylabel: str = "", title: str = ""
) -> Figure:
    """Lines over training. `history`: a table, or records (mappings or dataclasses) with the fields `x` and `y`.

    Fields of a field are written with a dot: `y=["loss", "scores.f1"]`.
    """
    table = records(history)
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
    names, widths = [_literal(name) for name in values], [float(v) for v in values.values()]
    whiskers = None if errors is None else [float(errors[name]) for name in values]
    drawn = axes.barh(names, widths, xerr=whiskers, color=COLOURS[2], edgecolor="#14284b", capsize=3)
    axes.bar_label(drawn, fmt="%.1f", padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel=xlabel, title=title)
    sns.despine(figure)
    return figure


def forest(differences: Mapping[str, Any], xlabel: str = "difference in F1 (points)", title: str = "") -> Figure:
    """Paired differences by name, as `bench.results.difference` gives them: mean, 95 % interval, the paper's beside it.

    A filled dot has a verdict, a hollow one has none; the band is where a difference makes no difference (±1 point).
    Differences by name, by score, are drawn side by side, a panel for each score with its name on the axis; a name
    that one score lacks leaves a gap in its panel.
    """
    panels = differences if isinstance(next(iter(differences.values()), None), Mapping) else {xlabel: differences}
    rows = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    width = 6.4 if len(panels) == 1 else 3.6 + 2.1 * len(panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(width, 1.1 + 0.42 * len(rows)), sharey=True, squeeze=False)
    plt.close(figure)
    for panel, (score, found) in zip(axes[0], panels.items(), strict=True):
        _forest(panel, {rows.index(name): one for name, one in found.items() if one is not None})
        panel.set(xlabel=score, ylim=(len(rows) - 0.4, -0.6))
    handles = [
        plt.Line2D([], [], linestyle="none", marker="o", color=COLOURS[2], label="ours, 95 % interval"),
        plt.Line2D([], [], linestyle="none", marker="D", markersize=4, color=COLOURS[3], label="the paper, DocRED"),
    ]
    look = {"handles": handles, "frameon": False, "fontsize": 8, "ncols": 2}
    if len(panels) == 1:
        axes[0, 0].legend(**look, loc="lower center", bbox_to_anchor=(0.5, 1))
        axes[0, 0].set_title(title)
    else:
        figure.legend(**look, loc="outside upper center")
        figure.suptitle(title)
    axes[0, 0].set_yticks(range(len(rows)), rows)
    sns.despine(figure)
    return figure


def _forest(axes: plt.Axes, found: Mapping[int, Any]) -> None:
    """One panel: differences by row."""
    axes.axvspan(-1, 1, color="#e9e9e9", zorder=0)
    axes.axvline(0, color="#777777", linewidth=0.8, zorder=1)
    for row, one in found.items():
        whiskers = None if one.low is None else [[one.mean - one.low], [one.high - one.mean]]
        hollow = {"markerfacecolor": PAPER} if one.verdict.startswith("no verdict") else {}
        look = {"fmt": "o", "color": COLOURS[2], "capsize": 3, "linestyle": "none"}
        axes.errorbar(one.mean, row, xerr=whiskers, **look, **hollow)
        if one.published is not None:
            axes.plot(one.published, row + 0.22, linestyle="none", marker="D", markersize=4, color=COLOURS[3])


def alt(figure: Figure) -> str:
    """A first draft of a figure's alternative text, from its titles and axes; write what one should see in it."""
    said = []
    for axes in figure.axes:
        parts = (("", axes.get_title()), ("across: ", axes.get_xlabel()), ("down: ", axes.get_ylabel()))
        said.append("; ".join(name + text for name, text in parts if text))
    return ". ".join(filter(None, said))


def _square(n: int, names: Sequence[str], title: str, beside: float = 0, below: float = 0) -> tuple[Figure, plt.Axes]:
    """A closed figure for an N x N matrix, with room for the names and, in inches, for what lies beside or below."""
    side = max(2.2, 0.36 * n)
    margin = 0.07 * max(map(len, names), default=0) + 0.5
    figure, axes = plt.subplots(figsize=(side + margin + beside, side + margin + below))
    plt.close(figure)
    axes.set_title(_literal(title))
    return figure, axes


def _literal(text: str) -> str:
    """Text from data: two dollar signs in a name are no formula."""
    return text.replace("$", r"\$")


def _entity_axes(axes: plt.Axes, names: Sequence[str]) -> None:
    places = np.arange(len(names)) + 0.5
    names = [_literal(name) for name in names]
    axes.set_xticks(places, names, rotation=90, fontsize=8)
    axes.set_yticks(places, names, rotation=0, fontsize=8)
    axes.tick_params(length=0)
    axes.set(xlabel="tail entity", ylabel="head entity")
    sns.despine(ax=axes, left=True, bottom=True)
