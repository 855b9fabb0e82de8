"""Commands that are killed at random moments and run again: `python benchmarks/kills.py` (a few minutes).

`corpus`, `train`, `extract` and `bench run` are each killed (SIGKILL) `--kills` times, always continued by the same
command, and begun anew once they end. A run survives if it ends with exit code 0 and leaves what an undisturbed one
leaves, times aside. After every kill, no file under its final name may be torn. Stores `results/kills.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from docre_lite import generate, load
from docre_lite.bench.plans import load as load_plan
from docre_lite.bench.rows import RESULTS
from docre_lite.cli.main import main as command
from docre_lite.formats.docred import document_to_json
from docre_lite.formats.readers import write_docred
from docre_lite.support.machine import environment
from docre_lite.support.store import write_json
from docre_lite.train import last_checkpoint

SMALL = "layers=1 width=16 heads=2 min_count=1 block=8 save_minutes=0".split()
TIMES = ("seconds", "cpu_seconds", "peak_memory_gb", "environment")


def corpus(world: Path, out: Path) -> list[str]:
    return ["corpus", "--out", str(out), "--train", "60", "--dev", "20", "--test", "20"]


def train(world: Path, out: Path) -> list[str]:
    if (out / "run.json").is_file():
        return ["train", "--resume", str(out)]
    call = ["train", "--train", str(world / "train.json"), "--dev", str(world / "dev.json"), "--out", str(out)]
    return [*call, "--epochs", "3", *(f"--set={s}" for s in SMALL)]


def extract(world: Path, out: Path) -> list[str]:
    return ["extract", "--run", "atlop", "--input", str(world / "many.jsonl"), "--out", str(out), "--part-size", "10"]


def bench(world: Path, out: Path) -> list[str]:
    return ["bench", "run", str(world / "plan.json"), "--out", str(out / "runs"), "--results", str(out / "results")]


def left(out: Path) -> dict[str, object]:
    """What a command has left, without times and what else differs from run to run."""
    found: dict[str, object] = {}
    slot = last_checkpoint(out) if (out / "last").is_dir() else None
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out)
        if path.suffix == ".parquet":
            found.setdefault("triples", []).extend(map(str, pq.read_table(path).to_pylist()))
        elif path.suffix == ".safetensors" and (name.parts[0] == "model" or path.parent == slot):
            found[path.parent.name[:1] + path.name] = {k: v.tolist() for k, v in load_file(path).items()}
        elif name.parts[0] in ("results", "train.json", "dev.json", "test.json"):
            found[str(name)] = without_times(json.loads(path.read_text()))
    return {name: sorted(rows) if name == "triples" else rows for name, rows in found.items()}


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def torn(out: Path) -> list[str]:
    """Files under their final names that cannot be read to their end; a checkpoint's slots have seals for that."""
    found = []
    for path in (p for p in out.rglob("*") if p.is_file() and "last" not in p.parts and not p.name.startswith(".")):
        if any(part.endswith((".new", ".old", ".tmp")) for part in path.parts):
            continue
        try:
            {".json": lambda p: json.loads(p.read_text()), ".safetensors": load_file, ".parquet": pq.read_table}.get(
                path.suffix, Path.read_bytes
            )(path)
        except Exception as error:
            found.append(f"{path.relative_to(out)}: {error}")
    return found


def run(call: list[str], seconds: float | None) -> int | None:
    """The exit code of the command in a process of its own; None if it was killed after so many seconds."""
    child = os.fork()
    if not child:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        os.setsid()
        os._exit(command(call))
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    started = psutil.Process(child).children(recursive=True)  # a plan trains in processes of its own
    for process in (psutil.Process(child), *started):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def attacked(make: Callable[[Path, Path], list[str]], world: Path, kills: int) -> dict:
    draw = random.Random(make.__name__)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        begin = time.monotonic()
        assert run(make(world, whole), None) == 0
        took, expected = time.monotonic() - begin, left(whole)
        row, faults, code = {"command": make.__name__, "kills": 0, "ended": 0}, [], None
        while row["kills"] < kills or not row["ended"] or code is None:
            out = Path(folder, str(row["ended"]))
            code = run(make(world, out), draw.uniform(0, took) if row["kills"] < kills else None)
            if code is None:
                row["kills"] += 1
                faults += torn(out)
                continue
            row["ended"] += 1
            if code != 0 or left(out) != expected:
                faults.append(f"run {row['ended']}: exit code {code}, or it left something else")
        for fault in faults:
            print(fault)
        return row | {"undisturbed_seconds": round(took, 1), "faults": len(faults)}


def prepared(world: Path) -> None:
    documents = generate("dev", 60)
    write_docred(documents[:24], world / "train.json")
    write_docred(documents[24:30], world / "dev.json")
    lines = [json.dumps(document_to_json(document)) for document in documents]
    (world / "many.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sizes = dict(item.split("=") for item in SMALL) | {"epochs": 2}
    plan = {"about": "small", "device": "cpu", "threads": 1, "results": "rows"}
    plan |= {"data": {"made": {"about": "small", "corpus": {"train": 16, "dev": 6}}}}
    run = {"papers": ["atlop"], "data": "made", "encoder": "tiny", "recipe": "tiny", "seeds": [0], "settings": sizes}
    write_json(world / "plan.json", plan | {"runs": [run]})
    load_plan(world / "plan.json")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--kills", type=int, default=15, help="of each command")
    args = ask.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    torch.set_num_threads(1)
    load("atlop")  # what a process imports is imported before it is forked, so that most kills meet its work
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder))
        rows = []
        for make in (corpus, train, extract, bench):
            rows.append(attacked(make, Path(folder), args.kills))
            print(json.dumps(rows[-1]), flush=True)
    write_json(RESULTS / "kills.json", {"rows": rows, "environment": environment()})


if __name__ == "__main__":
    main()
