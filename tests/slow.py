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


def balanced_softmax(s: Tensor, positive: set[int]) -> Tensor:
    """One pair's loss as printed: log(1 + Σ_neg e^s_i) + log(1 + Σ_pos e^−s_j), class 0 a class. DocuNet (11)."""
    negative = sum((s[i].exp() for i in range(len(s)) if i not in positive), s[0] * 0)
    return torch.log(1 + negative) + torch.log(1 + sum(((-s[j]).exp() for j in positive), s[0] * 0))


def adaptive_softmax(s: Tensor, positive: set[int]) -> Tensor:
    """One pair's loss as printed, with class 0 as TH: log(e^s_TH + Σ_neg …) + log(e^−s_TH + Σ_pos …). PAEE (9)."""
    negative = sum(s[i].exp() for i in range(len(s)) if i not in positive or i == 0)  # holds e^s_TH
    return torch.log(negative) + torch.log((-s[0]).exp() + sum(((-s[j]).exp() for j in positive if j), s[0] * 0))


# One matrix without padding: image [C, n, n] ------------------------------------------------------------------------


def cell(image: Tensor, i: int, j: int, border: str) -> Tensor:
    """The cell (i, j) [C], where i and j may lie beyond the border: zero, or the matrix again."""
    n = image.shape[-1]
    if border == "circular":
        return image[:, i % n, j % n]
    return image[:, i, j] if 0 <= i < n and 0 <= j < n else torch.zeros_like(image[:, 0, 0])


def matrix_of(rows: list[list[Tensor]]) -> Tensor:
    """Cells [C] by row and column as one image."""
    return torch.stack([torch.stack(row, -1) for row in rows], 1)


def wrapped(image: Tensor, before: int, length: int, border: str) -> Tensor:
    """Rows and columns −before … length − before − 1."""
    line = range(-before, length - before)
    return matrix_of([[cell(image, i, j, border) for j in line] for i in line])


def convolution(image: Tensor, W: Tensor, b: Tensor, border: str) -> Tensor:
    """Σ over a square of neighbours of W[:, :, di, dj] v(i + di, j + dj), plus b; W [out, in, k, k]."""
    n, reach = image.shape[-1], W.shape[-1] // 2
    steps = range(-reach, reach + 1)

    def at(i: int, j: int) -> Tensor:
        seen = [W[:, :, di + reach, dj + reach] @ cell(image, i + di, j + dj, border) for di in steps for dj in steps]
        return sum(seen) + b

    return matrix_of([[at(i, j) for j in range(n)] for i in range(n)])


