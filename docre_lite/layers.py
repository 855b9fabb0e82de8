"""Modules that two or more papers use: the role-wise bilinear classifier, and convolutions over entity matrices."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from .ops import exporting, full_precision, group_bilinear
from .types import PairFeatures


class RoleBilinear(nn.Module):
    """From entities and pair information to logits: projections by role, then a group bilinear.

    `z_s = tanh(W_s [e_s; f_so])`, `z_o = tanh(W_o [e_o; f_so])`, ATLOP (5)–(7) with f the
    localized context; later papers put other pair information in f. The entity half of each
    projection is computed for N rows, not N², and only pairs under the mask are projected. With
    `pair_width` 0 there is no f. `entity_width` is the width of the entity vectors if it is not
    `width`.
    """

    def __init__(
        self,
        width: int,
        pair_width: int,
        relations: int,
        block: int = 64,
        entity_width: int | None = None,
    ):
        super().__init__()
        block = min(block, width)
        if block < 1 or width % block:
            near = next((size for size in range(block, 0, -1) if width % size == 0), width)
            raise ValueError(f"block={block} must divide the width {width} of a role's projection; {near} does")
        self.width, self.block = width, block
        self.entity_width = entity_width or width
        self.head = nn.Linear(self.entity_width + pair_width, width)
        self.tail = nn.Linear(self.entity_width + pair_width, width)
        # holds W [R, G·b·b] and its bias, initialised as one
        self.bilinear = nn.Linear(width * block, relations)

    def forward(
        self,
        entities: Float[Tensor, "B N E"],
        pair: Float[Tensor, "B N N F"] | None,
        mask: Bool[Tensor, "B N N"],
        tails: Float[Tensor, "B N E"] | None = None,
    ) -> Float[Tensor, "B N N R"]:
        """Logits, zero outside the mask.

        `tails` are the entities as tails, if they differ from `entities` as heads.
        """
        tails = entities if tails is None else tails
        if exporting():  # a graph projects all pairs: how many are under the mask must not shape it
            return self._dense(entities, pair, mask, tails)
        document, head, tail = mask.nonzero(as_tuple=True)
        information = None if pair is None else pair[document, head, tail]
        z_head = self._project(self.head, entities, (document, head), information)
        z_tail = self._project(self.tail, tails, (document, tail), information)
        relations = self.bilinear.out_features
        # no -1: there may be no pairs
        groups = (len(document), self.width // self.block, self.block)
        flat = group_bilinear(z_head.view(groups), z_tail.view(groups), self._weight())
        flat = flat + self.bilinear.bias
        return flat.new_zeros(*mask.shape, relations).index_put_((document, head, tail), flat)

    def _dense(self, entities: Tensor, pair: Tensor | None, mask: Tensor, tails: Tensor) -> Float[Tensor, "B N N R"]:
        where = (slice(None), slice(None), None), (slice(None), None, slice(None))
        roles = zip((self.head, self.tail), (entities, tails), where, strict=True)
        shape = (*mask.shape, self.width)
        z_head, z_tail = (
            self._project(role, x, at, pair).expand(shape).unflatten(-1, (-1, self.block)).flatten(0, 2)
            for role, x, at in roles
        )
        logits = group_bilinear(z_head, z_tail, self._weight()) + self.bilinear.bias
        return logits.view(*mask.shape, -1) * mask.unsqueeze(-1)

    def _weight(self) -> Float[Tensor, "G bb R"]:
        split = self.bilinear.weight.view(self.bilinear.out_features, -1, self.block**2)
        return split.permute(1, 2, 0)

    def _project(
        self,
        role: nn.Linear,
        entities: Tensor,
        where: tuple,
        information: Tensor | None,
    ) -> Tensor:
        entity = F.linear(entities, role.weight[:, : self.entity_width], role.bias)[where]
        if information is not None:
            entity = entity + F.linear(information, role.weight[:, self.entity_width :])
        return torch.tanh(entity)


class PairVector(nn.Module):
    """One vector per pair: `FNN([tanh(W_s [e_s; c]); tanh(W_o [e_o; c])])`. DocRE-II (2)–(3), DRE-MIR section 2.2.

    What depends on one entity alone is computed for N rows, and only the context's share for N² pairs.
    """

    def __init__(self, entity_width: int, context_width: int, width: int):
        super().__init__()
        self.entity = nn.Linear(entity_width, 2 * width)  # both roles at once: the head's half, then the tail's
        self.context = nn.Linear(context_width, 2 * width, bias=False)
        self.cell = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
        for layer in (self.cell[0], self.cell[2]):  # PyTorch's default initialisation shrinks cells and delays learning
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")

    def forward(self, entities: Float[Tensor, "B N E"], pairs: PairFeatures) -> Float[Tensor, "B N N W"]:
        head, tail = self.entity(entities).chunk(2, -1)
        n = entities.shape[1]
        roles = torch.cat([head.unsqueeze(2).expand(-1, -1, n, -1), tail.unsqueeze(1).expand(-1, n, -1, -1)], -1)
        return self.cell(torch.tanh(roles + pairs.mapped_context(self.context.weight)))


def pair_cells(entity_mask: Bool[Tensor, "B N"]) -> Bool[Tensor, "B N N"]:
    """The cells of two different entities of a document, whether or not the pair gets classified."""
    both = entity_mask[:, :, None] & entity_mask[:, None]
    return both & ~torch.eye(both.shape[1], dtype=torch.bool, device=both.device)


# Entity matrices as images ------------------------------------------------------------------------------------------
#
# A map is [B, C, N, N] with the side of each document's own matrix in `sides`; everything outside is padding, which
# must not influence the result. Nothing below depends on its amount; `sides` None means no padding, and is faster.

Border = Literal["zero", "circular"]
Sides = Int[Tensor, "B"] | None


def sides_of(entity_mask: Bool[Tensor, "B N"]) -> Sides:
    """The number of entities of each document; None if it is N for all."""
    return None if not exporting() and entity_mask.all() else entity_mask.sum(1)


def inside(sides: Int[Tensor, "B"], n: int) -> Bool[Tensor, "B 1 n n"]:
    """The cells that belong to each document's matrix."""
    line = torch.arange(n, device=sides.device) < sides[:, None]
    return (line[:, :, None] & line[:, None, :]).unsqueeze(1)


