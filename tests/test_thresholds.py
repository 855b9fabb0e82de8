"""Thresholds against trying all of them, and against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from docre_lite.objectives import best_threshold, cyclic_thresholds

# beartype draws a random element of a list to check; the examples stay the same
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def best(scores: list[float], gold: list[bool], total: int) -> tuple[float, float]:
    return best_threshold(np.array(scores, float), np.array(gold, bool), total)


def test_best_threshold_by_hand():
    # from the top: right, wrong, right, wrong; one more gold triple was never a candidate (3 in all)
    # 1 predicted: 2·1/(1+3) = .5; 2: 2·1/(2+3) = .4; 3: 2·2/(3+3) = .667; 4: 2·2/(4+3) = .571
    assert best([0.1, 0.9, 0.4, 0.6], [False, True, True, False], 3) == pytest.approx((0.25, 2 / 3))
    # with tied scores the wrong one comes along: 2·2/(3+2) = .8, not 1
    assert best([0.8, 0.5, 0.5], [True, True, False], 2) == pytest.approx((-0.5, 0.8))
    # predicting all needs a threshold below, predicting nothing one above
    assert best([3.0], [True], 1) == (2, 1)
    assert best([3.0], [False], 1) == (4, 0)
    # equally good: 1 of 1 right with two missed, 2·1/(1+3); 2 of 5, 2·2/(5+3). The higher threshold wins
    assert best([5, 4, 3, 2, 1], [True, False, False, False, True], 3) == (4.5, 0.5)
    assert best([], [], 2) == (0, 0) and best([], [], 0) == (0, 0)
    close = np.nextafter(1.0, 2.0)
    theta, f1 = best([close, 1.0], [True, False], 1)
    assert f1 == 1 and 1.0 <= theta < close


def f1_of(scores, gold, total, theta) -> float:
    chosen = scores > theta
    return 2 * int((chosen & gold).sum()) / max(int(chosen.sum()) + total, 1)


def thresholds(column) -> list[float]:
    """One threshold for everything that can be chosen, from nothing to all."""
    return sorted(column.tolist(), reverse=True) + [column.min() - 1] if len(column) else [0.0]


def tables(axes: int):
    shape = st.tuples(*[st.integers(0 if axes == 1 else 1, 12), st.integers(1, 4)][:axes])
    cell = st.tuples(st.integers(-6, 6).map(lambda x: x / 4), st.booleans())  # many ties

    def table(shape):
        size = int(np.prod(shape))
        return st.lists(cell, min_size=size, max_size=size).map(
            lambda cells: (
                np.array([c[0] for c in cells], float).reshape(shape),
                np.array([c[1] for c in cells], bool).reshape(shape),
            )
        )

    return shape.flatmap(table)


@settings(max_examples=200)
@given(tables(1), st.integers(0, 4))
def test_best_threshold_against_trying_all(table, missed):
    scores, gold = table
    total = int(gold.sum()) + missed
    theta, f1 = best_threshold(scores, gold, total)
    brute = [f1_of(scores, gold, total, candidate) for candidate in thresholds(scores)]
    assert f1 == pytest.approx(f1_of(scores, gold, total, theta)) == pytest.approx(max(brute))


def slow_cyclic(scores, gold, total) -> np.ndarray:
    """The ascent as told: every class tries all, the highest threshold first, until a whole round is idle."""
    thetas = np.full(scores.shape[1], best_threshold(scores.ravel(), gold.ravel(), total)[0])
    idle = False
    while not idle:
        idle = True
        for r in range(len(thetas)):
            here, best = f1_of(scores, gold, total, thetas), thetas[r]
            for candidate in thresholds(scores[:, r]):
                trial = thetas.copy()
                trial[r] = candidate
                if (f1 := f1_of(scores, gold, total, trial)) > here:
                    here, best, idle = f1, candidate, False
            thetas[r] = best
    return thetas


@settings(max_examples=150)
@given(tables(2), st.integers(0, 4))
def test_cyclic_thresholds_against_the_slow_ascent(table, missed):
    scores, gold = table
    total = int(gold.sum()) + missed
    thetas = cyclic_thresholds(scores, gold, total)
    assert np.array_equal(scores > thetas, scores > slow_cyclic(scores, gold, total))
    reached = f1_of(scores, gold, total, thetas)
    assert reached >= best_threshold(scores.ravel(), gold.ravel(), total)[1]
    for r in range(scores.shape[1]):  # no single class can do better
        for candidate in thresholds(scores[:, r]):
            trial = thetas.copy()
            trial[r] = candidate
            assert f1_of(scores, gold, total, trial) <= reached


def test_cyclic_thresholds_by_hand():
    # class 0 is right above 2, class 1 above 7: one threshold cannot serve both, two can
    scores = np.array([[3.0, 8.0], [1.0, 6.0], [4.0, 5.0]])
    gold = np.array([[True, True], [False, False], [True, False]])
    assert best_threshold(scores.ravel(), gold.ravel(), 3)[1] == pytest.approx(2 * 3 / (5 + 3))
    assert cyclic_thresholds(scores, gold, 3).tolist() == [2, 7]


def test_thresholds_refuse_what_has_no_order():
    with pytest.raises(ValueError, match="finite"):
        best([np.nan], [True], 1)
    with pytest.raises(ValueError, match="finite"):
        cyclic_thresholds(np.array([[-np.inf]]), np.array([[True]]), 1)
    with pytest.raises(ValueError, match="total_gold is 1"):
        best([1.0, 2.0], [True, True], 1)
    with pytest.raises((ValueError, TypeCheckError)):  # under pytest the signature speaks first
        best([1.0, 2.0], [True], 1)
