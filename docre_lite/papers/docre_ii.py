"""DocRE-II: towards better document-level relation extraction via iterative inference (Zhang et al., EMNLP 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import PairVector, RoleBilinear, pair_cells
from ..model import Inputs, PairClassifier
from ..objectives import TOP, AdaptiveThreshold, simclr, simsiam, spread
from ..ops import exporting, full_precision
from ..support.settings import Amount, Count, Few, Part, Rate, Variant, option, settings
from ..types import PairFeatures

# The line of the matrix along which each head of a cell (s, o) looks.
LINES = ("row s", "column o", "column s", "row o")
Cells = Bool[Tensor, "B N N"]
Matrix = Float[Tensor, "B N N W"]
Answers = Bool[Tensor, "B N N R"]


class DocREII(PairClassifier):
    """A base model answers first; an inference module reads its answers along with the features and corrects them.

    Two ideas: predictions for other pairs are an input, round after round; and a pair looks at the four lines of
    the entity matrix that share an entity with it. Training has two stages: the base alone, then everything.
    """

    name = "docre_ii"
    idle_weights = True  # the base's stage, or a batch without pairs to compare
    title = "DocRE-II: answers that are read again, in rounds"

    @settings
    class Options:
        map_width: Count = option(128, "width of a cell in both matrices, a multiple of 4 (512 in the published code)")
        pair: Literal["linear", "outer"] = option(
            "linear",
            "FNN of (2); or as in the published code: with the vector at [CLS], a group bilinear form as wide as the "
            "encoder, ReLU, and one more linear map for the inference layers",
        )
        block: Amount = option(64, "dimensions of a group where pair=outer")
        inference_layers: Count = option(2, "N_I, inference layers (Table 2)")
        rounds: Few = option(3, "K, rounds at prediction (Table 2); 0 = the base module alone, in training too")
        attention: Literal["eca", "full"] = option("eca", "along a cell's four lines, or all cells (Table 4 'w/o ECA')")
        fusion: bool = option(True, "gate between features and answers, (8)-(9) (Table 4 'w/o fusion')")
        feedback: Literal["all", "best"] = option(
            "all", "cell of the relation matrix: the sum over all chosen relations, or the best class (arg max)"
        )
        contrast: Literal["simsiam", "simclr", "off"] = option("simsiam", "loss between noisy views, (14) and Table 4")
        noise: Part = option(0.4, "most chosen pairs made wrong in training, as a share; drawn from 0 to this")
        noise_from: Literal["predicted", "gold"] = option(
            "predicted", "answers that receive noise: the base's (section 2.3), or gold ones (published code)"
        )
        base_share: Part = option(0.667, "share of epochs that train the base alone (30 of 45, Table 7); 0 = one stage")
        base_lr: Rate | None = option(None, "peak rate of encoder and base in stage 2; 0 freezes them, none = as in 1")
        accumulate: bool = option(
            False, "add up the logits of base and rounds and read answers from the sum, as in the published code"
        )
        self_bonus: Rate = option(0.0, "added to a cell's score for itself (the published code's mask adds 1)")
        norms: bool = option(
            False,
            "layer norms of the published code: over both matrices after the linear map that fuses them for attention, "
            "before the base's classifier, and after the last map",
        )
        predictor: Literal["bottleneck", "full"] = option(
            "bottleneck", "SimSiam's predictor: a quarter of a cell's width inside, or the full width (published code)"
        )
        inference_dropout: Part = option(0.1, "dropout inside the inference layers")
        top: Count = option(TOP, "most relations a pair may hold (4 as in ATLOP on DocRED, 1 for CDR and GDA)")

    # Table 7, with the epochs of both stages together; weight decay and width are the published code's
    _code = {"weight_decay": 1e-4, "map_width": 512}
    _cdr = {"encoder_lr": 1e-5, "classifier_lr": 5e-5, "base_lr": 1e-6, "top": 1}
    _gda = {"encoder_lr": 2e-5, "classifier_lr": 8e-5, "base_lr": 2e-6, "top": 1}
    _tiny = {"encoder_lr": 1e-3, "classifier_lr": 3e-3, "base_lr": 3e-4}
    _docred = {"encoder_lr": 5e-5, "classifier_lr": 1e-4, "base_lr": 1e-5}
    recipes = {
        "docred": {"batch_size": 8, "epochs": 45, **_docred, **_code},
        "docred_large": {"batch_size": 4, "epochs": 45, **_docred, "base_lr": 5e-6, **_code},
        "cdr": {"batch_size": 8, "epochs": 30, **_cdr, **_code},
        "gda": {"batch_size": 6, "epochs": 15, **_gda, **_code},
        # ours, for the tiny encoder from scratch
        "tiny": {"batch_size": 4, "epochs": 9, **_tiny, "map_width": 64},
    }
    variants = {
        "docre_ii": Variant({}, "the full model", 60.75, 62.74),
        "base": Variant({"rounds": 0, "base_share": 0.0}, "Table 4 'ATLOP-BERT (our base)', as quoted", 59.22, 61.09),
        "no_fusion": Variant({"fusion": False}, "Table 4 'w/o fusion sub-layer'", 60.43, 62.37),
        "no_eca": Variant({"attention": "full"}, "Table 4 'w/o ECA': full self-attention", 59.29, 61.22),
        "no_contrast": Variant({"contrast": "off"}, "Table 4 'w/o contrastive loss'", 60.26, 62.16),
        "negative_pairs": Variant({"contrast": "simclr"}, "Table 4 'w/ negative pairs': SimCLR", 60.25, 62.06),
        "one_stage": Variant({"base_share": 0.0}, "Table 4 'w/o pre-training': all from the start", 59.51, 61.45),
        "freeze_base": Variant({"base_lr": 0.0}, "Table 4 'w/ freeze base module'", 60.35, 62.31),
        "one_layer": Variant({"inference_layers": 1}, "Table 2, K = 3, one inference layer", None, 62.41),
        "three_layers": Variant({"inference_layers": 3}, "Table 2, K = 3, three inference layers", None, 62.66),
        "four_layers": Variant({"inference_layers": 4}, "Table 2, K = 3, four inference layers", None, 62.47),
        "best_only": Variant({"feedback": "best"}, "one relation per pair is read again: the paper's arg max"),
        "no_noise": Variant({"noise": 0.0}, "the base's answers are read unchanged, in training too"),
        "released_code": Variant(
            {"pair": "outer", "read": "both", "max_tokens": 1024, "norms": True, "predictor": "full"}
            | {"inference_layers": 1, "noise_from": "gold", "accumulate": True, "self_bonus": 1.0},
            "the published network above the encoder, and its rounds. Only the published code averages tokens and "
            "attention over three layers, reads up to 1,024 pieces in one pass, has cells only for pairs to classify, "
            "and uses other epsilons; in training it has noise at rates of its own, losses over sampled pairs, both "
            "noisy passes scored, the contrast weighted by a fifth, swapped matrices without gradient, a base whose "
            "head is frozen in stage 2, and dropout of attention",
        ),
    }

    def __init__(self, inputs: Inputs, options: Options | None = None):
        super().__init__()
        self.options = options = options or self.Options()
        if not inputs.context:
            raise ValueError("the pair matrix needs localized context; leave context on")
        width = options.map_width
        self.base = Base(inputs, options)
        outer, dropout = options.pair == "outer", nn.Dropout(options.inference_dropout)
        self.narrow = nn.Sequential(nn.Linear(inputs.width, width, bias=False), dropout) if outer else nn.Identity()
        self.labels = nn.Embedding(inputs.relations, width)  # class 0 means "unrelated"
        self.matrix = nn.ModuleList(RefinementLayer(width, options) for _ in range(options.inference_layers))
        # W_c of (12) in two factors, with only a norm between, if norms are on: views are compared at that point
        self.meet = nn.Linear(2 * width, width)
        self.settle = nn.Sequential(dropout, nn.LayerNorm(width)) if options.norms else nn.Identity()
        self.classify = nn.Linear(width, inputs.relations)
        full = options.predictor == "full"
        inner = width if full else width // 4
        norm = nn.BatchNorm1d(inner, track_running_stats=False)
        self.predictor = nn.Sequential(nn.Linear(width, inner, bias=full), norm, nn.ReLU(), nn.Linear(inner, width))
        self.objective = AdaptiveThreshold(options.top)
        self.base_share, self.base_lr = options.base_share, options.base_lr
        self.register_buffer("stage", torch.tensor(2))  # saved with the weights: a base alone predicts as a base
        self.keep_attention = False  # True: the trace keeps the last round's weights

    def logits(self, pairs, trace):
        cells = pair_cells(pairs.batch.entity_mask)
        features = self.base(pairs, cells)
        logits = self.base.classify(features)
        if (not exporting() and self.stage == 1) or self.options.rounds == 0:
            return logits
        trace["base_logits"], features = logits, self.narrow(features)
        if self.training:
            return self._views(pairs, features, logits, cells, trace)
        rounds, own, read = [logits], logits, None
        for _ in range(self.options.rounds):
            before, read = read, self.read(rounds[-1], pairs.mask)
            # A round is a function of the answers it reads: if they stay the same, so does its output. (The sum of
            # rounds still moves then, and may change an answer later.)
            stands = (read == before).flatten(1).all(1) if before is not None else read.new_zeros(read.shape[0])
            own = self._round(features, read, cells, own, ~stands | self.keep_attention, trace)
            rounds.append(rounds[-1] + own if self.options.accumulate else own)
        # [B, K + 1, N, N, R]: the logits behind the answers: the base's, then each round's or the sum so far
        trace["rounds"] = torch.stack(rounds, 1)
        return rounds[-1]

    def _round(
        self, features: Matrix, read: Answers, cells: Cells, logits: Tensor, again: Tensor, trace: dict
    ) -> Tensor:
        """The next round's own logits of the documents in `again` [B], and the last round's of the others."""
        if exporting():
            return self.classify(self.refine(features, self.relation_matrix(read), cells, trace))
        if not again.any():
            return logits
        refined = self.classify(self.refine(features[again], self.relation_matrix(read[again]), cells[again], trace))
        return refined if len(refined) == len(logits) else logits.index_put((again,), refined)

    def read(self, logits: Float[Tensor, "B N N R"], mask: Bool[Tensor, "B N N"]) -> Bool[Tensor, "B N N R"]:
        """The answers for the relation matrix: those that the decision rule chooses, or the best class."""
        if self.options.feedback == "best":
            chosen = F.one_hot(logits.argmax(-1), logits.shape[-1]).bool()
            chosen[..., 0] = False
        else:
            chosen, _ = self.objective.decide(logits.detach())
        return chosen & mask.unsqueeze(-1)

    def relation_matrix(self, chosen: Bool[Tensor, "B N N R"]) -> Float[Tensor, "B N N W"]:
        """`R_0`: the sum of the embeddings of a pair's relations; the embedding of class 0 if it has none."""
        none = ~chosen[..., 1:].any(-1, keepdim=True)
        return torch.cat([none, chosen[..., 1:]], -1).to(self.labels.weight.dtype) @ self.labels.weight

    def refine(self, features: Matrix, relations: Matrix, cells: Cells, trace: dict[str, Tensor]) -> Matrix:
        """One pass through the inference layers, up to where both matrices meet. DocRE-II (5)-(11)."""
        kept = []
        for layer in self.matrix:
            features, relations, weights = layer(features, relations, cells, self.keep_attention)
            kept.append(weights)
        if kept[0] is not None:
            trace["attention"] = torch.stack(kept, 1)  # [B, layers, F and R, lines, N(s), N(o), N and the pair itself]
        return self.settle(self.meet(torch.cat([features, relations], -1)))

    @torch.no_grad()
    def halves(self) -> tuple[float, float]:
        """Mean absolute weight that W_c gives to a feature and to an answer, ignoring norms. DocRE-II figure 5."""
        features, relations = (self.classify.weight @ self.meet.weight).abs().chunk(2, 1)
        return features.mean().item(), relations.mean().item()

    def _views(self, pairs: PairFeatures, features: Tensor, logits: Tensor, cells: Tensor, trace: dict) -> Tensor:
        """One pass over noisy answers, and with a contrastive loss a second one with both matrices swapped."""
        gold, mask = pairs.batch.labels, pairs.mask
        answers = self.read(logits, mask)
        if self.options.noise_from == "gold" and gold is not None:
            answers = torch.cat([torch.zeros_like(gold[..., :1]), gold[..., 1:]], -1)
        views = 1 if self.options.contrast == "off" else 2
        relations = [self.relation_matrix(disturb(answers, gold, mask, self.options.noise)) for _ in range(views)]
        if views == 1:
            return self.classify(self.refine(features, relations[0], cells, trace))
        first = torch.cat([features, relations[1].to(features.dtype)])
        second = torch.cat([relations[0].to(features.dtype), features])
        trace["view"], trace["swapped"] = self.refine(first, second, cells.repeat(2, 1, 1), trace).chunk(2)
        return self.classify(trace["view"])

    def more_losses(self, pairs, labels, trace):
        if "base_logits" not in trace:
            return {}
        losses = {"base": self.objective.loss(trace["base_logits"][pairs.mask], labels[pairs.mask])}
        if "view" in trace:
            one, two = (full_precision(trace[key])[pairs.mask] for key in ("view", "swapped"))
            from_one, from_two = self._predict(one), self._predict(two)  # normalised over pairs, not over padding
            if self.options.contrast == "simclr":
                blank = from_one.new_zeros(*pairs.mask.shape, from_one.shape[-1])
                maps = (blank.index_put((pairs.mask,), x) for x in (from_one, from_two))
                losses["contrast"] = simclr(*maps, pairs.mask)
            else:
                losses["contrast"] = simsiam(one, two, from_one, from_two)
            trace["spread"] = spread(trace["view"][pairs.mask].detach())
        return losses

    def _predict(self, cells: Float[Tensor, "P W"]) -> Float[Tensor, "P W"]:
        return self.predictor(cells) if len(cells) > 1 else cells * 0  # one row has no variance


