"""A loss together with its decision rule: the loss that trained a model determines how its logits are read.

Every loss is an average over pairs; none modifies its labels, and masks use minus infinity, never a large number.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .ops import full_precision

TOP = 4  # relations a pair may hold at most: `num_labels` of ATLOP's DocRED script


class Objective(nn.Module):
    """Base of all objectives. `tunable` ones have thresholds that `fit` sets on development data.

    With `count_none`, class 0 takes one of the `top` places of a pair if it is among its best. If class 0 is itself
    the threshold, that changes nothing: everything above the threshold ranks before it.
    """

    tunable = False

    def __init__(self, top: int = TOP, count_none: bool = False):
        super().__init__()
        if top < 1:
            raise ValueError(f"top={top}: no pair could hold a relation; give a whole number from 1")
        self.top, self.count_none = top, count_none

    def loss(self, logits: Float[Tensor, "P R"], labels: Bool[Tensor, "P R"]) -> Float[Tensor, ""]:
        raise NotImplementedError

    def margin(self, logits: Float[Tensor, "*pairs R"]) -> Float[Tensor, "*pairs R"]:
        """By how much each relation exceeds its decision threshold, in logits."""
        raise NotImplementedError

    def decide(
        self,
        logits: Float[Tensor, "*pairs R"],
    ) -> tuple[Bool[Tensor, "*pairs R"], Float[Tensor, "*pairs R"]]:
        """The relations chosen for each pair, and the margins of all.

        Chosen are those above the threshold, at most `top`, never class 0.
        """
        margin = self.margin(logits.float())  # bf16 has 8 bits of mantissa: ties would decide
        first = 0 if self.count_none else 1
        most = min(self.top, margin.shape[-1] - first)
        best = margin[..., first:].topk(most, dim=-1).indices + first
        among_best = torch.zeros_like(margin, dtype=torch.bool).scatter_(-1, best, True)
        among_best[..., 0] = False
        return among_best & (margin > 0), margin


class AdaptiveThreshold(Objective):
    """A threshold class that every pair scores for itself. ATLOP section 4.

    Positives must outscore class 0, and class 0 must outscore the negatives; a relation is
    chosen if its logit exceeds that of class 0. With k ≥ 2 positives the loss cannot fall below
    k·log k: they compete in one softmax.
    """

    def loss(self, logits, labels):
        return adaptive_threshold_loss(logits, labels).sum() / max(len(logits), 1)

    def margin(self, logits):
        return logits - logits[..., :1]


def adaptive_threshold_loss(
    logits: Float[Tensor, "P R"],
    labels: Bool[Tensor, "P R"],
) -> Float[Tensor, "P"]:
    """The adaptive-threshold loss of each pair, ATLOP section 4: two softmaxes as log-sum-exps.

    Column 0 of `labels` is ignored: the threshold class is neither positive nor negative.
    """
    logits = full_precision(logits)
    threshold = torch.zeros_like(labels)
    threshold[:, 0] = True
    positive = labels & ~threshold
    # positives and TH, then negatives and TH
    above = logits.masked_fill(~(positive | threshold), -torch.inf).logsumexp(-1)
    below = logits.masked_fill(positive, -torch.inf).logsumexp(-1)
    return positive.sum(-1) * above - (logits * positive).sum(-1) + below - logits[:, 0]


class BalancedSoftmax(Objective):
    """Positives above zero, negatives below, and class 0 an ordinary class: "unrelated". DocuNet (11).

    The label of an unrelated pair is {0}; class 0 is dropped when relations are chosen. Unlike the
    adaptive-threshold loss it can reach zero with any number of positives: each competes with 0 only.
    """

    def loss(self, logits, labels):
        return threshold_softmax(logits, labels, logits.new_zeros(len(logits))).sum() / max(len(logits), 1)

    def margin(self, logits):
        return logits


class AdaptiveSoftmax(Objective):
    """Balanced softmax around a threshold class that every pair scores for itself. PAEE (9)."""

    def loss(self, logits, labels):
        loss = threshold_softmax(logits[:, 1:], labels[:, 1:], logits[:, 0])
        return loss.sum() / max(len(logits), 1)

    def margin(self, logits):
        return logits - logits[..., :1]


def threshold_softmax(
    logits: Float[Tensor, "P R"], labels: Bool[Tensor, "P R"], threshold: Float[Tensor, "P"]
) -> Float[Tensor, "P"]:
    """`log(1 + Σ_neg e^(s − t)) + log(1 + Σ_pos e^(t − s))` of each pair: DocuNet (10) with t for s_0, PAEE (9)."""
    margin = full_precision(logits) - full_precision(threshold)[:, None]
    zero = margin.new_zeros(len(margin), 1)
    negative = torch.cat([zero, margin.masked_fill(labels, -torch.inf)], 1).logsumexp(1)
    return negative + torch.cat([zero, (-margin).masked_fill(~labels, -torch.inf)], 1).logsumexp(1)


class BinaryCrossEntropy(Objective):
    """A yes or no for each relation, compared with thresholds: the baselines of ATLOP's Tables 5 and 6.

    `threshold` is "global" (one probability for all relations) or "per_class" (one each, found by cyclic
    coordinate ascent), both tuned on development data for the best micro F1, or "adaptive": the logit of
    class 0, which is trained here as a yes or no to "unrelated".
    """

    def __init__(
        self, relations: int, threshold: Literal["global", "per_class", "adaptive"] = "global", top: int = TOP
    ):
        super().__init__(top)
        self.threshold = threshold
        self.tunable = threshold != "adaptive"
        self.register_buffer("cut", torch.zeros(relations))  # in logits: probability 0.5

    def loss(self, logits, labels):
        if not len(logits):
            return logits.sum()
        logits = full_precision(logits)
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))

    def margin(self, logits):
        return logits - (logits[..., :1] if self.threshold == "adaptive" else self.cut)

    def fit(self, logits: Float[Tensor, "P R"], labels: Bool[Tensor, "P R"]) -> None:
        """Sets the thresholds that give the best micro F1 on these pairs.

        The search for a common threshold respects the limit of `top` relations per pair. The search for one per class
        does not: which relations are a pair's best then depends on the thresholds themselves.
        """
        scores, gold = logits[:, 1:].float().numpy(), labels[:, 1:].numpy()
        if self.threshold == "global":
            best = np.argsort(-scores, axis=1)[:, : self.top]
            scores, hits = (np.take_along_axis(x, best, 1).ravel() for x in (scores, gold))
            self.cut.fill_(best_threshold(scores, hits, int(gold.sum()))[0])
        else:
            thetas = cyclic_thresholds(scores, gold, int(gold.sum())).astype(np.float32)  # Apple's GPUs know no float64
            self.cut[1:] = torch.from_numpy(thetas)


# Two views of the same cells, DocRE-II ------------------------------------------------------------------------------

TEMPERATURE = 0.5  # of the SimCLR control; the paper gives none


def simsiam(
    one: Float[Tensor, "P W"], two: Float[Tensor, "P W"], from_one: Float[Tensor, "P W"], from_two: Float[Tensor, "P W"]
) -> Float[Tensor, ""]:
    """How poorly each view predicts the other, by cosine, targets without gradient. DocRE-II (14)."""
    if not len(one):
        return one.sum()
    apart = 2 - F.cosine_similarity(from_two, one.detach(), -1) - F.cosine_similarity(from_one, two.detach(), -1)
    return apart.mean()


def simclr(
    one: Float[Tensor, "B N N W"], two: Float[Tensor, "B N N W"], mask: Bool[Tensor, "B N N"]
) -> Float[Tensor, ""]:
    """A cell's two views must find each other among all cells of the document: the control with negatives."""
    if not mask.any():
        return one.sum() * 0
    one, two = (F.normalize(x.flatten(1, 2), dim=-1) for x in (one, two))
    keep = mask.flatten(1)
    alike = one @ two.transpose(1, 2) / TEMPERATURE
    total = alike.new_zeros(())
    for scores in (alike, alike.transpose(1, 2)):
        own = scores.diagonal(dim1=1, dim2=2)
        total = total + (scores.masked_fill(~keep[:, None], -torch.inf).logsumexp(-1) - own)[keep].mean()
    return total / 2


