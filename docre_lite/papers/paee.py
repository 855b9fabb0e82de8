"""PAEE: pair-aware and entity-enhanced representation learning (Huang et al., 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Border, MapConv, MapNorm, RoleBilinear, Sides, blank, inside, sides_of, wrap
from ..model import Inputs, PairClassifier
from ..objectives import TOP, AdaptiveSoftmax
from ..ops import full_precision
from ..support.settings import Amount, Count, Finite, Part, Rate, Share, Side, Variant, option, settings
from ..types import PairFeatures
from .docunet import CellNet, UNet

PATCH = 3  # side of a patch of the matrix, in cells
HALO = 2  # cells around a patch that its close look may see
SENTENCES = 64  # rows of the sentence-position table; later sentences share the last


class PAEE(PairClassifier):
    """Which pairs are related at all, and which role does an entity play?

    Pair-aware: the matrix becomes a torus, a hard-attention network looks closely at a few patches, and a detector
    tags the pairs that may be related. Entity-enhanced: entities and sentences attend to each other, then every entity
    gets a vector as subject and one as object.
    """

    name = "paee"
    title = "PAEE: which pairs, and in which role"
    equivariant = False  # the matrix network sees neighbours, in the order of entities

    @settings
    class Options:
        matrix: Literal["tnet", "unet", "ffn", "none"] = option(
            "tnet", "network over the pair map (4): TNet-style hard attention (an interpretation), a control, or none"
        )
        fill: Literal["circular", "slide", "zero"] = option("circular", "past the last entity: wrap, copy, or zeros")
        matrix_size: Side = option(42, "side of the matrix under fill=slide (the most entities of a document)")
        matrix_width: Count = option(64, "channels inside the matrix network")
        map_width: Count = option(256, "channels D' of the matrix Y that enters both roles")
        budget: Share = option(0.25, "share of patches that tnet looks at closely; can be changed after training")
        reinforce: Rate = option(0.0, "weight of the reward for looking at related pairs (0.1 in TNet's code; 0 = off)")
        type_width: Count = option(20, "width of an entity type's vector")
        potential: Literal["hard", "soft", "off"] = option("hard", "tag of (5): 0 or 1, its probability, or none")
        potential_threshold: Finite = option(0.3, "probability λ above which a pair is tagged; not a weight of a loss")
        potential_window: Side = option(3, "side of the window that the detector averages over (1 = the cell alone)")
        filter: bool = option(False, "choose relations for tagged pairs only, as in the abstract, but not in (5)-(8)")
        re_encoder: bool = option(True, "let entities and sentences attend to each other (6)")
        re_layers: Count = option(1, "layers of that transformer (not given in the paper)")
        re_heads: Count = option(8, "its attention heads, a divisor of the encoder's width (not given in the paper)")
        re_dropout: Part = option(0.1, "its dropout (not given in the paper)")
        cross_matching: bool = option(True, "features of an entity as subject and as object of every relation (7)")
        block: Amount = option(64, "dimensions of a group in the bilinear form (not given in the paper); 0 = all")
        top: Count = option(TOP, "most relations a pair may hold (4 as in ATLOP on DocRED, 1 for CDR and GDA)")

    _tiny = {"encoder_lr": 1e-3, "classifier_lr": 1e-3, "matrix_lr": 1e-3}
    recipes = {
        # the paper gives warm-up, λ and the four learning rates it tried; matrix_lr is DocuNet's, the rest ATLOP's
        "docred": {"batch_size": 4, "epochs": 30, "encoder_lr": 5e-5, "classifier_lr": 1e-4, "matrix_lr": 3e-4},
        "dwie": {"batch_size": 4, "epochs": 30, "encoder_lr": 5e-5, "classifier_lr": 1e-4, "matrix_lr": 3e-4},
        "cdr": {"batch_size": 4, "epochs": 30, "encoder_lr": 2e-5, "classifier_lr": 1e-4, "matrix_lr": 3e-4, "top": 1},
        "gda": {"batch_size": 16, "epochs": 10, "encoder_lr": 2e-5, "classifier_lr": 1e-4, "matrix_lr": 3e-4, "top": 1},
        # ours, for the tiny encoder from scratch
        "tiny": {"batch_size": 4, "epochs": 6, **_tiny, "block": 16, "matrix_width": 32, "map_width": 64},
    }
    variants = {
        "paee": Variant({}, "the full model", 60.38, 62.62),
        "no_par": Variant(
            {"matrix": "none", "potential": "off"}, "Table 5 'w/o PAR': no pair map, no potential pairs", 57.67, 59.61
        ),
        "no_eer": Variant(
            {"re_encoder": False, "cross_matching": False},
            "Table 5 'w/o EER': entity vectors as they are",
            59.57,
            61.53,
        ),
        "zero_fill": Variant({"fill": "zero"}, "Table 5 'w/o SW': zeros around the matrix", 59.72, 61.72),
        "no_potential": Variant({"potential": "off"}, "Table 5 'w/o PPP': no tag, no detector", 59.63, 61.52),
        "slide": Variant({"fill": "slide"}, "the sliding window written out to a fixed side"),
        "unet": Variant({"matrix": "unet"}, "control: DocuNet's U-Net in place of TNet"),
        "ffn": Variant({"matrix": "ffn"}, "control: no interaction between pairs"),
        "soft_tag": Variant({"potential": "soft"}, "the tag is the probability"),
        "filter": Variant({"filter": True}, "untagged pairs hold no relation"),
    }

    def __init__(self, inputs: Inputs, options: Options | None = None):
        super().__init__()
        self.options = options = options or self.Options()
        if options.potential_window % 2 == 0:
            raise ValueError(f"potential_window={options.potential_window} has no middle; give an odd number")
        self.pair_map = self.matrix = self.detector = self.re_encoder = self.roles = None
        if options.matrix != "none":
            if not inputs.context:
                raise ValueError("the pair map needs localized context; leave context on, or set matrix='none'")
            # W_2 W_1 of (3) and (4) in one: filling only copies cells, so the two linear maps merge
            self.pair_map = nn.Linear(inputs.width + 1 + 2 * options.type_width, options.matrix_width)
            self.matrix = _matrix(options)
        if options.matrix != "none" or options.potential != "off":
            self.types = nn.Embedding(inputs.types, options.type_width)
        tag = options.potential != "off"
        if tag:
            if self.matrix is None:
                raise ValueError("the matrix determines the potential pairs; set potential='off' with matrix='none'")
            self.detector = nn.Linear(options.map_width + 1 + 2 * options.type_width, 1)
        elif options.filter:
            raise ValueError("filter=true needs the tags of potential pairs; set potential to 'hard' or 'soft'")
        if options.re_encoder:
            self.re_encoder = ReEncoder(inputs.width, options.re_layers, options.re_heads, options.re_dropout)
        roles = (inputs.relations - 1) * options.cross_matching  # "unrelated" means nothing for a single entity
        if roles:
            self.roles = nn.Linear(inputs.width, 2 * roles)
        self.bilinear = RoleBilinear(
            inputs.width,
            (options.map_width if self.matrix is not None else 0) + tag,
            inputs.relations,
            options.block or inputs.width,
            inputs.width + roles,
        )
        self.objective = AdaptiveSoftmax(options.top)

    def logits(self, pairs, trace):
        pair = None if self.matrix is None else self.pair_aware(pairs, trace)
        heads, tails = self.entity_enhanced(pairs, trace)
        return self.bilinear(heads, pair, pairs.mask, tails)

    def pair_aware(self, pairs: PairFeatures, trace: dict[str, Tensor]) -> Float[Tensor, "B N N Y"]:
        """The matrix Y of (4), with the tag of (5) as one more channel."""
        options, batch = self.options, pairs.batch
        sides, n = sides_of(batch.entity_mask), pairs.mask.shape[1]
        kinds = self.types(batch.entity_type)
        same = batch.same_sentence.unsqueeze(-1).to(kinds.dtype)
        heads, tails = kinds.unsqueeze(2).expand(-1, -1, n, -1), kinds.unsqueeze(1).expand(-1, n, -1, -1)
        known = torch.cat([same, heads, tails], -1)
        of_context, of_known = self.pair_map.weight.tensor_split([pairs.tokens.shape[-1]], 1)
        image = pairs.mapped_context(of_context) + F.linear(known, of_known, self.pair_map.bias)
        image = image.movedim(-1, 1)
        if options.fill == "slide":
            filled = wrap(image, sides, 0, max(n, options.matrix_size))
            sides_filled = None if sides is None else sides.clamp_min(options.matrix_size)
            found = self.matrix(filled, sides_filled, trace)[..., :n, :n]
        else:
            found = self.matrix(image, sides, trace)
        found = blank(found, sides)
        cells = found.movedim(1, -1)
        if self.detector is None:
            return cells
        trace["potential"] = self.detect(found, known, sides)
        probability = full_precision(trace["potential"]).sigmoid()
        trace["tag"] = probability > options.potential_threshold
        tag = probability if options.potential == "soft" else trace["tag"]
        return torch.cat([cells, tag.unsqueeze(-1).to(cells.dtype)], -1)

    def detect(
        self, found: Float[Tensor, "B Y N N"], known: Float[Tensor, "B N N K"], sides: Sides
    ) -> Float[Tensor, "B N N"]:
        """Logits of (5): may a pair be related? Cells are scored before averaging: one channel, not Y."""
        width = self.options.map_width
        matrix, rest = self.detector.weight[:, :width], self.detector.weight[:, width:]
        around = local_mean(F.conv2d(found, matrix[..., None, None]), sides, self.options.potential_window)
        return around.squeeze(1) + F.linear(known, rest, self.detector.bias).squeeze(-1)

    def entity_enhanced(
        self, pairs: PairFeatures, trace: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "B N E"], Float[Tensor, "B N E"]]:
        """Every entity as subject and as object, (6) and (7)."""
        entities = pairs.entities
        if self.re_encoder is not None:
            entities = self.re_encoder(entities, pairs.batch.entity_mask, pairs.tokens, pairs.batch.token_sentence)
        if self.roles is None:
            return entities, entities
        trace["subject"], trace["object"] = self.roles(entities).chunk(2, -1)  # logits, [B, N, R-1]
        return torch.cat([entities, trace["subject"]], -1), torch.cat([entities, trace["object"]], -1)

    def more_losses(self, pairs, labels, trace):
        losses, mask = {}, pairs.mask
        related = labels[..., 1:].any(-1)
        if self.detector is not None:  # (10), over the pairs to classify
            losses["potential"] = mean_cross_entropy(trace["potential"][mask], related[mask])
        if self.roles is not None:  # (11), over the entities that can play the role
            for role, axis in (("subject", 2), ("object", 1)):
                there, gold = mask.any(axis), (labels[..., 1:] & mask.unsqueeze(-1)).any(axis)
                losses[role] = mean_cross_entropy(trace[role][there], gold[there]) / 2
        if self.options.reinforce and "patch_weight" in trace:
            border: Border = "zero" if self.options.fill == "zero" else "circular"
            loss = location_loss(trace, related & mask, pairs.batch.sides, border)
            losses["location"] = self.options.reinforce * loss
        return losses

    def forward(self, pairs, labels=None):
        prediction = super().forward(pairs, labels)
        if self.options.filter:
            prediction.chosen = prediction.chosen & prediction.trace["tag"].unsqueeze(-1)
        return prediction


def _matrix(options: PAEE.Options) -> nn.Module:
    border: Border = "circular" if options.fill == "circular" else "zero"
    if options.matrix == "tnet":
        return TNet(options.matrix_width, options.map_width, options.budget, border)
    if options.matrix == "unet":
        return UNet(options.matrix_width, options.map_width, options.matrix_width, border=border)
    return CellNet(options.matrix_width, options.map_width, 4 * options.matrix_width)


def mean_cross_entropy(logits: Tensor, gold: Bool[Tensor, "..."]) -> Float[Tensor, ""]:
    """Cross-entropy of yes and no, averaged; zero if there is nothing to decide."""
    logits = full_precision(logits)
    return F.binary_cross_entropy_with_logits(logits, gold.to(logits.dtype), reduction="sum") / max(gold.numel(), 1)


def local_mean(image: Float[Tensor, "B C N N"], sides: Sides, size: int) -> Float[Tensor, "B C N N"]:
    """The mean over the `size` × `size` cells around each cell, valid ones only."""
    if sides is None:
        return F.avg_pool2d(image, size, 1, size // 2, count_include_pad=False)
    keep = inside(sides, image.shape[-1]).to(image.dtype)
    total = F.avg_pool2d(image * keep, size, 1, size // 2)
    return total / F.avg_pool2d(keep, size, 1, size // 2).clamp_min(1e-6) * keep


class ReEncoder(nn.Module):
    """Entities and sentences attend to each other; only the entities are returned. PAEE (6).

    A sentence is the maximum of its tokens plus a learned vector for its position. Entities have no position, so their
    order does not matter here.
    """

    def __init__(self, width: int, layers: int, heads: int, dropout: float):
        super().__init__()
        if width % heads:
            raise ValueError(f"re_heads={heads} must divide the encoder's width {width}")
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.place = nn.Embedding(SENTENCES, width)

    def forward(
        self,
        entities: Float[Tensor, "B N D"],
        entity_mask: Bool[Tensor, "B N"],
        tokens: Float[Tensor, "B L D"],
        token_sentence: Int[Tensor, "B L"],
    ) -> Float[Tensor, "B N D"]:
        sentences, present = sentence_maxima(tokens, token_sentence)
        numbers = torch.arange(sentences.shape[1], device=tokens.device).clamp_max(SENTENCES - 1)
        line = torch.cat([entities, sentences + self.place(numbers)], 1)
        hidden = ~torch.cat([entity_mask, present], 1)
        hidden = hidden & ~hidden.all(1, keepdim=True)  # an empty document attends to zeros, to avoid NaN
        *before, last = self.transformer.layers
        for layer in before:
            line = layer(line, src_key_padding_mask=hidden)
        # In the last layer only entities are queries.
        out = line[:, : entities.shape[1]]
        found, _ = last.self_attn(out, line, line, key_padding_mask=hidden, need_weights=False)
        out = last.norm1(out + last.dropout1(found))
        fed = last.linear2(last.dropout(last.activation(last.linear1(out))))
        return last.norm2(out + last.dropout2(fed)) * entity_mask.unsqueeze(-1)


def sentence_maxima(
    tokens: Float[Tensor, "B L D"], token_sentence: Int[Tensor, "B L"]
) -> tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"]]:
    """Each sentence as the maximum of its tokens; zero for sentences that a shorter document lacks."""
    count = int(token_sentence.max()) + 1 if token_sentence.numel() else 0
    slot = torch.where(token_sentence >= 0, token_sentence, count)  # special tokens: an extra row, dropped below
    slot = slot + (count + 1) * torch.arange(len(slot), device=slot.device).unsqueeze(1)
    empty = tokens.new_full((len(tokens) * (count + 1), tokens.shape[-1]), -torch.inf)
    # all documents along one dimension, the first: that compares whole rows, which is much faster on a CPU
    largest = empty.scatter_reduce(0, slot.view(-1, 1).expand(-1, tokens.shape[-1]), tokens.flatten(0, 1), "amax")
    largest = largest.unflatten(0, (-1, count + 1))[:, :count]
    present = (largest > -torch.inf).any(-1)
    return largest.masked_fill(~present.unsqueeze(-1), 0), present


# TNet, adapted to a matrix -----------------------------------------------------------------------------------------


class TNet(nn.Module):
    """A TNet-style block over matrices: a coarse look at all patches, a close look at the most promising ones.

    TNet (Papadopoulos et al., 2021) classifies whole images, and PAEE does not explain how it yields a map of cells;
    this is an interpretation. Patches of 3 × 3 cells are averaged and pass an extractor; a location module scores
    them; the best share `budget` is cut out with two more cells on each side and passes the same extractor. Every cell
    then combines the coarse look, the close look (or zero), its own value, and its position.
    """

    def __init__(self, width: int, out: int, budget: float, border: Border):
        super().__init__()
        if not 0 < budget <= 1:
            raise ValueError(f"budget={budget} is a share of the patches, above 0 and at most 1")
        self.budget, self.border = budget, border
        self.extractor = Extractor(width, border)
        self.locate = nn.Sequential(nn.Linear(2 * width + 2, width), nn.LeakyReLU(0.1), nn.Linear(width, 1))
        self.leave = nn.Conv2d(3 * width + PLACES + 1, out, 1)

    def forward(
        self, image: Float[Tensor, "B W N N"], sides: Sides, trace: dict[str, Tensor] | None = None
    ) -> Float[Tensor, "B Y N N"]:
        n = image.shape[-1]
        image = blank(image, sides)
        patches = None if sides is None else (sides + PATCH - 1) // PATCH  # sides in patches
        m = -(-n // PATCH)
        coarse = self.extractor(self._shrink(image, sides, m), patches)
        weight, looked = self._choose(coarse, patches)
        close = self._look(image, sides, looked) * spread(1 + weight - weight.detach(), n)
        seen = spread(looked.unsqueeze(1).to(image.dtype), n)
        places = place_code(n, image).expand(len(image), -1, -1, -1)
        if trace is not None:
            trace |= {"patch_weight": weight.squeeze(1), "patch_looked": looked}
        return self.leave(torch.cat([spread(coarse, n), close, image, places, seen], 1))

    def _shrink(self, image: Tensor, sides: Sides, m: int) -> Float[Tensor, "B W m m"]:
        """The mean of each patch; a patch over the border wraps, or counts its valid cells only."""
        if self.border == "circular":
            return F.avg_pool2d(wrap(image, sides, 0, m * PATCH), PATCH)
        keep = F.avg_pool2d(wrap(torch.ones_like(image[:, :1]), sides, 0, m * PATCH, "zero"), PATCH)
        return F.avg_pool2d(wrap(image, sides, 0, m * PATCH, "zero"), PATCH) / keep.clamp_min(1e-6)

    def _choose(self, coarse: Tensor, patches: Sides) -> tuple[Float[Tensor, "B 1 m m"], Bool[Tensor, "B m m"]]:
        """A weight for every patch, and the best share of them. The extractor is not trained through this choice."""
        m = coarse.shape[-1]
        if patches is None:
            patches = torch.full((len(coarse),), m, device=coarse.device)
        keep = inside(patches, m)
        coarse = coarse.detach() * keep
        count = keep.sum((2, 3)).clamp_min(1)  # [B, 1]
        whole = (coarse.sum((2, 3)) / count)[..., None, None].expand_as(coarse)
        line = torch.arange(m, device=coarse.device).to(coarse.dtype)[:, None] / patches.clamp_min(1)
        y, x = line.T[:, None, :, None].expand(-1, -1, -1, m), line.T[:, None, None, :].expand(-1, -1, m, -1)
        scores = self.locate(torch.cat([coarse, whole, y, x], 1).movedim(1, -1)).movedim(-1, 1)
        scores = full_precision(scores).masked_fill(~keep, 0)
        scores = scores / scores.square().sum((2, 3), keepdim=True).clamp_min(1e-12).sqrt()
        flat = scores.masked_fill(~keep, -torch.inf).flatten(2)
        weight = flat.masked_fill(~keep.flatten(2).any(-1, keepdim=True), 0).softmax(-1).view_as(scores)
        rank = flat.squeeze(1).argsort(dim=-1, descending=True, stable=True).argsort(-1)
        allowed = torch.ceil(self.budget * count - 1e-4)  # float32: 0.6 · 25 lies a little above 15
        looked = (rank < allowed).view(-1, m, m) & keep.squeeze(1)
        return weight.to(coarse.dtype), looked

    def _look(self, image: Tensor, sides: Sides, looked: Tensor) -> Float[Tensor, "B W N N"]:
        """The extractor on the chosen patches with their halo; its middle is written to the patch's own place."""
        n, m, side = image.shape[-1], looked.shape[-1], PATCH + 2 * HALO
        wide = wrap(image, sides, HALO, m * PATCH + 2 * HALO, self.border)
        cut = wide.unfold(2, side, PATCH).unfold(3, side, PATCH)  # a view, [B, W, m, m, side, side]
        where = looked.nonzero(as_tuple=True)
        crops = cut.permute(0, 2, 3, 1, 4, 5)[where]
        middle = self.extractor(crops, None, "zero")[..., HALO:-HALO, HALO:-HALO]
        close = image.new_zeros(len(image), m, m, image.shape[1], PATCH, PATCH)
        close = close.index_put(where, middle.to(close.dtype))
        close = close.permute(0, 3, 1, 4, 2, 5).reshape(len(image), image.shape[1], m * PATCH, m * PATCH)
        return blank(close[..., :n, :n], sides)


