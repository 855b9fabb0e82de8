"""Plans, their rows, what is done and what goes on, and tables: with models that train in a second."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from small import made

from docre_lite.bench import plans, rows, runs, tables
from docre_lite.bench.training import check_settings
from docre_lite.cli.main import main
from docre_lite.evaluate import score, seen_facts
from docre_lite.formats.readers import read, write_docred
from docre_lite.model import DocRE, paper
from docre_lite.predict import predict
from docre_lite.support import DataError
from docre_lite.support.machine import settled
from docre_lite.support.store import alone
from docre_lite.train import configure, last_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SETTINGS = {"layers": 1, "width": 16, "heads": 2, "min_count": 1, "batch_size": 2, "classifier_lr": "0.02", "epochs": 4}
DATA = {
    "about": "made: 8 documents for training, 3 for dev",
    "train": {"file": "all", "first": 8},
    "dev": {"file": "all", "last": 3},
}


def told(**more) -> dict:
    """A plan of ATLOP and one ablation on a file of 12 documents."""
    runs = {"papers": ["atlop"], "variants": ["atlop", "no_context"], "data": "made", "encoder": "tiny"}
    runs |= {"recipe": "tiny", "seeds": [0, 1], "settings": SETTINGS}
    plan = {"about": "for tests", "device": "cpu", "threads": 1, "results": "made_{paper}"}
    return {**plan, "paths": {"all": "nowhere.json"}, "data": {"made": DATA}, "runs": [runs], **more}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with small.json (the plan) and all.json (its documents); trainings stay in this process."""
    write_docred([made(f"document {i}", 3, sentences=2, words=9) for i in range(12)], tmp_path / "all.json")
    (tmp_path / "small.json").write_text(json.dumps(told()))
    monkeypatch.setattr(runs, "launch", lambda arguments, environment: main(list(arguments)))
    return tmp_path


def bench_run(place: Path, *more) -> int:
    where = ["--out", place / "runs", "--results", place / "results", "--data", f"all={place / 'all.json'}"]
    return main(["bench", "run", *map(str, [place / "small.json", *where, *more])])


def bench_table(place: Path, *more) -> int:
    return main(["bench", "table", *map(str, [place / "small.json", "--results", place / "results", *more])])


def kept(place: Path) -> list[dict]:
    return json.loads((place / "results" / "made_atlop.json").read_text())


def fails(capsys, call, *arguments, says: str, before: str = "") -> None:
    """One line at the end, and where runs fail by themselves a line of each before it."""
    capsys.readouterr()
    assert call(*arguments) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.strip()]
    assert len(lines) == 1 and re.search(says, lines[0]), lines
    assert re.search(before, shown.out), shown.out


# Running


def test_rows_hold_what_the_model_scores(place, capsys):
    assert bench_run(place, "--only", "variant=atlop,seed=1") == 0
    [row] = kept(place)
    told_ = {key: row[key] for key in ("paper", "variant", "seed", "recipe", "encoder", "data", "train", "epochs")}
    assert told_ == {
        "paper": "atlop",
        "variant": "atlop",
        "seed": 1,
        "recipe": "tiny",
        "encoder": "tiny",
        "data": DATA["about"],
        "train": 8,
        "epochs": 4,
    }
    assert row["settings"] == SETTINGS and len(row["curve"]) == 4 and row["environment"]["torch"]
    assert min(row[key] for key in ("seconds", "peak_memory_gb", "parameters")) > 0 and "cpu_seconds" in row
    documents = read(place / "all.json")
    folder = place / "runs" / "small" / "made-tiny-atlop-atlop-1"
    left = [".bench.lock", ".lock", "cpu_seconds.json", "metrics.json", "model", "run.json"]
    assert sorted(path.name for path in folder.iterdir()) == left
    expected = score(predict(DocRE.load(folder / "model"), documents[-3:]), documents[-3:], seen_facts(documents[:8]))
    assert {k: v for k, v in expected.to_dict().items() if k != "by_relation"}.items() <= row["dev"].items()
    history = json.loads((folder / "metrics.json").read_text())["history"]
    assert row["dev"]["f1"] == history[row["best_epoch"] - 1]["dev"]["f1"] == max(h["dev"]["f1"] for h in history) > 0
    counts = row["dev"]["by_document"]
    assert {name: sum(values) for name, values in counts.items() if name in ("gold", "predicted", "correct")} == {
        name: row["dev"][name] for name in ("gold", "predicted", "correct")
    }
    assert all(len(values) == 3 for values in counts.values())
    assert sum(r["gold"] for r in row["dev"]["by_frequency"]) == expected.gold
    assert row["documents"]["train"]["documents"] == 8 and row["documents"]["dev"]["triples"] == expected.gold


