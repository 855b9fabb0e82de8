"""Training that is killed at any moment, and resumed: nothing is lost, and it ends where it would have ended."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from patience import patience
from safetensors.torch import load_file
from small import made

from docre_lite.cli.main import main
from docre_lite.formats.readers import write_docred
from docre_lite.model import DocRE, build
from docre_lite.support import checkpoint as checkpoint_module
from docre_lite.support import store as store_module
from docre_lite.support.store import whole, write_over
from docre_lite.train import TrainConfig, fit, last_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

DOCUMENTS = [made(f"train {i}", 3, sentences=2, words=9) for i in range(6)]
SIZES = {"layers": 1, "width": 8, "heads": 2, "min_count": 1, "block": 4}
RATES = {"encoder_lr": 1e-2, "classifier_lr": 3e-2, "batch_size": 3, "precision": "fp32"}
KILLS = 20


def files(out: Path) -> dict[str, bytes]:
    """All that a run leaves, but for the times in it and what differs from machine to machine.

    Of the two slots the whole one that got further: which it is, and what the other holds, depends on the kills.
    """
    found, slot = {}, last_checkpoint(out)
    for path in (p for p in out.rglob("*") if p.is_file() and (p.parent == slot or out / "last" not in p.parents)):
        if path.name == "checksums.json":  # of times, too
            continue
        data = path.read_bytes()
        if path.name in ("metrics.json", "state.json"):
            told = json.loads(data)
            told.pop("seconds", None)
            for row in told["history"]:
                del row["seconds"], row["peak_memory_gb"]
            data = json.dumps(told).encode()
        found[path.name if path.parent == slot else path.relative_to(out).as_posix()] = data
    return found


def nothing_is_torn(out: Path) -> None:
    """What stands under its name can be read to its end."""
    for path in out.glob("*.json"):
        json.loads(path.read_text())
    for folder in filter(None, (out / "model", last_checkpoint(out))):
        for path in folder.glob("*"):
            {".json": lambda path: json.loads(path.read_text()), ".md": Path.read_text}.get(path.suffix, load_file)(
                path
            )


# Processes that are killed


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_docred(DOCUMENTS, folder / "train.json")
    write_docred(DOCUMENTS[:2], folder / "dev.json")
    return folder


def command(data: Path, out: Path) -> list[str]:
    """How a run is begun, or gone on with once it can be."""
    if (out / "run.json").is_file():
        return ["train", "--resume", str(out)]
    given = ["--train", str(data / "train.json"), "--dev", str(data / "dev.json"), "--out", str(out)]
    settings = SIZES | RATES | {"save_minutes": 0}
    return ["train", *given, "--epochs", "20", *(f"--set={key}={value}" for key, value in settings.items())]


def checkpoint(out: Path) -> int | None:
    """What tells one checkpoint from the next."""
    times = [seal.stat().st_mtime_ns for seal in (out / "last").glob("*/checksums.json")]
    return max(times, default=None)


def test_training_killed_at_random(data, tmp_path, processes):
    """SIGKILL when there is another checkpoint or two and some time has passed, and in turn just some time after the
    start. Where a run ends before it was killed often enough, another one is begun."""
    goal = tmp_path / "goal"
    undisturbed = processes(target=main, args=(command(data, goal),))
    undisturbed.start()
    undisturbed.join()
    expected, draw, kills, runs = files(goal), random.Random(0), 0, 0
    assert len(json.loads(expected["metrics.json"])["history"]) == 20
    while kills < KILLS:
        out, runs = tmp_path / f"run {runs}", runs + 1
        while True:
            process = processes(target=main, args=(command(data, out),))
            process.start()
            for _ in range(draw.choice((1, 2)) if kills % 2 == 0 else 0):
                before, until = checkpoint(out), time.monotonic() + patience(300)
                while process.is_alive() and checkpoint(out) in (before, None):
                    assert time.monotonic() < until
                    time.sleep(0.005)
            process.join(draw.random() * (0.03 if kills % 2 == 0 else 0.6))
            process.kill()
            process.join()
            if process.exitcode == 0:
                break
            kills += 1
            nothing_is_torn(out)
        assert files(out) == expected


# Kills before every operation on files


class Watch:
    """Calls `act` before whatever changes a file or folder, when it is on. (What is once hooked stays hooked.)"""

    act: Callable[[Path | None], None] | None = None

    def __call__(self, event: str, args: tuple) -> None:
        if self.act is None or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        act, self.act = self.act, None
        act(Path(args[0]) if event == "open" and isinstance(args[0], str) else None)
        self.act = act


@pytest.fixture(scope="module")
def watch() -> Watch:
    found = Watch()
    sys.addaudithook(found)
    return found


CONFIG = TrainConfig(epochs=2, warmup=0.2, save_minutes=0, seed=5, **RATES)


def fresh(seed: int = 0) -> DocRE:
    torch.manual_seed(seed)
    return build("atlop", DOCUMENTS, **SIZES)


def train(out: Path) -> None:
    """As the command line goes on with a run, or begins it."""
    found = last_checkpoint(out)
    list(fit(DocRE.load(found) if found else fresh(), DOCUMENTS, (), CONFIG, out, resume=True))


def left_by_kills(out: Path, to: Path, watch: Watch, monkeypatch) -> list[Path]:
    """Trains, and keeps what the folder holds before each operation: what a kill there would leave.

    A file that is to be written is begun in it; one that is written over is there by its first byte, by half, and but
    for its last byte, and also with the rest as it was before.
    """
    found: list[Path] = []

    def keep(path: Path | None) -> None:
        if path is None or out in path.parents:
            found.append(to / f"{len(found)}")
            shutil.copytree(out, found[-1]) if out.is_dir() else found[-1].mkdir(parents=True)
            if path:
                (found[-1] / path.relative_to(out)).write_bytes(b'{"half')

    def by_parts(path: Path, data: bytes) -> None:
        before = path.read_bytes() if path.is_file() else b""
        act, watch.act = watch.act, None
        for size in sorted({1, len(data) // 2, len(data) - 1} & {*range(1, len(data))}):
            for rest in (b"", before[size:])[: 2 if size > 1 and before else 1]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data[:size] + rest)
                keep(None)
        path.write_bytes(before) if before else path.unlink(missing_ok=True)
        watch.act = act
        write_over(path, data)

    with monkeypatch.context() as patch:
        for module in (store_module, checkpoint_module):
            patch.setattr(module, "write_over", by_parts)
        watch.act = keep
        try:
            train(out)
        finally:
            watch.act = None
    return found


def steps(out: Path) -> int:
    """Steps that are behind a run, as its checkpoint says."""
    found = last_checkpoint(out)
    return json.loads((found / "state.json").read_text())["step"] if found else 0


def one_is_torn(out: Path) -> bool:
    """Is there one whole slot, and one that is being written?"""
    slots = {slot for slot in (out / "last").glob("*") if slot != last_checkpoint(out)}
    return any((slot / "model.safetensors").is_file() for slot in slots) and not all(map(_sealed, slots))


def _sealed(slot: Path) -> bool:
    try:
        return bool(json.loads((slot / "checksums.json").read_text()))
    except (OSError, ValueError):
        return False


def test_killed_before_every_operation_on_files(tmp_path, watch, monkeypatch):
    """Through the first save of the model and of the checkpoint, and through both being replaced."""
    out = tmp_path / "run"
    kills = left_by_kills(out, tmp_path / "kills", watch, monkeypatch)
    expected = files(out)
    assert len(kills) >= 2 * KILLS and [steps(kill) for kill in kills] == sorted(steps(kill) for kill in kills)
    assert {steps(kill) for kill in kills} == {0, 1, 2, 3, 4}
    assert any((kill / "model.old").is_dir() and not (kill / "model").is_dir() for kill in kills)
    between = [kill for kill in kills if steps(kill) == 2 and one_is_torn(kill)]
    for kill in kills:
        nothing_is_torn(kill)
        if (best := whole(kill / "model")).is_dir():
            DocRE.load(best)
    # killed once more, when the older checkpoint is the only one
    again = left_by_kills(shutil.copytree(between[0], tmp_path / "between"), tmp_path / "again", watch, monkeypatch)
    assert len(again) >= KILLS and min(steps(kill) for kill in again) == 2
    for kill in [*kills, *again[::4]]:
        train(kill)
        assert files(kill) == expected
