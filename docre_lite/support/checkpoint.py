"""The state of a training on disk: optimiser, random numbers and place, beside a saved model. Nothing is pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import nn

from .store import read_json, read_tensors, write_json

OF_ADAM = ("step", "exp_avg", "exp_avg_sq")


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, place: dict[str, Any]) -> None:
    """Writes `training.safetensors` and `state.json`; the model's own files are the model's to write."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value.contiguous()
    save_file(tensors, folder / "training.safetensors")
    write_json(folder / "state.json", place)


def place(folder: Path) -> dict[str, Any]:
    """What `state.json` holds."""
    return read_json(folder / "state.json")


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, other_seed: int | None) -> None:
    """Weights, the optimiser's moments and the random state. With `other_seed`, as for all processes but the one whose
    state was saved, random numbers begin from that.
    """
    weights, tensors = (read_tensors(folder / f"{name}.safetensors") for name in ("model", "training"))
    model.load_state_dict(weights)
    for name, parameter in model.named_parameters():
        if f"optimizer.step.{name}" in tensors:
            moments = {key: tensors[f"optimizer.{key}.{name}"].to(parameter.device) for key in OF_ADAM}
            optimizer.state[parameter] = moments
    if other_seed is not None:
        set_seed(other_seed % 2**32)  # NumPy takes no larger one
        return
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
