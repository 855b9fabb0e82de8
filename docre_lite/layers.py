"""Modules that two or more papers use."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .ops import group_bilinear


class RoleBilinear(nn.Module):
    """From entities and pair information to logits: one tanh projection a role, then a group bilinear form.

    `z_s = tanh(W_s [e_s; f_so])`, `z_o = tanh(W_o [e_o; f_so])`, ATLOP (5)–(7) with f the localized context;
    later papers put other pair information in f. The entity half of each projection is computed for N rows,
    not N², and only pairs under the mask are projected at all. `pair_width` 0 leaves f out.
    """

    def __init__(self, width: int, pair_width: int, relations: int, block: int = 64):
        super().__init__()
        block = min(block, width)
        if width % block:
            raise ValueError(f"block={block} must divide the encoder's width {width}")
        self.width, self.block = width, block
        self.head = nn.Linear(width + pair_width, width)
        self.tail = nn.Linear(width + pair_width, width)
        self.bilinear = nn.Linear(width * block, relations)  # holds W [R, G·b·b] and its bias, initialised as one

    def forward(
        self,
        entities: Float[Tensor, "B N D"],
        pair: Float[Tensor, "B N N F"] | None,
        mask: Bool[Tensor, "B N N"],
    ) -> Float[Tensor, "B N N R"]:
        document, head, tail = mask.nonzero(as_tuple=True)
        information = None if pair is None else pair[document, head, tail]
        z_head = self._project(self.head, entities, (document, head), information)
        z_tail = self._project(self.tail, entities, (document, tail), information)
        relations = self.bilinear.out_features
        weight = self.bilinear.weight.view(relations, -1, self.block**2).permute(1, 2, 0)
        groups = (len(document), self.width // self.block, self.block)  # no -1: there may be no pairs
        flat = group_bilinear(z_head.view(groups), z_tail.view(groups), weight) + self.bilinear.bias
        return flat.new_zeros(*mask.shape, relations).index_put((document, head, tail), flat)

    def _project(self, role: nn.Linear, entities: Tensor, where: tuple, information: Tensor | None) -> Tensor:
        entity = F.linear(entities, role.weight[:, : self.width], role.bias)[where]
        if information is not None:
            entity = entity + F.linear(information, role.weight[:, self.width :])
        return torch.tanh(entity)
