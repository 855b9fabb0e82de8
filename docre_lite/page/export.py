"""A model as files that a page can read: the encoder once, each paper's part by itself, weights in 16 bits."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..encoder import TinyEncoder
from ..model import DocRE, trained

ENGINE = Path(__file__).with_name("engine.js")
# Settings that only training uses.
UNUSED = ("classifier.predictor.", "classifier.stage")
# The settings that the engine supports, by paper; it rejects all others.
RUNS: dict[str, dict[str, tuple]] = {
    "atlop": {"loss": ("adaptive",), "threshold": ("adaptive",)},
    "docunet": {
        "pair": ("context",),
        "upsample": ("bilinear",),
        "norm": ("group",),
        "grid": ("valid",),
        "fill": ("zero",),
        "loss": ("balanced",),
        "count_none": (False,),
    },
    "paee": {"fill": ("circular", "zero"), "filter": (False,)},
    "docre_ii": {"pair": ("linear",), "attention": ("eca",), "norms": (False,), "accumulate": (False,)},
    "dre_mir": {"attention": ("inference",), "test_mask_rate": (0.0,)},
}


def check(model: DocRE) -> None:
    """Raises ValueError, in one line, for a model that a page cannot run."""
    name, options = model.classifier.name, model.classifier.options
    if not isinstance(model.encoder, TinyEncoder):
        raise ValueError("a page only runs the tiny encoder; this model has a pretrained one (train with encoder=tiny)")
    if name not in RUNS:
        raise ValueError(f"a page runs {', '.join(RUNS)}; this model is of paper {name!r}")
    for setting, values in RUNS[name].items():
        if (value := getattr(options, setting)) not in values:
            can = " or ".join(map(str, values))
            raise ValueError(f"a page runs {name} with {setting}={can} only; this model has {setting}={value}")
    if model.tokenizer.pairs is not None:
        raise ValueError("a page asks about all pairs; this model was trained on some types of pairs only (--pairs)")
    if name == "docre_ii" and int(model.classifier.stage) == 1:
        raise ValueError("this DocRE-II stopped in its first stage; finish its training, or give a finished model")


def name_of(model: DocRE) -> str | None:
    """The paper's name if this is, weight by weight, the model that comes with the package and so with every page."""
    folder = trained().get(model.classifier.name)
    if folder is None or not isinstance(model.encoder, TinyEncoder):
        return None
    known, own = DocRE.load(folder), model.state_dict()
    weights = known.state_dict()
    if known.spec() != model.spec() or weights.keys() != own.keys():
        return None
    return model.classifier.name if all(torch.equal(w, own[k].cpu()) for k, w in weights.items()) else None


def encoder_file(model: DocRE) -> dict[str, Any]:
    """Sizes, words and weights of the encoder."""
    check(model)
    config, subwords = model.encoder.config, model.tokenizer.subwords
    known = {i: word for word, i in subwords.get_vocab().items()}
    return {
        "sizes": {"layers": config.layers, "width": config.width, "heads": config.heads},
        "words": [known.get(i, "") for i in range(max(known) + 1)],
        "special": sorted(subwords.added_tokens_encoder),
        **packed({k: v for k, v in model.state_dict().items() if k.startswith("encoder.")}),
    }


def paper_file(model: DocRE) -> dict[str, Any]:
    """Settings, relations, types and weights of everything after the encoder."""
    check(model)
    weights = {k: v for k, v in model.state_dict().items() if k.startswith("classifier.") and not k.startswith(UNUSED)}
    spec = model.spec()
    kept = {key: spec[key] for key in ("paper", "options", "reading", "relations", "types")}
    return {"spec": kept, **packed(weights)}


def packed(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Names and shapes, and all values: low bytes first, then high bytes, which are similar and compress well."""
    flat = np.concatenate([w.detach().cpu().numpy().astype("<f2").ravel() for w in weights.values()])
    raw = flat.view(np.uint8).reshape(-1, 2).T.tobytes()
    return {
        "tensors": [[name, list(w.shape)] for name, w in weights.items()],
        "bytes": base64.b64encode(zlib.compress(raw, 9)).decode(),
    }


def write_site(folder: Path) -> None:
    """The engine and the package's models as scripts of a site: they load from a server and from a disk alike."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.js").write_text(ENGINE.read_text(encoding="utf-8"), encoding="utf-8")
    models = {name: DocRE.load(path) for name, path in trained().items()}
    files = {name: paper_file(model) for name, model in models.items()}
    for name, content in {"encoder": encoder_file(models["atlop"]), **files}.items():
        (folder / f"{name}.js").write_text(as_script(name, content), encoding="utf-8")


def as_script(name: str, content: dict[str, Any]) -> str:
    """A file of a model as a classic script; no text inside can end the script element that contains it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"(globalThis.docreFiles ??= {{}})[{json.dumps(name)}] = {text};\n"