class Extractor(nn.Module):
    """Three residual blocks of a 3 × 3 convolution, normalisation and leaky ReLU; the same at every scale."""

    def __init__(self, width: int, border: Border):
        super().__init__()
        self.border: Border = border
        self.convs = nn.ModuleList([MapConv(width, width) for _ in range(3)])
        self.norms = nn.ModuleList([MapNorm(width) for _ in range(3)])

    def forward(self, image, sides, border: Border | None = None):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            image = image + F.leaky_relu(norm(conv(image, sides, border or self.border), sides), 0.1)
        return image


PLACES = 16  # sines and cosines of four wavelengths for row and column


def place_code(n: int, like: Tensor) -> Float[Tensor, "1 P n n"]:
    """Row and column of every cell as sines and cosines of wavelengths from 2π to 2π · 64 cells."""
    lengths = 4.0 ** torch.arange(4, device=like.device)
    step = torch.arange(n, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))[:, None] / lengths
    code = torch.cat([step.sin(), step.cos()], -1).T.to(like.dtype)  # [8, n]
    rows, columns = code[:, :, None].expand(-1, -1, n), code[:, None, :].expand(-1, n, -1)
    return torch.cat([rows, columns]).unsqueeze(0)


def spread(patches: Float[Tensor, "B C m m"], n: int) -> Float[Tensor, "B C n n"]:
    """Every cell with the value of its patch."""
    return patches.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)[..., :n, :n]


def location_loss(
    trace: dict[str, Tensor], related: Bool[Tensor, "B N N"], sides: Sides, border: Border
) -> Float[Tensor, ""]:
    """REINFORCE on the choice of patches: reward 1 for one that holds a related pair, minus the batch's mean reward.

    With the border "circular", a patch that crosses the last entity, or lies in a copy, holds the cells it wraps to.
    """
    weight, looked = trace["patch_weight"], trace["patch_looked"]
    cells = wrap(related.unsqueeze(1).float(), sides, 0, weight.shape[-1] * PATCH, border)
    reward = F.max_pool2d(cells, PATCH).squeeze(1)[looked]
    advantage = reward - reward.mean() if len(reward) else reward
    return -(advantage * full_precision(weight[looked]).clamp_min(1e-12).log()).sum() / max(len(reward), 1)