def test_what_is_done_is_not_done_again(place, capsys, monkeypatch):
    assert bench_run(place, "--only", "seed=0,variant=atlop") == 0
    before = kept(place)
    capsys.readouterr()
    assert bench_run(place, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "made-tiny-atlop-atlop-0: done" and lines[1] == "made-tiny-atlop-atlop-1: to run"
    assert lines[-1] == "1 of 4 runs of small are done"
    calls = []
    monkeypatch.setattr(runs, "launch", lambda arguments, environment: calls.append(arguments) or 2)
    assert bench_run(place, "--only", "seed=0,variant=atlop") == 0 and calls == []
    fails(capsys, bench_run, place, says="3 of 3 runs failed, see above: .*atlop-1, .*no_context-0, .*no_context-1")
    assert kept(place) == before
    variants = [[a for a in arguments if "variant" in a] for arguments in calls]
    assert variants == [[], ["--set=variant=no_context"], ["--set=variant=no_context"]]


def test_several_share_a_plan(place, capsys, monkeypatch):
    """A run that another process is at is left to it, and so is one that it has finished meanwhile."""
    calls, folder = [], place / "runs" / "small"

    def launch(arguments, environment):
        calls.append(arguments)
        finished = row("no_context", 0, GOOD)
        rows.keep(place / "results" / "made_atlop.json", finished)
        return 2

    monkeypatch.setattr(runs, "launch", launch)
    with alone(folder / "made-tiny-atlop-atlop-1", name=".bench.lock"):
        fails(capsys, bench_run, place, says="runs failed, see above: .*atlop-0, made-tiny-atlop-no_context-1$")
    assert [name for call in calls for name in call if "made-tiny" in name] == [
        str(folder / "made-tiny-atlop-atlop-0"),
        str(folder / "made-tiny-atlop-no_context-1"),
    ]


def test_an_old_row_is_replaced(place, capsys):
    """Rows of older scripts tell less of themselves, and hold no counts per document."""
    (place / "results").mkdir()
    old = {"paper": "atlop", "variant": "atlop", "seed": 0, "train": 8, "epochs": 4, "dev": {"f1": 0.5}}
    others = [{**old, "seed": 1}, {**old, "epochs": 9}]
    (place / "results" / "made_atlop.json").write_text(json.dumps([old, *others]))
    assert bench_run(place, "--dry-run") == 0
    assert "made-tiny-atlop-atlop-0: to run, stored without counts per document" in capsys.readouterr().out
    assert bench_run(place, "--only", "seed=0,variant=atlop") == 0
    assert rows.complete(kept(place)[0]) and kept(place)[1:] == others  # in its place
    with_text = {**kept(place)[0], "settings": {k: str(v) for k, v in SETTINGS.items()}}
    assert rows.same(with_text, kept(place)[0])
    assert not rows.same({**with_text, "settings": {}}, kept(place)[0])


def test_an_interrupted_run_goes_on(place, capsys, monkeypatch):
    assert bench_run(place, "--only", "seed=0,variant=atlop") == 0
    [whole] = kept(place)
    (place / "results" / "made_atlop.json").unlink()
    again = ["--only", "seed=0,variant=atlop", "--out", place / "again"]

    def stopped(arguments, environment):
        """Ctrl-C after the third of 16 steps."""
        from docre_lite import train

        advance, steps = train._Run.advance, []

        def once(self):
            steps.append(1)
            if len(steps) == 3:
                signal.raise_signal(signal.SIGINT)
            return advance(self)

        with monkeypatch.context() as patch:
            patch.setattr(train._Run, "advance", once)
            return main(list(arguments))

    launch = runs.launch
    monkeypatch.setattr(runs, "launch", stopped)
    assert bench_run(place, *again) == 130
    folder = place / "again" / "small" / "made-tiny-atlop-atlop-0"
    assert json.loads((last_checkpoint(folder) / "state.json").read_text())["step"] == 3
    monkeypatch.setattr(runs, "launch", launch)
    assert bench_run(place, *again) == 0
    [row] = kept(place)
    same = ("dev", "dev_last", "best_epoch", "documents")
    assert {key: row[key] for key in same} == {key: whole[key] for key in same}


def test_a_finished_run_is_taken_over(place, capsys, monkeypatch):
    """A row was lost, or the run was made by hand: its folder is scored, if it is the run that is meant."""
    assert bench_run(place, "--only", "seed=0,variant=atlop") == 0
    [whole] = kept(place)
    (place / "results" / "made_atlop.json").unlink()
    monkeypatch.setattr(runs, "launch", lambda *_: pytest.fail("nothing is to be trained"))
    assert bench_run(place, "--dry-run", "--only", "seed=0,variant=atlop") == 0
    assert "made-tiny-atlop-atlop-0: to score" in capsys.readouterr().out
    assert bench_run(place, "--only", "seed=0,variant=atlop") == 0
    assert kept(place) == [whole]
    folder = place / "runs" / "small"
    (folder / "made-tiny-atlop-atlop-0").rename(folder / "made-tiny-atlop-no_context-1")
    call = (place, "--only", "seed=1,variant=no_context")
    why = "no_context-1: this run had other seed, settings; move it away"
    fails(capsys, bench_run, *call, says="1 of 1 runs failed, see above: made-tiny-atlop-no_context-1", before=why)


def test_other_documents_are_noticed(place, capsys, monkeypatch):
    def half(arguments, environment):
        code = main(list(arguments))
        folder = Path(arguments[arguments.index("--out") + 1])
        history = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**history, "history": history["history"][:2]}))
        return code or 130

    monkeypatch.setattr(runs, "launch", half)
    only = ("--only", "seed=0,variant=atlop")
    assert bench_run(place, *only) == 130
    assert bench_run(place, "--dry-run", *only) == 0
    assert "to resume after epoch 2 of 4" in capsys.readouterr().out
    write_docred([made(f"document {i}", 4, sentences=2) for i in range(12)], place / "all.json")
    why = "had other training documents, development documents"
    fails(capsys, bench_run, place, *only, says="1 of 1 runs failed", before=why)


