"""DRE-MIR: document-level relation extraction as masked image reconstruction (Zhang et al., 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..layers import PairVector, pair_cells
from ..model import Inputs, PairClassifier
from ..objectives import TOP, AdaptiveThreshold
from ..ops import full_precision
from ..support.settings import Amount, Count, Part, Variant, option, settings
from ..types import PairFeatures, Prediction

# The cells a head looks at for the pair (A, B) and a middle entity x: legs (A, x) or (x, A), and (B, x) or (x, B).
MODES = ("A→x, x→B", "A→x, B→x", "x→A, B→x", "x→A, x→B")


class DREMIR(PairClassifier):
    """Pairs are inferred from paths over a third entity; masked pairs must be inferred from the rest of the matrix.

    Two ideas: a pair attends to pairs of pairs, in four modes: the four ways in which two facts can share an
    entity; and training hides some pairs and asks for the same answers.

    Our choices where the paper is silent: GELU and double a cell's width in a layer's feed-forward part, sum and norm
    after each part, dropout; tanh and one hidden layer with ReLU in a pair's vector; a fixed count of hidden pairs.
    """

    name = "dre_mir"
    title = "DRE-MIR: masked pairs, restored from paths"

    @settings
    class Options:
        map_width: Count = option(256, "width of a cell of the matrix (the encoder's in the paper); a multiple of 4")
        inference_layers: Amount = option(2, "inference layers (Table 4: 1 or 2; the appendix: 3); 0 = w/o inference")
        attention: Literal["inference", "full"] = option(
            "inference", "I-MSA over two-leg paths, or ordinary self-attention over all cells (Table 3 'w/o I-MSA')"
        )
        feed_width: Count = option(2, "width of an inference layer's feed-forward part, as a multiple of a cell's")
        inference_dropout: Part = option(0.1, "dropout inside the inference layers")
        mask_rate: Part = option(0.2, "share of a document's pairs hidden in training (20 % in the paper)")
        test_mask_rate: Part = option(
            0.0, "share hidden at prediction, to see how well the other pairs determine a pair (Figure 5)"
        )
        paths: Literal["both", "masked"] = option(
            "both", "train on the original and the masked matrix, or on the masked one alone"
        )
        reconstruct: Literal["all", "masked", "off"] = option(
            "all", "cells whose two answers must agree: all, hidden ones (Table 3 'only masked points'), or none"
        )
        top: Count = option(TOP, "most relations a pair may hold (4 as in ATLOP on DocRED, 1 for CDR and GDA)")

    _read = {"marker": "type_id", "read": "both"}
    _cdr = {"encoder_lr": 2e-5, "classifier_lr": 5e-5, "top": 1}
    _tiny = {"encoder_lr": 1e-3, "classifier_lr": 2e-3, "matrix_lr": 5e-4}
    recipes = {
        # the appendix's hyper-parameters; markers of section 2.1, a mention is the mean of both
        "docred": {"batch_size": 8, "epochs": 100, "encoder_lr": 2e-5, "classifier_lr": 1e-4, **_read},
        "cdr": {"batch_size": 16, "epochs": 20, **_cdr, **_read},
        "gda": {"batch_size": 16, "epochs": 5, **_cdr, **_read},
        # ours, for the tiny encoder from scratch
        "tiny": {"batch_size": 4, "epochs": 6, **_tiny, "map_width": 64},
    }
    variants = {
        "dre_mir": Variant({}, "the full model", 60.97, 62.96),
        "only_mask_path": Variant(
            {"paths": "masked", "reconstruct": "off"}, "Table 3 'only mask path': no original matrix", 60.13, 62.20
        ),
        "only_masked_points": Variant(
            {"reconstruct": "masked"}, "Table 3 'only masked points': agreement on hidden pairs alone", 59.50, 61.53
        ),
        "no_mir": Variant(
            {"mask_rate": 0.0, "reconstruct": "off"}, "Table 3 'w/o MIR': nothing is hidden", 59.31, 61.35
        ),
        "no_inference": Variant(
            {"inference_layers": 0, "mask_rate": 0.0, "reconstruct": "off"},
            "Table 3 'w/o inference': a linear classifier",
            58.56,
            60.46,
        ),
        "no_imsa": Variant({"attention": "full"}, "Table 3 'w/o I-MSA': self-attention over all cells", 54.67, 56.22),
        "one_layer": Variant({"inference_layers": 1}, "Table 4, one inference layer", 60.38, 62.31, 62.81),
    }

    def __init__(self, inputs: Inputs, options: Options | None = None):
        super().__init__()
        self.options = options = options or self.Options()
        if not inputs.context:
            raise ValueError("the pair matrix needs localized context; leave context on")
        if options.test_mask_rate and not options.mask_rate:
            raise ValueError("test_mask_rate needs mask_rate above 0: otherwise no vector for hidden pairs is learnt")
        self.draws = options.test_mask_rate > 0
        width = options.map_width
        self.pairs = PairVector(2 * inputs.width, inputs.width, width)
        kind = InferenceLayer if options.attention == "inference" else SelfLayer
        self.matrix = nn.ModuleList(
            kind(width, options.feed_width * width, options.inference_dropout) for _ in range(options.inference_layers)
        )
        self.hidden_cell = nn.Parameter(torch.empty(1, width)) if self.masks else None
        if self.masks:
            nn.init.xavier_uniform_(self.hidden_cell)
        self.classify = nn.Linear(width, inputs.relations)
        self.objective = AdaptiveThreshold(options.top)
        self.keep_attention = False  # True: the trace keeps the weights of every layer

    @property
    def masks(self) -> bool:
        return self.options.mask_rate > 0

    def logits(self, pairs, trace):
        cells_of = pair_cells(pairs.batch.entity_mask)
        cells = self.pair_matrix(pairs)
        rate = self.options.mask_rate if self.training else self.options.test_mask_rate
        if rate == 0:
            return self.infer(cells, cells_of, trace)
        hidden = draw_hidden(cells_of, rate)
        masked = self.cover(cells, hidden)
        trace["hidden"] = hidden
        if not self.training or self.options.paths == "masked":
            return self.infer(masked, cells_of, trace)
        both = self.infer(torch.cat([cells, masked]), cells_of.repeat(2, 1, 1), trace)
        trace["logits"], trace["masked_logits"] = both.chunk(2)
        return trace["logits"]

    def pair_matrix(self, pairs: PairFeatures) -> Float[Tensor, "B N N W"]:
        """Every pair's vector from both entities, the document and the pair's context. DRE-MIR section 2.2."""
        document = pairs.document.unsqueeze(1).expand_as(pairs.entities)
        return self.pairs(torch.cat([pairs.entities, document], -1), pairs)

    def cover(self, cells: Float[Tensor, "#B N N W"], hidden: Bool[Tensor, "B N N"]) -> Float[Tensor, "B N N W"]:
        """The matrix with the learnt vector in place of each hidden pair's own."""
        if self.hidden_cell is None:
            raise ValueError("mask_rate=0: no vector for hidden pairs was learnt; train with mask_rate above 0")
        return torch.where(hidden.unsqueeze(-1), self.hidden_cell.to(cells.dtype), cells)

    def restore(self, pairs: PairFeatures, hidden: Bool[Tensor, "B N N"]) -> Prediction:
        """The prediction for all pairs while the given ones are hidden.

        Takes one set of hidden pairs for each document, or any number B of sets for one document.
        """
        trace = {"hidden": hidden}
        legs = pair_cells(pairs.batch.entity_mask).expand_as(hidden)
        logits = self.infer(self.cover(self.pair_matrix(pairs), hidden), legs, trace)
        chosen, margin = self.objective.decide(logits.detach())
        return Prediction(logits, chosen & pairs.mask.unsqueeze(-1), margin, {}, trace)

    @contextmanager
    def without(self, mode: int) -> Iterator[None]:
        """A context in which the head of one of the `MODES` (0 to 3) adds nothing in any inference layer."""
        if self.options.attention != "inference":
            raise ValueError(f"attention={self.options.attention!r} has no head for a mode; build with 'inference'")
        kept = self.classify.weight.new_ones(self.options.map_width).unflatten(0, (len(MODES), -1))
        kept[mode] = 0
        hooks = [
            layer.out.register_forward_pre_hook(lambda _, heads: (heads[0] * kept.flatten(),)) for layer in self.matrix
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def infer(
        self, cells: Float[Tensor, "B N N W"], legs: Bool[Tensor, "B N N"], trace: dict[str, Tensor]
    ) -> Float[Tensor, "B N N R"]:
        kept = []
        for layer in self.matrix:
            cells, weights = layer(cells, legs, self.keep_attention)
            kept.append(weights)
        if kept and kept[0] is not None:
            trace["attention"] = torch.stack(kept, 1)  # [B, layers, heads, N(A), N(B), N(x) and the pair itself]
        return self.classify(cells)

    def more_losses(self, pairs, labels, trace):
        if "masked_logits" not in trace:
            return {}
        mask, masked, losses = pairs.mask, trace["masked_logits"], {}
        losses["masked"] = self.objective.loss(masked[mask], labels[mask])
        if self.options.reconstruct != "off":
            where = mask & trace["hidden"] if self.options.reconstruct == "masked" else mask
            losses["reconstruction"] = symmetric_divergence(trace["logits"][where], masked[where])
        return losses


def draw_hidden(
    cells: Bool[Tensor, "B N N"], rate: float, generator: torch.Generator | None = None
) -> Bool[Tensor, "B N N"]:
    """Exactly `⌊rate · cells⌋` cells of each document, at random.

    Generators with the same seed rank the cells alike: cells hidden at a lower rate are hidden at a higher one too.
    """
    score = torch.rand(cells.shape, device=cells.device, generator=generator).masked_fill(~cells, 2).flatten(1)
    allowed = torch.floor(rate * cells.flatten(1).sum(1, keepdim=True) + 1e-4)  # 0.29 · 100 is 28.99… in binary
    return (score.argsort(-1).argsort(-1) < allowed).view_as(cells)


def symmetric_divergence(one: Float[Tensor, "P R"], two: Float[Tensor, "P R"]) -> Float[Tensor, ""]:
    """Half of KL(p ‖ q) + KL(q ‖ p), averaged over pairs, p and q softmaxes over all classes. DRE-MIR section 2.4."""
    one, two = full_precision(one).log_softmax(-1), full_precision(two).log_softmax(-1)
    return ((one.exp() - two.exp()) * (one - two)).sum() / (2 * max(len(one), 1))


class InferenceLayer(nn.Module):
    """Attention of a pair (A, B) over paths A – x – B, one head for each of the four `MODES`. DRE-MIR (5)-(8).

    A path's key is a linear map of the keys of its two legs, and so a sum of one term per leg: `W [k₁; k₂] = P₁ + Q₂`.
    Scores are therefore sums of two batched products, and nothing of size N³ · D is built; values likewise.
    """

    def __init__(self, width: int, feed_width: int, dropout: float = 0.0):
        super().__init__()
        if width % len(MODES):
            raise ValueError(f"map_width={width} must be a multiple of {len(MODES)}: one head for each mode")
        self.width = width // len(MODES)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.legs = nn.Parameter(torch.randn(len(MODES), 4, self.width, self.width) / self.width**0.5)
        self.biases = nn.Parameter(torch.zeros(len(MODES), 2, self.width))
        self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, feed_width), nn.GELU(), nn.Linear(feed_width, width))
        self.feed_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, cells: Float[Tensor, "B N N D"], legs: Bool[Tensor, "B N N"], keep_weights: bool = False
    ) -> tuple[Float[Tensor, "B N N D"], Float[Tensor, "B H N N K"] | None]:
        """New cells, and with `keep_weights` each head's weights on every x and, last, on the pair itself."""
        split = [
            part(cells).unflatten(-1, (len(MODES), self.width)).unbind(-2)
            for part in (self.query, self.key, self.value)
        ]
        heads = [self._head(h, *(part[h] for part in split), legs) for h in range(len(MODES))]
        mixed, weights = zip(*heads, strict=True)
        cells = self.norm(cells + self.dropout(self.out(torch.cat(mixed, -1))))
        cells = self.feed_norm(cells + self.dropout(self.feed(cells)))
        return cells, torch.stack(weights, 1) if keep_weights else None

    def _head(self, h: int, query: Tensor, key: Tensor, value: Tensor, legs: Tensor) -> tuple[Tensor, Tensor]:
        def turn(x, by):
            return x.transpose(1, 2) if by else x

        from_a, from_b = h in (2, 3), h in (0, 3)  # which leg is read as (x, ·) instead of (·, x)
        key1, key2, value1, value2 = (
            turn(x @ self.legs[h, i], by)
            for i, (x, by) in enumerate(((key, from_a), (key, from_b), (value, from_a), (value, from_b)))
        )
        paths = turn(legs, from_a)[:, :, None] & turn(legs, from_b)[:, None]  # [B, A, B, x]
        scores = torch.einsum("zabd,zaxd->zabx", query, key1) + torch.einsum("zabd,zbxd->zabx", query, key2)
        # this bias shifts all paths relative to the pair itself, so it matters
        scores = (scores + (query @ self.biases[h, 0])[..., None]).masked_fill(~paths, -torch.inf)
        alone = (query * key).sum(-1, keepdim=True)
        weights = full_precision(torch.cat((scores, alone), -1) / self.width**0.5).softmax(-1).to(value.dtype)
        over, own = weights[..., :-1], weights[..., -1:]
        mixed = torch.einsum("zabx,zaxd->zabd", over, value1) + torch.einsum("zabx,zbxd->zabd", over, value2)
        return mixed + over.sum(-1, keepdim=True) * self.biases[h, 1] + own * value, weights


class SelfLayer(nn.Module):
    """The control: ordinary self-attention of four heads over all pairs of the document."""

    def __init__(self, width: int, feed_width: int, dropout: float = 0.0):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 4, feed_width, dropout, "gelu", batch_first=True)

    def forward(self, cells, legs, keep_weights=False):
        hidden = ~legs.flatten(1)
        hidden = hidden & ~hidden.all(1, keepdim=True)  # without any pairs, attend to everything, to avoid NaN
        return self.layer(cells.flatten(1, 2), src_key_padding_mask=hidden).view_as(cells), None
