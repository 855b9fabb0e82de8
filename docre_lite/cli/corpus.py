"""`docre-lite corpus`: the embedded corpus as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .options import count, folder, seed, show


def corpus(
    out: Annotated[Path, folder("folder to write train, dev, test and counterfactual documents to")],
    train: Annotated[int, count("train documents")] = 600,
    dev: Annotated[int, count("dev documents")] = 150,
    test: Annotated[int, count("test documents")] = 150,
    seed: Annotated[int, seed("seed; equal seeds give equal documents on every machine")] = 0,
) -> None:
    """Write the embedded corpus as DocRED JSON."""
    from ..corpus import write
    from ..support.store import check_writable, writing

    check_writable(out / "train.json")
    with writing(out, "fix that, or choose another --out"):
        found = write(out, train=train, dev=dev, test=test, seed=seed)
    show({name: str(path) for name, path in found.items()})
