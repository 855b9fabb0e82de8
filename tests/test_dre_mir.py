"""DRE-MIR against its equations: paths one by one, exact draws of hidden pairs, the divergence of two answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small import made, several, tiny

from docre_lite.model import DocRE
from docre_lite.papers.dre_mir import InferenceLayer, draw_hidden, symmetric_divergence


def exactly(fast, slow, tolerance=1e-10):
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)


def naive_inference(layer: InferenceLayer, cells: torch.Tensor) -> torch.Tensor:
    """I-MSA from its definition, cell by cell: the keys of all two-leg paths and the cell's own."""
    n, width = cells.shape[0], layer.width
    q, k, v = (part(cells).unflatten(-1, (4, width)) for part in (layer.query, layer.key, layer.value))
    rows = []
    for a in range(n):
        for b in range(n):
            if a == b:
                rows.append(torch.zeros_like(cells[0, 0]))
                continue
            heads = []
            for h in range(4):
                keys, values = [k[a, b, h]], [v[a, b, h]]
                for x in set(range(n)) - {a, b}:
                    leg1, leg2 = [((a, x), (x, b)), ((a, x), (b, x)), ((x, a), (b, x)), ((x, a), (x, b))][h]
                    w = layer.legs[h]
                    keys.append(k[leg1][h] @ w[0] + k[leg2][h] @ w[1] + layer.biases[h, 0])
                    values.append(v[leg1][h] @ w[2] + v[leg2][h] @ w[3] + layer.biases[h, 1])
                weights = (torch.stack(keys) @ q[a, b, h] / math.sqrt(width)).softmax(0)
                heads.append(weights @ torch.stack(values))
            mixed = layer.norm(cells[a, b] + layer.out(torch.cat(heads)))
            rows.append(layer.feed_norm(mixed + layer.feed(mixed)))
    return torch.stack(rows).view_as(cells)


def test_split_inference_against_the_definition():
    torch.manual_seed(0)
    layer, sizes = InferenceLayer(16, 24).double(), (5, 3)
    torch.nn.init.normal_(layer.biases)
    cells = torch.randn(2, 6, 6, 16, dtype=torch.float64, requires_grad=True)
    legs = torch.zeros(2, 6, 6, dtype=torch.bool)
    for b, n in enumerate(sizes):
        legs[b, :n, :n] = ~torch.eye(n, dtype=torch.bool)
    fast, _ = layer(cells, legs)
    weight = torch.randn_like(fast)
    slow = torch.zeros_like(fast)
    for b, n in enumerate(sizes):
        slow[b, :n, :n] = naive_inference(layer, cells[b, :n, :n])
        exactly(fast[b, :n, :n][legs[b, :n, :n]], slow[b, :n, :n][legs[b, :n, :n]])
    keep = weight * legs.unsqueeze(-1)
    inputs = (cells, *layer.parameters())
    for one, two in zip(
        torch.autograd.grad((fast * keep).sum(), inputs), torch.autograd.grad((slow * keep).sum(), inputs), strict=True
    ):
        exactly(one, two)


