"""DocRE-II against its equations: lines of the matrix one by one, noise that is counted, rounds, two stages."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small import made, several, sgd_steps, tiny, wider
from torch.nn import functional as F

from docre_lite.evaluate import score
from docre_lite.layers import PairVector, pair_cells
from docre_lite.model import DocRE
from docre_lite.papers.docre_ii import (
    LINES,
    DocREII,
    ExtendedCrossAttention,
    FullAttention,
    RefinementLayer,
    disturb,
    simclr,
    simsiam,
    spread,
)
from docre_lite.predict import predict
from docre_lite.support.schedule import warmup_linear
from docre_lite.train import TrainConfig, fit, fit_frozen, last_checkpoint
from docre_lite.types import PairFeatures

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def exactly(fast, slow, tolerance=1e-10):
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)


def square(sizes: tuple[int, ...], n: int) -> torch.Tensor:
    return pair_cells(torch.arange(n) < torch.tensor(sizes)[:, None])


def lines(s: int, o: int, n: int) -> list[list[tuple[int, int]]]:
    """The cells of row s, column o, column s and row o, without the diagonal and without (s, o)."""
    found = [[(s, k) for k in range(n)], [(k, o) for k in range(n)], [(k, s) for k in range(n)]]
    found.append([(o, k) for k in range(n)])
    return [[(a, b) for a, b in line if a != b and (a, b) != (s, o)] for line in found]


def naive_attention(look: ExtendedCrossAttention, queries: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """ECA from its definition, cell by cell: each head's keys are one line's cells, and the cell itself."""
    n, width = queries.shape[0], look.width
    q, k, v = (
        part(x).unflatten(-1, (4, width))
        for part, x in zip((look.query, look.key, look.value), (queries, memory, memory), strict=True)
    )
    rows = []
    for s in range(n):
        for o in range(n):
            heads = []
            for h, line in enumerate(lines(s, o, n)):
                line = [*line, (s, o)] if s != o else [(s, o)]
                scores = torch.stack([k[c][h] @ q[s, o, h] for c in line]) / math.sqrt(width)
                bonus = torch.zeros(len(line), dtype=scores.dtype)
                bonus[-1] = look.self_bonus
                heads.append((scores + bonus).softmax(0) @ torch.stack([v[c][h] for c in line]))
            rows.append(look.out(torch.cat(heads)))
    return torch.stack(rows).view_as(queries)


@pytest.mark.parametrize("bonus", [0.0, 1.0])
def test_axial_attention_against_the_definition(bonus):
    torch.manual_seed(0)
    look, sizes = ExtendedCrossAttention(16, 24, bonus).double(), (5, 3)
    queries = torch.randn(2, 6, 6, 16, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(2, 6, 6, 24, dtype=torch.float64, requires_grad=True)
    cells = square(sizes, 6)
    fast, _ = look(queries, memory, cells)
    slow = torch.zeros_like(fast)
    for b, n in enumerate(sizes):
        slow[b, :n, :n] = naive_attention(look, queries[b, :n, :n], memory[b, :n, :n])
    exactly(fast[cells], slow[cells])
    weight, inputs = torch.randn_like(fast) * cells.unsqueeze(-1), (queries, memory, *look.parameters())
    for one, two in zip(
        torch.autograd.grad((fast * weight).sum(), inputs),
        torch.autograd.grad((slow * weight).sum(), inputs),
        strict=True,
    ):
        exactly(one, two)


def test_kept_weights_name_the_entity_that_was_looked_at():
    torch.manual_seed(0)
    look, n = ExtendedCrossAttention(16, 16).double(), 5
    queries = torch.randn(1, n, n, 16, dtype=torch.float64)
    cells = square((n,), n)
    _, weights = look(queries, queries, cells, keep_weights=True)
    assert weights.shape == (1, len(LINES), n, n, n + 1)
    q, k = (part(queries).unflatten(-1, (4, 4)) for part in (look.query, look.key))
    for s, o in cells[0].nonzero().tolist():
        exactly(weights[0, :, s, o].sum(-1), torch.ones(4, dtype=torch.float64))
        for h, line in enumerate(lines(s, o, n)):
            keys = {(a, b): k[0, a, b, h] @ q[0, s, o, h] / 2 for a, b in line} | {
                (s, o): k[0, s, o, h] @ q[0, s, o, h] / 2
            }
            total = torch.stack(list(keys.values())).logsumexp(0)
            seen = {}
            for (a, b), value in keys.items():
                entity = n if (a, b) == (s, o) else (b if h in (0, 3) else a)
                seen[entity] = (value - total).exp()
            for entity in range(n + 1):
                expected = seen.get(entity, torch.zeros((), dtype=torch.float64))
                exactly(weights[0, h, s, o, entity], expected)


def test_one_inference_layer_against_the_equations():
    torch.manual_seed(0)
    options = DocREII.Options(map_width=8, inference_dropout=0.0)
    features, relations = (torch.randn(1, 4, 4, 8, dtype=torch.float64) for _ in range(2))
    cells = square((4,), 4)
    for fusion in (True, False):
        layer = RefinementLayer(8, replace(options, fusion=fusion)).double()
        memory = torch.cat([features, relations], -1)
        one, two = layer.attend[0](features, memory, cells)[0], layer.attend[1](relations, memory, cells)[0]
        if fusion:
            gate = torch.sigmoid(layer.gate(torch.cat([one, two], -1)))
            one = two = gate * one + (1 - gate) * two
        new_features, new_relations, _ = layer(features, relations, cells)
        exactly(new_features, layer.norm[0](features + layer.feed[0](one)))
        exactly(new_relations, layer.norm[1](relations + layer.feed[1](two)))


def test_full_attention_sees_every_cell_and_no_padding():
    torch.manual_seed(0)
    look = FullAttention(8, 12).double()
    queries, memory = torch.randn(1, 4, 4, 8).double(), torch.randn(1, 4, 4, 12).double()
    cells = square((3,), 4)
    found, _ = look(queries, memory, cells)
    heads = []
    for h in range(4):
        q, k, v = (
            part(x).unflatten(-1, (4, 2))[0, :, :, h]
            for part, x in ((look.query, queries), (look.key, memory), (look.value, memory))
        )
        scores = torch.einsum("abd,xyd->abxy", q, k).masked_fill(~cells[0], -torch.inf).flatten(2) / math.sqrt(2)
        heads.append(scores.softmax(-1) @ v.flatten(0, 1))
    exactly(found[0], look.out(torch.cat(heads, -1)))


def features_of(context):
    """Features of three entities with this context, and tokens that play no part."""
    document, tokens = made("any", 3, sentences=3), torch.randn(1, 7, context.shape[-1]).double()
    batch, mask = tiny("atlop", [document]).batch([document]), torch.ones(1, 3, 3, dtype=torch.bool)
    return PairFeatures(tokens[:, 0], tokens[:, :3], None, tokens, mask, batch, pooled=context)


def test_pair_vector_against_the_equation():
    torch.manual_seed(0)
    module = PairVector(6, 5, 4).double()
    entities, context = torch.randn(1, 3, 6).double(), torch.randn(1, 3, 3, 5).double()
    found = module(entities, features_of(context))
    (head, tail), (in_head, in_tail) = module.entity.weight.chunk(2), module.context.weight.chunk(2)
    bias_head, bias_tail = module.entity.bias.chunk(2)
    for s in range(3):
        for o in range(3):
            u_s = torch.tanh(head @ entities[0, s] + in_head @ context[0, s, o] + bias_head)
            u_o = torch.tanh(tail @ entities[0, o] + in_tail @ context[0, s, o] + bias_tail)
            exactly(found[0, s, o], module.cell(torch.cat([u_s, u_o])))


# Answers that are read again


def test_relation_matrix_is_a_sum_of_embeddings():
    model = tiny("docre_ii", several())
    classifier, relations = model.classifier, len(model.relations)
    chosen = torch.zeros(1, 2, 2, relations, dtype=torch.bool)
    chosen[0, 0, 1, [1, 3]] = True
    found = classifier.relation_matrix(chosen)
    exactly(found[0, 0, 1], classifier.labels.weight[1] + classifier.labels.weight[3], 1e-6)
    exactly(found[0, 1, 0], classifier.labels.weight[0], 1e-6)


def test_what_is_read_again_and_what_arg_max_loses():
    documents = several()
    logits = torch.zeros(1, 2, 2, 4)
    logits[0, 0, 1] = torch.tensor([0.0, 2.0, -1.0, 1.0])
    logits[0, 1, 0] = torch.tensor([3.0, 2.0, -1.0, 1.0])
    mask = ~torch.eye(2, dtype=torch.bool).unsqueeze(0)
    both = tiny("docre_ii", documents).classifier.read(logits, mask)
    assert both[0, 0, 1].tolist() == [False, True, False, True] and not both[0, 1].any()
    best = tiny("docre_ii", documents, variant="best_only").classifier.read(logits, mask)
    assert best[0, 0, 1].tolist() == [False, True, False, False] and not best[0, 1].any()
    assert not tiny("docre_ii", documents).classifier.read(logits, mask & False).any()


def test_rounds_are_kept_and_each_reads_the_one_before():
    documents = several()
    model = tiny("docre_ii", documents)
    sgd_steps(model, batch := model.batch(documents), 30)
    with torch.no_grad():
        pairs = model.features(batch)
        prediction = model.classifier(pairs)
        rounds = prediction.trace["rounds"]
        assert rounds.shape[1] == 4  # the base and three rounds
        exactly(rounds[:, 0], prediction.trace["base_logits"], 0)
        exactly(rounds[:, -1], prediction.logits, 0)
        classifier, cells = model.classifier, pair_cells(batch.entity_mask)
        for k in range(3):
            chosen, _ = classifier.objective.decide(rounds[:, k])
            relations = classifier.relation_matrix(chosen & batch.mask.unsqueeze(-1))
            again = classifier.classify(classifier.refine(classifier.base(pairs, cells), relations, cells, {}))
            exactly(rounds[:, k + 1][batch.mask], again[batch.mask], 1e-5)
        for k in range(3):  # fewer rounds are the same rounds
            classifier.options = replace(classifier.options, rounds=k)
            exactly(classifier(pairs).logits, rounds[:, k], 0)


def test_a_document_whose_answers_stand_is_not_refined_again():
    """Answers to one document move in every round, those to the others never: it alone is read three times."""
    documents = several()
    model = tiny("docre_ii", documents)
    classifier, refine, seen = model.classifier, model.classifier.refine, []
    classifier.refine = lambda features, *rest: seen.append(len(features)) or refine(features, *rest)
    with torch.no_grad():
        pairs = model.features(model.batch(documents))
        answers = torch.zeros(4, *classifier(pairs).logits.shape, dtype=torch.bool)
        answers[:, :, 0, 1, 2] = True
        answers[1, 1, 0, 1, 3] = True  # in the second round only
        script = iter([*answers[:3], *answers[:3]])
        classifier.read = lambda logits, mask: next(script)
        seen.clear()
        rounds = classifier(pairs).trace["rounds"]
        assert len(documents) > 2 and seen == [len(documents), 1, 1]
        exactly(rounds[0, 1], rounds[0, 3], 0)
        assert (rounds[1, 1] - rounds[1, 2]).abs().max() > 1e-6
        classifier.keep_attention = True  # whoever reads attention is shown every round
        seen.clear()
        again = classifier(pairs).trace["rounds"]
        assert seen == [len(documents)] * 3
        exactly(again, rounds, 1e-5)


def test_sums_are_read_again_and_move_while_answers_stand():
    """No answer at first. Each round that reads none adds 0.4 to r's logit of -1; a round that reads r adds 5."""
    document = made("sum", 2, sentences=2, words=9)
    model = tiny("docre_ii", [document, *several()], accumulate=True, rounds=5).double()
    classifier, refined = model.classifier, []
    classifier.refine = lambda features, relations, *rest: refined.append(len(features)) or relations
    with torch.no_grad():
        for layer in (classifier.labels, classifier.classify, classifier.base.classify):
            layer.weight.zero_()
        classifier.base.classify.bias.copy_(torch.tensor([0.0] + [-1.0] * (len(model.relations) - 1)))
        classifier.classify.bias.zero_()
        classifier.labels.weight[0, 0] = classifier.labels.weight[1, 1] = 1
        classifier.classify.weight[1, 0], classifier.classify.weight[1, 1] = 0.4, 5
        pairs = model.features(model.batch([document]))
        found = classifier(pairs)
        sums = torch.tensor([-1, -0.6, -0.2, 0.2, 5.2, 10.2], dtype=torch.float64)
        exactly(found.trace["rounds"][0, :, 0, 1, 1], sums)
        assert refined == [1, 1], "the answers stand in rounds 2, 3 and 5: nothing is computed again"
        exactly(found.logits, found.trace["rounds"][:, -1], 0)
        classifier.options = replace(classifier.options, accumulate=False)  # each round's own: r is claimed at once
        exactly(
            classifier(pairs).trace["rounds"][0, :, 0, 1, 1], torch.tensor([-1, 0.4, 5, 5, 5, 5], dtype=torch.float64)
        )


