"""Scores over seeds and documents: how far they spread, and whether a difference is more than that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
from jaxtyping import Float, Int

SEEDS = 3  # fewer are no verdict


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; a single value alone, nothing for none."""
    if not values:
        return ""
    return f"{mean(values):.1f}" + (f"\u00a0±\u00a0{stdev(values):.1f}" if len(values) > 1 else "")


@dataclass(frozen=True)
class Gap:
    """What one model scores more than another: on average, seed by seed, and whether that is more than noise."""

    mean: float
    each: tuple[float, ...]
    verdict: str  # "a tie", "clear" or "too few seeds"

    def __str__(self) -> str:
        mean, *each = (f"{d:+z.1f}" for d in (self.mean, *self.each))  # z: no minus before a zero
        return f"**{mean}** ({', '.join(each)} by seed: {self.verdict})"


def gap(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Gap | None:
    """The gap between scores by seed, over the seeds that both have; None if there are none.

    A mean difference no larger than both sample standard deviations together is a tie.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    one, two = [ours[s] for s in seeds], [theirs[s] for s in seeds]
    each = tuple(a - b for a, b in zip(one, two, strict=True))
    if len(seeds) < SEEDS:
        return Gap(mean(each), each, "too few seeds")
    return Gap(mean(each), each, "a tie" if abs(mean(each)) <= stdev(one) + stdev(two) else "clear")


@dataclass(frozen=True)
class Interval:
    """A difference of scores in points of 100, and where 95 % of resampled sets of documents put it."""

    difference: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high

    def __str__(self) -> str:
        return f"{self.low:+.1f} to {self.high:+.1f}"


def paired_bootstrap(
    ours: Int[np.ndarray, "S D 4"], theirs: Int[np.ndarray, "S D 4"], draws: int = 10_000, seed: int = 0
) -> Interval:
    """How much the gap between two models would move with other documents of the same kind.

    For each of S seeds and D documents the counts of gold, predicted, correct and, for Ign F1, seen triples
    (`evaluate.by_document`; zeros in the last place give F1). A draw takes D documents with replacement, the same
    ones for both models and all seeds; its gap is the mean over seeds of the differences in F1. The bounds are the
    2.5th and 97.5th percentile of the draws' gaps (Efron's percentile interval; paired as in Koehn, 2004).
    It says nothing about other seeds: see `gap`.
    """
    documents, rng, gaps = ours.shape[1], np.random.default_rng(seed), []
    sides = np.stack([ours, theirs]).astype(float)
    for begin in range(0, draws, 500):  # not all at once: a draw is D numbers
        size = min(500, draws - begin)
        drawn = rng.integers(0, documents, size=(size, documents))
        places = drawn + documents * np.arange(size)[:, None]
        times = np.bincount(places.ravel(), minlength=size * documents).reshape(size, documents)
        one, two = f1_of(np.einsum("td,msdk->mtsk", times, sides, optimize=True))
        gaps.append((one - two).mean(1))
    low, high = np.quantile(np.concatenate(gaps), [0.025, 0.975])
    one, two = f1_of(sides.sum(2))
    return Interval(float((one - two).mean()), float(low), float(high))


def counts(rows: Sequence[Mapping], split: str, metric: str = "f1") -> Int[np.ndarray, "S D 4"]:
    """Counts per document of stored rows, one of each seed, for `paired_bootstrap`: of "f1" or "ign_f1"."""
    names = ("gold", "predicted", "correct", "seen")
    found = np.array([[row[split]["by_document"][name] for name in names] for row in rows]).swapaxes(1, 2)
    if metric == "f1":
        found[..., 3] = 0
    return found


def f1_of(counts: Float[np.ndarray, "*any 4"]) -> Float[np.ndarray, "*any"]:
    """F1 in points of 100 from sums of gold, predicted, correct and seen; with seen triples it is Ign F1."""
    gold, predicted, correct, seen = np.moveaxis(counts, -1, 0)
    precision = _share(correct - seen, predicted - seen)
    recall = _share(correct, gold)
    return 100 * _share(2 * precision * recall, precision + recall)


def _share(part, whole):
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


def verdict(found: Gap | None, interval: Interval | None) -> str:
    """A difference in words: a tie if the interval over documents holds 0 or the gap lies inside the seeds' spread."""
    if found is None:
        return "no seed in common"
    if interval and interval.holds_zero:
        return "a tie: the interval contains 0"
    if found.verdict == "a tie":
        return "a tie: inside the spread of the seeds"
    which = "better" if found.mean > 0 else "worse"
    if found.verdict == "too few seeds":
        return f"{which} with {len(found.each)} seed{'s' * (len(found.each) > 1)}: too few to tell"
    return which if interval else f"{which}, over the seeds alone"
