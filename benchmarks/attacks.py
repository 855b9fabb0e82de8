"""Attacks on the command line: damaged and hostile models, checkpoints, archives, plans, tables and documents.

Each try writes one faulty input and calls one command, in this process. It survives if the command ends within the
limits of time and memory with exit code 2 and one line, or with exit code 0 because the change does no harm (for
documents in `extract`: the document is set aside). Weights that are not finite must be refused. All else is a fault,
and is printed with its seed. Afterwards, faults put into the package show that the attacks notice them. Run it alone:

    python benchmarks/attacks.py --tries 100             # of each attack; stores benchmarks/results/attacks.json
    python benchmarks/attacks.py --only models --first 7 --tries 1 --show     # one try again
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from docre_lite import build, generate
from docre_lite.bench.plans import plans
from docre_lite.bench.rows import RESULTS
from docre_lite.cli.main import main as command
from docre_lite.corpus import running_example
from docre_lite.encoder import tiny_tokenizer
from docre_lite.formats.docred import document_to_json
from docre_lite.formats.readers import write_docred
from docre_lite.model import trained
from docre_lite.support.machine import environment
from docre_lite.support.store import write_json

SECONDS, GIGABYTES = 20, 4  # a try may take at most these; memory beyond what the process has before it
NESTED = "[" * 3000 + "]" * 3000
VALUES = (None, True, -1, 0, 1, 7, 10**9, 10**30, 0.5, float("nan"), float("inf"), "", "x", "\ud800", "a" * 5000)
VALUES += ([], [[]], {}, {"a": 1}, ["x", 1], "../..", "\x1b[2J\n")


class Slow(Exception):
    """A try takes longer than it may."""


# What is damaged: bytes, a value of JSON, weights


def bytes_damaged(draw: random.Random, data: bytes) -> bytes:
    """Cut short, emptied, overwritten in one place, repeated, or with a piece taken out."""
    at, size = draw.randrange(len(data) + 1), draw.choice((1, 8, 200))
    return draw.choice(
        (
            lambda: data[:at],
            lambda: data[:at] + draw.randbytes(size) + data[at + size :],
            lambda: data[:at] + bytes(size) + data[at + size :],
            lambda: data[:at] + data[at + size :],
            lambda: data[:at] + data[max(at - size, 0) :],
            lambda: b"\x00" * size,
        )
    )()


def value_changed(draw: random.Random, value):
    """The same JSON with one value somewhere in it replaced, removed or added."""
    root = [json.loads(json.dumps(value))]
    here, key = root, 0
    while isinstance(here[key], dict | list) and here[key] and (here is root or draw.random() < 0.8):
        here = here[key]
        key = draw.choice(list(here)) if isinstance(here, dict) else draw.randrange(len(here))
    if isinstance(here, dict) and draw.random() < 0.15:
        del here[key]
    elif isinstance(here, dict) and draw.random() < 0.05:
        here["more"] = draw.choice(VALUES)
    else:
        here[key] = draw.choice(VALUES)
    return root[0]


def json_damaged(draw: random.Random, path: Path) -> None:
    how = draw.random()
    text = path.read_text(encoding="utf-8")
    if how < 0.75:
        path.write_text(json.dumps(value_changed(draw, json.loads(text))))
    elif how < 0.85:
        at = draw.choice([i for i, c in enumerate(text) if c in "[{:,"] or [0])
        path.write_text(text[: at + 1] + NESTED + text[at + 1 :])
    else:
        path.write_bytes(bytes_damaged(draw, text.encode()))


def weights_damaged(draw: random.Random, path: Path) -> bool:
    """Must the weights be refused? Of changed bytes nobody can tell; numbers that are not finite must be."""
    if draw.random() < 0.3:
        path.write_bytes(bytes_damaged(draw, path.read_bytes()))
        return False
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    name = draw.choice(sorted(tensors))
    tensor = tensors[name]
    everywhere = draw.random() < 0.3
    for key in list(tensors) if everywhere else [name]:
        if draw.random() < 0.5 and tensors[key].is_floating_point():
            tensors[key].flatten()[: None if everywhere else 1] = draw.choice(
                (float("nan"), float("inf"), -float("inf"))
            )
        else:
            tensors[key] = tensors[key].to(draw.choice((torch.int64, torch.int8, torch.bool)))
    if draw.random() < 0.3:
        flat = tensor.flatten()
        tensors[name] = draw.choice((flat[:0], flat[None], tensor[None], torch.cat([flat, flat])))
    elif draw.random() < 0.2:
        del tensors[name]
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    left_out = ("pooler", "position_ids")  # no encoder of ours reads these
    return any(
        not value.isfinite().all() for key, value in tensors.items() if not any(part in key for part in left_out)
    )


def archive_damaged(draw: random.Random, data: bytes, name: str, path: Path) -> None:
    """A gzip or zip file of the data, damaged; or whole, but of something else, or of far too much."""
    how = draw.random()
    inside = (
        data
        if how < 0.6
        else draw.choice((b"", b"<!doctype html>", NESTED.encode(), bytes(9 << 20), draw.randbytes(99)))
    )
    if path.suffix == ".zip":
        packed = io.BytesIO()
        method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        with zipfile.ZipFile(packed, "w", method) as archive:
            archive.writestr(draw.choice((name, name, name, "other", "../" + name)), inside)
        whole = packed.getvalue()
    else:
        whole = gzip.compress(inside)
    path.write_bytes(bytes_damaged(draw, whole) if how < 0.6 else whole)


# The attacks: each writes one faulty input below `here` and returns the command that meets it, and whether it must be
# refused

Call = tuple[list[str], bool | None]


class World:
    """What is whole: models, a run to resume, documents, predictions."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.documents = [running_example(), *generate("dev", 3)]
        self.data = write_docred(self.documents, folder / "data.json")
        self.rows = [document_to_json(document) for document in self.documents]
        self.models = [*trained().values(), self._pretrained()]
        self.run = folder / "run"
        small = [f"--set={s}" for s in "layers=1 width=16 heads=2 min_count=1 block=8 epochs=2 save_minutes=0".split()]
        assert quiet(["train", "--train", str(self.data), "--out", str(self.run), *small])[0] == 0
        assert quiet(["predict", "--run=atlop", f"--data={self.data}", f"--out={folder}/result.json"])[0] == 0

    def _pretrained(self) -> Path:
        words = tiny_tokenizer(self.documents, 1)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(self.folder / "bert")
        words.save_pretrained(self.folder / "bert")
        build("atlop", self.documents, str(self.folder / "bert"), block=8).save(self.folder / "model")
        return self.folder / "model"


