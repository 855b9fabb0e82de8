"""The equations as loops: one document, one pair, one relation at a time. What the fast code is held against.

Symbols are ATLOP's: H token vectors, A attention, M_i the mentions of entity i, e_i, a_so, c_so, z_s, z_o, P and N the
positive and negative classes of a pair.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mention_vector(H: Tensor, start: int, end: int, read: str) -> Tensor:
    """One mention of one document: its start marker, the mean of both markers, or the mean of its span."""
    if read == "start":
        return H[start]
    if read == "both":
        return (H[start] + H[end]) / 2
    total = torch.zeros_like(H[0])
    for column in range(start, end + 1):
        total = total + H[column]
    return total / (end - start + 1)


def entity_vectors(mentions: Tensor, mention_entity: list[int], entities: int, how: str) -> Tensor:
    """e_i = log Σ_{m ∈ M_i} exp h_m, or the mean; zeros for an entity without a mention. ATLOP (2)."""
    rows = []
    for i in range(entities):
        mine = [h for h, owner in zip(mentions, mention_entity, strict=True) if owner == i]
        if not mine:
            rows.append(torch.zeros_like(mentions[0]))
        elif how == "mean":
            rows.append(sum(mine) / len(mine))
        else:
            rows.append(torch.logsumexp(torch.stack(mine), 0))
    return torch.stack(rows)


def entity_rows(A: Tensor, mention_entity: list[int], entities: int) -> Tensor:
    """A_i = mean over m ∈ M_i of the attention rows [heads, L] of its mentions [heads, M, L]."""
    rows = []
    for i in range(entities):
        mine = [A[:, m] for m, owner in enumerate(mention_entity) if owner == i]
        rows.append(sum(mine) / len(mine) if mine else torch.zeros_like(A[:, 0]))
    return torch.stack(rows)


def context(A_s: Tensor, A_o: Tensor, H: Tensor, how: str, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """a_so and c_so = Hᵀ a_so of one pair, token by token. ATLOP section 5; softmax as DocuNet prints it."""
    q = []
    for t in range(H.shape[0]):
        q.append(sum(A_s[h, t] * A_o[h, t] for h in range(A_s.shape[0])))
    q = torch.stack(q)
    if how == "softmax":
        powers = torch.stack([q[t].exp() if inside is None or inside[t] else q[t] * 0 for t in range(len(q))])
        a = powers / powers.sum()
    else:
        a = q / (q.sum() + 1e-10)
    return sum(a[t] * H[t] for t in range(len(q))), a


def group_bilinear(z_s: Tensor, z_o: Tensor, W: Tensor) -> Tensor:
    """Σ_k z_s[k]ᵀ W_r[k] z_o[k] of one pair; z [G, b], W [R, G, b, b]. ATLOP (5) without bias."""
    logits = []
    for W_r in W:
        logits.append(sum(z_s[k] @ W_r[k] @ z_o[k] for k in range(len(z_s))))
    return torch.stack(logits)


def role_bilinear(e_s, e_o, f, W_s, b_s, W_o, b_o, W, bias) -> Tensor:
    """The logits of one pair from its entities and pair information f (or None). ATLOP (5)–(7)."""
    x_s, x_o = (e_s, e_o) if f is None else (torch.cat([e_s, f]), torch.cat([e_o, f]))
    z_s, z_o = torch.tanh(W_s @ x_s + b_s), torch.tanh(W_o @ x_o + b_o)
    groups, block = W.shape[1:3]
    return group_bilinear(z_s.view(groups, block), z_o.view(groups, block), W) + bias


def adaptive_threshold(logits: Tensor, positive: set[int]) -> Tensor:
    """One pair's loss as two softmaxes, written out. ATLOP section 4. Class 0 is TH and in neither set."""
    classes = range(1, len(logits))
    P = [r for r in classes if r in positive]
    N = [r for r in classes if r not in positive]
    first = sum((-(logits[r] - torch.logsumexp(logits[[*P, 0]], 0)) for r in P), logits[0] * 0)
    second = -(logits[0] - torch.logsumexp(logits[[*N, 0]], 0))
    return first + second


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over pairs and classes of −y log p − (1 − y) log(1 − p)."""
    terms = []
    for row, gold in zip(logits, labels, strict=True):
        for logit, y in zip(row, gold, strict=True):
            p = torch.sigmoid(logit)
            terms.append(-torch.log(p) if y else -torch.log(1 - p))
    return sum(terms) / len(terms)


def attention(Q: Tensor, K: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """softmax(Q Kᵀ / √d_head + bias), one head and one row at a time; Q, K [T, D] to [heads, T, T]."""
    d = Q.shape[-1] // heads
    maps = []
    for h in range(heads):
        q, k = Q[:, h * d : (h + 1) * d], K[:, h * d : (h + 1) * d]
        rows = []
        for i in range(len(q)):
            scores = torch.stack([q[i] @ k[j] / math.sqrt(d) for j in range(len(k))])
            rows.append(torch.softmax(scores if bias is None else scores + bias[h, i], 0))
        maps.append(torch.stack(rows))
    return torch.stack(maps)


def read_in_windows(
    pieces: list[tuple[Tensor, Tensor, list[int]]], length: int, positions: list[int]
) -> tuple[Tensor, Tensor]:
    """A document from its windows, each read alone: H [L, D] and attention rows [heads, P, L] from `positions`.

    A piece is a window's token vectors, its full attention, and the document column of each of its tokens (or -1).
    Vectors are averaged over the windows that hold a token. Rows are averaged over the windows that hold both the
    position and the column, then divided by their sum.
    """
    heads = pieces[0][1].shape[0]
    H = []
    for c in range(length):
        held = [hidden[columns.index(c)] for hidden, _, columns in pieces if c in columns]
        H.append(sum(held) / len(held))
    rows = torch.zeros(heads, len(positions), length, dtype=H[0].dtype)
    for p, position in enumerate(positions):
        for h in range(heads):
            for c in range(length):
                seen = [
                    maps[h, columns.index(position), columns.index(c)]
                    for _, maps, columns in pieces
                    if position >= 0 and position in columns and c in columns
                ]
                rows[h, p, c] = sum(seen) / len(seen) if seen else 0.0
            if position >= 0:
                rows[h, p] /= rows[h, p].sum()
    return torch.stack(H), rows
