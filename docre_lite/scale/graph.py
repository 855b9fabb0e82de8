"""A trained model as an ONNX graph, for servers without torch: written, then compared with the module.

Exact for whole documents of one window. Shapes are free: documents, tokens, mentions and entities.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..corpus import generate
from ..encode import Tokenizer
from ..model import DocRE
from ..support.store import write_whole
from ..types import Batch, Document, Entity

MOST = 1e-4  # largest difference of a logit that passes
# Papers whose graph was shown to give the module's logits, and why the others have none.
REFUSED = {
    "paee": "its hard attention cuts as many patches as the data ask for, and it reads as many sentences",
}
# Inputs by name, with the axes that are free; those that a paper does not use are left out of its graph.
AXES = {
    "windows": ("documents", "tokens"),
    "window_mask": ("documents", "tokens"),
    "mention_start": ("documents", "mentions"),
    "mention_end": ("documents", "mentions"),
    "mention_entity": ("documents", "mentions"),
    "entity_type": ("documents", "entities"),
    "mask": ("documents", "entities", "entities"),
}


def libraries() -> tuple[Any, Any]:
    """onnx and onnxruntime. Raises ValueError if they are not installed."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise ValueError(f"export needs ONNX ({error}): pip install 'docre_lite[onnx]'") from None
    return onnx, onnxruntime


class _Logits(nn.Module):
    """The module's logits from the inputs of the graph alone."""

    def __init__(self, model: DocRE):
        super().__init__()
        self.model = model

    def forward(self, windows, window_mask, mention_start, mention_end, mention_entity, entity_type, mask):
        documents, length = windows.shape
        column = torch.arange(length, device=windows.device).expand(documents, -1)
        batch = Batch(
            windows=windows,
            window_mask=window_mask,
            window_document=torch.arange(documents, device=windows.device),
            column=column,
            token_mask=window_mask,
            token_sentence=torch.zeros_like(windows),
            mention_start=mention_start,
            mention_end=mention_end,
            mention_entity=mention_entity,
            entity_type=entity_type,
            same_sentence=mask,
            mask=mask,
            labels=None,
            documents=(),
        )
        return self.model.classifier.logits(self.model.features(batch), {})


def inputs(tokenizer: Tokenizer, documents: Sequence[Document]) -> dict[str, Tensor]:
    """The graph's inputs for some documents of at most one window each, padded to the largest."""
    encoded = tokenizer.encode(documents)
    window = tokenizer.reading.window
    if long := [t.document.title for t in encoded if len(t.ids) > window]:
        raise ValueError(f'document "{long[0]}" is longer than a window of {window} tokens; split it')
    batch = tokenizer.collate(encoded, labels=False)
    return {name: getattr(batch, name) for name in AXES}


def export(model: DocRE, path: str | Path, documents: Sequence[Document] = ()) -> dict[str, Any]:
    """Writes the model as an ONNX file, and compares it with the module on documents of different size.

    `documents` are those to compare on (default: some of the embedded corpus). The file holds relations, entity types
    and settings as the metadata `docre_lite`, and takes the arrays of `inputs` that its graph names.
    Returns the largest difference of a logit, the decisions that flipped, the documents compared, and the bytes.
    Raises ValueError, before anything is written, if the paper cannot be exported or the graph differs by over 1e-4.
    """
    onnx, _ = libraries()
    name = model.classifier.name
    if name in REFUSED:
        raise ValueError(
            f"{name} cannot be exported to ONNX: {REFUSED[name]}; export another paper, or serve the module"
        )
    if name == "docre_ii" and int(model.classifier.stage) == 1:
        raise ValueError("this DocRE-II stopped in its first stage; finish its training, or give a finished model")
    if model.classifier.draws:
        raise ValueError(f"{name} draws at prediction with these settings, and a graph cannot; export without them")
    model = model.cpu().eval()
    documents = _of_one_window(model.tokenizer, documents or [*_cut(generate("test", 6))])
    data = _graph(model, documents)
    found = compared(model, data, documents)
    if found["difference"] > MOST or found["flipped"]:
        raise ValueError(
            f"{name} cannot be exported: the graph differs from the module by {found['difference']:.1e} in a logit and "
            f"in {found['flipped']} decisions; serve the module"
        )
    graph = onnx.load_from_string(data)
    onnx.helper.set_model_props(graph, {"docre_lite": json.dumps(model.spec(), ensure_ascii=False)})
    data = graph.SerializeToString()
    write_whole(Path(path), data)
    return found | {"bytes": len(data)}


def _graph(model: DocRE, documents: Sequence[Document]) -> bytes:
    """Traced on a padded batch of the two largest documents; no axis keeps its length."""
    example = inputs(model.tokenizer, documents[-2:])
    shapes = {name: {k: torch.export.Dim.DYNAMIC for k in range(len(axes))} for name, axes in AXES.items()}
    said = io.StringIO()
    with torch.no_grad(), redirect_stdout(said), redirect_stderr(said):
        try:
            traced = torch.export.export(_Logits(model), (), example, dynamic_shapes=shapes, strict=False)
            program = torch.onnx.export(
                traced, (), kwargs=example, dynamo=True, opset_version=18, output_names=["logits"], verbose=False
            )
        except Exception as error:  # whatever the exporter raises for what it cannot follow
            why = str(error).strip().partition("\n")[0]
            raise ValueError(f"{model.classifier.name} cannot be exported to ONNX: {why}") from error
    return program.model_proto.SerializeToString()


def compared(model: DocRE, data: bytes, documents: Sequence[Document]) -> dict[str, Any]:
    """The graph against the module: each document by itself, and all in one batch."""
    _, runtime = libraries()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    known = {entry.name for entry in session.get_inputs()}
    difference, flipped = 0.0, 0
    for some in (*([d] for d in documents), list(documents)):
        given = inputs(model.tokenizer, some)
        with torch.no_grad():
            ours = _Logits(model)(**given)
        (theirs,) = session.run(None, {k: v.numpy() for k, v in given.items() if k in known})
        theirs = torch.from_numpy(np.asarray(theirs))
        mask = given["mask"]
        if ours.shape != theirs.shape or not torch.isfinite(theirs[mask]).all():
            return {"difference": float("inf"), "flipped": 0, "documents": len(documents)}
        if mask.any():
            difference = max(difference, float((ours - theirs)[mask].abs().max()))
        one, two = (model.classifier.objective.decide(x)[0][mask] for x in (ours, theirs))
        flipped += int((one != two).sum())
    return {"difference": difference, "flipped": flipped, "documents": len(documents)}


def _of_one_window(tokenizer: Tokenizer, documents: Sequence[Document]) -> list[Document]:
    short = [t.document for t in tokenizer.encode(documents) if len(t.ids) <= tokenizer.reading.window]
    if len({len(d.entities) for d in short}) < 2:
        raise ValueError(
            f"to compare, export needs two documents with different numbers of entities and at most "
            f"{tokenizer.reading.window} tokens; give others with --data"
        )
    return sorted(short, key=lambda d: (len(d.entities), d.words))[:: max(1, len(short) // 8)]


def _cut(documents: Sequence[Document]):
    """Documents, and what is left of each with fewer sentences."""
    for k, document in enumerate(documents):
        yield document
        last = 1 + k % max(1, len(document.sentences) - 1)
        kept = ([m for m in e.mentions if m.sentence < last] for e in document.entities)
        entities = tuple(Entity(tuple(mentions)) for mentions in kept if mentions)
        yield replace(document, sentences=document.sentences[:last], entities=entities, triples=(), order=None)