def test_another_encoder_is_noticed(place, tmp_path):
    """By what its folder holds: where it lies may change, and one that is gone is known by its name."""
    for name, weights in (("bert", b"one"), ("moved", b"one"), ("other", b"two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    bert, moved, other = (str(tmp_path / name) for name in ("bert", "moved", "other"))
    assert runs._same_encoder(bert, bert) and runs._same_encoder(bert, moved)
    assert not runs._same_encoder(bert, other) and not runs._same_encoder("tiny", other)
    assert runs._same_encoder("/gone/bert", bert) and not runs._same_encoder("/gone/bert", other)
    assert runs._same_encoder("team/bert", "team/bert") and not runs._same_encoder("team/bert", "team/roberta")
    assert bench_run(place, "--only", "seed=0,variant=atlop") == 0
    plan, out = plans.load(place / "small.json"), place / "runs" / "small" / "made-tiny-atlop-atlop-0"
    files = runs.splits(plan, "made", {"all": str(place / "all.json")}, place / "data")
    runs.check(plan.runs[0], files, "tiny", out)
    with pytest.raises(ValueError, match="atlop-0: this run had other encoder; move it away"):
        runs.check(plan.runs[0], files, other, out)


def test_a_bad_run_does_not_hold_up_the_others(place, capsys):
    assert bench_run(place, "--only", "variant=atlop") == 0
    (place / "results" / "made_atlop.json").unlink()
    weights = place / "runs" / "small" / "made-tiny-atlop-atlop-0" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    only = ("--only", "variant=atlop")
    fails(capsys, bench_run, place, *only, says="1 of 2 runs failed, see above: .*-0$", before="model.safetensors")
    assert [row["seed"] for row in kept(place)] == [1]


def test_a_split_that_a_plan_gains_is_scored(place, capsys):
    only = ("--only", "seed=0,variant=atlop")
    assert bench_run(place, *only) == 0
    plan = told()
    plan["data"]["made"]["test"] = {"file": "all", "first": 2}
    (place / "small.json").write_text(json.dumps(plan))
    assert bench_run(place, "--dry-run", *only) == 0
    assert "atlop-0: to score, stored without counts per document on test\n" in capsys.readouterr().out
    assert bench_run(place, *only) == 0
    [row] = kept(place)
    assert row["test"]["documents"] == 2 and row["dev"]["documents"] == 3
    assert bench_run(place, "--dry-run", *only) == 0 and "atlop-0: done" in capsys.readouterr().out


@pytest.mark.parametrize("content", ['[{"paper"', '{"paper": 1}', "[1]"])
def test_damaged_results_are_named(tmp_path, content):
    (path := tmp_path / "mine_atlop.json").write_text(content)
    with pytest.raises(DataError, match="mine_atlop.json: not .*; restore it, or move it away"):
        rows.stored(path)


def test_a_plan_for_a_cpu_is_scored_as_it_is_trained(monkeypatch):
    """A GPU beside it changes nothing: bf16 is for what calculates there."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    config, _ = configure("atlop", "tiny")
    assert [settled(config.precision, torch.device(kind)) for kind in ("cuda", "cpu")] == ["bf16", "fp32"]
    assert settled("bf16", torch.device("cpu")) == "bf16"


def test_a_gpu_that_emulates_bf16_calculates_in_fp32(monkeypatch):
    """A T4 says that it supports bf16. It is slow with it, and has no convolutions in it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert [settled(kind, torch.device("cuda")) for kind in ("auto", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    with pytest.raises(ValueError, match="no precision 'fp8'; have auto, fp32, bf16, fp16"):
        settled("fp8", torch.device("cuda"))


def test_the_embedded_corpus_and_its_splits(place, capsys):
    sizes = {"train": 4, "dev": 2, "test": 2, "counterfactual": 1}
    plan = told(data={"made": {"about": "Embedded corpus: few", "corpus": sizes}})
    plan["runs"][0] |= {"seeds": [0], "variants": None, "settings": {**SETTINGS, "epochs": 1}}
    (place / "small.json").write_text(json.dumps(plan))
    assert bench_run(place) == 0
    [row] = kept(place)
    assert row["train"] == 4 and row["test"]["documents"] == 2 and row["counterfactual"]["documents"] == 1
    assert row["test"]["composed_recall_by_depth"].keys() >= {"1"}, "depths survive the file"


def test_a_split_of_several_parts(place):
    """Training documents of one file and some of another are joined, in that order."""
    parts = [{"file": "all", "last": 2}, {"file": "all", "first": 3}]
    plan = told(data={"made": {**DATA, "train": parts}})
    plan["runs"][0] |= {"seeds": [0], "variants": None, "settings": {**SETTINGS, "epochs": 1}}
    (place / "small.json").write_text(json.dumps(plan))
    assert bench_run(place) == 0
    documents, [row] = read(place / "all.json"), kept(place)
    assert read(place / "runs" / "small" / "data" / "made-train.json") == [*documents[-2:], *documents[:3]]
    assert row["train"] == row["documents"]["train"]["documents"] == 5
    assert row["documents"]["dev"]["pairs"] == 3 * 3 * 2, "of three entities each"
    loaded = plans.load(place / "small.json")
    assert rows.same(row, loaded.identity(loaded.runs[0]))
    plan["data"]["made"]["train"] = [{"file": "all", "first": 2}, {"file": "all", "first": 3}]
    (place / "small.json").write_text(json.dumps(plan))
    assert plans.load(place / "small.json").identity(loaded.runs[0])["train"] == 5, "known before the files are read"


ABSTRACT = """{id}|t|Mira causes pain.
{id}|a|Mira causes sharp pain.
{id}\t0\t4\tMira\tChemical\tC1
{id}\t12\t16\tpain\tDisease\tD1
{id}\t18\t22\tMira\tChemical\tC1
{id}\t30\t40\tsharp pain\tDisease\tD2
{id}\tCID\tC1\tD2

"""


def test_a_split_without_hypernyms(tmp_path):
    """The same documents, of which one split lacks the pair with the more general disease."""
    (tmp_path / "all.txt").write_text("".join(ABSTRACT.format(id=i) for i in (1, 2)))
    (tmp_path / "mesh.json").write_text('{"D1": ["C23.1"], "D2": ["C23.1.5"]}')
    made = {"about": "abstracts", "train": {"file": "all"}}
    made["dev"] = {"file": "all", "read": {"pairs": "cdr"}, "last": 1}
    made["filtered"] = made["dev"] | {"hypernyms": "mesh"}
    files = {"all": "all.txt", "mesh": "mesh.json"}
    (tmp_path / "small.json").write_text(json.dumps(told(data={"made": made}, paths=files)))
    plan, paths = plans.load(tmp_path / "small.json"), {k: str(tmp_path / v) for k, v in files.items()}
    files = runs.splits(plan, "made", paths, tmp_path / "data")
    [plain], [filtered] = read(files["dev"]), read(files["filtered"])
    assert files["train"] == tmp_path / "all.txt" and plain.title == filtered.title == "2"
    assert (plain.candidates, filtered.candidates) == ({(0, 1), (0, 2)}, {(0, 2)})
    with pytest.raises(ValueError, match="elsewhere.json: no such file.*for filtered.*--data mesh=PATH"):
        runs.splits(plan, "made", paths | {"mesh": "elsewhere.json"}, tmp_path / "data")


CHILD = """#!{python} -IS
import json, os, signal, sys, time
def stop(number, _):
    told = dict(arguments=sys.argv[1:], number=number, group=os.getpgid(0), cuda=os.environ["CUDA_VISIBLE_DEVICES"])
    open({note!r}, "a").write(json.dumps(told) + "\\n")
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
open({note!r} + ".ready", "w").close()
time.sleep(60)
"""


def test_a_process_of_its_own_gets_the_signal(tmp_path, monkeypatch):
    """A signal to this process reaches the other one, once; a terminal's Ctrl-C would not reach it by itself."""
    note, script = tmp_path / "note", tmp_path / "python"
    script.write_text(CHILD.format(python=sys.executable, note=str(note)))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))

    def watch():
        while not note.with_suffix(".ready").is_file():
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    watcher, before = threading.Thread(target=watch), signal.getsignal(signal.SIGTERM)
    watcher.start()
    assert runs.launch(["train", "--seed", "1"], {"CUDA_VISIBLE_DEVICES": ""}) == 130
    watcher.join()
    [told_] = map(json.loads, note.read_text().splitlines())
    assert told_["arguments"] == ["-m", "docre_lite", "train", "--seed", "1"] and told_["number"] == signal.SIGTERM
    assert told_["group"] != os.getpgid(0) and told_["cuda"] == ""
    assert signal.getsignal(signal.SIGTERM) == before


# Plans


@pytest.mark.parametrize("name", plans.plans())
def test_stored_plans(name):
    plan = plans.load(name)
    assert plan.name == name and plan.about and len({run.name for run in plan.runs}) == len(plan.runs)
    for run in plan.runs:
        check_settings({"paper": run.paper, "settings": run.given})
        assert run.epochs and rows.state(plan, run, Path("nowhere"), Path("nowhere")) == "to run"
        assert run.encoder == "tiny" or run.encoder in plan.paths
        for split, parts in plan.data[run.data].items():
            if split not in ("about", "corpus"):
                named = [part[key] for part in plans.parts_of(parts) for key in ("file", "hypernyms") if key in part]
                assert named and set(named) <= plan.paths.keys()


def test_lite_is_every_paper_and_its_decisive_ablation_with_five_seeds_and_equal_budgets():
    runs = plans.load("lite").runs
    decisive = {"atlop": "no_context", "docunet": "no_unet", "paee": "no_eer", "docre_ii": "base"}
    decisive["dre_mir"] = "no_inference"
    for name, other in decisive.items():
        arms = {(run.variant, run.seed) for run in runs if run.paper == name}
        assert arms == {(variant, seed) for variant in (name, other) for seed in range(5)}
    assert {run.paper for run in runs} == decisive.keys() and {run.epochs for run in runs} == {12}


def test_published_is_every_recipe_but_the_tiny_one():
    found = {(run.paper, run.recipe) for run in plans.load("published").runs}
    papers = {name for name, _ in found}
    assert found == {(name, recipe) for name in papers for recipe in paper(name).recipes if recipe != "tiny"}
    assert all(not run.settings for run in plans.load("published").runs) and len(papers) == 5


@pytest.mark.parametrize("name", ["redocred-mini", "cdr"])
def test_plans_on_real_data_know_their_stored_rows(name, root):
    """Rows that were made before there were plans are those of seed 66."""
    plan = plans.load(name)
    for run in plan.runs:
        found = [
            r for r in rows.stored(plan.file(run, root / "benchmarks/results")) if rows.same(r, plan.identity(run))
        ]
        assert len(found) <= 1
        if run.seed == 66 and run.paper != "dre_mir":
            assert found, run.name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runs": []}, "a plan needs at least one run"),
        ({"nope": 1}, "nope"),
        ({"data": {}}, "no data 'made'; have"),
        ({"data": {"made": {"train": {}, "dev": {}}}}, "data 'made' needs about, and either train and dev, or corpus"),
        ({"device": "tpu"}, "as device cpu, gpu or null"),
        ({"runs": [{**told()["runs"][0], "nope": 1}]}, "runs have no field 'nope'"),
        ({"runs": [{**told()["runs"][0], "papers": ["nope"]}]}, "no paper 'nope'"),
        ({"runs": [{**told()["runs"][0], "variants": ["nope"]}]}, "atlop has no variant 'nope'"),
        ({"runs": [{**told()["runs"][0], "recipe": "nope"}]}, "atlop has no recipe 'nope'"),
        ({"runs": [{**told()["runs"][0], "settings": {"batch_size": 0}}]}, "batch_size is a number from 1"),
        ({"runs": told()["runs"] * 2}, "two runs are named made-tiny-atlop-atlop-0"),
        ({"results": "made_{papers}"}, "results takes {paper} and {data}, not 'papers'"),
        ({"data": {"made": DATA | {"train": {"file": "al"}}}}, "train of data 'made' refers to a path 'al'; have all"),
        ({"data": {"made": DATA | {"dev": {"file": "all", "hypernyms": "mesh"}}}}, "dev of .* a path 'mesh'; have all"),
        ({"data": {"made": DATA | {"train": "all"}}}, "train of data 'made' needs a part with a file, or a list"),
    ],
)
def test_faulty_plans(change, says, place, capsys):
    (place / "small.json").write_text(json.dumps(told(**change)))
    fails(capsys, bench_run, place, "--dry-run", says=f"small.json: .*{says}")


