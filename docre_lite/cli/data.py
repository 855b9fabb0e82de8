"""`docre-lite data`: fetches public data sets, describes files of documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument

from .options import AsJson, file, folder, show, table


def fetch(
    name: Annotated[Literal["docred", "redocred", "cdr", "dwie", "gda"], Argument(help="which data set")],
    to: Annotated[Path, folder("folder to write to; an interrupted download continues there")],
) -> None:
    """Download a public data set."""
    from ..formats.hub import fetch as load

    show({str(k): str(v) for k, v in load(name, to).items()})


def info(
    file: Annotated[Path, Argument(help="documents in any supported format", metavar="FILE")],
    train: Annotated[Path | None, file("training documents; warn of texts that both files contain")] = None,
    json: AsJson = False,
) -> None:
    """Show counts of a file of documents, and warnings."""
    from ..formats.checks import describe
    from ..formats.readers import read

    found = describe(read(file), read(train) if train else None)
    show(found) if json else print(table(found))
