"""Scores over seeds and documents: means, spreads, intervals and verdicts, by hand and against loops."""

from __future__ import annotations

import numpy as np
import pytest

from docre_lite.bench.results import difference, f1_of, paired_bootstrap, spread, verdict


def test_spread_by_hand():
    assert spread([60.0, 62.0, 64.0]) == "62.0\u00a0±\u00a02.0"
    assert spread([61.04]) == "61.0" and spread([]) == ""


def values(*scores: float) -> dict[int, float]:
    """Scores in % by seed."""
    return dict(enumerate(map(float, scores)))


def rows(counts: np.ndarray, checksum: str = "same") -> dict[int, dict]:
    """Rows of results by seed, as `bench run` stores them, with these counts per document."""
    names = ("gold", "predicted", "correct", "seen")
    return {
        seed: {
            "test": {"f1": slow_f1([[*d[:3], 0] for d in side]) / 100, "composed_f1": 0.5}
            | {"by_document": {name: side[:, k].tolist() for k, name in enumerate(names)}},
            "documents": {"test": {"checksum": checksum}},
        }
        for seed, side in enumerate(counts)
    }


# Verdicts


def test_the_words_of_an_interval():
    assert [verdict(*interval) for interval in ((-1.0, 1.0), (0.1, 0.9), (-0.4, 0.0))] == ["tie"] * 3
    assert verdict(0.1, 1.1) == "better" and verdict(-7.0, -0.1) == "worse"
    assert verdict(-0.1, 1.1) == verdict(-5.0, 5.0) == "no verdict: wider than ±1"


def test_scores_alone_are_judged_by_seeds():
    """A constant gap hidden in a spread three times its size: what seeds share falls out when they are paired."""
    theirs = values(60, 62, 64, 66, 68)
    found = difference(values(61.9, 64.1, 66.0, 67.9, 70.1), theirs)
    assert found.mean == pytest.approx(2.0) and found.each == pytest.approx((1.9, 2.1, 2.0, 1.9, 2.1))
    half = 2.776 * 0.1 / 5**0.5  # t of four degrees of freedom, their standard deviation is 0.1
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half)) and found.verdict == "better"
    assert str(found) == "**+2.0** (+1.9 to +2.1, better)"
    assert difference(theirs, values(61.9, 64.1, 66.0, 67.9, 70.1)).verdict == "worse"
    assert difference(values(60.4, 61.6, 64.4, 65.6, 68.4), theirs).verdict == "tie"
    assert difference(values(70, 52, 74, 56, 78), theirs).verdict == "no verdict: wider than ±1"


def test_fewer_than_five_seeds_are_no_verdict():
    found = difference(values(70, 72, 74, 76), values(60, 62, 64, 66, 99))
    assert found.each == (10.0,) * 4 and found.verdict == "no verdict: 4 seeds"
    alone = difference({7: 50.0, 8: 1.0}, {7: 50.04, 9: 2.0})
    assert alone.low is None and str(alone) == "**+0.0** (no verdict: 1 seed)"  # and no minus before a zero
    assert difference({0: 1.0}, {1: 2.0}) is None


def test_effects_far_beyond_the_papers_are_flagged():
    ours, theirs = values(30, 31, 29, 30, 30), values(61, 62, 60, 61, 61)
    found = difference(ours, theirs, published=-0.89)
    assert found.too_large and str(found).endswith("worse, 10 times the paper's effect or more)")
    assert not difference(ours, theirs, published=-10.0).too_large and not difference(ours, theirs).too_large


def test_rows_are_judged_by_documents_and_seeds():
    rng = np.random.default_rng(7)
    ours, theirs = counts(rng, 5, 200, 0.8, 0.7), counts(rng, 5, 200, 0.6, 0.55)
    theirs[..., 0] = ours[..., 0]
    found = difference(rows(ours), rows(theirs), draws=300)
    assert (found.low, found.high) == paired_bootstrap(*(without_seen(x) for x in (ours, theirs)), draws=300)
    assert found.verdict == "better" and found.low < found.mean < found.high
    assert difference(rows(ours), rows(theirs, "other")).verdict == "no verdict: scored on different documents"
    composed = difference(rows(ours), rows(theirs), "composed_f1")  # for which these rows have no counts
    assert composed.verdict == "tie" and (composed.low, composed.high) == (0.0, 0.0)