@pytest.mark.parametrize("variant", [None, "released_code"])
def test_what_stands_is_what_would_be_computed(variant):
    """Whoever keeps attention has every round computed for every document."""
    documents = several()
    model = tiny("docre_ii", documents, variant=variant, accumulate=True, rounds=6).double()
    classifier, refine, seen = model.classifier, model.classifier.refine, []
    sgd_steps(model, batch := model.batch(documents), 10)
    classifier.refine = lambda features, *rest: seen.append(len(features)) or refine(features, *rest)
    with torch.no_grad():
        pairs = model.features(batch)
        short = classifier(pairs).trace["rounds"]
        some, classifier.keep_attention = sum(seen), True
        exactly(classifier(pairs).trace["rounds"], short)
    assert some < sum(seen) - some == 6 * len(documents)


def test_prediction_moves_with_the_answers_of_other_pairs():
    """The base's answer to one pair is changed: pairs on its lines move in the first round, those off them do not."""
    document = made("lines", 5, sentences=4)
    model = tiny("docre_ii", [document], inference_layers=1, rounds=1).double()
    pairs = model.features(model.batch([document]))
    classifier, cells = model.classifier, pair_cells(pairs.batch.entity_mask)
    features = classifier.base(pairs, cells)
    chosen = torch.zeros(1, 5, 5, len(model.relations), dtype=torch.bool)
    before = classifier.refine(features, classifier.relation_matrix(chosen), cells, {})
    chosen[0, 1, 3, 1] = True
    change = (classifier.refine(features, classifier.relation_matrix(chosen), cells, {}) - before).abs().amax(-1)[0]
    for s, o in cells[0].nonzero().tolist():
        assert bool(change[s, o] > 1e-9) == bool({s, o} & {1, 3}), (s, o)


