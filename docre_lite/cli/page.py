"""`docre-lite page`: writes a model as one HTML file that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from .options import Lenient, Model, file, model_folder, show


def page(
    run: Model,
    out: Annotated[Path, file("the page to write: one HTML file of about two megabytes; works offline")],
    data: Annotated[
        Path | None, file("documents; the page starts with the first one (default: the book's example)")
    ] = None,
    title: Annotated[str, Option(help="heading of the page", metavar="TEXT")] = "Ask the model",
    lenient: Lenient = False,
) -> None:
    """Write an HTML page in which a model answers questions about a document."""
    from ..corpus import running_example
    from ..formats.readers import read
    from ..model import DocRE
    from ..support.store import check_writable, write_whole, writing
    from ..widgets.reader import whole_page

    if out.is_dir():
        raise ValueError(f"{out} is a folder; --out takes a file, such as {out / 'page.html'}")
    check_writable(out)
    document = read(data, labels=False, strict=not lenient)[0] if data else running_example()
    text = whole_page(DocRE.load(model_folder(run)), document, title)
    with writing(out, "fix that, or choose another --out"):
        write_whole(out, text.encode())
    show({"page": str(out), "bytes": len(text.encode())})
