"""Localized context: the words that a pair looks at, and the relations that the model then finds."""

from __future__ import annotations

from typing import Any

import torch

from .. import ops
from ..model import DocRE
from ..predict import EVIDENCE, predict, sentence_shares
from ..types import Document
from .base import Widget, changed, document_data, html_table, live, pack, rounded, with_pairs
from .challenge import one_word

SHOWN = 6  # relations of a pair whose margins are drawn


class ContextExplorer(Widget):
    """The document with its entities; choose a head and a tail, and see what they look at. ATLOP section 5.

        from docre_lite.widgets import ContextExplorer
        ContextExplorer(model, document)

    Words, and the stars that the model reads around mentions, are shaded by the attention of the head entity, the tail
    entity, or the product of both, for one attention head or all; sentences carry their share, those above
    `predict.EVIDENCE` a bar. Below, the pair's relations by their margin over the threshold. Strike words, rename or
    hide an entity, or write another text, and see both move. Raises ValueError if the model has no localized context
    or the document no pair.
    """

    script = "context.js"

    def __init__(self, model: DocRE, document: Document, pair: tuple[int, int] | None = None):
        if (how := model.tokenizer.reading.context) != "sum":
            raise ValueError(f"context={how!r}: only products of attention over their sum (context='sum') can be shown")
        with_pairs(document)
        self._model, self._document = model, document
        encoded, looks, margins = self._run(document)
        head, tail = pair or self._first(document)
        state = {"head": head, "tail": tail, "view": "both", "attention": -1, "change": None}
        count, page = range(len(document.entities)), live(model)
        data = {
            "document": document_data(document),
            "attention": pack(looks.sqrt()),  # [A, N, L]
            "word": encoded.word,
            "sentence": encoded.sentence,
            "starred": model.tokenizer.reading.marker == "star",
            "margins": [[self._best(margins[h, t], self._gold(h, t)) for t in count] for h in count],
            "evidence": EVIDENCE,
            "shown": SHOWN,
            "challenge": one_word(model, document) if page else None,
            **page,
        }
        super().__init__(data, state)

    @staticmethod
    def _first(document: Document) -> tuple[int, int]:
        """A gold pair across sentences to start with, if there is one."""
        pairs = [(t.head, t.tail) for t in document.triples] or document.pairs()
        return next((p for p in pairs if not document.same_sentence(*p)), pairs[0])

    @torch.inference_mode()
    def _run(self, document: Document):
        """A document's tokens, each entity's attention [A, N, L] and each pair's margins [N, N, R]."""
        model, training = self._model, self._model.training
        model.eval()
        try:
            batch = model.batch([document], labels=False)
            looks, margins = model.read(batch)[1][0].float().cpu(), model(batch).margin[0].float().cpu()
        finally:
            model.train(training)
        return model.tokenizer.encode([document])[0], looks, margins

    def _gold(self, head: int, tail: int) -> list[str]:
        names = self._model.relations.names
        held = {t.relation for t in self._document.triples if (t.head, t.tail) == (head, tail)}
        return [r for r in names if r in held]

    def _best(self, margins, gold: list[str], before=None) -> list[list]:
        """The relations nearest to being claimed, the gold ones and those claimed before, as [name, margin], falling.

        With the margins of the unchanged document, `before`, as [name, margin, margin before].
        """
        names = self._model.relations.names
        order = [r for r in margins.argsort(descending=True).tolist() if r][:SHOWN]
        more = [*map(self._model.relations.index, gold)]
        more += [] if before is None else [r for r in (before > 0).nonzero()[:, 0].tolist() if r]
        order += [r for r in dict.fromkeys(more) if r not in order]
        order.sort(key=lambda r: -margins[r])
        was = [[] if before is None else [round(float(before[r]), 2)] for r in order]
        return [[names[r], round(float(margins[r]), 2), *w] for r, w in zip(order, was, strict=True)]

    def recompute(self, state: dict[str, Any]) -> dict[str, Any]:
        """`pair` in the numbers of the document before words were struck: if one of the two requested entities is
        None, the pair of the model's strongest fact. None if no pair is left. `challenge` is the margin of its fact."""
        document, change = changed(self._document, state), state.get("change")
        kept = change["document"]["from"] if change else list(range(len(document.entities)))
        if len(kept) < 2:
            empty = {"words": [0] * document.words, "stars": [], "shares": [0] * len(document.sentences)}
            return {"pair": None, **empty, "margins": [], "challenge": None}
        encoded, looks, margins = self._run(document)
        asked = [None if state[k] is None else kept.index(state[k]) for k in ("head", "tail")]
        head, tail = _strongest(margins, *asked) if None in asked else asked
        pair, given = (kept[head], kept[tail]), not (change and change.get("text"))
        before = self._run(self._document)[2][pair] if change and given else None
        weights = _weights(looks, head, tail, state["view"], state["attention"])
        places, sentences = (torch.tensor(x) for x in (encoded.word, encoded.sentence))
        words = torch.zeros(document.words).index_add_(0, places[places >= 0], weights[places >= 0])
        stars = weights[(places < 0) & (sentences >= 0)]
        shares = sentence_shares(weights[None], sentences, len(document.sentences))[0]
        return {
            "pair": list(pair),
            "words": rounded(words, 5),
            "stars": rounded(stars, 5),
            "shares": rounded(shares, 4),
            "margins": self._best(margins[head, tail], self._gold(*pair) if given else [], before),
            "challenge": self._challenge(margins, kept) if given else None,
        }

    def _challenge(self, margins, kept: list[int]) -> float | None:
        """The margin of the fact that the model should lose in the challenge."""
        if not (challenge := self.data["challenge"]):
            return None
        head, relation, tail = challenge["fact"]
        if head not in kept or tail not in kept:
            return None
        return round(float(margins[kept.index(head), kept.index(tail), self._model.relations.index(relation)]), 2)

    def fallback(self) -> str:
        names = [entity.name for entity in self._document.entities]
        rows = [
            [names[t.head], t.relation, names[t.tail], f"{t.score:.1f}", ", ".join(map(str, t.evidence)) or "none"]
            for t in predict(self._model, [self._document])
        ]
        head = ["head", "relation", "tail", "margin (logits)", "sentences that both look at"]
        return html_table(f"{self._document.title}: what the model claims, and where it looked", head, rows)


def _strongest(margins, head: int | None, tail: int | None) -> tuple[int, int]:
    """The pair whose best relation has the highest margin, among those with this head or tail if one is given."""
    best = margins[..., 1:].amax(-1).fill_diagonal_(-torch.inf)
    for at, axis in ((head, 0), (tail, 1)):
        if at is not None:
            others = [k for k in range(len(best)) if k != at]
            best.index_fill_(axis, torch.tensor(others), -torch.inf)
    return divmod(int(best.argmax()), len(best))


def _weights(looks, head: int, tail: int, view: str, only: int):
    """The attention of a pair, one weight per token: the product of both, or the attention of one of them."""
    looks = looks if only < 0 else looks[only : only + 1]
    weights = looks[:, head] * looks[:, tail] if view == "both" else looks[:, head if view == "head" else tail]
    return weights.sum(0) / weights.sum().clamp_min(ops.EPSILON)