# Noise


def answers_and_gold(n: int = 12, relations: int = 6):
    torch.manual_seed(3)
    mask = square((n, n - 4), n)
    gold = (torch.rand(2, n, n, relations) < 0.05) & mask.unsqueeze(-1)
    answers = (gold & (torch.rand(gold.shape) < 0.8)) | (torch.rand(gold.shape) < 0.02) & mask.unsqueeze(-1)
    gold[..., 0] = mask & ~gold[..., 1:].any(-1)
    answers[..., 0] = False
    return answers, gold, mask


def test_noise_makes_answers_wrong_and_invents_as_many():
    answers, gold, mask = answers_and_gold()
    given, kept = answers.clone(), gold.clone()
    shares = []
    for seed in range(200):
        torch.manual_seed(seed)
        noisy = disturb(answers, gold, mask, 0.4)
        related = answers.any(-1)
        for b in range(2):
            hit = related[b] & (noisy[b] != answers[b]).any(-1)
            invented = ~related[b] & noisy[b].any(-1)
            assert hit.sum() == invented.sum()
            shares.append(float(hit.sum() / related[b].sum()))
            changed = hit | invented
            assert (noisy[b][changed].sum(-1) <= 1).all() and not (
                noisy[b][changed] & (answers | gold)[b][changed]
            ).any()
            assert invented.sum() == 0 or noisy[b][invented].any(-1).all()
        assert not noisy[~mask].any() and not noisy[..., 0].any()
    assert torch.equal(answers, given) and torch.equal(gold, kept)
    assert max(shares) < 0.75 and 0.14 < sum(shares) / len(shares) < 0.26  # the mean of U(0, 0.4) is 0.2


