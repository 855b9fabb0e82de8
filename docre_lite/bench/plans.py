"""Benchmarks as plans: the models to train and score.

A plan is a JSON file such as those in `benchmarks/plans/`:

    about     one line
    device    "cpu", "gpu", or null for whatever the machine has
    threads   CPU threads per training run, null for torch's own choice
    results   file that receives the rows, such as "corpus_{paper}" (`{data}` works too)
    paths     files and encoders by a short name: their default paths, which `--data NAME=PATH` overrides; for an
              encoder its public name, under which its rows are stored
    data      by a short name: `about`, one line that goes into the rows; and "train", "dev" and any other split to
              score: {"file": NAME}, with "first": N or "last": N for a part of its documents, "hypernyms": NAME
              for `readers.read`'s filter by a file of `paths`, and "read": {...} for its other arguments. A list of
              such parts is joined. Instead of splits, {"corpus": {"train": 600, ...}} makes the embedded corpus; its
              split "counterfactual" holds only the changed documents
    runs      [{papers, variants ("all", a list, or none for the full model), data, encoder ("tiny" or a name of
              `paths`), recipe, seeds, settings}]: all combinations
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model import paper
from ..support import shipped
from ..train import configure


@dataclass(frozen=True)
class Run:
    """One training run of a plan. `data` and `encoder` are the plan's short names."""

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
        """The settings to pass to `docre-lite train`; the full model has no variant."""
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
        """The values that identify the row of a run; `train` is left out if only the files can tell."""
        row = {key: getattr(run, key) for key in ("paper", "variant", "seed", "recipe", "epochs")}
        row |= {"data": self.data[run.data]["about"], "encoder": self.paths.get(run.encoder, run.encoder)}
        row |= {"settings": dict(run.settings)}
        told = self.data[run.data]
        if "corpus" in told:
            return row | {"train": told["corpus"]["train"]}
        counts = [part.get("first") for part in parts_of(told["train"])]
        return row | ({"train": sum(counts)} if all(counts) else {})

    def scored_on(self, run: Run) -> list[str]:
        """The splits on which a run's row must hold scores."""
        told = self.data[run.data]
        return [s for s in (*told.get("corpus", {}), *told) if s not in ("about", "corpus", "train")]

    def file(self, run: Run, folder: Path) -> Path:
        """The file that stores the run's row."""
        return folder / f"{self.results.format(paper=run.paper, data=run.data)}.json"


def plans() -> dict[str, Path]:
    """The plans that come with the package or the checkout."""
    return {path.stem: path for path in sorted(shipped("benchmarks/plans").glob("*.json"))}


def load(which: str | Path) -> Plan:
    """A plan by name or file. Raises ValueError that names plan and field."""
    path = plans().get(str(which), Path(which))
    if not path.is_file():
        raise ValueError(f"no plan {which}; have {', '.join(plans())}, or give a JSON file")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(run for entry in told.pop("runs") for run in _runs(entry, told))
        if not runs or told.get("device") not in ("cpu", "gpu", None):
            raise ValueError("a plan needs at least one run, and as device cpu, gpu or null")
        plan = Plan(path.stem, runs=runs, paths=told.pop("paths", {}), **told)
        _check_names(plan)
    except RecursionError:
        raise ValueError(f"{path}: JSON nested too deeply; `docre_lite/bench/plans.py` describes plans") from None
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}; `docre_lite/bench/plans.py` describes plans") from None
    except KeyError as error:
        raise ValueError(f"{path}: lacks {error}; `docre_lite/bench/plans.py` describes plans") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    names = [run.name for run in plan.runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: two runs are named {twice[0]}; give their data or encoders different short names")
    return plan


def _runs(entry: dict, told: dict) -> Iterator[Run]:
    if entry["data"] not in told["data"]:
        raise ValueError(f"no data {entry['data']!r}; have {', '.join(told['data'])}")
    about = told["data"][entry["data"]]
    if "about" not in about or not ("corpus" in about or {"train", "dev"} <= about.keys()):
        raise ValueError(f"data {entry['data']!r} needs about, and either train and dev, or corpus")
    if unknown := sorted(entry.keys() - {"papers", "variants", "data", "encoder", "recipe", "seeds", "settings"}):
        raise ValueError(f"runs have no field {unknown[0]!r}")
    for name in entry["papers"]:
        variants = entry.get("variants") or [name]
        for variant in paper(name).variants if variants == "all" else variants:
            for seed in entry["seeds"]:
                where = (entry["data"], entry["encoder"], entry["recipe"])
                run = Run(name, variant, *where, seed, entry.get("settings", {}))
                configure(name, run.recipe, **{**run.given, "variant": variant})  # do they exist?
                yield run


def _check_names(plan: Plan) -> None:
    """Checks that every file of the data is among the paths, and that the rows have a file."""
    try:
        plan.results.format(paper="", data="")
    except (KeyError, IndexError) as error:
        raise ValueError(f"results takes {{paper}} and {{data}}, not {error}") from None
    for name, told in plan.data.items():
        for split in (s for s in told if s not in ("about", "corpus")):
            for part in parts_of(told[split]):
                if not isinstance(part, Mapping) or "file" not in part:
                    raise ValueError(f"{split} of data {name!r} needs a part with a file, or a list of them")
                if unknown := {part[key] for key in WAYS if key in part} - plan.paths.keys():
                    have = ", ".join(plan.paths) or "none"
                    raise ValueError(f"{split} of data {name!r} refers to a path {unknown.pop()!r}; have {have}")


def only(runs: Sequence[Run], text: str) -> list[Run]:
    """The runs that match "paper=atlop,seed=0"; any of several values for one key."""
    wanted: dict[str, set[str]] = {}
    keys = ("paper", "variant", "data", "encoder", "recipe", "seed")
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals or key not in keys:
            raise ValueError(f"--only takes KEY=VALUE with a key of {', '.join(keys)}, not {item!r}")
        wanted.setdefault(key, set()).add(value)
    kept = [run for run in runs if all(str(getattr(run, key)) in values for key, values in wanted.items())]
    if not kept:
        raise ValueError(f"no run of the plan matches {text!r}")
    return kept


def places(plan: Plan, given: Sequence[str]) -> dict[str, str]:
    """The plan's paths, replaced by those of `--data NAME=PATH`."""
    found = dict(plan.paths)
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or key not in found:
            raise ValueError(f"--data takes NAME=PATH with a name of {', '.join(found) or '(none)'}, not {item!r}")
        found[key] = value
    return found


WAYS = {  # to the files that a part of a split names
    "file": "fetch it with `docre-lite data fetch`",
    "hypernyms": "download MeSH's descriptors in ASCII from the National Library of Medicine",
}


def parts_of(told: Any) -> list[Any]:
    """The parts of a split: one part, or a list of them."""
    return told if isinstance(told, list) else [told]
