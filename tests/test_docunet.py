"""DocuNet against loops over pairs and cells: the image, the U-Net on sides of every kind, the whole classifier."""

from __future__ import annotations

import pytest
import slow
import torch
from small import made, several, tiny
from test_layers import SIDES, alone, exactly, noisy, shaken
from test_ops import agree, draw
from torch.nn import functional as F

from docre_lite.model import build
from docre_lite.objectives import BalancedSoftmax, BinaryCrossEntropy
from docre_lite.papers.docunet import CellNet, Similarity, UNet, grow, halve, pool, repeat_last
from docre_lite.support.schedule import parameter_groups
from docre_lite.train import TrainConfig

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SMALL = {"channels": 3, "unet_width": 4, "map_width": 5}


def model_of(documents, **settings):
    model = tiny("docunet", documents, **{**SMALL, **settings}).double()
    shaken(model.classifier)
    return model


# The image ----------------------------------------------------------------------------------------------------------


def test_pixels_are_a_linear_map_of_the_context():
    documents = several()
    model = model_of(documents)
    pairs = model.features(model.batch(documents))
    image = model.classifier(pairs).trace["image"]
    W, b = model.classifier.image.weight, model.classifier.image.bias
    assert image.shape == (4, 3, 5, 5)
    for d, document in enumerate(documents):
        n = len(document.entities)
        for s in range(n):
            for o in range(n):  # the diagonal too
                exactly(image[d, :, s, o], W @ pairs.context[d, s, o] + b)
        assert (image[d, :, n:] == 0).all() and (image[d, :, :, n:] == 0).all()


def test_similarity_is_its_equation():
    """[e_s ⊙ e_o; cos; e_sᵀ W_1 e_o] built for every pair, then one linear map W_3."""
    layer, entities = shaken(Similarity(4, 3)), draw(2, 3, 4)
    W_3 = torch.cat([layer.product, layer.scalars.weight], 1)
    expected = torch.stack(
        [
            torch.stack(
                [
                    torch.stack([W_3 @ slow.similarity(e_s, e_o, layer.bilinear) + layer.scalars.bias for e_o in one])
                    for e_s in one
                ]
            )
            for one in entities
        ]
    )
    agree(layer(entities), expected, entities, *layer.parameters())


def test_similarity_by_hand():
    layer = Similarity(2, 3)
    with torch.no_grad():
        layer.product.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
        layer.scalars.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        layer.scalars.bias.zero_()
        layer.bilinear.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))  # first of the head times second of the tail
        pixels = layer(torch.tensor([[[1.0, 0.0], [3.0, 4.0]]]))[0]
    torch.testing.assert_close(pixels[0, 1], torch.tensor([3.0, 0.6, 4.0]))
    torch.testing.assert_close(pixels[1, 0], torch.tensor([3.0, 0.6, 0.0]))
    torch.testing.assert_close(pixels[1, 1], torch.tensor([25.0, 1.0, 12.0]))


def test_an_entity_without_a_vector_has_no_cosine():
    layer = Similarity(3, 2)
    entities = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]], requires_grad=True)
    pixels = layer(entities)
    torch.testing.assert_close(pixels[0, 0, 1], layer.scalars.bias)
    pixels.sum().backward()
    assert entities.grad.isfinite().all()


def test_repeat_last_by_hand():
    image = torch.tensor([[[[1.0, 2.0, 9.0], [3.0, 4.0, 9.0], [9.0, 9.0, 9.0]]]])  # the nines are padding
    filled, sides = repeat_last(image, torch.tensor([2]), 4)
    assert filled[0, 0].tolist() == [[1, 2, 2, 2], [3, 4, 4, 4], [3, 4, 4, 4], [3, 4, 4, 4]]
    assert sides.tolist() == [4]
    filled, sides = repeat_last(image, torch.tensor([2]), 1)  # larger than the fill already
    assert filled.shape == (1, 1, 3, 3) and sides.tolist() == [2]


def test_repeat_last_is_its_loop():
    image = draw(3, 2, 5, 5)
    filled, sides = repeat_last(image, SIDES, 7)
    assert sides.tolist() == [7, 7, 7]
    for b, n in enumerate(SIDES.tolist()):
        for i in range(7):
            for j in range(7):
                assert torch.equal(filled[b, :, i, j], image[b, :, min(i, n - 1), min(j, n - 1)])


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("upsample", ["bilinear", "deconv"])
def test_without_padding_the_network_needs_no_sides(n, upsample):
    image, full, net = draw(2, 3, n, n), torch.tensor([n, n]), shaken(UNet(3, 5, 8, "text", upsample))
    agree(net(image, None), net(image, full), image, *net.parameters())
    exactly(pool(image - 10, None).detach(), pool(image - 10, full).detach())  # in the network nothing is negative
    exactly(repeat_last(image, None, 7)[0].detach(), repeat_last(image, full, 7)[0].detach())
    assert repeat_last(image, None, 7)[1] is None


