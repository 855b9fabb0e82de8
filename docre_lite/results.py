"""Scores over seeds: how far they spread, and whether a difference is more than that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

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
        return f"**{self.mean:+.1f}** ({', '.join(f'{d:+.1f}' for d in self.each)} by seed: {self.verdict})"


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
