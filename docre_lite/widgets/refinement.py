"""DocRE-II round by round: the answers that each round adds and removes, and where the cells looked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ..evaluate import score
from ..model import DocRE
from ..papers.docre_ii import LINES, DocREII
from ..types import Document, Triple
from .base import Widget, document_data, html_table, live, pack, rounded, with_pairs

ROOM = 110_000  # attention weights that travel with the page, one byte each, shared by all documents
ByHand = Mapping[str, Sequence[Sequence[Any]]]  # answers to replace, by round: [head, tail, [relations]] of each
COLUMNS = ("round", "F1 (%)", "precision (%)", "recall (%)", "claimed", "added (gold)", "removed (gold)")


class RefinementStepper(Widget):
    """The matrix of answers from the base (round 0) to round K, and the four lines along which a cell looks.

        from docre_lite.widgets import RefinementStepper
        RefinementStepper(model, document)
        RefinementStepper(model, [document, another], rounds=5, cell=(7, 0))

    Every cell is compared with gold (hit, missed, wrong) and with the previous round (added, removed, kept). The
    chosen cell shows its relations before and after, its attention on the matrix and as a list, and in the text the
    mentions of head, tail and the middle entity that it looked at most. DocRE-II (5)-(11) and section 2.4.

    `rounds` is K, the model's own by default. With a kernel, and in a page for the package's own model, a button runs
    one more, and the reader can overrule the answers of a round: the next round reads the reader's, and differences
    from then on are marked. A page that computes nothing holds the weights of the cells that change or hold a relation
    first, then of others as long as there is `ROOM`. Raises ValueError for a model without rounds or lines, and for a
    document or a cell without a pair.
    """

    script = "refinement.js"

    def __init__(
        self,
        model: DocRE,
        documents: Document | Sequence[Document],
        rounds: int | None = None,
        cell: tuple[int, int] | None = None,
    ):
        part = model.classifier
        if not isinstance(part, DocREII):
            raise ValueError(f"paper {type(part).name!r} answers once; only a DocRE-II model has rounds")
        if part.options.attention != "eca":
            raise ValueError(f"attention={part.options.attention!r}: only attention along lines ('eca') can be shown")
        if part.stage == 1:
            raise ValueError("training stopped in the first stage: only the base answers, there are no rounds yet")
        rounds = part.options.rounds if rounds is None else rounds
        if rounds < 1:
            raise ValueError(f"rounds={rounds}: nothing to step through; give 1 or more")
        self._documents = with_pairs(documents)
        if cell is not None and tuple(cell) not in self._documents[0].pairs():
            raise ValueError(f"{self._documents[0].title}: {cell} is not a pair to classify; give one of its pairs()")
        self._model = model
        runs = []
        for document in self._documents:
            facts, weights = self._run(document, rounds)
            cells = _by_interest(document, facts)
            if cell is not None and not runs:
                cells = [tuple(cell), *(c for c in cells if c != tuple(cell))]
            room = ROOM // len(self._documents) // weights[:, :, :, :, 0, 0].numel()
            runs.append(_packed(document, facts, weights, cells[: max(room, 1)]))
        data = {
            "documents": [_asked(document) for document in self._documents],
            "runs": runs,
            "lines": list(LINES),
            "columns": list(COLUMNS),
            "relations": list(model.relations.names),
            **live(model),
        }
        head, tail = runs[0]["cells"][0]
        first = {"document": 0, "rounds": rounds, "round": 1, "head": head, "tail": tail, "layer": -1, "matrix": -1}
        super().__init__(data, {**first, "byHand": {}})

    @torch.inference_mode()
    def _run(
        self, document: Document, rounds: int, by_hand: ByHand | None = None
    ) -> tuple[list[dict[str, Any]], Tensor]:
        """All facts that are gold or claimed in some round, and the weights [K, layers, F and R, lines, N, N, N + 1].

        The model runs 0, 1, … K rounds, so the answers shown for a round are those of a model that stops there.
        The next round reads the answers in `by_hand`; they do not count as the model's.
        """
        model, part = self._model, self._model.classifier
        training, options, keep = model.training, part.options, part.keep_attention
        chosen, margin, weights = [], [], []
        model.eval()
        try:
            pairs = model.features(model.batch([document], labels=False))
            part.keep_attention = True
            for k in range(rounds + 1):
                part.options = replace(options, rounds=k)
                with _reads(part, model.relations.names, by_hand or {}):
                    prediction = part(pairs)
                chosen.append(prediction.chosen[0])
                margin.append(prediction.margin[0].float())
                if k:
                    weights.append(prediction.trace["attention"][0].float().cpu())
        finally:
            part.options, part.keep_attention = options, keep
            model.train(training)
        held, margins, names = torch.stack(chosen).cpu(), torch.stack(margin).cpu(), model.relations.names
        facts = {(h, t, names[r]) for h, t, r in held.any(0).nonzero().tolist()}
        facts |= {(t.head, t.tail, t.relation) for t in document.triples}
        rows = []
        for h, t, name in sorted(facts):
            row = {"head": h, "tail": t, "relation": name, "held": [0] * (rounds + 1), "margin": None}
            if name in model.relations:  # otherwise the model was built from documents without it
                r = model.relations.index(name)
                row |= {"held": held[:, h, t, r].int().tolist(), "margin": rounded(margins[:, h, t, r], 1)}
            rows.append(row)
        return rows, torch.stack(weights)

    def recompute(self, state: dict[str, Any]) -> dict[str, Any]:
        document, by_hand = self._documents[state["document"]], state.get("byHand") or {}
        facts, weights = self._run(document, state["rounds"], by_hand)
        run = _packed(document, facts, weights, [(state["head"], state["tail"])])
        return {"run": run, "untouched": self._run(document, state["rounds"])[0] if by_hand else None}

    def fallback(self) -> str:
        parts = []
        for document, run in zip(self._documents, self.data["runs"], strict=True):
            names = [entity.name for entity in document.entities]
            parts.append(html_table(f"{document.title}: rounds", list(COLUMNS), run["scores"]))
            gold = {(t.head, t.tail, t.relation) for t in document.triples}
            rows = [
                [k, "added" if f["held"][k] else "removed", names[f["head"]], f["relation"], names[f["tail"]],
                 "yes" if (f["head"], f["tail"], f["relation"]) in gold else "no"]
                for k in range(1, len(run["scores"]))  # 0 is the base
                for f in run["facts"]
                if f["held"][k] != f["held"][k - 1]
            ]  # fmt: skip
            caption = f"{document.title}: what each round changes"
            parts.append(html_table(caption, ["round", "change", "head", "relation", "tail", "gold"], rows))
        return "".join(parts)


@contextmanager
def _reads(part: DocREII, names: Sequence[str], by_hand: ByHand) -> Iterator[None]:
    """A context in which the next pass reads the answers given by hand, and the model's for all other pairs."""
    rounds, read = count(), part.read

    def replaced(logits: Tensor, mask: Tensor) -> Tensor:
        chosen = read(logits, mask).clone()
        for head, tail, relations in by_hand.get(str(next(rounds)), ()):
            chosen[:, head, tail] = torch.tensor([name in relations for name in names], device=chosen.device)
        return chosen

    part.read = replaced
    try:
        yield
    finally:
        del part.read  # restores the class's own


