"""The cost of a full run, estimated before it starts: hours and memory, from counted work and the data sheets of GPUs.

Counted: the floating-point operations, the calls and the memory of a training step. Those of the encoder follow from
its sizes; those of the paper's part come from one real step, with an encoder of the same width and a single layer.

Assumed: a GPU reaches the share of its peak that this package reached on CPUs (`docre-lite bench speed`), each call
adds `CALL` seconds, and documents are as long as DocRED's. Nothing is measured on the GPU itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, BertModel

from ..model import build
from ..show import results
from ..train import configure
from ..types import NA, Relations
from .meter import Meter, work
from .works import RELATIONS, bare, document, train_bare, train_whole

CALL = 4e-5  # seconds that Python takes to start an operation: our assumption, twice what one takes on a CPU of ours
CONTEXT = 1e9  # bytes that CUDA and torch take for themselves: our assumption
AVERAGE, LARGEST = (20, 275), (42, 512)  # entities and sub-words of a DocRED document; one that fills a window
ADAM = 16  # bytes for a weight, its gradient and AdamW's two moments


@dataclass(frozen=True)
class Card:
    """A GPU according to NVIDIA's data sheet. Peaks are without sparsity, in the precision that `train` uses."""

    name: str
    flops: float  # FLOP/s
    gigabytes: float
    precision: str


CARDS = (
    Card("T4", 8.1e12, 16.0, "fp32"),  # a T4 does not multiply bf16 itself
    Card("L4", 121e12, 24.0, "bf16"),  # the sheet's 242 are with sparsity
    Card("A100", 312e12, 40.0, "bf16"),
)
ENCODERS = {  # layers, width, heads, vocabulary; a feed-forward of four times the width, 512 positions
    "bert-base-cased": (12, 768, 12, 28_996),
    "allenai/scibert_scivocab_cased": (12, 768, 12, 31_116),
    "roberta-large": (24, 1024, 16, 50_265),
}


@dataclass(frozen=True)
class Cost:
    """The resources that a run needs on any machine."""

    flops: float  # of all its epochs, scoring included
    calls: float  # operations that a GPU must start
    parameters: int
    bytes: float  # of memory, while it trains on the largest documents

    def hours(self, card: Card) -> float:
        """Hours on a GPU, estimated."""
        return (self.flops / (share_of_peak() * card.flops) + self.calls * CALL) / 3600

    def hours_here(self) -> float:
        """Hours on this CPU with its current number of threads; a short matrix product measures its peak."""
        peak = Meter(torch.device("cpu")).roof(size=512, megabytes=1)["flops"] * torch.get_num_threads()
        return self.flops / (share_of_peak() * peak) / 3600

    @property
    def gigabytes(self) -> float:
        return self.bytes / 1e9


@cache
def share_of_peak() -> float:
    """The share of a processor's peak that training steps reach: the median of the stored rows of `bench speed`."""
    rows = [r for r in results("speed") if r["device"] == "cpu" and r["precision"] == "fp32"]
    shares = [r["work"]["train_whole"]["flops"] / r["work_seconds"]["train_whole"] / r["roof"]["flops"] for r in rows]
    return median(shares) if shares else 1 / 3


@cache
def cost(paper: str, recipe: str, encoder: str, train: int, dev: int) -> Cost:
    """The cost of a paper's recipe for these numbers of documents. Raises ValueError for an unknown encoder."""
    if encoder not in ENCODERS:
        raise ValueError(f"the sizes of the encoder {encoder!r} are unknown; have {', '.join(ENCODERS)}")
    layers, width, heads, vocabulary = ENCODERS[encoder]
    config, settings = configure(paper, recipe)
    relations = Relations((NA, *(f"relation {k}" for k in range(RELATIONS))))
    sizes = {"layers": 1, "width": width, "heads": heads, "min_count": 1, "dropout": 0.1}
    model = build(paper, [document(*AVERAGE)], "tiny", relations, **{**settings, **sizes}).train()
    one, largest = (model.batch([document(*size)]) for size in (AVERAGE, LARGEST))
    token, length = 12 * width**2, one.windows.shape[1]
    network = layers * (2 * token * length + 4 * width * length**2)  # forward: products with weights, and attention's
    base = int(model.classifier.base_share * config.epochs)
    flops, calls = 0.0, 0.0
    for stage, epochs in ((1, base), (2, config.epochs - base)):
        if not epochs:
            continue
        if base:
            model.classifier.stage.fill_(stage)
        whole, encoder_alone = _counted(lambda: train_whole(model, one)), _counted(lambda: train_bare(model, one))
        each = 3 * network + whole[0] - encoder_alone[0]  # the backward pass costs twice the forward pass
        steps, batches = math.ceil(train / config.batch_size), math.ceil(dev / 8) / 3
        flops += epochs * (train + dev / 3) * each
        calls += epochs * (steps + batches) * (whole[1] - encoder_alone[1] + layers * _of_layer()[0])
    kept = _kept(lambda: model(largest).loss, model) - _kept(lambda: bare(model.encoder, largest), model)
    kept += layers * _of_layer()[1] * width * largest.windows.shape[1]
    parameters = vocabulary * width + 514 * width + layers * (token + 13 * width)
    parameters += sum(p.numel() for p in model.classifier.parameters())
    return Cost(flops, calls, parameters, ADAM * parameters + config.batch_size * kept + CONTEXT)


class _Calls(TorchDispatchMode):
    """Counts operations that do more than give another view of the same numbers."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def _counted(call: Callable[[], object]) -> tuple[int, int]:
    """FLOPs and operations of a call."""
    with _Calls() as calls:
        flops = work(call)["flops"]
    return flops, calls.count


def _kept(call: Callable[[], object], model: nn.Module) -> int:
    """Bytes that a forward pass keeps for the backward pass, without weights."""
    kept, own = {}, {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        made = call()  # kept, so that no memory is reused by another tensor
    del made
    return sum(kept.values())


@cache
def _of_layer() -> tuple[float, float]:
    """For a BERT layer, from a small one: operations per training step, and bytes kept per token and unit."""
    tokens, width = 64, 64
    found = []
    for layers in (1, 2):
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 2, "vocab_size": 8}
        config = BertConfig(num_hidden_layers=layers, **sizes)
        model = BertModel(config, add_pooling_layer=False).eval()  # dropout on a GPU is fused into attention
        ids = torch.zeros(1, tokens, dtype=torch.long)
        with _Calls() as calls:
            model(ids).last_hidden_state.sum().backward()
        found.append((calls.count, _kept(lambda: model(ids).last_hidden_state, model) / tokens / width))  # noqa: B023
    (one, kept_by_one), (two, kept_by_two) = found
    return float(two - one), kept_by_two - kept_by_one
