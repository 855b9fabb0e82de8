"""The machine that a number comes from, what it can do, and what becomes of freed memory on it."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState

from . import PACKAGE

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_… of glibc's malloc.h


def processes() -> PartialState:
    """The processes that train together: those of one `accelerate launch` (GPUs) or `torchrun` (CPUs too).

    Left to itself, accelerate takes CPU processes of `torchrun` for strangers, each of which would train alone.
    """
    no_device = not torch.accelerator.is_available()
    return PartialState(cpu=no_device and int(os.environ.get("WORLD_SIZE", 1)) > 1)


def peak_memory(device: torch.device) -> float:
    """Most memory held so far in GB: of the GPU, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")
    if status.is_file():  # where there is one: getrusage would count the process that started this one, too
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    if os.name == "nt":
        return psutil.Process().memory_info().peak_wset / 1e9
    import resource  # which Windows has not

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def environment() -> dict[str, Any]:
    """Machine, versions and commit: what a number needs beside it."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "cpu": _cpu(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "processes": processes().num_processes,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "accelerate")},
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


def in_bf16(precision: str, device: torch.device) -> bool:
    """Is a calculation of this precision (fp32, bf16, or auto: bf16 on a GPU that has it) in bf16 there?

    Raises ValueError on another one: it would be fp32 under a wrong name.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"no precision {precision!r}; have auto, fp32, bf16")
    if precision == "auto":
        return device.type == "cuda" and bf16_in_hardware(device)
    return precision == "bf16"


def arithmetic(precision: str, device: torch.device) -> torch.autocast:
    """The context of a calculation in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(precision, device))


def warn_of_emulation(precision: str, device: torch.device) -> None:
    """Says so if bf16 is asked for where it is only emulated: whoever waits for it should know why."""
    if in_bf16(precision, device) and not bf16_in_hardware(device):
        warnings.warn(
            f"precision=bf16, but this {device.type} only emulates it, at a fraction of the speed of fp32; "
            "take precision=fp32 unless a run elsewhere is to be repeated",
            stacklevel=2,
        )


def _cpu() -> str | None:
    return " ".join(_cpu_says("model name", split=False)) or None


def _cpu_says(*keys: str, split: bool = True) -> set[str]:
    """What Linux tells of its first processor."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return set(value.split()) if split else {value.strip()}
    return set()


def keep_freed() -> None:
    """Freed memory is kept for the next step of a training.

    By habit large tensors are given back at once and asked for anew, page by page, which costs a step on long
    documents up to a quarter of its time on a CPU (`benchmarks/choices.py` measures it). What is kept lies in pieces,
    so that a process may grow larger.
    """
    if library := _glibc():
        library.mallopt(MMAP_THRESHOLD, 1 << 30)
        library.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)


def give_back() -> None:
    """What lies freed goes back to the system; glibc keeps it in pieces, and takes more beside them.

    On a GPU it goes to the other processes there: torch keeps what was freed for its own.
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
