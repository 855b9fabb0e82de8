"""`docre-lite train`: trains from files, in a folder; can be stopped at any moment and continued."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from .options import count, file, folder, seed, settings, show


# No defaults here, so that --resume can tell which options were given.
def train(
    paper: Annotated[str | None, Option(help="which paper (default: atlop)", metavar="PAPER")] = None,
    train: Annotated[Path | None, file("training documents with labels, in any supported format")] = None,
    dev: Annotated[
        Path | None, file("development documents, scored after every epoch (default: none; the last epoch is kept)")
    ] = None,
    encoder: Annotated[
        str | None,
        Option(
            help="'tiny' (from scratch, the default), a hub name, or a folder with a BERT- or RoBERTa-like model",
            metavar="tiny|NAME|PATH",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        Option(
            help="published settings to start from, see --help-paper (default: tiny for the tiny encoder, else docred)",
            metavar="NAME",
        ),
    ] = None,
    epochs: Annotated[int | None, count("passes over the training documents (default: the recipe's)")] = None,
    seed: Annotated[int | None, seed("seed of weights, document order and dropout (default: 66)")] = None,
    out: Annotated[Path | None, folder("folder for metrics.json, model/ (best epoch) and last/ (to resume)")] = None,
    set: Annotated[
        list[str] | None,
        Option(
            help="any setting of --help-paper, repeatable; variant=NAME picks an ablation (default: none)",
            metavar="KEY=VALUE",
        ),
    ] = None,
    relations: Annotated[
        Path | None, file("JSON map of relations, NA = 0 (default: the relations of the training documents)")
    ] = None,
    pairs: Annotated[
        list[str] | None,
        Option(
            help="classify only pairs of these types, such as Chemical:Disease (repeatable), those of cdr or gda, or "
            "all; the model keeps them (default: those of the recipe cdr or gda, else all)",
            metavar="HEAD:TAIL",
        ),
    ] = None,
    lenient: Annotated[
        bool | None,
        Option("--lenient", help="leave out faulty mentions, labels and lines of the files, and count them"),
    ] = None,
    limit: Annotated[int | None, count("use only the first N training documents")] = None,
    threads: Annotated[
        int | None, count("CPU threads (default: torch's own choice, or OMP_NUM_THREADS; --resume keeps them)")
    ] = None,
    resume: Annotated[Path | None, folder("continue the run in DIR, which holds all other arguments")] = None,
    help_paper: Annotated[
        str | None, Option(help="list a paper's recipes, variants and settings, and stop", metavar="PAPER")
    ] = None,
) -> int:
    """Train a paper's model and score it after every epoch."""
    given = {key: value for key, value in locals().items() if value is not None}
    if help_paper:
        from .paper import describe

        print(describe(help_paper))
        return 0
    from ..bench import training
    from ..formats.readers import PAIRS
    from ..support.machine import keep_freed

    keep_freed()
    plan = training.read_plan(resume) if resume else {}
    if number := threads or plan.get("threads"):
        import torch

        torch.set_num_threads(number)
    if resume:
        if others := [key for key in given if key not in ("resume", "threads")]:
            raise ValueError(
                f"--resume continues a run with its original arguments; leave out --{' and --'.join(others)}"
            )
        return _carried_out(plan, resume, resume=True)
    if missing := [key for key in ("train", "out") if key not in given]:
        raise ValueError(f"train needs --{' and --'.join(missing)} (or --resume DIR)")
    training.is_new(out)
    chosen = settings(set) | ({"epochs": epochs} if epochs else {})
    files = {key: os.path.abspath(given[key]) if key in given else None for key in ("train", "dev", "relations")}
    encoder = encoder or "tiny"
    plan = {"paper": paper or "atlop", "encoder": encoder}
    plan |= {"recipe": recipe or ("tiny" if encoder == "tiny" else "docred"), "settings": chosen}
    plan |= {"seed": 66 if seed is None else seed, **files, "limit": limit, "threads": threads}
    plan |= {"pairs": pairs or ([plan["recipe"]] if plan["recipe"] in PAIRS else None), "lenient": bool(lenient)}
    return _carried_out(plan, out, resume=False)


def _carried_out(plan: dict, out: Path, resume: bool) -> int:
    from ..bench.training import carry_out
    from ..support.machine import processes

    if stopped := carry_out(plan, out, resume):
        line = f"docre-lite: stopped after step {stopped}; continue with: docre-lite train --resume {out}"
        processes().print(line, file=sys.stderr)
        return 130
    if processes().is_main_process:
        show({"out": str(out), "metrics": str(out / "metrics.json"), "model": str(out / "model")})
    return 0
