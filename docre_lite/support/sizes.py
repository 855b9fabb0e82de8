"""The sizes that a configuration of a hub transformer asks for, compared with the weights that there are.

The library builds a network before it compares: with a billion layers it would never end.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModel
from transformers.utils import logging

DEPTH = re.compile("layer|depth|group|stage|block|repeat")  # names of sizes that say how often something is built
MODEST = 10_000_000  # weights that can be built for nothing


def too_deep(config, tensors: int) -> str | None:
    """The field with more layers than so many tensors can hold: building them would not end."""
    for name, value in config.to_dict().items():
        if DEPTH.search(name) and type(value) is int and value > max(tensors, 1024):
            return f"config.json has {name} = {value}, but there are {tensors} tensors"
    return None


def too_large(config, folder: Path) -> str | None:
    """Why the weights in a folder cannot be those of its configuration; None if they can, or are elsewhere."""
    files = list(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        return None
    shapes: list[list[int]] = []
    for path in files:
        with safe_open(path, "pt") as file:
            shapes += [file.get_slice(name).get_shape() for name in file.keys()]
    if fault := too_deep(config, len(shapes)):
        return fault
    asked = sum(p.numel() for p in weightless(config).parameters())
    if asked > MODEST + 2 * (there := sum(map(math.prod, shapes))):  # what differs by less, the library names
        return f"its config.json describes {asked:,} weights, but there are {there:,}"
    return None


def weightless(config) -> nn.Module:
    """The network of a configuration on the device "meta", where it takes no memory."""
    with torch.device("meta"), reported_by_us():
        return AutoModel.from_config(config, **plain(config))


def plain(config) -> dict:
    """Arguments for creating a model of the library: no code of its own, no pooler, which would get no gradient."""
    kind = AutoModel._model_mapping[type(config)]
    pooler = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    how = {"attn_implementation": "eager", "dtype": torch.float32, "trust_remote_code": False}
    return how | ({"add_pooling_layer": False} if pooler else {})


@contextmanager
def reported_by_us() -> Iterator[None]:
    """Silences the library's report on weights: unused pooler weights are intended, and we report faults ourselves."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
