"""PAEE against loops over cells, patches and sentences; what its tags and losses may and may not touch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import slow
import torch
from small import made, several, tiny
from test_layers import alone, exactly, noisy, shaken
from test_ops import agree, draw

from docre_lite.model import build
from docre_lite.objectives import AdaptiveSoftmax
from docre_lite.papers.docunet import UNet
from docre_lite.papers.paee import (
    SENTENCES,
    Extractor,
    ReEncoder,
    TNet,
    local_mean,
    location_loss,
    mean_cross_entropy,
    place_code,
    sentence_maxima,
    spread,
)
from docre_lite.types import Triple

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SMALL = {"matrix_width": 4, "map_width": 5, "type_width": 3}
SIDES = torch.tensor([7, 4, 3, 1])


def model_of(documents, **settings):
    model = tiny("paee", documents, **{**SMALL, **settings}).double()
    shaken(model.classifier)
    return model


def both_tags(documents, **settings):
    """A model whose threshold λ lies amid its probabilities: some pairs are tagged, some are not."""
    model = model_of(documents, **settings)
    batch = model.batch(documents)
    found = model(batch).trace["potential"].detach()[batch.mask].sigmoid().sort().values
    middle = len(found) // 2
    model = model_of(documents, **settings, potential_threshold=float(found[middle - 1 : middle + 1].mean()))
    tag = model(batch).trace["tag"][batch.mask]
    assert 0 < tag.sum() < tag.numel()
    return model, batch


# Pieces -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_mean_is_its_loop(size):
    image = draw(4, 2, 7, 7)
    found = local_mean(image, SIDES, size)
    for b, one in enumerate(alone(image, SIDES)):
        n = int(SIDES[b])
        agree(found[b, :, :n, :n], slow.local_mean(one, size), image)
        assert (found[b, :, n:] == 0).all() and (found[b, :, :, n:] == 0).all()
    exactly(local_mean(noisy(image, 2).detach(), SIDES, size)[..., :7, :7], found.detach())


def test_local_mean_by_hand():
    image = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    found = local_mean(image, torch.tensor([3]), 3)[0, 0]
    assert found[1].tolist() == pytest.approx([27 / 6, 5, 33 / 6])
    assert found[0].tolist() == pytest.approx([(1 + 2 + 4 + 5) / 4, (1 + 2 + 3 + 4 + 5 + 6) / 6, (2 + 3 + 5 + 6) / 4])
    narrow = local_mean(image, torch.tensor([2]), 3)[0, 0]
    assert narrow.flatten().tolist() == pytest.approx([3, 3, 0, 3, 3, 0, 0, 0, 0])


def test_sentence_maxima_are_their_loop():
    tokens = draw(3, 6, 4) - 5  # all below zero, so that padding would show
    sentence = [[-1, 0, 0, 2, 1, 2], [0, 0, 1, 1, -1, -1], [-1] * 6]
    found, present = sentence_maxima(tokens, torch.tensor(sentence))
    assert found.shape == (3, 3, 4)
    assert present.tolist() == [[True] * 3, [True, True, False], [False] * 3]
    for b in range(2):
        expected = slow.sentence_maxima(tokens[b], sentence[b])
        exactly(found[b, : len(expected)], expected)
    assert (found[~present] == 0).all()
    found.sum().backward()


def test_sentences_by_hand():
    tokens = torch.tensor([[[9.0, 9.0], [1.0, -2.0], [0.0, 5.0], [-3.0, -4.0]]])
    found, _ = sentence_maxima(tokens, torch.tensor([[-1, 0, 0, 1]]))
    assert found.tolist() == [[[1.0, 5.0], [-3.0, -4.0]]]
    found, present = sentence_maxima(tokens, torch.full((1, 4), -1))
    assert found.shape == (1, 0, 2) and present.shape == (1, 0)


# Entities and sentences ---------------------------------------------------------------------------------------------


def re_encoder(width: int = 8) -> ReEncoder:
    return shaken(ReEncoder(width, 2, 2, 0.1)).eval()


def read_alone(net: ReEncoder, entities, tokens, sentence: list[int]):
    """The transformer on one document's entities and sentences, nothing masked."""
    sentences = slow.sentence_maxima(tokens, sentence)
    places = torch.stack([net.place.weight[min(k, SENTENCES - 1)] for k in range(len(sentences))])
    return net.transformer(torch.cat([entities, sentences + places]).unsqueeze(0))[0, : len(entities)]


