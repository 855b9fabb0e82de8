"""Encoders: token vectors of whole documents, and the last layer's attention, but only the rows that are needed.

`PretrainedEncoder` wraps any transformer whose attention can be read; `TinyEncoder` is small enough to train from
scratch on a laptop. Both run every layer with fused attention if they can, and rebuild the few rows at mentions: a
full set of maps costs hundreds of times the memory.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer as WordTokenizer
from tokenizers import models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    PreTrainedTokenizerFast,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .encode import STAR
from .ops import drop, exporting, full_precision
from .support import sizes
from .support.attention import fused_rows, kind_of, map_rows, masked, note, watched
from .support.settings import Count, Part, option, settings
from .support.store import differs, read_json, write_over
from .support.subwords import check_fits, read_subwords
from .types import Batch, Document

Rows = Callable[[Int[Tensor, "W P"]], Float[Tensor, "W A P T"]]


def shares(scores: Float[Tensor, "W A P T"], mask: Bool[Tensor, "W T"]) -> Float[Tensor, "W A P T"]:
    """Attention from its scores, with none on padding; never in fp16, see `ops.of_attention`."""
    found = full_precision(scores).masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
    return found if scores.dtype == torch.float16 else found.to(scores.dtype)


class Encoder(nn.Module):
    """Reads windows and reassembles documents. Subclasses define how to read one window."""

    file: ClassVar[str]  # the file that `save` writes and `from_folder` reads
    table: str  # the name of its embedding among its weights
    width: int
    heads: int
    longest: int  # tokens of one window at most
    source: str | None = None  # the hub name, or the name of the folder, that the weights came from at first

    def read_windows(
        self, ids: Int[Tensor, "W T"], mask: Bool[Tensor, "W T"], rows: bool = True
    ) -> tuple[Float[Tensor, "W T D"], Rows]:
        """Token vectors, and a function that gives the last layer's attention from places [W, P] of the windows."""
        raise NotImplementedError

    def forward(
        self, batch: Batch, positions: Int[Tensor, "B P"] | None = None
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B A P L"] | None]:
        """Token vectors of each document, and the attention rows *from* the given columns (zero rows for -1).

        Tokens in several windows are averaged; rows are averaged if both windows contain a column, then
        renormalised.
        """
        hidden, rows_from = self.read_windows(batch.windows, batch.window_mask, positions is not None)
        whole = batch.windows.shape[0] == batch.token_mask.shape[0]  # True: no document is longer than a window
        tokens = hidden if whole else self._join(hidden, batch)
        if positions is None:
            return tokens, None
        local, present = self._locate(positions, batch)
        rows = rows_from(local) * present[:, None, :, None]
        return tokens, rows if whole else self._join_rows(rows, present, batch)

    def _locate(self, positions: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The places of document columns within each window, and whether the window contains them."""
        wanted = positions[batch.window_document]
        # A window is contiguous: its second token fixes the offset of all (the first may be a [CLS] of its own).
        local = (wanted - (batch.column[:, 1:2] - 1)).clamp(0, batch.column.shape[1] - 1)
        return local, (batch.column.gather(1, local) == wanted) & (wanted >= 0)

    def _join(self, hidden: Tensor, batch: Batch) -> Tensor:
        return self._scatter(hidden, batch) / self._scatter(torch.ones_like(hidden[..., :1]), batch).clamp_min(1)

    def _join_rows(self, rows: Tensor, present: Tensor, batch: Batch) -> Tensor:
        windows, heads, positions, length = rows.shape
        flat = self._scatter(rows.permute(0, 3, 1, 2).reshape(windows, length, heads * positions), batch)
        seen = self._scatter(present[:, None].expand(-1, length, -1).to(rows.dtype), batch).clamp_min(1)
        flat = full_precision(flat.view(*flat.shape[:2], heads, positions)) / seen.unsqueeze(2)
        return (flat / flat.sum(1, keepdim=True).clamp_min(1e-10)).to(rows.dtype).permute(0, 2, 3, 1)

    def _scatter(self, values: Tensor, batch: Batch) -> Tensor:
        """Sums window tokens [W, T, X] into document columns [B, L, X]."""
        documents, length = batch.token_mask.shape
        at = batch.window_document.unsqueeze(1) * length + batch.column
        at = torch.where(batch.column >= 0, at, documents * length)  # tokens without a column: a row that is dropped
        total = values.new_zeros(documents * length + 1, values.shape[-1])
        total = total.index_add(0, at.flatten(), values.flatten(0, 1))
        return total[:-1].view(documents, length, -1)


class PretrainedEncoder(Encoder):
    """A transformer from the hub or a folder whose attention can be read, see `support.attention`.

    Layers run with fused (SDPA) attention wherever the library allows it.
    """

    file = "config.json"

    def __init__(self, model: nn.Module):
        super().__init__()
        self.kind = kind_of(model.config)
        self.width, self.heads, self.longest = self.kind.width, self.kind.heads, self.kind.longest
        for part in list(model.modules()):
            for name, child in part.named_children():
                if type(child) is nn.Dropout:
                    setattr(part, name, Dropout(child.p).train(child.training))
        model.set_attn_implementation("docre_lite" if self.kind.way == "fused" else "eager")
        self.model = model
        self.table = next(f"model.{n}.weight" for n, m in model.named_modules() if m is model.get_input_embeddings())

    def read_windows(self, ids, mask, rows=True):
        if self.kind.way == "fused":
            with watched() as seen:
                hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            return hidden, lambda local: shares(fused_rows(seen, local), mask)
        out = self.model(input_ids=ids, attention_mask=mask.long(), output_attentions=rows)
        return out.last_hidden_state, lambda local: map_rows(out.attentions[-1], local, self.kind.way)

    def resize(self, vocabulary: int) -> None:
        if vocabulary > self.model.get_input_embeddings().num_embeddings:
            self.model.resize_token_embeddings(vocabulary, mean_resizing=False)

    def save(self, folder: Path) -> None:
        """The architecture only; weights are saved with the whole model."""
        self.model.config.save_pretrained(folder)

    @classmethod
    def load(cls, name: str) -> tuple[PretrainedEncoder, PreTrainedTokenizerFast]:
        """Encoder and tokenizer by hub name or folder; runs none of its code and reads no pickle.

        If you trust a model that exists only as a pickle, `AutoModel.from_pretrained(name).save_pretrained(folder)`
        converts it, and `AutoTokenizer.from_pretrained(name).save_pretrained(folder)` adds its tokenizer.
        Raises ValueError, with a remedy, if it is damaged, something else, or out of reach.
        """
        try:
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
            if fault := sizes.too_large(config, Path(name)):
                raise ValueError(fault)
            how = _how(config)
            subwords = read_subwords(name)
            with sizes.reported_by_us():
                model, info = AutoModel.from_pretrained(
                    name, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **how
                )
            check_fits(subwords, model.get_input_embeddings().num_embeddings)
        except MemoryError:
            raise
        except Exception as error:  # tokenizers raises a bare one; configurations that lie make the library raise any
            torn = not isinstance(error, OSError | ValueError) or isinstance(error, json.JSONDecodeError)
            why = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:200].rstrip(".: ")
            if isinstance(error, OSError | ValueError):
                why = str(error).partition("\n")[0].rstrip(".: ")
            raise _refused(name, f"a file is cut short or damaged, {why}" if torn else why) from None
        if other := sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}):
            raise _refused(name, f"its weights do not match its config.json, such as {other[0]}")
        if odd := next((key for key, weight in model.state_dict().items() if not weight.isfinite().all()), None):
            raise _refused(name, f"its weights are not finite numbers, such as {odd}")
        encoder = cls(model)
        encoder.source = Path(name).name if Path(name).is_dir() else name  # a path is nobody else's business
        return encoder, subwords

    @classmethod
    def unlike(cls, folder: Path, weights: Mapping[str, Tensor]) -> str | None:
        """As in `TinyEncoder`."""
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if fault := sizes.too_deep(config, len(weights)):
            return fault
        return differs(sizes.weightless(config).state_dict(prefix="model."), weights)

    @classmethod
    def from_folder(cls, folder: Path) -> PretrainedEncoder:
        """The architecture of a saved model, without its weights."""
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return cls(AutoModel.from_config(config, **_how(config)))


class Dropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return drop(input, self.p) if self.training and self.p else input


def attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **more):
    """The library's SDPA; when training on a CPU, where no fused form has dropout, a form with our own dropout."""
    note(query, key, attention_mask, scaling)
    if not dropout or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = masked(scores, attention_mask)
    weights = drop(scores.softmax(-1).to(value.dtype), dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register("docre_lite", attention)
AttentionMaskInterface.register("docre_lite", sdpa_mask)


def _how(config) -> dict:
    """Arguments for creating a model of the library, after a small one of its kind was read.

    Rejects unreadable models before any weight is loaded.
    """
    kind_of(config)
    return sizes.plain(config)


def _refused(name: str, why: str) -> ValueError:
    if Path(name).is_absolute() and not Path(name).exists():
        why = "there is no such folder"  # the library would treat it as a hub name
    return ValueError(
        f"encoder {name!r} could not be loaded: {why} (give 'tiny', a hub name with the network on, or a folder with "
        "config.json, tokenizer.json and model.safetensors; pickles are not read)"
    )


@settings
class TinyConfig:
    """The tiny encoder: trained from scratch, for CPUs and for the embedded corpus."""

    layers: Count = option(2, "transformer layers of the tiny encoder")
    width: Count = option(128, "hidden units of the tiny encoder")
    heads: Count = option(4, "attention heads of the tiny encoder")
    dropout: Part = option(0.1, "dropout of the tiny encoder")
    min_count: Count = option(5, "occurrences in the training documents that a word needs to enter the vocabulary")

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width={self.width} is not a multiple of heads={self.heads}")


class TinyEncoder(Encoder):
    """A small pre-norm transformer with relative positions over a width-3 convolution.

    Each head's bias by distance starts as a decay with its own slope. Without that start, all attention is uniform,
    the product of two entities' attention is the same for every pair, and localized context has nothing to pool.
    """

    file, source, table = "tiny.json", "tiny", "embedding.weight"
    REACH = 64  # larger distances share one bias

    def __init__(self, vocabulary: int, config: TinyConfig):
        super().__init__()
        self.config, self.width, self.heads, self.longest = config, config.width, config.heads, 1 << 20
        self.embedding = nn.Embedding(vocabulary, config.width, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.blend = nn.Conv1d(config.width, config.width, 3, padding=1)  # word order within a phrase
        self.layers = nn.ModuleList(TinyLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        distance = torch.arange(-self.REACH, self.REACH + 1).abs()
        slopes = 0.6 * 0.5 ** torch.arange(config.heads)
        self.bias = nn.Parameter(-slopes[:, None] * distance)  # [A, 2·REACH+1], shared by the layers

    def read_windows(self, ids, mask, rows=True):
        x = self.embedding(ids) * mask.unsqueeze(-1)
        x = self.dropout(x + F.gelu(self.blend(x.transpose(1, 2)).transpose(1, 2)))
        bias = self._all_biases(ids.shape[1]).to(x.dtype)
        padding = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -torch.inf)
        for layer in self.layers:
            x, query, key = layer(x, bias, padding)
        return self.norm(x), lambda local: shares(self._scores(query, key, local), mask)

    def _scores(self, query: Tensor, key: Tensor, local: Int[Tensor, "W P"]) -> Float[Tensor, "W A P T"]:
        split = (query.shape[0], -1, self.heads, self.width // self.heads)
        picked = query.gather(1, local.unsqueeze(-1).expand(-1, -1, query.shape[-1]))
        scores = picked.view(split).transpose(1, 2) @ key.view(split).permute(0, 2, 3, 1)
        return scores / math.sqrt(split[-1]) + self._bias(local, torch.arange(scores.shape[-1], device=scores.device))

    def _bias(self, query: Int[Tensor, "W P"], key: Int[Tensor, "T"]) -> Float[Tensor, "W A P T"]:
        return self._at(key - query.unsqueeze(-1)).transpose(0, 1)

    def _all_biases(self, length: int) -> Float[Tensor, "A T T"]:
        """Biases from every token to every other: windows sliding over one line, since looking up T² places is slow."""
        if exporting():  # the windows of a graph would keep their length
            places = torch.arange(length, device=self.bias.device)
            return self._at(places - places[:, None])
        line = self._at(torch.arange(1 - length, length, device=self.bias.device))
        return line.unfold(1, length, 1).flip(1)

    def _at(self, distance: Int[Tensor, "*P"]) -> Float[Tensor, "A *P"]:
        return self.bias[:, distance.clamp(-self.REACH, self.REACH) + self.REACH]

    def resize(self, vocabulary: int) -> None:
        """Adds rows for markers that the tokenizer gained."""
        old = self.embedding
        if vocabulary > old.num_embeddings:
            self.embedding = nn.Embedding(vocabulary, old.embedding_dim, padding_idx=0)
            nn.init.normal_(self.embedding.weight, std=0.5)
            self.embedding.weight.data[: old.num_embeddings] = old.weight.data

    def save(self, folder: Path) -> None:
        spec = asdict(self.config) | {"vocabulary": self.embedding.num_embeddings}
        write_over(Path(folder, self.file), (json.dumps(spec, indent=1) + "\n").encode())

    @classmethod
    def from_folder(cls, folder: Path) -> TinyEncoder:
        spec = read_json(Path(folder, cls.file))
        return cls(spec.pop("vocabulary"), TinyConfig(**spec))

    @classmethod
    def unlike(cls, folder: Path, weights: Mapping[str, Tensor]) -> str | None:
        """Why a saved model's weights are not those of `from_folder`, found before it is built; None if they are."""
        config = TinyConfig(**{k: v for k, v in read_json(Path(folder, cls.file)).items() if k != "vocabulary"})
        if (there := _layers(weights)) != config.layers:
            return f"{there} layers, but {cls.file} has {config.layers}"
        with torch.device("meta"):
            return differs(cls.from_folder(folder).state_dict(), weights)


def _layers(weights: Iterable[str]) -> int:
    """Layers of the tiny encoder among weights of these names."""
    return len({name.split(".")[1] for name in weights if name.startswith("layers.")})


def biased_attention(
    query: Float[Tensor, "W A T d"],
    key: Float[Tensor, "W A T d"],
    value: Float[Tensor, "W A T d"],
    bias: Float[Tensor, "A T T"],
    padding: Float[Tensor, "W T"],
) -> Float[Tensor, "W A T d"]:
    """Attention with a trained bias, written out: torch's fused form has no gradient for it on a CPU.

    `padding` is 0 at tokens and -inf elsewhere; each window has a token.
    """
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(2, 3) + bias
    scores += padding[:, None, None]  # in place: scores are the largest tensor here
    return scores.softmax(-1).to(value.dtype) @ value


class TinyLayer(nn.Module):
    """Pre-norm self-attention and feed-forward; also returns its queries and keys."""

    def __init__(self, config: TinyConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "W T D"], bias: Float[Tensor, "A T T"], padding: Float[Tensor, "W T"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = self.norm_attention(x)
        query, key, value = self.query(y), self.key(y), self.value(y)
        split = (*x.shape[:2], self.heads, -1)
        per_head = (z.view(split).transpose(1, 2) for z in (query, key, value))
        mixed = biased_attention(*per_head, bias, padding)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed(self.norm_feed(x))), query, key


def tiny_tokenizer(documents: Iterable[Document], min_count: int = 5) -> PreTrainedTokenizerFast:
    """Whole lower-cased words of the documents that occur at least `min_count` times; the rest is [UNK]."""
    count = Counter(word.lower() for document in documents for sentence in document.sentences for word in sentence)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", STAR]
    known = sorted(w for w, c in count.items() if c >= min_count and w not in special)
    words = WordTokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *known])}, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
