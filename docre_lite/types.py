"""The records that flow through the package, from a document to its predicted triples.

`Document → Batch → PairFeatures → Prediction → triples → Scores` (`Scores` lives in `evaluate`).

Axes, in code and book alike: B documents, N entities, M mentions, L tokens of a document,
W windows and T tokens of a window (W = B and T = L unless a document exceeds the encoder's length),
S sentences, D hidden units, R relations (0 = NA and threshold), A attention heads.
*Head* always means the head entity of a pair; a module that outputs logits is a classifier.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear

from .ops import mapped_context, pool_context

Whole = int | np.integer
NA = "NA"  # the class of unrelated pairs, always index 0


@dataclass(frozen=True, slots=True)
class Mention:
    """A span of words that refers to an entity: words `[start, end)` of sentence `sentence`."""

    name: str
    sentence: Whole
    start: Whole
    end: Whole
    type: str


@dataclass(frozen=True, slots=True)
class Entity:
    """A set of mentions of one thing, in reading order. `id` is a knowledge-base id if the data gives one."""

    mentions: tuple[Mention, ...]
    id: str | None = None

    @property
    def name(self) -> str:
        return self.mentions[0].name

    @property
    def type(self) -> str:
        return self.mentions[0].type

    @property
    def names(self) -> frozenset[str]:
        return frozenset(m.name for m in self.mentions)

    @property
    def sentences(self) -> frozenset[int]:
        return frozenset(m.sentence for m in self.mentions)


@dataclass(frozen=True, slots=True, order=True)
class Triple:
    """A fact of one document: `relation` holds from entity `head` to entity `tail` (positions in `Document.entities`).

    Two triples are equal if title, head, relation and tail are equal; the other fields describe the fact.
    `score` is the margin by which a model chose it. `premises` and `depth` are known for the embedded
    corpus only: the facts (head, relation, tail) that a rule composed it from, and the number of composition
    steps (0 = stated in the text).
    """

    title: str
    head: Whole
    relation: str
    tail: Whole
    evidence: tuple[Whole, ...] = field(default=(), compare=False)
    score: float | np.floating | None = field(default=None, compare=False)
    premises: tuple[tuple[int, str, int], ...] = field(default=(), compare=False)
    depth: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Document:
    """Sentences of words, the entities in order of first mention, and the gold triples.

    `candidates` restricts the pairs to classify (CDR: chemical → disease only); `None` means all ordered
    pairs of different entities. `variant_of` names the original of a counterfactual document of the
    embedded corpus. `order[i]` is the number of entity i in the file that the document was read from;
    `None` means that the file numbers the entities in the same order.
    """

    title: str
    sentences: tuple[tuple[str, ...], ...]
    entities: tuple[Entity, ...]
    triples: tuple[Triple, ...] = ()
    candidates: frozenset[tuple[int, int]] | None = None
    variant_of: str | None = None
    order: tuple[int, ...] | None = None

    @property
    def words(self) -> int:
        return sum(map(len, self.sentences))

    def pairs(self) -> list[tuple[int, int]]:
        """Every ordered pair (head, tail) to classify."""
        n = len(self.entities)
        if self.candidates is not None:
            return sorted(self.candidates)
        return [(h, t) for h in range(n) for t in range(n) if h != t]

    @property
    def pair_count(self) -> int:
        """The number of `pairs`, without a list of them."""
        n = len(self.entities)
        return n * (n - 1) if self.candidates is None else len(self.candidates)

    def restricted(self, types: Collection[tuple[str, str]]) -> Document:
        """The document with the pairs of these types as candidates: (head's, tail's), as in ("Chemical", "Disease")."""
        kinds = [entity.type for entity in self.entities]
        allowed = {(h, t) for h, a in enumerate(kinds) for t, b in enumerate(kinds) if h != t and (a, b) in types}
        return replace(self, candidates=frozenset(allowed))

    def permuted(self, order: Sequence[int]) -> Document:
        """The same document with its entities in another order: new entity k is old entity `order[k]`.

        Raises ValueError if `order` is not a permutation of the entities.
        """
        if sorted(order) != list(range(len(self.entities))):
            raise ValueError(f"{self.title}: {list(order)} is not an order of entities 0 to {len(self.entities) - 1}")
        new = {old: k for k, old in enumerate(order)}
        was = self.order or range(len(self.entities))
        premises = {t: tuple((new[h], r, new[o]) for h, r, o in t.premises) for t in self.triples}
        return replace(
            self,
            entities=tuple(self.entities[i] for i in order),
            triples=tuple(replace(t, head=new[t.head], tail=new[t.tail], premises=premises[t]) for t in self.triples),
            candidates=self.candidates and frozenset((new[h], new[t]) for h, t in self.candidates),
            order=tuple(was[i] for i in order),
        )

    def same_sentence(self, head: int, tail: int) -> bool:
        """Does any sentence mention both the head and the tail (an intra pair)?"""
        return not self.entities[head].sentences.isdisjoint(self.entities[tail].sentences)


@dataclass(frozen=True)
class Relations:
    """The classes of a task, NA first, and a readable label for each if the data gives one."""

    names: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if not self.names or self.names[0] != NA:
            raise ValueError(f"relation 0 must be {NA!r} (unrelated), not {self.names[:1]}; put it first")
        if len(set(self.names)) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise ValueError(f"relations named twice: {twice}; list each class once")
        object.__setattr__(self, "_index", {name: i for i, name in enumerate(self.names)})

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def index(self, name: str) -> int:
        return self._index[name]

    def label(self, name: str) -> str:
        return self.labels.get(name, name)

    @classmethod
    def of(cls, documents: Iterable[Document], labels: Mapping[str, str] | None = None) -> Relations:
        """The relations that occur in the documents' triples, the most frequent first, after NA."""
        count: dict[str, int] = {}
        for document in documents:
            for triple in document.triples:
                count[triple.relation] = count.get(triple.relation, 0) + 1
        return cls((NA, *sorted(count, key=lambda name: (-count[name], name))), dict(labels or {}))