def test_the_re_encoder_reads_entities_and_sentences():
    """Two documents of different length in one batch: each as if it were alone, whatever stands in the padding."""
    net, entities, tokens = re_encoder(), draw(2, 4, 8), draw(2, 9, 8, seed=1)
    sentence = [[-1, 0, 0, 1, 1, 1, 2, 2, -1], [-1, 0, 0, 0, 1, -1, -1, -1, -1]]
    sizes = [4, 2]
    mask = torch.tensor([[i < n for i in range(4)] for n in sizes])
    found = net(entities, mask, tokens, torch.tensor(sentence))
    for b, n in enumerate(sizes):
        agree(found[b, :n], read_alone(net, entities[b, :n], tokens[b], sentence[b]), entities, tokens)
        assert (found[b, n:] == 0).all()
    with torch.no_grad():  # another path through torch's transformer
        exactly(net(entities, mask, tokens, torch.tensor(sentence)), found)
    hidden = torch.tensor(sentence) < 0
    noise = net(
        entities.masked_fill(~mask.unsqueeze(-1), 50.0),
        mask,
        tokens.masked_fill(hidden.unsqueeze(-1), 50.0),
        torch.tensor(sentence),
    )
    exactly(noise, found)


def test_entities_move_along_and_sentences_have_places():
    net, entities, tokens = re_encoder(), draw(1, 4, 8), draw(1, 6, 8, seed=1)
    mask, order = torch.ones(1, 4, dtype=torch.bool), torch.tensor([2, 0, 3, 1])
    sentence = torch.tensor([[0, 0, 1, 1, 2, 2]])
    found = net(entities, mask, tokens, sentence)
    exactly(net(entities[:, order], mask, tokens, sentence), found[:, order])
    assert (net(entities, mask, tokens, torch.tensor([[1, 1, 0, 0, 2, 2]])) - found).abs().max() > 1e-4


def test_more_sentences_than_places():
    """The 64th place is that of all later sentences: two of them may change places, two earlier ones may not."""
    net, entities = re_encoder(), draw(1, 2, 8).detach()
    mask, tokens = torch.ones(1, 2, dtype=torch.bool), draw(1, 70, 8, seed=1).detach()
    sentence = torch.arange(70).unsqueeze(0)
    found = net(entities, mask, tokens, sentence)
    exactly(found[0], read_alone(net, entities[0], tokens[0], list(range(70))))

    def swapped(i: int, j: int):
        order = list(range(70))
        order[i], order[j] = j, i
        return net(entities, mask, tokens[:, order], sentence)

    exactly(swapped(63, 69), found)
    assert (swapped(62, 63) - found).abs().max() > 1e-6


def test_a_document_without_entities_and_sentences():
    net = re_encoder()
    entities = draw(2, 2, 8)
    mask = torch.tensor([[False, False], [True, False]])
    found = net(entities, mask, draw(2, 3, 8, seed=1), torch.tensor([[-1, -1, -1], [0, 0, -1]]))
    assert found.isfinite().all() and (found[0] == 0).all()
    assert torch.autograd.grad(found.sum(), entities)[0].isfinite().all()


# TNet ---------------------------------------------------------------------------------------------------------------


def t_net(border: str = "circular", budget: float = 0.25, width: int = 4) -> TNet:
    return shaken(TNet(width, 3, budget, border))


@pytest.mark.parametrize("border", ["circular", "zero"])
def test_patch_means_are_their_loop(border):
    net, image = t_net(border), draw(4, 4, 7, 7)
    found = net._shrink(image * (torch.arange(7) < 99), SIDES, 3)
    for b, one in enumerate(alone(image, SIDES)):
        expected = slow.patch_means(one, border)
        m = expected.shape[-1]
        agree(found[b, :, :m, :m], expected, image)


