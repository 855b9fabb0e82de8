"""Models, plans and rows that lie: one line that names the file, exit code 2, before anything large is built."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import several, tiny
from transformers import BertConfig, BertModel

from docre_lite.bench.plans import plans
from docre_lite.bench.rows import RESULTS
from docre_lite.cli.main import main
from docre_lite.encoder import tiny_tokenizer
from docre_lite.formats.readers import write_docred
from docre_lite.model import build
from docre_lite.support.checkpoint import _seal

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
DEEP = "[" * 5000 + "]" * 5000
SIZES = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with documents, a tiny model, and a hub encoder, alone and in a model."""
    home = tmp_path_factory.mktemp("home")
    write_docred(several(), home / "data.json")
    tiny("docunet", several()).save(home / "tiny")
    words = tiny_tokenizer(several(), 1)
    words.save_pretrained(home / "bert")
    BertModel(BertConfig(vocab_size=len(words), **SIZES)).save_pretrained(home / "bert")
    build("atlop", several(), str(home / "bert"), block=4).save(home / "hub")
    return home


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(capsys, call: list, says: str) -> None:
    begin = time.perf_counter()
    assert main(list(map(str, call))) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("docre-lite: ")]
    assert says in line, line
    assert time.perf_counter() - begin < 20  # a billion layers would take hours


def refuses(capsys, home: Path, model: Path, says: str, folder: Path) -> None:
    call = ["predict", "--run", model, "--data", home / "data.json", "--out", folder / "result.json"]
    refused(capsys, call, says)
    assert not (folder / "result.json").exists()


@pytest.mark.parametrize(
    ("model", "file", "values", "says"),
    [
        ("tiny", "tiny.json", {"layers": 10**9}, "1 layers, but tiny.json has 1000000000"),
        ("tiny", "tiny.json", {"width": 2**20}, "size mismatch"),
        ("tiny", "tiny.json", {"vocabulary": 10**9}, "size mismatch: embedding.weight"),
        ("tiny", "tiny.json", {"heads": 4}, "size mismatch: bias"),
        ("tiny", "tiny.json", {"vocabulary": "x"}, "cannot be built here"),
        ("tiny", "model.json", {"options": {"map_width": 10**6}}, "size mismatch"),
        ("tiny", "model.json", {"options": {"matrix_size": 10**9}}, "matrix_size is a number up to 1000"),
        ("tiny", "model.json", {"options": {"block": 7}}, "does not belong to the model"),
        ("tiny", "model.json", {"reading": {"marker": ["star"]}}, "marker is one of"),
        ("tiny", "model.json", {"encoder": "other"}, "encoder is 'tiny' or 'pretrained'"),
        ("tiny", "model.json", {"relations": ["NA", 1, 2, 3]}, "1 is no name of a relation"),
        ("tiny", "model.json", {"labels": []}, "labels is not a dict"),
        ("hub", "config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000, but there are"),
        ("hub", "config.json", {"hidden_size": 2**20}, "size mismatch"),
        ("hub", "config.json", {"intermediate_size": 10**9}, "size mismatch"),
        ("hub", "config.json", {"vocab_size": 10**9}, "size mismatch"),
        ("bert", "config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000, but there are"),
        ("bert", "config.json", {"hidden_size": 2**18}, "weights, but there are"),
        ("bert", "config.json", {"vocab_size": 10**9}, "weights, but there are"),
    ],
)
def test_sizes_are_compared_with_the_weights_before_anything_is_built(
    model, file, values, says, home, tmp_path, capsys
):
    own = shutil.copytree(home / model, tmp_path / model)
    change(own / file, **values)
    if model == "bert":
        call = ["train", "--encoder", own, "--train", home / "data.json", "--out", tmp_path / "run"]
        refused(capsys, call, says)
    else:
        refuses(capsys, home, own, says, tmp_path)


@pytest.mark.parametrize("which", ["one", "all"])
@pytest.mark.parametrize("how", ["nan", "inf", "-inf", "whole"])
@pytest.mark.parametrize("model", ["tiny", "hub"])
def test_weights_that_are_no_numbers_are_refused(model, how, which, home, tmp_path, capsys):
    own = shutil.copytree(home / model, tmp_path / model)
    weights = load_file(own / "model.safetensors")
    for name in sorted(weights)[: 1 if which == "one" else None]:
        if how == "whole":
            weights[name] = weights[name].to(torch.int64)
        else:
            weights[name] = weights[name].clone()
            weights[name].view(-1)[-1] = float(how)
    save_file(weights, own / "model.safetensors")
    refuses(capsys, home, own, "torch.int64" if how == "whole" else "numbers that are not finite", tmp_path)


def test_scores_that_overflow_are_told(home, tmp_path, capsys):
    own = shutil.copytree(home / "tiny", tmp_path / "tiny")
    weights = load_file(own / "model.safetensors")
    save_file(
        {name: w.clone().fill_(3e38) if "encoder" in name else w for name, w in weights.items()},
        own / "model.safetensors",
    )
    refuses(capsys, home, own, "the model's scores are not finite numbers", tmp_path)


def test_token_numbers_beyond_the_embedding_are_refused(home, tmp_path, capsys):
    own = shutil.copytree(home / "tiny", tmp_path / "tiny")
    told = json.loads((own / "tokenizer.json").read_text())
    told["model"]["vocab"][next(w for w in told["model"]["vocab"] if w.startswith("w"))] = 99_999
    (own / "tokenizer.json").write_text(json.dumps(told))
    refuses(capsys, home, own, "numbers tokens up to 99999, but the model has an embedding for", tmp_path)


@pytest.mark.parametrize("file", ["model.json", "tiny.json", "tokenizer.json", "tokenizer_config.json"])
def test_deep_json_in_models_and_plans_is_a_line(file, home, tmp_path, capsys):
    own = shutil.copytree(home / "tiny", tmp_path / "tiny")
    (own / file).write_text(f'{{"a": {DEEP}}}')
    refuses(capsys, home, own, f"{file}: JSON nested too deeply", tmp_path)
    (tmp_path / "plan.json").write_text(f'{{"runs": {DEEP}}}')
    refused(capsys, ["bench", "run", tmp_path / "plan.json", "--dry-run"], "plan.json: JSON nested too deeply")


@pytest.mark.parametrize(
    "told",
    [
        {"step": "1", "files": {"a": "b"}},
        {"step": True, "files": {"a": "b"}},
        {"step": 1, "files": {"a": 7}},
        {"step": 1, "files": {"../a": "b"}},
        {"step": 1, "files": []},
        {"step": 1, "files": {}},
        [],
    ],
)
def test_a_seal_of_wrong_types_is_none(told, tmp_path):
    (tmp_path / "checksums.json").write_text(json.dumps(told))
    assert _seal(tmp_path) is None
    (tmp_path / "checksums.json").write_text(DEEP)
    assert _seal(tmp_path) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("f1", "x"), ("f1", float("nan")), ("by_document", {"gold": "abc"}), ("by_document", {"a": [1], "b": [1, 2]})],
)
def test_rows_that_lie_are_told(field, value, tmp_path, capsys):
    told = json.loads(plans()["cdr"].read_text())["results"]
    for path in RESULTS.glob(told.replace("{paper}", "*").replace("{data}", "*") + ".json"):
        rows = json.loads(path.read_text())
        for row in rows:
            row["dev"][field] = value
        (tmp_path / path.name).write_text(json.dumps(rows))
    refused(capsys, ["bench", "table", "cdr", "--results", tmp_path], f"dev.{field} is ")