def spread(cells: Float[Tensor, "P W"]) -> Float[Tensor, ""]:
    """Has the space collapsed? Spread of unit vectors per dimension, times √W: 1 if free, 0 if all coincide."""
    if len(cells) < 2:
        return cells.new_ones(())
    unit = F.normalize(full_precision(cells), dim=-1)
    return unit.std(0, correction=0).mean() * cells.shape[-1] ** 0.5


# The search for decision thresholds on development data --------------------------------------------------------------


def best_threshold(
    scores: Float[np.ndarray, " P"], gold: Bool[np.ndarray, " P"], total_gold: int
) -> tuple[float, float]:
    """The threshold θ with the best micro-F1 when every score above θ (`score > θ`) is a prediction, and that F1.

    scores [P] finite, gold [P] bool; `total_gold` also counts gold triples that are not among the P (recall
    needs them). θ lies halfway between two scores, or 1 beyond them at the ends; the highest of equally good ones
    wins. One sort tries all thresholds, as GAIN does. The F1 is optimistic: it was found on the data it scores.
    """
    scores, gold = _checked(scores, gold, total_gold, 1)
    theta, right, chosen = _cuts(scores, gold)
    f1 = _f1_of(right, chosen, total_gold)
    best = int(np.argmax(f1))
    return float(theta[best]), float(f1[best])


