"""How far can a model get without reading? Probes see entity types and positions in the text, but no word.

A model may reach a probe's score by layout alone, so the probes are the baseline of the embedded corpus.
There are five kinds, each with the adaptive-threshold loss: "type" (the two types), "type_position" (and the
positions of the two), "imsa" and "unet" (the same for all pairs, through two I-MSA layers of DRE-MIR or the U-Net
of DocuNet) and "count" (a U-Net that knows only the number of entities: its score comes from the order of the
entities alone).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..layers import inside
from ..objectives import adaptive_threshold_loss
from ..papers.docunet import UNet
from ..papers.dre_mir import InferenceLayer
from ..types import Document, Relations

KINDS = ("type", "type_position", "imsa", "unet", "count")
WIDTH = 64
UNET_WIDTH = 32
LARGEST = 42  # most entities of a DocRED document: scales the count to between 0 and about 1


def run_probe(
    kind: str, train: Sequence[Document], dev: Sequence[Document], epochs: int = 8, seed: int = 0, **settings
) -> dict[str, float]:
    """Train a word-free probe and score it on dev: f1, precision, recall, infer_f1 and best_f1, all in [0, 1].

    infer_f1 is strict: gold means composed facts (depth > 0), predicted means all but the stated gold facts.
    best_f1 is the F1 of the best single threshold, chosen on dev itself: an upper bound for the same probe.
    Other settings go to `train_probe`.
    """
    return _score(train_probe(kind, train, epochs, seed, **settings), dev)


def train_probe(
    kind: str, train: Sequence[Document], epochs: int = 8, seed: int = 0, lr: float = 3e-3, batch_size: int = 4
) -> Probe:
    """A probe trained on the pairs of `Document.pairs()`. Raises ValueError if there is no such kind."""
    if kind not in KINDS:
        raise ValueError(f"no probe {kind!r}; have {list(KINDS)}")
    torch.manual_seed(seed)
    types = sorted({entity.type for document in train for entity in document.entities})
    relations = Relations.of(train)
    data = [encode(document, types, relations, kind) for document in train]
    probe = Probe(kind, types, relations, features=data[0][0].shape[-1])
    steps = epochs * math.ceil(len(data) / batch_size)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.06)
    for _ in range(epochs):
        order = torch.randperm(len(data)).tolist()
        for start in range(0, len(order), batch_size):
            features, labels, mask, sides = pad([data[i] for i in order[start : start + batch_size]])
            loss = adaptive_threshold_loss(probe(features, sides)[mask], labels[mask]).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return probe.eval()


def encode(
    document: Document, types: Sequence[str], relations: Relations, kind: str
) -> tuple[Float[Tensor, "N N F"], Bool[Tensor, "N N R"], Bool[Tensor, "N N"]]:
    """The features that a probe of that kind sees of every pair, the labels, and the mask of the pairs to classify."""
    n = len(document.entities)
    labels = torch.zeros(n, n, len(relations), dtype=torch.bool)
    for triple in document.triples:
        if triple.relation in relations:
            labels[triple.head, triple.tail, relations.index(triple.relation)] = True
    mask = torch.zeros(n, n, dtype=torch.bool)
    for pair in document.pairs():
        mask[pair] = True
    if kind == "count":
        return torch.tensor([1.0, n / LARGEST]).expand(n, n, 2), labels, mask
    positions = kind != "type"
    rows = [_entity_features(document, e, types, positions) for e in range(n)]
    entity = torch.tensor(rows, dtype=torch.float)
    parts = [entity[:, None].expand(n, n, -1), entity[None].expand(n, n, -1)]
    if positions:
        places = [_places(document, e) for e in range(n)]
        together = [
            sum(sentence in e.sentences for e in document.entities) for sentence in range(len(document.sentences))
        ]
        parts.append(
            torch.tensor([[_pair_features(document, h, t, places, together) for t in range(n)] for h in range(n)])
        )
    return torch.cat(parts, -1), labels, mask


def _entity_features(document: Document, number: int, types: Sequence[str], positions: bool) -> list[float]:
    entity = document.entities[number]
    row = [float(entity.type == name) for name in types]
    if positions:
        n, sentences = len(document.entities), len(document.sentences)
        mentions, first = len(entity.mentions), entity.mentions[0]
        row += [number / n, float(number == 0), min(mentions, 6) / 3, float(mentions == 1), len(entity.sentences) / 3]
        row += [first.sentence / sentences, float(first.start == 0), float(first.end - first.start) / 3]
    return row


def _places(document: Document, number: int) -> list[tuple[int, int, int]]:
    """(sentence, word of the sentence, word of the document) of every mention."""
    offset = [0]
    for sentence in document.sentences:
        offset.append(offset[-1] + len(sentence))
    return [(m.sentence, m.start, offset[m.sentence] + m.start) for m in document.entities[number].mentions]


def _pair_features(document, head: int, tail: int, places, together) -> list[float]:
    if head == tail:
        return [0.0] * 21
    pairs = [(abs(a[2] - b[2]), a, b) for a in places[head] for b in places[tail]]
    distance, a, b = min(pairs)
    sentences = min(abs(x[0] - y[0]) for _, x, y in pairs)
    shared = len({x[0] for _, x, y in pairs if x[0] == y[0]})
    low, high = sorted((a[2], b[2]))
    between = sum(low < place[2] < high for e, rows in enumerate(places) if e not in (head, tail) for place in rows)
    starts = [min(y[1] for e in places for y in e if y[0] == x[0]) for x in (a, b)]
    return [
        float(sentences == 0),
        *(float(sentences == k) for k in (1, 2)),
        math.log1p(sentences),
        math.log1p(distance) / 3,
        *(float(low < distance <= high) for low, high in ((0, 4), (4, 6), (6, 8), (8, 12), (12, 20))),
        float(a[2] < b[2]),
        float(between == 0),
        float(between == 1) * float(sentences == 0),
        min(between, 6) / 3,
        min(shared, 3) / 2,
        float(a[1] == starts[0]),
        float(b[1] == starts[1]),
        together[a[0]] / 4,
        float(together[a[0]] == 2) * float(sentences == 0),
        a[0] / len(document.sentences),
        float(b[0] > a[0]),
    ]


def pad(items: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor, Int[Tensor, "B"]]:
    """Documents of different sizes as one batch: features, labels, mask, and the number of entities of each."""
    sides = torch.tensor([len(mask) for *_, mask in items])
    n = int(sides.max())
    padded = []
    for tensors in zip(*items, strict=True):
        batch = tensors[0].new_zeros(len(tensors), n, n, *tensors[0].shape[2:])
        for row, tensor in zip(batch, tensors, strict=True):
            row[: tensor.shape[0], : tensor.shape[1]] = tensor
        padded.append(batch)
    return *padded, sides


class Probe(nn.Module):
    """A two-layer perceptron on every pair, a module over all pairs for some kinds, then a classifier."""

    def __init__(self, kind: str, types: Sequence[str], relations: Relations, features: int):
        super().__init__()
        self.kind, self.types, self.relations = kind, types, relations
        self.enter = nn.Sequential(nn.Linear(features, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.layers = nn.ModuleList(InferenceLayer(WIDTH, 2 * WIDTH) for _ in range(2 if kind == "imsa" else 0))
        self.unet = UNet(WIDTH, WIDTH, UNET_WIDTH) if kind in ("unet", "count") else None
        self.leave = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU())
        self.classify = nn.Linear(2 * WIDTH, len(relations))

    def forward(self, features: Float[Tensor, "B N N F"], sides: Int[Tensor, "B"]) -> Float[Tensor, "B N N R"]:
        cells = self.enter(features)
        n = cells.shape[1]
        legs = inside(sides, n)[:, 0] & ~torch.eye(n, dtype=torch.bool)
        for layer in self.layers:
            cells, _ = layer(cells, legs)
        if self.unet is not None:
            cells = cells + self.unet(cells.movedim(-1, 1), sides).movedim(1, -1)
        return self.classify(self.leave(cells))

    @torch.no_grad()
    def margins(self, document: Document) -> Float[Tensor, "P R"]:
        """By how much each relation exceeds the threshold class, for every pair of `document.pairs()`; without NA."""
        features, _, mask, sides = pad([encode(document, self.types, self.relations, self.kind)])
        logits = self(features, sides)[mask]
        return logits[:, 1:] - logits[:, :1]


def _score(probe: Probe, dev: Sequence[Document]) -> dict[str, float]:
    relations = probe.relations
    margins, golds, derived = [], [], []
    for document in dev:
        _, labels, mask = encode(document, probe.types, relations, "count")  # the cheapest: features are not needed
        composed = torch.zeros_like(labels)
        for triple in document.triples:
            if triple.depth and triple.relation in relations:
                composed[triple.head, triple.tail, relations.index(triple.relation)] = True
        margins.append(probe.margins(document).flatten())
        golds.append(labels[mask][:, 1:].flatten())
        derived.append(composed[mask][:, 1:].flatten())
    margin, gold, composed = torch.cat(margins), torch.cat(golds), torch.cat(derived)
    unseen = sum(triple.relation not in relations for document in dev for triple in document.triples)
    chosen = margin > 0
    precision, recall, f1 = _prf(int((chosen & gold).sum()), int(chosen.sum()), int(gold.sum()) + unseen)
    counted = chosen & ~(gold & ~composed)
    *_, infer_f1 = _prf(int((counted & composed).sum()), int(counted.sum()), int(composed.sum()))
    hits = gold[margin.argsort(descending=True)].cumsum(0)
    best = (2 * hits / (torch.arange(1, len(hits) + 1) + int(gold.sum()) + unseen)).max()
    return {
        "f1": f1,
        "infer_f1": infer_f1,
        "precision": precision,
        "recall": recall,
        "best_f1": float(best),
    }


def _prf(correct: int, predicted: int, gold: int) -> tuple[float, float, float]:
    precision, recall = correct / max(predicted, 1), correct / max(gold, 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)
