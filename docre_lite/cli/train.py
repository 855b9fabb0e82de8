"""`docre-lite train`: a training from files, in a folder, that can be stopped at any moment and continued."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from .options import count, file, folder, seed, settings, show

KEYS = ("paper", "encoder", "recipe", "settings", "seed", "train", "dev", "relations", "limit")  # of run.json


# No default stands here, so that --resume can tell what was given.
def train(
    paper: Annotated[str | None, Option(help="which paper (default: atlop)", metavar="PAPER")] = None,
    train: Annotated[Path | None, file("training documents with labels, in any format that is read")] = None,
    dev: Annotated[
        Path | None, file("development documents, scored after every epoch; none = the last epoch is kept")
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
        Path | None, file("JSON map of relations, NA = 0 (default: those of the training documents)")
    ] = None,
    limit: Annotated[int | None, count("use the first N training documents only")] = None,
    threads: Annotated[int | None, count("CPU threads (default: torch's own choice, or OMP_NUM_THREADS)")] = None,
    resume: Annotated[Path | None, folder("continue the run in DIR; all other arguments are read from it")] = None,
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
    from ..support.machine import keep_freed

    keep_freed()
    if threads:
        import torch

        torch.set_num_threads(threads)
    if resume:
        if others := [key for key in given if key not in ("resume", "threads")]:
            raise ValueError(
                f"--resume continues a run with the arguments it was begun with; leave out --{' and --'.join(others)}"
            )
        return carry_out(read_plan(resume), resume, resume=True)
    if missing := [key for key in ("train", "out") if key not in given]:
        raise ValueError(f"train needs --{' and --'.join(missing)} (or --resume DIR)")
    _is_new(out)
    chosen = settings(set) | ({"epochs": epochs} if epochs else {})
    files = {key: str(given[key].resolve()) if key in given else None for key in ("train", "dev", "relations")}
    encoder = encoder or "tiny"
    plan = {"paper": paper or "atlop", "encoder": encoder}
    plan |= {"recipe": recipe or ("tiny" if encoder == "tiny" else "docred"), "settings": chosen}
    plan |= {"seed": 66 if seed is None else seed, **files, "limit": limit}
    return carry_out(plan, out, resume=False)


def read_plan(folder: Path) -> dict[str, Any]:
    """What a run was begun with. Raises ValueError if the folder holds no run."""
    from ..support.store import ANEW, read_json

    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no run.json here; --resume takes the --out folder of an earlier run")
    plan = read_json(path)
    if missing := [key for key in KEYS if key not in plan]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; it is not what `docre-lite train` wrote: {ANEW}")
    return plan


def _is_new(out: Path) -> None:
    if (out / "run.json").exists():
        raise ValueError(f"{out} holds a run already: continue it with --resume {out}, or choose another --out")


def carry_out(plan: dict[str, Any], out: Path, resume: bool) -> int:
    """The training that a plan describes, or the rest of it. Returns the exit code."""
    from ..support.machine import processes
    from ..support.store import alone, write_json, writing
    from ..train import fit

    model, documents, dev, config = _prepared(plan, out, resume)
    together = processes()
    together.wait_for_everyone()  # none may find the run.json that another one writes
    if together.is_main_process:
        way_out = "mend that and resume again" if resume else "choose another --out"
        held = alone(out, way_out)  # noqa: F841  until this is over
        if not resume:
            _is_new(out)
        with writing(out, way_out):
            write_json(out / "run.json", plan)
    if stopped := _follow(fit(model, documents, dev, config, out, resume), plan["paper"]):
        together.print(
            f"docre-lite: stopped after step {stopped}; continue with: docre-lite train --resume {out}",
            file=sys.stderr,
        )
        return 130
    if together.is_main_process:
        show({"out": str(out), "metrics": str(out / "metrics.json"), "model": str(out / "model")})
    return 0


def _prepared(plan: dict[str, Any], out: Path, resume: bool):
    """Model, documents and configuration; whatever is wrong with them is told before anything is written."""
    from accelerate.utils import set_seed

    from ..formats.readers import read, read_relations
    from ..model import DocRE, build
    from ..train import configure, last_checkpoint

    check_settings(plan)
    config, rest = configure(plan["paper"], plan["recipe"], **{"seed": plan["seed"], **plan["settings"]})
    relations = read_relations(plan["relations"]) if plan["relations"] else None
    documents = read(plan["train"], relations=relations)[: plan["limit"]]
    dev = read(plan["dev"], relations=relations) if plan["dev"] else []
    if not any(document.triples for document in documents):
        raise ValueError(f"{plan['train']}: no document has a label, so there is nothing to learn; give them labels")
    checkpoint = last_checkpoint(out) if resume else None
    set_seed(config.seed)
    if checkpoint:
        model = DocRE.load(checkpoint)
        _check_model(model, plan, rest, relations, checkpoint)
    else:
        model = build(plan["paper"], documents, plan["encoder"], relations, **rest)
    if not relations:
        _note_unknown(model.relations, dev)
    if model.classifier.objective.tunable and not dev:
        raise ValueError(f"this variant of {plan['paper']} tunes its threshold on development documents; give --dev")
    return model, documents, dev, config


def _follow(steps, name: str) -> int:
    """Shows the progress of a training to its end, or until it is asked to stop: then the step after which it did."""
    from tqdm.auto import tqdm

    from ..support.machine import processes

    first = processes().is_main_process
    # into a file, a line a minute is enough
    often = sys.stderr.isatty() or "TQDM_MININTERVAL" in os.environ
    pace = {} if often else {"mininterval": 60.0, "maxinterval": 60.0}
    # no bar before the first step
    with _interruptible() as asked, tqdm(unit="step", desc=name, delay=1e-6, disable=not first, **pace) as bar:
        for step in steps:
            bar.total = step.steps
            bar.update(step.step - bar.n)
            bar.set_postfix(epoch=step.epoch, loss=f"{step.loss:.3f}", refresh=False)
            if step.scores and first:
                s = step.scores
                bar.write(
                    f"epoch {step.epoch}: dev F1 {100 * s.f1:.2f}, Ign F1 {100 * (s.ign_f1 or 0):.2f}, "
                    f"P {100 * s.precision:.2f}, R {100 * s.recall:.2f}",
                    file=sys.stderr,
                )
            if step.step < step.steps and _any(asked):
                steps.close()  # writes the checkpoint
                return step.step
    return 0


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """The signals that asked for an end. The first waits for the step; the second means now."""
    asked: list[int] = []

    def ask(number: int, _) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _any(asked: list) -> bool:
    """Was any process of this training asked to stop? All leave together: one alone would wait for ever."""
    import torch
    from accelerate.utils import reduce

    from ..support.machine import processes

    if processes().num_processes == 1:
        return bool(asked)
    return bool(reduce(torch.tensor(float(len(asked)), device=processes().device)))


def check_settings(plan: dict[str, Any]) -> None:
    """Raises ValueError if the paper has no setting of one of the names that the plan gives."""
    from ..encode import Reading
    from ..encoder import TinyConfig
    from ..model import paper
    from ..support.settings import fields
    from ..train import TrainConfig

    known = {"variant", *fields(paper(plan["paper"]).Options, Reading, TinyConfig, TrainConfig)}
    if unknown := sorted(set(plan["settings"]) - known):
        raise ValueError(f"{plan['paper']} has no setting {unknown[0]!r}; have {', '.join(sorted(known))}")


def _check_model(model, plan: dict[str, Any], settings: dict[str, Any], relations, folder: Path) -> None:
    """Is the checkpoint of the run that the plan describes?"""
    from dataclasses import asdict

    from ..encode import Reading
    from ..encoder import TinyConfig
    from ..model import paper
    from ..support.settings import update

    spec, tiny = model.spec(), plan["encoder"] == "tiny"
    meant = {"paper": plan["paper"], "encoder": "tiny" if tiny else "pretrained"}
    meant |= {"relations": list(relations.names)} if relations else {}
    other = [key for key, value in meant.items() if spec[key] != value]
    if not other:
        held = [model.classifier.options, model.tokenizer.reading, *([model.encoder.config] if tiny else [])]
        for one, default in zip(held, (paper(plan["paper"]).Options(), Reading(), TinyConfig()), strict=False):
            asked = asdict(update(default, settings))
            other += [key for key, value in asdict(one).items() if asked[key] != value]
    if other:
        raise ValueError(
            f"{folder}: a model with other {', '.join(other)} than run.json beside it asks for; put together again "
            "what belongs together, or start a new --out"
        )


def _note_unknown(relations, dev) -> None:
    unknown = [t.relation for d in dev for t in d.triples if t.relation not in relations]
    if unknown:
        names = ", ".join(sorted({*unknown}))
        print(
            f"docre-lite: {len(unknown)} dev triples have relations that no training document has ({names}); "
            "they are counted as missed",
            file=sys.stderr,
        )
