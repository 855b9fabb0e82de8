"""Shared set-up: one torch thread, shapes in signatures checked at run time, and the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
# From here on every call checks its shapes. The hook must stand before the first import of the package.
install_import_hook("docre_lite", "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with `redocred/` and `cdr/`: $DOCRE_DATA, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("DOCRE_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data here; set DOCRE_DATA to a folder with redocred/ and cdr/")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
