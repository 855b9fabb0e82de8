"""Models that travel: what a run records, its card, and the way to a hub on this machine and back."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from small import made, several, tiny

from docre_lite.cli.main import main
from docre_lite.formats.readers import write_docred
from docre_lite.model import DocRE, load, trained
from docre_lite.scale import graph
from docre_lite.support import hub
from docre_lite.train import TrainConfig, fit


class Hub(ThreadingHTTPServer):
    """A hub of models in memory: commits that hold all files, as bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: dict[str, dict[str, dict[str, bytes]]] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args):
        pass

    def say(self, content, status=200, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def lacks(self, what: str):
        self.say({"error": what}, 404, X_Error_Code=what)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer secret":
            return self.say({"error": "Invalid user token."}, 401)
        if self.path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}"
            self.server.models.setdefault(name, {})
            return self.say({"url": f"{self.server.address}/{name}", "name": name, "id": name})
        if self.path == "/api/validate-yaml":
            return self.say({"errors": [], "warnings": []})
        name, what = re.match(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path).groups()
        if what == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.say({"files": files})
        rows = [json.loads(line) for line in body.splitlines()]
        files = {r["value"]["path"]: base64.b64decode(r["value"]["content"]) for r in rows if r["key"] == "file"}
        revision = hashlib.sha1(body).hexdigest()
        self.server.models[name][revision] = files
        self.say(
            {"success": True, "commitOid": revision, "commitUrl": f"{self.server.address}/{name}/commit/{revision}"}
        )

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        found = re.match(r"(?:/api/models)?/([^/]+/[^/]+)/(revision|tree|resolve)/([^/]+)/?(.*)", path)
        if not found:
            return self.lacks("EntryNotFound")
        name, what, revision, file = found.groups()
        if not (commits := self.server.models.get(name)):
            return self.lacks("RepoNotFound")
        revision = list(commits)[-1] if revision == "main" else revision
        if revision not in commits:
            return self.lacks("RevisionNotFound")
        files = commits[revision]
        if what == "revision":
            return self.say({"id": name, "sha": revision, "siblings": [{"rfilename": f} for f in files]})
        if what == "tree":
            rows = [
                {"type": "file", "path": f, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for f, c in files.items()
            ]
            return self.say(rows)
        if file not in files:
            return self.lacks("EntryNotFound")
        etag = f'"{hashlib.sha1(files[file]).hexdigest()}"'
        self.say(files[file], ETag=etag, X_Repo_Commit=revision)


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    """A hub on this machine, reached by the hub library as if it were the real one; its cache is empty."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "secret")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


def same(one: DocRE, two: DocRE) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return one.spec() == two.spec() and a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("travel")
    for name, count in {"my train": 8, "my dev": 3}.items():
        write_docred([made(f"{name} {i}", 3, sentences=2, words=9) for i in range(count)], folder / f"{name}.json")
    sizes = "layers=1 width=16 heads=2 min_count=1 batch_size=2 classifier_lr=0.02".split()
    call = ["train", "--train", str(folder / "my train.json"), "--dev", str(folder / "my dev.json"), "--epochs", "6"]
    assert main([*call, "--out", str(folder / "run"), "--threads", "1", *(f"--set={s}" for s in sizes)]) == 0
    return folder / "run"


# What a run records


def test_a_run_records_what_it_was(run):
    metrics, card = (json.loads((run / name).read_text()) for name in ("metrics.json", "model/card.json"))
    best = max(metrics["history"], key=lambda row: row["dev"]["f1"])
    assert metrics["best_epoch"] == card["epoch"] == best["epoch"] and card["dev"] == best["dev"]
    for told in (metrics, card):
        settings = told["settings"]
        assert (
            settings["batch_size"] == 2 and settings["block"] == 16 and settings["window"] == 512
        )  # from --set, recipe
        assert settings["layers"] == 1 and settings["warmup"] == TrainConfig().warmup and told["precision"] == "fp32"
        assert told["files"] == {"train": "my train.json", "dev": "my dev.json"} and told["encoder"] == "tiny"
        assert {"docre_lite", "torch", "transformers", "safetensors"} <= told["environment"].keys()
    assert json.loads((run / "run.json").read_text())["threads"] == 1


def test_a_card_describes_the_run_without_its_paths(run):
    text = (run / "model" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["library_name"] == "docre_lite" and head["license"] == "other" and "atlop" in head["tags"]
    card = json.loads((run / "model" / "card.json").read_text())
    for part in ("my train.json", f"{100 * card['dev']['f1']:.2f}", "batch_size = 2", "**not stated**", "torch 2"):
        assert part in body, part
    for file in (run / "model").iterdir():
        assert str(run.parent).encode() not in file.read_bytes(), file


def test_a_card_is_of_these_very_weights(tmp_path):
    """Between epochs none is known; without a licence it is not stated; a paper's own model has one too."""
    model, documents = tiny("atlop", several()), several()
    steps = fit(model, documents, documents, TrainConfig(epochs=2, batch_size=2))
    assert [(step.step, model.about.get("epoch")) for step in steps] == [(1, None), (2, 1), (3, None), (4, 2)]
    model.save(tmp_path / "mine", license="mit")
    assert load(tmp_path / "mine").about == json.loads(json.dumps(model.about))
    text = (tmp_path / "mine" / "README.md").read_text()
    assert "license: mit" in text and "(file not recorded)" in text
    assert "Not recorded" in str(load("paee").generate_model_card())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_mode_that_umask_gives(mask, mode, tmp_path, monkeypatch):
    before = os.umask(mask)
    try:
        for _ in fit(tiny("atlop", several()), several(), (), TrainConfig(epochs=1, batch_size=2), tmp_path / "run"):
            pass
    finally:
        os.umask(before)
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert {p.name for p in files} >= {"model.safetensors", "training.safetensors", "metrics.json", "README.md"}
    assert {p.name: p.stat().st_mode & 0o777 for p in files} == {p.name: mode for p in files}


# To the hub and back


def test_pushed_and_loaded(run, shelf, tmp_path, capsys, recwarn):
    assert main(["push", "--run", str(run), "--to", "ada/notes", "--license", "mit"]) == 0
    told = json.loads(capsys.readouterr().out)
    [(revision, files)] = shelf.models["ada/notes"].items()
    assert told["revision"] == revision
    assert {"README.md", "card.json", "model.json", "model.safetensors", "tiny.json", "tokenizer.json"} < files.keys()
    card = files["README.md"].decode()
    assert "license: mit" in card and 'load("ada/notes")' in card and str(run.parent) not in card

    shelf.models["ada/notes"][revision]["run_me.py"] = b"raise SystemExit"
    mine = load(run / "model")
    assert same(DocRE.load("ada/notes", revision=revision), mine) and not recwarn.list
    assert same(load(f"ada/notes@{revision}"), mine) and load("ada/notes@" + revision).about["license"] == "mit"
    assert not any("run_me" in path for path in shelf.asked)
    assert same(DocRE.from_pretrained("ada/notes", revision=revision), mine)

    data, out = str(run.parent / "my dev.json"), tmp_path / "result.json"
    assert main(["predict", "--run", "ada/notes", "--data", data, "--out", str(out)]) == 0
    assert f'took its newest revision; to get the same one again, give revision="{revision}"' in capsys.readouterr().err
    assert main(["predict", "--run", str(run), "--data", data, "--out", str(tmp_path / "own.json")]) == 0
    assert out.read_bytes() == (tmp_path / "own.json").read_bytes()


def test_what_the_hub_lacks_is_a_line(shelf, monkeypatch, tmp_path):
    shelf.models["ada/other"] = {"a" * 40: {"config.json": b"{}"}}
    for name, says in {
        "ada/none": "'ada/none' is no folder here, and could not be fetched: no such model, or it is private; give",
        "ada/other@b1": "could not be fetched: no such revision",
        "ada/other@" + "a" * 40: "'ada/other' has no model.json: it was not saved by docre_lite",
    }.items():
        with pytest.raises(ValueError, match=says) as error:
            load(name)
        assert "\n" not in str(error.value)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(ValueError, match="'ada/mine' could not be pushed: .*Invalid user token.*hf auth login"):
        tiny("atlop", several()).push_to_hub("ada/mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="the hub cannot be reached, and it is not in the cache; give a folder"):
        load("ada/none")


def test_folders_come_before_the_hub(run, shelf, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert load("run/model").about and not shelf.asked
    with pytest.raises(ValueError, match="no model.json here"):
        load("run/models")  # a slip in a path
    assert not shelf.asked and hub.parsed("run/models") is None and hub.parsed("atlop") is None
    with pytest.raises(ValueError, match="revision=main is for models of the hub, and this is a folder"):
        load("run/model", revision="main")
    assert trained() and load("atlop", revision=None).classifier.name == "atlop"


def test_a_model_takes_an_encoder_from_beside_it_only(tmp_path):
    model = tiny("atlop", several())
    model.save(tmp_path / "a" / "whole")
    for place, well in (("a/near", True), ("b/far", False)):
        model.save(tmp_path / place, shares="../whole" if well else "../../a/whole")
        if well:
            assert same(load(tmp_path / place), model)
        else:
            with pytest.raises(ValueError, match="shares an encoder that is not beside it"):
                load(tmp_path / place)


# A graph for servers without torch


def test_what_cannot_be_exported_is_a_line(tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "--run", "atlop", "--out", out]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "pip install 'docre_lite[onnx]'" in line
    monkeypatch.undo()
    monkeypatch.setattr(graph, "libraries", lambda: (None, None))
    for run, says in {
        "paee": "paee cannot be exported to ONNX: its hard attention cuts as many patches as the data ask for",
        "atlop": "export needs two documents with different numbers of entities and at most 512 tokens",
    }.items():
        documents = write_docred(several()[:1], tmp_path / "one.json")
        assert main(["export", "--run", run, "--out", out, "--data", str(documents)]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert says in line
    with pytest.raises(ValueError, match="dre_mir draws at prediction with these settings"):
        graph.export(tiny("dre_mir", several(), test_mask_rate=0.2), out)
    assert not Path(out).exists()


def test_a_dense_form_gives_the_logits_of_the_sparse_one(monkeypatch):
    """What a graph computes, in torch: every paper that can be exported, on documents of different size."""
    for name in ("atlop", "docunet", "dre_mir", "docre_ii"):
        model, given = tiny(name, several()), {}
        for some in ([several()[2]], several()):
            given = graph.inputs(model.tokenizer, some)
            with torch.no_grad():
                expected = model(model.batch(some)).logits
                for module in ("ops", "layers", "encoder", "papers.docre_ii"):
                    monkeypatch.setattr(f"docre_lite.{module}.exporting", lambda: True)
                found = graph._Logits(model)(**given)
                monkeypatch.undo()
            torch.testing.assert_close(found[given["mask"]], expected[given["mask"]], atol=1e-5, rtol=1e-5)


def test_exported_and_compared(tmp_path):
    """In a process of its own, where calls are not checked: the exporter cannot follow those checks."""
    pytest.importorskip("onnxscript", reason="no ONNX here: pip install 'docre_lite[onnx]' (120 MB)")
    runtime = pytest.importorskip("onnxruntime", reason="no ONNX here: pip install 'docre_lite[onnx]' (120 MB)")
    model, documents = tiny("atlop", several()), [*several(), made("five", 6, sentences=5)]
    model.save(tmp_path / "model")
    write_docred(documents, tmp_path / "documents.json")
    call = ["export", "--run", "model", "--out", "model.onnx", "--data", "documents.json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", "docre_lite", *call], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["difference"] < 1e-5 and told["flipped"] == 0 and told["documents"] == 5
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    spec = json.loads(session.get_modelmeta().custom_metadata_map["docre_lite"])
    assert spec == json.loads(json.dumps(model.spec()))
    given = graph.inputs(model.tokenizer, documents[-1:])
    (logits,) = session.run(None, {e.name: given[e.name].numpy() for e in session.get_inputs()})
    with torch.no_grad():
        assert (model(model.batch(documents[-1:])).logits - torch.from_numpy(logits)).abs().max() < 1e-5
    worse = tiny("atlop", several())
    worse.classifier.bilinear.bilinear.bias.data[1] += 1
    found = graph.compared(worse, (tmp_path / "model.onnx").read_bytes(), documents)
    assert found["difference"] > 0.9 and found["flipped"]
