"""`docre-lite bench`: plans of training runs, tables of stored rows, speed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from .options import count, folder

Plan = Annotated[str, Argument(help="name of a plan (lite, redocred-mini, …) or JSON file", metavar="PLAN")]
Results = Annotated[Path | None, folder("folder of stored rows (default: benchmarks/results of a checkout)")]


def run(
    plan: Plan,
    results: Results = None,
    only: Annotated[
        str, Option(help="only runs with this paper, variant, data, seed, … (default: all)", metavar="KEY=VALUE,..")
    ] = "",
    data: Annotated[
        list[str] | None, Option(help="path of a file or an encoder of the plan; repeatable", metavar="NAME=PATH")
    ] = None,
    out: Annotated[Path, folder("folder for the runs' checkpoints")] = Path("runs"),
    dry_run: Annotated[bool, Option("--dry-run", help="list the runs and their progress, and stop")] = False,
) -> int:
    """Train and score the runs of a plan that have no stored row yet."""
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
        str | None, Option(help="model to compare with; own = each paper's full model", metavar="PAPER[/VARIANT]")
    ] = None,
    metric: Annotated[str, Option(help="score to compare, such as ign_f1 or inter_f1", metavar="SCORE")] = "f1",
    split: Annotated[
        str | None, Option(help="documents to score: test (default if any), dev, counterfactual", metavar="SPLIT")
    ] = None,
    draws: Annotated[int, count("draws of documents per interval")] = 10_000,
    out: Annotated[list[Path] | None, Option(help=".md or .csv file to write; repeatable", metavar="FILE")] = None,
) -> None:
    """Show means and spreads over seeds, and differences with intervals."""
    from ..bench import plans, rows, tables
    from ..support.store import check_writable, write_whole, writing

    for path in out or ():
        if path.suffix not in (".md", ".csv"):
            raise ValueError(f"{path}: a table is written as .md or .csv")
        check_writable(path)
    records = tables.compare(plans.load(plan), results or rows.RESULTS, base, metric, split, draws)
    text = tables.markdown(records, metric)
    for path in out or ():
        with writing(path, "fix that, or choose another --out"):
            write_whole(path, (text if path.suffix == ".md" else tables.as_csv(records)).encode())
    print(text, end="")


def speed(
    encoder: Annotated[str, Option(help="as in `docre-lite train`", metavar="tiny|NAME|PATH")],
    data: Annotated[str | None, Option(help="documents to time on (default: artificial ones)", metavar="FILE")] = None,
    paper: Annotated[list[str] | None, Option(help="paper; repeatable (default: all five)", metavar="PAPER")] = None,
    recipe: Annotated[str, Option(help="settings, as in `docre-lite train`", metavar="NAME")] = "docred",
    variant: Annotated[
        str | None, Option(help="ablation of the paper (default: the full model)", metavar="NAME")
    ] = None,
    precision: Annotated[Literal["fp32", "bf16"], Option(help="precision of the computation")] = "fp32",
    device: Annotated[Literal["cpu", "cuda"] | None, Option(help="default: the GPU if there is one")] = None,
    batch_size: Annotated[int, count("documents per batch")] = 4,
    repeats: Annotated[int, count("repeats, of which the median counts")] = 5,
    entities: Annotated[list[int] | None, count("entity counts for the growth curve, on a long document")] = None,
    tokens: Annotated[list[int] | None, count("token counts for the growth curve, with 20 entities")] = None,
    threads: Annotated[int, count("CPU threads")] = 1,
    results: Results = None,
) -> None:
    """Measure time and memory against the bare encoder."""
    import torch

    from ..bench import rows, works
    from ..bench import speed as measured
    from ..support.store import check_writable
    from ..train import configure

    torch.set_num_threads(threads)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if place == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no GPU; omit the option, or use cpu")
    given = {"recipe": recipe, "variant": variant, "repeats": repeats}
    setting = measured.Setting(encoder, data, place, precision, batch_size, **given)
    growth = entities or measured.ENTITIES, tokens or measured.TOKENS
    for size in measured.sizes(*growth):  # report sizes that cannot be measured before anything is
        works.document(*size)
    check_writable((results or rows.RESULTS) / "speed.json", "fix that, or choose another --results")
    found = []
    for name in (names := paper or measured.PAPERS):
        configure(name, recipe, **({"variant": variant} if variant else {}))  # do they exist?
    for name in names:
        row = measured.measure(name, setting, *growth, say=lambda line: print(line, file=sys.stderr, flush=True))
        rows.keep((results or rows.RESULTS) / "speed.json", row, measured.same)
        found.append(row)
    print(measured.markdown(found), end="")
