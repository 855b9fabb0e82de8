"""Losses against their equations, decisions by hand."""

from __future__ import annotations

import math

import pytest
import slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from docre_lite.objectives import (
    AdaptiveSoftmax,
    AdaptiveThreshold,
    BalancedSoftmax,
    BinaryCrossEntropy,
    adaptive_threshold_loss,
    threshold_softmax,
)

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def labels_of(*rows: str) -> torch.Tensor:
    return torch.tensor([[c == "1" for c in row] for row in rows])


def test_adaptive_threshold_is_two_softmaxes():
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    logits.requires_grad_()
    labels = labels_of("10000", "01000", "01010", "01111", "11000", "00000")
    fast = adaptive_threshold_loss(logits, labels)
    rows = [slow.adaptive_threshold(logits[p], set(labels[p].nonzero().flatten().tolist())) for p in range(6)]
    expected = torch.stack(rows)
    torch.testing.assert_close(fast, expected, rtol=1e-10, atol=1e-10)
    weight = torch.arange(1.0, 7.0).double()
    ours, theirs = (torch.autograd.grad((loss * weight).sum(), logits)[0] for loss in (fast, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    # a mean over pairs, not over documents or classes
    torch.testing.assert_close(AdaptiveThreshold().loss(logits, labels), expected.sum() / 6)


def test_adaptive_threshold_by_hand():
    """Three classes (TH, a, b) with logits 0, 0, 0: every softmax is over equal members."""
    zeros = torch.zeros(1, 3)
    values = {
        "100": math.log(3),  # no positive: TH against a and b
        "000": math.log(3),
        "010": math.log(2) + math.log(2),  # a against TH; TH against b
        "110": math.log(2) + math.log(2),  # column 0 is not looked at
        "011": 2 * math.log(3) + 0,  # a and b each against a, b and TH; TH against nothing
    }
    for row, value in values.items():
        assert float(adaptive_threshold_loss(zeros, labels_of(row))) == pytest.approx(value), row
    # logits TH=1, a=2, b=0 with a positive: log(e² + e) − 2 + log(e + 1) − 1
    loss = float(adaptive_threshold_loss(torch.tensor([[1.0, 2.0, 0.0]]), labels_of("010")))
    assert loss == pytest.approx(math.log(math.e**2 + math.e) - 2 + math.log(math.e + 1) - 1)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_floor_of_k_positives(k):
    """Positives compete in one softmax: at saturated logits the loss is k log k, and nothing is below."""
    logits = torch.tensor([[0.0] + [60.0] * k + [-60.0] * 2]).double()
    labels = torch.tensor([[False] + [True] * k + [False] * 2])
    assert float(adaptive_threshold_loss(logits, labels)) == pytest.approx(k * math.log(k), abs=1e-9)
    assert float(adaptive_threshold_loss(logits + torch.randn(1, k + 3), labels)) >= k * math.log(k)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(-30, 30), st.booleans()), min_size=2, max_size=6), st.floats(-50, 50))
def test_adaptive_threshold_sees_differences_only(classes, shift):
    logits = torch.tensor([[value for value, _ in classes]]).double()
    labels = torch.tensor([[yes for _, yes in classes]])
    loss = adaptive_threshold_loss(logits, labels)
    torch.testing.assert_close(adaptive_threshold_loss(logits + shift, labels), loss, rtol=1e-8, atol=1e-8)
    assert loss >= -1e-9


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_keep_losses_finite(size):
    logits = torch.tensor([[0.0, size, -size]]).requires_grad_()
    for objective in (AdaptiveThreshold(), BinaryCrossEntropy(3), BalancedSoftmax(), AdaptiveSoftmax()):
        loss = objective.loss(logits, labels_of("010"))
        assert loss.isfinite() and torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize(
    "objective", [AdaptiveThreshold(), BinaryCrossEntropy(3), BalancedSoftmax(), AdaptiveSoftmax()]
)
def test_no_pairs_no_loss(objective):
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = objective.loss(logits, torch.zeros(0, 3, dtype=torch.bool))
    assert float(loss.detach()) == 0
    loss.backward()


def test_losses_are_float32_at_least():
    logits = torch.randn(4, 3)
    labels = labels_of("100", "010", "011", "001")
    for objective in (AdaptiveThreshold(), BinaryCrossEntropy(3), BalancedSoftmax(), AdaptiveSoftmax()):
        half = objective.loss(logits.bfloat16(), labels)
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, objective.loss(logits.bfloat16().float(), labels))


ROWS = ("10000", "01000", "01010", "01111", "00100", "11111", "00000")