def test_half_of_what_is_hit_is_left_without_a_relation():
    answers, gold, mask = answers_and_gold()
    empty = hits = 0
    for seed in range(200):
        torch.manual_seed(seed)
        noisy = disturb(answers, gold, mask, 0.4)
        hit = answers.any(-1) & (noisy != answers).any(-1)
        hits, empty = hits + int(hit.sum()), empty + int((hit & ~noisy.any(-1)).sum())
    assert 0.45 < empty / hits < 0.55


def test_no_noise_without_a_rate_and_none_where_no_wrong_relation_is_left():
    answers, gold, mask = answers_and_gold()
    assert torch.equal(disturb(answers, gold, mask, 0.0), answers)
    one = torch.zeros(1, 4, 4, 2, dtype=torch.bool)  # a single relation, as in CDR
    one[0, 0, 1, 1] = True
    for seed in range(20):
        torch.manual_seed(seed)
        noisy = disturb(one, one, square((4,), 4), 0.999)
        assert not noisy[0, 0, 1].any() or torch.equal(noisy[0, 0, 1], one[0, 0, 1])


def test_noise_may_start_from_gold():
    documents = several()
    model = tiny("docre_ii", documents, noise=0.0, noise_from="gold", contrast="off").train()
    pairs = model.features(batch := model.batch(documents))
    seen = []
    matrix = model.classifier.relation_matrix
    model.classifier.relation_matrix = lambda chosen: seen.append(chosen) or matrix(chosen)
    model.classifier(pairs, batch.labels)
    assert torch.equal(seen[0][..., 1:], batch.labels[..., 1:]) and not seen[0][..., 0].any()


