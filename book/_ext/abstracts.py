"""One picture per chapter, and the five ideas on one spine: drawings, not data. `docre_look` puts them into the site.

A motif draws into a square from (0, 0) to (1, 1). The same motifs make the cards that are shared, the thumbnails of the
start page and the spine.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from io import StringIO

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from docre_lite.show.inks import INK, PAPER, parameters
from docre_lite.show.plots import COLOURS

NAVY, PURPLE, BLUE, ORANGE, MINT = COLOURS
EMPTY, SOFT, SKY, GREEN = "#f2f2f2", "#bbbbbb", "#7cc4ec", MINT
N = 6  # the side of a drawn pair matrix


def cells(
    axes: Axes, colour: Callable[[int, int], str], x=0.0, y=0.0, side=1.0, n=N
) -> Callable[[float, float], tuple]:
    """A matrix whose first row is on top; gives the function from (row, column) to a cell's middle."""
    step = side / n
    for r in range(n):
        for c in range(n):
            place = (x + c * step, y + side - (r + 1) * step)
            axes.add_patch(Rectangle(place, step, step, fc=colour(r, c), ec=SOFT, lw=0.6))
    return lambda r, c: (x + (c + 0.5) * step, y + side - (r + 0.5) * step)


def frame(axes: Axes, at, r, c, high=1, wide=1, colour=ORANGE, linestyle="-") -> None:
    """A frame around cells (r, c) to (r + high, c + wide) of a matrix that fills the square."""
    x, y = at(r + high - 1, c)
    box = (x - 0.5 / N, y - 0.5 / N)
    axes.add_patch(Rectangle(box, wide / N, high / N, fill=False, ec=colour, lw=2.4, ls=linestyle))


def arrow(axes: Axes, start, end, colour=INK, bend=0.0, **look) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "lw": 1.8, "shrinkA": 2, "shrinkB": 2, **look}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, connectionstyle=f"arc3,rad={bend}", **style))


def lines(axes: Axes, x, y, wide, high, marks: Iterable[tuple[int, float, float, str]] = (), rows=5) -> None:
    """A document: rows of grey text, some words of it in colour, as (row, start, length, colour) in shares."""
    step = high / rows
    for r in range(rows):
        length = wide * (1, 0.86, 0.95, 0.7, 0.9)[r % 5]
        axes.add_patch(Rectangle((x, y + high - (r + 0.75) * step), length, step * 0.4, fc="#dddddd", lw=0))
    for r, start, length, colour in marks:
        axes.add_patch(
            Rectangle((x + start * wide, y + high - (r + 0.82) * step), length * wide, step * 0.54, fc=colour, lw=0)
        )


def question(axes: Axes) -> None:
    lines(
        axes, 0, 0.05, 1, 0.9, [(0, 0.1, 0.22, BLUE), (1, 0.35, 0.2, SOFT), (2, 0.2, 0.2, SOFT), (4, 0.6, 0.22, ORANGE)]
    )
    arrow(axes, (0.24, 0.83), (0.72, 0.2), INK, bend=-0.35, linestyle="--")
    axes.text(0.66, 0.62, "?", size=20, weight="bold", ha="center", va="center")


def task(axes: Axes) -> None:
    spots = {"a": (0.15, 0.2), "b": (0.5, 0.82), "c": (0.85, 0.2)}
    for start, end, dashed in (("a", "b", False), ("b", "c", False), ("a", "c", True)):
        arrow(
            axes,
            spots[start],
            spots[end],
            ORANGE if dashed else BLUE,
            linestyle="--" if dashed else "-",
            shrinkA=16,
            shrinkB=16,
        )
    for spot in spots.values():
        axes.add_patch(Circle(spot, 0.1, fc="#e8f1f8", ec=NAVY, lw=1.8))


