"""Scores over seeds and documents: means, spreads, intervals and verdicts, by hand and against loops."""

from __future__ import annotations

import numpy as np
import pytest

from docre_lite.bench.results import Gap, Interval, f1_of, gap, paired_bootstrap, spread, verdict


def test_spread_by_hand():
    assert spread([60.0, 62.0, 64.0]) == "62.0\u00a0±\u00a02.0"
    assert spread([61.04]) == "61.0" and spread([]) == ""


def test_a_difference_inside_both_spreads_is_a_tie():
    theirs = {0: 60.0, 1: 62.0, 2: 64.0}  # a spread of 2
    assert gap({0: 63.9, 1: 65.9, 2: 67.9}, theirs).verdict == "a tie"  # 3.9 ≤ 2 + 2
    found = gap({2: 68.1, 1: 66.1, 0: 64.1}, theirs)
    assert found.verdict == "clear" and [round(d, 6) for d in found.each] == [4.1, 4.1, 4.1]
    assert gap(theirs, {0: 64.1, 1: 66.1, 2: 68.1}).verdict == "clear"
    assert str(found) == "**+4.1** (+4.1, +4.1, +4.1 by seed: clear)"
    assert str(gap({0: 1.0}, {0: 1.04})) == "**+0.0** (+0.0 by seed: too few seeds)"  # no minus before a zero


def test_only_seeds_that_both_have_count():
    found = gap({0: 50.0, 1: 60.0, 5: 10.0}, {0: 40.0, 1: 58.0, 2: 99.0})
    assert found.each == (10.0, 2.0) and found.mean == 6.0 and found.verdict == "too few seeds"
    assert gap({0: 1.0}, {1: 2.0}) is None


# Intervals over documents


def counts(rng: np.random.Generator, seeds: int, documents: int, precision: float, recall: float) -> np.ndarray:
    """Gold, predicted, correct and seen triples of documents of very different size."""
    gold = np.broadcast_to(rng.geometric(0.1, size=documents), (seeds, documents))
    correct = rng.binomial(gold, recall)
    predicted = correct + rng.poisson(gold * recall * (1 / precision - 1))
    return np.stack([gold, predicted, correct, rng.binomial(correct, 0.2)], -1)


def slow_f1(documents: list[list[int]]) -> float:
    gold, predicted, correct, seen = (sum(column) for column in zip(*documents, strict=True))
    precision = (correct - seen) / (predicted - seen) if predicted - seen else 0.0
    recall = correct / gold if gold else 0.0
    return 200 * precision * recall / (precision + recall) if precision + recall else 0.0


def slow_bootstrap(ours: np.ndarray, theirs: np.ndarray, draws: int, seed: int) -> tuple[float, float]:
    """Draw by draw, seed by seed, document by document."""
    seeds, documents, _ = ours.shape
    rng, gaps = np.random.default_rng(seed), []
    for _ in range(draws):
        drawn = rng.integers(0, documents, size=documents)
        each = [
            slow_f1([ours[s][d].tolist() for d in drawn]) - slow_f1([theirs[s][d].tolist() for d in drawn])
            for s in range(seeds)
        ]
        gaps.append(sum(each) / seeds)
    return float(np.quantile(gaps, 0.025)), float(np.quantile(gaps, 0.975))


@pytest.mark.parametrize("seeds", [1, 3])
def test_fast_and_slow_bootstrap_agree(seeds):
    rng = np.random.default_rng(1)
    ours, theirs = counts(rng, seeds, 9, 0.7, 0.6), counts(rng, seeds, 9, 0.6, 0.6)
    theirs[..., 0] = ours[..., 0]
    found = paired_bootstrap(ours, theirs, draws=620, seed=5)  # more than one block of draws
    assert (found.low, found.high) == pytest.approx(slow_bootstrap(ours, theirs, 620, 5), abs=1e-9)
    each = [slow_f1(a.tolist()) - slow_f1(b.tolist()) for a, b in zip(ours, theirs, strict=True)]
    assert found.difference == pytest.approx(sum(each) / seeds)