@dataclass
class Batch:
    """Documents as tensors. Those too long for the encoder are cut into overlapping windows.

    `column[w, t]` is the position of a window's token among the L tokens of its document, or -1
    for padding and for a [CLS] or [SEP] that belongs to the window alone. A mention that was
    cut off has `mention_start` -1; so does padding, where `mention_entity` is -1 too.
    `labels[..., 0]` is true for valid pairs without a relation.
    """

    windows: Int[Tensor, "W T"]
    window_mask: Bool[Tensor, "W T"]
    window_document: Int[Tensor, "W"]
    column: Int[Tensor, "W T"]
    token_mask: Bool[Tensor, "B L"]
    token_sentence: Int[Tensor, "B L"]  # -1 for special tokens and padding
    mention_start: Int[Tensor, "B M"]  # column of its start marker, or of its first sub-word
    mention_end: Int[Tensor, "B M"]  # column of its end marker, or of its last sub-word
    mention_entity: Int[Tensor, "B M"]
    entity_type: Int[Tensor, "B N"]  # 0 on padding, types from 1
    same_sentence: Bool[Tensor, "B N N"]
    mask: Bool[Tensor, "B N N"]  # the pairs to classify
    labels: Bool[Tensor, "B N N R"] | None
    documents: Sequence[Document]

    @property
    def device(self) -> torch.device:
        return self.windows.device

    @property
    def entity_mask(self) -> Bool[Tensor, "B N"]:
        return self.entity_type > 0

    @property
    def sides(self) -> Int[Tensor, "B"]:
        """Entities of each document: the side of its own part of the N × N matrix."""
        return self.entity_mask.sum(1)

    def to(self, device) -> Batch:
        moved = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


@dataclass
class PairFeatures:
    """Everything a paper may look at: what the shared encoder and pooling computed for a batch.

    `attention[b, s, o]` is the pair's attention over the document's tokens (it sums to 1 if the pair
    has any and is zero otherwise), and `context` is the tokens pooled with it; both are symmetric in s and o.
    Both are `None` if the features were built without context. A paper that maps the context linearly calls
    `mapped_context`, which may not need the context itself.
    """

    document: Float[Tensor, "B D"]
    entities: Float[Tensor, "B N D"]
    attention: Float[Tensor, "B N N L"] | None
    tokens: Float[Tensor, "B L D"]
    mask: Bool[Tensor, "B N N"]
    batch: Batch
    pooled: Float[Tensor, "B N N D"] | None = None  # the context, once computed

    @property
    def context(self) -> Float[Tensor, "B N N D"] | None:
        if self.pooled is None and self.attention is not None:
            self.pooled = pool_context(self.attention, self.tokens)
        return self.pooled

    def mapped_context(self, matrix: Float[Tensor, "O D"]) -> Float[Tensor, "B N N O"]:
        """`matrix` times the context of each pair."""
        if self.pooled is not None:
            return linear(self.pooled, matrix)
        return mapped_context(self.attention, self.tokens, matrix)


@dataclass
class Prediction:
    """A paper's answer for every pair. `losses` is empty without labels; `trace` holds what pictures need."""

    logits: Float[Tensor, "B N N R"]
    chosen: Bool[Tensor, "B N N R"]
    margin: Float[Tensor, "B N N R"]  # score above the decision threshold, in logits
    losses: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    trace: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Float[Tensor, ""]:
        return sum(self.losses.values())


def fingerprint(documents: Sequence[Document]) -> str:
    """A checksum of everything that training and scoring look at."""
    digest = sha256()
    for d in documents:
        facts = [(t.head, t.relation, t.tail) for t in d.triples]
        mentions = [[astuple(m) for m in e.mentions] for e in d.entities]
        candidates = None if d.candidates is None else sorted(d.candidates)
        digest.update(json.dumps([d.title, d.sentences, mentions, facts, candidates], ensure_ascii=False).encode())
    return digest.hexdigest()
