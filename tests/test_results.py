"""Scores over seeds: means, spreads and verdicts by hand."""

from __future__ import annotations

from docre_lite.results import gap, spread


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


def test_only_seeds_that_both_have_count():
    found = gap({0: 50.0, 1: 60.0, 5: 10.0}, {0: 40.0, 1: 58.0, 2: 99.0})
    assert found.each == (10.0, 2.0) and found.mean == 6.0 and found.verdict == "too few seeds"
    assert gap({0: 1.0}, {1: 2.0}) is None
