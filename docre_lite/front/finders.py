"""Front ends: programs that find mentions and entities in text, each behind the same call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..formats.text import split_sentences, split_words
from ..support import DataError
from ..types import Document, Triple
from .spacy_doc import read
from .spans import from_spans, paragraphs
from .texts import Finder, Raw

PIECE = 256  # words given to GLiNER at once; its models cut off what exceeds 384 tokens of their own


def spacy_pipeline(model: str) -> Any:
    """spaCy's pipeline of that name or in that folder. Raises DataError with the way to get what is missing."""
    spacy = _library("spacy", "spacy")
    return _loaded(spacy.load, model, "spaCy", f"`python -m spacy download {model}` gets one of spaCy's own")


def spacy_finder(nlp: Any, types: Mapping[str, str] | None = None) -> Finder:
    """Documents by a pipeline of spaCy; entities as in `from_spacy`. Warns if no component of it finds any."""
    assigned = {what for name in nlp.pipe_names for what in nlp.get_pipe_meta(name).assigns}
    if "doc.ents" not in assigned:
        warnings.warn(
            f"no component of this pipeline ({', '.join(nlp.pipe_names) or 'none'}) says that it finds entities; "
            "choose a model with 'ner' or 'entity_ruler'",
            stacklevel=2,
        )

    def find(texts: Iterable[Raw]) -> Iterator[Document]:
        for doc, raw in nlp.pipe(((raw.text, raw) for raw in texts), as_tuples=True):
            yield read(doc, raw.title, types=types, where=raw.where).document

    return find


def stored_docs(path: Path, where: str | None = None) -> list[Document]:
    """The documents of a `.spacy` file (a `DocBin`), each named by its number; relations from `doc._.rel`.

    `doc._.rel` is that of spaCy's tutorial on relations: {(head's first token, tail's first token): {relation: score}}
    over entities, where a score of at least 0.5 is a label.
    """
    spacy, where = _library("spacy", "spacy"), where or str(path)
    from spacy.tokens import Doc, DocBin

    if not Doc.has_extension("rel"):
        Doc.set_extension("rel", default={})
    try:
        docs = list(DocBin().from_disk(path).get_docs(spacy.blank("xx").vocab))
    except Exception as error:  # whatever spaCy and its unpacking raise for files that are not a DocBin
        raise DataError(f"{where}: not a .spacy file ({' '.join(str(error).split())[:100]}); write it again") from None
    documents = []
    for i, doc in enumerate(docs):
        found = read(doc, f"{path.stem} {i}", where=f"{where}: document {i}")
        document, tokens = found.document, found.tokens
        first = {tokens[m.sentence][m.start]: e for e, entity in enumerate(document.entities) for m in entity.mentions}
        triples = {
            Triple(document.title, first[head], relation, first[tail]): None
            for (head, tail), scores in (doc._.rel or {}).items()
            for relation, score in scores.items()
            if score >= 0.5 and head in first and tail in first and first[head] != first[tail]
        }
        documents.append(replace(document, triples=tuple(triples)))
    return documents


def gliner_model(model: str) -> Any:
    """GLiNER's model of that hub name or in that folder. Raises DataError with the way to get what is missing."""
    gliner = _library("gliner", "gliner")
    return _loaded(gliner.GLiNER.from_pretrained, model, "GLiNER", "a hub name needs a network the first time")


def gliner_finder(
    model: Any, labels: Sequence[str], threshold: float = 0.5, types: Mapping[str, str] | None = None
) -> Finder:
    """Documents by GLiNER, which finds mentions of any types that `labels` names; entities by name and type.

    The model reads whole sentences, up to `PIECE` words at once; a longer sentence is read alone.
    """
    types = types or {}
    if not labels:
        raise DataError("GLiNER looks only for types that you name; name some, such as person, place and organization")

    def find(texts: Iterable[Raw]) -> Iterator[Document]:
        for raw in texts:
            found = [
                (a + m["start"], a + m["end"], types.get(m["label"], m["label"]))
                for a, b in _pieces(raw.text)
                for m in model.predict_entities(raw.text[a:b], list(labels), threshold=threshold)
            ]
            yield from_spans(raw.text, [m for m in found if m[2]], raw.title, where=raw.where)

    return find


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Neighbouring sentences as character ranges of at most `PIECE` words, or of one sentence."""
    begin, end, size = 0, 0, 0
    for a, b in split_sentences(text, breaks=paragraphs(text)):
        words = len(split_words(text, a, b))
        if size and size + words > PIECE:
            yield begin, end
            begin, size = a, 0
        end, size = b, size + words
    yield begin, end


def _library(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        why = "" if error.name == name else f" ({error})"
        raise DataError(f"{name} is not installed{why}; run `pip install 'docre_lite[{extra}]'`") from None


def _loaded(load: Callable[[str], Any], model: str, library: str, way: str) -> Any:
    try:
        return load(model)
    except Exception as error:  # each library has exceptions of its own for what is absent, damaged or out of reach
        line = " ".join(str(error).split())[:120]
        here = "is a folder" if Path(model).is_dir() else f"is neither installed nor a folder; {way}"
        raise DataError(f"{library} cannot load {model!r}, which {here} ({type(error).__name__}: {line})") from None
