"""The embedded corpus: documents written by a seeded generator, in DocRED's format.

Everything is drawn from `random.Random`, seeded with split, number and seed, so that a document is the
same on every machine and does not depend on how many others are generated.

`rules` derive facts from facts · `things` and `names` are the entities · `world` holds what is true · `plan`
arranges statements · `prose` puts them into words · `generate` makes the documents.
"""

from __future__ import annotations

from .generate import SPLITS, counterfactuals, generate, running_example, write
from .rules import INVERSES, RELATIONS, RULES, Derived, Rule, close, derivations

__all__ = [
    "INVERSES",
    "RELATIONS",
    "RULES",
    "SPLITS",
    "Derived",
    "Rule",
    "close",
    "counterfactuals",
    "derivations",
    "generate",
    "running_example",
    "write",
]
