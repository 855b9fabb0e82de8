"""What is freed stays or goes, as told; counted in pages that the system had to hand out, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from docre_lite.support import machine as memory

PAGES = """
import resource
from docre_lite.support import machine as memory
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
{first}
bytearray(1 << 27)
before = pages()
for _ in range(10):
    bytearray(1 << 26)  # zeros are written, so every page is touched
    {each}
print(pages() - before)
"""


def pages(first: str, each: str = "pass") -> int:
    """Page faults of ten times 64 MiB, each freed before the next."""
    command = [sys.executable, "-c", PAGES.format(first=first, each=each)]
    habits = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}  # large pages are few
    return int(subprocess.run(command, env=habits, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not memory._glibc(), reason="the C library is not glibc")
def test_freed_memory_is_kept_or_given_back():
    by_habit, kept = pages("pass"), pages("memory.keep_freed()")
    assert kept < by_habit / 10
    assert pages("memory.keep_freed()", "memory.give_back()") > by_habit / 2


def test_another_c_library_is_left_alone(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    memory.keep_freed()
    memory.give_back()
