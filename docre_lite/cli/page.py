"""`docre-lite page`: a model as one HTML file that thinks by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from .options import Model, file, model_folder, show


def page(
    run: Model,
    out: Annotated[Path, file("the page: one HTML file of some two megabytes that needs no network and no server")],
    data: Annotated[
        Path | None, file("a file of documents, of which the first is shown to begin with; else the book's example")
    ] = None,
    title: Annotated[str, Option(help="what stands above", metavar="TEXT")] = "Ask the model",
) -> None:
    """Write a page that holds a model with the tiny encoder: its reader changes the document, and it answers there."""
    from ..corpus import running_example
    from ..formats.readers import read
    from ..model import DocRE
    from ..support.store import writing
    from ..widgets.reader import whole_page

    if out.is_dir():
        raise ValueError(f"{out} is a folder; --out takes a file, such as {out / 'page.html'}")
    document = read(data)[0] if data else running_example()
    text = whole_page(DocRE.load(model_folder(run)), document, title)
    with writing(out, "mend that, or choose another --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    show({"page": str(out), "bytes": len(text.encode())})
