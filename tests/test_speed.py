"""What is counted and timed, against figures by hand; and the command, on the smallest model."""

from __future__ import annotations

import json
import os
from functools import partial
from unittest.mock import patch

import pytest
import torch
from small import made, tiny
from test_encoder import pretrained, tokenizer_of
from torch.nn import functional as F

from docre_lite import encoder as network
from docre_lite.bench import meter, speed, works
from docre_lite.cli.main import main
from docre_lite.formats.readers import write_docred
from docre_lite.model import DocRE, classifier
from docre_lite.ops import group_bilinear

DOCUMENTS = works.made(4)


def test_made_documents():
    long = works.document(20, 400)
    assert len(long.entities) == 20 and sum(len(e.mentions) for e in long.entities) == 26
    assert long.words == 400 - 2 - 3 * 26
    places = [m for e in long.entities for m in e.mentions]
    assert all(long.sentences[m.sentence][m.start : m.end] == (m.name,) for m in places)
    assert {m.sentence for m in places} == set(range(len(long.sentences)))  # all over the document
    with pytest.raises(ValueError, match="26 mentions need 106 tokens, not 105"):
        works.document(20, 105)
    assert len({t.relation for d in DOCUMENTS for t in d.triples}) == works.RELATIONS


def test_work_by_hand():
    left, right, into = torch.ones(3, 4), torch.ones(4, 5), torch.zeros(3, 5)
    product = {"flops": 2 * 3 * 4 * 5, "bytes": 4 * (12 + 20 + 15)}
    assert meter.work(lambda: left @ right) == product
    assert meter.work(lambda: left @ right.T.contiguous().T)["flops"] == product["flops"]
    # the in-place form reads what it adds to
    assert meter.work(lambda: into.addmm_(left, right)) == {"flops": 120, "bytes": product["bytes"] + 4 * 15}
    assert meter.work(lambda: into.view(15).unsqueeze(0)) == {"flops": 0, "bytes": 0}
    assert meter.work(lambda: left + left) == {"flops": 0, "bytes": 3 * 48}


def test_work_of_a_step_counts_its_way_back():
    weight = torch.ones(4, 5, requires_grad=True)
    forward = meter.work(lambda: torch.ones(3, 4) @ weight)["flops"]
    assert meter.work(lambda: (torch.ones(3, 4) @ weight).sum().backward())["flops"] == 2 * forward  # no input gradient


def test_the_rebuilt_bilinear_form_does_the_work_of_the_kept_one_and_its_outer_products_twice():
    pairs, groups, block, relations = 16, 2, 3, 5  # whole vectors of pairs: none is made up
    head, tail = (torch.randn(pairs, groups, block, requires_grad=True) for _ in range(2))
    weight = torch.randn(groups, block * block, relations, requires_grad=True)
    once = 2 * pairs * groups * block * block * relations
    assert meter.work(lambda: group_bilinear(head, tail, weight))["flops"] == once
    back = meter.work(lambda: group_bilinear(head, tail, weight).sum().backward())["flops"]
    assert (
        back == 3 * once + 2 * 2 * pairs * groups * block * block
    )  # and a product of each side with the outer gradient


def test_fused_attention_counts_as_its_two_products():
    query, key, value = torch.randn(3, 2, 4, 30, 8)

    def written_out():
        return (query @ key.transpose(2, 3)).softmax(-1) @ value

    def fused():
        return F.scaled_dot_product_attention(query, key, value)

    assert meter.work(fused)["flops"] == meter.work(written_out)["flops"] == 2 * 2 * 2 * 4 * 30 * 30 * 8


def test_repeats_alternate_and_are_compared_one_by_one(monkeypatch):
    watch, order = meter.Meter(torch.device("cpu"), repeats=3), []
    times = iter([1.0, 3.0, 4.0, 8.0, 2.0, 4.0])  # the machine is slow for the second repeat
    monkeypatch.setattr(meter.Meter, "_once", lambda self, work: work() or next(times))
    found = watch.seconds({"a": partial(order.append, "a"), "b": partial(order.append, "b")})
    assert found == {"a": 2.0, "b": 4.0} and order == ["a", "b"] * 3