# Contrast


def test_simsiam_by_hand():
    one, two = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [2.0, 0.0]])
    # predicted from two for one: cosines 1 and 0; predicted from one for two: cosines 1 and 0
    assert float(simsiam(one, two, one, two)) == pytest.approx(1.0)
    assert float(simsiam(one, one, one, one)) == pytest.approx(0.0)
    assert float(simsiam(one, two, -two, -one)) == pytest.approx(4.0)
    one.requires_grad_()
    simsiam(one, two, two.clone().requires_grad_(), two).backward()
    assert one.grad is None  # a target is no way back


def test_simclr_against_the_definition():
    torch.manual_seed(0)
    one, two = torch.randn(2, 3, 3, 4), torch.randn(2, 3, 3, 4)
    mask = square((3, 2), 3)
    total, count = 0.0, 0
    for b in range(2):
        cells = mask[b].nonzero().tolist()
        for x, y in ((one, two), (two, one)):
            for s, o in cells:
                alike = [float(F.cosine_similarity(x[b, s, o], y[b, i, j], 0)) / 0.5 for i, j in cells]
                total += math.log(sum(map(math.exp, alike))) - alike[cells.index([s, o])]
                count += 1
    assert float(simclr(one, two, mask)) == pytest.approx(total / count, rel=1e-5)
    assert float(simclr(one, two, mask & False)) == 0


@pytest.mark.parametrize("contrast", ["simsiam", "simclr"])
def test_contrast_knows_no_padding(contrast):
    """The predictor normalises over a batch: of its pairs, not of the cells that a larger document adds."""
    documents = several()
    model = tiny("docre_ii", documents, noise=0.0, inference_dropout=0.0, contrast=contrast).double().train()
    batch = model.batch(documents)
    narrow, wide = model(batch).losses["contrast"], model(wider(batch)).losses["contrast"]
    assert narrow.detach() != 0
    exactly(narrow, wide)


def test_spread_tells_a_collapse():
    torch.manual_seed(0)
    assert float(spread(torch.randn(4000, 64))) == pytest.approx(1.0, abs=0.02)
    assert float(spread(torch.randn(1, 64).expand(50, 64))) == pytest.approx(0.0, abs=1e-3)


def test_training_sees_two_views_and_the_second_is_swapped():
    documents = several()
    model = tiny("docre_ii", documents, noise=0.0, inference_dropout=0.0).train()
    batch = model.batch(documents)
    calls = []
    model.classifier.refine = lambda f, r, *rest: (
        calls.append((f, r)) or type(model.classifier).refine(model.classifier, f, r, *rest)
    )
    prediction = model(batch)
    assert prediction.losses.keys() == {"relation", "base", "contrast"}
    assert 0 <= float(prediction.trace["spread"]) < 2
    [(first, second)] = calls
    (features, answers), (labels, swapped) = first.chunk(2), second.chunk(2)
    assert torch.equal(features, swapped) and torch.equal(answers, labels)
    # what is scored is the view with features first
    exactly(prediction.logits, model.classifier.classify(prediction.trace["view"]), 0)


