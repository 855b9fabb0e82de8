"""A figure as SVG with a second drawing inside, as narrow as a phone, wherever one can be drawn that is legible."""

from __future__ import annotations

import base64
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from itertools import combinations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text

from .inks import FAST, INK

WIDTH, COLUMN = 3.7, 7.6  # inches: 355 px of a phone and 730 of a page, so that letters keep their size
_TALLEST = 9.0  # inches: what is longer is rather seen by scrolling sideways
_SMALL = 7.0  # points, 9.3 px: letters inside the axes may shrink to this
_LEAST = {True: 1.15, False: 1.5}  # inches: axes that are narrower show nothing; of many panels each may be smaller
_GLAZES = {
    "Blues": LinearSegmentedColormap.from_list("blue glaze", ["#005aaa00", "#005aaaff"]),
    "Greys": LinearSegmentedColormap.from_list("grey glaze", ["#60666e00", "#60666eff"]),
}
_NARROW = re.compile(r'\n?<metadata id="narrow">(.*?)</metadata>', re.DOTALL)


def render(figure: Figure) -> str:
    """The figure as SVG, always the same for the same figure; `split` takes the two drawings apart."""
    for axes in figure.axes:
        _settle(axes)
    wide = fitted(figure, COLUMN) or _svg(figure)
    narrow = fitted(figure, WIDTH)
    if narrow is None:
        return wide
    packed = base64.b64encode(zlib.compress(narrow.encode(), 9)).decode()
    return wide.replace("</svg>", f'<metadata id="narrow">{packed}</metadata>\n</svg>')


def split(svg: str) -> tuple[str, str | None]:
    """The wide drawing, and the narrow one where `render` could make it."""
    found = _NARROW.search(svg)
    return _NARROW.sub("", svg), zlib.decompress(base64.b64decode(found[1])).decode() if found else None


def fitted(figure: Figure, limit: float) -> str | None:
    """The figure in `limit` inches: the first layout in which no words collide. None if there is none, or no need."""
    if figure.get_size_inches()[0] <= limit * 1.03:
        return None
    before = _collisions(figure)
    grid = _grid(figure)
    for columns in [len(grid[0]), 2, 1] if grid else [0]:
        if grid and columns > len(grid[0]):
            continue
        with _relaid(figure, grid, columns, limit):
            if _legible(figure, before, limit):
                return _svg(figure)
    return None


def _svg(figure: Figure) -> str:
    """As notebooks draw it, without the date."""
    out = StringIO()
    with mpl.rc_context({"svg.hashsalt": "docre_lite"}):
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None}, facecolor="auto")
    return out.getvalue()


def _settle(axes: Axes) -> None:
    """Inks that turn with the page, but for what lies on a picture: its colours are the same on either page."""
    for image in axes.images:  # a map from white: let the page be its white
        image.set_cmap(_GLAZES.get(image.get_cmap().name, image.get_cmap()))
    ink = FAST if any(image.get_cmap() not in _GLAZES.values() for image in axes.images) else INK
    for text in axes.texts:
        if to_hex(text.get_color()) in (INK, "#000000"):  # plain black is left out of an SVG, and nothing could turn it
            text.set_color(ink)
    for patch in axes.patches:
        if ink == FAST and to_hex(patch.get_edgecolor()) in (INK, "#000000"):
            patch.set_edgecolor(ink)


def _texts(figure: Figure) -> list[Text]:
    """Every word that is drawn: a tick that lies beyond its axis has a label, too, and it is not."""
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        found += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        legend = axes.get_legend()
        found += legend.get_texts() if legend and legend.get_visible() else []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def _collisions(figure: Figure) -> set[frozenset[Text]]:
    """Pairs of words that overlap by more than a hair."""
    for _ in range(2):  # what is beside axes of a fixed shape finds its place at the second time
        figure.draw_without_rendering()
    boxes = []
    for text in _texts(figure):
        box = text.get_window_extent()
        if box.width > 2 and box.height > 2:
            boxes.append((text, box.x0 + 1, box.x1 - 1, box.y0 + 1, box.y1 - 1))
    return {
        frozenset((a[0], b[0]))
        for a, b in combinations(boxes, 2)
        if a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]
    }


def _legible(figure: Figure, before: set[frozenset[Text]], limit: float) -> bool:
    with warnings.catch_warnings(record=True) as said:  # constrained layout warns when it finds no room
        warnings.simplefilter("always")
        if _collisions(figure) - before or said:
            return False
    boxes = [axes.get_window_extent() for axes in _panels(figure)]
    least = _LEAST[len(boxes) > 2] * figure.dpi
    tight = figure.get_tightbbox()
    return tight.width <= limit * 1.06 and tight.height <= _TALLEST and all(box.width >= least for box in boxes)


def _panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]


