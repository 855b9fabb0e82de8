"""Noisy views of one document's answers, and how they are compared: what DocRE-II's second stage trains with."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ..ops import full_precision

Cells = Bool[Tensor, "B N N"]
Matrix = Float[Tensor, "B N N W"]
Answers = Bool[Tensor, "B N N R"]
TEMPERATURE = 0.5  # of the SimCLR control; the paper gives none


def disturb(answers: Answers, gold: Answers | None, mask: Cells, most: float) -> Answers:
    """Answers with some made wrong, so that the inference module has something to correct. DocRE-II section 2.3.

    A rate is drawn for each document, from 0 to `most`. So many of its related pairs lose their relations, and half of
    those get one that is neither theirs nor gold; as many unrelated pairs get one too. (Noise on every cell would bury
    the few related ones under invented ones.) Where no wrong relation is left, a pair stays without.
    """
    draw = torch.rand(*mask.shape, 3, device=mask.device)
    rate = most * torch.rand(len(mask), 1, 1, device=mask.device)
    related = answers.any(-1) & mask
    hit = related & (draw[..., 0] < rate)
    rank = draw[..., 1].masked_fill(related | ~mask, 2).flatten(1).argsort(-1).argsort(-1).view_as(mask)
    invented = ~related & mask & (rank < hit.sum((1, 2), keepdim=True))
    free = ~(answers if gold is None else answers | gold)
    free[..., 0] = False
    place = torch.rand(free.shape, device=mask.device).masked_fill(~free, -1).argmax(-1)
    wrong = F.one_hot(place, answers.shape[-1]).bool() & free
    gets = invented | hit & (draw[..., 2] < 0.5)
    return torch.where(gets.unsqueeze(-1), wrong, answers & ~hit.unsqueeze(-1))


def simsiam(
    one: Float[Tensor, "P W"], two: Float[Tensor, "P W"], from_one: Float[Tensor, "P W"], from_two: Float[Tensor, "P W"]
) -> Float[Tensor, ""]:
    """How badly each view is predicted from the other, by cosine, targets without gradient. DocRE-II (14)."""
    if not len(one):
        return one.sum()
    apart = 2 - F.cosine_similarity(from_two, one.detach(), -1) - F.cosine_similarity(from_one, two.detach(), -1)
    return apart.mean()


def simclr(one: Matrix, two: Matrix, mask: Cells) -> Float[Tensor, ""]:
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
    """Has the space collapsed? Spread of unit vectors a dimension, times √W: 1 if free, 0 if all are one."""
    if len(cells) < 2:
        return cells.new_ones(())
    unit = F.normalize(full_precision(cells), dim=-1)
    return unit.std(0, correction=0).mean() * cells.shape[-1] ** 0.5