def test_patch_means_by_hand():
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 8, 4, 4)
    sides = torch.tensor([4])
    zero = TNet(8, 3, 0.5, "zero")._shrink(image, sides, 2)[0, 0]
    assert zero.flatten().tolist() == pytest.approx([5, 7, 13, 15])  # the last patch is the cell 15 alone
    torus = TNet(8, 3, 0.5, "circular")._shrink(image, sides, 2)[0, 0]
    assert torus[1, 1] == pytest.approx((15 + 12 + 13 + 3 + 0 + 1 + 7 + 4 + 5) / 9)


@pytest.mark.parametrize("border", ["circular", "zero"])
def test_the_extractor_is_its_loop(border):
    net, image, sides = shaken(Extractor(8, border)), draw(2, 8, 4, 4), torch.tensor([4, 3])
    found = net(image, sides)
    for fast, one in zip(alone(found, sides), alone(image, sides), strict=True):
        agree(fast, slow.extractor(one, net, border), image, *net.parameters())


@pytest.mark.parametrize("budget", [0.01, 0.25, 0.5, 1.0])
def test_as_many_patches_as_the_budget_allows(budget):
    """⌈budget · patches⌉ of each document's own: 9, 4, 1 and 1; and none outside."""
    net = t_net(budget=budget)
    patches = torch.tensor([3, 2, 1, 1])
    coarse = draw(4, 4, 3, 3)
    weight, looked = net._choose(coarse, patches)
    for b, m in enumerate(patches.tolist()):
        assert looked[b].sum() == math.ceil(budget * m * m)
        assert not looked[b, m:].any() and not looked[b, :, m:].any()
        exactly(weight[b, 0, :m, :m].sum(), torch.ones(()).double())
        assert (weight[b, 0, m:] == 0).all() and (weight[b, 0, :, m:] == 0).all()
        if looked[b].sum() < m * m:  # the best ones
            own = torch.zeros(3, 3, dtype=torch.bool)
            own[:m, :m] = True
            assert weight[b, 0][looked[b]].min() >= weight[b, 0][own & ~looked[b]].max()
    # the extractor is not trained through the choice, the location module is
    locate = list(net.locate.parameters())[0]
    assert torch.autograd.grad(weight[..., 0, 0].sum(), [coarse], allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(weight[..., 0, 0].sum(), locate)[0].abs().max() > 0


@pytest.mark.parametrize("percent", [1, 10, 15, 27, 30, 54, 60, 99, 100])
def test_a_budget_is_counted_exactly(percent):
    """No patch too many for a share that rounding puts a little above a whole number."""
    net = TNet(8, 3, percent / 100, "zero")
    _, looked = net._choose(torch.randn(1, 8, 10, 10), torch.tensor([10]))
    assert looked.sum() == percent


@pytest.mark.parametrize("border", ["circular", "zero"])
@pytest.mark.parametrize("budget", [0.2, 1.0])
def test_t_net_is_its_loop(border, budget):
    """Documents of 7, 4, 3 and 1 entities in one batch with noise around: each as if its crops were cut one by one."""
    net, image, trace = t_net(border, budget), draw(4, 4, 7, 7), {}
    found = net(image, SIDES, trace)
    places = place_code(7, image)[0]
    for b, one in enumerate(alone(image, SIDES)):
        n = int(SIDES[b])
        expected, weight, looked = slow.t_net(one, net, border, places)
        agree(found[b, :, :n, :n], expected, image, *(p for k, p in net.named_parameters() if "norm" not in k))
        m = len(weight)
        exactly(trace["patch_weight"][b, :m, :m], weight)
        assert {tuple(patch) for patch in trace["patch_looked"][b].nonzero().tolist()} == looked
    wide = net(noisy(image, 3), SIDES)[..., :7, :7]
    for fast, expected in zip(alone(wide, SIDES), alone(found, SIDES), strict=True):
        exactly(fast, expected)


@pytest.mark.parametrize("border", ["circular", "zero"])
@pytest.mark.parametrize("n", [1, 4, 7])
def test_without_padding_t_net_needs_no_sides(border, n):
    net, image, full = t_net(border, 0.5), draw(2, 4, n, n), torch.tensor([n, n])
    agree(net(image, None), net(image, full), image, *net.parameters())
    exactly(local_mean(image, None, 3).detach(), local_mean(image, full, 3).detach())


def test_a_close_look_changes_only_its_patch():
    net, image, sides = t_net("zero", 1.0), draw(1, 4, 7, 7).detach(), torch.tensor([7])
    every = torch.ones(1, 3, 3, dtype=torch.bool)
    one = torch.zeros(1, 3, 3, dtype=torch.bool)
    one[0, 1, 2] = True
    close, all_of_them = net._look(image, sides, one), net._look(image, sides, every)
    assert torch.equal(close[..., 3:6, 6:], all_of_them[..., 3:6, 6:])
    outside = close.clone()
    outside[..., 3:6, 6:] = 0
    assert (outside == 0).all() and (net._look(image, sides, ~every) == 0).all()


def test_places():
    code = place_code(9, torch.zeros(1, dtype=torch.float64))[0]
    for i in range(9):
        for j in range(9):
            waves = [f(p / 4**k) for p in (i, j) for f in (math.sin, math.cos) for k in range(4)]
            assert code[:, i, j].tolist() == pytest.approx(waves, abs=1e-14)  # in float64, as what it is for
    assert place_code(600, torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_spread_by_hand():
    found = spread(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 4)[0, 0]
    assert found.tolist() == [[1, 1, 1, 2]] * 3 + [[3, 3, 3, 4]]


def test_the_choice_is_trained_by_the_straight_through_weight():
    net, image = t_net(budget=0.5), draw(1, 4, 6, 6)
    (net(image, torch.tensor([6])) ** 2).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in net.locate[0].parameters())


def test_what_a_cyclic_shift_leaves_as_it_is():
    """On a torus the extractor follows any cyclic shift of the entities. TNet follows one by whole patches if it looks
    at all of them and forgets places; a U-Net one by four with deconvolution, not with bilinear growth."""
    image, sides = draw(1, 4, 12, 12).detach(), torch.tensor([12])

    def follows(net, shift: int) -> bool:
        before, after = net(image, sides), net(image.roll((shift, shift), (2, 3)), sides)
        return bool((after - before.roll((shift, shift), (2, 3))).abs().max() < 1e-9)

    assert all(follows(shaken(Extractor(4, "circular")), shift) for shift in (1, 5))
    assert not follows(shaken(Extractor(4, "zero")), 1)
    net = t_net("circular", 1.0)
    assert not follows(net, 3)
    with torch.no_grad():
        net.leave.weight[:, 12:-1] = 0
    assert follows(net, 3) and follows(net, 6) and not follows(net, 1)
    net.border = net.extractor.border = "zero"
    assert not follows(net, 3)
    deconv = shaken(UNet(4, 3, 4, "text", "deconv", border="circular"))
    assert follows(deconv, 4) and follows(deconv, 8) and not follows(deconv, 1)
    assert not follows(shaken(UNet(4, 3, 4, "text", "bilinear", border="circular")), 4)


# Pairs that may be related ------------------------------------------------------------------------------------------


def matrix_input(model, batch):
    """What the matrix network is given: the image and its sides."""
    seen = []
    handle = model.classifier.matrix.register_forward_pre_hook(lambda _, given: seen.extend(given[:2]))
    model(batch)
    handle.remove()
    return seen


def test_the_sliding_window_written_out():
    documents = several()
    circular, slide = model_of(documents), model_of(documents, fill="slide", matrix_size=8)
    slide.load_state_dict(circular.state_dict())
    batch = circular.batch(documents)
    image, sides = matrix_input(circular, batch)
    filled, widths = matrix_input(slide, batch)
    assert sides.tolist() == [len(d.entities) for d in documents] and widths.tolist() == [8] * 4
    for b, one in enumerate(alone(image, sides)):
        exactly(filled[b], slow.copied_blocks(one, 8))
    assert circular.classifier.matrix.border == "circular" and slide.classifier.matrix.border == "zero"
    # the two differ at the upper and left border, where the written-out matrix ends
    assert (circular(batch).logits - slide(batch).logits)[batch.mask].abs().max() > 1e-6


@pytest.mark.parametrize("matrix", ["unet", "ffn"])
def test_fills_of_the_controls(matrix):
    document = made("fills", 4)
    models = [model_of([document], matrix=matrix, fill=fill, matrix_size=8) for fill in ("circular", "slide", "zero")]
    for model in models:
        model.load_state_dict(models[0].state_dict())
    batch = models[0].batch([document])
    circular, slide, zero = (model(batch).logits[batch.mask] for model in models)
    if matrix == "ffn":  # one cell at a time has no border
        exactly(slide, circular)
        exactly(zero, circular)
    else:
        assert min((a - b).abs().max() for a, b in [(slide, circular), (zero, circular), (slide, zero)]) > 1e-6


def test_a_sliding_window_does_not_depend_on_the_batch():
    document, long = made("short", 3), made("long", 9, sentences=9, words=14)
    model = model_of([document, long], fill="slide", matrix_size=6)
    by_itself, together = model(model.batch([document])), model(model.batch([document, long]))
    mask = model.batch([document]).mask
    exactly(together.logits[:1, :3, :3][mask], by_itself.logits[mask])


def test_the_tag_is_hard_and_only_its_own_loss_trains_the_detector():
    documents = several()
    model, batch = both_tags(documents)
    prediction, detector = model(batch), model.classifier.detector.weight
    assert prediction.trace["tag"].dtype == torch.bool
    assert torch.autograd.grad(prediction.losses["relation"], detector, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(prediction.losses["potential"], detector, retain_graph=True)[0].abs().max() > 0
    # but the pair's map is trained by both
    pair_map = model.classifier.pair_map.weight
    for name in ("relation", "potential"):
        assert torch.autograd.grad(prediction.losses[name], pair_map, retain_graph=True)[0].abs().max() > 0


def test_a_soft_tag_passes_gradient():
    documents = several()
    model = model_of(documents, variant="soft_tag")
    batch = model.batch(documents)
    prediction = model(batch)
    gradient = torch.autograd.grad(prediction.losses["relation"], model.classifier.detector.weight)[0]
    assert gradient.abs().max() > 0
    other = model_of(documents, variant="soft_tag", potential_threshold=0.9)  # λ makes the hard tag only
    exactly(other(batch).logits, prediction.logits)


def test_lambda_only_makes_the_tag():
    documents = several()
    model, batch = both_tags(documents)
    always, never = (model_of(documents, potential_threshold=cut) for cut in (0.0, 1.0))
    some, every, none = model(batch), always(batch), never(batch)
    assert every.trace["tag"][batch.mask].all() and not none.trace["tag"].any()
    for name in ("potential", "subject", "object"):
        assert some.losses[name] == every.losses[name] == none.losses[name]
    cut = model.classifier.options.potential_threshold
    assert torch.equal(some.trace["tag"], some.trace["potential"].sigmoid() > cut)
    tag = (some.trace["tag"] & batch.mask).unsqueeze(-1)
    exactly(some.logits, torch.where(tag, every.logits, none.logits))  # one channel of that pair
    assert (every.logits - none.logits)[batch.mask].abs().max() > 1e-4
    chosen, margin = AdaptiveSoftmax().decide(some.logits)
    assert torch.equal(some.margin, margin) and torch.equal(some.chosen, chosen & batch.mask.unsqueeze(-1))


def test_a_filter_drops_relations_of_untagged_pairs():
    documents = several()
    plain, batch = both_tags(documents)
    cut = plain.classifier.options.potential_threshold
    filtered = model_of(documents, filter=True, potential_threshold=cut)
    for model in (plain, filtered):
        with torch.no_grad():
            model.classifier.bilinear.bilinear.bias[0] -= 3  # every pair holds something
    before, after = plain(batch), filtered(batch)
    assert torch.equal(after.logits, before.logits) and after.loss == before.loss
    tag = before.trace["tag"].unsqueeze(-1)
    assert (before.chosen & ~tag).any() and (before.chosen & tag).any()
    assert torch.equal(after.chosen, before.chosen & tag)


# The whole ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"fill": "zero", "potential": "soft"},
        {"fill": "slide", "matrix_size": 5},
        {"matrix": "ffn", "cross_matching": False, "re_encoder": False},
        {"matrix": "none", "potential": "off"},
        {"matrix": "unet", "potential": "off"},
    ],
    ids=lambda given: "-".join(map(str, given.values())) or "default",
)
def test_the_classifier_is_its_loop(given):
    document, n = made("whole", 4, sentences=4), 4
    model = model_of([document], **given) if given.get("potential") == "off" else both_tags([document], **given)[0]
    batch = model.batch([document])
    pairs, paper = model.features(batch), model.classifier
    prediction = paper(pairs, batch.labels)
    probability = torch.zeros(n, n)
    fill = {"circular": "circular", "slide": "zero", "zero": "zero"}[paper.options.fill]
    if paper.matrix is None:
        information = [[None] * n for _ in range(n)]
    else:
        kinds = paper.types.weight[batch.entity_type[0]]
        pos = [[[float(batch.same_sentence[0, s, o])] for o in range(n)] for s in range(n)]
        known = [
            [torch.cat([torch.tensor(pos[s][o]).double(), kinds[s], kinds[o]]) for o in range(n)] for s in range(n)
        ]
        V = slow.matrix_of(
            [
                [
                    paper.pair_map.weight @ torch.cat([pairs.context[0, s, o], known[s][o]]) + paper.pair_map.bias
                    for o in range(n)
                ]
                for s in range(n)
            ]
        )
        if paper.options.fill == "slide":
            V = slow.copied_blocks(V, 5)
        if paper.options.matrix == "tnet":
            Y = slow.t_net(V, paper.matrix, fill, place_code(V.shape[-1], V)[0])[0]
        elif paper.options.matrix == "unet":
            Y = slow.u_net(V, paper.matrix, fill)
        else:
            Y = slow.cell_net(V, paper.matrix)
        Y = Y[:, :n, :n]
        information = [[Y[:, s, o] for o in range(n)] for s in range(n)]
        if paper.detector is not None:
            P = slow.local_mean(Y, 3)
            w, b = paper.detector.weight[0], paper.detector.bias[0]
            probability = torch.stack(
                [
                    torch.stack([torch.sigmoid(w @ torch.cat([P[:, s, o], known[s][o]]) + b) for o in range(n)])
                    for s in range(n)
                ]
            )
            tag = (probability > paper.options.potential_threshold).double()
            tag = probability if paper.options.potential == "soft" else tag
            information = [[torch.cat([Y[:, s, o], tag[s, o].view(1)]) for o in range(n)] for s in range(n)]
    e = pairs.entities[0]
    if paper.re_encoder is not None:
        e = read_alone(paper.re_encoder, e, pairs.tokens[0], batch.token_sentence[0].tolist())
    subjects, objects, R = e, e, len(model.relations)
    if paper.roles is not None:
        F = torch.stack([paper.roles.weight @ one + paper.roles.bias for one in e])
        subjects, objects = torch.cat([e, F[:, : R - 1]], 1), torch.cat([e, F[:, R - 1 :]], 1)
    layer = paper.bilinear
    W = layer.bilinear.weight.view(R, -1, layer.block, layer.block)
    roles = layer.head.weight, layer.head.bias, layer.tail.weight, layer.tail.bias
    relation, potential = [], []
    gold = batch.labels[0]
    for s, o in batch.mask[0].nonzero().tolist():
        logits = slow.role_bilinear(subjects[s], objects[o], information[s][o], *roles, W, layer.bilinear.bias)
        exactly(prediction.logits[0, s, o], logits)
        relation.append(slow.adaptive_softmax(logits, set(gold[s, o].nonzero().flatten().tolist())))
        p = probability[s, o]
        potential.append(-torch.log(p if gold[s, o, 1:].any() else 1 - p))
    expected = {"relation": sum(relation) / len(relation)}  # (9)
    if paper.detector is not None:
        expected["potential"] = sum(potential) / len(potential)  # (10)
    if paper.roles is not None:  # (11), halved by (12)
        sides = {"subject": (F[:, : R - 1], gold.any(1)), "object": (F[:, R - 1 :], gold.any(0))}
        for role, (values, stands) in sides.items():
            terms = [
                -torch.log(torch.sigmoid(values[i, r]) if stands[i, r + 1] else 1 - torch.sigmoid(values[i, r]))
                for i in range(n)
                for r in range(R - 1)
            ]
            expected[role] = sum(terms) / len(terms) / 2
    assert prediction.losses.keys() == expected.keys()
    for name, loss in expected.items():
        exactly(prediction.losses[name], loss)
    exactly(prediction.loss, sum(expected.values()))


