"""The two grounds of a figure. It is drawn for paper; for the dark page its inks turn pale and its pale fills deep."""

from __future__ import annotations

import re

INK, PAPER, FAST = (
    "#1f2328",
    "#fefefe",
    "#0b0b0b",
)  # what follows the page's theme; FAST ink lies on a picture and stays
_NIGHT = "#121212"  # the ground of the dark page
_PALE = "#e6e9ee"
_DARK = {  # what an ink becomes, as a line or a letter
    INK: _PALE, "#000000": _PALE, "#14284b": "#d3e2ff", "#7d2560": "#e59bd0", "#0072b2": "#58b4ec",
    "#b35900": "#ffb366",
    "#444444": "#aab2bf", "#4a5568": "#b3bccb", "#555555": "#b3bccb", "#666666": "#b3bccb", "#777777": "#a5adba",
    "#808080": "#a5adba", "#888888": "#a5adba", "#bbbbbb": "#5a6270", "#cccccc": "#4a525e", "#dddddd": "#3a414d",
    "#e9e9e9": "#262d36",
}  # fmt: skip
_DEEP = {  # what a fill becomes; letters on it are pale then
    PAPER: _NIGHT, "#ffffff": _NIGHT, "#7cc4ec": "#1c5a86", "#e8c62c": "#6b5a00", "#7cc7b0": "#1f6b57",
    "#f0a07a": "#8a4320", "#f2f2f2": "#343b49", "#e8f1f8": "#1d2b3a", "#fbe3c8": "#5a3a12", "#dfe7f2": "#2a3442",
    "#cccccc": "#3a414d", "#dddddd": "#303742", "#e9e9e9": "#262d36", "#e07b00": "#b56300", "#0072b2": "#2f8fcf",
}  # fmt: skip
_INK = re.compile(r"(?P<before><g style=\"[^\"]*?fill: |stroke: )(?P<colour>#[0-9a-f]{6})")
_FILL = re.compile(r"(?P<before><(?:path|use|rect)\b[^>]*?[\"; ]fill(?:: |=\"))(?P<colour>#[0-9a-f]{6})")


def dark(svg: str) -> str:
    """The figure, as Matplotlib writes it, for a dark page. Colours of a colour map, and what is unknown, stay."""

    def turned(table: dict[str, str]):
        return lambda found: found["before"] + table.get(found["colour"], found["colour"])

    return _FILL.sub(turned(_DEEP | {k: v for k, v in _DARK.items() if k not in _DEEP}), _INK.sub(turned(_DARK), svg))


def parameters() -> dict[str, str]:
    """What Matplotlib is to draw with, so that `dark` knows ink and paper again."""
    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    return dict.fromkeys(inks, INK) | dict.fromkeys(("figure.facecolor", "axes.facecolor"), PAPER)
