"""Potential pairs: the pairs of a document that a detector keeps, and the patches of the pair map that get a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..model import DocRE
from ..papers.paee import PATCH, TNet
from ..types import Document, Prediction
from .base import Widget, changed, document_data, html_table, live, rounded, with_pairs

BUDGETS = [k / 10 for k in range(1, 11)]  # the slider's stops, as shares of the patches, besides the model's own
STEPS = 10_000  # probabilities travel in ten-thousandths
SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)  # λ in the table of a page without a script


class PotentialPairs(Widget):
    """The pair map with sliders for λ and the budget: pairs kept, patches looked at, precision and recall.

        from docre_lite.widgets import PotentialPairs
        PotentialPairs(model, document)
        PotentialPairs(model, [document, another])

    A cell shows the detector's probability that the pair has any relation, in %; pairs above λ are kept, gold pairs
    carry a dot. Frames mark the patches that get the close look, chosen by the weights beside the map. The decisions
    of the whole model follow those of the tag. With a kernel, or with the model that comes with the package, any
    budget is possible, and the reader can change the document. PAEE (4) and (5); `model` is a PAEE with matrix="tnet"
    and a detector.
    Raises ValueError if it is not, and for a document without pairs.
    """

    script = "potential.js"

    def __init__(self, model: DocRE, documents: Document | Sequence[Document]):
        classifier = model.classifier
        matrix = getattr(classifier, "matrix", None)
        if getattr(classifier, "detector", None) is None or not isinstance(matrix, TNet):
            raise ValueError(
                f"{classifier.name} has no potential pairs or no patches here; "
                "give a PAEE with matrix='tnet' and potential='hard' or 'soft'"
            )
        self._model = model
        self._documents = with_pairs(documents)
        budgets = sorted({*BUDGETS, round(matrix.budget, 3)})
        shown = [self._precompute(document, budgets) for document in self._documents]
        head, tail = shown[0]["first"]
        threshold = round(classifier.options.potential_threshold, 2)
        state = {"document": 0, "threshold": threshold, "budget": round(matrix.budget, 3), "head": head, "tail": tail}
        state["change"] = None
        data = {"documents": shown, "budgets": budgets, "steps": STEPS, "patch": PATCH, **live(model)}
        super().__init__(data, state)

    def _run(self, document: Document, asked: Sequence[tuple[float, float]]) -> list[Prediction]:
        """The model's answers for a document and each (budget, λ); restores its own settings afterwards."""
        model, classifier = self._model, self._model.classifier
        training, options, budget = model.training, classifier.options, classifier.matrix.budget
        model.eval()
        try:
            with torch.inference_mode():
                pairs, found = model.features(model.batch([document], labels=False)), []
                for share, threshold in asked:
                    classifier.matrix.budget = share
                    classifier.options = replace(options, potential_threshold=threshold)
                    found.append(classifier(pairs))
                return found
        finally:
            classifier.options, classifier.matrix.budget = options, budget
            model.train(training)

    def _precompute(self, document: Document, budgets: Sequence[float]) -> dict[str, Any]:
        """One level for every possible number of patches with a close look, and for each budget its level.

        A tag affects only its own pair: the claims with no pair tagged and with all pairs tagged cover every λ.
        """
        none, every = 2.0, -1.0  # beyond any probability
        runs = self._run(document, [(share, λ) for share in budgets for λ in (none, every)])
        levels: list[dict[str, Any]] = []
        at, since = [], torch.zeros_like(runs[0].trace["patch_looked"][0], dtype=torch.long)
        for untagged, tagged in zip(runs[::2], runs[1::2], strict=True):
            looked = tagged.trace["patch_looked"][0]
            if not levels or int(looked.sum()) > levels[-1]["looked"]:
                since[looked & (since == 0)] = int(looked.sum())
                levels.append(
                    {
                        "looked": int(looked.sum()),
                        "potential": self._potential(document, tagged),
                        "claims": [self._claims(untagged), self._claims(tagged)],
                    }
                )
            at.append(len(levels) - 1)
        return {
            **document_data(document),
            "candidates": document.pairs() if document.candidates is not None else None,
            "first": next(((t.head, t.tail) for t in document.triples), document.pairs()[0]),
            "weight": rounded(runs[0].trace["patch_weight"][0], 5),
            "since": since.tolist(),  # a patch gets a look if at least this many patches do; 0: never
            "levels": levels,
            "at": at,
        }

    @staticmethod
    def _potential(document: Document, found: Prediction) -> list[list[int | None]]:
        """[N, N] probabilities in ten-thousandths, None where there is no pair to classify.

        Rounded up, so that `p > λ` gives the same result for λ in hundredths as for the probability itself.
        """
        steps = (found.trace["potential"][0].double().sigmoid() * STEPS).ceil().int().tolist()
        pairs = set(document.pairs())
        return [[step if (h, t) in pairs else None for t, step in enumerate(row)] for h, row in enumerate(steps)]

    def _claims(self, found: Prediction) -> dict[str, list[str]]:
        """Relations that the model chooses, by "head,tail"."""
        claims: dict[str, list[str]] = {}
        for h, t, r in found.chosen[0].nonzero().tolist():
            claims.setdefault(f"{h},{t}", []).append(self._model.relations.names[r])
        return claims

    def recompute(self, state: dict[str, Any]) -> dict[str, Any]:
        document = changed(self._documents[state["document"]], state)
        if not document.entities:
            return {"potential": [], "kept": [], "looked": [], "weight": [], "claims": {}}
        [found] = self._run(document, [(state["budget"], state["threshold"])])
        return {
            "potential": self._potential(document, found),
            "kept": found.trace["tag"][0].tolist(),
            "looked": found.trace["patch_looked"][0].tolist(),
            "weight": rounded(found.trace["patch_weight"][0], 5),
            "claims": self._claims(found),
        }

    def fallback(self) -> str:
        tables = []
        level = self.data["budgets"].index(self.state["budget"])
        for shown in self.data["documents"]:
            potential = shown["levels"][shown["at"][level]]["potential"]
            gold: dict[tuple[int, int], list[str]] = {}
            for t in shown["gold"]:
                gold.setdefault((t["head"], t["tail"]), []).append(t["relation"])
            scores = {(h, t): p / STEPS for h, r in enumerate(potential) for t, p in enumerate(r) if p is not None}
            rows = []
            for λ in sorted({*SHOWN, self.state["threshold"]}):
                kept = {pair for pair, p in scores.items() if p > λ}
                right = len(kept & gold.keys())
                precision, recall = right / max(len(kept), 1), right / max(len(gold), 1)
                row = [f"{λ:g}", f"{len(kept)} of {len(scores)}", f"{right} of {len(gold)}"]
                rows.append([*row, f"{100 * precision:.0f}", f"{100 * recall:.0f}"])
            head = ["λ", "pairs kept", "gold pairs among them", "precision (%)", "recall (%)"]
            tables.append(html_table(f"{shown['title']}: pairs above λ", head, rows))
            names = shown["names"]
            rows = [[names[h], names[t], ", ".join(gold[h, t]), f"{scores[h, t]:.2f}"] for h, t in sorted(gold)]
            head = ["head", "tail", "gold relations", "probability of any relation"]
            tables.append(html_table(f"{shown['title']}: its gold pairs", head, rows))
        return "".join(tables)