@pytest.mark.parametrize("kind", [BalancedSoftmax, AdaptiveSoftmax])
def test_softmax_around_a_threshold_is_its_equation(kind):
    logits = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 4
    logits.requires_grad_()
    labels = labels_of(*ROWS)
    equation = slow.balanced_softmax if kind is BalancedSoftmax else slow.adaptive_softmax
    expected = [equation(logits[p], set(labels[p].nonzero().flatten().tolist())) for p in range(7)]
    for p in range(7):  # each pair by itself, then the mean over pairs
        one = kind().loss(logits[p : p + 1], labels[p : p + 1])
        torch.testing.assert_close(one, expected[p], rtol=1e-10, atol=1e-10)
    fast, mean = kind().loss(logits, labels), sum(expected) / 7
    torch.testing.assert_close(fast, mean, rtol=1e-10, atol=1e-10)
    ours, theirs = (torch.autograd.grad(loss, logits)[0] for loss in (fast, mean))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_balanced_softmax_by_hand():
    """Three classes with logits 0: log(1 + how many must not) + log(1 + how many must). Class 0 is one of them."""
    loss = BalancedSoftmax().loss
    for row, (negative, positive) in {
        "100": (2, 1),
        "010": (2, 1),
        "011": (1, 2),
        "111": (0, 3),
        "000": (3, 0),
    }.items():
        value = math.log(1 + negative) + math.log(1 + positive)
        assert float(loss(torch.zeros(1, 3), labels_of(row))) == pytest.approx(value), row
    # logits 1, 2, −1, class 1 holds: log(1 + e + 1/e) + log(1 + e⁻²)
    value = math.log(1 + math.e + 1 / math.e) + math.log(1 + math.exp(-2))
    assert float(loss(torch.tensor([[1.0, 2.0, -1.0]]), labels_of("010"))) == pytest.approx(value)
    # an unrelated pair is pushed up in class 0 and down elsewhere; a related one down in class 0
    logits = torch.zeros(1, 3, requires_grad=True)
    for row, signs in {"100": [-1, 1, 1], "010": [1, -1, 1]}.items():
        assert torch.autograd.grad(loss(logits, labels_of(row)), logits)[0].sign().tolist() == [signs]


def test_adaptive_softmax_by_hand():
    """Three classes (TH, a, b) with logits 0. TH is neither positive nor negative, whatever column 0 says."""
    loss = AdaptiveSoftmax().loss
    for row, (negative, positive) in {
        "100": (2, 0),
        "000": (2, 0),
        "010": (1, 1),
        "110": (1, 1),
        "011": (0, 2),
    }.items():
        value = math.log(1 + negative) + math.log(1 + positive)
        assert float(loss(torch.zeros(1, 3), labels_of(row))) == pytest.approx(value), row
    # logits TH = 1, a = 2, b = 0, a holds: log(e + 1) + log(e⁻¹ + e⁻²), as printed
    value = math.log(math.e + 1) + math.log(math.exp(-1) + math.exp(-2))
    assert float(loss(torch.tensor([[1.0, 2.0, 0.0]]), labels_of("010"))) == pytest.approx(value)


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4])
def test_positives_do_not_compete(k):
    """Where the adaptive-threshold loss ends at k log k, both others end at 0."""
    logits = torch.tensor([[0.0] + [60.0] * k + [-60.0] * 2]).double()
    labels = torch.tensor([[False] + [True] * k + [False] * 2])
    floor = k * math.log(k) if k else 0
    assert float(adaptive_threshold_loss(logits, labels)) == pytest.approx(floor, abs=1e-9)
    assert float(AdaptiveSoftmax().loss(logits, labels)) == pytest.approx(0, abs=1e-9)
    logits[:, 0] = -60 if k else 60  # here class 0 takes part: unrelated, or not
    labels[:, 0] = not k
    assert float(BalancedSoftmax().loss(logits, labels)) == pytest.approx(0, abs=1e-9)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(-30, 30), st.booleans()), min_size=2, max_size=6), st.floats(-50, 50))
def test_how_the_three_losses_are_related(classes, shift):
    logits = torch.tensor([[value for value, _ in classes]]).double()
    labels = torch.tensor([[yes for _, yes in classes]])
    labels[:, 0] = False
    threshold, adaptive = adaptive_threshold_loss(logits, labels)[0], AdaptiveSoftmax().loss(logits, labels)
    moved = AdaptiveSoftmax().loss(logits + shift, labels)  # differences only
    torch.testing.assert_close(moved, adaptive, rtol=1e-8, atol=1e-8)
    if labels.sum() <= 1:  # the negative parts are equal, and one positive has nobody to compete with
        torch.testing.assert_close(adaptive, threshold, rtol=1e-9, atol=1e-9)
    else:
        assert adaptive <= threshold + 1e-9
    # the adaptive softmax is the balanced one measured from TH, which then is no class
    balanced = BalancedSoftmax().loss(logits[:, 1:] - logits[:, :1], labels[:, 1:])
    torch.testing.assert_close(balanced, adaptive, rtol=1e-9, atol=1e-9)
    both = threshold_softmax(logits, labels, logits.new_tensor([shift]))
    torch.testing.assert_close(both[0], BalancedSoftmax().loss(logits - shift, labels), rtol=1e-9, atol=1e-9)


