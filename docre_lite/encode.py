"""From documents to tensors: markers around mentions, sub-words, windows, and a padded `Batch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import PreTrainedTokenizerFast

from .support import DataError
from .support.settings import Count, option, settings
from .types import Batch, Document, Relations

STAR = "*"
NUMBERS = 64  # so many entities get a closing marker of their own; all others share the last one


@settings
class Reading:
    """How text becomes tokens and mentions become vectors: the part of a model that all papers share."""

    marker: Literal["star", "type", "type_id", "none"] = option(
        "star",
        "marker around each mention: '*' (ATLOP section 3.1), its entity type as new tokens, the type before it and "
        "the entity's number after it (DRE-MIR section 2.1), or none",
    )
    read: Literal["start", "both", "span"] = option(
        "start", "a mention's vector: that of its start marker, the mean of both markers, or the mean of its span"
    )
    pool: Literal["lse", "mean"] = option("lse", "how mentions form an entity: log-sum-exp, ATLOP (2), or mean")
    context: Literal["sum", "softmax", "off"] = option(
        "sum",
        "localized context: attention products divided by their sum (ATLOP section 5), their softmax, or none",
    )
    attention_dropout: bool = option(
        False, "apply dropout to attention rows in training, as the published code does (it pools context after it)"
    )
    window: Count = option(512, "tokens the encoder reads at once; longer documents are read in overlapping windows")
    stride: Count = option(384, "tokens from one window to the next in documents longer than two windows")
    max_tokens: Count | None = option(None, "cut documents after this many tokens (published code: 1024); none = never")

    def __post_init__(self):
        if not 0 < self.stride <= self.window - 2:
            raise ValueError(
                f"stride={self.stride} with window={self.window}: the windows would leave gaps; choose a stride "
                "from 1 to window - 2 (each window has its own [CLS] and [SEP])"
            )
        if self.max_tokens is not None and self.max_tokens < 3:
            raise ValueError(f"max_tokens={self.max_tokens} leaves no text beside [CLS] and [SEP]; give 3 or more")


@dataclass(frozen=True)
class Tokens:
    """A document in sub-words. Columns count from its [CLS]; -1 marks a mention that was cut off."""

    document: Document
    ids: list[int]
    sentence: list[int]
    word: list[int]  # index among the document's words, across sentences; -1 for markers and special tokens
    start: list[int]
    end: list[int]
    entity: list[int]


def marker_words(marker: str, kind: str, entity: int) -> tuple[str, str]:
    """The words before and after a mention of type `kind` that belongs to entity number `entity`, counted from 0."""
    number = f"[E{min(entity + 1, NUMBERS)}]"
    return {"star": (STAR, STAR), "type": (f"[{kind}]", f"[/{kind}]"), "type_id": (f"[{kind}]", number)}[marker]


@dataclass
class Tokenizer:
    """Turns documents into batches: a sub-word tokenizer that knows the relations, the entity types and the markers.

    `pairs` are the types of head and tail of the pairs to classify, where a document does not name its candidates;
    `None` means all pairs.
    """

    subwords: PreTrainedTokenizerFast
    relations: Relations
    types: tuple[str, ...]
    reading: Reading = field(default_factory=Reading)
    pairs: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self):
        if self.reading.marker in ("type", "type_id"):
            numbers = NUMBERS if self.reading.marker == "type_id" else 1
            pairs = [marker_words(self.reading.marker, kind, i) for kind in self.types for i in range(numbers)]
            starts, ends = zip(*pairs, strict=True) if pairs else ((), ())
            self.subwords.add_tokens(list(dict.fromkeys(starts + ends)), special_tokens=True)
        needed = {"[CLS]": self.subwords.cls_token_id, "[SEP]": self.subwords.sep_token_id}
        if missing := [name for name, value in needed.items() if value is None]:
            raise ValueError(f"the encoder's tokenizer lacks {', '.join(missing)}; choose an encoder that has both")
        self._pad = self.subwords.pad_token_id or 0

    def encode(self, documents: Sequence[Document]) -> list[Tokens]:
        """Adds markers, then splits into sub-words. Start markers precede a word and end markers follow it, nested
        mentions included."""
        if not documents:
            return []
        if self.pairs is not None:
            documents = [d.restricted(self.pairs) if d.candidates is None else d for d in documents]
        marked = [self._mark(document) for document in documents]
        encoded = self.subwords(
            [words or [""] for words, *_ in marked],
            is_split_into_words=True,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [
            self._locate(document, encoded["input_ids"][i], encoded.word_ids(i), *mark)
            for i, (document, mark) in enumerate(zip(documents, marked, strict=True))
        ]

    def _mark(
        self,
        document: Document,
    ) -> tuple[list[str], list[int], list[int], list[tuple[int, int, int]]]:
        """The words with markers, each one's sentence and index (-1: a marker), and of each mention
        (first, last, entity).

        Each span gets one pair of markers, even if two entities share it; longer spans open first
        and close last. So brackets never cross, and only the numbers of "type_id" depend on the
        order of entities.
        """
        mentions = [(m, i) for i, entity in enumerate(document.entities) for m in entity.mentions]
        spans: dict[tuple[int, int, int], list[tuple[str, int]]] = {}
        for m, i in mentions:
            spans.setdefault((m.sentence, m.start, m.end), []).append((m.type, i))
        opening: dict[tuple[int, int], list] = {}
        closing: dict[tuple[int, int], list] = {}
        longest_first = sorted(spans, key=lambda span: span[1] - span[2])
        for sentence, start, end in longest_first:
            opening.setdefault((sentence, start), []).append((sentence, start, end))
            closing.setdefault((sentence, end - 1), []).insert(0, (sentence, start, end))
        words, sentences, places = [], [], []
        first: dict[tuple[int, int, int], int] = {}
        last: dict[tuple[int, int, int], int] = {}
        bare, count = self.reading.marker == "none", -1

        def around(span) -> tuple[str, str]:
            kinds, numbers = zip(*spans[span], strict=True)
            return marker_words(self.reading.marker, min(kinds), min(numbers))

        for s, sentence in enumerate(document.sentences):
            for w, word in enumerate(sentence):
                for span in opening.get((s, w), ()):
                    first[span] = len(words)
                    words += [] if bare else [around(span)[0]]
                places += [-1] * (len(words) - len(places)) + [count := count + 1]
                words.append(word)
                for span in closing.get((s, w), ()):
                    last[span] = len(words) - bare
                    words += [] if bare else [around(span)[1]]
            sentences += [s] * (len(words) - len(sentences))
        places += [-1] * (len(words) - len(places))
        spans_of = [((m.sentence, m.start, m.end), i) for m, i in mentions]
        return words, sentences, places, [(first[span], last[span], i) for span, i in spans_of]

    def _locate(self, document, ids, word_ids, words, sentences, places, mentions) -> Tokens:
        limit = len(ids) if self.reading.max_tokens is None else max(self.reading.max_tokens - 2, 1)
        ids, word_ids = ids[:limit], word_ids[:limit]
        first_piece: dict[int, int] = {}
        last_piece: dict[int, int] = {}
        for column, word in enumerate(word_ids, start=1):  # column 0 is [CLS]
            first_piece.setdefault(word, column)
            last_piece[word] = column
        # a mention may begin with words that yield no sub-word, such as a zero-width space
        start = [
            next((first_piece[w] for w in range(first, last + 1) if w in first_piece), -1)
            for first, last, _ in mentions
        ]
        end = []
        for (first, last, _), begin in zip(mentions, start, strict=True):
            # a span ends where the text is cut; an end marker that is cut off is replaced by the start marker
            ends = range(last, first - 1, -1) if self.reading.read == "span" else (last,)
            end.append(next((last_piece[w] for w in ends if w in last_piece), begin))
        sentence = [-1, *(sentences[word] if sentences else -1 for word in word_ids), -1]
        place = [-1, *(places[word] if places else -1 for word in word_ids), -1]
        ids = [self.subwords.cls_token_id, *ids, self.subwords.sep_token_id]
        return Tokens(document, ids, sentence, place, start, end, [i for *_, i in mentions])

    def check(self, documents: Sequence[Document]) -> None:
        """Raises DataError if the model lacks the relation of a triple: better now than after an epoch."""
        for document in documents:
            for triple in document.triples:
                if triple.relation not in self.relations:
                    known = ", ".join(self.relations.names[1:6])
                    raise DataError(
                        f'document "{document.title}": relation {triple.relation!r} is not among the model\'s '
                        f"{len(self.relations) - 1} ({known}, …); add it to the relation map"
                    )

    def collate(self, encoded: Sequence[Tokens], labels: bool = True) -> Batch:
        """Documents padded to the batch's largest length, mention and entity counts; long ones split into windows."""
        windows, masks, owners, columns = [], [], [], []
        for b, tokens in enumerate(encoded):
            for ids, column in _windows(tokens.ids, self.reading.window, self.reading.stride):
                windows.append(ids)
                masks.append([True] * len(ids))
                owners.append(b)
                columns.append(column)
        entity = [
            [i if at >= 0 else -1 for i, at in zip(tokens.entity, tokens.start, strict=True)] for tokens in encoded
        ]
        return Batch(
            windows=_pad(windows, self._pad),
            window_mask=_pad(masks, False),
            window_document=torch.tensor(owners),
            column=_pad(columns, -1),
            token_mask=_pad([[True] * len(tokens.ids) for tokens in encoded], False),
            token_sentence=_pad([tokens.sentence for tokens in encoded], -1),
            mention_start=_pad([tokens.start for tokens in encoded], -1),
            mention_end=_pad([tokens.end for tokens in encoded], -1),
            mention_entity=_pad(entity, -1),
            **pair_fields([tokens.document for tokens in encoded], self.types, self.relations, labels),
        )