def _asked(document: Document) -> dict[str, Any]:
    """A document for the script, with the pairs to classify unless these are all pairs."""
    pairs = {} if document.candidates is None else {"candidates": [list(pair) for pair in document.pairs()]}
    return document_data(document) | pairs


def _by_interest(document: Document, facts: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """All pairs: first those whose answer changes, then those with a relation; composed before stated."""
    composed = {(t.head, t.tail) for t in document.triples if t.premises}
    related = {(f["head"], f["tail"]) for f in facts}
    changing = {(f["head"], f["tail"]) for f in facts if len(set(f["held"])) > 1}
    return sorted(document.pairs(), key=lambda c: (c not in changing, c not in related, c not in composed, c))


def _packed(document: Document, facts: list[dict[str, Any]], weights: Tensor, cells: list[tuple[int, int]]) -> dict:
    """One run in the script's format, with the attention of some cells."""
    head, tail = torch.tensor(cells).unbind(1)
    kept = weights[..., head, tail, :].movedim(-2, 0)  # [cells, K, layers, F and R, lines, N + 1]
    return {
        "facts": facts,
        "scores": _scores(document, facts, len(weights)),
        "cells": [list(c) for c in cells],
        "attention": pack(kept, 0.0, 1.0),
    }


def _scores(document: Document, facts: list[dict[str, Any]], rounds: int) -> list[list[int | str]]:
    """A row of `COLUMNS` for each round, the base first; without scores if the document has no gold triples."""
    gold, rows, was = set(document.triples), [], None
    for k in range(rounds + 1):
        now = {Triple(document.title, f["head"], f["relation"], f["tail"]) for f in facts if f["held"][k]}
        moves = [now - was, was - now] if was is not None else []
        s = score(now, [document])
        shares = [f"{100 * x:.1f}" if gold else "–" for x in (s.f1, s.precision, s.recall)]
        moved = [f"{len(m)} ({len(m & gold)})" for m in moves] or ["–", "–"]
        rows.append([k, *shares, len(now), *moved])
        was = now
    return rows
