"""The machine that a number comes from: its description, its abilities, and its handling of freed memory."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState

from .. import __version__
from . import PACKAGE, DataError

PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# the words of torch's allocators, of C++, and of the system
NO_MEMORY = re.compile("allocate memory|out of memory|bad_alloc|invalid buffer size|size calculation overflow", re.I)
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_… of glibc's malloc.h


def processes() -> PartialState:
    """The processes that train together: those of one `accelerate launch` (GPUs) or `torchrun` (CPUs too).

    By default, accelerate treats CPU processes of `torchrun` as unrelated, and each would train alone.
    """
    no_device = not torch.accelerator.is_available()
    return PartialState(cpu=no_device and int(os.environ.get("WORLD_SIZE", 1)) > 1)


def peak_memory(device: torch.device) -> float:
    """Peak memory so far in GB: of the GPU, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")
    if status.is_file():  # preferred if it exists: getrusage would also count the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    if os.name == "nt":
        return psutil.Process().memory_info().peak_wset / 1e9
    import resource  # which Windows lacks

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def environment() -> dict[str, Any]:
    """Machine, versions and commit, to be stored with every number."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "cpu": _cpu(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "processes": processes().num_processes,
        "python": platform.python_version(),
        "docre_lite": __version__,
        **{name: version(name) for name in ("torch", "transformers", "accelerate", "tokenizers", "safetensors")},
        "commit": _commit(),
    }


@cache
def _commit() -> str | None:
    """The commit of this source tree, with '+' if any file but stored results was changed; None when installed."""
    root = PACKAGE.parent

    def git(*ask: str) -> str:
        found = subprocess.run(["git", "-C", str(root), *ask], capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benchmarks/results")
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None


def bf16_in_hardware(device: torch.device) -> bool:
    """Does the device multiply bf16 numbers itself? A CPU that does not is slower with them than with fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "cpu" or bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_says("flags", "Features"))


def fp16_in_hardware(device: torch.device) -> bool:
    """Does the device multiply fp16 numbers itself? Every GPU does; a CPU rarely."""
    return device.type != "cpu" or bool({"avx512_fp16", "amx_fp16", "fphp"} & _cpu_says("flags", "Features"))


def settled(precision: str, device: torch.device) -> str:
    """What a precision means on the device: fp32, bf16 or fp16. "auto" is bf16 on a GPU that multiplies it, else fp32.

    Raises ValueError for any other name, which would silently mean fp32.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}; have {', '.join(PRECISIONS)}")
    if precision == "auto":
        return "bf16" if device.type == "cuda" and bf16_in_hardware(device) else "fp32"
    return precision


def arithmetic(precision: str, device: torch.device) -> torch.autocast:
    """The context for a computation in this precision."""
    kind = settled(precision, device)
    return torch.autocast(device.type, PRECISIONS[kind], enabled=kind != "fp32")


def warn_of_emulation(precision: str, device: torch.device) -> None:
    """Warns if 16 bits are requested on a device that only emulates them, to explain the wait."""
    kind = settled(precision, device)
    if not {"fp32": lambda _: True, "bf16": bf16_in_hardware, "fp16": fp16_in_hardware}[kind](device):
        warnings.warn(
            f"precision={kind}, but this {device.type} only emulates it, at a fraction of the speed of fp32; "
            "use precision=fp32 unless you are repeating a run from another machine",
            stacklevel=2,
        )


def _cpu() -> str | None:
    return " ".join(_cpu_says("model name", split=False)) or None


def _cpu_says(*keys: str, split: bool = True) -> set[str]:
    """The words that Linux lists for its first processor under these keys."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return set(value.split()) if split else {value.strip()}
    return set()


def out_of_memory(error: BaseException) -> bool:
    """Was memory refused? torch has a type of its own for a GPU's, but for a CPU's only words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and bool(NO_MEMORY.search(str(error)))


@contextmanager
def enough_memory(titles: Sequence[str], way_out: str) -> Iterator[None]:
    """A context for work on these documents: refused memory becomes a DataError of one line that names them."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:120] or "MemoryError"
    else:
        return
    # outside of `except`: the line must not keep the memory that the error holds
    several = f" and {len(titles) - 1} more of its batch" if len(titles) > 1 else ""
    raise DataError(f'document "{titles[0][:60]}"{several}: needs more memory than there is ({said}); {way_out}')


def keep_freed() -> None:
    """Keeps freed memory for the next training step.

    By default, large tensors are returned to the system at once and requested again, page by page, which on a CPU
    costs up to a quarter of a step on long documents (`benchmarks/choices.py` measures it). Kept memory is
    fragmented, so the process may grow larger.
    """
    if library := _glibc():
        library.mallopt(MMAP_THRESHOLD, 1 << 30)
        library.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)


def give_back() -> None:
    """Returns freed memory to the system; glibc would keep it in fragments and allocate more besides.

    On a GPU, it becomes available to other processes: torch keeps freed memory for its own.
    """
    torch.cuda.empty_cache()
    if library := _glibc():
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
