"""`docre-lite extract`: turns any number of documents into triples in parquet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .options import (
    Arithmetic,
    BatchSize,
    Budget,
    Evidence,
    HowToPredict,
    Model,
    count,
    folder,
    model_folder,
    seed,
    settings,
    show,
)


def extract(
    run: Model,
    input: Annotated[list[str], Option(help="JSON lines (.gz too) or parquet; ** = any folders", metavar="GLOB…")],
    out: Annotated[Path, folder("folder to write to; an interrupted run continues there")],
    workers: Annotated[int, count("processes, each with its own model")] = 1,
    engine: Annotated[
        Literal["local", "ray"], Option(help="processes on this machine, or Ray's on a cluster")
    ] = "local",
    threads: Annotated[int | None, count("CPU threads per process (default: the cores, shared equally)")] = None,
    part_size: Annotated[int, count("documents per file of triples")] = 256,
    batch_size: BatchSize = 8,
    budget: Budget = 1 << 14,
    evidence: Evidence = 0.2,
    precision: Arithmetic = "fp32",
    set: HowToPredict = None,
    seed: Annotated[int, seed("as in `predict`, for each part")] = 0,
) -> None:
    """Find the triples of any number of documents; interrupted runs continue."""
    from ..scale.extract import extract as stream
    from ..scale.parts import REJECTED

    how = {"workers": workers, "engine": engine, "threads": threads, "part_size": part_size, "batch_size": batch_size}
    how |= {"budget": budget, "evidence": evidence, "seed": seed, "precision": precision, "options": settings(set)}
    totals = stream(model_folder(run), input, out, progress=True, **how)
    if totals["rejected"]:
        print(f"docre-lite: {totals['rejected']} documents set aside, see {out / REJECTED}", file=sys.stderr)
    show({**totals, "out": str(out)})
