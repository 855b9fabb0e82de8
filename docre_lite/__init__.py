"""Five document-level relation extraction papers on one thin spine.

Names are imported when they are first used, so that `import docre_lite` costs nothing.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

# `predict` stays in its module: a name that is also a module's would change its meaning once that is imported.
_HOME = {
    "types": ("NA", "Batch", "Document", "Entity", "Mention", "PairFeatures", "Prediction", "Relations", "Triple"),
    "support": ("DataError",),
    "corpus": ("counterfactuals", "generate", "running_example"),
    "formats.readers": ("read", "read_relations", "write_docred"),
    "formats.text": ("from_text",),
    "model": ("DocRE", "build", "paper"),
    "train": ("Step", "TrainConfig", "configure", "fit"),
    "evaluate": ("Scores", "score", "seen_facts"),
    "formats.submission": ("read_predictions", "write_submission"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = [*sorted(_MODULE), "__version__"]


def __getattr__(name: str):
    if name not in _MODULE:
        raise AttributeError(f"docre_lite has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_MODULE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