def test_works_are_compared_with_the_first_of_their_kind(monkeypatch):
    times = {"train_bare": 2.0, "train_whole": 3.0, "predict_bare": 0.5, "predict_whole": 0.75, "train_gathered": 8.0}
    asked = []
    monkeypatch.setattr(meter.Meter, "seconds", lambda _, works: asked.append([*works]) or {k: times[k] for k in works})
    model, batches = speed.Setting("tiny", batch_size=1, batches=2).load("atlop")
    found = meter.Meter(torch.device("cpu")).on(model, batches, **dict.fromkeys(times, works.train_bare))
    assert found == {name: 2 * seconds for name, seconds in times.items()}
    assert asked == 2 * [["predict_bare", "predict_whole"], ["train_bare", "train_whole", "train_gathered"]]


def test_a_slow_measurement_is_repeated_once_only(monkeypatch):
    monkeypatch.setattr(meter, "PATIENCE", -1.0)
    calls = []
    meter.Meter(torch.device("cpu"), repeats=9).seconds({"a": lambda: calls.append(1)})
    assert len(calls) == 2


def test_bf16_is_what_the_work_sees():
    def seen() -> None:
        kinds.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)

    kinds: list[torch.dtype] = []
    for precision in ("fp32", "bf16"):
        meter.Meter(torch.device("cpu"), precision, 1).seconds({"a": seen})
    assert kinds == [torch.float32, torch.bfloat16]


def test_full_precision_beside_bf16():
    """In a bf16 measurement the two works named so see float32, and give the gradients of a step without autocast."""
    model = tiny("atlop", DOCUMENTS).eval()
    batch, weight, found = model.batch(DOCUMENTS[:2]), model.encoder.embedding.weight, []
    meter.fresh(works.train_whole, model, batch)
    found.append(weight.grad)
    for work in (works.train_fp32, works.train_whole):
        meter.Meter(torch.device("cpu"), "bf16", 1).seconds({"a": partial(meter.fresh, work, model, batch)})
        found.append(weight.grad)
    assert found[0].equal(found[1]) and not found[0].equal(found[2])


@pytest.mark.parametrize("work", [works.train_bare, works.predict_bare, works.predict_whole])
def test_works_leave_the_model_in_training(work):
    model = tiny("atlop", DOCUMENTS).train()
    work(model, model.batch(DOCUMENTS[:2]))
    assert model.training
    assert (model.encoder.embedding.weight.grad is not None) == (work is works.train_bare)
    assert model.classifier.bilinear.bilinear.weight.grad is None  # the bare encoder is bare


def test_the_bare_encoder_is_the_librarys():
    """Its step takes neither our attention nor our dropout, and leaves the model with both."""
    tokenizer, encoder = tokenizer_of(DOCUMENTS), pretrained("bert")
    model = DocRE(tokenizer, encoder, classifier("atlop", tokenizer, encoder, block=4)).train()
    batch, weights, found = model.batch(DOCUMENTS[:2]), model.encoder.model.get_input_embeddings().weight, []
    for step in (works.train_bare, works.train_encoder):
        with patch("docre_lite.encoder.drop", side_effect=network.drop) as ours:
            meter.fresh(step, model, batch)
        found.append(ours.called)
        assert weights.grad.abs().sum() > 0 and encoder.model.config._attn_implementation == "docre_lite"
    assert found == [False, True]


def test_every_step_starts_without_gradients():
    model = tiny("atlop", DOCUMENTS)
    batch, found = model.batch(DOCUMENTS[:2]), []
    for _ in range(2):
        meter.fresh(works.train_bare, model, batch)
        found.append(model.encoder.embedding.weight.grad.clone())
    assert torch.equal(*found)


