"""Benchmarks as plans: what is trained and scored, one row of results a run, and tables that say what is a tie.

A plan is a JSON file such as those in `benchmarks/plans/`:

    about     one line
    device    "cpu", "gpu", or null for whatever there is
    threads   CPU threads of a training, null for torch's own choice
    results   file that receives the rows, such as "corpus_{paper}" (`{data}` works too)
    paths     files and encoders by a short name: where they lie unless `--data NAME=PATH` says otherwise; for an
              encoder its public name, which is also what its rows are stored under
    data      by a short name: `about`, one line that goes into the rows; and "train", "dev" and any other split that is
              to be scored: {"file": NAME}, with "first": N or "last": N for a part of its documents, "hypernyms": NAME
              for `readers.read`'s filter by a file of `paths`, and "read": {...} for its other arguments. A list of
              such parts is joined. Instead of splits, {"corpus": {"train": 600, ...}} makes the embedded corpus; its
              split "counterfactual" holds the changed documents alone
    runs      [{papers, variants ("all", a list, or none for the full model), data, encoder ("tiny" or a name of
              `paths`), recipe, seeds, settings}]: all combinations

Every training is a `docre-lite train` in a process of its own, in `OUT/PLAN/RUN`; so its peak memory is its own, and
what was interrupted goes on there. The epoch with the best dev score is then scored on every split but the training
documents. A finished run's folder that is put there by hand is scored without training.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from . import results
from .checks import DataError
from .corpus import counterfactuals, generate
from .evaluate import by_document, by_frequency, score, seen_facts
from .machine import arithmetic, processes
from .memory import give_back
from .model import DocRE, paper
from .predict import predict
from .readers import read, write_docred
from .store import Busy, alone, read_json, write_json
from .train import configure, fingerprint
from .types import Document

_PACKAGE = Path(__file__).parent
_STORED = _PACKAGE.parent / "benchmarks" / "results"
RESULTS = _STORED if _STORED.is_dir() else Path("results")  # of a checkout, or here
# What tells a run from another. Rows of older scripts lack some of them.
IDENTITY = ("paper", "variant", "seed", "data", "encoder", "recipe", "settings", "train", "epochs")
SCORES = {  # of a table: title by name in the rows
    "f1": "F1",
    "ign_f1": "Ign F1",
    "intra_f1": "intra F1",
    "inter_f1": "inter F1",
    "infer_f1": "Infer-F1",
    "composed_f1": "composed F1",
}
COUNTED = ("f1", "ign_f1")  # the scores that counts per document give


@dataclass(frozen=True)
class Run:
    """One training of a plan. `data` and `encoder` are the plan's short names."""

    paper: str
    variant: str
    data: str
    encoder: str
    recipe: str
    seed: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.data}-{self.encoder}-{self.paper}-{self.variant}-{self.seed}"

    @property
    def given(self) -> dict[str, Any]:
        """Settings as `docre-lite train` is told them; the full model is the one without a variant."""
        return {**self.settings, **({} if self.variant == self.paper else {"variant": self.variant})}

    @property
    def epochs(self) -> int:
        return configure(self.paper, self.recipe, seed=self.seed, **self.given)[0].epochs


@dataclass(frozen=True)
class Plan:
    name: str
    about: str
    results: str
    data: Mapping[str, Any]
    runs: tuple[Run, ...]
    paths: Mapping[str, str]
    device: str | None = None
    threads: int | None = None

    def identity(self, run: Run) -> dict[str, Any]:
        """What the row of a run must hold; `train` is left out where only the files can tell."""
        row = {key: getattr(run, key) for key in ("paper", "variant", "seed", "recipe", "epochs")}
        row |= {"data": self.data[run.data]["about"], "encoder": self.paths.get(run.encoder, run.encoder)}
        row |= {"settings": dict(run.settings)}
        told = self.data[run.data]
        if "corpus" in told:
            return row | {"train": told["corpus"]["train"]}
        counts = [part.get("first") for part in _parts(told["train"])]
        return row | ({"train": sum(counts)} if all(counts) else {})

    def scored_on(self, run: Run) -> list[str]:
        """The splits that a run's row must hold scores of."""
        told = self.data[run.data]
        return [s for s in (*told.get("corpus", {}), *told) if s not in ("about", "corpus", "train")]

    def file(self, run: Run, folder: Path) -> Path:
        """Where the run's row is stored."""
        return folder / f"{self.results.format(paper=run.paper, data=run.data)}.json"