def test_the_bootstrap_is_seeded_and_turns_around():
    rng = np.random.default_rng(2)
    ours, theirs = counts(rng, 2, 40, 0.7, 0.6), counts(rng, 2, 40, 0.6, 0.6)
    found = paired_bootstrap(ours, theirs, draws=200)
    assert found == paired_bootstrap(ours, theirs, draws=200) != paired_bootstrap(ours, theirs, draws=200, seed=1)
    turned = paired_bootstrap(theirs, ours, draws=200)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_identical_predictions_are_exactly_zero_and_a_tie():
    same = counts(np.random.default_rng(3), 3, 50, 0.7, 0.6)
    found = paired_bootstrap(same, same.copy(), draws=1000)
    assert found == Interval(0.0, 0.0, 0.0) and found.holds_zero
    assert verdict(gap({0: 60.0, 1: 61.0, 2: 62.0}, {0: 60.0, 1: 61.0, 2: 62.0}), found).startswith("a tie")


def test_a_clear_difference_is_no_tie():
    worse = counts(np.random.default_rng(4), 3, 100, 0.6, 0.6)
    worse[..., 3] = 0
    better = worse.copy()
    better[..., 2] = np.minimum(worse[..., 2] + 1, np.minimum(worse[..., 0], worse[..., 1]))
    found = paired_bootstrap(better, worse, draws=1000)
    assert 0 < found.low < found.difference < found.high
    ours, theirs = ({s: float(f1_of(side.sum(1).astype(float))[s]) for s in range(3)} for side in (better, worse))
    assert verdict(gap(ours, theirs), found) == "better" and verdict(gap(theirs, ours), None).startswith("worse")


def test_pairing_narrows_the_interval():
    """Both models on the same documents: what makes a document hard is hard for both, and falls out."""
    rng = np.random.default_rng(5)
    gold = rng.geometric(0.05, size=120)
    hard = rng.uniform(0.1, 0.9, size=120)
    one = rng.binomial(gold, hard)
    two = np.maximum(one - (rng.random(120) < 0.3), 0)
    zero = np.zeros_like(gold)
    ours, theirs = (np.stack([gold, gold, correct, zero], -1)[None] for correct in (one, two))
    found = paired_bootstrap(ours, theirs, draws=1000)
    alone = paired_bootstrap(ours, np.zeros_like(theirs), draws=1000)  # against nothing: the spread of one model
    assert found.high - found.low < 0.2 * (alone.high - alone.low)


def test_the_interval_covers_what_is_true():
    """Of 95 % intervals for samples of a known population about 95 % must hold the population's gap."""
    rng = np.random.default_rng(6)
    everything = counts(rng, 1, 20_000, 0.66, 0.6), counts(rng, 1, 20_000, 0.62, 0.6)
    everything[1][..., 0] = everything[0][..., 0]
    true = float(np.subtract(*(f1_of(side.sum(1).astype(float)) for side in everything))[0])
    held = 0
    for k in range(300):
        drawn = rng.integers(0, 20_000, size=100)
        found = paired_bootstrap(everything[0][:, drawn], everything[1][:, drawn], draws=300, seed=k)
        held += found.low <= true <= found.high
    assert 0.91 <= held / 300 <= 0.98


def test_f1_of_sums():
    """Nothing at all; all correct and all seen; three correct of four gold and six predicted."""
    sums = np.array([[0.0, 0, 0, 0], [3, 2, 2, 2], [4, 6, 3, 0]])
    assert f1_of(sums).tolist() == pytest.approx([0, 0, 60])


@pytest.mark.parametrize(
    ("found", "interval", "words"),
    [
        (Gap(2.0, (2.0,) * 3, "clear"), Interval(2.0, -0.1, 4.0), "a tie: the interval contains 0"),
        (Gap(2.0, (2.0,) * 3, "clear"), Interval(2.0, 0.0, 4.0), "a tie: the interval contains 0"),
        (Gap(2.0, (2.0,) * 3, "a tie"), Interval(2.0, 0.1, 4.0), "a tie: inside the spread of the seeds"),
        (Gap(2.0, (2.0,) * 3, "clear"), Interval(2.0, 0.1, 4.0), "better"),
        (Gap(-2.0, (-2.0,) * 3, "clear"), Interval(-2.0, -4.0, -0.1), "worse"),
        (Gap(2.0, (2.0,), "too few seeds"), Interval(2.0, 0.1, 4.0), "better with 1 seed: too few to tell"),
        (Gap(2.0, (2.0,) * 2, "too few seeds"), None, "better with 2 seeds: too few to tell"),
        (Gap(2.0, (2.0,) * 2, "too few seeds"), Interval(2.0, -1.0, 4.0), "a tie: the interval contains 0"),
        (Gap(2.0, (2.0,) * 3, "clear"), None, "better, over the seeds alone"),
        (None, None, "no seed in common"),
    ],
)
def test_verdicts(found, interval, words):
    assert verdict(found, interval) == words