def _grid(figure: Figure) -> list[list[Axes]]:
    """The panels by row and column; [] where they do not fill one regular grid, or there is but one."""
    panels = _panels(figure)
    specs = [axes.get_subplotspec() for axes in panels]
    if len(panels) < 2 or any(spec is None or spec.num1 != spec.num2 for spec in specs):
        return []
    rows, columns = specs[0].get_gridspec().get_geometry()
    if len(panels) != rows * columns:
        return []
    ordered = [axes for _, axes in sorted(zip((spec.num1 for spec in specs), panels, strict=True))]
    return [ordered[r * columns : (r + 1) * columns] for r in range(rows)]


@contextmanager
def _relaid(figure: Figure, grid: list[list[Axes]], columns: int, limit: float) -> Iterator[None]:
    """The figure within `limit` inches, its panels in so many columns; on a phone, legends below. Then as before."""
    with ExitStack() as undo:
        width, height = figure.get_size_inches()
        undo.callback(figure.set_size_inches, width, height)
        across = len(grid[0]) if grid else 1
        rows = -(-len(grid) * across // columns) if grid else 1
        tall = height / max(1, len(grid)) * (0.75 if columns < across else 1)
        if (limit == WIDTH or columns < across) and any(axes.get_aspect() != "auto" for axes in _panels(figure)):
            tall = max(tall, limit / max(columns, 1) + 1)  # a fixed shape; what is too much is cut off
        _shrink(figure, undo)
        figure.set_size_inches(limit, rows * tall)
        lines = _legends_below(figure, undo) if limit == WIDTH else 0
        figure.set_size_inches(limit, rows * tall + 0.18 * lines)
        if grid and columns < across:
            _regrid(figure, grid, columns, undo)
            _close_ranks(figure, columns)
        yield


def _shrink(figure: Figure, undo: ExitStack) -> None:
    for axes in figure.axes:
        for text, most in ((axes.title, 9.5), (axes.xaxis.label, 8.5), (axes.yaxis.label, 8.5)):
            _set(text.set_fontsize, text.get_fontsize(), min(text.get_fontsize(), most), undo)
        for text in axes.texts:
            if text.get_fontsize() > _SMALL:
                _set(text.set_fontsize, text.get_fontsize(), max(_SMALL, 0.88 * text.get_fontsize()), undo)
        for axis in (axes.xaxis, axes.yaxis):
            for tick in axis.get_major_ticks():
                size = tick.label1.get_fontsize()
                _set(tick.label1.set_fontsize, size, min(size, 8.5), undo)


def _legends_below(figure: Figure, undo: ExitStack) -> int:
    """A legend beside its axes takes the room that they need. The number of lines that lie below now."""
    lines = 0
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is None or legend.get_bbox_to_anchor().x0 < axes.bbox.x1:
            continue
        names = [text.get_text() for text in legend.get_texts()]
        size = legend.get_texts()[0].get_fontsize()
        columns = 2 if max(map(len, names)) <= 24 else 1
        look = {"frameon": False, "fontsize": size, "ncols": columns, "loc": "outside lower center"}
        below = figure.legend(legend.legend_handles, names, **look)
        undo.callback(below.remove)
        lines += -(-len(names) // columns)
        _set(legend.set_visible, legend.get_visible(), False, undo)
        _set(legend.set_in_layout, legend.get_in_layout(), False, undo)
    return lines


def _regrid(figure: Figure, grid: list[list[Axes]], columns: int, undo: ExitStack) -> None:
    panels = [axes for row in grid for axes in row]
    target = GridSpec(-(-len(panels) // columns), columns, figure=figure)
    first = grid[0][0]
    for k, axes in enumerate(panels):
        _set(axes.set_subplotspec, axes.get_subplotspec(), target[k // columns, k % columns], undo)
        if k % columns == 0 and axes.get_shared_y_axes().joined(axes, first) and axes is not first:
            _labels(axes, "left", undo)
            if not axes.get_ylabel():
                _set(axes.set_ylabel, "", first.get_ylabel(), undo)


def _close_ranks(figure: Figure, columns: int) -> None:
    """Takes away the height that axes of a fixed shape do not fill."""
    panels = _panels(figure)
    if all(axes.get_aspect() == "auto" for axes in panels):
        return
    figure.draw_without_rendering()
    heights = [axes.get_tightbbox().height / figure.dpi + 0.12 for axes in panels]
    needed = sum(max(heights[k : k + columns]) for k in range(0, len(heights), columns))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, min(needed, height))


def _labels(axes: Axes, side: str, undo: ExitStack) -> None:
    name = f"label{side}"
    shown = axes.yaxis.get_tick_params().get(name, True)
    undo.callback(axes.tick_params, axis="y", **{name: shown})
    axes.tick_params(axis="y", **{name: True})


def _set(setter: Callable, old: object, new: object, undo: ExitStack) -> None:
    undo.callback(setter, old)
    setter(new)