# Plans ------------------------------------------------------------------------------------------------------------


def plans() -> dict[str, Path]:
    """The plans that come with the package or the checkout."""
    folders = (_PACKAGE / "plans", _PACKAGE.parent / "benchmarks" / "plans")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.json"))}


def load(which: str | Path) -> Plan:
    """A plan by name or file. Raises ValueError that names plan and field."""
    path = plans().get(str(which), Path(which))
    if not path.is_file():
        raise ValueError(f"no plan {which}; have {', '.join(plans())}, or give a JSON file")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(run for entry in told.pop("runs") for run in _runs(entry, told))
        if not runs or told.get("device") not in ("cpu", "gpu", None):
            raise ValueError("a plan takes at least one run, and as device cpu, gpu or null")
        plan = Plan(path.stem, runs=runs, paths=told.pop("paths", {}), **told)
        _check_names(plan)
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}; see `docre_lite/bench.py` for what a plan holds") from None
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}; see `docre_lite/bench.py` for what a plan holds") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    names = [run.name for run in plan.runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: two runs are called {twice[0]}; give their data or encoders different short names")
    return plan


def _runs(entry: dict, told: dict) -> Iterator[Run]:
    if entry["data"] not in told["data"]:
        raise ValueError(f"no data {entry['data']!r}; have {', '.join(told['data'])}")
    about = told["data"][entry["data"]]
    if "about" not in about or not ("corpus" in about or {"train", "dev"} <= about.keys()):
        raise ValueError(f"data {entry['data']!r} takes about, and train and dev, or corpus")
    if unknown := sorted(entry.keys() - {"papers", "variants", "data", "encoder", "recipe", "seeds", "settings"}):
        raise ValueError(f"runs take no field {unknown[0]!r}")
    for name in entry["papers"]:
        variants = entry.get("variants") or [name]
        for variant in paper(name).variants if variants == "all" else variants:
            for seed in entry["seeds"]:
                where = (entry["data"], entry["encoder"], entry["recipe"])
                run = Run(name, variant, *where, seed, entry.get("settings", {}))
                configure(name, run.recipe, **{**run.given, "variant": variant})  # are there such?
                yield run


def _check_names(plan: Plan) -> None:
    """Is every file of the data among the paths, and is there a place for the rows?"""
    try:
        plan.results.format(paper="", data="")
    except (KeyError, IndexError) as error:
        raise ValueError(f"results takes {{paper}} and {{data}}, not {error}") from None
    for name, told in plan.data.items():
        for split in (s for s in told if s not in ("about", "corpus")):
            for part in _parts(told[split]):
                if not isinstance(part, Mapping) or "file" not in part:
                    raise ValueError(f"{split} of data {name!r} takes a part with a file, or a list of them")
                if unknown := {part[key] for key in _WAYS if key in part} - plan.paths.keys():
                    have = ", ".join(plan.paths) or "none"
                    raise ValueError(f"{split} of data {name!r} asks for a path {unknown.pop()!r}; have {have}")


def only(runs: Sequence[Run], text: str) -> list[Run]:
    """The runs that fit "paper=atlop,seed=0"; of several values for one key, any."""
    wanted: dict[str, set[str]] = {}
    keys = ("paper", "variant", "data", "encoder", "recipe", "seed")
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals or key not in keys:
            raise ValueError(f"--only takes KEY=VALUE with a key of {', '.join(keys)}, not {item!r}")
        wanted.setdefault(key, set()).add(value)
    kept = [run for run in runs if all(str(getattr(run, key)) in values for key, values in wanted.items())]
    if not kept:
        raise ValueError(f"no run of the plan fits {text!r}")
    return kept


