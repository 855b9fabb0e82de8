"""Five document-level relation extraction papers on one thin spine.

The path of a document: `formats` reads it (`types.Document`), `encode` turns it into tokens, `encoder` into vectors,
`ops` and `model` into features of its pairs, a paper in `papers/` into logits, `objectives` into relations; `predict`
lists the triples, `evaluate` scores them, and `train` repeats the whole path. Beside this spine there are rooms:

    papers/   the five papers, one file each: everything after the features of a pair
    formats/  reading and writing documents, relation maps and predictions
    front/    from raw text to documents: your own spans, spaCy, GLiNER; a step of a spaCy pipeline
    corpus/   the embedded corpus: documents with stated and composed facts, generated from a seed
    show/     what chapters show: documents, matrices, curves, tables, live source; widgets/ holds interactive pictures
    page/     the five models in a web page: an engine in JavaScript, and weights as files that it reads
    scale/    triples of any number of documents, in parts that are never computed twice; models as ONNX graphs
    bench/    measurements: plans of training runs, their rows and tables, speed, probes
    cli/      the command line, one file per command
    support/  what every room relies on: settings, files written whole, locks, the machine

Names are imported when they are first used, so that `import docre_lite` costs nothing.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

# `predict` stays in its module: a function with the name of a module would change its meaning once that is imported.
_HOME = {
    "types": ("NA", "Batch", "Document", "Entity", "Mention", "PairFeatures", "Prediction", "Relations", "Triple"),
    "support": ("DataError",),
    "support.checks": ("check",),
    "corpus": ("counterfactuals", "generate", "running_example"),
    "formats.readers": ("read", "read_relations", "write_docred"),
    "formats.text": ("from_text",),
    "front.scoring": ("score_found",),
    "front.spacy_doc": ("from_spacy",),
    "front.spans": ("from_spans",),
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