def test_weights_sum_to_one_and_stay_on_paths():
    torch.manual_seed(0)
    layer, n = InferenceLayer(8, 8).double(), 5
    legs = ~torch.eye(n, dtype=torch.bool).unsqueeze(0)
    _, weights = layer(torch.randn(1, n, n, 8, dtype=torch.float64), legs, keep_weights=True)
    assert weights.shape == (1, 4, n, n, n + 1)
    for a, b in legs[0].nonzero().tolist():
        exactly(weights[0, :, a, b].sum(-1), torch.ones(4, dtype=torch.float64))
        assert (weights[0, :, a, b, [a, b]] == 0).all()
        others = [x for x in range(n) if x not in (a, b)]
        assert (weights[0, :, a, b, others] > 0).all()


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.29, 0.5, 0.9])
def test_as_many_pairs_are_hidden_as_the_rate_says(rate):
    torch.manual_seed(0)
    cells = torch.zeros(3, 11, 11, dtype=torch.bool)
    for b, n in enumerate((11, 5, 1)):
        cells[b, :n, :n] = ~torch.eye(n, dtype=torch.bool)
    hidden = draw_hidden(cells, rate)
    assert not (hidden & ~cells).any()
    assert hidden.sum((1, 2)).tolist() == [int(round(100 * rate) * k // 100) for k in (110, 20, 0)]
    if 0 < rate:
        assert not torch.equal(hidden, draw_hidden(cells, rate))


def test_draws_of_one_seed_grow_with_the_rate():
    cells = ~torch.eye(7, dtype=torch.bool).unsqueeze(0)

    def draw(rate, seed=3):
        return draw_hidden(cells, rate, torch.Generator().manual_seed(seed))

    before = draw(0.0)
    for rate in (0.1, 0.2, 0.5, 0.9):
        now = draw(rate)
        assert not (before & ~now).any() and now.sum() > before.sum()
        before = now
    assert torch.equal(draw(0.5), draw(0.5)) and not torch.equal(draw(0.5), draw(0.5, seed=4))


def test_chosen_pairs_are_hidden_and_their_own_vector_is_not_used():
    """The vector of a hidden pair counts no more; one of a pair that is seen does."""
    documents = several()[:1]
    model = tiny("dre_mir", documents).double()
    part, pairs = model.classifier, model.features(model.batch(documents))
    nothing, one = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    one[0, 0, 1] = True
    with torch.no_grad():
        exactly(part.restore(pairs, nothing).logits, part(pairs).logits, 0)
        both = part.restore(pairs, torch.cat([nothing, one]))
        assert both.logits.shape[:3] == (2, 3, 3) and torch.equal(both.trace["hidden"], torch.cat([nothing, one]))
        exactly(both.logits[1], part.restore(pairs, one).logits[0])
        expected = part.objective.decide(both.logits)[0] & pairs.mask.unsqueeze(-1)
        assert torch.equal(both.chosen, expected)
        matrix = part.pair_matrix(pairs)
        exactly(part.cover(matrix, one)[0, 0, 1], part.hidden_cell[0], 0)
        exactly(part.cover(matrix, one)[~one], matrix[~one], 0)
        pairs.attention[0, 0, 1] += 1
        again = part.restore(pairs, torch.cat([nothing, one])).logits
        exactly(again[1], both.logits[1], 0)
        assert (again[0] - both.logits[0]).abs().max() > 1e-6


@pytest.mark.parametrize("mode", range(4))
def test_a_silent_mode_is_one_whose_columns_of_the_output_map_are_zero(mode):
    documents = several()[:2]
    model = tiny("dre_mir", documents).double()
    part, pairs = model.classifier, model.features(model.batch(documents))
    with torch.no_grad():
        before = part(pairs).logits
        with part.without(mode):
            silent = part(pairs).logits
        exactly(part(pairs).logits, before, 0)
        for layer in part.matrix:
            layer.out.weight[:, mode * layer.width : (mode + 1) * layer.width] = 0
        exactly(silent, part(pairs).logits)
    assert (silent - before)[pairs.mask].abs().max() > 1e-6


def test_what_was_not_learnt_cannot_be_asked():
    documents = several()[:1]
    model = tiny("dre_mir", documents, variant="no_mir")
    pairs = model.features(model.batch(documents))
    with pytest.raises(ValueError, match="mask_rate=0: no vector for hidden pairs was learnt"):
        model.classifier.restore(pairs, torch.zeros(1, 3, 3, dtype=torch.bool))
    full = tiny("dre_mir", documents, variant="no_imsa").classifier
    with pytest.raises(ValueError, match="attention='full' has no head for a mode"), full.without(0):
        pass


def test_symmetric_divergence_by_hand():
    p, q = torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])
    # one direction is 0.9 ln 1.8 + 0.1 ln 0.2, the other 0.5 ln 5/9 + 0.5 ln 5: half their sum is 0.2 ln 9
    found = symmetric_divergence(p.log().unsqueeze(0), q.log().unsqueeze(0) + 3.0)
    assert float(found) == pytest.approx(0.2 * math.log(9), rel=1e-6)
    assert float(symmetric_divergence(torch.zeros(0, 3), torch.zeros(0, 3))) == 0


