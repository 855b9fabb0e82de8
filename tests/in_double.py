"""The command line in float64: rounding is so small there that many steps make nothing of it, on any processor."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from docre_lite.__main__ import main


def run(given: list[str]) -> int:
    torch.set_default_dtype(torch.float64)
    return main(given)


def share(given: list[str], variables: dict[str, str], said: Path) -> None:
    """In a process of a test's own; what it says goes to a file."""
    torch.set_num_threads(1)
    os.environ |= variables
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(run(given))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