def test_both_views_have_noise_of_their_own():
    documents = [made("noisy", 9, sentences=9)]
    model = tiny("docre_ii", documents, noise=0.9, noise_from="gold").train()
    seen = []
    matrix = model.classifier.relation_matrix
    model.classifier.relation_matrix = lambda chosen: seen.append(chosen) or matrix(chosen)
    inputs = []
    refine = model.classifier.refine
    model.classifier.refine = lambda f, r, *rest: inputs.append((f, r)) or refine(f, r, *rest)
    model(model.batch(documents))
    one, two = (matrix(chosen) for chosen in seen)
    assert not torch.equal(seen[0], seen[1])
    [(first, second)] = inputs
    assert torch.equal(first.chunk(2)[1], two) and torch.equal(second.chunk(2)[0], one)


def test_the_base_goes_on_learning_its_own_loss():
    documents = several()
    model = tiny("docre_ii", documents).train()
    batch = model.batch(documents)
    prediction = model(batch)
    base = model.classifier.objective.loss(prediction.trace["base_logits"][batch.mask], batch.labels[batch.mask])
    exactly(prediction.losses["base"], base, 0)
    assert float(base.detach()) > 0


def test_weight_halves_are_those_of_both_factors_together():
    classifier = tiny("docre_ii", several()).classifier
    width = classifier.options.map_width
    whole = (classifier.classify.weight @ classifier.meet.weight).abs()
    features, relations = classifier.halves()
    assert features == pytest.approx(whole[:, :width].mean().item(), rel=1e-6)
    assert relations == pytest.approx(whole[:, width:].mean().item(), rel=1e-6)


def test_losses_of_the_variants():
    documents = several()

    def losses(**settings):
        model = tiny("docre_ii", documents, **settings).train()
        return set(model(model.batch(documents)).losses)

    assert losses(variant="no_contrast") == {"relation", "base"}
    assert losses(variant="negative_pairs") == {"relation", "base", "contrast"}
    assert losses(variant="base") == {"relation"}


# Two stages

TRAIN = [made(f"train {i}", 3, sentences=2, words=9) for i in range(4)]
CONFIG = TrainConfig(epochs=3, batch_size=2, encoder_lr=1e-3, classifier_lr=3e-3, warmup=0.5, seed=5, precision="fp32")


def test_the_first_stage_trains_the_base_alone():
    model = tiny("docre_ii", TRAIN, dropout=0.1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    stages = []
    for step in fit(model, TRAIN, TRAIN[:1], CONFIG):  # 0.667 of 3 epochs of two steps
        moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
        outside = {k for k in moved if k.startswith("classifier.") and not k.startswith("classifier.base.")}
        stages.append((int(model.classifier.stage), set(step.losses), bool(outside - {"classifier.stage"})))
    base, whole = (1, {"relation"}, False), (2, {"relation", "base", "contrast"}, True)
    assert stages == [base] * 4 + [whole] * 2


def test_learning_rates_of_both_stages(monkeypatch):
    model = tiny("docre_ii", TRAIN, base_lr=1e-4)
    seen = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self, *a: seen.append({g["part"]: g["lr"] for g in self.param_groups}) or step(self, *a),
    )
    list(fit(model, TRAIN, (), CONFIG))
    for k, rates in enumerate(seen):
        share = warmup_linear(k + 1, 4, 0.5) if k < 4 else warmup_linear(k - 3, 2, 0.5)
        small = 1e-4 if k >= 4 else None
        assert rates["encoder."] == pytest.approx(share * (small or 1e-3))
        assert rates["classifier.base."] == pytest.approx(share * (small or 3e-3))
        assert rates["classifier.matrix."] == rates[""] == pytest.approx(share * 3e-3)


def test_a_frozen_base_stays_as_it_is():
    model = tiny("docre_ii", TRAIN, variant="freeze_base")
    for step in fit(model, TRAIN, (), CONFIG):
        if step.step == 4:
            before = {key: value.clone() for key, value in model.state_dict().items()}
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith(("encoder.", "classifier.base.")), key


