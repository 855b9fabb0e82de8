"""The embedded corpus: documents written by a seeded generator, in DocRED's format.

Everything is drawn from `random.Random` with a seed made of split, number and seed, so that a document is the
same on every machine and does not depend on how many others are asked for.

`rules` what follows from what · `things` and `names` what there is · `world` what is the case · `plan` what is
said where · `prose` with which words · `generate` the documents.
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
