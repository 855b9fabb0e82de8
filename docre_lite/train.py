"""Training: one loop for every paper, which runs step by step and can be stopped anywhere and continued."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object, set_seed

from .encode import Tokens
from .encoder import TinyEncoder
from .evaluate import Scores, score, seen_facts
from .model import DocRE, expand, paper
from .predict import BUDGET, check_budget, predict, run, tune
from .support import DataError, checkpoint
from .support.checks import check
from .support.machine import (
    arithmetic,
    enough_memory,
    environment,
    peak_memory,
    processes,
    settled,
    warn_of_emulation,
)
from .support.record import best_epoch, described
from .support.schedule import Stages, parameter_groups
from .support.settings import Amount, Count, Rate, Share, option, settings, update
from .support.store import ANEW
from .types import Batch, Document, Prediction, fingerprint

LESS = "set a smaller batch_size with more accumulation, or leave it out; a smaller `largest` names it beforehand"
BUCKET = 32  # batches sorted together by document length, so that each holds documents of similar length


@settings
class TrainConfig:
    """Settings of training; the defaults are ATLOP's on DocRED (Table 2)."""

    epochs: Count = option(30, "passes over the training documents")
    batch_size: Count = option(4, "documents per step, over all processes")
    accumulation: Count = option(
        1,
        "batches whose mean gradient moves the weights together: batch_size=1 with accumulation=4 comes close to "
        "batch_size=4, in the memory of one document, so that a large encoder fits",
    )
    encoder_lr: Rate = option(5e-5, "peak learning rate of the encoder")
    classifier_lr: Rate = option(1e-4, "peak learning rate of everything else")
    matrix_lr: Rate | None = option(None, "peak learning rate of a paper's matrix network (none = classifier_lr)")
    warmup: Share = option(0.06, "share of all steps in which the learning rate rises linearly; then it falls to 0")
    weight_decay: Rate = option(0.0, "AdamW weight decay (the published code's optimiser had none)")
    adam_epsilon: Rate = option(1e-6, "AdamW epsilon of the published code")
    clip: Rate = option(1.0, "largest norm of the gradient")
    shuffle_entities: bool = option(
        False, "number the entities of each training document at random in each epoch, to see if their order matters"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        "autocast to bf16, or to fp16 with the loss scaled, or fp32; auto = bf16 on a GPU whose hardware multiplies it "
        "(not a T4, for which fp16 is the fast one)",
    )
    select: Literal["f1", "ign_f1"] = option("f1", "dev score that decides which epoch's model is kept")
    largest: Count = option(
        BUDGET,
        "most tokens, entity pairs, rows of attention (mentions times heads) or sentences of a document; one with more "
        "stops the run before it begins",
    )
    save_minutes: Rate = option(10.0, "least minutes from one checkpoint to the next; 0 = one after every step")
    seed: Amount = option(66, "seed of initial weights, order of documents and dropout")


def configure(name: str, recipe: str = "docred", **settings: Any) -> tuple[TrainConfig, dict[str, Any]]:
    """Combines a paper's recipe, a variant and your settings: the training settings, and the rest for `model.build`.

    Variants override recipes, and `settings` override both: any setting of `docre-lite train --help-paper`, and
    `variant`. Raises ValueError for a recipe or variant that the paper does not have.
    """
    kind = paper(name)
    if recipe not in kind.recipes:
        raise ValueError(f"{name} has no recipe {recipe!r}; have {', '.join(kind.recipes)}")
    settings = {**kind.recipes[recipe], **expand(kind, settings)}
    own = {f.name for f in dataclass_fields(TrainConfig)}
    config = update(TrainConfig(), {k: v for k, v in settings.items() if k in own})
    return config, {k: v for k, v in settings.items() if k not in own}


@dataclass(frozen=True)
class Step:
    """One optimisation step; the last step of an epoch has the dev scores."""

    epoch: int
    step: int
    steps: int
    loss: float
    losses: dict[str, float]
    seconds: float
    scores: Scores | None = None
    figures: dict[str, float] = field(default_factory=dict)  # scalars of the paper's trace to monitor


