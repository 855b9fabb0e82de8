"""Training: stopped and resumed bit for bit, the same for the same seed, and what odd documents do to it."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import made, tiny, written
from torch.optim.optimizer import register_optimizer_step_pre_hook

from docre_lite.evaluate import score, seen_facts
from docre_lite.formats.readers import write_docred
from docre_lite.model import DocRE, _papers, build
from docre_lite.predict import predict, sentence_shares
from docre_lite.support import DataError
from docre_lite.support.schedule import parameter_groups, warmup_linear
from docre_lite.support.store import write_over
from docre_lite.train import TrainConfig, fit, fit_frozen, last_checkpoint
from docre_lite.types import Document, Triple, fingerprint

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

TRAIN = [made(f"train {i}", 3, sentences=2, words=9) for i in range(7)]
DEV = [made(f"dev {i}", 3, sentences=2, words=9) for i in range(2)]
CONFIG = TrainConfig(epochs=2, batch_size=2, encoder_lr=1e-3, classifier_lr=3e-3, warmup=0.2, seed=5, precision="fp32")
STEPS = 8  # ⌈7 / 2⌉ an epoch


def fresh(seed: int = 0, **settings) -> DocRE:
    """A model with dropout, so that a random state that is not restored shows."""
    torch.manual_seed(seed)
    return build("atlop", TRAIN, **{"layers": 1, "width": 16, "heads": 2, "min_count": 1, "block": 8, **settings})


def train(
    model: DocRE, out=None, stop: int | None = None, resume: bool = False, config=CONFIG, dev=DEV, documents=TRAIN
):
    """Steps of a run, left after step `stop`."""
    found = []
    steps = fit(model, documents, dev, config, out, resume)
    for step in steps:
        found.append(step)
        if step.step == stop:
            steps.close()
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def history(out: Path) -> list[dict]:
    """The epochs of metrics.json without what differs from run to run."""
    rows = json.loads((out / "metrics.json").read_text())["history"]
    return [{k: v for k, v in row.items() if k not in ("seconds", "peak_memory_gb")} for row in rows]


def same(one: Path, two: Path) -> None:
    """Both runs ended at the same model, the same best model, and the same scores."""
    for part in (last_checkpoint, lambda out: out / "model"):
        a, b = weights(part(one)), weights(part(two))
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), f"{part(one)}: {key}"
    a, b = (load_file(last_checkpoint(run) / "training.safetensors") for run in (one, two))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert history(one) == history(two)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    steps = train(fresh(), out)
    assert [s.step for s in steps] == list(range(1, STEPS + 1))
    return out


# Stopping and resuming


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 7])  # 4 is the end of the first epoch
def test_stopped_and_resumed_ends_where_an_uninterrupted_run_ends(whole, tmp_path, stop):
    out = tmp_path / "run"
    first = train(fresh(), out, stop)
    assert first[-1].step == stop and last_checkpoint(out) == out / "last" / "0"
    torch.manual_seed(1234)
    second = train(fresh(seed=9), out, resume=True)  # other initial weights: all must come from the checkpoint
    assert [s.step for s in first + second] == list(range(1, STEPS + 1))
    same(out, whole)


def test_stopped_twice_and_loaded_as_the_command_line_does(whole, tmp_path):
    out = tmp_path / "run"
    train(fresh(), out, 2)
    train(DocRE.load(last_checkpoint(out)), out, 6, resume=True)
    train(DocRE.load(last_checkpoint(out)), out, resume=True)
    same(out, whole)


def test_a_finished_run_has_nothing_left_to_do(whole, tmp_path):
    out = tmp_path / "run"
    train(fresh(), out)
    model = fresh(seed=9)
    assert train(model, out, resume=True) == []
    same(out, whole)
    assert all(torch.equal(v, weights(last_checkpoint(whole))[k]) for k, v in model.state_dict().items())


def test_leftovers_of_a_kill(whole, tmp_path):
    """Killed while a slot or `model.new` was written, or between the renames that swap the best model in."""
    out = tmp_path / "run"
    train(fresh(), out, 3)
    (out / "last" / "1").mkdir()
    (out / "last" / "1" / "model.json").write_text("half a fi")
    (out / "model.new").mkdir()
    train(fresh(), out, 5, resume=True)
    assert last_checkpoint(out) == out / "last" / "1" and (out / "model").is_dir()
    (out / "model").rename(out / "model.old")
    write_over(out / "last" / "1" / "checksums.json", b'{"step": 5, "fi')
    assert last_checkpoint(out) == out / "last" / "0"
    train(DocRE.load(last_checkpoint(out)), out, resume=True)
    same(out, whole)
    assert sorted(p.name for p in out.iterdir()) == ["last", "metrics.json", "model"]


@pytest.mark.parametrize("number", [4, 5])  # the best model, or the checkpoint at the end of the first epoch
def test_killed_while_writing(whole, tmp_path, monkeypatch, number):
    """The checkpoint before stays whole when writing the next one fails half-way."""
    out = tmp_path / "run"
    config = replace(CONFIG, save_minutes=0)
    real, calls = DocRE.write, []

    def write(self, folder, *how):
        real(self, folder, *how)
        calls.append(folder.name)
        if len(calls) == number:
            raise OSError("no space left on device")

    monkeypatch.setattr(DocRE, "write", write)
    with pytest.raises(DataError, match=r"run: cannot be written \(no space.*train --resume .*run` continues"):
        train(fresh(), out, config=config)
    assert not list(out.glob("*.new"))
    assert calls == ["0", "1", "0", "model.new", "1"][:number]
    monkeypatch.setattr(DocRE, "write", real)
    assert json.loads((last_checkpoint(out) / "state.json").read_text())["step"] == 3
    train(fresh(seed=9), out, resume=True, config=config)
    same(out, whole)


def test_save_minutes_change_nothing_but_when(whole, tmp_path):
    out = tmp_path / "run"
    train(fresh(), out, 3, config=replace(CONFIG, save_minutes=0))
    train(fresh(), out, resume=True, config=replace(CONFIG, save_minutes=1e-4))
    same(out, whole)


def test_checkpoints_come_every_so_many_minutes(tmp_path, monkeypatch):
    """By the clock; at the end, whatever it shows; and never by a file that is renamed, replaced or deleted."""
    out, now, saved, places = tmp_path / "run", [0.0], [], []
    monkeypatch.setattr("docre_lite.support.checkpoint.time.monotonic", lambda: now[0])
    for step in fit(fresh(), TRAIN, DEV, replace(CONFIG, save_minutes=3), out):
        now[0] += 60  # a minute a step
        found = last_checkpoint(out)
        saved.append(json.loads((found / "state.json").read_text())["step"] if found else 0)
        places.append({p: p.stat().st_ino for p in (out / "last").rglob("*") if p.is_file()})
        assert step.step == len(saved)
    assert saved == [0, 0, 0, 4, 4, 4, 7, 8]
    for before, after in itertools.pairwise(places):
        assert before.items() <= after.items()
    assert {p.parent.name for p in places[-1]} == {"0", "1"} and len(places[-1]) == 2 * 8


def test_another_run_in_the_same_folder_begins_anew(whole, tmp_path):
    """Its first checkpoint counts, though the run before it got further."""
    out = tmp_path / "run"
    train(fresh(), out, config=replace(CONFIG, save_minutes=0))
    train(fresh(), out, 2)
    assert json.loads((last_checkpoint(out) / "state.json").read_text())["step"] == 2
    train(fresh(), out, resume=True)
    same(out, whole)


def test_a_checkpoint_of_an_earlier_version_is_continued(whole, tmp_path):
    """It lay in last/ itself; the next one is a slot, and counts from then on."""
    out = tmp_path / "run"
    train(fresh(), out, 3)
    (out / "last" / "0").rename(out / "old")
    (out / "last").rmdir()
    (out / "old").rename(out / "last")
    (out / "last" / "checksums.json").unlink()
    assert last_checkpoint(out) == out / "last"
    train(fresh(seed=9), out, 5, resume=True)
    assert last_checkpoint(out) == out / "last" / "0"
    train(fresh(seed=9), out, resume=True)
    same(out, whole)


@pytest.mark.parametrize("file", ["training.safetensors", "state.json", "model.json"])
def test_a_damaged_checkpoint_is_no_checkpoint(whole, tmp_path, file):
    """One slot changed behind our back: the other serves. Both: a line that names the file."""
    out = tmp_path / "run"
    train(fresh(), out, 5, config=replace(CONFIG, save_minutes=0))
    newer = last_checkpoint(out)
    data = bytearray((newer / file).read_bytes())
    data[len(data) // 2] ^= 1
    (newer / file).write_bytes(data)
    older = last_checkpoint(out)
    assert {older.name, newer.name} == {"0", "1"}
    kept = shutil.copytree(out, tmp_path / "kept")
    train(fresh(seed=9), kept, resume=True)
    same(kept, whole)
    (older / file).unlink()
    with pytest.raises(DataError, match=rf"{newer / file}: cut short or damaged \(its checksum .*; copy it again"):
        last_checkpoint(out)


def test_resume_without_a_checkpoint_starts(whole, tmp_path):
    assert last_checkpoint(tmp_path / "run") is None
    train(fresh(), tmp_path / "run", resume=True)
    same(tmp_path / "run", whole)


@pytest.mark.parametrize(("own", "precision", "said"), [(False, "bf16", 1), (False, "fp32", 0), (True, "bf16", 0)])
def test_bf16_that_is_only_emulated_is_told(monkeypatch, recwarn, own, precision, said):
    """Such a run takes several times as long as in fp32, and whoever waits for it should know why."""
    monkeypatch.setattr("docre_lite.support.machine.bf16_in_hardware", lambda device: own)
    train(fresh(), stop=1, config=replace(CONFIG, precision=precision), dev=())
    assert sum("precision=fp32" in str(w.message) for w in recwarn) == said


@pytest.mark.filterwarnings("ignore:precision=fp16")
def test_fp16_scales_the_loss_and_resumes_bit_for_bit(tmp_path):
    """A gradient that overflows moves no weight and halves the scale; the scale is part of the checkpoint."""
    config, scalers = replace(CONFIG, precision="fp16"), []
    train(fresh(), tmp_path / "whole", config=config)
    train(fresh(), tmp_path / "parts", 3, config=config)
    train(fresh(seed=9), tmp_path / "parts", resume=True, config=config)
    same(tmp_path / "parts", tmp_path / "whole")
    for out in ("whole", "parts"):
        scalers.append(json.loads((last_checkpoint(tmp_path / out) / "state.json").read_text())["scaler"])
    assert scalers[0] == scalers[1] and scalers[0]["_growth_tracker"] == STEPS
    assert json.loads((tmp_path / "whole" / "metrics.json").read_text())["precision"] == "fp16"

    model = fresh()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hook = model.classifier.bilinear.bilinear.weight.register_hook(lambda grad: grad * float("inf"))
    (step,) = train(model, tmp_path / "over", 1, config=config)
    hook.remove()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert json.loads((last_checkpoint(tmp_path / "over") / "state.json").read_text())["scaler"]["scale"] == 2**15


def test_documents_made_by_hand_are_checked_by_all_who_take_them(tmp_path):
    """The same line from each, before any work."""
    entity = TRAIN[0].entities[0]
    faults = {
        "empty or outside sentence": {"entities": (replace(entity, mentions=(replace(entity.mentions[0], end=99),)),)},
        "names an entity that is absent": {"entities": TRAIN[0].entities[:1]},
        "no words": {"sentences": ((),)},
        "give its name": {"triples": (replace(TRAIN[0].triples[0], relation=""),)},
        "not among the candidates": {"candidates": frozenset()},
    }
    model = fresh()
    for says, fields in faults.items():
        faulty = [replace(TRAIN[0], **fields)]
        takers = [
            lambda docs=faulty: next(fit(fresh(), docs)),
            lambda docs=faulty: next(fit(fresh(), TRAIN, docs)),
            lambda docs=faulty: write_docred(docs, tmp_path / "x.json"),
            lambda docs=faulty: score([], docs),
            lambda docs=faulty: predict(model, docs),
        ]
        of_labels = says in ("names an entity that is absent", "give its name", "not among the candidates")
        for take in takers[: 3 if says == "not among the candidates" else 4 if of_labels else 5]:
            with pytest.raises(DataError, match=f'document 0 \\("{TRAIN[0].title}"\\): .*{says}'):
                take()
    predict(
        model, [replace(TRAIN[0], triples=(replace(TRAIN[0].triples[0], relation=""),))]
    )  # labels are not looked at
    assert not (tmp_path / "x.json").exists()


def test_resume_refuses_another_run(tmp_path):
    out = tmp_path / "run"
    train(fresh(), out, 2)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    fewer, relabelled = TRAIN[:-1], [replace(TRAIN[0], triples=()), *TRAIN[1:]]
    entity = TRAIN[0].entities[0]
    shifted = replace(entity, mentions=(replace(entity.mentions[0], type="OTHER"), *entity.mentions[1:]))
    remarked = [replace(TRAIN[0], entities=(shifted, *TRAIN[0].entities[1:])), *TRAIN[1:]]
    for message, changes in {
        "other settings": {"config": replace(CONFIG, classifier_lr=1e-4)},
        "other training documents": {"documents": fewer},
        "other development documents": {"dev": DEV[:1]},
    }.items():
        with pytest.raises(ValueError, match=f"{message}.*resume with the same ones, or start a new --out"):
            train(fresh(), out, resume=True, **changes)
    for documents in (relabelled, remarked):
        with pytest.raises(ValueError, match="other training documents"):
            train(fresh(), out, resume=True, documents=documents)
    for settings in ({"variant": "global_threshold"}, {"top": 1}, {"pool": "mean"}):
        with pytest.raises(ValueError, match="other model"):
            train(fresh(**settings), out, resume=True)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_fingerprint():
    assert fingerprint(TRAIN) == fingerprint(list(TRAIN)) != fingerprint(TRAIN[::-1])
    limited = replace(TRAIN[0], candidates=frozenset({(0, 1), (1, 0)}))
    assert fingerprint([limited]) == fingerprint([replace(limited, candidates=frozenset({(1, 0), (0, 1)}))])
    assert fingerprint([limited]) != fingerprint(TRAIN[:1])


# Determinism and order


def test_the_same_seed_gives_the_same_run(whole, tmp_path):
    train(fresh(), tmp_path / "again")
    same(tmp_path / "again", whole)
    train(fresh(), tmp_path / "other", config=replace(CONFIG, seed=6))
    assert history(tmp_path / "other") != history(whole)


def batches_of(model: DocRE, monkeypatch) -> list[list[str]]:
    """The titles of every batch from now on."""
    seen: list[list[str]] = []
    real = model.tokenizer.collate

    def collate(encoded, labels=True):
        seen.append([tokens.document.title for tokens in encoded])
        return real(encoded, labels)

    monkeypatch.setattr(model.tokenizer, "collate", collate)
    return seen


def test_every_document_once_an_epoch(monkeypatch):
    model = fresh()
    seen = batches_of(model, monkeypatch)
    steps = train(model, config=replace(CONFIG, epochs=3), dev=())
    assert len(seen) == len(steps) == 12
    epochs = [seen[i : i + 4] for i in (0, 4, 8)]
    for epoch in epochs:
        assert sorted(map(len, epoch)) == [1, 2, 2, 2]
        assert sorted(title for batch in epoch for title in batch) == sorted(d.title for d in TRAIN)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_hold_documents_of_like_length(monkeypatch):
    documents = [made(str(n), 2, sentences=n, words=6) for n in range(1, 9)]
    model = tiny("atlop", documents)
    seen = batches_of(model, monkeypatch)
    train(model, config=replace(CONFIG, epochs=1), dev=(), documents=documents)
    assert sorted(sorted(batch) for batch in seen) == [["1", "2"], ["3", "4"], ["5", "6"], ["7", "8"]]


def test_warm_up_by_hand():
    # ten steps, a fifth of them rising: 1/2, 1, then down by ninths
    rates = [warmup_linear(step, 10, 0.2) for step in range(1, 11)]
    assert rates == pytest.approx([1 / 2, 1, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9])
    assert warmup_linear(1, 1, 0.06) == 1
    assert [warmup_linear(s, 4, 0.0) for s in (1, 2, 3, 4)] == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4])
    assert max(warmup_linear(s, 1000, 0.06) for s in range(1, 1001)) == warmup_linear(60, 1000, 0.06) == 1


def test_rates_groups_and_clipping(monkeypatch):
    model = fresh()
    seen = []
    real = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        norm = math.sqrt(sum(float(p.grad.square().sum()) for g in self.param_groups for p in g["params"]))
        sizes = [sum(p.numel() for p in g["params"]) for g in self.param_groups]
        seen.append(([g["lr"] for g in self.param_groups], sizes, norm, self.param_groups[0]))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train(model, config=replace(CONFIG, clip=0.01), dev=())
    encoder = sum(p.numel() for p in model.encoder.parameters())
    everything = sum(p.numel() for p in model.parameters())
    for number, (rates, sizes, norm, group) in enumerate(seen, start=1):
        share = warmup_linear(number, STEPS, CONFIG.warmup)
        assert rates == pytest.approx([1e-3 * share, 3e-3 * share])
        assert sizes == [encoder, everything - encoder]
        assert norm <= 0.0101
        assert group["weight_decay"] == 0 and group["eps"] == 1e-6
    assert len(seen) == STEPS


def one_step(documents, **changes) -> tuple[list[torch.Tensor], float]:
    """The gradients of a run's only step, and its loss. (Adam's first step does not tell how large they are.)"""
    model = tiny("atlop", documents).double()
    config = replace(CONFIG, epochs=1, clip=1e9, **changes)
    seen: list[torch.Tensor] = []

    def watch(optimizer, *_):
        seen.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

    handle = register_optimizer_step_pre_hook(watch)
    try:
        [step] = train(model, config=config, dev=(), documents=documents)
    finally:
        handle.remove()
    return seen, step.loss


def test_accumulated_gradients():
    """Two steps of two documents are one of four where the halves hold equally many pairs: losses are means over
    pairs, and accumulation takes the mean of the two means."""
    even = [made(f"e{i}", 3, sentences=2, words=9) for i in range(4)]
    whole, loss = one_step(even, batch_size=4)
    halves, loss_of_halves = one_step(even, batch_size=2, accumulation=2)
    assert loss == pytest.approx(loss_of_halves, rel=1e-9)
    assert sum(float(g.abs().sum()) for g in whole) > 0
    for one, two in zip(whole, halves, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    uneven = [made(f"u{i}", n, sentences=n, words=9) for i, n in enumerate((2, 2, 5, 5))]
    _, loss = one_step(uneven, batch_size=4)
    _, loss_of_halves = one_step(uneven, batch_size=2, accumulation=2)
    assert abs(loss - loss_of_halves) > 1e-3
    model = tiny("atlop", uneven).double()
    with torch.no_grad():
        means = [float(model(model.batch(half)).loss) for half in (uneven[:2], uneven[2:])]
    assert loss_of_halves == pytest.approx(sum(means) / 2, rel=1e-6)
    assert loss == pytest.approx((means[0] * 4 + means[1] * 40) / 44, rel=1e-6)


def test_an_epoch_whose_last_step_is_short():
    steps = train(fresh(), config=replace(CONFIG, epochs=2, accumulation=3), dev=())
    assert [s.step for s in steps] == [1, 2, 3, 4] and [s.epoch for s in steps] == [1, 1, 2, 2]


# What a run leaves behind


def test_steps_tell_where_training_stands(whole):
    steps = train(fresh())
    assert [s.epoch for s in steps] == [1] * 4 + [2] * 4 and {s.steps for s in steps} == {STEPS}
    assert [s.scores is not None for s in steps] == [False, False, False, True] * 2
    assert all(s.loss == pytest.approx(sum(s.losses.values())) and s.seconds > 0 for s in steps)
    rows = history(whole)
    assert [row["epoch"] for row in rows] == [1, 2]
    for row, part in zip(rows, (steps[:4], steps[4:]), strict=True):
        assert row["loss"] == pytest.approx(sum(s.loss for s in part) / 4)
        assert row["dev"]["f1"] == part[-1].scores.f1


def test_the_best_epoch_is_kept(tmp_path):
    out = tmp_path / "run"
    train(fresh(), out, config=replace(CONFIG, epochs=12, classifier_lr=1e-2, encoder_lr=3e-3), dev=TRAIN[:3])
    figures = [row["dev"]["f1"] for row in history(out)]
    kept = score(predict(DocRE.load(out / "model"), TRAIN[:3]), TRAIN[:3], seen_facts(TRAIN))
    assert kept.f1 == pytest.approx(max(figures)) and max(figures) > 0
    document = json.loads((out / "metrics.json").read_text())
    assert {"machine", "torch", "python", "commit", "threads"} <= document["environment"].keys()


def test_select_by_ign_f1(tmp_path):
    """With all dev facts seen in training Ign F1 is 0 throughout: the first epoch is kept."""
    out = tmp_path / "run"
    config = replace(CONFIG, epochs=8, classifier_lr=2e-2, encoder_lr=5e-3, select="ign_f1")
    first = None
    steps = fit(fresh(dropout=0.0), TRAIN, TRAIN[:3], config, out)
    for step in steps:
        if step.step == STEPS // 2:
            first = weights(out / "model")
    assert all(torch.equal(value, first[key]) for key, value in weights(out / "model").items())
    assert history(out)[-1]["dev"]["f1"] > 0


def test_without_dev_documents_the_last_epoch_is_kept(tmp_path):
    model = fresh()
    train(model, tmp_path / "run", dev=())
    kept = weights(tmp_path / "run" / "model")
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert "dev" not in history(tmp_path / "run")[0]


def test_without_out_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(fresh(), stop=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variant", ["global_threshold", "per_class_threshold"])
def test_tuned_thresholds_are_part_of_the_model(variant, tmp_path):
    out = tmp_path / "run"
    model = fresh(variant=variant)
    config = replace(CONFIG, epochs=4, classifier_lr=1e-2)
    train(model, out, config=config, dev=TRAIN[:4])
    cut = model.classifier.objective.cut
    assert (cut[1:] != 0).all() and (len(set(cut.tolist())) == 1) == (variant == "global_threshold")
    assert torch.equal(DocRE.load(last_checkpoint(out)).classifier.objective.cut, cut)
    kept = score(predict(DocRE.load(out / "model"), TRAIN[:4]), TRAIN[:4])
    assert kept.f1 == pytest.approx(max(row["dev"]["f1"] for row in history(out)))
    other = tmp_path / "other"
    train(fresh(variant=variant), other, 6, config=config, dev=TRAIN[:4])
    train(fresh(9, variant=variant), other, resume=True, config=config, dev=TRAIN[:4])
    same(other, out)


def test_predicting_leaves_the_mode_as_it_was():
    model = fresh().train()
    predict(model, DEV)
    assert model.training
    model.eval()
    predict(model, DEV)
    assert not model.training


# Faults


def test_a_loss_that_is_not_finite():
    model = fresh()
    with torch.no_grad():
        model.classifier.bilinear.bilinear.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r"the loss is not finite at documents 'train \d'"):
        train(model)


def test_unknown_relations_are_found_before_training():
    odd = replace(TRAIN[0], triples=(Triple(TRAIN[0].title, 0, "strange", 1),))
    with pytest.raises(DataError, match="strange"):
        train(fresh(), documents=[odd])


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"accumulation": -1},
        {"save_minutes": -1},
        {"warmup": 1.5},
        {"encoder_lr": -1.0},
    ],
)
def test_settings_that_cannot_be_meant(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        TrainConfig(**values)


@pytest.mark.parametrize("values", [{"layers": 0}, {"heads": 3, "width": 32}, {"heads": 0}])
def test_tiny_encoders_that_cannot_be_meant(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        build("atlop", TRAIN, **values)


def test_no_documents():
    with pytest.raises(ValueError, match="no training documents"):
        train(fresh(), documents=[])
    with pytest.raises(ValueError, match="no documents"):
        build("atlop", [])
    assert predict(fresh(), []) == []


# Evidence


def test_evidence_is_ordered_by_its_share():
    """Sentences that hold a fifth of the pair's attention, the strongest first, without [CLS] and [SEP]."""
    model = tiny("atlop", TRAIN)
    with torch.no_grad():
        model.classifier.bilinear.bilinear.bias[1:] = 50.0  # everything is chosen
    document = made("evidence", 4, sentences=4, words=9)
    batch = model.batch([document])
    with torch.no_grad():
        pairs = model.features(batch)
    triples = predict(model, [document])
    assert len(triples) == 12 * 3
    lengths = set()
    for triple in triples:
        shares = [0.0] * 4
        for column, sentence in enumerate(batch.token_sentence[0].tolist()):
            if sentence >= 0:
                shares[sentence] += float(pairs.attention[0, triple.head, triple.tail, column])
        shares = [share / sum(shares) for share in shares]
        expected = sorted((s for s in range(4) if shares[s] >= 0.2), key=lambda s: -shares[s])
        assert triple.evidence == tuple(expected)
        lengths.add(triple.evidence == tuple(sorted(triple.evidence)))
    assert lengths == {True, False}  # some stand in reading order, some do not
    assert all(t.evidence == () for t in predict(model, [document], evidence=1.1))
    assert [(t.head, t.tail, t.relation) for t in triples] == sorted(
        ((t.head, t.tail, t.relation) for t in triples), key=lambda row: (*row[:2], model.relations.index(row[2]))
    )
    without = tiny("atlop", TRAIN, context="off")
    with torch.no_grad():
        without.classifier.bilinear.bilinear.bias[1:] = 50.0
    assert all(t.evidence == () for t in predict(without, [document]))