def encoder(axes: Axes) -> None:
    marked = (1, 4, 6)
    for k in range(8):
        x = k / 8
        axes.add_patch(Rectangle((x + 0.01, 0.06), 0.1, 0.14, fc=SKY if k in marked else EMPTY, ec=SOFT, lw=0.8))
        axes.add_patch(Rectangle((x + 0.01, 0.3), 0.1, 0.24, fc=SKY if k in marked else EMPTY, ec=SOFT, lw=0.8))
        if k in marked:
            arrow(axes, (x + 0.06, 0.55), (0.5, 0.8), BLUE, lw=1.4)
    axes.add_patch(Circle((0.5, 0.86), 0.1, fc=SKY, ec=NAVY, lw=1.8))


def threshold(axes: Axes) -> None:
    heights = (0.3, 0.82, 0.2, 0.66, 0.42, 0.14)
    for k, height in enumerate(heights):
        look = {"fc": BLUE if height > 0.52 else EMPTY, "ec": NAVY if height > 0.52 else SOFT}
        axes.add_patch(Rectangle((0.04 + k * 0.16, 0.04), 0.11, height, lw=1, **look))
    axes.plot([0, 1], [0.52, 0.52], color=ORANGE, ls="--", lw=2.4, marker="")


def atlop(axes: Axes) -> None:
    head, tail = np.array([1, 5, 2, 1, 6, 1, 1, 4]) / 6, np.array([2, 1, 1, 5, 6, 1, 3, 1]) / 6
    for row, (weights, colour) in enumerate(((head, BLUE), (tail, PURPLE), (head * tail, ORANGE))):
        y = (0.68, 0.36, 0.02)[row]
        for k, weight in enumerate(weights):
            axes.add_patch(Rectangle((k / 8 + 0.01, y), 0.1, 0.26 * weight, fc=colour, lw=0))
        axes.plot([0, 1], [y, y], color=SOFT, lw=1, ls="-", marker="")
    axes.add_patch(Rectangle((0.495, 0), 0.13, 0.98, fill=False, ec=INK, lw=1.4, ls="--"))


def docunet(axes: Axes) -> None:
    at = cells(axes, lambda r, c: (BLUE, SKY, "#e8f1f8", EMPTY)[min(3, max(abs(r - 2), abs(c - 3)))])
    frame(axes, at, 1, 2, 3, 3)
    frame(axes, at, 0, 1, 5, 5, linestyle="--")
    frame(axes, at, 2, 3, colour=INK)


def paee(axes: Axes) -> None:
    kept = {(0, 1), (0, 3), (1, 3), (2, 3), (4, 0), (5, 0)}
    at = cells(axes, lambda r, c: "#cccccc" if r == c else GREEN if (r, c) in kept else PAPER)
    for r, c in kept:
        x, y = at(r, c)
        axes.plot([x - 0.083, x + 0.083], [y - 0.083, y + 0.083], color=INK, lw=1.2, ls="-", marker="")
    frame(axes, at, 0, 1, 3, 3)


def docre_ii(axes: Axes) -> None:
    stages = ({(0, 1), (1, 2)}, {(0, 1), (1, 2), (0, 2)}, {(0, 1), (1, 2), (0, 2), (3, 0), (3, 2)})
    for k, known in enumerate(stages):
        x, y = 0.02 + 0.34 * k, 0.02 + 0.32 * k
        cells(axes, lambda r, c, known=known: "#cccccc" if r == c else BLUE if (r, c) in known else PAPER, x, y, 0.3, 4)
        if k < 2:
            arrow(axes, (x + 0.3, y + 0.1), (x + 0.46, y + 0.31), ORANGE, bend=0.35)
    arrow(axes, (0.66, 0.86), (0.12, 0.36), ORANGE, bend=0.35, linestyle="--")


def dre_mir(axes: Axes) -> None:
    def look(r, c):
        return "#cccccc" if r == c else ORANGE if (r, c) == (1, 4) else GREEN if r == 1 or c == 4 else EMPTY

    at = cells(axes, look)
    for r, c in ((0, 2), (3, 1), (4, 3), (5, 0), (2, 5), (0, 5)):
        x, y = at(r, c)
        axes.add_patch(Rectangle((x - 0.083, y - 0.083), 0.166, 0.166, fc=PAPER, ec=SOFT, lw=0.6, hatch="////"))
    arrow(axes, at(1, 2), at(1, 4), INK, shrinkA=0, shrinkB=8)
    arrow(axes, at(3, 4), at(1, 4), INK, shrinkA=0, shrinkB=8)
    frame(axes, at, 1, 4, colour=INK)