def cyclic_thresholds(
    scores: Float[np.ndarray, "P R"], gold: Bool[np.ndarray, "P R"], total_gold: int
) -> Float[np.ndarray, " R"]:
    """A threshold for each class by cyclic coordinate ascent on micro-F1 (Fan & Lin; ATLOP Table 6, "per-class").

    scores [P, R] finite, gold [P, R] bool, thresholds [R]; leave the class NA out. Starts at the best common
    threshold; each class in turn takes the best value given the others, until a whole round changes nothing.
    The result is a local optimum and depends on the order of the classes. Rare classes over-fit: ATLOP found per-class
    thresholds better than a common one on development data (61.73 against 60.14) and worse on test (60.35 against
    60.62).
    """
    scores, gold = _checked(scores, gold, total_gold, 2)
    thetas = np.full(scores.shape[1], best_threshold(scores.ravel(), gold.ravel(), total_gold)[0])
    above = scores > thetas
    right, chosen = (above & gold).sum(0), above.sum(0)
    cuts = [_cuts(scores[:, r], gold[:, r]) for r in range(len(thetas))]
    best, changed = _f1_of(right.sum(), chosen.sum(), total_gold), True
    while changed:
        changed = False
        for r, (theta, hits, picks) in enumerate(cuts):
            f1 = _f1_of(right.sum() - right[r] + hits, chosen.sum() - chosen[r] + picks, total_gold)
            k = int(np.argmax(f1))
            if f1[k] > best:  # strictly, so that the rounds end
                best, changed = f1[k], True
                thetas[r], right[r], chosen[r] = theta[k], hits[k], picks[k]
    return thetas


def _checked(scores: np.ndarray, gold: np.ndarray, total_gold: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    scores, gold = np.asarray(scores, dtype=float), np.asarray(gold, dtype=bool)
    if scores.ndim != dimensions or scores.shape != gold.shape:
        raise ValueError(f"scores {scores.shape} and gold {gold.shape} must both have {dimensions} axes and agree")
    if not np.isfinite(scores).all():
        raise ValueError("some scores are not finite; leave out pairs that nobody classifies")
    if total_gold < gold.sum():
        raise ValueError(f"total_gold is {total_gold}, but {gold.sum()} of the scored pairs are gold")
    return scores, gold


def _f1_of(right, chosen, total_gold: int):
    return 2 * right / np.maximum(chosen + total_gold, 1)  # 2TP / (predicted + gold), and 0 for 0 / 0


def _cuts(scores: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every threshold that can be the best, from the top: θ [K], gold above θ [K], all above θ [K]."""
    if not len(scores):
        return np.zeros(1), np.zeros(1, int), np.zeros(1, int)
    order = np.argsort(-scores)
    ranked, right = scores[order], np.cumsum(gold[order])
    last = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))  # no threshold separates equal scores
    upper = ranked[last]
    middle = (upper + np.append(upper[1:], upper[-1] - 2)) / 2
    # there is no midpoint between two neighbouring floats
    theta = np.where(middle < upper, middle, np.append(upper[1:], upper[-1] - 1))
    theta, right, chosen = np.append(upper[0] + 1, theta), np.append(0, right[last]), np.append(0, last + 1)
    # a cut that adds only wrong scores lowers precision and gains nothing: it is never the best
    useful = np.append(True, np.diff(right) > 0)
    return theta[useful], right[useful], chosen[useful]
