"""Training from files, in a folder; can be stopped at any moment and continued: the work of `docre-lite train`."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import reduce, set_seed
from tqdm.auto import tqdm

from ..encode import Reading
from ..encoder import TinyConfig
from ..formats.describe import equal_texts
from ..formats.readers import read, read_relations
from ..model import DocRE, build, paper
from ..support.checkpoint import place
from ..support.machine import processes
from ..support.prose import printable
from ..support.record import described
from ..support.settings import fields, update
from ..support.store import ANEW, alone, read_json, write_json, writing
from ..train import Step, TrainConfig, configure, fit, last_checkpoint

KEYS = ("paper", "encoder", "recipe", "settings", "seed", "train", "dev", "relations", "limit")  # of run.json


def read_plan(folder: Path) -> dict[str, Any]:
    """The arguments of a run. Raises ValueError if the folder holds no run."""
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no run.json here; --resume takes the --out folder of an earlier run")
    plan = read_json(path)
    if missing := [key for key in KEYS if key not in plan]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; `docre-lite train` did not write it: {ANEW}")
    kinds = dict.fromkeys(KEYS, str | None) | {"settings": dict, "seed": int, "limit": int | None}
    kinds |= dict.fromkeys(("paper", "encoder", "recipe", "train"), str)
    kinds |= {"threads": int | None, "pairs": list | None, "lenient": bool | None}  # earlier versions have none
    for key, kind in kinds.items():
        value = plan.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and key != "lenient"):
            raise ValueError(f"{path}: {key} is {str(value)[:40]!r}; `docre-lite train` did not write it: {ANEW}")
    return plan


def is_new(out: Path) -> None:
    """Raises ValueError if the folder holds a run."""
    if (out / "run.json").exists():
        raise ValueError(f"{out} already holds a run: continue it with --resume {out}, or choose another --out")


def carry_out(plan: dict[str, Any], out: Path, resume: bool) -> int:
    """Carries out the training run of a plan, or the rest of it. Returns the step after which it stopped early, else 0.

    Raises ValueError if plan or files are faulty, FloatingPointError if the loss is no longer finite.
    """
    if not resume and Path(plan["encoder"]).is_dir() and plan["encoder"] != "tiny":
        plan = plan | {"encoder": str(Path(plan["encoder"]).resolve())}  # a resumed run may start in another folder
    model, documents, dev, config = _prepared(plan, out, resume)
    together = processes()
    together.wait_for_everyone()  # no process may find the run.json that another one writes
    if together.is_main_process:
        way_out = "fix that and resume again" if resume else "choose another --out"
        held = alone(out, way_out)  # noqa: F841  until this is over
        if not resume:
            is_new(out)
        with writing(out, way_out):
            write_json(out / "run.json", plan)
    passes = 2 if model.classifier.objective.tunable else 1  # over dev: to set thresholds, and to score
    progress = Progress(plan["paper"], len(documents), passes * len(dev), config)
    steps = fit(model, documents, dev, config, out, resume, progress.scored, _names(plan))
    _announce(model, documents, dev, config, out, resume)
    return _follow(steps, progress)


def _names(plan: dict[str, Any]) -> dict[str, Any]:
    """What a plan adds to a model's card: names, never paths, since a card travels."""
    encoder, files = plan["encoder"], {key: plan[key] for key in ("train", "dev", "relations") if plan[key]}
    about = {"encoder": Path(encoder).name if Path(encoder).is_absolute() else encoder, "recipe": plan["recipe"]}
    about |= {"variant": plan["settings"]["variant"]} if "variant" in plan["settings"] else {}
    return about | {"files": {key: Path(path).name for key, path in files.items()}}


def _announce(model: DocRE, documents, dev, config: TrainConfig, out: Path, resume: bool) -> None:
    """Tells in two lines what is trained, and how."""
    together = processes()
    about = described(model, config, len(documents), len(dev), together.device)
    encoder, rest = (f"{number / 1e6:.3g}" for number in about["parameters"].values())
    epoch = math.ceil(len(documents) / (config.batch_size * config.accumulation))
    before = last_checkpoint(out) if resume else None
    behind = f", {place(before)['step']} of them done" if before else ""
    on = about["device"] + (f" × {together.num_processes}" if together.num_processes > 1 else "")
    for line in (
        f"{about['paper']}: {len(documents)} documents to train on, {len(dev)} for dev; {about['relations']} relations "
        f"and {about['types']} entity types; {encoder} (encoder) + {rest} (paper) million parameters",
        f"on {on} in {about['precision']}: {config.epochs * epoch} steps, {config.epochs} epochs of {epoch}{behind}",
    ):
        together.print(line, file=sys.stderr)


def _prepared(plan: dict[str, Any], out: Path, resume: bool):
    """Model, documents and configuration; faults in them surface before anything is written."""
    check_settings(plan)
    config, rest = configure(plan["paper"], plan["recipe"], **{"seed": plan["seed"], **plan["settings"]})
    relations = read_relations(plan["relations"]) if plan["relations"] else None
    how = {"relations": relations, "pairs": plan.get("pairs"), "strict": not plan.get("lenient")}
    documents = read(plan["train"], **how)[: plan["limit"]]
    dev = read(plan["dev"], **how) if plan["dev"] else []
    for leak in equal_texts(dev, documents)[:3]:
        said = printable(f"{plan['dev']}: {leak}")
        print(f"docre-lite: {said}, so its scores flatter the model", file=sys.stderr)
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