def without_seen(side: np.ndarray) -> np.ndarray:
    side = side.copy()
    side[..., 3] = 0
    return side


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
    for begin in range(0, draws, 500):
        size = min(500, draws - begin)
        all_drawn = rng.integers(0, documents, size=(size, documents))
        for drawn, which in zip(all_drawn, rng.integers(0, seeds, size=(size, seeds)), strict=True):
            each = [
                slow_f1([ours[s][d].tolist() for d in drawn]) - slow_f1([theirs[s][d].tolist() for d in drawn])
                for s in range(seeds)
            ]
            whole = sum(each) / seeds
            of_seeds = sum(each[s] for s in which) / seeds - whole
            gaps.append(whole + of_seeds * (seeds / (seeds - 1)) ** 0.5 if seeds > 1 else whole)
    return float(np.quantile(gaps, 0.025)), float(np.quantile(gaps, 0.975))


@pytest.mark.parametrize("seeds", [1, 3])
def test_fast_and_slow_bootstrap_agree(seeds):
    rng = np.random.default_rng(1)
    ours, theirs = counts(rng, seeds, 9, 0.7, 0.6), counts(rng, seeds, 9, 0.6, 0.6)
    theirs[..., 0] = ours[..., 0]
    found = paired_bootstrap(ours, theirs, draws=620, seed=5)  # more than one block of draws
    assert found == pytest.approx(slow_bootstrap(ours, theirs, 620, 5), abs=1e-9)


def test_the_bootstrap_is_seeded_and_turns_around():
    rng = np.random.default_rng(2)
    ours, theirs = counts(rng, 2, 40, 0.7, 0.6), counts(rng, 2, 40, 0.6, 0.6)
    found = paired_bootstrap(ours, theirs, draws=200)
    assert found == paired_bootstrap(ours, theirs, draws=200) != paired_bootstrap(ours, theirs, draws=200, seed=1)
    low, high = paired_bootstrap(theirs, ours, draws=200)
    assert (low, high) == pytest.approx((-found[1], -found[0]))


def test_identical_predictions_are_exactly_zero():
    same = counts(np.random.default_rng(3), 3, 50, 0.7, 0.6)
    assert paired_bootstrap(same, same.copy(), draws=1000) == (0.0, 0.0)


def test_seeds_that_disagree_widen_the_interval():
    """The same mean gap, once from every seed and once from seeds that differ by ten points."""
    gold = np.full((5, 200), 10)
    even, odd = np.full((5, 200), 6), np.array([4, 5, 6, 7, 8])[:, None].repeat(200, 1)
    theirs = np.stack([gold, gold, np.full((5, 200), 5), np.zeros_like(gold)], -1)
    sides = [np.stack([gold, gold, correct, np.zeros_like(gold)], -1) for correct in (even, odd)]
    steady, shaky = (paired_bootstrap(side, theirs, draws=1000) for side in sides)
    assert steady == (pytest.approx(10), pytest.approx(10)) and shaky[0] < 0 < 10 < shaky[1]


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
    assert found[1] - found[0] < 0.2 * (alone[1] - alone[0])


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
        held += found[0] <= true <= found[1]
    assert 0.91 <= held / 300 <= 0.98


def test_f1_of_sums():
    """Nothing at all; all correct and all seen; three correct of four gold and six predicted."""
    sums = np.array([[0.0, 0, 0, 0], [3, 2, 2, 2], [4, 6, 3, 0]])
    assert f1_of(sums).tolist() == pytest.approx([0, 0, 60])


def test_the_interval_covers_other_seeds_too():
    """Five seeds of a model whose true gap is known: what one set of seeds gives must hold it about as often."""
    rng, held = np.random.default_rng(8), 0
    gold = np.full((5, 40), 20)
    for k in range(300):
        level = 0.5 + rng.normal(0, 0.03, size=(2, 5, 1))  # each seed of each model is as good as it happens to be
        sides = [np.stack([gold, gold, rng.binomial(gold, p), np.zeros_like(gold)], -1) for p in level.clip(0, 1)]
        low, high = paired_bootstrap(*sides, draws=300, seed=k)
        held += low <= 0 <= high
    assert 0.85 <= held / 300 <= 0.98  # five seeds tell little of their own spread: somewhat less than 95 %
