"""What is done with memory that was freed, by the C library (glibc alone is told anything) and on a GPU by torch."""

from __future__ import annotations

import ctypes

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_… of glibc's malloc.h


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