class Base(nn.Module):
    """ATLOP with a vector for each pair as its middle layer, and a linear classifier on top. DocRE-II (1)-(4)."""

    def __init__(self, inputs: Inputs, options: DocREII.Options):
        super().__init__()
        width = inputs.width if options.pair == "outer" else options.map_width
        if options.pair == "outer":
            self.pairs = RoleBilinear(width, width, width, options.block, 2 * width)
        else:
            self.pairs = PairVector(inputs.width, inputs.width, width)
        answer = nn.Linear(width, inputs.relations, bias=not options.norms)
        norm = [nn.Dropout(options.inference_dropout), nn.LayerNorm(width), answer]
        self.classify = nn.Sequential(*norm) if options.norms else answer

    def forward(self, pairs: PairFeatures, cells: Bool[Tensor, "B N N"]) -> Float[Tensor, "B N N W"]:
        if isinstance(self.pairs, RoleBilinear):
            document = pairs.document.unsqueeze(1).expand_as(pairs.entities)
            return torch.relu(self.pairs(torch.cat([pairs.entities, document], -1), pairs.context, cells))
        return self.pairs(pairs.entities, pairs)


class RefinementLayer(nn.Module):
    """Features and relations each attend to both, and a gate mixes the results. DocRE-II (5)-(11)."""

    def __init__(self, width: int, options: DocREII.Options):
        super().__init__()
        kind = ExtendedCrossAttention if options.attention == "eca" else FullAttention
        memory = width if options.norms else 2 * width
        self.attend = nn.ModuleList(kind(width, memory, options.self_bonus) for _ in range(2))
        self.gate = nn.Linear(2 * width, width) if options.fusion else None
        self.feed = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(inplace=True), nn.Linear(2 * width, width))
            for _ in range(2)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(options.inference_dropout)
        self.fuse = (
            nn.Sequential(nn.Linear(2 * width, width), self.dropout, nn.LayerNorm(width))
            if options.norms
            else nn.Identity()
        )

    def forward(
        self, features: Matrix, relations: Matrix, cells: Cells, keep_weights: bool = False
    ) -> tuple[Matrix, Matrix, Tensor | None]:
        """The new matrices, and with `keep_weights` the weights of both attentions."""
        memory = self.fuse(torch.cat([features, relations], -1))
        found, weights = zip(
            *(look(x, memory, cells, keep_weights) for look, x in zip(self.attend, (features, relations), strict=True)),
            strict=True,
        )
        found = [self.dropout(x) for x in found]
        if self.gate is not None:
            gate = torch.sigmoid(self.gate(torch.cat(found, -1)))
            found = [torch.lerp(found[1], found[0], gate)] * 2
        changed = [
            norm(x + self.dropout(feed(mixed)))
            for norm, feed, x, mixed in zip(self.norm, self.feed, (features, relations), found, strict=True)
        ]
        return *changed, None if weights[0] is None else torch.stack(weights, 1)