def test_faulty_arguments(place, capsys, monkeypatch):
    fails(capsys, main, ["bench", "run", "nope"], says="no plan nope; have .*lite")
    fails(capsys, bench_run, place, "--only", "paper", says="--only takes KEY=VALUE")
    fails(capsys, bench_run, place, "--only", "colour=red", says="with a key of paper, variant")
    fails(capsys, bench_run, place, "--only", "seed=9", says="no run of the plan matches 'seed=9'")
    fails(capsys, bench_run, place, "--data", "none=x", says="--data takes NAME=PATH with a name of all")
    call = (place, "--data", f"all={place / 'gone.json'}")
    fails(capsys, bench_run, *call, says="gone.json: no such file, which plan small needs for train; .*--data all=PATH")
    write_docred(read(place / "all.json")[:5], place / "few.json")
    call = (place, "--data", f"all={place / 'few.json'}")
    fails(capsys, bench_run, *call, says="few.json: holds 5 documents, but plan small asks for 8")
    (place / "small.json").write_text("{")
    fails(capsys, bench_run, place, says="small.json: ")
    (place / "small.json").write_text(json.dumps(told(device="gpu")))
    monkeypatch.setattr(runs.torch.cuda, "is_available", lambda: False)
    fails(capsys, bench_run, place, says="the plan small needs a GPU, and this machine has none")


