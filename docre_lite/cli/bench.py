"""`docre-lite bench`: plans of trainings, tables of stored rows, speed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from .options import Precision, count, folder

Plan = Annotated[str, Argument(help="a plan's name (lite, redocred-mini, ..) or JSON file", metavar="PLAN")]
Results = Annotated[Path | None, folder("folder of stored rows; none = benchmarks/results of a checkout")]


def run(
    plan: Plan,
    results: Results = None,
    only: Annotated[
        str, Option(help="runs of some paper, variant, data, seed, ..; none = all", metavar="KEY=VALUE,..")
    ] = "",
    data: Annotated[
        list[str] | None, Option(help="where a file or an encoder of the plan lies, repeatable", metavar="NAME=PATH")
    ] = None,
    out: Annotated[Path, folder("folder for the runs' checkpoints")] = Path("runs"),
    dry_run: Annotated[bool, Option("--dry-run", help="list the runs and how far they are, and stop")] = False,
) -> int:
    """Train and score what a plan names and nobody has stored yet."""
    from ..bench import plans, rows, runs

    found, stored = plans.load(plan), results or rows.RESULTS
    chosen, paths = plans.only(found.runs, only), plans.places(found, data or ())
    if not dry_run:
        return runs.carry_out(found, chosen, paths, out, stored, say=lambda line: print(line, flush=True))
    states = [(rows.state(found, one, out / found.name, stored), one.name) for one in chosen]
    print("\n".join(f"{name}: {state}" for state, name in states))
    print(f"{sum(state == 'done' for state, _ in states)} of {len(chosen)} runs of {found.name} are done")
    return 0


def table(
    plan: Plan,
    results: Results = None,
    base: Annotated[
        str | None, Option(help="what to compare with; own = each paper's full model", metavar="PAPER[/VARIANT]")
    ] = None,
    metric: Annotated[str, Option(help="score to compare, such as ign_f1 or inter_f1", metavar="SCORE")] = "f1",
    split: Annotated[
        str | None, Option(help="documents that are scored: test (if any), dev, counterfactual", metavar="SPLIT")
    ] = None,
    draws: Annotated[int, count("draws of documents for an interval")] = 10_000,
    out: Annotated[list[Path] | None, Option(help=".md or .csv, repeatable", metavar="FILE")] = None,
) -> None:
    """Mean and spread over seeds, and differences with intervals over documents."""
    from ..bench import plans, rows, tables
    from ..support.store import write_whole

    for path in out or ():
        if path.suffix not in (".md", ".csv"):
            raise ValueError(f"{path}: a table is written as .md or .csv")
    records = tables.compare(plans.load(plan), results or rows.RESULTS, base, metric, split, draws)
    text = tables.markdown(records, metric)
    for path in out or ():
        write_whole(path, (text if path.suffix == ".md" else tables.as_csv(records)).encode())
    print(text, end="")


def speed(
    encoder: Annotated[str, Option(help="as in `docre-lite train`", metavar="tiny|NAME|PATH")],
    data: Annotated[str | None, Option(help="documents to time on; none = made ones", metavar="FILE")] = None,
    paper: Annotated[list[str] | None, Option(help="which paper, repeatable; none = all five", metavar="PAPER")] = None,
    recipe: Annotated[str, Option(help="the settings that `train` runs with", metavar="NAME")] = "docred",
    variant: Annotated[
        str | None, Option(help="an ablation of the paper; none = the full model", metavar="NAME")
    ] = None,
    precision: Annotated[Precision, Option(help="of the calculation")] = "fp32",
    device: Annotated[Literal["cpu", "cuda"] | None, Option(help="none = the GPU if there is one")] = None,
    batch_size: Annotated[int, count("documents of a batch")] = 4,
    repeats: Annotated[int, count("repeats, the median of which counts")] = 5,
    entities: Annotated[list[int] | None, count("entities to show growth over, on a long document")] = None,
    tokens: Annotated[list[int] | None, count("tokens to show growth over, with 20 entities")] = None,
    threads: Annotated[int, count("CPU threads")] = 1,
    results: Results = None,
) -> None:
    """Measure time and memory against the bare encoder."""
    import torch

    from ..bench import rows, works
    from ..bench import speed as measured
    from ..train import configure

    torch.set_num_threads(threads)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if place == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: there is no GPU here; leave it out, or take cpu")
    given = {"recipe": recipe, "variant": variant, "repeats": repeats}
    setting = measured.Setting(encoder, data, place, precision, batch_size, **given)
    growth = entities or measured.ENTITIES, tokens or measured.TOKENS
    for size in measured.sizes(*growth):  # what cannot be measured is told before anything is
        works.document(*size)
    found = []
    for name in (names := paper or measured.PAPERS):
        configure(name, recipe, **({"variant": variant} if variant else {}))  # are there such?
    for name in names:
        row = measured.measure(name, setting, *growth, say=lambda line: print(line, file=sys.stderr, flush=True))
        rows.keep((results or rows.RESULTS) / "speed.json", row, measured.same)
        found.append(row)
    print(measured.markdown(found), end="")
