"""Convolution and normalisation over entity matrices: loops, torch's own layers, and padding that is never seen."""

from __future__ import annotations

import pytest
import slow
import torch
from small import several, tiny
from test_ops import agree, draw
from torch import nn
from torch.nn import functional as F

from docre_lite.layers import MapConv, MapNorm, RoleBilinear, blank, inside, sides_of, wrap
from docre_lite.model import DocRE

SIDES = torch.tensor([5, 3, 1])  # three documents in a batch; what lies beyond their sides is noise


def shaken(module: nn.Module) -> nn.Module:
    """The module in float64 with all parameters moved, so that none is 0 or 1 by chance."""
    noise = torch.Generator().manual_seed(5)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn(parameter.shape, generator=noise, dtype=torch.float64) * 0.3
    return module


def noisy(image: torch.Tensor, extra: int) -> torch.Tensor:
    """The image in a wider frame of large numbers."""
    wide = draw(*image.shape[:2], image.shape[2] + extra, image.shape[3] + extra, seed=17).detach() * 100
    wide[..., : image.shape[2], : image.shape[3]] = image
    return wide


def alone(image: torch.Tensor, sides: torch.Tensor) -> list[torch.Tensor]:
    """Each document's own matrix, [C, n, n]."""
    return [matrix[:, :n, :n] for matrix, n in zip(image, sides.tolist(), strict=True)]


def exactly(fast: torch.Tensor, slow: torch.Tensor) -> None:
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


def test_inside_by_hand():
    expected = torch.tensor([[[[1, 1, 0], [1, 1, 0], [0, 0, 0]]], [[[0, 0, 0]] * 3], [[[1, 1, 1]] * 3]]).bool()
    assert torch.equal(inside(torch.tensor([2, 0, 3]), 3), expected)


def test_sides_by_hand():
    both = torch.tensor([[True, True], [True, False]])
    assert sides_of(both).tolist() == [2, 1] and sides_of(both[:1]) is None
    assert sides_of(both[1:] & False).tolist() == [0]  # a document without entities has a row of padding


FULL = torch.tensor([5, 5])


@pytest.mark.parametrize(
    "layer",
    [
        lambda image, sides: blank(image, sides),
        lambda image, sides: wrap(image, sides, 2, 13, "circular"),
        lambda image, sides: wrap(image, sides, 2, 9, "zero"),
        *(shaken(MapConv(4, 3, 5, border)) for border in ("zero", "circular")),
        shaken(MapNorm(4, "group", 2)),
        shaken(MapNorm(4, "batch")),
        shaken(MapNorm(4, "batch")).eval(),
    ],
)
def test_without_padding_a_layer_needs_no_sides(layer):
    image = draw(2, 4, 5, 5)
    agree(layer(image, None), layer(image, FULL), image, *getattr(layer, "parameters", tuple)())


@pytest.mark.parametrize("border", ["zero", "circular"])
@pytest.mark.parametrize(("before", "length"), [(0, 5), (1, 7), (2, 9), (0, 13), (3, 8), (0, 3)])
def test_wrap_is_its_loop(border, before, length):
    image = draw(3, 2, 5, 5)
    expected = torch.stack([slow.wrapped(one, before, length, border) for one in alone(image, SIDES)])
    agree(wrap(image, SIDES, before, length, border), expected, image)


def test_wrapping_a_matrix_without_entities():
    image, none = draw(1, 2, 3, 3), torch.tensor([0])
    assert wrap(image, none, 1, 5).isfinite().all()
    assert (wrap(image, none, 1, 5, "zero") == 0).all()


def test_the_sliding_window_copies_blocks():
    image = draw(3, 2, 5, 5)
    filled = wrap(image, SIDES, 0, 14)
    for b, one in enumerate(alone(image, SIDES)):
        assert torch.equal(filled[b], slow.copied_blocks(one, 14))
        for i, j in [(0, 0), (4, 9), (13, 13), (6, 2)]:  # V'_ij = V_(i mod n)(j mod n)
            assert torch.equal(filled[b, :, i, j], one[:, i % SIDES[b], j % SIDES[b]])


def test_the_sliding_window_by_hand():
    image = torch.tensor([[[[1.0, 2.0, 9.0], [3.0, 4.0, 9.0], [9.0, 9.0, 9.0]]]])  # the nines are padding
    rows = [[1.0, 2.0, 1.0, 2.0, 1.0], [3.0, 4.0, 3.0, 4.0, 3.0]]
    assert wrap(image, torch.tensor([2]), 0, 5)[0, 0].tolist() == [rows[0], rows[1], rows[0], rows[1], rows[0]]
    around = [[4.0, 3.0, 4.0, 3.0], [2.0, 1.0, 2.0, 1.0], [4.0, 3.0, 4.0, 3.0], [2.0, 1.0, 2.0, 1.0]]
    assert wrap(image, torch.tensor([2]), 1, 4)[0, 0].tolist() == around


