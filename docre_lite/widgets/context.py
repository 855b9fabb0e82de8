"""Localized context: which words a pair looks at, and what the model makes of them."""

from __future__ import annotations

from typing import Any

import torch

from .. import ops
from ..model import DocRE
from ..predict import EVIDENCE, predict, sentence_shares
from ..types import Document
from .base import Widget, document_data, html_table, pack, rounded, with_pairs

SHOWN = 6  # relations of a pair whose margins are drawn


class ContextExplorer(Widget):
    """The document with its entities; choose a head and a tail, and see what they look at. ATLOP section 5.

        from docre_lite.widgets import ContextExplorer
        ContextExplorer(model, document)

    Words are shaded by the attention of the head entity, the tail entity, or the product of both, for one attention
    head or all; sentences carry their share, those above `predict.EVIDENCE` a bar. Below, the pair's relations by
    their margin over the threshold. Raises ValueError if the model has no localized context or the document no pair.
    """

    script = "context.js"

    def __init__(self, model: DocRE, document: Document, pair: tuple[int, int] | None = None):
        if (how := model.tokenizer.reading.context) != "sum":
            raise ValueError(f"context={how!r}: only products of attention over their sum (context='sum') can be shown")
        with_pairs(document)
        self._model, self._document = model, document
        self._encoded = model.tokenizer.encode([document])[0]
        looks, margins = self._run()
        head, tail = pair or self._first(document)
        state = {"head": head, "tail": tail, "view": "both", "attention": -1}
        names = model.relations.names
        gold = {(t.head, t.tail, t.relation) for t in document.triples}
        count = len(document.entities)
        shown = [
            [self._best(margins[h, t], [r for r in names if (h, t, r) in gold]) for t in range(count)]
            for h in range(count)
        ]
        data = {
            "document": document_data(document),
            "attention": pack(looks.sqrt()),  # [A, N, L]
            "word": self._encoded.word,
            "sentence": self._encoded.sentence,
            "margins": shown,
            "evidence": EVIDENCE,
        }
        super().__init__(data, state)

    @staticmethod
    def _first(document: Document) -> tuple[int, int]:
        """A gold pair across sentences to begin with, if there is one."""
        pairs = [(t.head, t.tail) for t in document.triples] or document.pairs()
        return next((p for p in pairs if not document.same_sentence(*p)), pairs[0])

    @torch.inference_mode()
    def _run(self):
        """Each entity's attention [A, N, L] and each pair's margins [N, N, R]."""
        model, training = self._model, self._model.training
        model.eval()
        try:
            batch = model.batch([self._document], labels=False)
            return model.read(batch)[1][0].float().cpu(), model(batch).margin[0].float().cpu()
        finally:
            model.train(training)

    def _best(self, margins, gold: list[str]) -> list[list]:
        """The relations nearest to being claimed, and the gold ones, as [name, margin], falling."""
        names = self._model.relations.names
        order = [r for r in margins.argsort(descending=True).tolist() if r][:SHOWN]
        order += [r for r in map(self._model.relations.index, gold) if r not in order]
        return [[names[r], round(float(margins[r]), 2)] for r in sorted(order, key=lambda r: -margins[r])]

    def recompute(self, state: dict[str, Any]) -> dict[str, Any]:
        head, tail, view, only = (state[k] for k in ("head", "tail", "view", "attention"))
        looks, margins = self._run()
        looks = looks if only < 0 else looks[only : only + 1]
        weights = looks[:, head] * looks[:, tail] if view == "both" else looks[:, head if view == "head" else tail]
        weights = weights.sum(0) / weights.sum().clamp_min(ops.EPSILON)
        places, sentences = (torch.tensor(x) for x in (self._encoded.word, self._encoded.sentence))
        words = torch.zeros(self._document.words).index_add_(0, places[places >= 0], weights[places >= 0])
        shares = sentence_shares(weights[None], sentences, len(self._document.sentences))[0]
        gold = [t.relation for t in self._document.triples if (t.head, t.tail) == (head, tail)]
        return {
            "words": rounded(words, 5),
            "shares": rounded(shares, 4),
            "margins": self._best(margins[head, tail], gold),
        }

    def fallback(self) -> str:
        names = [entity.name for entity in self._document.entities]
        rows = [
            [names[t.head], t.relation, names[t.tail], f"{t.score:.1f}", ", ".join(map(str, t.evidence)) or "none"]
            for t in predict(self._model, [self._document])
        ]
        head = ["head", "relation", "tail", "margin (logits)", "sentences that both look at"]
        return html_table(f"{self._document.title}: what the model claims, and where it looked", head, rows)