def test_losses_with_candidates_by_loops():
    """Where only some pairs count, as on CDR: an entity is asked for its role only if a candidate puts it there."""
    document = made("candidates", 4, sentences=4)
    kept = frozenset({(0, 1), (1, 3), (0, 3), (2, 3)})  # entity 3 is no subject, 0 and 2 are no objects
    facts = (Triple("candidates", 0, "r", 1), Triple("candidates", 0, "q", 3), Triple("candidates", 1, "q", 3))
    document = replace(document, candidates=kept, triples=facts)
    model = model_of([document, made("more", 4)])
    batch = model.batch([document])
    assert batch.mask.sum() == 4
    prediction = model(batch)
    relations = len(model.relations)
    terms: dict[str, list] = {"potential": [], "subject": [], "object": []}
    facts = {(t.head, model.relations.names.index(t.relation), t.tail) for t in document.triples}
    for s, o in sorted(document.candidates):
        p = prediction.trace["potential"][0, s, o].sigmoid()
        terms["potential"].append(-torch.log(p if any((s, r, o) in facts for r in range(relations)) else 1 - p))
    for role, place in (("subject", 0), ("object", 1)):
        for i in sorted({pair[place] for pair in document.candidates}):
            for r in range(1, relations):
                p = prediction.trace[role][0, i, r - 1].sigmoid()
                yes = any(fact[2 * place] == i and fact[1] == r for fact in facts)
                terms[role].append(-torch.log(p if yes else 1 - p))
    for name, values in terms.items():
        exactly(prediction.losses[name], sum(values) / len(values) / (1 if name == "potential" else 2))