def test_decisions_around_a_threshold_by_hand():
    rows = [[9.0, 0.1, -0.1, 2.0], [0.0, -1.0, -2.0, -3.0], [-5.0, 1.0, 3.0, 2.0], [-2.0, -1.0, 0.0, -3.0]]
    # against 0, whatever class 0 says of itself; 0 itself is not above 0
    assert chosen(BalancedSoftmax(), *rows) == [[1, 3], [], [1, 2, 3], []]
    assert chosen(BalancedSoftmax(top=2), *rows) == [[1, 3], [], [2, 3], []]
    assert chosen(AdaptiveSoftmax(), *rows) == [[], [], [1, 2, 3], [1, 2]]  # against class 0
    assert chosen(AdaptiveSoftmax(top=1), *rows) == [[], [], [2], [2]]
    assert BalancedSoftmax().decide(torch.tensor(rows))[1].tolist() == torch.tensor(rows).tolist()
    margin = AdaptiveSoftmax().decide(torch.tensor(rows))[1]
    assert margin[2].tolist() == [0.0, 6.0, 8.0, 7.0]
    assert not BalancedSoftmax.tunable and not AdaptiveSoftmax.tunable


def test_class_0_may_take_a_place():
    """Of the two best: class 0 and r; both above zero, and r and s where class 0 comes third."""
    rows = [3.0, 1.0, 2.0, 0.5], [1.0, 3.0, 2.0, 0.5], [-1.0, 3.0, -2.0, 2.0], [3.0, -1.0, -2.0, -3.0]
    assert chosen(BalancedSoftmax(top=2), *rows) == [[1, 2], [1, 2], [1, 3], []]
    assert chosen(BalancedSoftmax(top=2, count_none=True), *rows) == [[2], [1, 2], [1, 3], []]
    assert chosen(BalancedSoftmax(top=1, count_none=True), *rows) == [[], [1], [1], []]
    assert chosen(BalancedSoftmax(top=9, count_none=True), *rows) == chosen(BalancedSoftmax(top=9), *rows)
    # what lies above class 0 stands before it: as a threshold it takes no place from anyone
    logits = torch.randn(200, 7, generator=torch.Generator().manual_seed(0))
    for kind in (AdaptiveThreshold, AdaptiveSoftmax):
        for top in (1, 2, 3, 9):
            assert torch.equal(kind(top).decide(logits)[0], kind(top, count_none=True).decide(logits)[0])