def bakeoff(axes: Axes) -> None:
    axes.add_patch(Rectangle((0.24, 0), 0.12, 1, fc="#e9e9e9", lw=0))
    axes.plot([0.3, 0.3], [0, 1], color="#777777", lw=1.2, ls="-", marker="")
    for k, (mean, half) in enumerate(((0.82, 0.07), (0.22, 0.1), (0.45, 0.08), (0.32, 0.14), (0.7, 0.06))):
        y, colour = 0.9 - 0.2 * k, COLOURS[k]
        axes.plot([mean - half, mean + half], [y, y], color=colour, lw=2.4, ls="-", marker="")
        axes.plot([mean], [y], color=colour, marker="osD^v"[k], ms=8, ls="")


def order(axes: Axes) -> None:
    known, turned = {(0, 1), (0, 2), (1, 2), (1, 0)}, (2, 0, 3, 1)
    cells(axes, lambda r, c: "#cccccc" if r == c else BLUE if (r, c) in known else PAPER, 0, 0.29, 0.42, 4)
    cells(
        axes,
        lambda r, c: "#cccccc" if r == c else BLUE if (turned[r], turned[c]) in known else PAPER,
        0.58,
        0.29,
        0.42,
        4,
    )
    for k, old in enumerate(turned):
        start, end = (0.0525 + 0.105 * old, 0.73), (0.6325 + 0.105 * k, 0.73)
        arrow(axes, start, end, ORANGE, bend=-0.4, lw=1.3)


def further(axes: Axes) -> None:
    for k in range(4):
        x, y = 0.02 + 0.05 * k, 0.52 - 0.13 * k
        axes.add_patch(Rectangle((x, y), 0.32, 0.4, fc=PAPER, ec=NAVY, lw=1.4))
    lines(axes, 0.2, 0.16, 0.26, 0.33, [(1, 0.3, 0.4, BLUE), (3, 0.1, 0.4, ORANGE)])
    arrow(axes, (0.54, 0.5), (0.68, 0.5), INK, lw=2.4)
    for k in range(5):
        axes.add_patch(Rectangle((0.7, 0.76 - 0.14 * k), 0.28, 0.11, fc=SKY if k % 2 == 0 else EMPTY, ec=SOFT, lw=0.8))


ABSTRACTS: dict[str, tuple[Callable[[Axes], None], str, str]] = {  # motif, the idea, and what one sees
    "00_question": (
        question,
        "Two names, two sentences, one question",
        "Lines of a text. A dashed arrow with a question mark leads from a name in the first line to one in the last.",
    ),
    "01_task": (
        task,
        "Two stated facts make a third",
        "Three entities. Two solid arrows lead from one over the second to the third, a dashed one directly.",
    ),
    "02_encoder": (
        encoder,
        "Mentions become one entity",
        "A row of word vectors; those of an entity's three mentions flow into one circle.",
    ),
    "03_threshold": (
        threshold,
        "Every pair sets its own bar",
        "Six bars, one per relation; two rise above a dashed threshold.",
    ),
    "04_atlop": (
        atlop,
        "What both entities look at",
        "Attention of a head and of a tail over the same words; their product peaks at one word.",
    ),
    "05_docunet": (
        docunet,
        "Pairs are pixels",
        "A pair matrix as an image: two nested frames, a receptive field, around one cell.",
    ),
    "06_paee": (
        paee,
        "Which pairs, and in which role",
        "A pair matrix with few cells kept, each cut in two halves, and a frame that slides over it.",
    ),
    "07_docre_ii": (
        docre_ii,
        "Answers that are read again",
        "Three pair matrices, one per round, each with more cells filled; an arrow leads back to the first.",
    ),
    "08_dre_mir": (
        dre_mir,
        "Restored from row and column",
        "A pair matrix with hatched, masked cells; arrows along a row and a column restore one cell.",
    ),
    "09_bakeoff": (
        bakeoff,
        "Which differences are real",
        "Five intervals beside a line at zero; some reach into the band around it.",
    ),
    "10_order": (
        order,
        "When order tells the answer",
        "The same pair matrix under two numberings of its entities; arrows join the numbers.",
    ),
    "11_further": (further, "Your documents, many of them", "A stack of documents turns into the rows of a table."),
}

