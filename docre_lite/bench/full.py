"""A paper's full run from a notebook: its cost, the run itself, and its results.

    full_run = FullRun("atlop", FULL_RUN)
    full_run.takes()      # hours and memory
    full_run.start()      # fetches the data, trains or continues, scores
    full_run.report()     # history, scores, and the stored row beside them

The run is one of the plan `published`; a paper in that plan needs nothing else.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from IPython.display import HTML

from ..evaluate import score, seen_facts
from ..formats.hub import SOURCES, fetch
from ..formats.readers import read
from ..model import DocRE, paper
from ..predict import predict
from ..show import results, table
from ..support.checkpoint import clear
from ..support.machine import arithmetic, give_back, keep_freed, processes
from ..support.store import alone
from ..train import configure
from . import training
from .cost import CALL, CARDS, Cost, cost, share_of_peak
from .plans import load, only
from .rows import IDENTITY, at_plateau, complete, history, keep, same, stored
from .runs import check, scored, splits

DRIVE = "/content/drive"  # where Colab mounts it


class Stopped(RuntimeError):
    """A full run that did not finish: one line with the reason and the way to continue. Notebooks show the line."""

    def _render_traceback_(self) -> list[str]:
        return [f"Stopped: {self}"]


def on_drive() -> Path | None:
    """In Colab a folder on your Drive, if you allow it; elsewhere None. Colab's own disk vanishes with its machine."""
    if "google.colab" not in sys.modules:
        return None
    from google.colab import drive

    try:
        drive.mount(DRIVE)
        return Path(DRIVE, "MyDrive", "docre_lite")
    except Exception as error:  # Colab has a class of its own for a refusal
        warnings.warn(f"no Drive ({error}): when Colab takes its machine back, the trained model is lost", stacklevel=2)
    return None


class FullRun:
    """A paper's recipe with its encoder on its data, as in the plan `published`.

    Data, runs and results are kept in `folder`; by default, in Colab on your Drive, for which it asks if `full_run` is
    true, and elsewhere in `runs`.
    """

    def __init__(
        self,
        name: str,
        full_run: bool,
        folder: str | Path | None = None,
        data: str = "docred",
        encoder: str = "bert",
        seed: int = 66,
    ):
        self.plan = load("published")
        [self.run] = only(self.plan.runs, f"paper={name},data={data},encoder={encoder},seed={seed}")
        self.folder = Path(folder or (full_run and on_drive()) or "runs")
        self.out = self.folder / self.run.name
        self.encoder = self.plan.paths[encoder]
        self.paths = {key: str(self.folder / p) if p.startswith("data/") else p for key, p in self.plan.paths.items()}
        self.rows = self.plan.file(self.run, self.folder / "results")

    @property
    def row(self) -> dict[str, Any] | None:
        """The row of the finished run; None before that."""
        identity = self.plan.identity(self.run)
        return next((row for row in stored(self.rows) if same(row, identity) and complete(row)), None)

    def cost(self) -> Cost:
        """The cost of the run, see `cost.cost`."""
        counts = {split: self._documents(split) for split in ("train", "dev")}
        return cost(self.run.paper, self.run.recipe, self.encoder, counts["train"], counts["dev"])

    def _documents(self, split: str) -> int:
        return SOURCES[self.run.data].counts[Path(self.paths[f"{self.run.data}_{split}"]).name][0]

    def takes(self) -> HTML:
        """Hours and memory by GPU, computed (see `bench.cost`), and a warning if there is no GPU."""
        need, config = self.cost(), configure(self.run.paper, self.run.recipe)[0]
        rows = [
            {
                "GPU": card.name,
                "memory (GB)": f"{card.gigabytes:.0f}",
                "precision": card.precision,
                "hours (computed)": _about(need.hours(card)),
                "fits": "yes" if need.gigabytes < card.gigabytes else "not with this batch",
            }
            for card in CARDS
        ]
        about = (
            f"{config.epochs} epochs over {self._documents('train')} documents with {self.encoder}, "
            f"{need.parameters / 1e6:.0f} million weights, {config.batch_size} documents per step: "
            f"up to {need.gigabytes:.0f} GB of memory"
        )
        how = (
            f"Computed from counted operations and NVIDIA's data sheets, assuming {100 * share_of_peak():.0f} % of the "
            f"peak, as on our CPUs, and {1e6 * CALL:.0f} µs to start an operation; measured on none of these GPUs."
        )
        return HTML(f"{table(rows, caption=about).data}<p>{how}</p><p>{_here(need)}</p>")

    def start(self) -> None:
        """Fetches the data if necessary, trains, and scores the best epoch on dev; continues an earlier run.

        Raises Stopped if any step fails or is interrupted.
        """
        if self.row:
            return print(f"{self.out}: done; see the report")
        if not torch.accelerator.is_available():
            warnings.warn("there is no GPU here: on a CPU this takes days", stacklevel=2)
        try:
            files = self._files()
            with alone(self.out, "choose another folder", name=".bench.lock"):
                stopped = self._train(files)
                if not stopped:
                    row = self.plan.identity(self.run) | scored(self.run, files, self.out, self.plan.device)
                    keep(self.rows, row)
                    clear(self.out / "last")
        except (ValueError, OSError, FloatingPointError, torch.OutOfMemoryError) as error:
            raise Stopped(" ".join(str(error).split())) from error
        finally:
            give_back()
        if stopped:
            raise Stopped(f"after step {stopped}, which is saved; run this cell again to continue from there")

    def _files(self) -> dict[str, Path]:
        fetch(self.run.data, self.folder / "data" / self.run.data, say=print)
        return splits(self.plan, self.run.data, self.paths, self.folder / "data")

    def _train(self, files: Mapping[str, Path]) -> int:
        """Starts or continues a run like `docre-lite train`. Returns the step after which it was stopped, else 0."""
        keep_freed()
        run, resume = self.run, (self.out / "run.json").is_file()
        if resume:
            check(run, files, self.encoder, self.out)
            if len(history(self.out)) >= run.epochs:
                return 0
        plan = {"paper": run.paper, "encoder": self.encoder, "recipe": run.recipe, "seed": run.seed}
        plan |= {"settings": {**run.given, "epochs": run.epochs}, "relations": None, "limit": None}
        plan |= {split: str(files[split].resolve()) for split in ("train", "dev")}
        return training.carry_out(plan, self.out, resume)

    def report(self, **more: str) -> HTML:
        """History and scores in %, with the paper's own and the stored row beside them.

        `more` are further scores of `Scores` by the title of their column, such as Rela="rela_f1".
        """
        keys = {"Ign F1": "ign_f1", "F1": "f1"} | more
        past = [
            {"epoch": h["epoch"], "loss": h["loss"]} | _percent(h["dev"], keys) | {"minutes": h["seconds"] / 60}
            for h in history(self.out)
        ]
        parts = [table(past, caption="Dev scores after each epoch").data] if past else []
        here = f"{len(past)} of {self.run.epochs} epochs are trained in {self.out}."
        parts.append(f"<p>{here}</p>" if past else "<p>Nothing has been trained here yet.</p>")
        parts.append(table(_compared(self, keys), caption="The full run beside the paper and the stored rows").data)
        return HTML("\n".join(parts))

    def vary(self, **option: tuple) -> HTML:
        """Dev scores of the finished run with other values of a setting for prediction, such as rounds=(1, 3)."""
        [(name, values)] = option.items()
        if not self.row:
            return HTML(f"<p>The full run has not been done here: no scores by {name} yet.</p>")
        files, rows = self._files(), []
        documents, seen = read(files["dev"]), seen_facts(read(files["train"]))
        precision = configure(self.run.paper, self.run.recipe)[0].precision
        for value in values:
            model = DocRE.load(self.out / "model", **{name: value}).to(processes().device)
            set_seed(self.run.seed)
            with arithmetic(precision, model.device):
                found = score(predict(model, documents, progress=True), documents, seen)
            rows.append({name: str(value), "Ign F1": 100 * found.ign_f1, "F1": 100 * found.f1})
        return table(rows, caption="The full run on dev", digits=2)


