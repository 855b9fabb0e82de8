"""Several models on the same documents: where they agree, and where one finds what the others miss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..model import DocRE
from ..predict import predict
from ..types import Document, Triple
from .base import Widget, changed, document_data, html_table, live


class ModelComparer(Widget):
    """The facts that several models find in a document, side by side.

        from docre_lite.widgets import ModelComparer
        ModelComparer.of({"mine": model, "yours": other}, documents)

    `predictions` holds each model's triples of all documents by its name, as `predict` or a file of results gives
    them. A map per model shows the pairs it gets right, gets wrong, or misses; below is one row per fact. Facts can be
    restricted to pairs within or across sentences, to composed ones, and to those on which the models disagree. If the
    models are available, the reader can change the document and sees which facts each one gains and loses. Raises
    ValueError if there is no document or no model, and KeyError for a triple of another document.
    """

    script = "compare.js"

    def __init__(self, documents: Sequence[Document], predictions: Mapping[str, Iterable[Triple]]):
        if not documents or not predictions:
            raise ValueError("nothing to compare: give documents, and predictions of at least one model")
        self._documents, self._models = list(documents), {}
        place = {document.title: k for k, document in enumerate(documents)}
        if len(place) < len(documents):
            raise ValueError("two of the documents have the same title, so triples could belong to either; rename one")
        claims = {name: [[] for _ in documents] for name in predictions}
        for name, triples in predictions.items():
            for t in triples:
                if t.title not in place:
                    raise KeyError(f"{name}: a triple of {t.title!r}, which is not among the documents given")
                claims[name][place[t.title]].append(_claim(t))
        self._claims = claims
        data = {
            "documents": [document_data(document) for document in documents],
            "models": [{"name": name, "claims": found} for name, found in claims.items()],
            "asked": False,  # are the models themselves available, to read a changed document?
        }
        super().__init__(data, {"document": 0, "kind": "all", "agree": "all", "fact": "", "change": None})

    @classmethod
    def of(cls, models: Mapping[str, DocRE], documents: Sequence[Document]) -> ModelComparer:
        """The models themselves on the documents. They read the document on display again whenever the reader changes
        it: in a kernel, or in the page if all of them come with the package."""
        found = cls(documents, {name: predict(model, documents) for name, model in models.items()})
        found._models = dict(models)
        found.data = {**found.data, "asked": True, **live(*models.values())}
        return found

    def recompute(self, state: dict[str, Any]) -> dict[str, Any] | None:
        if not self._models:
            return None
        document = changed(self._documents[state["document"]], state)
        return {"claims": [[_claim(t) for t in predict(model, [document])] for model in self._models.values()]}

    def fallback(self) -> str:
        rows = []
        for k, document in enumerate(self._documents):
            gold = {(t.head, t.relation, t.tail) for t in document.triples}
            for name, found in self._claims.items():
                claimed = {(h, r, t) for h, r, t, _ in found[k]}
                hit = len(gold & claimed)
                f1 = 200 * hit / max(len(gold) + len(claimed), 1)
                rows.append([document.title, name, hit, len(claimed - gold), len(gold - claimed), f"{f1:.1f}"])
        head = ["document", "model", "right", "wrong", "missed", "F1 (%)"]
        return html_table("What each model finds in each document", head, rows)


def _claim(t: Triple) -> list:
    return [t.head, t.relation, t.tail, None if t.score is None else round(t.score, 2)]