# Tables


def row(variant: str, seed: int, counts: list[tuple[int, int, int]] | None, f1: float = 0.5, **more) -> dict:
    """A stored row with these counts of gold, predicted and correct triples in each document."""
    dev: dict = {"f1": f1}
    if counts:
        gold, predicted, correct = map(list, zip(*counts, strict=True))
        dev["by_document"] = {"gold": gold, "predicted": predicted, "correct": correct, "seen": [0] * len(gold)}
        dev["f1"] = 2 * sum(correct) / (sum(gold) + sum(predicted))
    identity = {"paper": "atlop", "variant": variant, "seed": seed, "data": DATA["about"], "encoder": "tiny"}
    identity |= {"recipe": "tiny", "settings": SETTINGS, "train": 8, "epochs": 4, "seconds": 90.0}
    return {**identity, "dev": dev, "documents": {"dev": {"checksum": "abc"}}, **more}


def table_of(place: Path, stored: list[dict], capsys, *more) -> tuple[str, list[dict]]:
    (place / "results").mkdir(exist_ok=True)
    (place / "results" / "made_atlop.json").write_text(json.dumps(stored))
    plan = told()
    plan["runs"][0]["seeds"] = [0, 1, 2, 3, 4]
    (place / "small.json").write_text(json.dumps(plan))
    files = [place / "table.md", place / "table.csv"]
    capsys.readouterr()
    assert bench_table(place, "--draws", "500", "--out", files[0], "--out", files[1], *more) == 0
    shown = capsys.readouterr().out
    assert shown == files[0].read_text()
    return shown, list(csv.DictReader(files[1].read_text().splitlines()))


