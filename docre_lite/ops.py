"""The operations that all five papers share, without parameters: pooling mentions, pooling context, group bilinear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear

EPSILON = 1e-10  # keeps the context of a pair without common attention at zero, and all others exact in float32


def full_precision(values: Tensor) -> Tensor:
    """At least float32, which sums and comparisons need; float64 stays, so that checks can be exact."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def exporting() -> bool:
    """Is this being traced into a graph? Then no size and no value may decide what is computed."""
    return torch.compiler.is_compiling()


def drop(values: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """Dropout of `share`, to 1 in 32,768: 16 random bits per value on a CPU, several times as fast as torch's own."""
    if values.device.type != "cpu":
        return torch.nn.functional.dropout(values, share)
    count, below = values.numel(), round(share * 2**15)
    drawn = torch.empty((count + 1) // 2, dtype=torch.int32).random_()  # 31 bits each: two halves of 15 and one unused
    kept = drawn.view(torch.int16)[:count].bitwise_and_(2**15 - 1) > below - 1  # in 16 bits too
    return values * kept.view(values.shape).to(values.dtype).div_(max(2**15 - below, 1) / 2**15)


def mention_vectors(
    tokens: Float[Tensor, "B L D"],
    start: Int[Tensor, "B M"],
    end: Int[Tensor, "B M"],
    read: Literal["start", "both", "span"] = "start",
) -> Float[Tensor, "B M D"]:
    """One vector per mention: its start marker (ATLOP), the mean of both markers (DRE-MIR) or of its whole span."""
    if read == "span":
        sums = torch.nn.functional.pad(full_precision(tokens).cumsum(1), (0, 0, 1, 0))
        length = (end - start + 1).clamp_min(1).unsqueeze(-1)
        return (gather_rows(sums, end.clamp_min(0) + 1) - gather_rows(sums, start.clamp_min(0))) / length
    first = gather_rows(tokens, start.clamp_min(0))
    return first if read == "start" else (first + gather_rows(tokens, end.clamp_min(0))) / 2


def gather_rows(values: Float[Tensor, "B L D"], index: Int[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
    """Row `index[b, m]` of `values[b]`, in one gather for the whole batch."""
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def pool_mentions(
    mentions: Float[Tensor, "B M D"],
    mention_entity: Int[Tensor, "B M"],
    entities: int,
    how: Literal["lse", "mean"] = "lse",
) -> Float[Tensor, "B N D"]:
    """Entity embedding: log-sum-exp over its mentions, a smooth maximum. ATLOP (2).

    `mention_entity` is -1 for mentions without a vote (padding, cut off). An entity without any
    vote is zero.
    """
    present = mention_entity >= 0
    if how == "mean":
        return averaging_matrix(mention_entity, entities, mentions.dtype) @ mentions
    # Mentions without a vote go to an extra row, dropped below.
    slot = torch.where(present, mention_entity, entities)
    index = slot.unsqueeze(-1).expand_as(mentions)
    shape = (mentions.shape[0], entities + 1, mentions.shape[2])
    # Each entity's own maximum, not a global one, so that exp cannot underflow for all mentions
    # of an entity.
    lowest = mentions.new_full(shape, -torch.inf)
    peak = lowest.scatter_reduce(1, index, mentions.detach(), "amax")
    peak = peak.masked_fill(peak == -torch.inf, 0)
    relative = (mentions - peak.gather(1, index)).exp()
    total = mentions.new_zeros(shape).scatter_add(1, index, relative)
    voted = total > 0
    pooled = torch.where(voted, total, 1).log() + peak
    return pooled.masked_fill(~voted, 0)[:, :entities]


def averaging_matrix(
    mention_entity: Int[Tensor, "B M"], entities: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B N M"]:
    """Row i averages over the mentions of entity i; zero rows for entities without one."""
    number = torch.arange(entities, device=mention_entity.device).view(1, -1, 1)
    weight = (mention_entity.unsqueeze(1) == number).to(dtype)
    return weight / weight.sum(-1, keepdim=True).clamp_min(1)


def in_fp16(device: torch.device) -> bool:
    """Does autocast compute in fp16 here?"""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16


def of_attention(left: Float[Tensor, "..."], right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A matrix product of attention. Small shares matter, and fp16 has no number below 6e-8: there it is float32."""
    if not in_fp16(left.device):
        return left @ right
    with torch.autocast(left.device.type, enabled=False):
        return full_precision(left) @ full_precision(right)


def entity_attention(
    rows: Float[Tensor, "B A M L"], mention_entity: Int[Tensor, "B M"], entities: int
) -> Float[Tensor, "B A N L"]:
    """Where an entity looks: the mean of its mentions' rows. Each head's sums to 1."""
    return of_attention(averaging_matrix(mention_entity, entities, rows.dtype).unsqueeze(1), rows)


def common_attention(
    attention: Float[Tensor, "B A N L"],
    how: Literal["sum", "softmax"] = "sum",
    token_mask: Bool[Tensor, "B L"] | None = None,
) -> Float[Tensor, "B N N L"]:
    """How much head and tail both attend to each token; sums to 1 over tokens. ATLOP section 5.

    One batched matrix product per token sums the products of the two attentions over attention
    heads, so that no [N, N, A, L] tensor exists; then they are normalised. "softmax", as three
    later papers print it, is nearly uniform: products of probabilities are tiny. Symmetric in
    head and tail; zero if they have nothing in common.
    """
    by_token = attention.permute(0, 3, 2, 1).contiguous()  # [B, L, N, A]
    product = of_attention(by_token, by_token.transpose(-1, -2)).permute(0, 2, 3, 1)  # [B, N, N, L]
    if how == "softmax":
        if token_mask is not None:
            product = product.masked_fill(~token_mask[:, None, None], -torch.inf)
        return product.softmax(-1)
    total = product.sum(-1, keepdim=True)
    # ONNX's optimiser takes a sum with so small a number for the sum without it
    return product / (total.clamp_min(EPSILON) if exporting() else total + EPSILON)


def pool_context(
    weights: Float[Tensor, "B N N L"],
    tokens: Float[Tensor, "B L X"],
) -> Float[Tensor, "B N N X"]:
    """Localized context of a pair: tokens weighted by its common attention. ATLOP section 5."""
    return (weights.flatten(1, 2) @ tokens).unflatten(1, weights.shape[1:3])


def mapped_context(
    weights: Float[Tensor, "B N N L"], tokens: Float[Tensor, "B L D"], matrix: Float[Tensor, "O D"]
) -> Float[Tensor, "B N N O"]:
    """`matrix` times each pair's localized context, in the order that needs fewer multiplications.

    Pooling is linear, so tokens can be mapped before they are pooled: then O numbers are pooled per pair, not D.
    That pays unless a long document has few pairs.
    """
    length, pairs, (out, width) = tokens.shape[1], weights.shape[1] * weights.shape[2], matrix.shape
    if exporting() or length * out * (width + pairs) <= pairs * width * (length + out):
        return pool_context(weights, linear(tokens, matrix))
    return linear(pool_context(weights, tokens), matrix)


class GroupBilinear(torch.autograd.Function):
    """`out[p, r] = Σ_k head[p, k]ᵀ W[k, :, :, r] tail[p, k]`, one group at a time. ATLOP (5).

    The outer product of one group, [P, b, b], is the largest tensor, and backward rebuilds it
    instead of keeping all of them: the published form keeps [P, d·b] twice. The result is
    exact; only memory differs.
    """

    @staticmethod
    def forward(ctx, head, tail, weight):
        ctx.save_for_backward(head, tail, weight)
        block = head.shape[-1]
        # Pairs are columns, in the outer products too, so that nothing needs transposing before
        # a product. A number of columns that fills whole CPU vectors is a tenth faster.
        pad = torch.nn.functional.pad  # padding by nothing leaves the columns as they were
        columns = (0, -len(head) % 16)
        heads, tails = (pad(x.permute(1, 2, 0), columns).contiguous() for x in (head, tail))
        pairs = heads.shape[-1]
        out = full_precision(head.new_zeros(weight.shape[-1], pairs))
        for part, room in _parts(head, pairs):
            outer = room.view(block, block, -1)
            for k in range(weight.shape[0]):
                torch.mul(heads[k, :, None, part], tails[k, None, :, part], out=outer)
                _add_product(out[:, part], weight[k].T, outer.flatten(0, 1))
        return out[:, : len(head)].T.to(head.dtype)

    @staticmethod
    def backward(ctx, grad):
        head, tail, weight = ctx.saved_tensors
        grad = grad.T.contiguous()
        grad_head, grad_tail, grad_weight = (
            torch.empty_like(head),
            torch.empty_like(tail),
            full_precision(torch.zeros_like(weight)),
        )
        for part, room in _parts(head, len(head)):
            outer = room.view(-1, *2 * head.shape[-1:])
            for k in range(weight.shape[0]):
                torch.mul(head[part, k].unsqueeze(2), tail[part, k].unsqueeze(1), out=outer)
                _add_product(grad_weight[k].T, grad[:, part], outer.flatten(1))
                # the gradient of the outer product
                torch.mm(grad[:, part].T, weight[k].T, out=outer.flatten(1))
                grad_head[part, k] = torch.bmm(outer, tail[part, k].unsqueeze(-1)).squeeze(-1)
                grad_tail[part, k] = torch.bmm(head[part, k].unsqueeze(1), outer).squeeze(1)
        return grad_head, grad_tail, grad_weight.to(weight.dtype)


def _add_product(total: Float[Tensor, "I J"], left: Float[Tensor, "I K"], right: Float[Tensor, "K J"]) -> None:
    """Adds in place. A sum over groups or parts in bf16 would round after each one, so it stays in float32."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _parts(groups: Float[Tensor, "P G b"], pairs: int) -> Iterator[tuple[slice, Float[Tensor, "pbb"]]]:
    """Some pairs at a time, with a buffer for their outer products: allocating one for each would cost more than
    filling it.

    On a CPU the buffer stays in the cache (3 MB); on a GPU its size is bounded.
    """
    block = groups.shape[-1]
    size = max(1, (3 << 18 if groups.device.type == "cpu" else 1 << 26) // block**2)
    room = groups.new_empty(min(pairs, size) * block**2)
    for start in range(0, pairs, size):
        yield slice(start, start + size), room[: (pairs - start) * block**2]


def group_bilinear(
    head: Float[Tensor, "P G b"], tail: Float[Tensor, "P G b"], weight: Float[Tensor, "G bb R"]
) -> Float[Tensor, "P R"]:
    """Bilinear scores of P pairs whose d = G·b dimensions interact only within their group. ATLOP (5)."""
    if torch.is_autocast_enabled(head.device.type):  # a custom function is opaque to autocast
        kind = torch.get_autocast_dtype(head.device.type)
        head, tail, weight = head.to(kind), tail.to(kind), weight.to(kind)
    if exporting():
        outer = (head.unsqueeze(-1) * tail.unsqueeze(-2)).flatten(-2)  # [P, G, b·b]: a graph has no custom function
        return outer.flatten(1) @ weight.flatten(0, 1)
    return GroupBilinear.apply(head, tail, weight)
