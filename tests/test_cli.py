"""The command line from end to end: round trip, interruption, and every fault in one line with exit code 2."""

from __future__ import annotations

import copy
import errno
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from patience import patience
from safetensors import SafetensorError
from safetensors.torch import load_file
from small import made, several, tiny, written
from transformers import BertConfig, BertModel

from docre_lite import model as model_module
from docre_lite.bench import training
from docre_lite.cli.main import app, main, one_value_each
from docre_lite.encode import Reading
from docre_lite.encoder import TinyConfig, tiny_tokenizer
from docre_lite.evaluate import score, seen_facts
from docre_lite.formats.readers import read, write_docred
from docre_lite.model import DocRE, _papers, build, paper
from docre_lite.predict import predict
from docre_lite.support.checkpoint import seal
from docre_lite.support.settings import fields
from docre_lite.support.store import alone
from docre_lite.train import Step, TrainConfig, last_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

TINY = [f"--set={s}" for s in "layers=1 width=16 heads=2 min_count=1 batch_size=2 precision=fp32".split()]
PARTS = (last_checkpoint, lambda out: out / "model")
COMMANDS = [["corpus"], ["train"], ["predict"], ["extract"], ["score"], ["data", "fetch"], ["data", "info"]]
COMMANDS += [["annotate"], ["convert"], ["page"], ["export"], ["push"]]
COMMANDS += [["bench", "run"], ["bench", "table"], ["bench", "speed"]]
PREDICT = ["--run", "r", "--data", "d", "--out", "o"]
EXTRACT = ["--run", "r", "--input", "i", "--out", "o"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with train.json (8 documents), dev.json (3) and unlabelled.json."""
    folder = tmp_path_factory.mktemp("data")
    train = [made(f"train {i}", 3, sentences=2, words=9) for i in range(8)]
    write_docred(train, folder / "train.json")
    dev = [replace(d, title=f"dev {i}", sentences=(*d.sentences, ("So", "be", "it"))) for i, d in renamed(train[:3])]
    write_docred(dev, folder / "dev.json")
    write_docred([replace(d, triples=()) for d in train], folder / "unlabelled.json")
    return folder


def renamed(documents):
    """Numbered documents whose triples carry the title that they will get."""
    return [
        (i, replace(d, triples=tuple(replace(t, title=f"dev {i}") for t in d.triples))) for i, d in enumerate(documents)
    ]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A finished run of a few epochs, with rates high enough to predict something."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(data, out, "--dev", data / "dev.json", "--epochs", 8, "--set=classifier_lr=0.02") == 0
    return out


def train(data: Path, out: Path, *more) -> int:
    return main(["train", "--train", str(data / "train.json"), "--out", str(out), *TINY, *map(str, more)])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


# Round trip


def test_train_predict_score(data, run, tmp_path, capsys):
    assert sorted(p.name for p in run.iterdir()) == [".lock", "last", "metrics.json", "model", "run.json"]
    history = json.loads((run / "metrics.json").read_text())["history"]
    assert [row["epoch"] for row in history] == list(range(1, 9))
    out = tmp_path / "new folder" / "result.json"
    call = ["predict", "--run", str(run), "--data", str(data / "dev.json"), "--out", str(out), "--zip"]
    assert main(call) == 0
    said = json.loads(capsys.readouterr().out)
    documents = read(data / "dev.json")
    expected = predict(DocRE.load(run / "model"), documents)
    rows = json.loads(out.read_text())
    assert said == {"documents": 3, "triples": len(expected), "out": str(out)}
    assert {(r["title"], r["r"]) for r in rows} == {(t.title, t.relation) for t in expected} and len(rows) > 0
    assert out.with_suffix(".zip").is_file()
    files = ["--predictions", str(out), "--gold", str(data / "dev.json")]
    assert main(["score", *files, "--train", str(data / "train.json"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    best = max(row["dev"]["f1"] for row in history)
    assert scores["f1"] == pytest.approx(best) and best > 0
    assert scores["ign_f1"] == score(expected, documents, seen_facts(read(data / "train.json"))).ign_f1
    assert main(["score", "--predictions", str(out.with_suffix(".zip")), "--gold", str(data / "dev.json")]) == 0
    table = capsys.readouterr().out
    assert re.search(rf"^f1 +{best:.4f}$", table, re.M) and "by_entities" in table and "by_relation" not in table
    assert "by_relation" not in scores
    assert main(["score", *files, "--by-relation"]) == 0
    rows = re.search(r"^by_relation\n((  label .*\n)+)", capsys.readouterr().out, re.M)[1].splitlines()
    assert {row.split()[1] for row in rows} >= {t.relation for d in documents for t in d.triples}


def test_predictions_do_not_look_at_labels(data, run, tmp_path, capsys):
    results = []
    for name in ("train.json", "unlabelled.json"):
        out = tmp_path / f"result of {name}"
        assert main(["predict", "--run", str(run / "model"), "--data", str(data / name), "--out", str(out)]) == 0
        results.append(out.read_text())
    assert results[0] == results[1] != "[]"


def test_faulty_parts_are_left_out_where_asked(data, run, tmp_path, capsys):
    obj = json.loads((data / "train.json").read_text())
    obj[0]["vertexSet"][0].append({"name": "x", "sent_id": 99, "pos": [0, 1], "type": "PER"})
    faulty, out = tmp_path / "faulty.json", tmp_path / "out.json"
    faulty.write_text(json.dumps(obj))
    commands = [
        ["predict", "--run", run, "--data", faulty, "--out", out],
        ["score", "--predictions", out, "--gold", faulty, "--train", faulty],
        ["data", "info", faulty, "--train", faulty],
        ["convert", faulty, "--to", tmp_path / "made.json"],
        ["train", "--train", faulty, "--out", tmp_path / "run", "--epochs", "1", *TINY],
    ]
    for command in commands:
        assert main([*map(str, command)]) == 2
        assert "sent_id: 99 is outside" in capsys.readouterr().err
        assert main([*map(str, command), "--lenient"]) == 0
        assert "dropped 1 of" in capsys.readouterr().err
    read(tmp_path / "made.json")
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0, "the run remembers it"


def test_predict_ignores_labels_even_faulty_ones(data, run, tmp_path, capsys):
    obj = json.loads((data / "train.json").read_text())
    obj[0]["labels"][0] |= {"h": 99}
    (tmp_path / "odd.json").write_text(json.dumps(obj))
    out = tmp_path / "out.json"
    assert main(["predict", "--run", str(run), "--data", str(tmp_path / "odd.json"), "--out", str(out)]) == 0
    assert out.is_file() and "99" not in capsys.readouterr().err


def test_what_strangers_write_does_not_steer_the_terminal(data, tmp_path, capsys):
    """Escape codes, newlines and turned writing in titles, relations, types and names of files."""
    evil = "\x1b[2J\n\x9b31m\u202e"
    obj = json.loads((data / "train.json").read_text())[:2]
    for k, document in enumerate(obj):
        document["title"] = f"{k}{evil}"
        for label in document["labels"]:
            label["r"] += evil
    obj[1]["sents"] = obj[0]["sents"]
    path = tmp_path / f"x{evil.replace('/', '')}.json"
    path.write_text(json.dumps(obj))
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps([{**obj[0], "sents": [[1]]}]))
    for command in (["data", "info", path], ["data", "info", path, "--json"], ["data", "info", broken], ["score"]):
        main([*map(str, command)])
        told = capsys.readouterr()
        assert all(c.isprintable() for line in (told.out + told.err).split("\n") for c in line), command
    main(["data", "info", str(path), "--json"])
    assert any("\x1b" in name for name in json.loads(capsys.readouterr().out)["relations"]), "still the same string"


def test_training_documents_in_dev_are_told(data, tmp_path, capsys):
    assert train(data, tmp_path / "run", "--dev", data / "train.json", "--epochs", 1) == 0
    told = capsys.readouterr().err
    assert told.count("in the training data, so its scores flatter the model") == 3 and "train.json" in told


def test_a_model_keeps_the_pairs_that_it_was_trained_on(data, tmp_path, capsys):
    documents = read(data / "train.json")

    def types(document, head, tail):
        return document.entities[head].type, document.entities[tail].type

    pair = next(p for d in documents for t in d.triples if len(set(p := types(d, t.head, t.tail))) > 1)
    kept = [replace(d, triples=tuple(t for t in d.triples if types(d, t.head, t.tail) == pair)) for d in documents]
    write_docred(kept, tmp_path / "train.json")
    assert train(tmp_path, tmp_path / "run", "--pairs", ":".join(pair), "--epochs", 1) == 0
    model = DocRE.load(tmp_path / "run" / "model")
    assert model.tokenizer.pairs == (pair,)
    assert f"only these pairs (head:tail): {':'.join(pair)}." in (tmp_path / "run" / "model" / "README.md").read_text()
    for document, mask in zip(documents, model.batch(documents).mask, strict=True):
        asked = {(int(h), int(t)) for h, t in mask.nonzero()}
        assert asked == {(h, t) for h, t in document.pairs() if types(document, h, t) == pair}

    def renamed(mention):
        return replace(mention, type="X")

    (first, *_) = documents
    other = replace(first, entities=tuple(replace(e, mentions=tuple(map(renamed, e.mentions))) for e in first.entities))
    with pytest.warns(UserWarning, match=f"types {':'.join(pair)}, of which the documents have none .their types: X."):
        assert predict(model, [other]) == []
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0, "the run remembers them"


def test_settings_that_say_how_to_predict(data, tmp_path, capsys):
    """Fewer rounds, or hidden pairs, without training anew."""
    documents = read(data / "dev.json")
    rounds, hidden = (tiny(name, documents) for name in ("docre_ii", "dre_mir"))
    with torch.no_grad():  # the base finds relation 1 everywhere, the rounds after it relation 2
        rounds.classifier.base.classify.bias[:2] += torch.tensor([25.0, 50.0])
        rounds.classifier.classify.bias[:3] += torch.tensor([25.0, 0.0, 50.0])
        hidden.classifier.classify.weight *= 50
    rounds.save(tmp_path / "rounds")
    hidden.save(tmp_path / "hidden")

    def found(model, *more) -> list[dict]:
        call = ["predict", "--run", str(tmp_path / model), "--data", str(data / "dev.json"), *more]
        assert main([*call, "--out", str(tmp_path / "result.json")]) == 0
        return json.loads((tmp_path / "result.json").read_text())

    one, two = rounds.relations.names[1:3]
    assert {row["r"] for row in found("rounds")} == {two}
    assert {row["r"] for row in found("rounds", "--set", "rounds=0")} == {one}
    draws = [found("hidden", "--set=test_mask_rate=0.9", f"--seed={seed}") for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    capsys.readouterr()
    call = ["predict", "--run", str(tmp_path / "rounds"), "--data", str(data / "dev.json"), "--set=map_width=8"]
    assert main([*call, "--out", str(tmp_path / "result.json")]) == 2
    assert "map_width cannot be changed after training" in capsys.readouterr().err


def test_corpus(tmp_path, capsys):
    sizes = ["--train", "3", "--dev", "2", "--test", "2"]
    assert main(["corpus", "--out", str(tmp_path / "one"), *sizes]) == 0
    paths = json.loads(capsys.readouterr().out)
    counts = {name: len(read(path)) for name, path in paths.items() if name in ("train", "dev", "test")}
    assert counts == {"train": 3, "dev": 2, "test": 2}
    assert main(["corpus", "--out", str(tmp_path / "two"), *sizes]) == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    capsys.readouterr()
    assert train(tmp_path / "one", tmp_path / "run", "--epochs", 1, "--limit", 2) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["limit"] == 2


def test_settings_reach_the_model(data, tmp_path):
    """A recipe is overruled by a variant, a variant by what is given beside it."""
    more = ["--dev", data / "dev.json", "--epochs", 1, "--set=variant=bert_e_full_bilinear"]
    assert train(data, tmp_path / "run", *more, "--set=pool=mean", "--set=seed=3") == 0
    spec = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert spec["options"]["block"] == 0  # the variant's, though the recipe for tiny encoders has 16
    assert (
        spec["options"]["loss"] == "bce" and spec["reading"]["context"] == "off" and spec["reading"]["pool"] == "mean"
    )
    assert train(data, tmp_path / "other", *more, "--set=block=4") == 0
    assert json.loads((tmp_path / "other" / "model" / "model.json").read_text())["options"]["block"] == 4
    state = json.loads((last_checkpoint(tmp_path / "run") / "state.json").read_text())
    assert state["run"]["settings"]["seed"] == 3 and state["run"]["settings"]["epochs"] == 1


@pytest.mark.parametrize("first", [1, 4])
def test_the_bar_moves_while_dev_is_scored_and_tells_the_time_that_remains(first, monkeypatch):
    """By a clock of our own: three seconds a step, one a dev document; begun, and gone on with after an epoch."""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    progress = training.Progress("toy", 3, 9, TrainConfig(epochs=3, batch_size=1))
    now, bar = [100.0], progress.bar
    bar._time = lambda: now[0]
    bar.disable = False
    end = 3 * (3 * 3 + 9) - (9 + 9) * (first > 1)  # seconds of all that is ahead
    begun = now[0]

    def remaining() -> float:
        found = bar.format_dict
        return (found["total"] - found["n"]) / (found["n"] - found["initial"]) * found["elapsed"]

    for step in range(first, 10):
        now[0] += 3
        for _ in range(9 * (step % 3 == 0)):
            now[0] += 1
            before = bar.n
            progress.scored(1)
            assert before < bar.n and remaining() == pytest.approx(begun + end - now[0])
        progress.after(Step((step - 1) // 3 + 1, step, 9, 0.5, {}, 3.0))
        assert step == first or remaining() == pytest.approx(begun + end - now[0])
    assert bar.n == pytest.approx(bar.total) == pytest.approx(18)
    bar.close()


@pytest.mark.parametrize("name", sorted(_papers()))
def test_every_paper_trains_from_the_command_line(name, data, tmp_path):
    assert train(data, tmp_path / "run", "--paper", name, "--epochs", 1, "--limit", 2) == 0
    assert DocRE.load(tmp_path / "run" / "model").classifier.name == name


def test_relations_map(data, tmp_path, capsys):
    relations = tmp_path / "rel2id.json"
    relations.write_text(json.dumps({"NA": 0, "unused": 1, "s": 2, "r": 3, "q": 4}))
    assert train(data, tmp_path / "run", "--epochs", 1, "--relations", relations) == 0
    assert DocRE.load(tmp_path / "run" / "model").relations.names == ("NA", "unused", "s", "r", "q")
    relations.write_text(json.dumps({"NA": 0, "r": 1}))
    says = 'train.json: document 0 \\("train 0"\\): field labels: relation .* is not among'
    fails(capsys, train, data, tmp_path / "two", "--relations", relations, says=says, absent=tmp_path / "two")


def test_dev_relations_that_training_lacks_are_told(data, tmp_path, capsys):
    dev = tmp_path / "dev.json"
    write_docred([written("odd", ["a b"], [[(0, 0, 1)], [(0, 1, 2)]], [(0, "strange", 1)])], dev)
    assert train(data, tmp_path / "run", "--epochs", 1, "--dev", dev) == 0
    assert "1 dev triples have relations that no training document has (strange)" in capsys.readouterr().err


# Interruption


def test_interrupted_and_resumed(data, tmp_path):
    """Ctrl-C in a real process leaves a checkpoint; the resumed run ends where an uninterrupted one ends."""
    call = ["--epochs", "10", "--set=batch_size=1", "--dev", data / "dev.json"]
    assert train(data, tmp_path / "whole", *call) == 0
    out = tmp_path / "run"
    command = [sys.executable, "-m", "docre_lite", "train", "--train", data / "train.json", "--out", out, *TINY, *call]
    environment = {k: v for k, v in os.environ.items() if k != "TQDM_DISABLE"}
    environment |= {"TQDM_MININTERVAL": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    said = ""
    while not re.search(r"step=([5-9]|\d\d)/80", said):  # a few steps into the first epoch
        piece = os.read(process.stderr.fileno(), 1000)
        assert piece, said
        said += piece.decode()
    process.send_signal(signal.SIGINT)
    stdout, rest = process.communicate(timeout=patience(60))
    said += rest.decode()
    assert process.returncode == 130, said
    first, second, *_ = said.splitlines()
    assert first.startswith("atlop: 8 documents to train on, 3 for dev; 3 relations and 3 entity types; 0.00")
    assert second == "on cpu in fp32: 80 steps, 10 epochs of 8"
    assert "\r" not in said and re.search(r"^atlop: +\d+%, \d\d:\d\d<.*step=5/80$", said, re.M), said
    found = re.search(r"stopped after step (\d+); continue with: docre-lite train --resume", said)
    assert found and stdout == b"" and "Traceback" not in said
    stopped = int(found[1])
    assert 5 <= stopped < 80
    assert json.loads((last_checkpoint(out) / "state.json").read_text())["step"] == stopped
    assert main(["train", "--resume", str(out)]) == 0
    for part in PARTS:
        one, two = weights(part(out)), weights(part(tmp_path / "whole"))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    histories = [
        [
            {k: v for k, v in row.items() if k not in ("seconds", "peak_memory_gb")}
            for row in json.loads((folder / "metrics.json").read_text())["history"]
        ]
        for folder in (out, tmp_path / "whole")
    ]
    assert histories[0] == histories[1] and len(histories[0]) == 10


def test_a_resumed_run_finds_its_files_and_threads_again(data, bert, tmp_path, monkeypatch, capsys):
    """Given by relative paths, and resumed in another folder; a run.json of an earlier version has no threads."""
    monkeypatch.chdir(bert.parent)
    monkeypatch.setattr(torch, "set_num_threads", (asked := []).append)
    call = ["--encoder", bert.name, "--epochs", "2", "--threads", "1", "--set=block=4", "--dev", data / "dev.json"]
    assert train(data, tmp_path / "run", *call) == 0
    held = json.loads((tmp_path / "run" / "run.json").read_text())
    assert held["threads"] == 1 and held["encoder"] == str(bert.resolve()) and asked == [1]
    card = json.loads((tmp_path / "run" / "model" / "card.json").read_text())
    assert card["encoder"] == bert.name and DocRE.load(tmp_path / "run" / "model").encoder.source == bert.name
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 0 and asked == [1, 1]
    assert "8 steps, 2 epochs of 4, 8 of them done" in capsys.readouterr().err
    del held["threads"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(held))
    assert main(["train", "--resume", "run"]) == 0 and asked == [1, 1]


def test_a_log_file_gets_few_lines_of_progress(data, tmp_path):
    """No terminal, no redrawing: what stays are the epochs, and the bar's last state."""
    call = ["--epochs", "3", "--set=batch_size=1", "--dev", data / "dev.json"]
    command = [sys.executable, "-m", "docre_lite", "train", "--train", data / "train.json", "--out", tmp_path / "run"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TQDM_")} | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    told = subprocess.run([*map(str, [*command, *TINY, *call])], capture_output=True, text=True, env=environment)
    assert told.returncode == 0 and told.stderr.count("dev F1") == 3, told.stderr
    assert told.stderr.count("step/s") + told.stderr.count("s/step") <= 8, told.stderr  # of 24 steps


def test_resuming_a_finished_run_changes_nothing(run, capsys):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert main(["train", "--resume", str(run)]) == 0
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_resuming_with_other_documents(data, tmp_path, capsys):
    own = tmp_path / "data"
    own.mkdir()
    documents = read(data / "train.json")
    write_docred(documents, own / "train.json")
    assert train(own, tmp_path / "run", "--epochs", 1) == 0
    write_docred(documents[:-1], own / "train.json")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    fails(capsys, main, ["train", "--resume", str(tmp_path / "run")], says="other training documents")
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


# Faults: exit code 2, one line, nothing written


def fails(capsys, call, *arguments, says: str, absent: Path | None = None) -> None:
    capsys.readouterr()
    assert call(*arguments) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("docre-lite: "), shown.err
    assert re.search(says, lines[0]), lines[0]
    assert shown.out == ""
    assert absent is None or not absent.exists()


@pytest.mark.parametrize(
    ("given", "option"),
    [
        (["train", "--seed", "-1"], "seed"),
        (["extract", *EXTRACT, "--seed", "99999999999"], "seed"),
        (["predict", *PREDICT, "--seed", "one"], "seed"),
        (["predict", *PREDICT, "--evidence", "abc"], "evidence"),
        (["predict", *PREDICT, "--evidence", "20"], "evidence"),
        (["extract", *EXTRACT, "--evidence", "-1"], "evidence"),
        (["predict", *PREDICT, "--batch-size", "²"], "batch-size"),
        (["train", "--epochs", "0"], "epochs"),
        (["train", "--epochs", "two"], "epochs"),
        (["train", "--limit", "-1"], "limit"),
        (["predict", *PREDICT, "--precision", "fp8"], "precision"),
    ],
)
def test_numbers_that_cannot_be(given, option, capsys):
    fails(capsys, main, given, says=f"Invalid value for '--{option}': .*; see `docre-lite {given[0]} --help`$")


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_predictions_in_16_bits(kind, run, data, tmp_path, capsys, monkeypatch):
    call = ["predict", "--run", str(run), "--data", str(data / "dev.json"), "--evidence=0.1"]
    for hardware in (False, True):
        monkeypatch.setattr(f"docre_lite.support.machine.{kind}_in_hardware", lambda device, own=hardware: own)
        assert main([*call, "--precision", kind, "--out", str(tmp_path / "half.json")]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("docre-lite: ")]
        assert [line.startswith(f"docre-lite: precision={kind}, but this cpu only emulates it") for line in said] == (
            [] if hardware else [True]
        )
    assert main([*call, "--out", str(tmp_path / "full.json")]) == 0
    half, full = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("half", "full"))
    assert [row["score"] for row in half] != [row["score"] for row in full]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_told_and_used(code, data, tmp_path, capsys, monkeypatch):
    """Clusters have such; nobody is kept from training there."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):  # what the first run left behind stops no second one
        assert train(data, tmp_path / "run", "--epochs", 1, "--limit", 2) == 0
        [line] = [line for line in lines_of(capsys) if "locks" in line]
        assert line.startswith(f"docre-lite: {tmp_path / 'run'}: its file system has no locks")
        shutil.rmtree(tmp_path / "run" / "model")
        (tmp_path / "run" / "run.json").unlink()
    monkeypatch.undo()
    with alone(tmp_path / "run"):
        fails(capsys, train, data, tmp_path / "run", "--epochs", 1, says="run: another run is at work here")


def test_a_warning_is_a_line_without_code(run, data, tmp_path, capsys):
    twice = [{"title": read(data / "dev.json")[0].title, "h_idx": 0, "t_idx": 1, "r": "r"}] * 2
    (tmp_path / "p.json").write_text(json.dumps(twice))
    assert main(["score", "--predictions", str(tmp_path / "p.json"), "--gold", str(data / "dev.json")]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch("docre-lite: .*p.json: 1 of 2 predictions repeat another; each is kept once", line)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--paper", "nope"], "no paper 'nope'; have .*atlop"),
        (["--recipe", "nope"], "atlop has no recipe 'nope'; have .*docred"),
        (["--set", "variant=nope"], "atlop has no variant 'nope'; have .*bert_e"),
        (["--set", "nope=1"], "atlop has no setting 'nope'; have .*window"),
        (["--set", "nope"], "--set takes KEY=VALUE, not 'nope'"),
        (["--set", "batch_size=many"], "batch_size is a whole number, not 'many'"),
        (["--set", "batch_size=0"], "batch_size is a number from 1, not '0'"),
        (["--set", "epochs=0"], "epochs is a number from 1, not '0'"),
        (["--set", "marker=stars"], "marker is one of 'star', 'type', 'type_id' or 'none', not 'stars'"),
        (["--set", "attention_dropout=maybe"], "attention_dropout is true or false, not 'maybe'"),
        (["--set", "precision=fp8"], "precision is one of"),
        (["--set", "stride=999"], "stride=999 with window=512"),
        (["--set", "heads=5"], "heads=5"),
        (["--set", "block=7"], "block=7 must divide"),
        (["--set", "block=-1"], "block is a number from 0"),
        (["--set", "top=0"], "top is a number from 1"),
        (["--set", "max_tokens=2"], "max_tokens=2 leaves no text"),
        (["--set", "variant=global_threshold"], "this variant of atlop tunes its threshold .*; give --dev"),
        (["--set", "threshold=global"], "threshold='global' needs loss='bce'"),
        (["--set", "recipe=docred"], "no setting 'recipe'"),
        (["--set", "name=x"], "no setting 'name'"),
        (["--set", "encoder=tiny"], "no setting 'encoder'"),
        (["--encoder", "./no/such/folder"], "encoder './no/such/folder' could not be loaded"),
        (["--dev", "no-such-dev.json"], "no-such-dev.json: no such file"),
        (["--relations", "no-such-map.json"], "no-such-map.json"),
    ],
    ids=lambda value: value if isinstance(value, str) and "=" not in value else None,
)
def test_faulty_arguments_of_train(more, says, data, tmp_path, capsys):
    fails(capsys, train, data, tmp_path / "run", *more, says=says, absent=tmp_path / "run")


def test_faulty_files_of_train(data, tmp_path, capsys):
    def given(path) -> int:
        return main(["train", "--train", str(path), "--out", str(tmp_path / "run")])

    broken = tmp_path / "broken.json"
    broken.write_text('[{"title": "x", ')
    fails(capsys, given, broken, says=r"broken.json: line 1 column \d+: malformed JSON", absent=tmp_path / "run")
    broken.write_text("[]")
    fails(capsys, given, broken, says="no documents|no training documents", absent=tmp_path / "run")
    fails(
        capsys,
        given,
        data / "unlabelled.json",
        says="unlabelled.json: no document has a label",
        absent=tmp_path / "run",
    )
    fails(capsys, given, tmp_path / "nowhere.json", says="nowhere.json: no such file", absent=tmp_path / "run")
    fails(capsys, given, tmp_path, says="is a folder", absent=tmp_path / "run")
    fails(capsys, main, ["train"], says="train needs --train and --out")
    fails(capsys, main, ["train", "--resume", str(tmp_path)], says="no run.json here")
    fails(capsys, main, ["train", "--help-paper", "nope"], says="no paper 'nope'")


def test_out_that_holds_a_run(data, run, capsys):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    fails(capsys, train, data, run, says="already holds a run: continue it with --resume")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_out_where_another_run_is_at_work(data, tmp_path, capsys):
    with alone(tmp_path / "run"):
        fails(capsys, train, data, tmp_path / "run", says="run: another run is at work here")
        assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]
    assert train(data, tmp_path / "run", "--epochs", 1) == 0


def test_out_that_is_a_file(data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    fails(capsys, train, data, tmp_path / "file", says="file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_loss_that_is_not_finite_is_told_in_a_line(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        paper("atlop"), "logits", lambda self, pairs, trace: self.bilinear(*triple(pairs)) * float("nan")
    )
    capsys.readouterr()
    assert train(data, tmp_path / "run", "--epochs", 1) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "docre-lite: " in line]
    assert len(lines) == 1 and "the loss is not finite at documents 'train" in lines[0]


def triple(pairs):
    return pairs.entities, pairs.context, pairs.mask


def test_faulty_arguments_of_predict(data, run, tmp_path, capsys):
    out = tmp_path / "result.json"

    def given(folder, file, target=out) -> int:
        return main(["predict", "--run", str(folder), "--data", str(file), "--out", str(target)])

    fails(capsys, given, tmp_path, data / "dev.json", says="no model.json here", absent=out)
    fails(capsys, given, run, tmp_path / "none.json", says="none.json: no such file", absent=out)
    fails(capsys, given, run, data / "dev.json", tmp_path, says="is a folder; --out takes a file")
    assert list(tmp_path.iterdir()) == []
    shutil.copy(data / "dev.json", tmp_path / "mine.json")
    fails(
        capsys, given, run, tmp_path / "mine.json", tmp_path / "mine.json", says="mine.json: is the file of documents"
    )
    assert (tmp_path / "mine.json").read_bytes() == (data / "dev.json").read_bytes()


def test_a_page_with_ones_own_model(data, run, bert, tmp_path, capsys):
    out = tmp_path / "ask.html"
    call = ["page", "--run", str(run), "--data", str(data / "dev.json"), "--out", str(out), "--title", "Mine & yours"]
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == out.stat().st_size
    text = out.read_text(encoding="utf-8")
    assert "<h1>Mine &amp; yours</h1>" in text and not re.search(r"https?://(?!www\.w3\.org)", text)
    build("atlop", several(), str(bert), block=4).save(tmp_path / "hub")
    for folder, says in ((tmp_path / "hub", "a page only runs the tiny encoder"), (tmp_path, "no model.json here")):
        again = ["page", "--run", str(folder), "--out", str(tmp_path / "none.html")]
        fails(capsys, main, again, says=says, absent=tmp_path / "none.html")
    fails(capsys, main, ["page", "--run", str(run), "--out", str(tmp_path)], says="is a folder; --out takes a file")


def test_predictions_compressed(data, run, tmp_path, capsys):
    for name in ("found.json", "found.json.gz"):
        call = ["predict", "--run", str(run), "--data", str(data / "dev.json"), "--out", str(tmp_path / name)]
        assert main(call) == 0
    assert gzip.decompress((tmp_path / "found.json.gz").read_bytes()) == (tmp_path / "found.json").read_bytes()
    capsys.readouterr()
    said = []
    for name in ("found.json", "found.json.gz"):
        assert main(["score", "--predictions", str(tmp_path / name), "--gold", str(data / "dev.json")]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_faulty_arguments_of_score(data, tmp_path, capsys):
    result = tmp_path / "result.json"

    def given(rows, gold=data / "dev.json") -> int:
        result.write_text(rows if isinstance(rows, str) else json.dumps(rows))
        return main(["score", "--predictions", str(result), "--gold", str(gold)])

    row = {"title": "dev 0", "h_idx": 0, "t_idx": 1, "r": "r"}
    assert given([row]) == 0
    fails(capsys, given, [row | {"title": "Nowhere"}], says="Nowhere")
    fails(capsys, given, [row | {"h_idx": 77}], says="77")
    fails(capsys, given, "[{", says="result.json: not JSON")
    fails(capsys, given, [row], tmp_path / "none.json", says="none.json: no such file")
    result.unlink()
    fails(
        capsys,
        main,
        ["score", "--predictions", str(result), "--gold", str(data / "dev.json")],
        says="no such file|No such",
    )


# Faults of disks, of files, and of strangers


FULL = OSError(errno.ENOSPC, "No space left on device")


def lines_of(capsys) -> list[str]:
    """What was said, without progress bars."""
    return [line for line in capsys.readouterr().err.splitlines() if "docre-lite: " in line]


@pytest.mark.parametrize("fault", [FULL, SafetensorError("I/O error: No space left"), Exception("No space left")])
def test_a_full_disk_stops_training_in_a_line(fault, data, tmp_path, capsys, monkeypatch):
    """As Python, safetensors and tokenizers say it. What was saved before is whole, and is continued."""
    saves, real = [], model_module.write_tensors

    def full(path, tensors):
        saves.append(path)
        if len(saves) >= 6:  # in the second epoch
            raise fault
        real(path, tensors)

    monkeypatch.setattr(model_module, "write_tensors", full)
    call, out = ["--epochs", 2, "--set=save_minutes=0"], tmp_path / "run"
    for attempt in (lambda: train(data, out, *call), lambda: main(["train", "--resume", str(out)])):
        capsys.readouterr()
        assert attempt() == 2
        [line] = lines_of(capsys)
        assert re.search(rf"{out}: cannot be written \(.*No space left.*train --resume {out}` continues", line)
        assert json.loads((last_checkpoint(out) / "state.json").read_text())["step"] == 4
    monkeypatch.undo()
    assert main(["train", "--resume", str(out)]) == 0 and train(data, tmp_path / "whole", *call) == 0
    for part in PARTS:
        one, two = weights(part(out)), weights(part(tmp_path / "whole"))
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("fault", [FULL, OSError(errno.EROFS, "Read-only file system")], ids=["full", "read-only"])
def test_disks_that_take_nothing(fault, data, run, tmp_path, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise fault

    own = shutil.copytree(run, tmp_path / "own")
    (tmp_path / "file").write_text("mine")
    predict_to = ["predict", "--run", str(run), "--data", str(data / "dev.json"), "--out"]
    fails(capsys, train, data, tmp_path / "file", says="file: is a file, but a folder is needed; choose another --out")
    fails(capsys, main, [*predict_to, str(tmp_path / "file" / "r.json")], says="r.json: cannot be written .File exists")
    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    why = rf"cannot be written \({fault.strerror}\); "
    fails(capsys, train, data, tmp_path / "run", says=f"run: {why}choose another --out")
    fails(capsys, main, ["train", "--resume", str(own)], says=f"own: {why}fix that and resume again")
    fails(capsys, main, [*predict_to, str(tmp_path / "r.json")], says=f"r.json: {why}fix that, or choose another")
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["corpus", "--out", str(tmp_path / "corpus"), "--train=1", "--dev=1", "--test=1"]) == 2
    assert len(lines_of(capsys)) == 1


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, -1])
def test_torn_files(kept, data, run, tmp_path, capsys):
    """Cut anywhere, a file of a model, a checkpoint or a plan is named, and nothing is made of it."""
    predict_to = ["predict", "--run", str(tmp_path / "run"), "--data", str(data / "dev.json"), "--out", "result.json"]
    resume = ["train", "--resume", str(tmp_path / "run")]
    calls = {path: predict_to for path in (run / "model").iterdir() if path.suffix != ".md"} | {
        run / "run.json": resume
    }
    calls |= {path: resume for path in last_checkpoint(run).iterdir()}
    assert len(calls) == 6 + 1 + 8
    for path, call in calls.items():
        own = shutil.copytree(run, tmp_path / "run", dirs_exist_ok=True) / path.relative_to(run)
        content = own.read_bytes().rstrip()
        own.write_bytes(content[: int(kept if kept < 0 else kept * len(content))] if kept else b"")
        if path.name == "checksums.json":  # which comes last: without it there is no checkpoint
            assert last_checkpoint(tmp_path / "run") is None
            continue
        fails(capsys, main, call, says=rf"{own}: cut short or damaged \(.+\); copy it again .* or train again")
        own.unlink()
        if path.name == "card.json":  # which a model can do without
            continue
        fails(capsys, main, call, says=f"({own}|{own.parent}): .*([Nn]o such file|no model.json|no run.json)")
    (tmp_path / "run" / "model" / "model.safetensors").write_bytes(b"")
    (tmp_path / "in.jsonl").write_text("{}\n")
    call = ["extract", "--run", str(tmp_path / "run"), "--input", str(tmp_path / "in.jsonl"), "--out", "triples"]
    fails(capsys, main, call, says="run/model/model.safetensors: cut short or damaged")


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize(
    ("file", "values", "says"),
    [
        ("run.json", {"paper": "docunet"}, "last/0: a model with other paper than run.json"),
        ("run.json", {"encoder": "bert"}, "last/0: a model with other encoder than run.json"),
        ("run.json", {"relations": "few.json"}, "last/0: a model with other relations than run.json"),
        (
            "run.json",
            {"settings": {"pool": "mean", "width": "32"}},
            "last/0: a model with other .*pool.*width.* than run",
        ),
        ("run.json", {"seed": 1}, "last/0: this run had other settings"),
        ("last/0/state.json", {"run": {}}, "last/0: this run had other settings, model"),
        ("last/0/state.json", {"step": "x"}, "last/0: cannot resume from this checkpoint"),
        ("last/0/state.json", {"more": 1}, "last/0: cannot resume from this checkpoint .*more"),
        ("last/0/model.json", {"paper": "docunet"}, "last/0: its model cannot be built here .loss is one of"),
        ("last/0/model.json", {"relations": ["NA", "r"]}, "model.safetensors does not belong to .*size mismatch"),
        ("last/0/model.json", {"options": {"later": 1}}, "last/0: its model cannot be built here .*later"),
        ("last/0/model.json", {"reading": {"marker": "stars"}}, "its model cannot be built here .marker is one of"),
        (
            "last/0/model.json",
            {"reading": {"window": -5}},
            "its model cannot be built here .window is a number from 1",
        ),
        ("last/0/model.json", {"options": {"top": 0.5}}, "its model cannot be built here .top is a whole number"),
        ("last/0/tiny.json", {"dropout": float("nan")}, "its model cannot be built here .dropout is a number"),
        ("last/0/model.json", {"types": 3}, "last/0: its model cannot be built here"),
        ("last/0/model.json", {"encoder": "pretrained"}, "config.json: cannot be read .No such file"),
        ("last/0/tiny.json", {"width": 32}, "does not belong to the model that model.json .*size mismatch"),
        ("last/0/tiny.json", {"width": "x"}, "last/0: its model cannot be built here"),
    ],
)
def test_checkpoints_of_something_else(file, values, says, run, tmp_path, capsys):
    own = shutil.copytree(run, tmp_path / "run")
    (tmp_path / "few.json").write_text(json.dumps({"NA": 0, "s": 1, "q": 2, "r": 3, "more": 4}))
    if "relations" in values and file == "run.json":
        values = {"relations": str(tmp_path / "few.json")}
    change(own / file, **values)
    if file != "run.json":
        seal(own / "last" / "0", 1)  # it was saved so
    before = {p: p.read_bytes() for p in own.rglob("*") if p.is_file()}
    fails(capsys, main, ["train", "--resume", str(own)], says=says)
    assert {p: p.read_bytes() for p in own.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(("key", "value"), [("threads", {}), ("threads", True), ("pairs", "x"), ("lenient", 1)])
def test_fields_of_a_run_have_their_types(key, value, run, tmp_path, capsys):
    own = Path(shutil.copytree(run, tmp_path / "run"))
    plan = json.loads((own / "run.json").read_text())
    (own / "run.json").write_text(json.dumps(plan | {key: value}))
    assert main(["train", "--resume", str(own)]) == 2
    assert f"run.json: {key} is '{value}'" in capsys.readouterr().err


def test_resume_takes_no_other_arguments(run, capsys):
    call = ["train", "--resume", str(run), "--threads=1", "--paper=atlop", "--set=epochs=9", "--seed=0"]
    fails(capsys, main, call, says="original arguments; leave out --paper and --seed and --set$")


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A folder with an encoder as the hub has them."""
    folder = tmp_path_factory.mktemp("encoders") / "bert"
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=200, max_position_embeddings=600, **sizes)).save_pretrained(folder)
    tiny_tokenizer(several(), 1).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json"),
        (lambda f: change(f / "config.json", model_type="gargoyle"), "gargoyle"),
        (
            lambda f: change(f / "config.json", hidden_size=24),
            "its weights do not match its config.json",
        ),
        (lambda f: change(f / "config.json", num_hidden_layers=2), "do not match .*encoder.layer.1"),
        (lambda f: (f / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "a file is cut short or damaged, .*header"),
        (lambda f: os.truncate(f / "model.safetensors", 999), "a file is cut short or damaged, .*header"),
        (lambda f: os.truncate(f / "config.json", 99), "config.json' is not a valid JSON file"),
        (lambda f: os.truncate(f / "tokenizer.json", 99), "a file is cut short or damaged"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
        (lambda f: shutil.rmtree(f), "there is no such folder"),
    ],
)
def test_wrong_encoders(damage, says, bert, data, tmp_path, capsys):
    damage(own := shutil.copytree(bert, tmp_path / "bert"))
    call = ["train", "--train", str(data / "train.json"), "--out", str(tmp_path / "run"), "--encoder", str(own)]
    expected = f"encoder '{own}' could not be loaded: .*{says}.*a folder with config.json, .*pickles are not read"
    capsys.readouterr()
    assert main(call) == 2
    [line] = lines_of(capsys)  # the library's own report of weights may stand before it
    assert re.search(expected, line) and not (tmp_path / "run").exists()


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def plant(folder: Path, proof: Path) -> None:
    """All that a stranger could put beside a model to have it run: modules that its files name, and pickles."""
    (folder / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Model: pass\n")
    places = {"config.json": ("AutoConfig", "AutoModel"), "tokenizer_config.json": ("AutoTokenizer",)}
    for name, classes in places.items():
        if (folder / name).is_file():
            change(folder / name, auto_map={c: ["evil.Model"] * 2 if "Tok" in c else "evil.Model" for c in classes})
    for name in ("pytorch_model.bin", "training.bin", "optimizer.pt", "training_args.bin"):
        torch.save(Payload(proof), folder / name)


@pytest.mark.parametrize("kind", ["bert", "gargoyle", None])
def test_a_stranger_runs_no_code(kind, bert, data, run, tmp_path, capsys, monkeypatch):
    """Neither from a model, nor a checkpoint, nor an encoder, with weights or only a pickle; nor is anyone asked."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    proof, own = tmp_path / "proof", shutil.copytree(run, tmp_path / "run")
    encoder, model = shutil.copytree(bert, tmp_path / "encoder"), tmp_path / "model"
    build("atlop", read(data / "train.json"), str(bert), block=4).save(model)
    slot = last_checkpoint(own)
    for folder in (slot, own / "model", encoder, model):
        plant(folder, proof)
        if kind and (folder / "config.json").is_file():
            change(folder / "config.json", model_type=kind)
    seal(slot, 1)
    if kind is None:
        (encoder / "model.safetensors").unlink()
    for folder in (own, model):
        main(["predict", "--run", str(folder), "--data", str(data / "dev.json"), "--out", str(tmp_path / "r.json")])
    main(["train", "--resume", str(own)])
    call = ["train", "--train", str(data / "train.json"), "--encoder", str(encoder), "--out", str(tmp_path / "new")]
    code = main([*call, "--recipe=tiny", "--epochs=1", "--limit=1", "--set=block=4"])
    assert code == (0 if kind == "bert" else 2) and not proof.exists()
    copy.copy(Payload(proof))
    assert proof.exists(), "the payload is none"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ([], "Missing command; see `docre-lite --help`"),
        (["nope"], "No such command 'nope'"),
        (["train", "--nope"], "No such option"),
        (["predict"], "Missing option '--run'; see `docre-lite predict --help`"),
        (["score"], "Missing option '--predictions'"),
        (["data"], "Missing command; see `docre-lite data --help`"),
        (["data", "info"], "Missing argument"),
        (["corpus"], "Missing option '--out'"),
        (["score", "--gold", "g", "--predictions", "p", "more"], "unexpected extra argument"),
    ],
)
def test_arguments_that_do_not_parse(call, says, capsys):
    fails(capsys, main, call, says=says)


def test_an_option_takes_what_the_shell_makes_of_a_pattern():
    given = parsed("extract --run r --input a b --out o --input c --set x=1".split())
    assert given["input"] == ["a", "b", "c"] and given["set"] == ["x=1"] and given["out"] == Path("o")
    assert parsed("bench speed --encoder tiny --entities 5 9 --tokens=128".split())["entities"] == [5, 9]


# Help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_defaults_and_an_example(command, capsys):
    assert main([*command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split()).replace("all- MiniLM", "all-MiniLM")  # where it breaks the line
    found = re.search(r"example: docre-lite (.*)", text)
    assert found and found[1].startswith(" ".join(command))
    parsed(found[1].split())  # the example is one
    assert "default: None" not in text and "default: False" not in text
    if command[0] in ("corpus", "predict", "extract"):
        assert "[default: " in text


def parsed(words: list[str]) -> dict:
    """What a command is given, without running it."""
    command, rest = typer.main.get_command(app), one_value_each(words)
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    return command.make_context("docre-lite", rest).params


def test_help_answers_at_once():
    """Nothing heavy is imported: torch alone would take a second."""
    code = "import sys; from docre_lite.cli.main import main; main(['train', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "pandas", "numpy", "pyarrow"} & set(done.stdout.split())


@pytest.mark.parametrize("name", sorted(_papers()))
def test_help_paper_lists_everything(name, capsys):
    assert main(["train", "--help-paper", name]) == 0
    text = capsys.readouterr().out
    kind = paper(name)
    names = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    settings = [f.name for r in (kind.Options, Reading, TrainConfig, TinyConfig) for f in dataclass_fields(r)]
    assert names == [*kind.recipes, *kind.variants, *settings]
    assert len(set(settings)) == len(settings) == len(fields(kind.Options, Reading, TrainConfig, TinyConfig))
    for record in (kind.Options, Reading, TrainConfig, TinyConfig):
        for f in dataclass_fields(record):
            assert f.metadata["help"] in text and f"default {f.default}" in text
    for variant in kind.variants.values():
        assert variant.help in text
        for key, value in variant.settings.items():
            assert f"{key}={value}" in text


def test_settings_with_one_name_are_refused():
    with pytest.raises(ValueError, match="two settings are named 'layers'"):
        fields(TinyConfig, TinyConfig)


def test_a_document_over_the_budget_stops_predict_and_train_before_they_begin(tmp_path, capsys):
    crowd = write_docred([made("small", 3), made("crowd", 12, sentences=9)], tmp_path / "crowd.json")
    said = 'document "crowd": 156 tokens, more than the budget of 100; raise it if memory allows'
    out = tmp_path / "result.json"
    assert main(["predict", "--run", "atlop", "--data", str(crowd), "--out", str(out), "--budget", "100"]) == 2
    assert said in " ".join(capsys.readouterr().err.split()) and not out.exists()
    run = ["train", "--train", str(crowd), "--out", str(tmp_path / "run"), "--set", "min_count=1"]
    assert main([*run, "--set", "largest=100"]) == 2
    assert said in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "run" / "model").exists()


def test_memory_that_is_refused_is_a_line(tmp_path, capsys, monkeypatch):
    data = write_docred([made("one", 3)], tmp_path / "one.json")
    call = ["predict", "--run", "atlop", "--data", str(data), "--out", str(tmp_path / "result.json")]
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError("bad_alloc")):
        monkeypatch.setattr(DocRE, "features", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert main(call) == 2
        line = capsys.readouterr().err
        assert 'document "one": needs more memory than there is' in line and line.count("\n") == 1
    monkeypatch.setattr(DocRE, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    assert main(call) == 2 and "needs more memory than there is (MemoryError)" in capsys.readouterr().err


# Places


def test_folders_on_a_larger_disk_are_links_that_stay(data, tmp_path, capsys):
    """Before they are filled and after, at every resume; and the result is that of a run without links."""
    out, disk = tmp_path / "run", tmp_path / "disk"
    out.mkdir()
    (disk / "last").mkdir(parents=True)
    for name in ("model", "last"):
        (out / name).symlink_to(disk / name)  # disk/model is yet to be made
    few = ["--epochs", 3, "--set=save_minutes=0"]
    assert train(data, out, *few) == 0
    (out / "last" / "0" / "checksums.json").write_text("")  # as if killed: it goes on from the slot before
    (out / "last" / "1" / "checksums.json").write_text("")
    assert main(["train", "--resume", str(out)]) == 0
    for name in ("model", "last"):
        assert (out / name).is_symlink() and (out / name).resolve() == (disk / name).resolve()
    assert not [p for p in [*out.iterdir(), *disk.iterdir()] if p.suffix in (".new", ".old")]
    assert train(data, tmp_path / "plain", *few) == 0
    one, two = weights(out / "model"), weights(tmp_path / "plain" / "model")
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_nothing_follows_a_planted_link(data, tmp_path, capsys):
    mine, out = tmp_path / "mine", tmp_path / "run"
    mine.mkdir()
    (mine / "file").write_text("mine")
    out.mkdir()
    (out / ".lock").symlink_to(mine / "file")
    (out / "model.new").symlink_to(mine)
    (out / "model.old").symlink_to(mine)
    (out / "last" / "1").mkdir(parents=True)
    (out / "last" / "1" / "model.json").symlink_to(mine / "file")
    (out / "last" / "0").symlink_to(mine)
    for name in ("run.json", "metrics.json"):
        (out / f".{name}.{os.getpid()}.tmp").symlink_to(mine / "file")
    assert train(data, out, "--epochs", 2, "--set=save_minutes=0") == 0
    assert [p.name for p in mine.iterdir()] == ["file"] and (mine / "file").read_text() == "mine"


def test_links_in_a_circle_and_odd_names_are_told(data, tmp_path, capsys):
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    fails(
        capsys, main, ["train", "--train", str(loop), "--out", str(tmp_path / "run")], says="loop.json: cannot be read"
    )
    odd = os.fsdecode(bytes(tmp_path) + b"/\xff.json")
    shutil.copy(data / "train.json", odd)
    says = r"\\udcff.json': this name is not UTF-8"
    fails(capsys, main, ["train", "--train", odd, "--out", str(tmp_path / "run")], says=says)
    fails(capsys, main, ["data", "info", odd], says=says)
    shutil.copy(data / "train.json", odd + "l")
    call = ["extract", "--run=atlop", "--input", str(tmp_path / "*.jsonl"), "--out", str(tmp_path / "out")]
    fails(capsys, main, call, says=r"\\udcff.jsonl': this file name is not UTF-8")


@pytest.mark.parametrize("command", ["predict", "page", "corpus", "table"])
def test_a_target_that_cannot_be_written_is_found_before_the_work(command, data, tmp_path, capsys, monkeypatch):
    def work(*_, **__):
        raise AssertionError("it has begun to work")

    for place in ("model.DocRE.load", "bench.tables.compare", "corpus.write"):
        monkeypatch.setattr(f"docre_lite.{place}", work)
    (tmp_path / "file").write_text("")
    calls = {
        "predict": ["predict", "--run=atlop", f"--data={data / 'dev.json'}", f"--out={tmp_path}/file/r.json"],
        "page": ["page", "--run=atlop", f"--out={tmp_path}/file/page.html"],
        "corpus": ["corpus", f"--out={tmp_path}/file"],
        "table": ["bench", "table", "cdr", f"--out={tmp_path}/file/t.md"],
    }
    fails(capsys, main, calls[command], says="cannot be written .*fix that, or choose another --out")


def test_a_full_disk_tears_no_file_of_a_saved_model(tmp_path, monkeypatch):
    old, new = tiny("atlop", several()), tiny("atlop", several(), layers=2)
    old.save(tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    real = os.fsync
    for allowed in range(12):
        left = [allowed]

        def full(fd, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise FULL
            real(fd)

        monkeypatch.setattr(os, "fsync", full)
        try:
            new.save(tmp_path / "model")
            break
        except OSError:
            found = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
            assert found == before or left[0] == -1 and DocRE.load(tmp_path / "model").encoder.config.layers == 2
    monkeypatch.undo()
    assert allowed > 4 and DocRE.load(tmp_path / "model").encoder.config.layers == 2
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"