def test_cross_entropy_by_hand():
    logits = torch.tensor([0.0, math.log(3), -math.log(3)], dtype=torch.float64)  # probabilities ½, ¾ and ¼
    value = -(math.log(1 / 2) + math.log(3 / 4) + math.log(1 / 4)) / 3
    assert float(mean_cross_entropy(logits, torch.tensor([True, True, True]))) == pytest.approx(value)
    assert float(mean_cross_entropy(logits[:0], torch.zeros(0, dtype=torch.bool))) == 0
    assert mean_cross_entropy(logits.bfloat16(), torch.tensor([True, False, True])).dtype == torch.float32


def test_location_loss_by_hand():
    """Four patches, two looked at with weights ½ and ⅛; the first holds a related pair, so the rewards are 1 and 0."""
    trace = {
        "patch_weight": torch.tensor([[[0.5, 0.25], [0.125, 0.125]]]).double().requires_grad_(),
        "patch_looked": torch.tensor([[[True, False], [False, True]]]),
    }
    related = torch.zeros(1, 4, 4, dtype=torch.bool)
    related[0, 2, 1] = related[0, 1, 3] = True  # the second is in a patch that is not looked at
    sides = torch.tensor([4])
    loss = location_loss(trace, related, sides, "zero")
    assert float(loss.detach()) == pytest.approx(-(0.5 * math.log(0.5) - 0.5 * math.log(0.125)) / 2)
    gradient = torch.autograd.grad(loss, trace["patch_weight"])[0]
    assert gradient[0].sign().tolist() == [[-1, 0], [0, 1]]  # more of the first
    # on the torus the last patch wraps to cells 0 and 1, so it holds (0, 1) too: nothing to choose between
    related[0, 0, 1] = True
    assert float(location_loss(trace, related, sides, "circular").detach()) == 0
    assert float(location_loss(trace, related, sides, "zero").detach()) != 0
    related[0, 3, 3] = True
    assert float(location_loss(trace, related, sides, "zero").detach()) == 0
    trace["patch_looked"] = torch.zeros(1, 2, 2, dtype=torch.bool)
    assert float(location_loss(trace, related, sides, "zero").detach()) == 0


