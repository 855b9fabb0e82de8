"""The oracle-cell lab: what a module over the pair matrix can infer when it need not read.

A cell holds what a perfect reader would know about its pair: the facts that a sentence states, and both entity types.
The module must also find the composed facts, which no sentence states. A single cell cannot do so, whatever the
weights: a module that finds composed facts has combined cells. Training takes a few seconds of one core.

    train, test = sheets(generate("train", 240)), sheets(generate("test", 80))
    model = learn("paths", train)
    composed_f1(model, test), composed_f1(model, test, shuffled=True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ..corpus import RELATIONS
from ..objectives import AdaptiveThreshold
from ..papers.docre_ii import ExtendedCrossAttention
from ..papers.docunet import UNet
from ..papers.dre_mir import InferenceLayer, draw_hidden, symmetric_divergence
from ..papers.paee import TNet
from ..types import Document

TYPES = ("LOC", "MISC", "NUM", "ORG", "PER", "TIME")
WIDTH = 32
BATCH = 4
SEED_OF_TEST = 1  # seed of the orders, hidden cells and emptied cells, the same for all models under test


@dataclass(frozen=True)
class Sheet:
    """Documents as cells, padded to the largest. Class 0 of the relations is NA and is never set."""

    stated: Bool[Tensor, "B N N R"]
    composed: Bool[Tensor, "B N N R"]
    depth: Int[Tensor, "B N N R"]  # composition steps of each composed fact
    types: Int[Tensor, "B N"]
    entities: Bool[Tensor, "B N"]

    @property
    def pairs(self) -> Bool[Tensor, "B N N"]:
        """Ordered pairs of two different entities."""
        n = self.entities.shape[1]
        return self.entities[:, :, None] & self.entities[:, None] & ~torch.eye(n, dtype=torch.bool)

    @property
    def sides(self) -> Int[Tensor, "B"]:
        return self.entities.sum(1)


def sheets(documents: Sequence[Document]) -> list[Sheet]:
    """Documents of the embedded corpus, one sheet each. Raises ValueError for an entity type that the corpus lacks."""
    return [_sheet(document) for document in documents]


def _sheet(document: Document) -> Sheet:
    n, r = len(document.entities), len(RELATIONS)
    stated, depth = torch.zeros(n, n, r, dtype=torch.bool), torch.zeros(n, n, r, dtype=torch.long)
    for triple in document.triples:
        place = triple.head, triple.tail, RELATIONS.index(triple.relation)
        depth[place] = triple.depth
        stated[place] = triple.depth == 0
    types = torch.tensor([TYPES.index(entity.type) for entity in document.entities])
    tensors = stated, depth > 0, depth, types, torch.ones(n, dtype=torch.bool)
    return Sheet(*(tensor.unsqueeze(0) for tensor in tensors))


def join(some: Sequence[Sheet], shuffled: bool = False, generator: torch.Generator | None = None) -> Sheet:
    """Sheets of several documents as one, `shuffled` with the entities of each in a random order."""
    n = max(sheet.entities.shape[1] for sheet in some)
    parts = []
    for sheet in some:
        m = sheet.entities.shape[1]
        order = torch.randperm(m, generator=generator) if shuffled else torch.arange(m)
        pairs = [x[:, order][:, :, order] for x in (sheet.stated, sheet.composed, sheet.depth)]
        padded = [x.new_zeros(1, n, n, x.shape[-1]) for x in pairs]
        for to, x in zip(padded, pairs, strict=True):
            to[:, :m, :m] = x
        lines = [x.new_zeros(1, n) for x in (sheet.types, sheet.entities)]
        for to, x in zip(lines, (sheet.types, sheet.entities), strict=True):
            to[:, :m] = x[:, order]
        parts.append((*padded, *lines))
    return Sheet(*(torch.cat(column) for column in zip(*parts, strict=True)))


class Alone(nn.Module):
    """The control: two layers that see one cell at a time."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, cells, sheet):
        return cells + self.net(cells)


class Image(nn.Module):
    """DocuNet's U-Net, or PAEE's TNet on a torus, over the cells as an image."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, cells, sheet):
        return cells + self.network(cells.movedim(-1, 1), sheet.sides).movedim(1, -1)


class Paths(nn.Module):
    """DRE-MIR's I-MSA: attention over paths of two legs."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(InferenceLayer(width, 2 * width) for _ in range(layers))

    def forward(self, cells, sheet):
        for layer in self.layers:
            cells, _ = layer(cells, sheet.pairs)
        return cells


