"""A step of a spaCy pipeline: `nlp.add_pipe("docre_lite", config={"run": DIR})` sets `doc._.relations`.

spaCy finds this module by its entry point and imports it with every pipeline, so torch and the models wait for the
first document. What the component finds is stored in `doc.user_data` as plain numbers, which survive `to_bytes`,
`DocBin` and several processes; `doc._.relations` turns them into spans.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span

KEY = "docre_lite"  # in doc.user_data
MODEL = "model"  # the folder of `nlp.to_disk`


@dataclass(frozen=True)
class Relation:
    """A triple in a `Doc`. `head` and `tail` are the mentions of two entities, the first one first.

    `score` is the margin over the model's threshold, in logits; `evidence` are sentences, the strongest first.
    """

    head: tuple[Span, ...]
    relation: str
    tail: tuple[Span, ...]
    score: float
    evidence: tuple[Span, ...]

    def __str__(self) -> str:
        return f"{self.head[0].text} | {self.relation} | {self.tail[0].text}"


class RelationFinder:
    """The component. Entities are those of `front.from_spacy`; a document without two of them has no relations."""

    def __init__(self, name: str, run: str, batch_size: int, evidence: float, types: Mapping[str, str]):
        self.name, self.run, self.batch_size, self.evidence, self.types = name, run, batch_size, evidence, types
        self._model: Any = None
        self._strange: set[str] = set()  # types that the model does not know, once warned of

    @property
    def reader(self) -> Any:
        """The model, loaded when it is first needed: after `nlp.from_disk`, which brings its own.

        It is not called `model`: spaCy looks for that name on every component, which would load it too early.
        """
        if self._model is None:
            from ..model import load, located

            folder = located(self.run)
            inside = folder / "model"
            self._model = load(inside if inside.is_dir() and not (folder / "model.json").exists() else folder)
        return self._model

    def __call__(self, doc: Doc) -> Doc:
        self._annotate([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int | None = None) -> Iterator[Doc]:
        """Documents in batches of the component's own size; spaCy's, which counts texts, is far too large."""
        stream = iter(stream)
        while docs := list(islice(stream, self.batch_size)):
            self._annotate(docs)
            yield from docs

    def _annotate(self, docs: list[Doc]) -> None:
        from ..predict import predict_encoded
        from .spacy_doc import read

        worth = [doc for doc in docs if len(doc.ents) > 1]
        readings = [read(doc, str(i), types=self.types) for i, doc in enumerate(worth)]
        self._warn_of_types(readings)
        for doc in docs:
            doc.user_data[KEY] = []
        if not readings:
            return
        encoded = self.reader.tokenizer.encode([reading.document for reading in readings])
        found = predict_encoded(self.reader, encoded, self.batch_size, evidence=self.evidence)
        for doc, reading, triples in zip(worth, readings, found, strict=True):
            entities = [
                [_range(reading.tokens[m.sentence][m.start : m.end]) for m in entity.mentions]
                for entity in reading.document.entities
            ]
            doc.user_data[KEY] = [
                [
                    entities[t.head],
                    t.relation,
                    entities[t.tail],
                    t.score,
                    [_range(reading.tokens[s]) for s in t.evidence],
                ]
                for t in triples
            ]

    def _warn_of_types(self, readings: Iterable[Any]) -> None:
        types = {m.type for reading in readings for entity in reading.document.entities for m in entity.mentions}
        if strange := types - self._strange - set(self.reader.tokenizer.types if types else ()):
            self._strange |= strange
            warnings.warn(
                f"{self.name}: the model was trained on the types {', '.join(self.reader.tokenizer.types)} and does "
                f"not know {', '.join(sorted(strange))}; name them as it does: config={{'types': {{'PERSON': 'PER'}}}}",
                stacklevel=4,
            )

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Saves the model with the pipeline, which then needs the folder of the run no more."""
        self.reader.save(Path(path) / MODEL)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> RelationFinder:
        from ..model import load

        self._model = load(Path(path) / MODEL)
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        raise ValueError(f"{self.name}: a model is a folder and does not fit into bytes; use nlp.to_disk")

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> RelationFinder:
        raise ValueError(f"{self.name}: a model is a folder and does not fit into bytes; use nlp.from_disk")


@Language.factory(
    "docre_lite",
    assigns=["doc._.relations"],
    requires=["doc.ents"],
    default_config={"batch_size": 8, "evidence": 0.2, "types": {}},
)
def create(
    nlp: Language, name: str, run: str, batch_size: int, evidence: float, types: dict[str, str]
) -> RelationFinder:
    """The component for a pipeline.

    Args:
        run: folder of a run or of a model, or a paper's name for the tiny model that comes with the package.
        batch_size: documents per batch.
        evidence: share of a pair's attention that makes a sentence evidence.
        types: what the model calls the types of `doc.ents`, as in `from_spacy`.
    """
    return RelationFinder(name, run, batch_size, evidence, types)


def _range(tokens: list[int]) -> list[int]:
    return [tokens[0], tokens[-1] + 1]


def _relations(doc: Doc) -> list[Relation]:
    """What `doc._.relations` shows."""

    def spans(ranges: Iterable[Iterable[int]]) -> tuple[Span, ...]:
        return tuple(doc[start:end] for start, end in ranges)

    return [
        Relation(spans(head), relation, spans(tail), score, spans(evidence))
        for head, relation, tail, score, evidence in doc.user_data.get(KEY, ())
    ]


if not Doc.has_extension("relations"):
    Doc.set_extension("relations", getter=_relations)
