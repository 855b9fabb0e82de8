"""Pictures and tables of the book: documents, pair matrices, heat maps, curves, live source, stored results.

Nothing here is needed to train or predict. Figures are returned closed, so a cell shows them once, by its last line.
Colour is never the only signal: entities have a number, weights a bar, cells a sign, lines a dash and a marker.
"""

from .plots import COLOURS, DIVERGING, SEQUENTIAL, alt, bars, curves, forest, pair_matrix, style, triples_matrix
from .stored import results, speed
from .text import document, heat, say, sentence, source, starred, table

__all__ = ["COLOURS", "DIVERGING", "SEQUENTIAL"]
__all__ += [
    "alt",
    "bars",
    "curves",
    "document",
    "forest",
    "heat",
    "pair_matrix",
    "results",
    "say",
    "sentence",
    "source",
    "speed",
    "starred",
    "style",
]
__all__ += ["table", "triples_matrix"]
