"""DocuNet: document-level relation extraction as semantic segmentation (IJCAI 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Border, MapConv, MapNorm, RoleBilinear, Sides, blank, inside, pick, sides_of
from ..model import Inputs, PairClassifier
from ..objectives import TOP, BalancedSoftmax, BinaryCrossEntropy
from ..support.settings import Amount, Count, Side, Variant, option, settings
from ..types import PairFeatures


class DocuNet(PairClassifier):
    """Entity pairs as the pixels of an image: a U-Net lets every pair see the pairs around it, in order of entities.

    Two ideas: the relation of a pair depends on those of other pairs, so the matrix is segmented as a whole; and a
    softmax compares positives and negatives with zero. What a cell sees depends on its position.
    """

    name = "docunet"
    title = "DocuNet: entity pairs as an image"
    equivariant = False  # a convolution sees neighbours and borders, so the order of entities matters

    @settings
    class Options:
        pair: Literal["context", "similarity"] = option("context", "source of a pixel: (4)-(5), or (3)")
        matrix: Literal["unet", "ffn"] = option(
            "unet", "a U-Net over the matrix (6), or two layers for each cell alone"
        )
        channels: Count = option(3, "channels of the image, W_3 of (6): 3 in the published code, as in RGB")
        unet_width: Count = option(64, "channels of the U-Net's first stage (256 in the published code)")
        unet_table: Literal["text", "code"] = option(
            "text", "channels w, 2w, 4w, 2w, w as in section 3.3; or w, 2w, 2w, w, w/2 as in the published code"
        )
        upsample: Literal["bilinear", "deconv"] = option("bilinear", "way up: bilinear (code), or deconvolution (text)")
        norm: Literal["group", "batch"] = option("group", "normalisation over valid cells; batch in the published code")
        grid: Literal["valid", "code"] = option(
            "valid",
            "halving and growing: up to the last entity, over valid cells; or, as the published code does in a filled "
            "square, sides halved and rounded down, then upsampled corner to corner with zeros where an odd side ends",
        )
        fill: Literal["zero", "repeat"] = option(
            "zero", "cells beyond the last entity: zeros, or copies of its cells up to `matrix_size` (published code)"
        )
        matrix_size: Side = option(42, "side of the matrix under fill=repeat (42 on DocRED, 35 on CDR and GDA)")
        map_width: Count = option(256, "channels of the matrix Y that enters both roles")
        block: Amount = option(64, "dimensions of a group in the bilinear form; 0 = all (full bilinear)")
        loss: Literal["balanced", "bce"] = option("balanced", "balanced softmax (11), or cross-entropy tuned on dev")
        top: Count = option(TOP, "most relations a pair may hold (3 in the published script, 1 for CDR and GDA)")
        count_none: bool = option(
            False, "class 0 takes one of the `top` places if it is among a pair's best, as in the published code"
        )

    _tiny = {"encoder_lr": 1e-3, "classifier_lr": 1e-3, "matrix_lr": 1e-3}
    _docred = {"epochs": 30, "encoder_lr": 3e-5, "classifier_lr": 1e-4, "matrix_lr": 4e-4}
    recipes = {
        # learning rates and epochs of the published scripts; the text's 2e-5 for everything is too little for a U-Net
        "docred": {"batch_size": 4, **_docred},
        "docred_large": {"batch_size": 2, "accumulation": 2, **_docred},  # RoBERTa-large
        "cdr": {"batch_size": 4, "epochs": 30, "encoder_lr": 2e-5, "classifier_lr": 1e-4, "matrix_lr": 3e-4, "top": 1},
        "gda": {"batch_size": 4, "epochs": 10, "encoder_lr": 2e-5, "classifier_lr": 1e-4, "matrix_lr": 3e-4, "top": 1},
        # ours, for the tiny encoder from scratch
        "tiny": {"batch_size": 4, "epochs": 6, **_tiny, "block": 16, "channels": 32, "unet_width": 32, "map_width": 64},
    }
    variants = {
        "docunet": Variant({}, "the full model, Table 4 'Context-based'", 59.86, 61.83),
        "similarity": Variant({"pair": "similarity"}, "Table 4 'Similarity-based'", 59.04, 60.92),
        "no_balanced_softmax": Variant(
            {"loss": "bce"}, "Table 4 'w/o Balanced Softmax': cross-entropy, one threshold tuned on dev", 58.56, 60.51
        ),
        "no_unet": Variant({"matrix": "ffn"}, "Table 4 'w/o U-shaped Segmentation'", 57.51, 59.65),
        "released_code": Variant(
            {"channels": 3, "unet_width": 256, "unet_table": "code", "norm": "batch", "grid": "code", "fill": "repeat"}
            | {"map_width": 256, "top": 3, "count_none": True, "max_tokens": 1024},
            "the published network and decision. Only the published code adds an epsilon of 10⁻⁵ to the mean over "
            "heads in the localized context, and drops an epoch's last batch if it is not full",
        ),
    }

    def __init__(self, inputs: Inputs, options: Options | None = None):
        super().__init__()
        self.options = options = options or self.Options()
        if options.pair == "context" and not inputs.context:
            raise ValueError("pair='context' needs localized context; leave context on, or set pair='similarity'")
        if options.grid == "code" and (options.fill != "repeat" or options.matrix_size < 4):
            raise ValueError("grid='code' halves a side of 4 or more twice: set fill='repeat', matrix_size from 4")
        if options.count_none and options.loss != "balanced":
            raise ValueError("count_none=true needs loss='balanced', in which class 0 is a class like the others")
        if options.pair == "context":
            self.image = nn.Linear(inputs.width, options.channels)  # W_3 W_2 in one: no nonlinearity between them
        else:
            self.image = Similarity(inputs.width, options.channels)
        self.matrix = (
            UNet(
                options.channels,
                options.map_width,
                options.unet_width,
                options.unet_table,
                options.upsample,
                options.norm,
                grid=options.grid,
            )
            if options.matrix == "unet"
            else CellNet(options.channels, options.map_width, 4 * options.unet_width)
        )
        self.bilinear = RoleBilinear(inputs.width, options.map_width, inputs.relations, options.block or inputs.width)
        self.objective = (
            BalancedSoftmax(options.top, options.count_none)
            if options.loss == "balanced"
            else BinaryCrossEntropy(inputs.relations, "global", options.top)
        )

    def logits(self, pairs, trace):
        return self.segment(self.pixels(pairs), pairs, trace)

    def pixels(self, pairs: PairFeatures) -> Float[Tensor, "B N N C"]:
        """The image: W_3 applied to each pair's context (4)-(5), or to the similarity of its entities (3)."""
        if self.options.pair == "similarity":
            return self.image(pairs.entities)
        return pairs.mapped_context(self.image.weight) + self.image.bias

    def segment(
        self, pixels: Float[Tensor, "B N N C"], pairs: PairFeatures, trace: dict[str, Tensor]
    ) -> Float[Tensor, "B N N R"]:
        """Logits from the image: the matrix Y of (6), then the bilinear form."""
        image = pixels.movedim(-1, 1)
        sides = sides_of(pairs.batch.entity_mask)
        n = image.shape[-1]
        if self.options.fill == "repeat":
            image, sides = repeat_last(image, sides, self.options.matrix_size)
        trace["image"] = blank(image[..., :n, :n], sides)
        found = self.matrix(image, sides, trace)[..., :n, :n].movedim(1, -1)
        return self.bilinear(pairs.entities, found, pairs.mask)