def test_the_location_loss_has_a_weight():
    documents = several()
    plain, model = model_of(documents), model_of(documents, reinforce=0.3, fill="zero", budget=1.0)
    batch = model.batch(documents)
    prediction = model(batch)
    assert "location" not in plain(batch).losses
    expected = location_loss(
        prediction.trace, batch.labels[..., 1:].any(-1) & batch.mask, batch.entity_mask.sum(1), "zero"
    )
    assert expected != 0
    exactly(prediction.losses["location"], 0.3 * expected)
    assert "location" not in model_of(documents, reinforce=0.3, matrix="unet")(batch).losses


def test_a_written_out_matrix_rewards_its_copies():
    documents = several()
    model = model_of(documents, reinforce=1.0, fill="slide", matrix_size=12, budget=1.0)
    batch = model.batch(documents)
    prediction = model(batch)
    weight, reward = prediction.trace["patch_weight"], []
    for b, document in enumerate(documents):
        n = len(document.entities)
        related = {(t.head, t.tail) for t in document.triples}
        for i in range(4):
            for j in range(4):
                cells = {((3 * i + y) % n, (3 * j + x) % n) for y in range(3) for x in range(3)}
                reward.append((float(bool(cells & related)), weight[b, i, j].log()))
    mean = sum(r for r, _ in reward) / len(reward)
    exactly(prediction.losses["location"], -sum((r - mean) * w for r, w in reward) / len(reward))


