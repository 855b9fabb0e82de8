"""A loss together with its decision rule: what a model is trained on decides how its logits are read.

Every loss is an average over pairs; none writes into its labels, and masks are minus infinity, never a large number.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .ops import full_precision
from .thresholds import best_threshold, cyclic_thresholds

TOP = 4  # relations a pair may hold at most: `num_labels` of ATLOP's DocRED script


class Objective(nn.Module):
    """Base of all objectives. `tunable` ones have thresholds that `fit` sets on development data."""

    tunable = False

    def __init__(self, top: int = TOP):
        super().__init__()
        if top < 1:
            raise ValueError(f"top={top}: a pair may hold at least one relation; give a whole number from 1")
        self.top = top

    def loss(self, logits: Float[Tensor, "P R"], labels: Bool[Tensor, "P R"]) -> Float[Tensor, ""]:
        raise NotImplementedError

    def margin(self, logits: Float[Tensor, "*pairs R"]) -> Float[Tensor, "*pairs R"]:
        """How far each relation lies above its decision threshold, in logits."""
        raise NotImplementedError

    def decide(self, logits: Float[Tensor, "*pairs R"]) -> tuple[Bool[Tensor, "*pairs R"], Float[Tensor, "*pairs R"]]:
        """The relations of each pair and all margins: those above the threshold, at most `top`, never class 0."""
        margin = self.margin(logits.float())  # bf16 has 8 bits of mantissa: ties would decide
        best = margin[..., 1:].topk(min(self.top, margin.shape[-1] - 1), dim=-1).indices + 1
        among_best = torch.zeros_like(margin, dtype=torch.bool).scatter_(-1, best, True)
        return among_best & (margin > 0), margin


class AdaptiveThreshold(Objective):
    """A threshold class that every pair scores for itself. ATLOP section 4.

    Positives must outscore class 0, class 0 must outscore the negatives; a relation is chosen if its logit
    exceeds class 0's. With k ≥ 2 positives the loss cannot go below k·log k: they compete in one softmax.
    """

    def loss(self, logits, labels):
        return adaptive_threshold_loss(logits, labels).sum() / max(len(logits), 1)

    def margin(self, logits):
        return logits - logits[..., :1]


def adaptive_threshold_loss(logits: Float[Tensor, "P R"], labels: Bool[Tensor, "P R"]) -> Float[Tensor, "P"]:
    """The adaptive-threshold loss of each pair, closed form of ATLOP section 4: both softmaxes as log-sum-exps.

    Column 0 of `labels` is not looked at: the threshold class is neither a positive nor a negative.
    """
    logits = full_precision(logits)
    threshold = torch.zeros_like(labels)
    threshold[:, 0] = True
    positive = labels & ~threshold
    above = logits.masked_fill(~(positive | threshold), -torch.inf).logsumexp(-1)  # positives and TH
    below = logits.masked_fill(positive, -torch.inf).logsumexp(-1)  # negatives and TH
    return positive.sum(-1) * above - (logits * positive).sum(-1) + below - logits[:, 0]


class BalancedSoftmax(Objective):
    """Positives above zero, negatives below, and class 0 an ordinary class: "unrelated". DocuNet (11).

    The label of an unrelated pair is {0}; class 0 is dropped when relations are chosen. Unlike the
    adaptive-threshold loss it can reach zero with any number of positives: each is held against 0 only.
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
    """A yes or no for each relation, read against thresholds: the baselines of ATLOP's Tables 5 and 6.

    `threshold` is "global" (one probability for all relations), "per_class" (one each, found by cyclic
    coordinate ascent), both tuned on development data for the best micro F1, or "adaptive": the logit of
    class 0, which here is trained as the yes or no of "unrelated".
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

        A common one knows that a pair holds at most `top` relations. The search for one each does not: which are a
        pair's best then hangs on the thresholds themselves.
        """
        scores, gold = logits[:, 1:].float().numpy(), labels[:, 1:].numpy()
        if self.threshold == "global":
            best = np.argsort(-scores, axis=1)[:, : self.top]
            scores, hits = (np.take_along_axis(x, best, 1).ravel() for x in (scores, gold))
            self.cut.fill_(best_threshold(scores, hits, int(gold.sum()))[0])
        else:
            self.cut[1:] = torch.as_tensor(cyclic_thresholds(scores, gold, int(gold.sum())), dtype=torch.float32)