class ExtendedCrossAttention(nn.Module):
    """Each cell (s, o) looks along the four `LINES` that share an entity with it, one head each. DocRE-II (5)-(7).

    A line is a row of the matrix or of its transpose, so each head is attention among the cells of one row: four
    batched products, with the matrices transposed before and after. The cell itself is a key exactly once.
    """

    # is the matrix transposed, so that the queries of one line, and its keys, share a row?
    QUERY_TURNED = (False, True, False, True)
    KEY_TURNED = (False, True, True, False)

    def __init__(self, width: int, memory_width: int, self_bonus: float = 0.0):
        super().__init__()
        if width % len(LINES):
            raise ValueError(f"map_width={width} must be a multiple of {len(LINES)}: one head for each line")
        self.width, self.self_bonus = width // len(LINES), self_bonus
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(memory_width, width, bias=False)  # a bias would add the same to all scores of a query
        self.value = nn.Linear(memory_width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "B N N W"],
        memory: Float[Tensor, "B N N M"],
        cells: Bool[Tensor, "B N N"],
        keep_weights: bool = False,
    ) -> tuple[Float[Tensor, "B N N W"], Float[Tensor, "B H N N K"] | None]:
        """The result for each cell, and with `keep_weights` each head's weights on its line and, last, on itself.

        Entry k of a line is the cell of entity k: (s, k), (k, o), (k, s), (o, k). Only `cells` are keys.
        """
        query, key, value = self.query(queries), self.key(memory), self.value(memory)
        scale = self.width**-0.5
        itself = scale * (self._split(query) * self._split(key)).sum(-1)  # [B, N, N, H], of a cell for itself
        itself = self._lines(itself.unsqueeze(-1), self.QUERY_TURNED)
        query = self._lines(self._split(query), self.QUERY_TURNED)
        keys, values = (self._lines(self._split(x), self.KEY_TURNED) for x in (key, value))

        n = cells.shape[1]
        seen = torch.stack([cells.transpose(1, 2) if turned else cells for turned in self.KEY_TURNED], 1).unsqueeze(3)
        diagonal = torch.eye(n, dtype=torch.bool, device=cells.device)
        own_line = [query == key for query, key in zip(self.QUERY_TURNED, self.KEY_TURNED, strict=True)]
        twice = torch.stack([diagonal if own else torch.zeros_like(diagonal) for own in own_line]).unsqueeze(1)
        hidden = query.new_zeros(*query.shape[:-1], n).masked_fill_(~seen | twice, -torch.inf)  # [B, H, N, N, N]
        rows = (x.flatten(0, 2) for x in (hidden, query, keys.transpose(-1, -2)))
        scores = torch.baddbmm(*rows, alpha=scale).view_as(hidden)
        scores = torch.cat((full_precision(scores), full_precision(itself) + self.self_bonus), -1)
        weights = scores.softmax(-1).to(value.dtype)
        found, own = self._turn_back(weights[..., :-1] @ values), self._turn_back(weights[..., -1:])
        mixed = torch.addcmul(found, own, self._split(value))
        kept = self._turn_back(weights).movedim(3, 1) if keep_weights else None
        return self.out(mixed.flatten(3)), kept

    def _split(self, cells: Float[Tensor, "B N N W"]) -> Float[Tensor, "B N N H w"]:
        return cells.unflatten(-1, (len(LINES), self.width))

    def _lines(self, heads: Float[Tensor, "B N N H x"], turned: tuple[bool, ...]) -> Float[Tensor, "B H N N x"]:
        pairs = zip(heads.unbind(3), turned, strict=True)
        return torch.stack([x.transpose(1, 2) if turn else x for x, turn in pairs], 1)

    def _turn_back(self, lines: Float[Tensor, "B H N N x"]) -> Float[Tensor, "B N N H x"]:
        pairs = zip(lines.unbind(1), self.QUERY_TURNED, strict=True)
        return torch.stack([x.transpose(1, 2) if turn else x for x, turn in pairs], 3)