FORWARD = 1 / 3  # of a training document's work: to score one takes no way back, which costs twice the way there


class Lines:
    """A log instead of a screen: each state of a bar is a line of its own, where a terminal would draw it anew."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass


class Progress:
    """A bar over a whole training: its steps, and the scoring after each epoch as so many steps as it takes.

    So it moves all the time, and the time that it says remains holds both.
    """

    def __init__(self, name: str, train: int, dev: int, config: TrainConfig):
        """`train` and `dev`: documents that an epoch trains on, and scores."""
        each = config.batch_size * config.accumulation
        self.per_epoch = math.ceil(train / each)
        self.per_document = FORWARD / each * processes().num_processes  # this one scores its share of them
        self.scoring = FORWARD * dev / each  # steps that an epoch's scoring is worth
        # into a file, a line a minute is enough
        often = sys.stderr.isatty() or "TQDM_MININTERVAL" in os.environ or "ipykernel" in sys.modules
        pace = {} if often else {"mininterval": 60.0, "maxinterval": 60.0}
        drawn = sys.stderr.isatty() or "ipykernel" in sys.modules
        screen = {} if drawn else {"file": Lines()}
        how = "{desc}: {percentage:3.0f}%" + ("|{bar}|" if drawn else ",") + " {elapsed}<{remaining}{postfix}"
        self.bar = tqdm(
            desc=name,
            total=config.epochs * (self.per_epoch + self.scoring),
            bar_format=how,
            smoothing=0,  # the mean pace so far: an epoch steps first and scores then
            disable=not processes().is_main_process,
            delay=1e-6,  # no bar before the first step
            **pace,
            **screen,
        )
        self.begun, self.step, self.documents = False, 0, 0

    def after(self, step: Step) -> None:
        """Moves to where this step ends, with the scoring that follows an epoch's last."""
        self.step, self.documents = step.step, 0
        place = self._place(step.step)
        self.bar.set_postfix(epoch=step.epoch, step=f"{step.step}/{step.steps}", loss=f"{step.loss:.3f}", refresh=False)
        if self.begun:
            self.bar.update(place - self.bar.n)
        elif not self.bar.disable:  # time counts from here, and not what a run that goes on has behind it
            self.bar.initial = self.bar.n = self.bar.last_print_n = place
            self.bar.unpause()
        self.begun = True
        if step.scores and processes().is_main_process:
            s = step.scores
            self.bar.write(
                f"epoch {step.epoch}: dev F1 {100 * s.f1:.2f}, Ign F1 {100 * (s.ign_f1 or 0):.2f}, "
                f"P {100 * s.precision:.2f}, R {100 * s.recall:.2f}",
                file=sys.stderr,
            )

    def scored(self, documents: int) -> None:
        """Moves by some dev documents; their scores are shown with the step before them."""
        self.documents += documents
        if self.begun:
            behind = min(self.documents * self.per_document, self.scoring)
            self.bar.update(self._place(self.step + 1) - self.scoring + behind - self.bar.n)

    def _place(self, step: int) -> float:
        return step + step // self.per_epoch * self.scoring


def _follow(steps: Generator[Step], progress: Progress) -> int:
    """Shows the progress of a training run until it ends, or is asked to stop: then returns its last step."""
    with _interruptible() as asked, progress.bar:
        for step in steps:
            progress.after(step)
            if step.step < step.steps and _any(asked):
                steps.close()  # writes the checkpoint
                return step.step
    return 0


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """The signals to stop. The first waits for the end of the step; the second stops at once."""
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
    """Was any process of this training run asked to stop? All stop together: otherwise some would wait forever."""
    if processes().num_processes == 1:
        return bool(asked)
    return bool(reduce(torch.tensor(float(len(asked)), device=processes().device)))


def check_settings(plan: dict[str, Any]) -> None:
    """Raises ValueError if the paper has no setting of one of the names that the plan gives."""
    known = {"variant", *fields(paper(plan["paper"]).Options, Reading, TinyConfig, TrainConfig)}
    if unknown := sorted(set(plan["settings"]) - known):
        raise ValueError(f"{plan['paper']} has no setting {unknown[0]!r}; have {', '.join(sorted(known))}")


def _check_model(model, plan: dict[str, Any], settings: dict[str, Any], relations, folder: Path) -> None:
    """Checks that the checkpoint belongs to the run that the plan describes."""
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
            f"{folder}: a model with other {', '.join(other)} than run.json beside it requires; restore the files that "
            "belong together, or start a new --out"
        )


def _note_unknown(relations, dev) -> None:
    unknown = [t.relation for d in dev for t in d.triples if t.relation not in relations]
    if unknown:
        names = ", ".join(sorted({*unknown}))
        print(
            f"docre-lite: {len(unknown)} dev triples have relations that no training document has ({names}); "
            "they count as missed",
            file=sys.stderr,
        )
