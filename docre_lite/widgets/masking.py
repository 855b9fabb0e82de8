"""Masked pairs: the pairs hidden from DRE-MIR, its answers for them, and the paths that it looked along."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from ..corpus import derivations
from ..evaluate import score
from ..model import DocRE
from ..papers.dre_mir import DREMIR, MODES, draw_hidden
from ..types import Document, Prediction, Triple
from .base import Widget, document_data, html_table, live, pack, rounded, with_pairs

RATES = range(0, 100, 10)  # % of the pairs that are hidden
AT_FIRST = 20  # the share in training


class MaskRateExplorer(Widget):
    """Hide a share of a document's pairs, and see which relations DRE-MIR still finds. DRE-MIR Figure 5.

        from docre_lite.widgets import MaskRateExplorer
        MaskRateExplorer(model, document)

    Three matrices side by side: the hidden pairs, the model's answers for all pairs, and gold; and F1 over the
    rate, with mean and range over `draws` draws of hidden pairs. With a kernel, and in a page for the package's own
    model, the reader can hide any pairs by hand and make any number of new draws. A chosen pair has a line for each
    of the four inference modes: the margin of its relation without that mode's head, how much the head looks along
    paths, at which middle entity most, and the derivations by the corpus's rules. Ten pairs with a relation
    take about 8 kB of the page for every draw.

    Raises ValueError if the model is not a DRE-MIR with inference layers that was trained on hidden pairs, for a
    document without pairs or with unknown relations, and for a pair that it does not have.
    """

    script = "masking.js"

    def __init__(self, model: DocRE, document: Document, draws: int = 4, pair: tuple[int, int] | None = None):
        part = model.classifier
        if not isinstance(part, DREMIR) or not part.masks or part.options.attention == "full" or not part.matrix:
            raise ValueError("only a DRE-MIR with I-MSA and mask_rate above 0 restores pairs; give such a model")
        with_pairs(document)
        if unknown := sorted({t.relation for t in document.triples} - set(model.relations.names)):
            raise ValueError(f"{document.title}: the model does not know {unknown}; train it on documents with them")
        if pair and tuple(pair) not in document.pairs():
            raise ValueError(f"{document.title}: {pair} is not a pair to classify; give one of document.pairs()")
        if draws < 1:
            raise ValueError(f"draws={draws}: at least one draw of hidden pairs is needed")
        self._model, self._document = model, document
        states = self._look(torch.cat([self._drawn(rate, k) for k in range(draws if rate else 1)]) for rate in RATES)
        names = model.relations.names
        gold = [
            {
                "head": t.head,
                "tail": t.tail,
                "relation": names.index(t.relation),
                "depth": t.depth,
                "ways": [
                    [rule.mode - 1, x, rule.pattern, [[a, b] for a, _, b in rule.premises(t.head, x, t.tail)]]
                    for rule, x in derivations(document, t)
                ],
            }
            for t in document.triples
        ]
        data = {
            "title": document.title,
            "names": [entity.name for entity in document.entities],
            "pairs": document.pairs(),
            "relations": [model.relations.label(name) for name in names],
            "modes": list(MODES),
            "rates": list(RATES),
            "draws": draws,
            "gold": gold,
            "states": states,
            **live(model),
        }
        if "live" in data:  # the page asks its own model about this document
            data["document"] = document_data(document)
        head, tail = pair or self._first(states[RATES.index(AT_FIRST)][0])
        super().__init__(data, {"rate": AT_FIRST, "draw": 0, "hidden": None, "head": head, "tail": tail})

    def _first(self, state: dict[str, Any]) -> tuple[int, int]:
        """A composed gold triple, hidden and found, to start with; or the next best."""
        claimed = {(h, t): relations for h, t, relations, *_ in state["claims"]}
        count, index = len(self._document.entities), self._model.relations.index

        def interest(t: Triple):
            found = index(t.relation) in claimed[t.head, t.tail]
            return (t.depth > 0) + found, found, state["hidden"][t.head * count + t.tail] == "1"

        best = max(self._document.triples, key=interest, default=None)
        return (best.head, best.tail) if best else self._document.pairs()[0]

    def _drawn(self, rate: int, draw: int) -> Tensor:
        """The cells [1, N, N] that a draw hides at a given rate in %."""
        cells = ~torch.eye(len(self._document.entities), dtype=torch.bool)[None]
        return draw_hidden(cells, rate / 100, torch.Generator().manual_seed(draw))

    @torch.inference_mode()
    def _look(self, wanted: Iterable[Tensor]) -> list[list[dict[str, Any]]]:
        """The model's answers with these cells hidden: each of `wanted` is one set or several, [D, N, N]."""
        model, part = self._model, self._model.classifier
        training, kept = model.training, part.keep_attention
        model.eval()
        part.keep_attention = True
        found = []
        try:
            pairs = model.features(model.batch([self._document], labels=False))
            for cells in wanted:
                hidden, silent = cells.to(model.device), []
                for mode in range(len(MODES)):
                    with part.without(mode):
                        silent.append(part.restore(pairs, hidden).margin)
                margins, answer = torch.stack(silent, 1), part.restore(pairs, hidden)
                found.append([self._state(answer, k, margins[k]) for k in range(len(hidden))])
        finally:
            part.keep_attention = kept
            model.train(training)
        return found

    def _state(self, answer: Prediction, k: int, without: Tensor) -> dict[str, Any]:
        """The k-th answer in the script's format; `without` holds the margins without each mode [4, N, N, R]."""
        document, names = self._document, self._model.relations.names
        hidden, margin = answer.trace["hidden"][k].tolist(), answer.margin[k].tolist()
        without, chosen = without.permute(1, 2, 3, 0).tolist(), answer.chosen[k].nonzero().tolist()
        gold, claimed = {}, {}
        for t in document.triples:
            gold.setdefault((t.head, t.tail), []).append(names.index(t.relation))
        for h, t, r in chosen:
            claimed.setdefault((h, t), []).append(r)
        found = [Triple(document.title, h, names[r], t) for h, t, r in chosen]
        right, covered = set(found) & set(document.triples), [t for t in document.triples if hidden[t.head][t.tail]]
        scores, where, claims = score(found, [document]), sorted(gold.keys() | claimed.keys()), []
        for h, t in where:
            relations, known = claimed.get((h, t), []), gold.get((h, t), [])
            # the relation whose margin is shown: a right one before a wrong one before a missed one
            r = max([r for r in relations if r in known] or relations or known, key=margin[h][t].__getitem__)
            claims.append([h, t, relations, r, *rounded([margin[h][t][r], *without[h][t][r]], 1)])
        heads, tails = torch.tensor(where, dtype=torch.long).view(-1, 2).T
        looks = answer.trace["attention"][k][..., heads, tails, :].permute(2, 0, 1, 3)  # [P, layers, 4, N and itself]
        most, middle = looks[..., :-1].max(-1)
        return {
            "hidden": "".join("01"[cell] for row in hidden for cell in row),
            "claims": claims,
            "looks": pack(torch.stack([1 - looks[..., -1], most], -1), 0.0, 1.0),  # [P, layers, 4, 2]
            "middles": pack(middle, 0.0, 255.0),
            "scores": rounded([100 * scores.f1, 100 * scores.precision, 100 * scores.recall], 6),
            "correct": len(right),
            "covered": len(covered),
            "restored": len(right.intersection(covered)),
        }

    def recompute(self, state: dict[str, Any]) -> dict[str, Any]:
        cells = self._drawn(state["rate"], state["draw"])
        if by_hand := state.get("hidden"):  # cell by cell, "1" where one is hidden; a pair of one entity never is
            cells = torch.tensor([c == "1" for c in by_hand]).view_as(cells) & ~torch.eye(cells.shape[1]).bool()
        return self._look([cells])[0][0]

    def fallback(self) -> str:
        rows = []
        for rate, states in zip(RATES, self.data["states"], strict=True):
            f1, covered = [s["scores"][0] for s in states], mean(s["covered"] for s in states)
            restored = mean(s["restored"] for s in states)
            rows.append([f"{rate} %", f"{mean(f1):.1f}", f"{min(f1):.1f} to {max(f1):.1f}", covered, restored])
        head = ["pairs hidden", "F1 (%), mean", "over the draws", "gold triples hidden, mean", "of them still named"]
        count = f"{self.data['draws']} draws of hidden pairs, {len(self._document.triples)} gold triples"
        return html_table(f"{self._document.title}: what is restored. {count}", head, rows)