def test_the_budget_can_be_changed_after_training():
    documents = several()
    model = model_of(documents)
    batch = model.batch(documents)
    patches = [math.ceil(len(d.entities) / 3) ** 2 for d in documents]
    before = model(batch)
    assert before.trace["patch_looked"].sum((1, 2)).tolist() == [math.ceil(0.25 * p) for p in patches]
    model.classifier.matrix.budget = 1.0
    after = model(batch)
    assert after.trace["patch_looked"].sum((1, 2)).tolist() == patches
    assert (after.logits - before.logits)[batch.mask].abs().max() > 1e-6


def test_types_and_sentences_reach_the_matrix():
    """Beside the context a pixel holds whether the pair shares a sentence, and both types."""
    documents = several()
    model = model_of(documents, matrix="ffn", potential="off")
    batch = model.batch(documents)
    pairs = model.features(batch)
    before = model.classifier(pairs).logits
    other = replace(pairs, batch=replace(batch, same_sentence=~batch.same_sentence))
    assert ((model.classifier(other).logits - before).abs().amax(-1)[batch.mask] > 1e-9).all()
    kinds = batch.entity_type.clone()
    kinds[0, 1] = kinds[0, 1] % 3 + 1
    apart = model.classifier(replace(pairs, batch=replace(batch, entity_type=kinds))).logits - before
    apart = (apart.abs().amax(-1) > 1e-9)[0]
    assert {tuple(pair) for pair in apart.nonzero().tolist()} == {(0, 1), (1, 0), (1, 2), (2, 1)}


def test_options_that_do_not_fit_together():
    document = made("options", 3)
    for given, message in [
        ({"potential_window": 4}, "potential_window=4 has no middle"),
        ({"matrix": "none"}, "the matrix determines the potential pairs"),
        ({"potential": "off", "filter": True}, "filter=true needs the tags"),
        ({"context": "off"}, "the pair map needs localized context"),
        ({"re_heads": 7}, "re_heads=7 must divide the encoder's width"),
        ({"budget": 0.0}, "budget=0.0 is a share of the patches"),
        ({"budget": 1.5}, "budget is a number up to 1"),
        ({"matrix_width": 12}, "12 channels cannot be split into 8 groups"),
        ({"block": 7}, "block=7 must divide"),
    ]:
        with pytest.raises(ValueError, match=message):
            build("paee", [document], **given)
    bare = tiny("paee", [document], context="off", variant="no_par", **SMALL)  # needs no context
    batch = bare.batch([document])
    assert bare(batch).logits[batch.mask].isfinite().all()
