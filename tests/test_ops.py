"""Every operation against loops written from its equation: values and gradients, in float64."""

from __future__ import annotations

import pytest
import slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from docre_lite import ops
from docre_lite.layers import RoleBilinear

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

# the entity of each mention; entities 1 and 4 of the first document have none, nor 2, 3 and 4 of the second
OWNER = [[0, 2, 0, -1, 2, 2, 3], [1, 1, 1, 0, -1, -1, -1]]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def agree(fast: torch.Tensor, slow: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Values, and gradients of a weighted sum of the output, to 1e-10."""
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    weight = draw(*fast.shape, seed=99).detach()
    ours = torch.autograd.grad((fast * weight).sum(), inputs, retain_graph=True)
    theirs = torch.autograd.grad((slow * weight).sum(), inputs, retain_graph=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_drop(share, kind):
    """Every value is dropped as often, by itself; what is kept grows so that the mean stays."""
    torch.manual_seed(0)
    values = torch.full((999, 1001), 3.0, dtype=kind, requires_grad=True)
    found = ops.drop(values, share)
    kept = found != 0
    assert found.shape == values.shape and found.dtype == kind
    torch.testing.assert_close(found[kept], torch.full_like(found[kept], 3 / (1 - share)), rtol=1e-2, atol=0)
    sigma = (share * (1 - share) / values.numel()) ** 0.5
    assert abs(kept.double().mean() - (1 - share)) < 5 * sigma + 2**-15
    flat = kept.flatten().double()
    for half in (flat[::2], flat[1::2]):  # of one drawn number
        assert abs(half.mean() - (1 - share)) < 8 * sigma
    for apart in (1, 2, 3):
        assert abs((flat[apart:] * flat[:-apart]).mean() - (1 - share) ** 2) < 8 * sigma, "neighbours do not know of it"
    found.sum().backward()
    torch.testing.assert_close(values.grad * 3, found.detach())
    torch.manual_seed(0)
    assert ops.drop(values, share).equal(found), "the seed tells"


def test_drop_all_or_nothing():
    values = torch.full((5, 7), 3.0)
    assert ops.drop(values, 1.0).equal(torch.zeros(5, 7)) and ops.drop(values, 0.0).equal(values)


@pytest.mark.parametrize("read", ["start", "both", "span"])
def test_mention_vectors(read):
    tokens = draw(2, 9, 5)
    start, end = torch.tensor([[1, 3, 8], [0, 4, 2]]), torch.tensor([[1, 7, 8], [8, 5, 2]])
    expected = torch.stack(
        [
            torch.stack([slow.mention_vector(tokens[b], int(start[b, m]), int(end[b, m]), read) for m in range(3)])
            for b in range(2)
        ]
    )
    agree(ops.mention_vectors(tokens, start, end, read), expected, tokens)


@pytest.mark.parametrize("read", ["start", "both", "span"])
def test_mentions_that_are_not_there_have_finite_vectors(read):
    vectors = ops.mention_vectors(draw(1, 4, 3), torch.tensor([[-1, 2]]), torch.tensor([[-1, 3]]), read)
    assert vectors.isfinite().all()


@pytest.mark.parametrize("how", ["lse", "mean"])
def test_pool_mentions(how):
    mentions, owner = draw(2, 7, 4), torch.tensor(OWNER)
    expected = torch.stack([slow.entity_vectors(mentions[b], OWNER[b], 5, how) for b in range(2)])
    pooled = ops.pool_mentions(mentions, owner, 5, how)
    agree(pooled, expected, mentions)
    assert (pooled[0, [1, 4]] == 0).all()


def test_log_sum_exp_of_extreme_values():
    """Values 400 apart, and an entity far below another: exp of the differences underflows, the result does not."""
    values = torch.tensor([[[200.0, -200.0], [-200.0, -200.0], [-500.0, -900.0], [-501.0, -500.0]]]).double()
    values.requires_grad_()
    owner = [0, 0, 1, 1]
    expected = slow.entity_vectors(values[0], owner, 2, "lse").unsqueeze(0)
    pooled = ops.pool_mentions(values, torch.tensor([owner]), 2)
    agree(pooled, expected, values)
    assert pooled[0, 0, 0] == 200 and pooled[0, 1, 1] == -500
    single = ops.pool_mentions(values.detach().float(), torch.tensor([owner]), 2)
    torch.testing.assert_close(single, expected.detach().float())


def test_log_sum_exp_by_hand():
    mentions = torch.tensor([[[0.0], [0.0], [1.0]]])
    pooled = ops.pool_mentions(mentions, torch.tensor([[0, 0, 1]]), 2)
    torch.testing.assert_close(pooled, torch.tensor([[[2.0]], [[torch.e]]]).log().view(1, 2, 1))


@settings(max_examples=40)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=8), st.sampled_from(["lse", "mean"]), st.floats(-300, 300))
def test_pooling_commutes_with_a_shift(owner, how, shift):
    """Adding a number to all mentions adds it to every entity that has one."""
    mentions = draw(1, len(owner), 3).detach()
    index = torch.tensor([owner])
    moved, plain = ops.pool_mentions(mentions + shift, index, 4, how), ops.pool_mentions(mentions, index, 4, how)
    has = torch.tensor([[i in owner for i in range(4)]]).unsqueeze(-1)
    torch.testing.assert_close(moved, torch.where(has, plain + shift, 0), rtol=1e-9, atol=1e-9)


def test_entity_attention():
    rows = draw(2, 3, 7, 6).detach().softmax(-1).requires_grad_()
    expected = torch.stack([slow.entity_rows(rows[b], OWNER[b], 5).transpose(0, 1) for b in range(2)])
    looks = ops.entity_attention(rows, torch.tensor(OWNER), 5)
    agree(looks, expected, rows)
    torch.testing.assert_close(looks[0, :, [0, 2, 3]].sum(-1), torch.ones(3, 3).double())


@pytest.mark.parametrize("how", ["sum", "softmax"])
def test_pool_context(how):
    attention, tokens = draw(2, 3, 4, 6).detach().softmax(-1).requires_grad_(), draw(2, 6, 5, seed=1)
    inside = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    looks = attention * inside[:, None, None]
    weights = ops.common_attention(looks, how, inside)
    context = ops.pool_context(weights, tokens)
    pairs = [
        [slow.context(looks[b, :, s], looks[b, :, o], tokens[b], how, inside[b]) for s in range(4) for o in range(4)]
        for b in range(2)
    ]
    expected = torch.stack([torch.stack([c for c, _ in row]) for row in pairs]).view(2, 4, 4, 5)
    expected_weights = torch.stack([torch.stack([a for _, a in row]) for row in pairs]).view(2, 4, 4, 6)
    agree(context, expected, attention, tokens)
    agree(weights, expected_weights, attention)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 4).double(), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(context, context.transpose(1, 2))
    assert (weights[1, ..., 4:] == 0).all()


def test_context_by_hand():
    # one attention head, two entities: products (.5·.2, .5·.2, 0·.6) have the sum .2
    attention = torch.tensor([[[[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]]]])
    tokens = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [100.0, 100.0]]])
    weights = ops.common_attention(attention)
    context = ops.pool_context(weights, tokens)
    torch.testing.assert_close(weights[0, 0, 1], torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(context[0, 0, 1], torch.tensor([2.0, 0.0]))
    # two heads: the sum over heads comes before the normalisation (.4·.5 + 0·0, 0·.5 + .8·1) / 1
    attention = torch.tensor([[[[0.4, 0.0], [0.5, 0.5]], [[0.0, 0.8], [0.0, 1.0]]]])
    weights = ops.common_attention(attention)
    torch.testing.assert_close(weights[0, 0, 1], torch.tensor([0.2, 0.8]))


@pytest.mark.parametrize(("entities", "length", "out"), [(4, 6, 3), (2, 30, 4), (3, 8, 7)])
def test_mapped_context(entities, length, out):
    """Tokens mapped first or last, in either order of size: the same numbers and gradients as from the context."""
    weights = draw(2, entities, entities, length).detach().softmax(-1).requires_grad_()
    tokens, matrix = draw(2, length, 5, seed=1), draw(out, 5, seed=2)
    expected = ops.pool_context(weights, tokens) @ matrix.T
    agree(ops.mapped_context(weights, tokens, matrix), expected, weights, tokens, matrix)


def test_mapped_context_takes_the_order_that_multiplies_less():
    def multiplied(entities, length, width, out):
        weights = torch.rand(1, entities, entities, length)
        with FlopCounterMode(display=False) as counter:
            ops.mapped_context(weights, torch.rand(1, length, width), torch.rand(out, width))
        return counter.get_total_flops() / 2

    assert multiplied(20, 400, 384, 3) == 400 * 384 * 3 + 400 * 400 * 3
    assert multiplied(5, 400, 384, 256) == 25 * 400 * 384 + 25 * 384 * 256
    assert multiplied(20, 400, 384, 256) == 400 * 384 * 256 + 400 * 400 * 256


def test_pairs_without_common_attention_have_no_context():
    attention = torch.tensor([[[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]])
    weights = ops.common_attention(attention)
    context = ops.pool_context(weights, torch.ones(1, 2, 3))
    assert (weights[0, 0, 1] == 0).all() and (context[0, 0, 1] == 0).all() and (context[0, 2] == 0).all()
    torch.testing.assert_close(context[0, 0, 0], torch.ones(3))


@pytest.mark.parametrize(("pairs", "block"), [(0, 4), (1, 4), (7, 4), (300, 64)])  # the last needs two parts
def test_group_bilinear(pairs, block):
    head, tail, weight = draw(pairs, 3, block), draw(pairs, 3, block, seed=1), draw(3, block**2, 5, seed=2)
    W = weight.view(3, block, block, 5).permute(3, 0, 1, 2)  # [R, G, head, tail]
    assert len(list(ops._parts(head, pairs))) == (pairs > 0) + (pairs == 300)
    if pairs == 300:  # the loop would take seconds: one contraction instead
        expected = torch.einsum("pgi,rgij,pgj->pr", head, W, tail)
    else:
        rows = [slow.group_bilinear(head[p], tail[p], W) for p in range(pairs)]
        expected = torch.stack(rows) if rows else (head.sum() + tail.sum() + weight.sum()) * draw(0, 5)
    agree(ops.group_bilinear(head, tail, weight), expected, head, tail, weight)


def test_group_bilinear_by_hand():
    # head (1, 2 | 3), weights 10 from head 1 to tail 0 in a block of two; the outer product is head-major
    head, tail = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[5.0, 7.0]]])
    weight = torch.tensor([0.0, 0.0, 10.0, 0.0]).view(1, 4, 1)
    torch.testing.assert_close(ops.group_bilinear(head, tail, weight), torch.tensor([[2.0 * 5.0 * 10.0]]))


def test_group_bilinear_gradient_check():
    head, tail, weight = draw(3, 2, 2), draw(3, 2, 2, seed=1), draw(2, 4, 3, seed=2)
    assert torch.autograd.gradcheck(ops.group_bilinear, (head, tail, weight))


@pytest.mark.parametrize("width", [0, 3])
def test_role_bilinear(width):
    torch.manual_seed(0)
    layer = RoleBilinear(8, width, 4, block=2).double()
    entities = draw(2, 3, 8)
    pair = draw(2, 3, 3, width, seed=1) if width else None
    mask = ~torch.eye(3, dtype=torch.bool).repeat(2, 1, 1)
    mask[1, 2] = mask[1, :, 2] = False
    W = layer.bilinear.weight.view(4, 4, 2, 2)
    rows = []
    for b, s, o in mask.nonzero().tolist():
        f = None if pair is None else pair[b, s, o]
        roles = layer.head.weight, layer.head.bias, layer.tail.weight, layer.tail.bias
        rows.append(slow.role_bilinear(entities[b, s], entities[b, o], f, *roles, W, layer.bilinear.bias))
    logits = layer(entities, pair, mask)
    inputs = [entities, *layer.parameters()] + ([pair] if width else [])
    agree(logits[mask], torch.stack(rows), *inputs)
    assert (logits[~mask] == 0).all()


def test_role_bilinear_needs_a_block_that_divides():
    with pytest.raises(ValueError, match="block=3"):
        RoleBilinear(8, 0, 2, block=3)
    assert RoleBilinear(8, 0, 2, block=64).block == 8  # a width below the block is one group


def test_the_bilinear_form_in_bfloat16_keeps_no_rounded_sum():
    """Its sums over groups and pairs are float32: factors, products and results are rounded, no running sum."""
    torch.manual_seed(0)
    head, tail = (torch.randn(700, 12, 16).bfloat16().requires_grad_() for _ in range(2))
    weight = (torch.randn(12, 256, 9) / 40).bfloat16().requires_grad_()
    found = ops.group_bilinear(head, tail, weight)
    outer = (head.unsqueeze(-1) * tail.unsqueeze(-2)).flatten(2)  # rounded, as a product of bf16 is
    exact = torch.einsum("pgi,gic->pc", outer.double(), weight.double())
    assert found.dtype == torch.bfloat16
    off, rounding = ((x.double() - exact).square().mean().sqrt() for x in (found, exact.bfloat16()))
    assert off < 1.6 * rounding
    grad = torch.randn_like(found)
    [ours] = torch.autograd.grad(found, weight, grad)
    expected = torch.einsum("pgi,pc->gic", outer.double(), grad.double())
    off, rounding = ((x.double() - expected).square().mean().sqrt() for x in (ours, expected.bfloat16()))
    assert off < 1.2 * rounding