def test_binary_cross_entropy_is_its_equation():
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = labels_of("1000", "0101", "0010")
    fast, expected = BinaryCrossEntropy(4).loss(logits, labels), slow.binary_cross_entropy(logits, labels)
    torch.testing.assert_close(fast, expected, rtol=1e-10, atol=1e-10)
    ours, theirs = (torch.autograd.grad(loss, logits)[0] for loss in (fast, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def chosen(objective, *rows: list[float]) -> list[list[int]]:
    decided, _ = objective.decide(torch.tensor(rows))
    return [row.nonzero().flatten().tolist() for row in decided]


def test_decisions_by_hand():
    at = AdaptiveThreshold(top=2)
    assert chosen(at, [1.0, 2.0, 0.5, 0.9]) == [[1]]
    assert chosen(at, [0.0, 1.0, 3.0, 2.0]) == [[2, 3]]  # three lie above: the best two
    assert chosen(at, [5.0, 1.0, 3.0, 2.0]) == [[]]
    assert chosen(at, [1.0, 1.0, 1.0, 1.0]) == [[]]  # a tie with the threshold is not above it
    assert chosen(at, [-9.0, -8.0, -8.5, -9.5]) == [[1, 2]]  # only differences count
    assert chosen(AdaptiveThreshold(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, -1.0]) == [[2, 3, 4, 5]]  # four by default
    assert chosen(AdaptiveThreshold(top=9), [0.0, 1.0, 2.0]) == [[1, 2]]  # more than there are
    tied = chosen(at, [0.0, 1.0, 1.0, 1.0])[0]  # equal scores: still two, never more
    assert len(tied) == 2


def test_class_0_is_never_chosen():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    logits[:10, 0] = 99.0
    for objective in (
        AdaptiveThreshold(),
        BinaryCrossEntropy(4),
        BinaryCrossEntropy(4, "per_class"),
        BinaryCrossEntropy(4, "adaptive"),
        BalancedSoftmax(),
        AdaptiveSoftmax(),
    ):
        decided, _ = objective.decide(logits)
        assert not decided[:, 0].any() and decided.any()


def test_one_class_only():
    decided, margin = AdaptiveThreshold().decide(torch.zeros(2, 3, 3, 1))
    assert decided.shape == margin.shape == (2, 3, 3, 1) and not decided.any()


def test_margins_are_float32():
    """512 − 1 = 511 has nine bits, one more than bf16 holds; there it is 512."""
    logits = torch.tensor([[1.0, 512.0, 0.0]], dtype=torch.bfloat16)
    for objective in (AdaptiveThreshold(), BinaryCrossEntropy(3, "adaptive"), AdaptiveSoftmax()):
        _, margin = objective.decide(logits)
        assert margin.dtype == torch.float32
        assert margin.tolist() == [[0.0, 511.0, -1.0]]


def test_decisions_of_any_shape_agree():
    at, logits = AdaptiveThreshold(top=2), torch.randn(2, 3, 3, 6, generator=torch.Generator().manual_seed(3))
    whole, margins = at.decide(logits)
    for b in range(2):
        for s in range(3):
            for o in range(3):
                decided, margin = at.decide(logits[b, s, o].unsqueeze(0))
                assert torch.equal(decided[0], whole[b, s, o]) and torch.equal(margin[0], margins[b, s, o])


def test_thresholds_of_binary_cross_entropy():
    rows = [[9.0, 0.1, -0.1, 2.0]]
    assert chosen(BinaryCrossEntropy(4), *rows) == [[1, 3]]  # probability one half before tuning
    assert chosen(BinaryCrossEntropy(4, "adaptive"), *rows) == [[]]  # class 0 has 9
    tuned = BinaryCrossEntropy(4, "per_class")
    tuned.cut[1:] = torch.tensor([1.0, -1.0, 3.0])
    assert chosen(tuned, *rows) == [[2]]
    assert tuned.decide(torch.tensor(rows))[1][0, 1:].tolist() == pytest.approx([-0.9, 0.9, -1.0])


@pytest.mark.parametrize("kind", ["global", "per_class"])
def test_tuned_thresholds_give_the_best_f1(kind):
    """Gold above -2 for relation 1 and above +1 for relation 2: per class all right, globally not."""
    logits = torch.tensor([[0, -1.0, 0.5], [0, -3.0, 2.0], [0, -1.5, -4.0], [0, -2.5, 1.5], [0, 0.0, 0.0]])
    labels = torch.zeros(5, 3, dtype=torch.bool)
    labels[:, 1], labels[:, 2] = logits[:, 1] > -2, logits[:, 2] > 1
    labels[:, 0] = ~labels.any(1)
    objective = BinaryCrossEntropy(3, kind)
    assert objective.tunable and not AdaptiveThreshold().tunable and not BinaryCrossEntropy(3, "adaptive").tunable
    objective.fit(logits, labels)
    decided, _ = objective.decide(logits)
    correct, count, gold = (decided & labels)[:, 1:].sum(), decided.sum(), labels[:, 1:].sum()
    found = float(2 * correct / (count + gold))
    if kind == "per_class":
        assert found == 1 and torch.equal(decided[:, 1:], labels[:, 1:])
    else:
        assert len(set(objective.cut.tolist())) == 1
        values = logits[:, 1:].flatten().unique()
        for cut in [*(values - 1e-3).tolist(), *(values + 1e-3).tolist()]:
            yes = logits[:, 1:] > cut
            other = float(2 * (yes & labels[:, 1:]).sum() / (yes.sum() + gold))
            assert found >= other - 1e-6
    assert "cut" in objective.state_dict()


def test_a_common_threshold_knows_how_many_relations_a_pair_holds():
    """With one relation a pair at most, the second best of a pair is no prediction that a threshold must keep out."""
    logits = torch.tensor([[0, 5.0, 4.0, 3.0], [0, 2.0, 1.0, 0.0], [0, -1.0, -2.0, -3.0]])
    labels = torch.zeros(3, 4, dtype=torch.bool)
    labels[0, 1] = labels[1, 1] = True
    objective = BinaryCrossEntropy(4, top=1)
    objective.fit(logits, labels)
    assert torch.equal(objective.decide(logits)[0], labels)