# The way down and up ------------------------------------------------------------------------------------------------


def test_half_a_side():
    sides = torch.tensor([0, 1, 2, 3, 5, 42, 43, 50])
    assert halve(sides).tolist() == [0, 1, 1, 2, 3, 21, 22, 25]


def test_pool_is_its_loop():
    sides = torch.tensor([5, 4, 3, 2, 1])
    image = draw(5, 2, 5, 5)
    below = image - 10  # everything is negative: padding must not win
    found = pool(noisy(below, 2), sides)
    assert found.shape == (5, 2, 4, 4)
    for b, one in enumerate(alone(below, sides)):
        expected = slow.max_pool(one)
        side = expected.shape[-1]
        exactly(found[b, :, :side, :side], expected.detach())
        assert (found[b, :, side:] == 0).all() and (found[b, :, :, side:] == 0).all()
    agree(pool(image, sides)[0], slow.max_pool(image[0]), image)


def test_pool_by_hand():
    image = -torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    assert pool(image, torch.tensor([3]))[0, 0].tolist() == [[-1, -3], [-7, -9]]
    assert pool(image, torch.tensor([2]))[0, 0].tolist() == [[-1, 0], [0, 0]]
    assert pool(image, torch.tensor([0]))[0, 0].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9])
def test_bilinear_growth_is_that_of_torch_without_padding(n):
    side = (n + 1) // 2
    image = draw(2, 3, side, side)
    found = grow(image, torch.tensor([side, side]), image.new_zeros(2, 3, n, n), None)
    expected = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)[..., :n, :n]
    agree(found, expected, image)
    agree(found[0], slow.twice_bilinear(image[0], n), image)


@pytest.mark.parametrize("deconv", [False, True])
def test_growth_is_its_loop_for_sides_of_every_kind(deconv):
    """Documents of 7, 5, 2 and 1 entities, halved to 4, 3, 1 and 1: each grows as if it were alone."""
    sides = torch.tensor([7, 5, 2, 1])
    image = draw(4, 3, 4, 4)
    net = shaken(torch.nn.ConvTranspose2d(3, 2, 2, 2)) if deconv else None
    found = grow(image, halve(sides), image.new_zeros(4, 3, 7, 7), net)
    assert found.shape == (4, 2 if deconv else 3, 7, 7)
    for b, one in enumerate(alone(image, halve(sides))):
        n = int(sides[b])
        expected = slow.twice_deconvolution(one, n, net.weight, net.bias) if deconv else slow.twice_bilinear(one, n)
        agree(found[b, :, :n, :n], expected, image)


def test_bilinear_growth_by_hand():
    image = torch.tensor([[[[0.0, 4.0], [0.0, 4.0]]]])
    assert grow(image, torch.tensor([2]), torch.zeros(1, 1, 4, 4), None)[0, 0].tolist() == [[0, 1, 3, 4]] * 4
    assert grow(image, torch.tensor([2]), torch.zeros(1, 1, 3, 3), None)[0, 0].tolist() == [[0, 1, 3]] * 3


TABLES = {  # (channels in, channels out) of all convolutions and deconvolutions on the way, for w = 8 and an RGB image
    ("text", "bilinear"): [(3, 8), (8, 16), (16, 32), (48, 16), (24, 8), (8, 5)],
    ("text", "deconv"): [(3, 8), (8, 16), (16, 32), (32, 16), (32, 16), (16, 8), (16, 8), (8, 5)],
    ("code", "bilinear"): [(3, 8), (8, 16), (16, 16), (32, 8), (16, 4), (4, 5)],
    ("code", "deconv"): [(3, 8), (8, 16), (16, 16), (16, 8), (24, 8), (8, 4), (12, 4), (4, 5)],
}


