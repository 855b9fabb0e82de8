"""Running a plan: trains every run that has no row yet, then scores it.

Every run is a `docre-lite train` in a process of its own, in `OUT/PLAN/RUN`; so its peak memory is its own, and
interrupted runs continue there. The epoch with the best dev score is then scored on every split but the training
documents. If you put the folder of a finished run there, it is scored without training.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..corpus import counterfactuals, generate
from ..evaluate import score, seen_facts
from ..formats.readers import read, write_docred
from ..model import DocRE
from ..predict import predict
from ..support.checkpoint import clear
from ..support.machine import arithmetic, give_back, processes
from ..support.store import Busy, alone, read_json, write_json
from ..train import configure, last_checkpoint
from ..types import Document, fingerprint
from .counts import by_document, by_frequency
from .plans import WAYS, Plan, Run, parts_of
from .rows import RESULTS, history, keep, plain, state


def carry_out(
    plan: Plan,
    runs: Sequence[Run],
    paths: Mapping[str, str],
    out: Path,
    folder: Path = RESULTS,
    say: Callable[[str], None] = print,
) -> int:
    """Trains, scores and stores the runs that are not done. Returns 130 when interrupted, like `docre-lite train`.

    Several of these may work on one plan at once: each skips the runs that another one is working on. A run that
    fails does not stop the others. Raises ValueError at the end if any failed, and at once if a file is missing or the
    plan needs a GPU and there is none.
    """
    out = out / plan.name
    todo = [run for run in runs if state(plan, run, out, folder) != "done"]
    if todo and plan.device == "gpu" and not torch.cuda.is_available():
        raise ValueError(f"the plan {plan.name} needs a GPU, and this machine has none; try lite or redocred-mini")
    if plan.threads:
        torch.set_num_threads(plan.threads)
    files = {name: splits(plan, name, paths, out / "data") for name in dict.fromkeys(run.data for run in todo)}
    failed = []
    for k, run in enumerate(todo, 1):
        begin = f"{k}/{len(todo)} {run.name}"
        try:
            lock = alone(out / run.name, name=".bench.lock")  # training has one of its own
        except Busy:  # another `bench run` of the plan works on it
            continue
        with lock:
            if (now := state(plan, run, out, folder)) == "done":  # meanwhile
                continue
            say(f"{begin}: {now}")
            try:
                row = _row(plan, run, files[run.data], _encoder(run, paths), out / run.name)
            except KeyboardInterrupt:
                say(f"{begin}: stopped; run the same command again to continue")
                return 130
            except ValueError as error:
                say(f"{begin}: {error}")
                failed.append(run.name)
                continue
            keep(plan.file(run, folder), row)
        clear(out / run.name / "last")  # half of the disk, and there is nothing to resume
        figures = " ".join(f"{s} F1 {100 * row[s]['f1']:.1f}" for s in files[run.data] if s != "train")
        say(f"{begin}: {figures}, {row['seconds'] / 60:.1f} min")
    if failed:
        raise ValueError(f"{len(failed)} of {len(todo)} runs failed, see above: {', '.join(failed)}")
    return 0


def _row(plan: Plan, run: Run, files: Mapping[str, Path], encoder: str, out: Path) -> dict[str, Any]:
    """The row of a run, after training whatever remains. Raises KeyboardInterrupt if training was stopped."""
    code = train(run, files, encoder, out, plan)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise ValueError(f"`docre-lite train` ended with exit code {code}")
    row = plan.identity(run) | scored(run, files, out, plan.device)
    give_back()  # a GPU's memory, for the next run
    return row


def splits(plan: Plan, name: str, paths: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """The files of a data set by split; parts of the user's files, and joined ones, are written into `folder`."""
    told, found = plan.data[name], {}
    for split, count in told.get("corpus", {}).items():
        if split == "counterfactual":
            documents = [document for document in counterfactuals(count) if document.variant_of]
        else:
            documents = generate(split, count)
        found[split] = write_docred(documents, folder / f"{name}-{split}.json")
    for split in (s for s in told if s not in ("about", "corpus")):
        parts = parts_of(told[split])
        for part in parts:
            for key, way in WAYS.items():
                if key in part and not Path(paths[part[key]]).is_file():
                    raise ValueError(
                        f"{paths[part[key]]}: no such file, which plan {plan.name} needs for {split}; {way}, or give "
                        f"its path: --data {part[key]}=PATH"
                    )
        if len(parts) == 1 and parts[0].keys() == {"file"}:
            found[split] = Path(paths[parts[0]["file"]])
        else:
            documents = [document for part in parts for document in _part(part, paths, plan.name)]
            found[split] = write_docred(documents, folder / f"{name}-{split}.json")
    return found


def _part(part: Mapping[str, Any], paths: Mapping[str, str], plan: str) -> list[Document]:
    """The documents of a file, or some from its start or its end."""
    path = Path(paths[part["file"]])
    documents = read(path, hypernyms=paths[part["hypernyms"]] if "hypernyms" in part else None, **part.get("read", {}))
    if len(documents) < (count := part.get("first") or part.get("last") or 0):
        raise ValueError(f"{path}: holds {len(documents)} documents, but plan {plan} asks for {count}")
    return documents[: part.get("first")][-part.get("last", 0) :]