def _here(need: Cost) -> str:
    """The machine available for training, in a sentence."""
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        fits = "which is enough" if need.bytes < about.total_memory else "which is too little for this batch"
        return f"Here: {about.name} with {about.total_memory / 1e9:.0f} GB, {fits}."
    if torch.backends.mps.is_available():
        return "Here: the GPU of an Apple processor, for which there is no estimate."
    time, threads = need.hours_here(), torch.get_num_threads()
    long = f"{_about(time)} hours" if time < 48 else f"{_about(time / 24)} days"
    on = f"this CPU with {threads} thread{'s' * (threads > 1)}"
    return f"<strong>There is no GPU here.</strong> On {on} it would take about {long}."


def _compared(full: FullRun, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of the score table: the paper's, ours, the stored ones."""
    variant = paper(full.run.paper).variants[full.run.variant]
    printed = {"Ign F1": variant.ign_f1, "F1": variant.f1}
    rows = [{"what": "the paper, DocRED dev", "encoder": full.encoder} | {key: printed.get(key) for key in keys}]
    if row := full.row:
        rows.append({"what": f"this run, best of {row['epochs']} epochs"} | _line(row, keys))
    kin = [r for r in results(full.rows.stem) if _is_of_recipe(full, r)]
    rows += [{"what": f"stored, seed {r['seed']}"} | _line(r, keys) for r in kin]
    if not kin:
        rows.append({"what": "stored: no row of this recipe"})
        near = [r for r in results(f"{full.run.paper}_redocred") if r["recipe"] == full.run.recipe]
        for r in near:
            still = "" if at_plateau(r) else ", still rising"
            what = f"nearest stored, of other data and encoder: {r['data']}, seed {r['seed']}{still}"
            rows.append({"what": what} | _line(r, keys))
    return rows


def _is_of_recipe(full: FullRun, row: Mapping[str, Any]) -> bool:
    identity = {key: value for key, value in full.plan.identity(full.run).items() if key != "seed"}
    return {*IDENTITY} - {"seed", "train"} <= row.keys() and same(row, identity)


def _percent(scores: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, float | None]:
    return {title: None if scores.get(key) is None else 100 * scores[key] for title, key in keys.items()}


def _line(row: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """A stored row in the score table, with its machine."""
    environment = row["environment"]
    took = {"hours": row["seconds"] / 3600, "memory (GB)": row["peak_memory_gb"]}
    on = environment.get("gpu") or environment.get("cpu") or environment["machine"]
    return {"encoder": row["encoder"]} | _percent(row["dev"], keys) | took | {"on": on}


def _about(number: float) -> str:
    """A rough estimate, rounded accordingly."""
    return f"{number:.1f}" if number < 3 else f"{number:.0f}"