class FullAttention(nn.Module):
    """The control: four heads over all cells of the document. N² keys for N² queries: for small documents only."""

    def __init__(self, width: int, memory_width: int, self_bonus: float = 0.0):
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(memory_width, width, bias=False)
        self.value, self.out = nn.Linear(memory_width, width), nn.Linear(width, width)

    def forward(self, queries, memory, cells, keep_weights=False):
        flat = [
            part(x).flatten(1, 2).unflatten(-1, (len(LINES), -1)).transpose(1, 2)
            for part, x in ((self.query, queries), (self.key, memory), (self.value, memory))
        ]
        seen = cells.flatten(1)
        seen = seen | ~seen.any(1, keepdim=True)  # without any pairs, attend to everything: a softmax of nothing is NaN
        found = F.scaled_dot_product_attention(*flat, attn_mask=seen[:, None, None])
        return self.out(found.transpose(1, 2).flatten(2).view_as(queries)), None


def disturb(answers: Answers, gold: Answers | None, mask: Cells, most: float) -> Answers:
    """Answers with some made wrong, so that the inference module has something to correct. DocRE-II section 2.3.

    Each document draws a rate from 0 to `most`. That share of its related pairs lose their relations, and half of
    those get one that is neither theirs nor gold; as many unrelated pairs get one too. (Noise on every cell would bury
    the few related ones under invented ones.) If no wrong relation is left, a pair stays without.
    """
    draw = torch.rand(*mask.shape, 3, device=mask.device)
    rate = most * torch.rand(len(mask), 1, 1, device=mask.device)
    related = answers.any(-1) & mask
    hit = related & (draw[..., 0] < rate)
    rank = draw[..., 1].masked_fill(related | ~mask, 2).flatten(1).argsort(-1).argsort(-1).view_as(mask)
    invented = ~related & mask & (rank < hit.sum((1, 2), keepdim=True))
    free = ~(answers if gold is None else answers | gold)
    free[..., 0] = False
    place = torch.rand(free.shape, device=mask.device).masked_fill(~free, -1).argmax(-1)
    wrong = F.one_hot(place, answers.shape[-1]).bool() & free
    gets = invented | hit & (draw[..., 2] < 0.5)
    return torch.where(gets.unsqueeze(-1), wrong, answers & ~hit.unsqueeze(-1))