class Lines(nn.Module):
    """DocRE-II's extended cross attention: along the four lines that share an entity."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.look = nn.ModuleList(ExtendedCrossAttention(width, width) for _ in range(layers))
        self.norm, self.feed_norm = (nn.ModuleList(nn.LayerNorm(width) for _ in range(layers)) for _ in range(2))
        self.feed = nn.ModuleList(Alone(width, 1).net for _ in range(layers))

    def forward(self, cells, sheet):
        for look, norm, feed, feed_norm in zip(self.look, self.norm, self.feed, self.feed_norm, strict=True):
            cells = norm(cells + look(cells, cells, sheet.pairs)[0])
            cells = feed_norm(cells + feed(cells))
        return cells


MODULES: dict[
    str, Callable[[int, int], nn.Module]
] = {  # width and layers → module; image networks have their own depth
    "alone": Alone,
    "unet": lambda width, layers: Image(UNet(width, width, width)),
    "tnet": lambda width, layers: Image(TNet(width, width, 0.6, "circular")),
    "lines": Lines,
    "paths": Paths,
}


class Reasoner(nn.Module):
    """Facts and types in, a module over the cells, logits of all facts out, stated and composed."""

    def __init__(self, kind: str, width: int = WIDTH, layers: int = 2):
        super().__init__()
        if kind not in MODULES:
            raise ValueError(f"no module {kind!r}; have {', '.join(MODULES)}")
        seen = len(RELATIONS) + 2 * len(TYPES)
        self.enter = nn.Sequential(nn.Linear(seen, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.hidden_cell = nn.Parameter(torch.zeros(width))
        self.module = MODULES[kind](width, layers)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU())
        self.classify = nn.Linear(2 * width, len(RELATIONS))
        self.objective = AdaptiveThreshold()

    def forward(
        self, facts: Bool[Tensor, "B N N R"], sheet: Sheet, hidden: Bool[Tensor, "B N N"] | None = None
    ) -> Float[Tensor, "B N N R"]:
        types = F.one_hot(sheet.types, len(TYPES)).to(self.classify.weight.dtype)
        n = types.shape[1]
        heads, tails = types.unsqueeze(2).expand(-1, -1, n, -1), types.unsqueeze(1).expand(-1, n, -1, -1)
        cells = self.enter(torch.cat([facts.to(types.dtype), heads, tails], -1))
        if hidden is not None:
            cells = torch.where(hidden.unsqueeze(-1), self.hidden_cell, cells)
        return self.classify(self.leave(self.module(cells, sheet)))

    def answers(self, facts: Tensor, sheet: Sheet, hidden: Tensor | None = None) -> Bool[Tensor, "B N N R"]:
        """The facts that the module predicts. Class 0 is the threshold and never among them."""
        chosen, _ = self.objective.decide(self(facts, sheet, hidden))
        return chosen & sheet.pairs.unsqueeze(-1)


def learn(
    kind: str,
    train: Sequence[Sheet],
    *,
    epochs: int = 8,
    lr: float = 3e-3,
    seed: int = 0,
    layers: int = 2,
    width: int = WIDTH,
    reread: bool = False,
    mask_rate: float = 0.0,
    watch: Callable[[int, Reasoner], None] | None = None,
) -> Reasoner:
    """Trains a module to predict all facts, composed ones included; calls `watch` after every epoch.

    `reread` adds a random share of the right answers to the facts of every other document, so that later rounds can
    read the answers of earlier ones. `mask_rate` is the share of hidden pairs, and adds DRE-MIR's two losses for them.
    """
    torch.manual_seed(seed)
    model = Reasoner(kind, width, layers)
    steps = epochs * math.ceil(len(train) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.06)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(train)).tolist()
        for start in range(0, len(order), BATCH):
            loss = _loss(model, join([train[i] for i in order[start : start + BATCH]]), reread, mask_rate)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        if watch is not None:
            watch(epoch + 1, model)
    return model


def _loss(model: Reasoner, sheet: Sheet, reread: bool, mask_rate: float) -> Float[Tensor, ""]:
    facts, mask = sheet.stated, sheet.pairs
    if reread:
        share = torch.rand(len(facts), 1, 1, 1) * torch.randint(2, (len(facts), 1, 1, 1))
        facts = facts | (sheet.composed & (torch.rand(facts.shape) < share))
    logits, wanted = model(facts, sheet)[mask], (sheet.stated | sheet.composed)[mask]
    loss = model.objective.loss(logits, wanted)
    if mask_rate:
        masked = model(facts, sheet, draw_hidden(mask, mask_rate))[mask]
        loss = loss + model.objective.loss(masked, wanted) + symmetric_divergence(logits, masked)
    return loss


@torch.no_grad()
def composed_f1(
    model: Reasoner,
    test: Sequence[Sheet],
    *,
    shuffled: bool = False,
    emptied: float = 0.0,
    hidden: float = 0.0,
    rounds: int = 1,
    depth: int | None = None,
) -> float:
    """F1 over the composed facts, in %, on the sheets as they are or changed.

    `shuffled`: entities are in random order. `emptied`: this share of the cells loses its stated facts. `hidden`: the
    learnt vector for hidden pairs replaces this share of the pairs. `rounds`: the module answers this many times, each
    time with its last answers among the facts. `depth`: only facts composed in this many steps count; those of other
    depths count neither for nor against.
    """
    generator = torch.Generator().manual_seed(SEED_OF_TEST)
    gold = named = right = 0
    for start in range(0, len(test), 2 * BATCH):
        sheet = join(test[start : start + 2 * BATCH], shuffled, generator)
        facts = sheet.stated
        if emptied:
            facts = facts & ~draw_hidden(sheet.pairs, emptied, generator).unsqueeze(-1)
        covered = draw_hidden(sheet.pairs, hidden, generator) if hidden else None
        found = model.answers(facts, sheet, covered)
        for _ in range(rounds - 1):
            found = model.answers(facts | found, sheet, covered)
        found = found & ~sheet.stated
        wanted = sheet.composed
        if depth is not None:
            wanted = sheet.depth == depth
            found = found & ~(sheet.composed & ~wanted)
        gold, named, right = gold + int(wanted.sum()), named + int(found.sum()), right + int((found & wanted).sum())
    return 200 * right / max(gold + named, 1)