def _windows(ids: list[int], size: int, stride: int) -> Iterator[tuple[list[int], list[int]]]:
    """Windows of at most `size` tokens with their columns, each with its own [CLS] and [SEP]."""
    length = len(ids)
    if length <= size:
        yield ids, list(range(length))
        return
    inner = size - 2
    last = length - size + 1  # first column of the last window, after its own [CLS]
    if last <= size - 1:  # two windows cover the text: the first tokens and the last ones
        starts = [1, last]
    else:
        starts = [*range(1, last, stride), last]
    for begin in starts:
        piece = range(begin, begin + inner)
        first = 0 if begin == 1 else -1
        final = length - 1 if begin == last else -1
        yield [ids[0], *(ids[c] for c in piece), ids[-1]], [first, *piece, final]


def typed_pairs(documents: Sequence[Document]) -> tuple[tuple[str, str], ...] | None:
    """The types of head and tail among the candidates, if every document with a pair names its candidates."""
    several = [document for document in documents if len(document.entities) > 1]
    if not several or any(document.candidates is None for document in several):
        return None
    return tuple(sorted({(d.entities[h].type, d.entities[t].type) for d in several for h, t in d.candidates}))


def pair_fields(
    documents: list[Document],
    types: Sequence[str],
    relations: Relations,
    labels: bool,
) -> dict:
    """The fields of a batch that have an entity axis."""
    size = max(1, *(len(document.entities) for document in documents), 1)
    kinds = {kind: i for i, kind in enumerate(types, start=1)}
    unknown = len(kinds) + 1
    entity_type = torch.zeros(len(documents), size, dtype=torch.long)
    same = torch.zeros(len(documents), size, size, dtype=torch.bool)
    mask = torch.zeros_like(same)
    target = torch.zeros(*same.shape, len(relations), dtype=torch.bool) if labels else None
    for b, document in enumerate(documents):
        n = len(document.entities)
        codes = [kinds.get(e.type, unknown) for e in document.entities]
        entity_type[b, :n] = torch.tensor(codes, dtype=torch.long)
        stands = torch.zeros(n, max(1, len(document.sentences)))
        for i, entity in enumerate(document.entities):
            stands[i, list(entity.sentences)] = 1
        same[b, :n, :n] = stands @ stands.T > 0
        if document.candidates is None:
            mask[b, :n, :n] = ~torch.eye(n, dtype=torch.bool)
        elif document.candidates:
            head, tail = zip(*document.candidates, strict=True)
            mask[b, list(head), list(tail)] = True
        if target is not None:
            for t in document.triples:
                if t.relation in relations:  # others cannot be learnt; `check` reports them
                    target[b, t.head, t.tail, relations.index(t.relation)] = True
    if target is not None:
        target[..., 0] = mask & ~target.any(-1)
    return {
        "entity_type": entity_type,
        "same_sentence": same,
        "mask": mask,
        "labels": target,
        "documents": documents,
    }


def _pad(rows: list[list], value) -> torch.Tensor:
    """Rows of different lengths as one tensor, at least one column wide."""
    width = max(1, *(len(row) for row in rows), 1)
    return torch.tensor(
        [row + [value] * (width - len(row)) for row in rows],
        dtype=torch.bool if isinstance(value, bool) else torch.long,
    )
