"""`docre-lite export`: writes a model as an ONNX graph, for servers without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .options import HowToPredict, Model, file, model_folder, settings, show


def export(
    run: Model,
    out: Annotated[Path, file("the graph to write, in ONNX format")],
    data: Annotated[
        Path | None, file("documents to compare graph and model on (default: some of the embedded corpus)")
    ] = None,
    set: HowToPredict = None,
) -> None:
    """Write a model as an ONNX graph, compared with the model on documents of different size."""
    from ..formats.readers import read
    from ..model import DocRE
    from ..scale.graph import export as write
    from ..scale.graph import libraries
    from ..support.store import writing

    libraries()
    if out.is_dir():
        raise ValueError(f"{out} is a folder; --out takes a file, such as {out / 'model.onnx'}")
    documents = read(data) if data else ()
    model = DocRE.load(model_folder(run), **settings(set))
    with writing(out, "fix that, or choose another --out"):
        show({"out": str(out), **write(model, out, documents)})