@pytest.mark.parametrize(("table", "upsample"), TABLES)
def test_channel_tables(table, upsample):
    net, trace = UNet(3, 5, 8, table, upsample), {}
    stages = [net.enter, net.down1, net.down2, net.grow1, net.up1, net.grow2, net.up2, net.leave]
    found = []
    for stage in stages:
        if hasattr(stage, "convs"):
            first, second = stage.convs
            assert second.in_channels == second.out_channels == first.out_channels and first.kernel_size == (3, 3)
            found.append((first.in_channels, first.out_channels))
        elif stage is not None:
            found.append((stage.in_channels, stage.out_channels))
    assert found == TABLES[table, upsample]
    assert net(torch.randn(2, 3, 10, 10), torch.tensor([10, 7]), trace).shape == (2, 5, 10, 10)
    w, rest = 8, (32, 16, 8) if table == "text" else (16, 8, 4)
    channels = dict(zip(("enter", "down1", "down2", "up1", "up2"), (w, 2 * w, *rest), strict=True))
    sides = {"enter": 10, "down1": 5, "down2": 3, "up1": 5, "up2": 10}
    assert {k: tuple(v.shape) for k, v in trace.items()} == {k: (2, c, sides[k], sides[k]) for k, c in channels.items()}


@pytest.mark.parametrize(
    ("n", "upsample", "border", "table"),
    [(1, "bilinear", "zero", "text"), (2, "deconv", "zero", "text"), (3, "bilinear", "circular", "text")]
    + [(5, "bilinear", "zero", "code"), (5, "deconv", "circular", "text"), (6, "bilinear", "zero", "text")],
)
def test_the_u_net_is_its_loop(n, upsample, border, table):
    net = shaken(UNet(2, 3, 4, table, upsample, border=border))
    image = draw(1, 2, n, n)
    agree(net(image, torch.tensor([n]))[0], slow.u_net(image[0], net, border), image, net.enter.convs[0].weight)


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("upsample", ["bilinear", "deconv"])
@pytest.mark.parametrize("border", ["zero", "circular"])
def test_the_u_net_does_not_see_padding(norm, upsample, border):
    """Documents of 1, 2, 3, 5, 43 and 50 entities in one batch, each as if it were alone."""
    net = shaken(UNet(2, 3, 2, "text", upsample, norm, border)).eval()
    sides = torch.tensor([1, 2, 3, 5, 43, 50])
    image = draw(6, 2, 51, 51).detach() * 3
    with torch.no_grad():
        found = net(image, sides)
        for b, one in enumerate(alone(image, sides)):
            n = int(sides[b])
            expected = net(one.unsqueeze(0), torch.tensor([n]))[0]
            assert expected.shape == (3, n, n) and expected.isfinite().all()
            exactly(found[b, :, :n, :n], expected)


def test_the_control_sees_one_cell_and_the_u_net_others():
    image, sides = draw(1, 3, 6, 6).detach(), torch.tensor([6])
    changed = image.clone()
    changed[0, :, 2, 4] += 1
    cells, net = shaken(CellNet(3, 4, 7)), shaken(UNet(3, 4, 4))
    apart = (cells(changed, sides) - cells(image, sides)).abs().amax(1)[0] > 1e-9
    assert apart.nonzero().tolist() == [[2, 4]]
    agree(cells(image.requires_grad_(), sides)[0], slow.cell_net(image[0], cells), image, *cells.parameters())
    apart = (net(changed, sides) - net(image, sides)).abs().amax(1)[0] > 1e-9
    assert apart.float().mean() > 0.5  # not all: ReLU and the largest of four hide some


def test_cells_may_change_places_in_the_control():
    image, order = draw(1, 3, 5, 5), torch.tensor([3, 0, 4, 2, 1])
    cells, sides = shaken(CellNet(3, 4, 7)), torch.tensor([5])
    exactly(cells(image[:, :, order][..., order], sides), cells(image, sides)[:, :, order][..., order])


# The classifier -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"pair": "similarity"},
        {"matrix": "ffn"},
        {"fill": "repeat", "matrix_size": 7},
        {"upsample": "deconv", "unet_table": "code", "loss": "bce"},
    ],
    ids=lambda given: "-".join(map(str, given.values())) or "default",
)
def test_the_classifier_is_its_loop(given):
    document = made("whole", 4, sentences=4)
    model = model_of([document], **given)
    batch = model.batch([document])
    pairs, paper = model.features(batch), model.classifier
    prediction = paper(pairs, batch.labels)
    e, n = pairs.entities[0], 4
    rows = []
    for s in range(n):
        rows.append([])
        for o in range(n):
            if given.get("pair") == "similarity":
                W_3 = torch.cat([paper.image.product, paper.image.scalars.weight], 1)
                rows[s].append(W_3 @ slow.similarity(e[s], e[o], paper.image.bilinear) + paper.image.scalars.bias)
            else:
                rows[s].append(paper.image.weight @ pairs.context[0, s, o] + paper.image.bias)
    if given.get("fill") == "repeat":
        rows = [[rows[min(i, n - 1)][min(j, n - 1)] for j in range(7)] for i in range(7)]
    X = slow.matrix_of(rows)
    Y = slow.cell_net(X, paper.matrix) if given.get("matrix") == "ffn" else slow.u_net(X, paper.matrix)
    layer = paper.bilinear
    relations = layer.bilinear.out_features
    W = layer.bilinear.weight.view(relations, -1, layer.block, layer.block)
    roles = layer.head.weight, layer.head.bias, layer.tail.weight, layer.tail.bias
    losses = []
    for s, o in batch.mask[0].nonzero().tolist():
        expected = slow.role_bilinear(e[s], e[o], Y[:, s, o], *roles, W, layer.bilinear.bias)
        exactly(prediction.logits[0, s, o], expected)
        positive = set(batch.labels[0, s, o].nonzero().flatten().tolist())
        if given.get("loss") == "bce":
            losses.append(slow.binary_cross_entropy(expected[None], batch.labels[0, s, o][None]))
        else:
            losses.append(slow.balanced_softmax(expected, positive))
        above = {r for r in range(1, relations) if expected[r] > 0}
        assert set(prediction.chosen[0, s, o].nonzero().flatten().tolist()) == above
    exactly(prediction.losses["relation"], sum(losses) / len(losses))
    assert prediction.losses.keys() == {"relation"}