def group_norm(image: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    """Each group of channels to mean 0 and variance 1, then a scale and a shift for every channel."""
    parts = []
    for part in image.chunk(groups, 0):
        mean = part.sum() / part.numel()
        variance = ((part - mean) ** 2).sum() / part.numel()
        parts.append((part - mean) / torch.sqrt(variance + 1e-5))
    return torch.stack([v * weight[c] + bias[c] for c, v in enumerate(torch.cat(parts))])


def two_convolutions(image: Tensor, block, border: str) -> Tensor:
    """Convolution, normalisation, ReLU, twice, with the weights of `block`."""
    for conv, norm in zip(block.convs, block.norms, strict=True):
        image = convolution(image, conv.weight, conv.bias, border)
        image = torch.relu(group_norm(image, norm.groups, norm.weight, norm.bias))
    return image


def max_pool(image: Tensor) -> Tensor:
    """The largest of each 2 × 2 block, of the part that is there where the side is odd."""
    side = math.ceil(image.shape[-1] / 2)
    blocks = [[image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for j in range(side)] for i in range(side)]
    return matrix_of([[block.flatten(1).max(1).values for block in row] for row in blocks])


def twice_bilinear(image: Tensor, n: int) -> Tensor:
    """The first n rows and columns at twice the side; new cell i lies at (i + ½)/2 − ½ of the old ones."""
    side = image.shape[-1]

    def between(i: int) -> list[tuple[int, float]]:
        at = min(max((i + 0.5) / 2 - 0.5, 0), side - 1)
        low = int(at)
        return [(low, 1 - (at - low)), (min(low + 1, side - 1), at - low)]

    return matrix_of(
        [
            [sum(u * v * image[:, a, b] for a, u in between(i) for b, v in between(j)) for j in range(n)]
            for i in range(n)
        ]
    )


def twice_deconvolution(image: Tensor, n: int, W: Tensor, b: Tensor) -> Tensor:
    """The first n rows and columns at twice the side; each old cell makes a 2 × 2 block. W [in, out, 2, 2]."""
    return matrix_of([[W[:, :, i % 2, j % 2].T @ image[:, i // 2, j // 2] + b for j in range(n)] for i in range(n)])


def u_net(image: Tensor, net, border: str = "zero") -> Tensor:
    """Two steps down and two up, skips concatenated, with the weights of `net`. DocuNet section 3.3."""

    def up(low: Tensor, skip: Tensor, deconv) -> Tensor:
        n = skip.shape[-1]
        grown = twice_bilinear(low, n) if deconv is None else twice_deconvolution(low, n, deconv.weight, deconv.bias)
        return torch.cat([skip, grown])

    enter = two_convolutions(image, net.enter, border)
    down1 = two_convolutions(max_pool(enter), net.down1, border)
    down2 = two_convolutions(max_pool(down1), net.down2, border)
    up1 = two_convolutions(up(down2, down1, net.grow1), net.up1, border)
    up2 = two_convolutions(up(up1, enter, net.grow2), net.up2, border)
    return convolution(up2, net.leave.weight, net.leave.bias, "zero")


def cell_net(image: Tensor, net) -> Tensor:
    """Two layers on one cell at a time, with the weights of `net`."""
    n, (first, _, second) = image.shape[-1], net.net
    W, V = first.weight[:, :, 0, 0], second.weight[:, :, 0, 0]
    return matrix_of(
        [[V @ torch.relu(W @ image[:, i, j] + first.bias) + second.bias for j in range(n)] for i in range(n)]
    )


def similarity(e_s: Tensor, e_o: Tensor, W_1: Tensor) -> Tensor:
    """F = [e_s ⊙ e_o; cos(e_s, e_o); e_sᵀ W_1 e_o] of one pair. DocuNet (3)."""
    cosine = (e_s @ e_o) / (e_s.norm() * e_o.norm())
    return torch.cat([e_s * e_o, cosine.view(1), (e_s @ W_1 @ e_o).view(1)])


# PAEE ---------------------------------------------------------------------------------------------------------------


def copied_blocks(V: Tensor, N: int) -> Tensor:
    """The n × n window copied to the right, downwards and aslant until N × N cells are full, the last copies cut."""
    n = V.shape[-1]
    filled = V.new_zeros(len(V), N, N)
    for top in range(0, N, n):
        for left in range(0, N, n):
            tall, wide = min(n, N - top), min(n, N - left)
            filled[:, top : top + tall, left : left + wide] = V[:, :tall, :wide]
    return filled


def local_mean(image: Tensor, size: int) -> Tensor:
    """The mean of the cells in a square around each that the matrix has."""
    n, reach = image.shape[-1], size // 2

    def at(i: int, j: int) -> Tensor:
        rows, columns = range(max(i - reach, 0), min(i + reach + 1, n)), range(max(j - reach, 0), min(j + reach + 1, n))
        seen = [image[:, a, b] for a in rows for b in columns]
        return sum(seen) / len(seen)

    return matrix_of([[at(i, j) for j in range(n)] for i in range(n)])


def extractor(image: Tensor, net, border: str) -> Tensor:
    """v + LeakyReLU(norm(conv(v))), three times, with the weights of `net`."""
    for conv, norm in zip(net.convs, net.norms, strict=True):
        inner = group_norm(convolution(image, conv.weight, conv.bias, border), norm.groups, norm.weight, norm.bias)
        image = image + torch.where(inner > 0, inner, 0.1 * inner)
    return image


def patch_means(image: Tensor, border: str) -> Tensor:
    """The mean of each 3 × 3 patch: a torus goes on beyond the border, otherwise only cells that exist count."""
    n = image.shape[-1]
    m = math.ceil(n / 3)

    def mean(a: int, b: int) -> Tensor:
        places = [(i, j) for i in range(3 * a, 3 * a + 3) for j in range(3 * b, 3 * b + 3)]
        if border == "zero":
            places = [(i, j) for i, j in places if i < n and j < n]
        return sum(cell(image, i, j, border) for i, j in places) / len(places)

    return matrix_of([[mean(a, b) for b in range(m)] for a in range(m)])


def t_net(image: Tensor, net, border: str, places: Tensor) -> tuple[Tensor, Tensor, set[tuple[int, int]]]:
    """The block written as crops: the map, the weights of all patches, and which were looked at closely."""
    n = image.shape[-1]
    m = math.ceil(n / 3)
    coarse = extractor(patch_means(image, border), net.extractor, border)
    fixed = coarse.detach()
    whole = fixed.flatten(1).mean(1)
    grid = [(a, b) for a in range(m) for b in range(m)]
    where = [torch.tensor([a / m, b / m], dtype=image.dtype) for a, b in grid]
    inputs = [torch.cat([fixed[:, a, b], whole, place]) for (a, b), place in zip(grid, where, strict=True)]
    scores = torch.cat([net.locate(x) for x in inputs])
    weight = torch.softmax(scores / scores.norm(), 0)
    best = scores.sort(descending=True).indices[: math.ceil(net.budget * len(grid))]
    looked = {grid[k] for k in best.tolist()}
    rows = [[None] * n for _ in range(n)]
    for (a, b), share in zip(grid, weight, strict=True):
        crop = matrix_of(
            [[cell(image, i, j, border) for j in range(3 * b - 2, 3 * b + 5)] for i in range(3 * a - 2, 3 * a + 5)]
        )
        close = extractor(crop, net.extractor, "zero") * (1 + share - share.detach()) if (a, b) in looked else crop * 0
        for i in range(3 * a, min(3 * a + 3, n)):
            for j in range(3 * b, min(3 * b + 3, n)):
                near = close[:, i - 3 * a + 2, j - 3 * b + 2]
                flag = torch.tensor([float((a, b) in looked)], dtype=image.dtype)
                rows[i][j] = torch.cat([coarse[:, a, b], near, image[:, i, j], places[:, i, j], flag])
    return convolution(matrix_of(rows), net.leave.weight, net.leave.bias, "zero"), weight.view(m, m), looked


def sentence_maxima(tokens: Tensor, sentence: list[int]) -> Tensor:
    """S_k = the elementwise maximum of the tokens of sentence k."""
    rows = []
    for k in range(max(sentence) + 1):
        rows.append(torch.stack([h for h, mine in zip(tokens, sentence, strict=True) if mine == k]).max(0).values)
    return torch.stack(rows)