GOOD = [(10, 10, 8)] * 5 + [(12, 10, 9)] * 5
BAD = [(10, 10, 5)] * 5 + [(12, 10, 6)] * 5


def test_a_table_by_hand(place, capsys):
    stored = [row("atlop", s, GOOD) for s in range(5)] + [row("no_context", s, BAD) for s in range(5)]
    shown, records = table_of(place, stored, capsys)
    good, bad = 100 * 2 * 85 / 210, 100 * 2 * 55 / 210
    assert [float(r["f1"]) for r in records] == pytest.approx([good, bad])
    assert float(records[1]["difference"]) == pytest.approx(bad - good)
    assert float(records[1]["low"]) <= bad - good <= float(records[1]["high"]) < 0
    assert [r["verdict"] for r in records] == ["the base", "worse"]
    assert f"| {good:.1f} ± 0.0 | 1.5" in shown and "F1 − atlop/atlop" in shown
    turned = table_of(place, stored, capsys, "--base", "atlop/no_context")[1]
    assert [r["verdict"] for r in turned] == ["better", "the base"]
    assert float(turned[0]["low"]) == pytest.approx(-float(records[1]["high"]))


def test_an_effect_far_beyond_the_papers_is_flagged(place, capsys):
    """The paper prints −0.97 for it; here it is 28.6 points, and the table says so as loudly as a tie."""
    stored = [row(v, s, c) for s in range(5) for v, c in (("atlop", GOOD), ("no_context", BAD))]
    shown, records = table_of(place, stored, capsys)
    assert float(records[1]["published"]) == pytest.approx(60.12 - 61.09) and records[1]["too_large"] == "True"
    assert "worse; 10 times the paper's −1.0 or more" in shown
    near = [(g, p, c - (k == 0)) for k, (g, p, c) in enumerate(GOOD)]
    stored = [row(v, s, c) for s in range(5) for v, c in (("atlop", GOOD), ("no_context", near))]
    assert "times the paper" not in table_of(place, stored, capsys)[0]