def test_sentence_shares_by_hand():
    """[CLS] takes a half, sentence 0 has three eighths, sentence 2 one eighth: 3 to 1."""
    attention = torch.tensor([[0.5, 0.25, 0.125, 0.125, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    shares = sentence_shares(attention, torch.tensor([-1, 0, 0, 2, -1]), 3)
    assert shares.tolist() == [[0.75, 0.0, 0.25], [0.0, 0.0, 0.0]]


def test_predictions_follow_the_documents():
    documents = [made(f"p{n}", n, sentences=n, words=9) for n in (2, 5, 3, 4)]
    model = tiny("atlop", documents)
    titles = [t.title for t in predict(model, documents, batch_size=2)]
    assert titles == sorted(titles, key=[d.title for d in documents].index) and len(set(titles)) > 1
    one, many = (predict(model, documents, batch_size=size) for size in (1, 4))
    assert one == many
    assert [t.score for t in one] == pytest.approx([t.score for t in many], rel=1e-4, abs=1e-5)
    plain = [replace(d, triples=(), candidates=None) for d in documents]
    assert predict(model, plain, batch_size=2) == predict(model, documents, batch_size=2)  # labels are not looked at


# Odd documents, through every paper


def crowd(count: int) -> Document:
    return made("crowd", count, sentences=10, words=1 + 3 * math.ceil(count / 5))


ODD = {
    "no entities": Document("no entities", (("a", "b"),), ()),
    "one entity": written("one entity", ["a b c"], [[(0, 0, 1), (0, 2, 3)]]),
    "no triples": replace(made("no triples", 3), triples=()),
    "empty sentences": written("empty sentences", ["", "a b", "", "c", ""], [[(1, 0, 1)], [(3, 0, 1)]], [(0, "r", 1)]),
    "a hundred entities": crowd(100),
    "3,000 words": made("3,000 words", 6, sentences=100, words=30),
    "all mentions cut off": written(
        "all mentions cut off", ["a " * 60 + "b c"], [[(0, 0, 1)], [(0, 60, 61)], [(0, 61, 62)]], [(1, "r", 2)]
    ),
    "no candidates": replace(made("no candidates", 3), triples=(), candidates=frozenset()),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", sorted(_papers()))
def test_odd_documents(name, kind):
    document = ODD[kind]
    settings = {"max_tokens": 40} if kind == "all mentions cut off" else {}
    model = tiny(name, [document, *TRAIN[:1]], **settings)
    config, documents = replace(CONFIG, epochs=1, batch_size=2), [document, TRAIN[0]]
    steps = train(model, config=config, documents=documents, dev=documents)
    assert math.isfinite(steps[0].loss) and steps[0].scores.gold == sum(len(set(d.triples)) for d in documents)
    assert all(p.isfinite().all() for p in model.parameters())
    if kind == "a hundred entities":  # once is enough
        return
    triples = predict(model, [document])
    assert all(0 <= t.head != t.tail < 100 and math.isfinite(t.score) for t in triples)
    if kind in ("no entities", "one entity", "no candidates"):
        assert triples == []
    alone = tiny(name, [document], **settings)  # relations may be NA alone
    assert math.isfinite(train(alone, config=config, documents=[document])[0].loss)


def test_shuffled_entities_resume_bit_for_bit_and_learn_another_model(tmp_path):
    config = replace(CONFIG, shuffle_entities=True)
    train(fresh(), tmp_path / "whole", config=config)
    train(fresh(), tmp_path / "parts", stop=3, config=config)
    train(fresh(), tmp_path / "parts", resume=True, config=config)
    same(tmp_path / "whole", tmp_path / "parts")


def test_shuffled_entities_come_in_another_order_each_time(monkeypatch):
    seen = []
    model = fresh()
    collate = model.tokenizer.collate
    monkeypatch.setattr(model.tokenizer, "collate", lambda t, *more: (seen.extend(t), collate(t, *more))[1])
    train(model, config=replace(CONFIG, shuffle_entities=True), dev=())
    orders: dict[str, set] = {}
    for tokens in seen:
        orders.setdefault(tokens.document.title, set()).add(tuple(e.name for e in tokens.document.entities))
    assert orders.keys() == {d.title for d in TRAIN}
    assert any(len(found) > 1 for found in orders.values())
    assert {tuple(sorted(names)) for found in orders.values() for names in found} <= {
        tuple(sorted(e.name for e in d.entities)) for d in TRAIN
    }


def test_permuted_moves_everything_that_names_an_entity():
    document = replace(made("moved", 4), candidates=frozenset({(0, 1), (2, 3)}), order=(5, 6, 7, 8))
    facts = (Triple("moved", 0, "r", 1), Triple("moved", 2, "r", 3, premises=((0, "r", 1),), depth=1))
    moved = replace(document, triples=facts).permuted([2, 0, 3, 1])
    assert [e.name for e in moved.entities] == [document.entities[i].name for i in (2, 0, 3, 1)]
    assert [(t.head, t.tail, t.premises) for t in moved.triples] == [(1, 3, ()), (0, 2, ((1, "r", 3),))]
    assert moved.candidates == {(1, 3), (0, 2)} and moved.order == (7, 5, 8, 6)
    assert replace(document, candidates=None).permuted([0, 1, 2, 3]).candidates is None
    with pytest.raises(ValueError, match="moved: .* is not an order of entities 0 to 3"):
        document.permuted([0, 0, 1, 2])


def test_frozen_training_moves_the_classifier_alone_and_learns():
    model = fresh()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    steps = list(fit_frozen(model, TRAIN, replace(CONFIG, epochs=40)))
    assert len(steps) == 40 * math.ceil(len(TRAIN) / CONFIG.batch_size) and steps[-1].steps == len(steps)
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(before[key], value) == key.startswith("encoder."), key
    assert sum(s.loss for s in steps[-4:]) < 0.5 * sum(s.loss for s in steps[:4])
    again = list(fit_frozen(fresh(), TRAIN, replace(CONFIG, epochs=40)))
    assert [s.loss for s in again] == [s.loss for s in steps]


def test_learning_rates_by_part():
    torch.manual_seed(0)
    model = build("docunet", TRAIN, layers=1, width=16, heads=2, min_count=1, block=8)
    for rate, expected in ((4e-4, 4e-4), (None, 2e-4)):
        groups = parameter_groups(model, TrainConfig(encoder_lr=1e-4, classifier_lr=2e-4, matrix_lr=rate))
        peaks = {id(p): g["peak"] for g in groups for p in g["params"]}
        for name, p in model.named_parameters():
            part = "encoder" if name.startswith("encoder.") else name.split(".")[1]
            assert peaks[id(p)] == {"encoder": 1e-4, "matrix": expected}.get(part, 2e-4), name
    with pytest.raises(ValueError, match="matrix_lr"):
        TrainConfig(matrix_lr=-1.0)