def test_atlop_as_research_code_shapes_it_gives_the_same_gradients():
    tokenizer, encoder = tokenizer_of(DOCUMENTS), pretrained("bert")
    model = DocRE(tokenizer, encoder, classifier("atlop", tokenizer, encoder, block=4)).double().eval()
    batch = model.batch(DOCUMENTS[:2])
    found = []
    for step in (works.train_whole, works.train_gathered):
        model.zero_grad()
        step(model, batch)
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-8, rtol=1e-6, msg=name)


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed, "ONE_DOCUMENT", ((5, 60), (8, 60)))
    monkeypatch.setattr(speed, "LARGEST", (9, 80))
    monkeypatch.setattr(speed, "peak_gb", lambda *_: 0.5)  # in fresh processes, tested below
    roof = meter.Meter.roof
    monkeypatch.setattr(meter.Meter, "roof", lambda self: roof(self, size=64, megabytes=1))
    on, repeats = meter.Meter.on, []
    monkeypatch.setattr(meter.Meter, "on", lambda self, *a, **k: repeats.append(self.repeats) or on(self, *a, **k))
    write_docred([made(f"document {i}", 3, sentences=2, words=9) for i in range(9)], tmp_path / "data.json")
    call = ["bench", "speed", "--encoder", "tiny", "--data", str(tmp_path / "data.json"), "--paper", "atlop"]
    call += ["--repeats", "1", "--batch-size", "2", "--entities", "5", "--tokens", "128", "--results", str(tmp_path)]
    for _ in range(2):  # the second row is in the place of the first
        assert main(call) == 0
    [row] = json.loads((tmp_path / "speed.json").read_text())
    assert capsys.readouterr().out.count("| atlop | docred | fp32 |") == 2
    assert repeats == 2 * [1, 1, 1, 5, 5, 1, 1]  # single documents are short work, and are measured more often
    seconds = row["seconds"]
    assert row["times_bare"]["train_whole"] == pytest.approx(seconds["train_whole"] / seconds["train_bare"], rel=0.02)
    assert [r["entities"] for r in row["by_entities"]] == [5] and [r["entities"] for r in row["by_tokens"]] == [20]
    assert [r["entities"] for r in row["one_document"]] == [5, 8]
    work = row["work"]
    assert work["train_whole"]["flops"] > work["train_bare"]["flops"] > 2 * work["predict_bare"]["flops"] > 0
    assert row["peak_gb"] == {"train_bare": 0.5, "train_whole": 0.5, "predict_largest": 0.5}
    assert row["roof"]["flops"] > 1e8 and row["roof"]["bytes"] > 1e8


def test_too_few_documents_for_a_batch(tmp_path):
    write_docred(works.made(2)[:2], tmp_path / "few.json")
    with pytest.raises(ValueError, match="few.json: 2 documents fit into a window of 512 tokens, but a batch needs 4"):
        speed.Setting("tiny", str(tmp_path / "few.json")).load("atlop")
    _, batches = speed.Setting("tiny", str(tmp_path / "few.json"), batch_size=2).load("atlop")
    assert [len(b.documents) for b in batches] == [2] * 5


def test_rows_of_other_machines_and_settings_are_kept():
    row = {"paper": "a", "encoder": "e", "data": "d", "device": "cpu", "precision": "fp32", "batch_size": 4}
    row["environment"] = {"machine": "m", "cpu": "one", "gpu": None, "commit": "1"}
    for device, key, value, same in (
        ("cpu", "commit", "2", True),
        ("cpu", "cpu", "two", False),
        ("cpu", "gpu", "beside it", True),
        ("cuda", "gpu", "three", False),
    ):
        on = {**row, "device": device}
        assert speed.same(on, {**on, "environment": {**row["environment"], key: value}}) == same
    assert not speed.same(row, {**row, "precision": "bf16"}) and not speed.same(row, {**row, "batch_size": 2})


def test_the_peak_is_that_of_a_fresh_process(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", str(1 << 30))  # would show as another 1 GB
    kept = torch.ones(1 << 28)  # 1 GB here, and not there
    peak = speed.peak_gb("atlop", speed.Setting("tiny", batch_size=1, batches=1), "train_bare")
    assert 0.1 < peak < kept.nbytes / 1e9
    assert os.environ["MALLOC_TOP_PAD_"] == str(1 << 30)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(capsys):
    assert main(["bench", "speed", "--encoder", "tiny", "--device", "cuda"]) == 2
    assert "this machine has no GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tokens", "128", "50"], "20 entities with 26 mentions need 106 tokens, not 50"),
        (["--entities", "900"], "900 entities with 1200 mentions need 4802 tokens, not 1200"),
        (["--paper", "atlop", "--paper", "nope"], "nope"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is(given, said, monkeypatch, capsys):
    monkeypatch.setattr(speed, "measure", lambda *_, **__: pytest.fail("measured"))
    assert main(["bench", "speed", "--encoder", "tiny", *given]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