def test_training_takes_both_paths_and_prediction_one():
    documents = several()
    model = tiny("dre_mir", documents, inference_dropout=0.0)
    batch = model.batch(documents)
    still = model(batch)
    assert still.losses.keys() == {"relation"}
    model.train()
    torch.manual_seed(1)
    moving = model(batch)
    assert moving.losses.keys() == {"relation", "masked", "reconstruction"}
    exactly(moving.logits[batch.mask], still.logits[batch.mask], 1e-5)
    assert (moving.trace["masked_logits"] - moving.logits)[batch.mask].abs().max() > 1e-4
    model.eval().classifier.options = replace(model.classifier.options, test_mask_rate=0.5)
    assert (model(batch).logits - still.logits)[batch.mask].abs().max() > 1e-4


def test_the_variants_leave_out_what_they_say():
    documents = several()

    def losses(**settings):
        model = tiny("dre_mir", documents, **settings).train()
        return model(model.batch(documents)).losses.keys()

    assert (
        losses(variant="only_mask_path") == losses(variant="no_mir") == losses(variant="no_inference") == {"relation"}
    )
    assert losses(variant="only_masked_points") == {"relation", "masked", "reconstruction"}
    only_mask = tiny("dre_mir", documents, variant="only_mask_path").train()
    assert "hidden" in only_mask(only_mask.batch(documents)).trace
    no_mir = tiny("dre_mir", documents, variant="no_mir").train()
    assert "hidden" not in no_mir(no_mir.batch(documents)).trace


@pytest.mark.parametrize("variant", ["dre_mir", "only_masked_points"])
def test_losses_of_both_answers(variant):
    documents = several()
    model = tiny("dre_mir", documents, variant=variant, mask_rate=0.5).train()
    batch = model.batch(documents)
    prediction = model(batch)
    original, masked, mask = prediction.logits, prediction.trace["masked_logits"], batch.mask
    exactly(prediction.losses["masked"], model.classifier.objective.loss(masked[mask], batch.labels[mask]), 0)
    compared = mask & prediction.trace["hidden"] if variant == "only_masked_points" else mask
    assert 0 < compared.sum() <= mask.sum()
    exactly(prediction.losses["reconstruction"], symmetric_divergence(original[compared], masked[compared]), 0)


def test_a_pair_knows_its_document():
    documents = several()
    model = tiny("dre_mir", documents).double()
    pairs = model.features(model.batch(documents))
    before = model.classifier.pair_matrix(pairs)
    pairs.document = pairs.document + torch.tensor([1.0, 0, 0, 0]).unsqueeze(1)
    change = (model.classifier.pair_matrix(pairs) - before).abs().amax((1, 2, 3))
    assert change[0] > 1e-6 and (change[1:] == 0).all()


def test_without_inference_pairs_do_not_see_each_other():
    """One context cell changed: with I-MSA other pairs' logits move, without they stay."""
    document = made("alone", 5, sentences=4)
    for variant, expected in (("no_inference", False), ("no_mir", True)):
        model = tiny("dre_mir", [document], variant=variant).double()
        pairs = model.features(model.batch([document]))
        before = model.classifier(pairs).logits
        pairs.attention = pairs.attention.clone()
        pairs.attention[0, 0, 1] += 1
        change = (model.classifier(pairs).logits - before).abs().amax(-1)[0]
        change[0, 1] = 0
        assert bool(change.max() > 1e-9) == expected


def test_a_width_that_has_no_four_heads_is_refused():
    with pytest.raises(ValueError, match="map_width=30 must be a multiple of 4"):
        tiny("dre_mir", several(), map_width=30)


def test_pairs_can_be_hidden_from_a_saved_model(tmp_path):
    documents = several()
    model = tiny("dre_mir", documents)
    model.save(tmp_path)
    hidden = DocRE.load(tmp_path, test_mask_rate="0.5")
    batch = model.batch(documents)
    torch.testing.assert_close(DocRE.load(tmp_path)(batch).logits, model(batch).logits)
    assert "hidden" in hidden(batch).trace
    with pytest.raises(ValueError, match="dre_mir has no setting 'test_rate'; have map_width"):
        DocRE.load(tmp_path, test_rate=0.5)
    with pytest.raises(ValueError, match="map_width cannot be changed after training"):
        DocRE.load(tmp_path, map_width=16)
    with pytest.raises(ValueError, match="test_mask_rate needs mask_rate above 0"):
        tiny("dre_mir", documents, variant="no_mir", test_mask_rate=0.5)