@pytest.mark.parametrize("border", ["zero", "circular"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_map_convolution_is_its_loop(border, size):
    image, conv = draw(3, 2, 5, 5), shaken(MapConv(2, 4, size, border))
    found = conv(image, SIDES)
    assert found.shape == (3, 4, 5, 5)
    expected = [slow.convolution(one, conv.weight, conv.bias, border) for one in alone(image, SIDES)]
    for fast, loop in zip(alone(found, SIDES), expected, strict=True):
        agree(fast, loop, image, conv.weight, conv.bias)


def test_a_border_can_be_given_for_one_call():
    image, sides = draw(1, 2, 4, 4), torch.tensor([4])
    zero, circular = MapConv(2, 2), MapConv(2, 2, border="circular")
    circular.load_state_dict(zero.state_dict())
    zero, circular = zero.double(), circular.double()
    assert torch.equal(zero(image, sides, "circular"), circular(image, sides))
    assert torch.equal(circular(image, sides, "zero"), zero(image, sides))
    assert not torch.equal(zero(image, sides), circular(image, sides))


@pytest.mark.parametrize(("border", "mode"), [("zero", "zeros"), ("circular", "circular")])
def test_map_convolution_is_that_of_torch_without_padding(border, mode):
    ours = shaken(MapConv(2, 3, border=border))
    theirs = nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode).double()
    theirs.load_state_dict(ours.state_dict())
    image = draw(2, 2, 4, 4)
    agree(ours(image, torch.tensor([4, 4])), theirs(image), image)


@pytest.mark.parametrize("n", [4, 5])
def test_the_tiled_map_is_a_torus(n):
    """Two convolutions on the matrix copied side by side equal two with wrapping borders on the matrix alone."""
    first, second = shaken(MapConv(2, 3, border="circular")), shaken(MapConv(3, 2, border="circular"))
    image, sides = draw(1, 2, n, n).detach(), torch.tensor([n])
    torus = second(torch.relu(first(image, sides)), sides)

    def plain(tiles: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(F.conv2d(tiles, first.weight, first.bias, padding=1))
        return F.conv2d(inner, second.weight, second.bias, padding=1)

    exactly(plain(image.repeat(1, 1, 3, 3))[..., n : 2 * n, n : 2 * n], torus)
    literal = plain(wrap(image, sides, 0, 3 * n - 1))[..., :n, :n]  # the fill, cut to the block at the top left
    exactly(literal[..., 2:, 2:], torus[..., 2:, 2:])  # two cells from the edge on: out of reach of its zeros
    apart = (literal - torus).abs().amax((0, 1)) > 1e-6
    assert apart[:2].all() and apart[:, :2].all()


def test_convolutions_on_a_torus_follow_a_cyclic_shift():
    """Entities moved round in a circle: the map moves with them; zeros at the border break this."""
    first, second = shaken(MapConv(2, 3)), shaken(MapConv(3, 2))
    image = draw(1, 2, 7, 7).detach()
    sides = torch.tensor([5])

    def stack(values, border):
        return second(torch.tanh(first(values, sides, border)), sides, border)[..., :5, :5]

    moved = noisy(image[..., :5, :5].roll((2, 2), (2, 3)), 2)
    exactly(stack(moved, "circular"), stack(image, "circular").roll((2, 2), (2, 3)))
    assert (stack(moved, "zero") - stack(image, "zero").roll((2, 2), (2, 3))).abs().max() > 1e-3


@pytest.mark.parametrize(("channels", "groups"), [(8, 8), (16, 8), (4, 4), (6, 3)])
def test_group_normalisation_is_that_of_torch_for_each_document(channels, groups):
    norm = shaken(MapNorm(channels, "group", groups))
    image = draw(3, channels, 5, 5)
    found = norm(image, SIDES)
    for fast, one in zip(alone(found, SIDES), alone(image, SIDES), strict=True):
        agree(fast, slow.group_norm(one, groups, norm.weight, norm.bias), image, norm.weight, norm.bias)
        if one.shape[-1] > 1:  # torch refuses to normalise a single value
            theirs = F.group_norm(one.unsqueeze(0), groups, norm.weight, norm.bias, 1e-5)[0]
            agree(fast, theirs, image, norm.weight, norm.bias)


def test_groups_fall_back_to_one_a_channel():
    assert MapNorm(4).groups == 4 and MapNorm(32).groups == 8
    with pytest.raises(ValueError, match="12 channels cannot be split into 8 groups"):
        MapNorm(12)


def test_batch_normalisation_is_that_of_torch():
    ours, theirs = shaken(MapNorm(4, "batch")), nn.BatchNorm2d(4).double()
    theirs.load_state_dict({"weight": ours.weight, "bias": ours.bias}, strict=False)
    sides = torch.tensor([3, 3])
    for seed in range(3):
        image = (draw(2, 4, 3, 3, seed=seed).detach() * 3 + 2).requires_grad_()
        agree(ours(image, sides), theirs(image), image)
        exactly(ours.mean, theirs.running_mean)
        exactly(ours.variance, theirs.running_var)
    ours.eval(), theirs.eval()
    image = draw(2, 4, 3, 3, seed=9)
    agree(ours(image, sides), theirs(image), image)
    exactly(ours.mean, theirs.running_mean)  # prediction leaves it alone


def test_batch_normalisation_counts_valid_cells_only():
    norm, image = shaken(MapNorm(2, "batch")), draw(3, 2, 5, 5)
    found = norm(image, SIDES)
    for c in range(2):
        cells = torch.cat([one[c].flatten() for one in alone(image, SIDES)])  # 25 + 9 + 1 cells of three documents
        mean, variance = cells.mean(), cells.var(correction=0)
        exactly(norm.mean[c], 0.1 * mean.detach())
        exactly(norm.variance[c], 0.9 + 0.1 * cells.detach().var())
        for fast, one in zip(alone(found, SIDES), alone(image, SIDES), strict=True):
            expected = (one[c] - mean) / torch.sqrt(variance + 1e-5) * norm.weight[c] + norm.bias[c]
            agree(fast[c], expected, image)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["group", "batch"])
def test_normalisation_does_not_see_padding(kind, training):
    norm, image = shaken(MapNorm(4, kind)).train(training), draw(3, 4, 5, 5).detach()
    narrow = norm(image, SIDES)
    before = [b.clone() for b in norm.buffers()]
    again = shaken(MapNorm(4, kind)).train(training)
    wide = again(noisy(image, 3), SIDES)
    exactly(wide[..., :5, :5], narrow)
    assert (wide * ~inside(SIDES, 8) == 0).all()
    for ours, theirs in zip(before, again.buffers(), strict=True):
        exactly(theirs, ours)


@pytest.mark.parametrize("border", ["zero", "circular"])
def test_convolution_does_not_see_padding(border):
    conv, image = shaken(MapConv(2, 3, 5, border)), draw(3, 2, 5, 5).detach()
    keep = inside(SIDES, 5)
    exactly(conv(noisy(image, 3), SIDES)[..., :5, :5] * keep, conv(image * keep, SIDES) * keep)


@pytest.mark.parametrize("kind", ["group", "batch"])
def test_normalisation_without_a_cell(kind):
    norm, image = MapNorm(4, kind), torch.randn(2, 4, 3, 3, requires_grad=True)
    found = norm(image, torch.tensor([0, 0]))
    assert (found == 0).all()
    found.sum().backward()
    assert image.grad.isfinite().all()
    if kind == "batch":  # running averages do not drift towards nothing
        assert (norm.mean == 0).all() and (norm.variance == 1).all()


@pytest.mark.parametrize("kind", ["group", "batch"])
def test_normalisation_is_computed_in_float32(kind):
    image = (torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0)) + 50).bfloat16()
    sides = torch.tensor([4])
    half, full = MapNorm(8, kind)(image, sides), MapNorm(8, kind)(image.float(), sides)
    assert half.dtype == torch.float32 and torch.equal(half, full)


