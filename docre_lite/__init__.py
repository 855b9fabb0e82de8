"""Five document-level relation extraction papers on one thin spine.

A document's way: `formats` reads it (`types.Document`), `encode` makes tokens of it, `encoder` vectors, `ops` and
`model` the features of its pairs, a paper in `papers/` logits, `objectives` relations; `predict` names the triples,
`evaluate` scores them, `train` goes this way again and again. Beside this spine, a room each:

    papers/   the five papers, a file each: everything after the features of a pair
    formats/  every way a document, a map of relations or a prediction comes in or goes out
    corpus/   the embedded corpus: documents with stated and composed facts, from a seed
    show/     what chapters show: documents, matrices, curves, tables, live source; widgets/ is what can be dragged
    page/     the five models in a web page: an engine in JavaScript, and weights as files that it reads
    scale/    triples of any number of documents, in parts that are never done twice
    bench/    plans of trainings, their rows and tables, speed, probes: what measures
    cli/      the command line, a file a command
    support/  what all stand on: settings, files written whole, locks, the machine

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
    "model": ("DocRE", "build", "load", "paper", "trained"),
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
