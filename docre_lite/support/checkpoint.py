"""The state of training on disk: a saved model, optimiser, random numbers and place. Nothing is pickled.

Two slots take turns, `last/0` and `last/1`. A save breaks the seal of the older one, overwrites its files in place
and seals them with a checksum of each. Whenever the process is stopped, one sealed slot is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import nn

from . import DataError
from .store import (
    ANEW,
    behind,
    check_weights,
    read_json,
    read_tensors,
    replace_folder,
    settle,
    sweep,
    whole,
    write_json,
    write_over,
    write_tensors,
    writing,
)

SLOTS, SEAL = ("0", "1"), "checksums.json"
OF_ADAM = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class State:
    """The state of a run, without its tensors."""

    step: int = 0
    loss_sum: float = 0.0
    best: float = -1.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def check(self, steps: int) -> None:
        """Raises TypeError if this is no state of a run of so many steps."""
        if type(self.step) is not int or not 0 <= self.step <= steps:
            raise TypeError(f"step is {self.step!r}, not a number up to {steps}")
        for name in ("loss_sum", "best", "seconds"):
            if type(value := getattr(self, name)) not in (int, float) or not math.isfinite(value):
                raise TypeError(f"{name} is {value!r}, not a number")
        if not isinstance(self.history, list) or not all(isinstance(row, dict) for row in self.history):
            raise TypeError("history is not a list of epochs")


class Folder:
    """What a run leaves in its folder: the first of its processes writes it, no other, and none without a folder."""

    def __init__(self, out: Path | None, minutes: float):
        self.out, self.minutes = out, minutes
        self.checkpoint: Path | None = None  # the whole one
        self.saved = time.monotonic()

    def is_due(self) -> bool:
        """Has it been long enough since the last checkpoint?"""
        return time.monotonic() - self.saved >= 60 * self.minutes

    def write_checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer, place: dict[str, Any]) -> None:
        def write(slot: Path) -> None:
            model.write(slot)  # without a card, which belongs to finished epochs
            write_state(slot, model, optimizer, place)

        def save(out: Path) -> None:
            self.checkpoint = save_slot(out / "last", self.checkpoint, place["step"], write)

        self._write(save)
        self.saved = time.monotonic()

    def write_model(self, model: nn.Module) -> None:
        def write(folder: Path) -> None:
            model.write(folder)
            model.write_card(folder)

        self._write(lambda out: replace_folder(out / "model", write))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        self._write(lambda out: write_json(out / "metrics.json", metrics))

    def settle(self, ended: bool) -> None:
        """Clears away what a kill left, and at the end the place where the next model would be written."""
        if self.out:
            settle(self.out / "model", keep_spare=not ended)
            sweep(self.out)

    def _write(self, write: Callable[[Path], None]) -> None:
        if self.out:
            way_out = f"fix that; `docre-lite train --resume {self.out}` continues from the last checkpoint"
            with writing(self.out, way_out):
                self.out.mkdir(parents=True, exist_ok=True)
                write(self.out)


def newest(last: Path) -> Path | None:
    """The whole slot with the later step, None before the first one is finished.

    Raises DataError if a sealed slot is damaged: stopping a process cannot cause that.
    """
    slots = [(seal["step"], last / name, seal["files"]) for name in SLOTS if (seal := _seal(last / name))]
    faults = []
    for _, slot, files in sorted(slots, reverse=True, key=lambda found: found[0]):
        if not (fault := _damage(slot, files)):
            return slot
        faults.append(fault)
    if faults:
        raise DataError(faults[0])
    before = whole(last)  # earlier versions wrote a folder without slots
    return before if (before / "state.json").is_file() else None


def _seal(slot: Path) -> dict[str, Any] | None:
    """The sealed content; None if it was never finished, or if something has been written since."""
    try:
        seal = json.loads((slot / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(seal, dict) and type(seal.get("step")) is int and isinstance(seal.get("files"), dict)
    if not whole or not seal["files"] or not all(isinstance(value, str) for value in seal["files"].values()):
        return None
    return seal if all(Path(name).name == name for name in seal["files"]) else None  # of this folder alone


def _damage(slot: Path, files: dict[str, str]) -> str | None:
    for name, checksum in files.items():
        if not (slot / name).is_file():
            return f"{slot / name}: no such file, which a checkpoint had when it was saved; {ANEW}"
        if _digest(slot / name) != checksum:
            return f"{slot / name}: cut short or damaged (its checksum differs from the one saved with it); {ANEW}"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_slot(last: Path, before: Path | None, step: int, write: Callable[[Path], None]) -> Path:
    """Writes and seals the files of a slot, other than `before`, the whole one so far."""
    slots = [last / name for name in SLOTS if last / name != before]
    for slot in slots:  # both, without one before: they belong to another run
        if (slot / SEAL).is_file():
            write_over(slot / SEAL, b"")
    here = slots[0]
    behind(last).mkdir(parents=True, exist_ok=True)  # a link stays, even if its folder is yet to be made
    if here.is_symlink():
        here.unlink()  # only a stranger plants one here
    here.mkdir(exist_ok=True)
    for path in here.iterdir():
        if path.is_symlink():
            path.unlink()
    write(here)
    seal(here, step)
    return here


def seal(slot: Path, step: int) -> None:
    """Marks the files now in the slot as whole, and as those of this step."""
    files = {path.name: _digest(path) for path in sorted(slot.iterdir()) if path.name != SEAL}
    write_over(slot / SEAL, json.dumps({"step": step, "files": files}, indent=1).encode())


def clear(last: Path) -> None:
    """Deletes both slots, emptied first, so that they take no room in the trash of a network drive."""
    for path in last.rglob("*"):
        if path.is_file():
            write_over(path, b"")
    if not last.is_symlink():
        shutil.rmtree(last, ignore_errors=True)
        return
    for name in SLOTS:  # the link stays: it is yours
        shutil.rmtree(last / name, ignore_errors=True)


def write_state(slot: Path, model: nn.Module, optimizer: torch.optim.Optimizer, place: dict[str, Any]) -> None:
    """Writes `training.safetensors` and `state.json`; the model writes its own files."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    write_tensors(slot / "training.safetensors", tensors)
    write_over(slot / "state.json", (json.dumps(place, indent=1, ensure_ascii=False) + "\n").encode())


def place(slot: Path) -> dict[str, Any]:
    """The content of `state.json`."""
    return read_json(slot / "state.json")


def restore(slot: Path, model: nn.Module, optimizer: torch.optim.Optimizer, other_seed: int | None) -> None:
    """Restores weights, the optimiser's moments and the random state. With `other_seed`, which all processes but the
    one that saved its state use, random numbers start from that seed.
    """
    weights, tensors = (read_tensors(slot / f"{name}.safetensors") for name in ("model", "training"))
    check_weights(slot / "training.safetensors", tensors)
    model.load_state_dict(weights)
    for name, parameter in model.named_parameters():
        if f"optimizer.step.{name}" in tensors:
            # a copy: the tensor is the file itself, mapped into memory, and the file will be overwritten
            moments = {key: tensors[f"optimizer.{key}.{name}"].to(parameter.device, copy=True) for key in OF_ADAM}
            if any(moments[key].shape != parameter.shape for key in OF_ADAM[1:]) or moments["step"].numel() != 1:
                raise TypeError(f"the optimiser's numbers for {name} have another size")
            optimizer.state[parameter] = moments
    if other_seed is not None:
        set_seed(other_seed % 2**32)  # NumPy takes no larger one
        return
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