def places(plan: Plan, given: Sequence[str]) -> dict[str, str]:
    """The plan's paths with those of `--data NAME=PATH` instead."""
    found = dict(plan.paths)
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or key not in found:
            raise ValueError(f"--data takes NAME=PATH with a name of {', '.join(found) or '(none)'}, not {item!r}")
        found[key] = value
    return found


# Rows -------------------------------------------------------------------------------------------------------------


def stored(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of results; none if there is no such file. Raises DataError if it is damaged."""
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also bytes that are not text
        raise DataError(f"{path}: not JSON ({error}); restore it, or move it away to begin anew") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: not a list of rows; restore it, or move it away to begin anew")
    return rows


def same(row: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Is this the row of that run, as far as it tells?"""
    row = {"variant": row.get("paper"), **row}
    return all(_plain(row[key]) == _plain(identity[key]) for key in IDENTITY if key in row and key in identity)


def _plain(value: Any) -> Any:
    """Settings were stored as text and as numbers."""
    return {k: str(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def complete(row: Mapping[str, Any], splits: Sequence[str] = ("dev",)) -> bool:
    """Does the row hold what a paired comparison on these splits needs?"""
    return all("by_document" in _scores(row, split) for split in splits)


def _scores(row: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    """The scores of a row on a split, none if it has none; "train" is the number of documents."""
    found = row.get(split)
    return found if isinstance(found, Mapping) else {}


def keep(path: Path, row: dict[str, Any], same: Callable[[dict, dict], bool] = same) -> None:
    """Puts a row into a file of results, one row a line, in the place of an older one of the same run or at the end."""
    rows = stored(path)
    place = next((k for k, old in enumerate(rows) if same(old, row)), len(rows))
    rows = [*rows[:place], row, *(old for old in rows[place:] if not same(old, row))]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n]\n", encoding="utf-8")
    new.replace(path)


def state(plan: Plan, run: Run, out: Path, folder: Path) -> str:
    """How far a run is, in words: "done", or what is to be done."""
    found = [row for row in stored(plan.file(run, folder)) if same(row, plan.identity(run))]
    if any(complete(row, plan.scored_on(run)) for row in found):
        return "done"
    epochs = len(_history(out / run.name))
    lacking = [split for split in plan.scored_on(run) if found and not complete(found[0], [split])]
    again = f", stored without counts per document on {' and '.join(lacking)}" if lacking else ""
    if epochs >= run.epochs:
        return "to score" + again
    return (f"to resume after epoch {epochs} of {run.epochs}" if epochs else "to run") + again


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.json"
    return read_json(path)["history"] if path.is_file() else []


# Running ----------------------------------------------------------------------------------------------------------


def carry_out(
    plan: Plan,
    runs: Sequence[Run],
    paths: Mapping[str, str],
    out: Path,
    folder: Path = RESULTS,
    say: Callable[[str], None] = print,
) -> int:
    """Trains, scores and stores the runs that are not done. Returns 130 when interrupted, like `docre-lite train`.

    Several of these may work on one plan at once: each leaves the runs that another one is at. A run that fails does
    not hold up the others. Raises ValueError at the end if any did, and at once if a file is missing or the plan asks
    for a GPU that is not there.
    """
    out = out / plan.name
    todo = [run for run in runs if state(plan, run, out, folder) != "done"]
    if todo and plan.device == "gpu" and not torch.cuda.is_available():
        raise ValueError(f"the plan {plan.name} is for a GPU, and there is none here; try lite or redocred-mini")
    if plan.threads:
        torch.set_num_threads(plan.threads)
    files = {name: splits(plan, name, paths, out / "data") for name in dict.fromkeys(run.data for run in todo)}
    failed = []
    for k, run in enumerate(todo, 1):
        begin = f"{k}/{len(todo)} {run.name}"
        try:
            lock = alone(out / run.name, name=".bench.lock")  # the training has one of its own
        except Busy:  # another `bench run` of the plan is at it
            continue
        with lock:
            if (now := state(plan, run, out, folder)) == "done":  # meanwhile
                continue
            say(f"{begin}: {now}")
            try:
                code = train(run, files[run.data], _encoder(run, paths), out / run.name, plan)
                if code == 130:
                    say(f"{begin}: stopped; the same command goes on from here")
                    return code
                row = {} if code else scored(run, files[run.data], out / run.name, plan.device)
                give_back()  # a GPU's memory, to the training that comes next
            except ValueError as error:
                say(f"{begin}: {error}")
                row = {}
            if not row:
                failed.append(run.name)
                continue
            row = plan.identity(run) | row
            keep(plan.file(run, folder), row)
        shutil.rmtree(out / run.name / "last", ignore_errors=True)  # half of the disk, and there is nothing to resume
        figures = " ".join(f"{s} F1 {100 * row[s]['f1']:.1f}" for s in files[run.data] if s != "train")
        say(f"{begin}: {figures}, {row['seconds'] / 60:.1f} min")
    if failed:
        raise ValueError(f"{len(failed)} of {len(todo)} runs failed, see above: {', '.join(failed)}")
    return 0


_WAYS = {  # to the files that a part of a split names
    "file": "fetch it with `docre-lite data fetch`",
    "hypernyms": "download MeSH's descriptors in ASCII from the National Library of Medicine",
}


def splits(plan: Plan, name: str, paths: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """The files of a data set by split; what is no whole file of the user's is written into `folder`."""
    told, found = plan.data[name], {}
    for split, count in told.get("corpus", {}).items():
        if split == "counterfactual":
            documents = [document for document in counterfactuals(count) if document.variant_of]
        else:
            documents = generate(split, count)
        found[split] = _write(documents, folder / f"{name}-{split}.json")
    for split in (s for s in told if s not in ("about", "corpus")):
        parts = _parts(told[split])
        for part in parts:
            for key, way in _WAYS.items():
                if key in part and not Path(paths[part[key]]).is_file():
                    raise ValueError(
                        f"{paths[part[key]]}: no such file, which plan {plan.name} needs for {split}; {way}, or say "
                        f"where it is: --data {part[key]}=PATH"
                    )
        if len(parts) == 1 and parts[0].keys() == {"file"}:
            found[split] = Path(paths[parts[0]["file"]])
        else:
            documents = [document for part in parts for document in _part(part, paths, plan.name)]
            found[split] = _write(documents, folder / f"{name}-{split}.json")
    return found


def _parts(told: Any) -> list[Any]:
    """What a split is made of: one part, or a list of them."""
    return told if isinstance(told, list) else [told]


def _part(part: Mapping[str, Any], paths: Mapping[str, str], plan: str) -> list[Document]:
    """The documents of a file, or so many from its start or its end."""
    path = Path(paths[part["file"]])
    documents = read(path, hypernyms=paths[part["hypernyms"]] if "hypernyms" in part else None, **part.get("read", {}))
    if len(documents) < (count := part.get("first") or part.get("last") or 0):
        raise ValueError(f"{path}: holds {len(documents)} documents, but plan {plan} asks for {count}")
    return documents[: part.get("first")][-part.get("last", 0) :]


def _write(documents: Sequence[Document], path: Path) -> Path:
    """At once or not at all: another `bench run` may read the file now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    write_docred(documents, new)
    return new.replace(path)


def _encoder(run: Run, paths: Mapping[str, str]) -> str:
    return paths.get(run.encoder, run.encoder)


def train(run: Run, files: Mapping[str, Path], encoder: str, out: Path, plan: Plan) -> int:
    """`docre-lite train` for a run, or the rest of it. Returns its exit code."""
    given = {k: v for k, v in run.given.items() if k != "epochs"}
    if (out / "run.json").is_file():
        _check(run, files, encoder, out)
        if len(_history(out)) >= run.epochs:
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
    """`docre-lite` in a process of its own; what asks this one to stop is passed on, once. Returns its exit code."""
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
    return 130 if asked else code  # also when it came too early or too late to stop the training in order


def _check(run: Run, files: Mapping[str, Path], encoder: str, out: Path) -> None:
    """Is the run in this folder the one that is meant? Its paths may be others, its documents may not."""
    held = read_json(out / "run.json")
    meant = {"paper": run.paper, "recipe": run.recipe, "seed": run.seed}
    meant["settings"] = {**run.given, "epochs": run.epochs}
    changed = [key for key, value in meant.items() if _plain(held[key]) != _plain(value)]
    changed += [] if _same_encoder(held["encoder"], encoder) else ["encoder"]
    if (path := out / "last" / "state.json").is_file():
        known = read_json(path)["run"]
        for split, key in (("train", "training documents"), ("dev", "development documents")):
            changed += [key] if known[key] != fingerprint(read(files[split])) else []
    if changed:
        raise ValueError(f"{out}: this run had other {', '.join(changed)}; move it away, or choose another --out")


def _same_encoder(held: str, now: str) -> bool:
    """Folders are told apart by what they hold, wherever they lie; a hub's name, and a folder that is gone, by name."""
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

    `cpu_seconds` are of the whole process, scoring after every epoch included.
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
                "pairs": sum(len(x.pairs()) for x in d),
                "triples": sum(len(x.triples) for x in d),
                "checksum": fingerprint(d)[:12],
            }
            for split, d in documents.items()
        },
        "environment": metrics["environment"],
    }
    return row


# Tables -----------------------------------------------------------------------------------------------------------


def compare(
    plan: Plan,
    folder: Path = RESULTS,
    base: str | None = None,
    metric: str = "f1",
    split: str | None = None,
    draws: int = 10_000,
) -> list[dict[str, Any]]:
    """A record for every paper and variant of the plan that has stored rows, in the plan's order, scores in %.

    `base` is what the others are compared with: "atlop", "atlop/no_context", or "own" for each paper's full model;
    without it the first one of each data set and encoder. `split` is "test" where rows have one, else "dev".
    """
    arms: dict[tuple, dict[int, dict]] = {}
    for run in plan.runs:
        identity = plan.identity(run)
        found = [row for row in stored(plan.file(run, folder)) if same(row, identity)]
        if found:  # the complete one, where an old script's row of the run is there too
            settings = " ".join(f"{k}={v}" for k, v in run.settings.items())
            key = (identity["data"], identity["encoder"], run.paper, run.variant, run.recipe, settings)
            arms.setdefault(key, {})[run.seed] = max(found, key=partial(complete, splits=plan.scored_on(run)))
    if not arms:
        raise ValueError(f"no row of the plan {plan.name} is stored in {folder}; run it with `docre-lite bench run`")
    return [_record(key, rows, _base(arms, key, base), metric, split, draws) for key, rows in arms.items()]


def _base(arms: Mapping[tuple, dict], key: tuple, base: str | None) -> tuple[str, dict[int, dict]]:
    """The name and rows of what an arm is compared with."""
    names: dict[str, tuple] = {}
    for k in arms:
        if k[:2] == key[:2]:
            names.setdefault(f"{k[2]}/{k[3]}", k)
    if base is None:
        wanted = next(iter(names))
    else:
        name, _, variant = (key[2] if base == "own" else base).partition("/")
        wanted = f"{name}/{variant or name}"
    if wanted not in names:
        raise ValueError(f"no stored rows of {wanted} on {key[0].split(':')[0]!r}; --base takes {', '.join(names)}")
    return wanted, arms[names[wanted]]


def _record(key: tuple, rows: dict[int, dict], base: tuple[str, dict[int, dict]], metric, split, draws) -> dict:
    data, encoder, name, variant, recipe, settings = key
    split = split or ("test" if all(_scores(r, "test") for side in (rows, base[1]) for r in side.values()) else "dev")
    for who, side in ((f"{name}/{variant}", rows), base):
        if missing := [seed for seed, row in side.items() if not _scores(row, split)]:
            raise ValueError(f"{who}: the row of seed {missing[0]} has no scores on {split!r}; try --split dev")
        if lacking := [seed for seed, row in side.items() if not isinstance(row[split].get(metric), float)]:
            raise ValueError(f"{who}: no score {metric!r} in the row of seed {lacking[0]}; try f1 or inter_f1")
    record = {"data": data, "encoder": encoder, "split": split, "paper": name, "variant": variant, "recipe": recipe}
    record |= {"settings": settings, "seeds": len(rows)}
    for key in dict.fromkeys([metric, *SCORES]):
        values = [100 * row[split][key] for row in rows.values() if row[split].get(key) is not None]
        record[key], record[f"{key}_std"] = (mean(values) if values else None), _stdev(values)
    for key in ("seconds", "peak_memory_gb", "parameters"):
        values = [row[key] for row in rows.values() if row.get(key)]
        record[key] = mean(values) if values else None
    record |= {"base": base[0], "difference": None, "low": None, "high": None, "verdict": "the base"}
    if base[1] is rows:
        return record
    ours, theirs = ({s: 100 * r[split][metric] for s, r in side.items()} for side in (rows, base[1]))
    found, interval, why = results.gap(ours, theirs), None, ""
    shared = sorted(ours.keys() & theirs.keys())
    counted = [s for s in shared if all(complete(side[s], [split]) for side in (rows, base[1]))]
    if metric not in COUNTED:
        why = f"no interval: counts per document give {' and '.join(COUNTED)} alone"
    elif len({side[s]["documents"][split]["checksum"] for side in (rows, base[1]) for s in counted}) > 1:
        why = "no interval: scored on different documents"
    else:
        if lacking := sorted(set(shared) - set(counted)):
            why = "interval without" if counted else "no interval:"
            why += f" seed {', '.join(map(str, lacking))}, stored without counts per document"
        if counted:
            sides = (results.counts([side[seed] for seed in counted], split, metric) for side in (rows, base[1]))
            interval = results.paired_bootstrap(*sides, draws)
            record |= {"low": interval.low, "high": interval.high}
    if found:
        record["difference"] = found.mean
    record["verdict"] = "; ".join(filter(None, (results.verdict(found, interval), why)))
    return record


def _stdev(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def markdown(records: Sequence[Mapping[str, Any]], metric: str = "f1") -> str:
    """The records as tables for people: one for each data set and encoder."""
    parts = []
    for group in dict.fromkeys((r["data"], r["encoder"], r["split"]) for r in records):
        rows = [r for r in records if (r["data"], r["encoder"], r["split"]) == group]
        shown = [key for key in dict.fromkeys([metric, *SCORES]) if key == metric or any(r[key] for r in rows)]
        titles = ["model", "seeds", *(SCORES.get(key, key) for key in shown), "minutes", "GB"]
        titles += [f"{SCORES.get(metric, metric)} − {rows[0]['base']}" if _one_base(rows) else "− base"]
        lines = [[*titles, "95 % interval", "verdict"]]
        for r in rows:
            full = r["paper"] == r["variant"]
            name = r["paper"] if full else f"{r['paper']}/{r['variant']}"
            alike = [o for o in rows if (o["paper"], o["variant"]) == (r["paper"], r["variant"])]
            for key in ("recipe", "settings"):
                name += f" ({r[key]})" if len({o[key] for o in alike}) > 1 else ""
            line = [name, r["seeds"], *(_spread(r, key) for key in shown)]
            line += [
                _number(r["seconds"] and r["seconds"] / 60),
                _number(r["peak_memory_gb"]),
                _number(r["difference"], "+.1f"),
            ]
            line += ["" if r["low"] is None else f"{r['low']:+.1f} to {r['high']:+.1f}", r["verdict"]]
            lines.append([str(cell) for cell in line])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
        parts.append("\n".join([f"{group[0]}. Encoder {group[1]}, {group[2]} documents, in %.", "", *text]))
    return "\n\n".join(parts) + "\n"


def _one_base(rows: Sequence[Mapping[str, Any]]) -> bool:
    return len({r["base"] for r in rows}) == 1


def _spread(record: Mapping[str, Any], key: str) -> str:
    if record[key] is None:
        return ""
    std = record[f"{key}_std"]
    return f"{record[key]:.1f}" + ("" if std is None else f" ± {std:.1f}")


def _number(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else format(value, form)


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """The records for programs: every digit, one column a number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
