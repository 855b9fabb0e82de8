"""The entity matrix as an image: every stage of DocuNet's U-Net, what each pixel sees, and what the order changes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from ..evaluate import score
from ..layers import MapNorm
from ..model import DocRE, trained
from ..papers.docunet import DocuNet
from ..types import Document, PairFeatures, Prediction, Triple
from .base import Widget, document_data, html_table, live, pack, with_pairs

# Stages of the path through the U: how many entities share a row, and a description.
STAGES = {
    "image": (1, "input of the U-Net"),
    "enter": (1, "two convolutions"),
    "down1": (2, "first step down"),
    "down2": (4, "second step down"),
    "up1": (2, "first step up, with down1"),
    "up2": (1, "second step up, with enter"),
    "logits": (1, "output, a channel per relation"),
}
SHUFFLES = 2  # random orders that travel with the page, besides first mention and reversed
SHOWN = 3  # channels of a stage that travel with it
ROOM = 105_000  # bytes for numbers in the page
CELLS = 2**14  # of all copies of the image in one pass

Pixel = tuple[int, int]


class EntityImage(Widget):
    """DocuNet's matrix of pairs stage by stage: a pixel's value, the pairs it covers, and the inputs that move it.

        from docre_lite.widgets import EntityImage
        EntityImage(model, document)
        EntityImage(model, document, orders=[[2, 0, 1]])

    Choose a pixel. The image beside it shows the size of the pixel's gradient at each cell, found by autograd; the
    outline is the box of all cells that reach the pixel if the averages of the normalisation are held fixed. Renumber
    the entities, and the same document gets other neighbours and other answers. DocuNet section 3.3.

    The page carries a few orders, the strongest channels, and as many gradients as fit; a kernel has all of them. Drag
    the entities into an order of your own, with a kernel or with the model that comes with the package: then the page
    computes stages and answers itself, with the package's ATLOP, which ignores the order, as a control.

    `orders` are permutations of the entities besides first mention; reversed and two shuffles by default. Raises
    ValueError if the model is not a DocuNet, the document has no pair, or an order is not a permutation.
    """

    script = "image.js"

    def __init__(self, model: DocRE, document: Document, orders: Sequence[Sequence[int]] | None = None):
        if not isinstance(model.classifier, DocuNet):
            raise ValueError(f"{model.classifier.name} makes no image of entities; give a model built as 'docunet'")
        with_pairs(document)
        self._live = live(model)
        control = DocRE.load(trained()["atlop"]) if self._live and "atlop" in trained() else None
        self._stages, self._model, self._document = Stages(model, document, control), model, document
        n = len(document.entities)
        given = {f"order {k + 1}": list(order) for k, order in enumerate(orders or ())}
        if orders is None:
            draw = torch.Generator().manual_seed(0)
            given["reversed"] = list(range(n))[::-1]
            given |= {f"shuffle {k + 1}": torch.randperm(n, generator=draw).tolist() for k in range(SHUFFLES)}
        named = {"first mention": list(range(n))}
        for name, order in given.items():
            if order not in named.values():  # two entities have two orders
                named[name] = order
        super().__init__(*self._content(named))

    def _content(self, named: dict[str, list[int]]) -> tuple[dict[str, Any], dict[str, Any]]:
        document, n = self._document, len(self._document.entities)
        runs = {name: self._stages.run(order) for name, order in named.items()}
        maps = {name: self._stages.maps(found) for name, (_, found) in runs.items()}
        (first, prediction), begin = runs["first mention"], maps["first mention"]
        stages = list(begin)
        sides = {stage: found.shape[-1] for stage, found in begin.items()}
        pixels = {stage: self._stages.pixels(sides[stage], STAGES[stage][0]) for stage in stages}
        shown = {stage: self._stages.strongest(found, stage) for stage, found in begin.items()}
        # The remaining room holds gradients: first of one channel per stage in every order, then of further channels.
        # The image needs none: each of its pixels depends on itself alone.
        fields, left = {}, ROOM - sum(len(pixels[s]) * len(shown[s]) * len(named) for s in stages)
        for rank in range(SHOWN):
            moved = [s for s in stages[1:] if rank < len(shown[s])]
            for name, (pairs, _) in runs.items():
                for k, stage in enumerate(moved):
                    channel, some = shown[stage][rank], pixels[stage][: max(0, left // (len(moved) - k) // n**2)]
                    if some:
                        fields[f"{name}/{stage}/{channel}"] = pack(
                            self._stages.fields(pairs, stage, channel, some), 0.0, 1.0
                        )
                        left -= len(some) * n**2
        data = {
            "names": [entity.name for entity in document.entities],
            "pairs": document.pairs() if document.candidates is not None else None,
            "stages": [
                {"name": stage, "text": STAGES[stage][1], "scale": STAGES[stage][0], "side": sides[stage]}
                | {"labels": list(self._model.relations.names[1:]) if stage == "logits" else None}
                | {"count": len(begin[stage]), "shown": shown[stage]}
                | {"pixels": [r * sides[stage] + c for r, c in pixels[stage]]}
                | {"reach": pack(self._stages.reach(first, stage, range(sides[stage])), 0.0, 255.0)}
                for stage in stages
            ],
            "orders": [
                {
                    "name": name,
                    "order": order,
                    "maps": {s: {str(c): pack(maps[name][s][c]) for c in shown[s]} for s in stages},
                    "compared": self._stages.compared(order, runs[name][1], prediction),
                }
                for name, order in named.items()
            ],
            "fields": fields,
            **self._page(),
        }
        stage = stages[1]
        row, column = pixels[stage][0]
        chosen = {"stage": stage, "channel": shown[stage][0], "row": row, "column": column}
        return data, {"order": named["first mention"], **chosen}

    def _page(self) -> dict[str, Any]:
        """The data a page needs to compute an order itself: its names for model and control, and the document."""
        if not self._live:
            return {}
        about = document_data(self._document)
        kept = {key: about[key] for key in ("sentences", "mentions", "types", "gold")}
        control = {"control": "atlop"} if self._stages.control else {}
        return {**self._live, **control, "document": kept}

    def recompute(self, state: dict[str, Any]) -> dict[str, Any]:
        order, stage, channel = (state[k] for k in ("order", "stage", "channel"))
        pixel = [(state["row"], state["column"])]
        pairs, found = self._stages.run(order)
        (top, bottom, *_), (*_, left, right) = self._stages.reach(pairs, stage, pixel[0]).tolist()
        return {
            "map": pack(self._stages.maps(found)[stage][channel]),
            "field": pack(self._stages.fields(pairs, stage, channel, pixel), 0.0, 1.0),
            "box": [top, bottom, left, right],
            "compared": self._stages.compared(order, found, self._stages.run(range(len(order)))[1]),
        }

    def fallback(self) -> str:
        rows = []
        for stage in self.data["stages"]:
            side, scale = stage["side"], stage["scale"]
            ends = base64.b64decode(stage["reach"]["bytes"])
            reach = [
                f"{ends[4 * k + 1] - ends[4 * k] + 1} × {ends[4 * k + 3] - ends[4 * k + 2] + 1}" for k in (side // 2, 0)
            ]
            size = f"{stage['count']} × {side} × {side}"
            rows.append([f"{stage['name']}, {stage['text']}", size, scale**2, *reach])
        head = ["stage", "channels × rows × columns", "pairs a pixel covers at most"]
        head += ["cells of the image within its reach, in the middle", "in the corner"]
        orders = [
            [o["name"], f"{len(c['changed'])} of {c['pairs']}", *c["f1"]]
            for o, c in ((o, o["compared"]) for o in self.data["orders"])
        ]
        title = self._document.title
        return html_table(f"{title}: the matrix of pairs on its way through the network", head, rows) + html_table(
            "The same document, its entities in other orders",
            ["order", "pairs with another answer than by first mention", "F1 by first mention (%)", "F1 (%)"],
            orders,
        )


class Stages:
    """One document through a DocuNet: the values of every stage, the cells of the image that move them, the answers."""

    def __init__(self, model: DocRE, document: Document, control: DocRE | None = None):
        self.model, self.document, self.control = model, document, control

    def run(self, order: Sequence[int], model: DocRE | None = None) -> tuple[PairFeatures, Prediction]:
        """Features and prediction for the document with its entities in this order; those of `model` if it is given."""
        model = model or self.model
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                pairs = model.features(model.batch([self.document.permuted(order)], labels=False))
                return pairs, model.classifier(pairs)
        finally:
            model.train(training)

    def maps(self, found: Prediction) -> dict[str, Tensor]:
        """Each stage [C, n, n], cut to the cells that hold entities."""
        n = len(self.document.entities)
        every = found.trace | {"logits": found.logits[..., 1:].movedim(-1, 1)}
        return {
            stage: every[stage][0, :, : -(-n // scale), : -(-n // scale)].float().cpu()
            for stage, (scale, _) in STAGES.items()
            if stage in every
        }

    def strongest(self, maps: Tensor, stage: str) -> list[int]:
        """Interesting channels: those with the largest variance; for logits, the relations nearest to being claimed."""
        heads, tails = zip(*self.document.pairs(), strict=True)
        worth = maps[:, heads, tails].amax(1) if stage == "logits" else maps.flatten(1).var(1, correction=0)
        return worth.argsort(descending=True)[:SHOWN].tolist()

    def pixels(self, side: int, scale: int) -> list[Pixel]:
        """Every pixel of a stage, those with a gold pair first."""
        gold = {(t.head // scale, t.tail // scale) for t in self.document.triples}
        return sorted(((r, c) for r in range(side) for c in range(side)), key=lambda pixel: pixel not in gold)

    def gradients(self, pairs: PairFeatures, stage: str, channel: int | None, pixels: list[Pixel], *, fixed: bool):
        """Size of the gradient [P, N, N] of each pixel's number by cell of the image; of all channels if None.

        With `fixed`, no gradient passes through the averages of the normalisation.
        """
        if len(pixels) > (most := max(1, CELLS // len(self.document.entities) ** 2)):
            parts = [pixels[k : k + most] for k in range(0, len(pixels), most)]
            return torch.cat([self.gradients(pairs, stage, channel, part, fixed=fixed) for part in parts])
        model, classifier = self.model, self.model.classifier
        many = len(pixels)
        b, (r, c) = torch.arange(many, device=model.device), torch.tensor(pixels, device=model.device).T
        only = torch.zeros(many, *pairs.mask.shape[1:], dtype=torch.bool, device=model.device)
        if stage == "logits":
            only[b, r, c] = True
        encoded = model.tokenizer.encode(pairs.batch.documents)

        def copies(x: Tensor) -> Tensor:
            return x.detach().expand(many, *x.shape[1:])

        repeated = PairFeatures(
            document=copies(pairs.document),
            entities=copies(pairs.entities),
            attention=None,
            tokens=copies(pairs.tokens),
            mask=only,
            batch=model.tokenizer.collate(encoded * many, False).to(model.device),
        )
        training, trace = model.training, {}
        model.eval()
        try:
            with ExitStack() as hooks, torch.enable_grad():
                for norm in [m for m in classifier.matrix.modules() if fixed and isinstance(m, MapNorm)]:
                    hooks.callback(norm.register_forward_hook(_straight).remove)
                image = copies(classifier.pixels(pairs)).requires_grad_()
                logits = classifier.segment(image, repeated, trace)
                values = logits[b, r, c, 1:] if stage == "logits" else trace[stage][b, :, r, c]
                chosen = values.sum() if channel is None else values[:, channel].sum()
                return torch.autograd.grad(chosen, image)[0].float().norm(dim=-1).cpu()
        finally:
            model.train(training)

    def fields(self, pairs: PairFeatures, stage: str, channel: int, pixels: list[Pixel]) -> Tensor:
        """Root of the gradient's size by cell of the image, the largest of each pixel = 1: [P, N, N]."""
        sizes = self.gradients(pairs, stage, channel, pixels, fixed=False)
        peak = sizes.amax((1, 2), keepdim=True)
        return torch.where(peak > 0, sizes / peak.clamp_min(1e-30), 0).sqrt()

    def reach(self, pairs: PairFeatures, stage: str, lines: Sequence[int]) -> Tensor:
        """First and last row of the image that reach each of some rows of a stage, and the same for columns: [P, 4].

        Every part of the network reads squares, so the rows that reach pixel (r, c) depend on r alone and the columns
        on c, and the pixels on the diagonal give both.
        """
        reached = self.gradients(pairs, stage, None, [(k, k) for k in lines], fixed=True) > 0
        ends = []
        for line in (reached.any(2).int(), reached.any(1).int()):  # argmax is the first of equals
            ends += [line.argmax(1), line.shape[1] - 1 - line.flip(1).argmax(1)]
        return torch.stack(ends, 1)

    def compared(self, order: Sequence[int], found: Prediction, first: Prediction) -> dict[str, Any]:
        """The changes due to this order: answers by pair, in numbers of the document's own order, and F1 in %.

        With a control, also the number of pairs for which its answer differs.
        """
        document, same = self.document, range(len(order))
        sides = [self.facts(same, first), self.facts(order, found)]
        gold = {(t.head, t.tail, t.relation) for t in document.triples}

        def of(facts: set, pair: Pixel) -> list[str]:
            return sorted(r for h, t, r in facts if (h, t) == pair)

        changed = sorted({(h, t) for h, t, _ in sides[0] ^ sides[1]})
        scores = [score([Triple(document.title, h, r, t) for h, t, r in side], [document]).f1 for side in sides]
        control = {}
        if self.control:
            one, two = (self.facts(o, self.run(o, self.control)[1], self.control) for o in (same, order))
            control = {"control": len({(h, t) for h, t, _ in one ^ two})}
        return {
            "pairs": len(document.pairs()),
            "changed": [[*pair, *(of(facts, pair) for facts in (*sides, gold))] for pair in changed],
            "f1": [round(100 * f1, 1) for f1 in scores],
            **control,
        }

    def facts(self, order: Sequence[int], found: Prediction, model: DocRE | None = None) -> set[tuple[int, int, str]]:
        """The claims of a model in this order, in numbers of the document's own order."""
        names = (model or self.model).relations.names
        return {(order[h], order[t], names[r]) for h, t, r in found.chosen[0].nonzero().tolist()}


def _straight(module, given, out: Tensor) -> Tensor:
    """The same values, but changes of the input pass straight to the output, without the averages."""
    return out.detach() + given[0] - given[0].detach()