def test_identical_rows_tie(place, capsys):
    stored = [row(v, s, GOOD) for s in range(5) for v in ("atlop", "no_context")]
    shown, records = table_of(place, stored, capsys)
    assert [float(records[1][key]) for key in ("difference", "low", "high")] == [0, 0, 0]
    assert records[1]["verdict"] == "tie" and "| tie " in shown


def test_what_seeds_disagree_about_is_no_verdict(place, capsys):
    """The same mean as a clear difference, but half of the seeds say the opposite."""
    stored = [row("atlop", s, GOOD if s % 2 else BAD) for s in range(5)]
    stored += [row("no_context", s, BAD if s % 2 else GOOD) for s in range(5)]
    record = table_of(place, stored, capsys)[1][1]
    assert float(record["low"]) < 0 < float(record["high"]) and record["verdict"] == "no verdict: wider than ±1"


def test_too_few_seeds(place, capsys):
    record = table_of(place, [row("atlop", 0, GOOD), row("no_context", 0, BAD)], capsys)[1][1]
    assert record["low"] and record["verdict"] == "no verdict: 1 seed"
    record = table_of(place, [row("atlop", 0, GOOD), row("no_context", 1, BAD)], capsys)[1][1]
    assert not record["low"] and record["verdict"] == "no seed in common"


def test_rows_without_counts_are_judged_by_seeds(place, capsys):
    stored = [row("atlop", s, None, 0.5 + s / 100) for s in range(5)]
    stored += [row("no_context", s, None, 0.4 + s / 100) for s in range(5)]
    record = table_of(place, stored, capsys)[1][1]
    assert [float(record[key]) for key in ("low", "difference", "high")] == pytest.approx([-10] * 3)
    assert record["verdict"] == "worse"
    stored = [row("atlop", s, GOOD) for s in range(5)]
    stored += [row("no_context", s, BAD, documents={"dev": {"checksum": "other"}}) for s in range(5)]
    assert table_of(place, stored, capsys)[1][1]["verdict"] == "no verdict: scored on different documents"