def fit(
    model: DocRE,
    train: Sequence[Document],
    dev: Sequence[Document] = (),
    config: TrainConfig | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    scored: Callable[[int], None] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Trains `model` in place and yields after every step; stop by leaving the loop. Faults show at the call.

    With `out`, the folder receives `metrics.json` (scores of every epoch, all settings, precision, versions), `model/`
    (the best epoch by dev score, the last one without dev documents, with a card) and `last/` (the checkpoint that
    `resume=True` continues from, written every `save_minutes`, at the end, and when you leave the loop). `scored` is
    called with the number of dev documents read since its last call. `about` adds to what the card says of the run,
    such as `{"files": {"train": "train.json"}}`. On a CPU with the same number of threads, a resumed run ends bit for
    bit where an uninterrupted one ends; a GPU adds in an order of its own.
    Without `config`, uses the paper's recipe for the tiny encoder or for DocRED.
    """
    check(train, "training documents")
    check(dev, "dev documents")
    if config is None:
        config, _ = configure(model.classifier.name, "tiny" if isinstance(model.encoder, TinyEncoder) else "docred")
    run = _Run(model, train, dev, config, None if out is None else Path(out), scored, about or {})
    run.start(resume)
    return _steps(run)


def _steps(run: _Run) -> Iterator[Step]:
    while run.state.step < run.steps:
        step = run.advance()
        try:
            yield step
        except GeneratorExit:
            run.save_last()
            raise


def fit_frozen(model: DocRE, train: Sequence[Document], config: TrainConfig | None = None) -> Iterator[Step]:
    """Trains only the paper's part of `model`, on features that its encoder computes once; yields after every step.

    This takes seconds instead of minutes, and compares papers on one frozen encoder with identical features. Give
    documents that the encoder was not trained on: on its own training documents, features look better than they are.
    """
    if config is None:
        config, _ = configure(model.classifier.name, "tiny")
    set_seed(config.seed)
    model.to(model.device)  # moves a new classifier to the GPU if its encoder was trained there
    cached = []
    with torch.no_grad():
        for _, _, pairs, _ in run(model, train, config.batch_size):
            cached.append(replace(pairs, attention=None, pooled=pairs.context))
    classifier, steps = model.classifier.train(), len(cached) * config.epochs
    model.about = {}
    groups = [g for g in parameter_groups(model, config) if g["part"] != "encoder."]
    optimizer = adamw(groups, config)
    plan = Stages(classifier, config, len(cached))
    for step in range(steps):
        epoch, within = divmod(step, len(cached))
        if within == 0:
            plan.enter(epoch, classifier, optimizer)
            order = torch.randperm(len(cached), generator=torch.Generator().manual_seed(config.seed * 10_007 + epoch))
        begin, pairs = time.perf_counter(), cached[order[within]]
        prediction = classifier(pairs, pairs.batch.labels)
        losses, loss = prediction.losses, prediction.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), config.clip)
        plan.set_rates(optimizer, step + 1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        values = {name: float(value.detach()) for name, value in losses.items()}
        seconds, figures = time.perf_counter() - begin, _figures(prediction)
        yield Step(epoch + 1, step + 1, steps, float(loss.detach()), values, seconds, figures=figures)
    model.eval()


class _Run:
    def __init__(self, model: DocRE, train, dev, config: TrainConfig, out: Path | None, scored, about):
        if not train:
            raise ValueError("no training documents; give at least one")
        self.config, self.out, self.scored, self.state = config, out, scored or False, checkpoint.State()
        self.accelerator = _accelerator(config, model.classifier.idle_weights)
        self.folder = checkpoint.Folder(out if self.accelerator.is_main_process else None, config.save_minutes)
        self.documents, self.dev = train, dev
        self.encoded = model.tokenizer.encode(train)
        model.tokenizer.check(train)
        for encoded in (self.encoded, model.tokenizer.encode(dev)):
            check_budget(model, encoded, config.largest, "it is the setting `largest`; or leave the document out")
        self.seen = seen_facts(train)
        self.per_epoch = math.ceil(len(train) / (config.batch_size * config.accumulation))
        self.steps = self.per_epoch * config.epochs
        self.model, self.plan = model, Stages(model.classifier, config, self.per_epoch)
        self.wrapped = self.accelerator.prepare(model)  # moves the model before the optimiser sees it
        self.optimizer, self.order = adamw(parameter_groups(model, config), config), []
        device = self.accelerator.device
        self.scaler = torch.amp.GradScaler(device.type, enabled=settled(config.precision, device) == "fp16")
        self.identity = identity(model, config, train, dev)
        self.about = described(model, config, len(train), len(dev), device) | about

    def start(self, resume: bool) -> None:
        set_seed(self.config.seed + self.accelerator.process_index)  # no two processes drop the same units
        if not resume or self.out is None:
            return
        if folder := last_checkpoint(self.out):
            try:
                self._restore(folder)
            except (KeyError, TypeError, AttributeError, RuntimeError) as error:
                why = f"lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
                raise DataError(f"{folder}: cannot resume from this checkpoint ({why}); {ANEW}") from error
            self.folder.checkpoint = folder
        self.accelerator.wait_for_everyone()  # some processes may still read the files that move now
        self.folder.settle(self.state.step == self.steps)

    def advance(self) -> Step:
        """One step of the optimiser; at the end of an epoch also evaluation and saving."""
        begin = time.perf_counter()
        config, state = self.config, self.state
        epoch, within = divmod(state.step, self.per_epoch)
        if within == 0 or not self.order:
            self.order = order_of(self.encoded, self.config, epoch)
        if within == 0 and self.plan.enter(epoch, self.model.classifier, self.optimizer):
            state.best = -1.0  # a base alone does not compete with the whole model
        parts = self.order[within * config.accumulation : (within + 1) * config.accumulation]
        self.model.train()
        self.model.about = {}  # until the epoch ends
        losses: dict[str, float] = {}
        for where in parts:
            with enough_memory([self.documents[k].title for k in where], LESS):
                values, figures = self._backward(where, len(parts))
            for name, value in values.items():
                losses[name] = losses.get(name, 0.0) + value / len(parts)
        self.scaler.unscale_(self.optimizer)
        self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.plan.set_rates(self.optimizer, state.step + 1)
        self.scaler.step(self.optimizer)  # not where a gradient has overflowed: then the scale falls
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        loss = sum(losses.values())
        state.step += 1
        state.loss_sum += loss
        scores = None
        if state.step % self.per_epoch == 0:
            scores = self._finish_epoch(epoch + 1, begin)
        else:
            state.seconds += time.perf_counter() - begin
            self._save_if(self.folder.is_due())
        return Step(epoch + 1, state.step, self.steps, loss, losses, time.perf_counter() - begin, scores, figures)

    def _backward(self, where: list[int], parts: int) -> tuple[dict[str, float], dict[str, float]]:
        accelerator = self.accelerator
        mine = where[accelerator.process_index :: accelerator.num_processes]
        batch = _collated(self, mine or where[:1]).to(accelerator.device)
        with arithmetic(self.config.precision, accelerator.device):
            prediction = self.wrapped(batch)
            losses, loss = prediction.losses, prediction.loss
        share = 1.0
        if accelerator.num_processes > 1:  # losses are means over pairs: weight processes by their number of pairs
            pairs = batch.mask.sum() * float(bool(mine))
            share = pairs / accelerator.reduce(pairs).clamp_min(1)
        accelerator.backward(self.scaler.scale(loss * share * accelerator.num_processes / parts))
        values = {name: float(accelerator.reduce(value.detach() * share)) for name, value in losses.items()}
        if not all(map(math.isfinite, values.values())):
            titles = ", ".join(repr(self.documents[k].title) for k in where)
            raise FloatingPointError(
                f"the loss is not finite at documents {titles}: lower the learning rates or use fp32"
            )
        return values, _figures(prediction)

    def _finish_epoch(self, epoch: int, begin: float) -> Scores | None:
        state, scores = self.state, None
        if self.dev:
            index, count = self.accelerator.process_index, self.accelerator.num_processes
            with arithmetic(self.config.precision, self.accelerator.device):
                tune(self.model, self.dev, progress=self.scored)
                found = predict(self.model, self.dev[index::count], progress=self.scored)
            scores = score(gather_object(found) if count > 1 else found, self.dev, self.seen)
        state.seconds += time.perf_counter() - begin
        row = {"epoch": epoch, "loss": state.loss_sum / self.per_epoch, "seconds": round(state.seconds, 2)}
        if self.plan.base_epochs:
            row["stage"] = self.plan.stage(epoch - 1)[0]
        row |= {"peak_memory_gb": round(peak_memory(self.accelerator.device), 3)}
        if scores:  # by_relation would make up most of the file; `docre-lite score --by-relation` gives it
            row["dev"] = {k: v for k, v in scores.to_dict().items() if k != "by_relation"}
        state.history.append(row)
        state.loss_sum = 0.0
        self.model.about = self.about | {"epoch": epoch, "dev": row.get("dev"), "environment": environment()}
        figure = (getattr(scores, self.config.select) or 0.0) if scores else math.inf
        if figure > state.best or not scores:
            state.best = figure if scores else -1.0
            self.folder.write_model(self.model)
        best = {"best_epoch": best_epoch(state.history, self.config.select)}
        self.folder.write_metrics(self.about | best | {"history": state.history, "environment": environment()})
        # after everything else that an epoch writes: a checkpoint implies that those files are written
        self._save_if(self.folder.is_due() or state.step == self.steps)
        if state.step == self.steps:
            self.folder.settle(ended=True)
        return scores

    def save_last(self) -> None:
        """Writes the checkpoint to continue from: model, optimiser, random state, place; complete or not at all."""
        self._save_if(True)

    def _save_if(self, due: bool) -> None:
        if due:
            place = asdict(self.state) | {"run": self.identity, "scaler": self.scaler.state_dict()}
            self.folder.write_checkpoint(self.model, self.optimizer, place)

    def _restore(self, folder: Path) -> None:
        saved = checkpoint.place(folder)
        if (was := saved.pop("run")) != (now := self.identity):
            changed = [key for key in now if was.get(key) != now[key]]
            raise ValueError(
                f"{folder}: this run had other {', '.join(changed)}; resume with the same ones, or start a new --out"
            )
        if scaler := saved.pop("scaler", None):  # earlier versions had none
            self.scaler.load_state_dict(scaler)
        self.state = checkpoint.State(**saved)
        self.state.check(self.steps)
        epoch, within = divmod(self.state.step, self.per_epoch)
        self.order = order_of(self.encoded, self.config, epoch) if within else []
        index = self.accelerator.process_index
        seed = self.config.seed + 1_000_003 * self.state.step + index
        checkpoint.restore(folder, self.model, self.optimizer, seed if index else None)


def _collated(run: _Run, where: list[int]) -> Batch:
    """The training documents at these indices, as the current step reads them."""
    tokenizer, config = run.model.tokenizer, run.config
    if not config.shuffle_entities:
        return tokenizer.collate([run.encoded[k] for k in where])
    seeds = (config.seed * 1_000_003 + run.state.step * 1_009 + k for k in where)
    mixed = [shuffled(run.documents[k], seed) for k, seed in zip(where, seeds, strict=True)]
    return tokenizer.collate(tokenizer.encode(mixed))


def _figures(prediction: Prediction) -> dict[str, float]:
    return {name: float(value) for name, value in prediction.trace.items() if value.ndim == 0}


def adamw(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.AdamW:
    """The optimiser; `Stages` sets its rates before every step."""
    return torch.optim.AdamW(groups, lr=0.0, eps=config.adam_epsilon, weight_decay=config.weight_decay, fused=True)


def shuffled(document: Document, seed: int) -> Document:
    """The document with its entities numbered at random."""
    draw = torch.Generator().manual_seed(seed)
    return document.permuted(torch.randperm(len(document.entities), generator=draw).tolist())


def order_of(encoded: Sequence[Tokens], config: TrainConfig, epoch: int) -> list[list[int]]:
    """An epoch's batches: shuffled, grouped by length, then shuffled; the same for a given seed and epoch."""
    draw = torch.Generator().manual_seed(config.seed * 10_007 + epoch)
    order = torch.randperm(len(encoded), generator=draw).tolist()
    size, chunk = config.batch_size, config.batch_size * BUCKET
    found = []
    for i in range(0, len(order), chunk):
        near = sorted(order[i : i + chunk], key=lambda k: len(encoded[k].ids))
        found += [near[j : j + size] for j in range(0, len(near), size)]
    return [found[k] for k in torch.randperm(len(found), generator=draw).tolist()]


def identity(model: DocRE, config: TrainConfig, train: Sequence[Document], dev: Sequence[Document]) -> dict[str, Any]:
    """The values that must stay the same for a run to be continued."""
    same = {
        "settings": {k: v for k, v in asdict(config).items() if k not in ("save_minutes", "largest")},
        "model": model.spec(),
        "training documents": fingerprint(train),
        "development documents": fingerprint(dev),
    }
    return json.loads(json.dumps(same))  # in the form in which it is read back: tuples are lists


def _accelerator(config: TrainConfig, idle_weights: bool) -> Accelerator:
    several = DistributedDataParallelKwargs(find_unused_parameters=idle_weights)
    together = processes()
    if together.is_main_process:
        warn_of_emulation(config.precision, together.device)
    # we handle bf16 ourselves (`arithmetic`): accelerate keeps a whole process at the precision of its first run
    return Accelerator(mixed_precision="no", kwargs_handlers=[several])


def last_checkpoint(out: Path) -> Path | None:
    """The checkpoint to continue from, if there is one, see `checkpoint.newest`."""
    return checkpoint.newest(out / "last")