def blank(image: Float[Tensor, "B C N N"], sides: Sides) -> Float[Tensor, "B C N N"]:
    """The map with zeros in its padding."""
    return image if sides is None else image * inside(sides, image.shape[-1])


def wrap(
    image: Float[Tensor, "B C N N"], sides: Sides, before: int, length: int, border: Border = "circular"
) -> Float[Tensor, "B C n n"]:
    """Rows and columns −before … length−before−1 of each matrix; beyond its side it repeats, or is zero.

    With `before=0` and the border "circular" this is PAEE's sliding-window fill of a `length` × `length` matrix.
    """
    n = image.shape[-1]
    if border == "zero":
        after = length - before - n
        return F.pad(blank(image, sides), (before, after, before, after))
    line = torch.arange(length, device=image.device) - before
    line = line % (n if sides is None else sides.clamp_min(1)[:, None])  # each document wraps at its own side
    return pick(image, line.expand(image.shape[0], -1))


def pick(image: Float[Tensor, "B C N N"], line: Int[Tensor, "B n"]) -> Float[Tensor, "B C n n"]:
    """The rows and the columns `line[b]` of each document's matrix, in that order."""
    rows = line[:, None, :, None].expand(-1, image.shape[1], -1, image.shape[-1])
    columns = line[:, None, None, :].expand(-1, image.shape[1], line.shape[1], -1)
    return image.gather(2, rows).gather(3, columns)


class MapConv(nn.Conv2d):
    """A square convolution of odd size that keeps the side; beyond each matrix's border it sees zeros, or wraps."""

    def __init__(self, into: int, out: int, size: int = 3, border: Border = "zero"):
        super().__init__(into, out, size)
        self.border = border

    def forward(
        self, image: Float[Tensor, "B C N N"], sides: Sides, border: Border | None = None
    ) -> Float[Tensor, "B c N N"]:
        halo = self.kernel_size[0] // 2
        return super().forward(wrap(image, sides, halo, image.shape[-1] + 2 * halo, border or self.border))


class MapNorm(nn.Module):
    """Normalisation over the cells of a matrix, without its padding.

    "group": 8 groups of channels, each document by itself (Wu and He, 2018). "batch": each channel over all
    documents, with running averages for prediction: batch normalisation as the published code has it, but masked.
    """

    def __init__(self, channels: int, kind: Literal["group", "batch"] = "group", groups: int = 8):
        super().__init__()
        self.kind, self.groups = kind, min(groups, channels)
        if channels % self.groups:
            raise ValueError(f"{channels} channels cannot be split into {self.groups} groups; give a multiple of 8")
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        if kind == "batch":
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("variance", torch.ones(channels))

    def forward(self, image: Float[Tensor, "B C N N"], sides: Sides) -> Float[Tensor, "B C N N"]:
        if sides is None and self.kind == "group":
            # not torch's function, which refuses a matrix of one cell
            return torch.group_norm(full_precision(image), self.groups, self.weight, self.bias, 1e-5)
        keep = blank(image.new_ones(image.shape[0], 1, *image.shape[2:]), sides).bool()
        groups = self.groups if self.kind == "group" else len(self.weight)
        values, keep = full_precision(image).unflatten(1, (groups, -1)), keep.unsqueeze(1)  # [B, G, C/G, N, N]
        weight, bias = (p.view(groups, -1, 1, 1) for p in (self.weight, self.bias))
        if self.kind == "batch" and not self.training:
            centred, variance = values - self.mean.view_as(bias), self.variance.view_as(bias)
        else:
            centred, variance = self._standard(values, keep, (2, 3, 4) if self.kind == "group" else (0, 2, 3, 4))
        return (torch.addcmul(bias, centred, weight * (variance + 1e-5).rsqrt()) * keep).flatten(1, 2)

    def _standard(self, values: Tensor, keep: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values minus their mean, and their variance; the channels of a group count together."""
        count = (keep.sum(over, keepdim=True) * values.shape[2]).clamp_min(1)
        mean = (values * keep).sum(over, keepdim=True) / count
        centred = (values - mean) * keep
        variance = centred.square().sum(over, keepdim=True) / count
        if self.kind == "batch" and keep.any():
            with torch.no_grad():  # the usual momentum of 0.1; the running variance is the unbiased one, as torch's
                unbiased = variance * count / (count - 1).clamp_min(1)
                self.mean.lerp_(mean.flatten().to(self.mean.dtype), 0.1)
                self.variance.lerp_(unbiased.flatten().to(self.variance.dtype), 0.1)
        return centred, variance