def test_a_row_that_still_rises_says_so(place, capsys):
    """A row counts at its plateau only: the last quarter of the epochs may add less than half a point of dev F1."""
    curves = {0: (0.5, 0.6, 0.7, 0.7049), 1: (0.5, 0.6, 0.7, 0.706), 2: (0.5, 0.9, 0.8, 0.7)}
    stored = [row(v, s, GOOD) for s in range(5) for v in ("atlop", "no_context")]
    for r in stored:
        if r["variant"] == "no_context" and r["seed"] in curves:
            r["curve"] = [{"epoch": k + 1, "f1": f1} for k, f1 in enumerate(curves[r["seed"]])]
    assert table_of(place, stored, capsys)[1][1]["verdict"] == "tie; still rising with seed 1"
    two_stages = {"curve": [{"stage": s, "f1": f1} for s, f1 in ((1, 0.7), (1, 0.8), (2, 0.3), (2, 0.6))]}
    assert rows.gained(two_stages) == pytest.approx(30) and rows.gained({}) is None


def test_arms_that_differ_in_recipe_or_settings_alone(place, capsys):
    """Each has its line, told apart, and the first of a name is the base."""
    plan = told()
    other = {**plan["runs"][0], "variants": None, "encoder": "small", "settings": {**SETTINGS, "width": 32}}
    cdr = {**other, "encoder": "again", "recipe": "cdr", "settings": SETTINGS}
    plan["runs"] = [{**plan["runs"][0], "variants": None}, other, cdr]
    plan["paths"] |= {"small": "tiny", "again": "tiny"}
    stored = []
    for settings, recipe, counts in (
        (SETTINGS, "tiny", GOOD),
        (other["settings"], "tiny", BAD),
        (SETTINGS, "cdr", BAD),
    ):
        stored += [row("atlop", s, counts, settings=settings, recipe=recipe) for s in (0, 1)]
    (place / "results").mkdir()
    (place / "results" / "made_atlop.json").write_text(json.dumps(stored))
    (place / "small.json").write_text(json.dumps(plan))
    assert bench_table(place, "--draws", "100") == 0
    lines = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("| atlop")]
    assert [re.sub(r" \(layers=.*(width=\d+).*\)", r" \1", line) for line in lines] == [
        "atlop (tiny) width=16",
        "atlop (tiny) width=32",
        "atlop (cdr) width=16",
    ]
    verdicts = [r["verdict"] for r in tables.compare(plans.load(place / "small.json"), place / "results", draws=100)]
    assert verdicts == ["the base", *["no verdict: 2 seeds"] * 2]


def test_a_row_of_the_base_without_the_split(place, capsys):
    more = {"test": row("atlop", 0, GOOD)["dev"], "documents": {s: {"checksum": "abc"} for s in ("dev", "test")}}
    stored = [row("atlop", 0, GOOD), row("no_context", 0, BAD, **more)]
    assert table_of(place, stored, capsys)[1][1]["split"] == "dev"
    fails(capsys, bench_table, place, "--split", "test", says="atlop/atlop: the row of seed 0 has no scores on 'test'")


def test_ign_f1_leaves_seen_triples_out(place, capsys):
    stored = [row("atlop", 0, GOOD), row("no_context", 0, GOOD)]
    stored[1]["dev"]["by_document"]["seen"] = [4] * 10
    for r, ign in zip(stored, (2 * 85 / 210, 2 * 0.75 * 85 / 110 / (0.75 + 85 / 110)), strict=True):
        r["dev"]["ign_f1"] = ign  # (85 - 40) / (100 - 40) = 0.75
    record = table_of(place, stored, capsys, "--metric", "ign_f1")[1][1]
    assert float(record["low"]) <= float(record["difference"]) <= float(record["high"]) < 0
    assert float(table_of(place, stored, capsys)[1][1]["difference"]) == 0


def test_faulty_tables(place, capsys):
    fails(capsys, bench_table, place, says="no row of the plan small is stored in")
    table_of(place, [row("atlop", 0, GOOD)], capsys)
    fails(
        capsys,
        bench_table,
        place,
        "--base",
        "nope",
        says="no stored rows of nope/nope on 'made'; --base takes atlop/atlop",
    )
    fails(capsys, bench_table, place, "--split", "test", says="no scores on 'test'")
    fails(capsys, bench_table, place, "--split", "train", says="no scores on 'train'")
    fails(capsys, bench_table, place, "--metric", "nope", says="no score 'nope'")
    fails(capsys, bench_table, place, "--metric", "by_document", says="no score 'by_document'")
    fails(capsys, bench_table, place, "--out", "table.txt", says="table.txt: a table is written as .md or .csv")