class Similarity(nn.Module):
    """Pixels from two entity vectors: their product, cosine and bilinear form, mapped to C channels. DocuNet (3), (6).

    A linear map of `e_s ⊙ e_o` is a bilinear form with a diagonal matrix for each channel, so no [N, N, D] is built.
    """

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.product = nn.Parameter(torch.randn(channels, width) / width)
        self.scalars = nn.Linear(2, channels)
        self.bilinear = nn.Parameter(torch.randn(width, width) / width)

    def forward(self, entities: Float[Tensor, "B N D"]) -> Float[Tensor, "B N N C"]:
        tails = entities.transpose(1, 2)
        product = (entities.unsqueeze(1) * self.product[:, None, :]) @ tails.unsqueeze(1)  # [B, C, N, N]
        unit = F.normalize(entities, dim=-1)
        scalars = torch.stack([unit @ unit.transpose(1, 2), entities @ self.bilinear @ tails], -1)
        return product.movedim(1, -1) + self.scalars(scalars)


class UNet(nn.Module):
    """Two steps down, two up, with skip connections, over matrices of any side. DocuNet section 3.3.

    Halved sides are rounded up (5, 3, 2), so that no entity is lost; pooling and upsampling use valid cells only, so
    that the padding of a batch changes nothing. With the grid "code" they are rounded down (42, 21, 10), as in the
    published network, and padding still has no effect.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        width: int = 64,
        table: Literal["text", "code"] = "text",
        upsample: Literal["bilinear", "deconv"] = "bilinear",
        norm: Literal["group", "batch"] = "group",
        border: Border = "zero",
        grid: Literal["valid", "code"] = "valid",
    ):
        super().__init__()
        self.grid = grid
        w0, w1, w2 = width, 2 * width, (4 if table == "text" else 2) * width
        u1, u2 = (2 * width, width) if table == "text" else (width, width // 2)
        self.enter = TwoConvs(channels, w0, norm, border)
        self.down1, self.down2 = TwoConvs(w0, w1, norm, border), TwoConvs(w1, w2, norm, border)
        deconv = upsample == "deconv"
        self.grow1 = nn.ConvTranspose2d(w2, w2 // 2, 2, 2) if deconv else None
        self.grow2 = nn.ConvTranspose2d(u1, u1 // 2, 2, 2) if deconv else None
        self.up1 = TwoConvs(w1 + (w2 // 2 if deconv else w2), u1, norm, border)
        self.up2 = TwoConvs(w0 + (u1 // 2 if deconv else u1), u2, norm, border)
        self.leave = nn.Conv2d(u2, out, 1)

    def forward(
        self, image: Float[Tensor, "B C N N"], sides: Sides, trace: dict[str, Tensor] | None = None
    ) -> Float[Tensor, "B Y N N"]:
        halve, pool, grow = STEPS[self.grid]
        half = halve(sides)
        quarter = halve(half)
        enter = self.enter(image, sides)
        down1 = self.down1(pool(enter, sides), half)
        down2 = self.down2(pool(down1, half), quarter)
        up1 = self.up1(torch.cat([down1, grow(down2, quarter, down1, self.grow1)], 1), half)
        up2 = self.up2(torch.cat([enter, grow(up1, half, enter, self.grow2)], 1), sides)
        if trace is not None:
            trace |= {"enter": enter, "down1": down1, "down2": down2, "up1": up1, "up2": up2}
        return self.leave(up2)


class TwoConvs(nn.Module):
    """Convolution 3 × 3, normalisation and ReLU, twice."""

    def __init__(self, into: int, out: int, norm: Literal["group", "batch"], border: Border):
        super().__init__()
        self.convs = nn.ModuleList([MapConv(into, out, border=border), MapConv(out, out, border=border)])
        self.norms = nn.ModuleList([MapNorm(out, norm), MapNorm(out, norm)])

    def forward(self, image, sides):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            image = F.relu(norm(conv(image, sides), sides))
        return image


class CellNet(nn.Module):
    """The control without interaction: two layers that see one cell at a time. Table 4, 'w/o U-shaped Segmentation'."""

    def __init__(self, channels: int, out: int, width: int):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU(), nn.Conv2d(width, out, 1))

    def forward(self, image, sides, trace=None):
        return self.net(image)


def halve(sides: Sides) -> Sides:
    return None if sides is None else (sides + 1) // 2


def pool(image: Float[Tensor, "B C N N"], sides: Sides) -> Float[Tensor, "B C n n"]:
    """The largest valid value of each 2 × 2 block; blocks at an odd border are smaller."""
    if sides is None:
        return F.max_pool2d(image, 2, ceil_mode=True)
    hidden = image.masked_fill(~inside(sides, image.shape[-1]), -torch.inf)
    # ceil_mode keeps the last entity when N is odd
    largest = F.max_pool2d(hidden, 2, ceil_mode=True)
    return largest.masked_fill(~inside(halve(sides), largest.shape[-1]), 0)


def grow(
    image: Float[Tensor, "B C n n"], sides: Sides, like: Tensor, deconv: nn.Module | None
) -> Float[Tensor, "B c N N"]:
    """Doubles the side: by deconvolution, or bilinearly, with the weight of invalid cells given to valid ones."""
    image = blank(image, sides)
    grown = deconv(image) if deconv is not None else F.interpolate(image, scale_factor=2, mode="bilinear")
    if deconv is None and sides is not None:
        keep = inside(sides, image.shape[-1]).to(image.dtype)
        grown = grown / F.interpolate(keep, scale_factor=2, mode="bilinear").clamp_min(1e-6)
    n = like.shape[-1]
    return grown[..., :n, :n]


def halve_down(sides: Sides) -> Sides:
    return None if sides is None else sides // 2


def pool_down(image: Float[Tensor, "B C N N"], sides: Sides) -> Float[Tensor, "B C n n"]:
    """The largest value of each whole 2 × 2 block: an odd side loses its last row and column."""
    return blank(F.max_pool2d(image, 2), halve_down(sides))


def grow_corners(
    image: Float[Tensor, "B C n n"], sides: Sides, like: Tensor, deconv: nn.Module | None
) -> Float[Tensor, "B c N N"]:
    """Doubles the side, corner cells on corner cells, with zeros in the last row and column of an odd side.

    Each document has its own scale, so with padding a matrix interpolates its rows, then its columns.
    """
    if deconv is not None:
        grown = deconv(image)
    elif sides is None:
        grown = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=True)
    else:
        n = image.shape[-1]
        new, old = torch.arange(2 * n, device=image.device)[:, None], torch.arange(n, device=image.device)
        scale = (sides - 1).to(image.dtype) / (2 * sides - 1).clamp_min(1)
        between = (1 - (new * scale[:, None, None] - old).abs()).clamp_min(0).unsqueeze(1)  # [B, 1, 2n, n]
        grown = between @ blank(image, sides) @ between.transpose(-1, -2)
    lack = like.shape[-1] - grown.shape[-1]
    return F.pad(blank(grown, None if sides is None else 2 * sides), (0, lack, 0, lack))


# By `grid`: how a side is halved, and how the map is pooled and grown again.
STEPS = {"valid": (halve, pool, grow), "code": (halve_down, pool_down, grow_corners)}


def repeat_last(image: Float[Tensor, "B C N N"], sides: Sides, size: int) -> tuple[Float[Tensor, "B C n n"], Sides]:
    """Each matrix filled up to `size` with copies of its last row and column, as the published code pads entities.

    A larger matrix stays as it is, and does not widen those of other documents.
    """
    n = image.shape[-1]
    last = n - 1 if sides is None else (sides - 1).clamp_min(0)[:, None]
    line = torch.arange(max(size, n), device=image.device).expand(image.shape[0], -1).clamp_max(last)
    return pick(image, line), None if sides is None else sides.clamp_min(size)
