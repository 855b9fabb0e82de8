"""Differences between models: paired by seed and document, with an interval and a verdict.

*better* or *worse*: the interval excludes 0. *tie*: it lies within ±1 point. *no verdict*: it is wider, or there are
fewer than five seeds. One function, `difference`, makes every comparison, from rows of results by seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .counts import DEPTHS

SEEDS = 5  # fewer give no verdict
SAME = 1.0  # points of F1 that make no practical difference
TOO_LARGE = 10  # times the published effect: a failed training run is more likely than a confirmation
DRAWS = 10_000
COUNTED = {  # scores that counts per document determine, and the names of these counts in a row's `by_document`
    "f1": ("gold", "predicted", "correct", None),
    "ign_f1": ("gold", "predicted", "correct", "seen"),
    "inter_f1": ("inter_gold", "inter_predicted", "inter_correct", None),
    "intra_f1": ("intra_gold", "intra_predicted", "intra_correct", None),
    "composed_f1": ("composed_gold", "composed_predicted", "composed_correct", None),
    **{f"depth_{d}_f1": (f"depth_{d}_gold", f"depth_{d}_predicted", f"depth_{d}_correct", None) for d in DEPTHS},
}


def by_variant(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """The rows of a paper by variant, then by seed, as `difference` takes them."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["variant"], {})[row["seed"]] = row
    return found


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; a single value alone, nothing for none."""
    if not values:
        return ""
    return f"{mean(values):.1f}" + (f"\u00a0±\u00a0{stdev(values):.1f}" if len(values) > 1 else "")


@dataclass(frozen=True)
class Difference:
    """The score of one model minus that of another, in points of 100."""

    mean: float
    each: tuple[float, ...]  # by seed
    low: float | None  # to high: 95 % of the differences that other documents and other seeds would give
    high: float | None
    verdict: str  # "better", "worse", "tie", or "no verdict", with a reason after a colon
    published: float | None = None  # the effect that the paper printed

    @property
    def too_large(self) -> bool:
        """Does the effect exceed the published one so far that a failed training run is the likelier explanation?"""
        return bool(self.published) and abs(self.mean) >= TOO_LARGE * abs(self.published)

    @property
    def interval(self) -> str:
        return "" if self.low is None else f"{self.low:+z.1f} to {self.high:+z.1f}"

    def __str__(self) -> str:
        flag = f", {TOO_LARGE} times the paper's effect or more" * self.too_large
        return f"**{self.mean:+z.1f}** ({', '.join(filter(None, (self.interval, self.verdict)))}{flag})"


def difference(
    ours: Mapping[int, Any],
    theirs: Mapping[int, Any],
    key: str = "f1",
    split: str = "test",
    published: float | None = None,
    draws: int = DRAWS,
) -> Difference | None:
    """The scores of `ours` minus those of `theirs`: rows of results, or scores in %, by seed; None if they share none.

    Pairs the seeds that both have. The interval comes from `paired_bootstrap` if the rows hold counts per
    document for this score, else from Student's t over the differences between seeds. `published` is the
    paper's own difference in F1.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    sides = [[side[s] for s in seeds] for side in (ours, theirs)]
    values = [[100 * r[split][key] if isinstance(r, Mapping) else r for r in side] for side in sides]
    each = tuple(a - b for a, b in zip(*values, strict=True))
    why, low, high = "", None, None
    if not all(isinstance(r, Mapping) and counted(r, split, key) for side in sides for r in side):
        low, high = student(each)
    elif len({r["documents"][split]["checksum"] for side in sides for r in side}) > 1:
        why = "scored on different documents"
    else:
        low, high = paired_bootstrap(*(counts(side, split, key) for side in sides), draws=draws)
    if not why and len(seeds) < SEEDS:
        why = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    return Difference(mean(each), each, low, high, f"no verdict: {why}" if why else verdict(low, high), published)


def verdict(low: float, high: float) -> str:
    """The verdict for an interval of a difference in points."""
    if -SAME <= low and high <= SAME:
        return "tie"
    if low > 0 or high < 0:
        return "better" if low > 0 else "worse"
    return f"no verdict: wider than ±{SAME:g}"


def student(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of a mean by Student's t; None for a single value."""
    if len(values) < 2:
        return None, None
    quantiles = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # of 1 to 9 degrees of freedom
    half = quantiles[min(len(values), 10) - 2] * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def paired_bootstrap(
    ours: Int[np.ndarray, "S D 4"], theirs: Int[np.ndarray, "S D 4"], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The interval of the gap between two models with other documents of the same kind and with other seeds.

    Takes, for each of S seeds and D documents, the counts of gold, predicted, correct and, for Ign F1, seen triples
    (zeros in the last place give F1). A draw takes D documents with replacement, the same for both models and all
    seeds, then S seeds with replacement; its gap is the mean difference in F1 over the drawn seeds. A few seeds drawn
    with replacement spread too little, by √((S − 1) / S): their part is widened accordingly. The bounds are the 2.5th
    and 97.5th percentiles of the draws' gaps (Efron's percentile interval; paired as in Koehn, 2004).
    """
    seeds, documents = ours.shape[:2]
    rng, gaps = np.random.default_rng(seed), []
    sides = np.stack([ours, theirs]).astype(float)
    wider = (seeds / (seeds - 1)) ** 0.5 if seeds > 1 else 0.0
    for begin in range(0, draws, 500):  # not all at once: a draw is D numbers
        size = min(500, draws - begin)
        drawn = rng.integers(0, documents, size=(size, documents))
        places = drawn + documents * np.arange(size)[:, None]
        times = np.bincount(places.ravel(), minlength=size * documents).reshape(size, documents)
        one, two = f1_of(np.einsum("td,msdk->mtsk", times, sides, optimize=True))
        each = one - two  # [draws, seeds]
        chosen = np.take_along_axis(each, rng.integers(0, seeds, size=(size, seeds)), 1).mean(1)
        gaps.append(each.mean(1) + wider * (chosen - each.mean(1)))
    low, high = np.quantile(np.concatenate(gaps), [0.025, 0.975])
    return float(low), float(high)


def counted(row: Mapping[str, Any], split: str, key: str) -> bool:
    """Does the row hold the counts per document that this score needs?"""
    return {*filter(None, COUNTED.get(key, ("none of them",)))} <= row[split].get("by_document", {}).keys()


def counts(rows: Sequence[Mapping[str, Any]], split: str, key: str = "f1") -> Int[np.ndarray, "S D 4"]:
    """Counts per document of rows, one per seed, for `paired_bootstrap`."""
    found = [row[split]["by_document"] for row in rows]
    columns = [[r[name] if name else [0] * len(r["gold"]) for name in COUNTED[key]] for r in found]
    return np.array(columns, dtype=int).swapaxes(1, 2)


def f1_of(counts: Float[np.ndarray, "*any 4"]) -> Float[np.ndarray, "*any"]:
    """F1 in points of 100 from sums of gold, predicted, correct and seen; with seen triples it is Ign F1."""
    gold, predicted, correct, seen = np.moveaxis(counts, -1, 0)
    precision = _share(correct - seen, predicted - seen)
    recall = _share(correct, gold)
    return 100 * _share(2 * precision * recall, precision + recall)


def _share(part, whole):
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