@pytest.mark.parametrize("extra", [0, 3])
def test_a_fill_by_copies_does_not_depend_on_the_batch(extra):
    """A document with more entities than `matrix_size` widens the batch, not the matrix of the others."""
    document, long = made("short", 3), made("long", 6 + extra, sentences=6, words=14)
    model = model_of([document, long], fill="repeat", matrix_size=6)
    by_itself, together = model(model.batch([document])), model(model.batch([document, long]))
    mask = model.batch([document]).mask
    exactly(together.logits[:1, :3, :3][mask], by_itself.logits[mask])
    exactly(together.logits[1:], model(model.batch([long])).logits)


def test_zeros_and_copies_differ():
    document = made("fill", 3)
    zero, copies = model_of([document]), model_of([document], fill="repeat", matrix_size=6)
    copies.load_state_dict(zero.state_dict())
    batch = zero.batch([document])
    assert (zero(batch).logits - copies(batch).logits)[batch.mask].abs().max() > 1e-3


def test_the_loss_decides_how_logits_are_read():
    document = made("loss", 3)
    balanced = model_of([document], top=3).classifier.objective
    assert isinstance(balanced, BalancedSoftmax) and balanced.top == 3
    entropy = model_of([document], variant="no_balanced_softmax", top=1).classifier.objective
    assert isinstance(entropy, BinaryCrossEntropy) and entropy.tunable and entropy.threshold == "global"
    assert entropy.top == 1


def test_options_that_do_not_fit_together():
    document = made("options", 3)
    with pytest.raises(ValueError, match="pair='context' needs localized context"):
        build("docunet", [document], context="off")
    for given in ({"fill": "zero"}, {"fill": "repeat", "matrix_size": 3}):
        with pytest.raises(ValueError, match="grid='code' halves a side of 4 or more twice"):
            build("docunet", [document], grid="code", **given)
    with pytest.raises(ValueError, match="count_none=true needs loss='balanced'"):
        build("docunet", [document], count_none=True, loss="bce")
    with pytest.raises(ValueError, match="12 channels cannot be split into 8 groups"):
        build("docunet", [document], unet_width=12)
    with pytest.raises(ValueError, match="block=7"):
        build("docunet", [document], block=7)
    model = tiny("docunet", [document], context="off", pair="similarity", **SMALL)  # needs none
    batch = model.batch([document])
    assert model(batch).logits[batch.mask].isfinite().all()


# Learning rates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given"), [("docunet", {}), ("paee", {}), ("atlop", {}), ("paee", {"matrix": "none"})]
)
@pytest.mark.parametrize("matrix_lr", [None, 0.25, 0.0])
def test_the_matrix_has_its_own_learning_rate(name, given, matrix_lr):
    document = made("rates", 3)
    if given:
        given = {**given, "potential": "off"}
    model = tiny(name, [document], **given)
    groups = parameter_groups(model, TrainConfig(encoder_lr=0.5, classifier_lr=0.125, matrix_lr=matrix_lr))
    peak = {id(parameter): group["peak"] for group in groups for parameter in group["params"]}
    assert len(peak) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for key, parameter in model.named_parameters():
        if key.startswith("encoder."):
            expected = 0.5
        elif key.startswith("classifier.matrix.") and matrix_lr is not None:
            expected = matrix_lr
        else:
            expected = 0.125
        assert peak[id(parameter)] == expected, key
    assert any(key.startswith("classifier.matrix.") for key, _ in model.named_parameters()) == (
        name == "docunet" or name == "paee" and not given
    )