# The spine: what every model shares, and the five modules that end it.
SPINE = (
    ("document", "text with\nnumbered names"),
    ("encoder", "a vector per name,\nattention between"),
    ("pair matrix", "one cell per head\nand tail"),
)
MODULES = (
    ("04_atlop", "ATLOP", "asks what both entities look at;\nevery pair sets its threshold"),
    ("05_docunet", "DocuNet", "takes the matrix for an image\nand runs a U-Net over it"),
    ("06_paee", "PAEE", "finds the pairs that matter;\nreads entities in both roles"),
    ("07_docre_ii", "DocRE-II", "reads its answers again,\nround after round"),
    ("08_dre_mir", "DRE-MIR", "masks pairs and restores them\nfrom row and column"),
)  # fmt: skip
SPINE_ALT = (
    "From a document over an encoder to a pair matrix, one way for all; then five modules end it. "
    + "; ".join(f"{name} {' '.join(idea.split())}" for _, name, idea in MODULES)
    + "."
)


def _document(axes: Axes) -> None:
    lines(
        axes, 0, 0.05, 1, 0.9, [(0, 0.1, 0.22, SKY), (1, 0.35, 0.2, GREEN), (3, 0.2, 0.2, SKY), (4, 0.5, 0.22, GREEN)]
    )


def _matrix(axes: Axes) -> None:
    known = {(0, 1), (0, 3), (1, 3), (2, 3), (4, 0), (5, 0), (0, 4), (4, 5)}
    cells(axes, lambda r, c: "#cccccc" if r == c else BLUE if (r, c) in known else PAPER)


def _inch(figure: Figure, x, y, wide, high) -> tuple[float, float, float, float]:
    width, height = figure.get_size_inches()
    return x / width, 1 - (y + high) / height, wide / width, high / height


def spine(phone: bool = False) -> str:
    """Document, encoder and pair matrix, then the five modules: in a row, or one below the other for phones."""
    with mpl.rc_context({**mpl.rcParamsDefault, **parameters(), "svg.hashsalt": "spine", "hatch.linewidth": 0.8}):
        figure = Figure(figsize=(3.7, 7.15) if phone else (7.6, 4.15))
        ground = figure.add_axes((0, 0, 1, 1))
        width, height = figure.get_size_inches()
        ground.set(xlim=(0, width), ylim=(height, 0))
        ground.axis("off")
        side, middles = (0.78, (0.62, 1.85, 3.08)) if phone else (1.0, (1.3, 3.8, 6.3))
        for k, (middle, motif, (name, about)) in enumerate(
            zip(middles, (_document, encoder, _matrix), SPINE, strict=True)
        ):
            ground.text(middle, 0.17, name, ha="center", va="center", size=9.5, weight="bold")
            _square(figure, _inch(figure, middle - side / 2, 0.3, side, side), motif)
            ground.text(middle, 0.38 + side, about, ha="center", va="top", size=7.4 if phone else 8.6)
            if k:
                arrow(
                    ground,
                    (middles[k - 1] + side / 2 + 0.06, 0.3 + side / 2),
                    (middle - side / 2 - 0.06, 0.3 + side / 2),
                )
        (_rows if phone else _row)(figure, ground, middles[-1], 0.85 + side)
        return _written(figure, "svg")


