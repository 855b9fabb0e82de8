"""Training in two processes: the same losses and scores as in one, saved once, resumed with another number.

All of it runs in float64. In float32 ten epochs at high rates make differences of 1e-5 out of the order in which
numbers are added, more or less of it on each kind of processor, and a tolerance for that would hide a small fault, too.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import in_double
import pytest
import torch
from accelerate.utils import set_seed
from conftest import ROOT
from small import SMALL, made

from docre_lite.cli.main import main
from docre_lite.formats.readers import read, write_docred
from docre_lite.model import build
from docre_lite.train import configure, fit

SEED = 2**32 - 10  # what is added for a process and a step makes it too large for NumPy
RATES = {"encoder_lr": 5e-3, "classifier_lr": 5e-3, "epochs": 10, "save_minutes": 0}
SETTINGS = SMALL | RATES | {"batch_size": 4}
BLOCK = {"block": 8}
# The others without what is drawn at random inside the model, and without losses that are no means over pairs.
STEADY = {
    "docunet": BLOCK,
    "paee": BLOCK | {"variant": "no_eer", "re_dropout": 0},
    "docre_ii": BLOCK | {"variant": "no_contrast", "inference_dropout": 0, "noise": 0},
    "dre_mir": {"variant": "no_mir", "inference_dropout": 0},
}


@pytest.fixture(scope="module", autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Nine documents of different size: the last batch holds one, so that a process has none of its own."""
    folder = tmp_path_factory.mktemp("data")
    sizes = (3, 6, 4, 5, 7, 3, 4, 6, 5)
    documents = [made(f"train {k}", n, sentences=3 + k % 3) for k, n in enumerate(sizes)]
    write_docred(documents, folder / "train.json")
    write_docred(documents[:5], folder / "dev.json")  # known ones: something is predicted, so that a part lost shows
    return folder


def arguments(data: Path, out: Path, paper: str, more: dict[str, object]) -> list[str]:
    files = ["--train", str(data / "train.json"), "--dev", str(data / "dev.json"), "--out", str(out)]
    settings = [f"--set={key}={value}" for key, value in (SETTINGS | more).items()]
    return ["train", "--paper", paper, "--seed", str(SEED), *files, *settings]


def torchrun(*given: str) -> str:
    """The command line in two processes on the CPU, in float64 too; what they say on standard output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "tests" / "in_double.py")
    done = subprocess.run([*command, script, *given], env=os.environ | found, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def launch(processes, tmp_path):
    """As torchrun, from processes that have all imported: two seconds instead of ten."""

    def launch(*given: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        both = []
        for rank in ("0", "1"):
            variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            said = tmp_path / f"said {rank}"
            both.append((processes(target=in_double.share, args=(list(given), variables, said)), said))
            both[-1][0].start()
        for process, said in both:
            process.join()
            assert process.exitcode == 0, said.read_text()

    return launch


def history(out: Path, processes: int) -> list[dict]:
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["environment"]["processes"] == processes
    return metrics["history"]


def compare(one: list[dict], other: list[dict]) -> None:
    assert len(one) == len(other) == SETTINGS["epochs"]
    for a, b in zip(one, other, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-9), (a["loss"], b["loss"])
        assert a["dev"]["f1"] == pytest.approx(b["dev"]["f1"], abs=1e-9)
        assert a["dev"]["predicted"] == b["dev"]["predicted"]


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "alone"
    assert main(arguments(data, out, "atlop", BLOCK)) == 0
    assert history(out, 1)[-1]["dev"]["predicted"] > 1  # else equal scores would say nothing
    return out


def test_two_processes_train_as_one(data, alone, tmp_path):
    said = torchrun(*arguments(data, tmp_path / "two", "atlop", BLOCK))
    compare(history(alone, 1), history(tmp_path / "two", 2))
    assert said.count('"metrics"') == 1  # one of them speaks


@pytest.mark.parametrize(("paper", "steady"), STEADY.items(), ids=STEADY)
def test_another_paper_in_two_processes(paper, steady, data, launch, tmp_path):
    """With DocRE-II steps leave weights out: its inference gets no gradient before the base is trained."""
    one, two = [arguments(data, tmp_path / name, paper, steady) for name in ("one", "two")]
    assert main(one) == 0
    launch(*two)
    compare(history(tmp_path / "one", 1), history(tmp_path / "two", 2))


def test_a_run_of_one_process_goes_on_in_two(data, alone, launch, tmp_path):
    out = tmp_path / "grown"
    config, settings = configure("atlop", "tiny", **SETTINGS, **BLOCK, seed=SEED)
    train, dev = read(data / "train.json"), read(data / "dev.json")
    set_seed(SEED)
    steps = fit(build("atlop", train, "tiny", **settings), train, dev, config, out)
    for _ in range(4):  # one step into the second epoch
        next(steps)
    steps.close()
    plan = json.loads((alone / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(plan))
    launch("train", "--resume", str(out))
    compare(history(alone, 1), history(out, 2))