@pytest.mark.parametrize("width", [0, 3])
def test_role_bilinear_with_tails_of_another_width(width):
    layer = shaken(RoleBilinear(8, width, 4, block=2, entity_width=5))
    heads, tails = draw(2, 3, 5), draw(2, 3, 5, seed=2)
    pair = draw(2, 3, 3, width, seed=1) if width else None
    mask = ~torch.eye(3, dtype=torch.bool).repeat(2, 1, 1)
    mask[1, 2] = mask[1, :, 2] = False
    W = layer.bilinear.weight.view(4, 4, 2, 2)
    roles = layer.head.weight, layer.head.bias, layer.tail.weight, layer.tail.bias
    rows = []
    for b, s, o in mask.nonzero().tolist():
        f = None if pair is None else pair[b, s, o]
        rows.append(slow.role_bilinear(heads[b, s], tails[b, o], f, *roles, W, layer.bilinear.bias))
    logits = layer(heads, pair, mask, tails)
    agree(logits[mask], torch.stack(rows), heads, tails, *layer.parameters(), *([pair] if width else []))
    assert (logits[~mask] == 0).all()
    assert torch.equal(layer(heads, pair, mask), layer(heads, pair, mask, heads))  # one vector for both roles


@pytest.mark.parametrize("width", [None, 24])
def test_a_roles_projection_may_be_wider_than_the_encoder(width, tmp_path):
    """The published ATLOP has 768 for every encoder; here it is a setting, saved with the model."""
    model = tiny("atlop", several(), role_width=width, block=4)
    form = model.classifier.bilinear
    assert form.head.weight.shape == (width or model.encoder.width, 2 * model.encoder.width)
    model.save(tmp_path)
    again, batch = DocRE.load(tmp_path), model.batch(several())
    with torch.no_grad():
        assert torch.equal(again.eval()(batch).logits, model.eval()(batch).logits)


def test_a_group_that_does_not_divide_the_width_is_refused_with_one_that_does():
    with pytest.raises(ValueError, match="block=64 must divide the width 312 of a role's projection; 52 does"):
        RoleBilinear(312, 0, 3, 64)