@pytest.mark.parametrize("stop", [3, 4, 5])  # 4 is where the second stage begins
def test_both_stages_stop_and_resume_as_one_run(tmp_path, stop):
    def run(out, resume=False, stop=None):
        model = tiny("docre_ii", TRAIN, dropout=0.1)
        steps = fit(model, TRAIN, TRAIN[:1], CONFIG, out, resume)
        for step in steps:
            if step.step == stop:
                steps.close()

    run(tmp_path / "whole")
    run(tmp_path / "parts", stop=stop)
    run(tmp_path / "parts", resume=True)
    runs = tmp_path / "whole", tmp_path / "parts"
    pairs = {part: [last_checkpoint(out) / f"{part}.safetensors" for out in runs] for part in ("model", "training")}
    for part, files in (pairs | {"best": [out / "model" / "model.safetensors" for out in runs]}).items():
        one, two = map(load_file, files)
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one), part
    rows = [json.loads((tmp_path / which / "metrics.json").read_text())["history"] for which in ("whole", "parts")]
    assert [row["stage"] for row in rows[0]] == [1, 1, 2]
    assert [row["dev"] for row in rows[0]] == [row["dev"] for row in rows[1]]


def test_the_second_stage_has_an_optimiser_of_its_own(tmp_path):
    list(fit(tiny("docre_ii", TRAIN), TRAIN, (), CONFIG, tmp_path))
    saved = load_file(last_checkpoint(tmp_path) / "training.safetensors")
    steps = {key: float(value) for key, value in saved.items() if key.startswith("optimizer.step.")}
    assert set(steps.values()) == {2.0} and any("encoder." in key for key in steps)  # 4 before it are forgotten


def test_a_run_that_stopped_in_the_first_stage_predicts_with_the_base(tmp_path):
    model = tiny("docre_ii", TRAIN)
    steps = fit(model, TRAIN, TRAIN[:1], CONFIG, tmp_path)
    for step in steps:
        if step.step == 2:
            steps.close()
    saved = DocRE.load(tmp_path / "model")
    assert int(saved.classifier.stage) == 1 and "rounds" not in saved(saved.batch(TRAIN)).trace


def test_the_kept_model_is_one_of_the_second_stage(tmp_path, monkeypatch):
    """The base scores best of all, and still a whole model is kept."""
    figures = iter([0.9, 0.8, 0.1])
    monkeypatch.setattr("docre_lite.train.score", lambda *a: replace(score(*a), f1=next(figures)))
    list(fit(tiny("docre_ii", TRAIN), TRAIN, TRAIN[:1], CONFIG, tmp_path))
    assert int(DocRE.load(tmp_path / "model").classifier.stage) == 2


def test_stages_on_frozen_features():
    model = tiny("docre_ii", TRAIN)
    encoder = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    found = [set(step.losses) for step in fit_frozen(model, TRAIN, CONFIG)]
    assert found == [{"relation"}] * 4 + [{"relation", "base", "contrast"}] * 2
    assert all(torch.equal(value, encoder[key]) for key, value in model.encoder.state_dict().items())


def test_one_stage_trains_all_from_the_start():
    model = tiny("docre_ii", TRAIN, variant="one_stage")
    steps = list(fit(model, TRAIN, (), CONFIG))
    assert all("contrast" in step.losses and step.figures["spread"] > 0 for step in steps)


@pytest.mark.parametrize("train", [lambda *given: fit(given[0], given[1], (), given[2]), fit_frozen])
def test_a_base_trained_before_goes_on_as_a_whole(train):
    """Too few epochs for two stages are all of the second, whatever stage the model was left in."""
    model = tiny("docre_ii", TRAIN)
    model.classifier.stage.fill_(1)
    assert all("contrast" in step.losses for step in train(model, TRAIN, replace(CONFIG, epochs=1)))
    assert model.classifier.stage == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"map_width": 30}, "map_width=30 must be a multiple of 4"),
        ({"noise": 1.0}, "noise is a number below 1"),
        ({"base_share": 1.5}, "base_share is a number below 1"),
        ({"rounds": -1}, "rounds is a number from 0"),
        ({"inference_layers": 0}, "inference_layers is a number from 1"),
        ({"context": "off"}, "needs localized context"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny("docre_ii", several(), **settings)


def test_a_pair_alone_has_no_variance_and_no_crash():
    document = made("pair", 2, sentences=2, words=9)
    document = replace(document, candidates=frozenset({(0, 1)}), triples=document.triples[:0])
    model = tiny("docre_ii", [document]).train()
    prediction = model(model.batch([document]))
    assert math.isfinite(float(prediction.loss.detach()))
    prediction.loss.backward()
    assert predict(model.eval(), [document]) is not None