def _row(figure: Figure, ground: Axes, start: float, top: float) -> None:
    rail, middles = top + 0.1, [0.78 + 1.51 * k for k in range(5)]
    ground.plot([start, start], [top - 0.12, rail], color=INK, lw=1.8, marker="")
    ground.plot([middles[0], middles[-1]], [rail, rail], color=INK, lw=1.8, marker="")
    for middle, (name, title, idea) in zip(middles, MODULES, strict=True):
        arrow(ground, (middle, rail), (middle, rail + 0.24), shrinkA=0)
        _square(figure, _inch(figure, middle - 0.45, rail + 0.28, 0.9, 0.9), ABSTRACTS[name][0])
        ground.text(middle, rail + 1.33, title, ha="center", va="center", size=9.5, weight="bold")
        ground.text(middle, rail + 1.45, textwrap.fill(" ".join(idea.split()), 21), ha="center", va="top", size=8)


def _rows(figure: Figure, ground: Axes, start: float, top: float) -> None:
    rail = 0.16
    ground.plot([start, start, rail], [top - 0.14, top, top], color=INK, lw=1.8, marker="")
    ground.plot([rail, rail], [top, top + 0.5 + 4 * 1.06], color=INK, lw=1.8, marker="")
    for k, (name, title, idea) in enumerate(MODULES):
        y = top + 0.5 + 1.06 * k
        arrow(ground, (rail, y), (rail + 0.26, y), shrinkA=0)
        _square(figure, _inch(figure, rail + 0.32, y - 0.42, 0.84, 0.84), ABSTRACTS[name][0])
        ground.text(rail + 1.32, y - 0.17, title, va="center", size=9.5, weight="bold")
        ground.text(rail + 1.32, y - 0.03, idea, va="top", size=7.6)


def _square(figure: Figure, place: tuple[float, float, float, float], motif: Callable[[Axes], None]) -> None:
    """A motif at a place of the figure; lines and letters are given for a square of one and a half inches."""
    axes = figure.add_axes(place)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes.axis("off")
    motif(axes)
    scale = (place[2] * figure.get_size_inches()[0] / 1.5) ** 0.7
    for artist in (*axes.patches, *axes.lines):
        artist.set_linewidth(artist.get_linewidth() * scale)
        if isinstance(artist, FancyArrowPatch):
            artist.set_mutation_scale(artist.get_mutation_scale() * scale)
    for line in axes.lines:
        line.set_markersize(line.get_markersize() * scale)
    for text in axes.texts:
        text.set_fontsize(text.get_fontsize() * scale)


def _written(figure: Figure, kind: str) -> str:
    out = StringIO()
    figure.savefig(out, format=kind, metadata={"Date": None})
    return out.getvalue()


def thumbnail(name: str) -> str:
    """The motif alone, as SVG of one and a half inches."""
    with mpl.rc_context({**mpl.rcParamsDefault, **parameters(), "svg.hashsalt": name, "hatch.linewidth": 0.8}):
        figure = Figure(figsize=(1.5, 1.5))
        _square(figure, (0.02, 0.02, 0.96, 0.96), ABSTRACTS[name][0])
        return _written(figure, "svg")


def card(name: str, number: str, title: str, file) -> None:
    """The picture that is shown where a page is shared: PNG of 1200 x 630."""
    motif, idea, _ = ABSTRACTS[name]
    with mpl.rc_context({**mpl.rcParamsDefault, **parameters(), "hatch.linewidth": 1.5}):
        figure = Figure(figsize=(12, 6.3), dpi=100)
        figure.add_artist(Rectangle((0, 0), 0.012, 1, fc=BLUE, lw=0, transform=figure.transFigure))
        figure.text(0.055, 0.86, f"docre_lite · {number}".rstrip(" ·"), size=22, color="#555555")
        figure.text(0.055, 0.78, textwrap.fill(title, 19), size=38, weight="bold", va="top", linespacing=1.15)
        figure.text(0.055, 0.12, idea, size=23, color=BLUE)
        _square(figure, (0.56, 0.1, 0.4, 0.8), motif)
        figure.savefig(file, format="png", dpi=100, metadata={"Software": None}, pil_kwargs={"optimize": True})
