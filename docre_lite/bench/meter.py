"""Time, floating-point operations and memory traffic of any piece of work, on a CPU or a GPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ..model import DocRE
from ..support.machine import arithmetic
from ..types import Batch

PATIENCE = 20.0  # seconds of repeats after which a measurement ends


@dataclass(frozen=True)
class Meter:
    """Measures on one device in one precision."""

    device: torch.device
    precision: str = "fp32"
    repeats: int = 5

    def seconds(self, works: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
        """Seconds of each work: the median for the first, and for the others that times the median of their ratios.

        Repeats alternate between works, and each ratio comes from one repeat: a machine that slows down stays slow
        for seconds, so both works suffer.
        """
        times = self.times(works)
        reference = next(iter(times.values()))
        return {
            name: median(reference) * median(t / r for t, r in zip(found, reference, strict=True))
            for name, found in times.items()
        }

    def times(self, works: Mapping[str, Callable[[], Any]]) -> dict[str, list[float]]:
        """Seconds of each work in each repeat."""
        found: dict[str, list[float]] = {name: [] for name in works}
        begin = time.perf_counter()
        for k in range(self.repeats):
            if k > 1 and time.perf_counter() - begin > PATIENCE:
                break
            for name, work in works.items():
                found[name].append(self._once(work))
        return found

    def _once(self, work: Callable[[], Any]) -> float:
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        with arithmetic(self.precision, self.device):
            self.wait()
            begin = clock()
            work()
            self.wait()
        return clock() - begin

    def work(self, call: Callable[[], Any]) -> dict[str, int]:
        """FLOPs and bytes of a call in this precision; see `work`."""
        with arithmetic(self.precision, self.device):
            return work(call)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def on(self, model: DocRE, batches: Sequence[Batch], **works: Callable[[DocRE, Batch], Any]) -> dict[str, float]:
        """Seconds of a model's works, summed over batches. Works "kind_…" are compared with the first of their kind."""
        total = dict.fromkeys(works, 0.0)
        for batch in batches:
            for _, names in groupby(sorted(works, key=kind), kind):
                for name, seconds in self.seconds({k: partial(fresh, works[k], model, batch) for k in names}).items():
                    total[name] += seconds
        return total

    def roof(self, size: int = 2048, megabytes: int = 256) -> dict[str, float]:
        """The peak of this device: FLOP/s of a large matrix product, bytes/s of a copy that no cache holds."""
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float32
        a, b = (torch.randn(size, size, device=self.device, dtype=kind) for _ in range(2))
        long = torch.empty(megabytes << 18, device=self.device)
        to = torch.empty_like(long)
        found = replace(self, repeats=10).times({"product": lambda: a @ b, "copy": lambda: to.copy_(long)})
        return {"flops": 2 * size**3 / min(found["product"]), "bytes": 2 * long.nbytes / min(found["copy"])}


def kind(name: str) -> str:
    return name.partition("_")[0]


def fresh(work: Callable[[DocRE, Batch], Any], model: DocRE, batch: Batch) -> None:
    """One piece of work, starting without gradients."""
    model.zero_grad(set_to_none=True)
    work(model, batch)


class _Traffic(TorchDispatchMode):
    """Bytes that each operation reads and writes: the memory traffic without any cache."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        wrote = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        places = {t.untyped_storage().data_ptr() for t in read}
        view = not func._schema.is_mutable and any(t.untyped_storage().data_ptr() in places for t in wrote)
        if not view:
            self.bytes += sum(t.nbytes for t in (*read, *wrote))
        return out


def work(call: Callable[[], Any]) -> dict[str, int]:
    """FLOPs of the products and convolutions in a call, and the bytes that its operations read and write."""
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as flops:
        with _Traffic() as traffic:
            call()
    return {"flops": flops.get_total_flops(), "bytes": traffic.bytes}


def _addmm_flops(into, left, right, **_) -> int:
    """FLOPs of the in-place form, from shapes: torch counts only the other form."""
    return 2 * left[0] * left[1] * right[1]


def _attention_flops(query, key, value, *_, **__) -> int:
    """FLOPs of the CPU's fused attention, from shapes."""
    return sdpa_flop_count(query, key, value)


UNCOUNTED = {  # by torch's own counter
    torch.ops.aten.addmm_: _addmm_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}


def malloc() -> dict[str, str]:
    """The environment's settings for glibc's allocator, such as to keep freed memory: faster, but larger."""
    return {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")}


@contextmanager
def plain_malloc() -> Iterator[None]:
    """New processes start with the allocator's defaults."""
    told = malloc()
    for key in told:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ |= told