def models(draw: random.Random, world: World, here: Path) -> Call:
    model = Path(shutil.copytree(draw.choice(world.models), here / "model"))
    for shared in world.models:  # shipped models lend each other their encoder
        if not (here / shared.name).exists() and shared.parent.name == "models":
            shutil.copytree(shared, here / shared.name)
    path = draw.choice(sorted(p for p in model.iterdir() if p.suffix in (".json", ".safetensors")))
    refuse = (weights_damaged if path.suffix == ".safetensors" else json_damaged)(draw, path)
    return ["predict", "--run", str(model), "--data", str(world.data), "--out", str(here / "result.json")], refuse


def encoders(draw: random.Random, world: World, here: Path) -> Call:
    folder = Path(shutil.copytree(world.folder / "bert", here / "bert"))
    path = draw.choice(sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors")))
    refuse = (weights_damaged if path.suffix == ".safetensors" else json_damaged)(draw, path)
    call = ["train", "--encoder", str(folder), "--train", str(world.data), "--out", str(here / "run")]
    return [*call, "--epochs=1", "--limit=1", "--set=block=8"], refuse


def checkpoints(draw: random.Random, world: World, here: Path) -> Call:
    run = Path(shutil.copytree(world.run, here / "run"))
    path = draw.choice(sorted(p for p in run.rglob("*") if p.suffix in (".json", ".safetensors") and p.stat().st_size))
    (weights_damaged if path.suffix == ".safetensors" else json_damaged)(draw, path)
    for seal in run.glob("last/*/checksums.json"):
        if draw.random() < 0.5 and seal != path:  # as if the damage had been sealed
            _seal_again(seal)
    return ["train", "--resume", str(run)], None


def _seal_again(seal: Path) -> None:
    from docre_lite.support.checkpoint import seal as write

    try:
        write(seal.parent, json.loads(seal.read_text())["step"])
    except (ValueError, KeyError):
        pass


def archives(draw: random.Random, world: World, here: Path) -> Call:
    if draw.random() < 0.3:
        archive_damaged(draw, (world.folder / "result.json").read_bytes(), "result.json", here / "mine.zip")
        return ["score", "--predictions", str(here / "mine.zip"), "--gold", str(world.data)], None
    if draw.random() < 0.3:
        rows = [{key: value for key, value in row.items() if key != "labels"} for row in world.rows]
        pq.write_table(pa.Table.from_pylist(rows), here / "data.parquet")
        (here / "data.parquet").write_bytes(bytes_damaged(draw, (here / "data.parquet").read_bytes()))
        return ["data", "info", str(here / "data.parquet")], None
    archive_damaged(draw, world.data.read_bytes(), "data.json", here / "data.json.gz")
    return ["data", "info", str(here / "data.json.gz")], None


def plans_(draw: random.Random, world: World, here: Path) -> Call:
    path = here / "plan.json"
    shutil.copy(draw.choice(sorted(plans().values())), path)
    json_damaged(draw, path)
    return ["bench", "run", str(path), "--dry-run", "--results", str(here), "--out", str(here / "runs")], None


def tables(draw: random.Random, world: World, here: Path) -> Call:
    name = draw.choice(("lite", "cdr"))
    told = json.loads(plans()[name].read_text())["results"]
    for path in RESULTS.glob(told.replace("{paper}", "*").replace("{data}", "*") + ".json"):
        rows = json.loads(path.read_text())
        (here / path.name).write_text(json.dumps(rows))
        if draw.random() < 0.5:
            json_damaged(draw, here / path.name)
    return ["bench", "table", name, "--results", str(here), "--draws=10"], None


def documents(draw: random.Random, world: World, here: Path) -> Call:
    lines = [json.dumps(row).encode() for row in world.rows]
    k = draw.randrange(len(lines))
    if draw.random() < 0.7:
        lines[k] = json.dumps(value_changed(draw, world.rows[k])).encode()
    else:
        lines[k] = draw.choice(
            (lambda: bytes_damaged(draw, lines[k]), lambda: lines[k].replace(b"[", NESTED.encode(), 1))
        )()
    (here / "data.jsonl").write_bytes(b"\n".join(lines))
    if draw.random() < 0.5:
        return ["data", "info", str(here / "data.jsonl")], None
    return ["extract", "--run=atlop", "--input", str(here / "data.jsonl"), "--out", str(here / "out")], None


ATTACKS: dict[str, Callable[[random.Random, World, Path], Call]] = {
    "models": models,
    "encoders": encoders,
    "checkpoints": checkpoints,
    "archives": archives,
    "plans": plans_,
    "tables": tables,
    "documents": documents,
}


# Faults put into the package one at a time, to see that the attacks notice them: (what, attack, place, instead)
SEEDED = (
    ("a damaged file of weights is a traceback", "models", "docre_lite.model.read_tensors", load_file),
    (
        "a damaged gzip file is a traceback",
        "archives",
        "docre_lite.formats.files.gunzip",
        lambda file, where: gzip.GzipFile(fileobj=file).read(),
    ),
    ("values are taken whatever their type", "documents", "docre_lite.formats.docred._kind", lambda value, *_: value),
    ("stored rows are not checked", "tables", "docre_lite.bench.tables.sound", lambda path, row: row),
)


# One try and its verdict


def quiet(call: list[str]) -> tuple[int | None, str]:
    """Exit code and what was said on standard error; None and a traceback if the command raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            return command(call), err.getvalue()
        except (Exception, SystemExit):
            return None, traceback.format_exc()


def verdict(code: int | None, said: str, seconds: float, gigabytes: float, refuse: bool | None) -> str | None:
    """The fault of a try; None if it survived."""
    faults = [line for line in said.splitlines() if line.startswith("docre-lite: ")]
    if code is None:
        return "raised " + said.strip().splitlines()[-1][:150]
    if code == 2 and not (faults and len(faults[-1]) < 2000):
        return f"exit code 2 with {len(faults)} lines"
    if code not in (0, 2):
        return f"exit code {code}"
    if code == 0 and refuse:
        return "was taken without a word"
    if seconds > SECONDS or gigabytes > GIGABYTES:
        return f"took {seconds:.0f} s and {gigabytes:.1f} GB"
    return None


def tried(name: str, seed: int, world: World, show: bool) -> tuple[int | None, str | None, float]:
    """Exit code, fault and seconds of one try."""
    with tempfile.TemporaryDirectory() as folder:
        call, refuse = ATTACKS[name](random.Random(f"{name} {seed}"), world, Path(folder))
        begin, before = time.perf_counter(), _peak()
        signal.alarm(SECONDS)
        try:
            code, said = quiet(call)
        except Slow:
            code, said = None, f"after {SECONDS} s"
        finally:
            signal.alarm(0)
        seconds = time.perf_counter() - begin
        fault = verdict(code, said, seconds, _peak() - before, refuse)
    if fault or show:
        print(f"{name} {seed}: {fault or 'survived'}; {' '.join(call)}")
    if show:
        print(said)
    return code, fault, seconds


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100, help="of each attack")
    parser.add_argument("--first", type=int, default=0, help="number of the first try, which is its seed")
    parser.add_argument("--only", choices=ATTACKS, help="one attack; nothing is stored")
    parser.add_argument("--show", action="store_true", help="what each try says")
    args = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(Slow(f"longer than {SECONDS} s")))
    rows, broken = [], []
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for name in [args.only] if args.only else ATTACKS:
            found = [tried(name, args.first + k, world, args.show) for k in range(args.tries)]
            codes = [code for code, *_ in found]
            row = {"attack": name, "tries": len(found), "refused": codes.count(2), "harmless": codes.count(0)}
            row |= {"faults": sum(fault is not None for _, fault, _ in found)}
            row |= {"survived": row["tries"] - row["faults"], "slowest_seconds": round(max(s for *_, s in found), 1)}
            print(json.dumps(row), flush=True)
            rows.append(row | {"peak_memory_gb": round(_peak(), 1)})
        for what, name, place, instead in () if args.only else SEEDED:
            with mock.patch(place, instead), contextlib.redirect_stdout(io.StringIO()):
                found = [tried(name, args.first + k, world, False)[1] for k in range(args.tries)]
            broken.append({"fault": what, "attack": name, "tries": len(found), "noticed": len([*filter(None, found)])})
            print(json.dumps(broken[-1]), flush=True)
    if not args.only:
        limits = {"seconds": SECONDS, "gigabytes": GIGABYTES}
        record = {"rows": rows, "seeded": broken, "first": args.first, "limits": limits}
        write_json(RESULTS / "attacks.json", record | {"environment": environment()})


if __name__ == "__main__":
    main()