def _encoder(run: Run, paths: Mapping[str, str]) -> str:
    return paths.get(run.encoder, run.encoder)


def train(run: Run, files: Mapping[str, Path], encoder: str, out: Path, plan: Plan) -> int:
    """`docre-lite train` for a run, or the rest of it. Returns its exit code."""
    given = {k: v for k, v in run.given.items() if k != "epochs"}
    if (out / "run.json").is_file():
        check(run, files, encoder, out)
        if len(history(out)) >= run.epochs:
            return 0
        call = ["--resume", str(out)]
    else:
        call = ["--paper", run.paper, "--recipe", run.recipe, "--seed", str(run.seed), "--epochs", str(run.epochs)]
        call += ["--encoder", encoder, "--train", str(files["train"]), "--dev", str(files["dev"]), "--out", str(out)]
        call += [f"--set={key}={value}" for key, value in given.items()]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"} if plan.device == "cpu" else {}
    before = _children()
    code = launch(["train", *call, *(["--threads", str(plan.threads)] if plan.threads else [])], hidden)
    if out.is_dir():
        spent = _children() - before + _spent(out)
        write_json(out / "cpu_seconds.json", round(spent, 1))
    return code


def launch(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`docre-lite` in a process of its own; passes on a request to stop, once. Returns its exit code."""
    command = [sys.executable, "-m", "docre_lite", *arguments]
    child = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    asked: list[int] = []

    def pass_on(number, _):
        asked.append(number)
        child.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 130 if asked else code  # even if the request came too early or too late for an orderly stop


def check(run: Run, files: Mapping[str, Path], encoder: str, out: Path) -> None:
    """Raises ValueError if the run in this folder is not the one meant: its paths may be others, its documents not."""
    held = read_json(out / "run.json")
    meant = {"paper": run.paper, "recipe": run.recipe, "seed": run.seed}
    meant["settings"] = {**run.given, "epochs": run.epochs}
    changed = [key for key, value in meant.items() if plain(held[key]) != plain(value)]
    changed += [] if _same_encoder(held["encoder"], encoder) else ["encoder"]
    if saved := last_checkpoint(out):
        known = read_json(saved / "state.json")["run"]
        for split, key in (("train", "training documents"), ("dev", "development documents")):
            changed += [key] if known[key] != fingerprint(read(files[split])) else []
    if changed:
        raise ValueError(f"{out}: this run had other {', '.join(changed)}; move it away, or choose another --out")


def _same_encoder(held: str, now: str) -> bool:
    """Compares folders by content, wherever they are; hub names, and folders that no longer exist, by name."""
    one, two = Path(held), Path(now)
    if held == now or not two.is_dir():
        return held == now
    if not one.is_dir():
        return one.name == two.name
    return all(_digest(one / file) == _digest(two / file) for file in ("config.json", "model.safetensors"))


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _children() -> float:
    used = os.times()
    return used.children_user + used.children_system


def _spent(out: Path) -> float:
    path = out / "cpu_seconds.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else 0.0


def scored(run: Run, files: Mapping[str, Path], out: Path, device: str | None) -> dict[str, Any]:
    """The rest of a finished run's row: scores of its best epoch on every split, curve, times, machine.

    `cpu_seconds` covers the whole process, scoring after every epoch included.
    """
    metrics = read_json(out / "metrics.json")
    history = metrics["history"]
    whole = [h for h in history if h.get("stage", 2) == 2]  # a base that is trained first is not the model
    config, _ = configure(run.paper, run.recipe, seed=run.seed, **run.given)
    best = max(whole, key=lambda h: h["dev"][config.select] or 0.0)
    documents = {split: read(path) for split, path in files.items()}
    seen, row = seen_facts(documents["train"]), {"train": len(documents["train"]), "epochs": len(history)}
    place = torch.device("cpu") if device == "cpu" else processes().device
    row |= {"best_epoch": best["epoch"]}
    model = DocRE.load(out / "model").to(place)
    for split in (s for s in documents if s != "train"):
        with arithmetic(config.precision, place):
            found = predict(model, documents[split])
        scores = score(found, documents[split], seen).to_dict()
        del scores["by_relation"]  # would make up most of the file
        scores["by_frequency"] = [asdict(r) for r in by_frequency(found, documents[split], documents["train"])]
        scores["by_document"] = by_document(found, documents[split], seen)
        row[split] = scores
    row |= {
        "parameters": sum(p.numel() for p in model.parameters()),
        "dev_last": history[-1]["dev"],
        "curve": [
            {key: h[key] for key in ("epoch", "stage", "loss", "seconds") if key in h} | {"f1": h["dev"]["f1"]}
            for h in history
        ],
        "seconds": history[-1]["seconds"],
        "cpu_seconds": _spent(out) or None,
        "peak_memory_gb": history[-1]["peak_memory_gb"],
        "documents": {
            split: {
                "documents": len(d),
                "pairs": sum(x.pair_count for x in d),
                "triples": sum(len(x.triples) for x in d),
                "checksum": fingerprint(d)[:12],
            }
            for split, d in documents.items()
        },
        "environment": metrics["environment"],
    }
    return row
