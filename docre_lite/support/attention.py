"""Finds out whether and how the last layer's attention of a hub transformer can be read, by trying a small one.

A model of the same kind with one layer and random weights reads a few made-up tokens. The attention that it returns
is compared with the attention we would read, so no kind of model needs to be known by name, and none is misread.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformers import AutoModel

UNLIMITED = 1 << 20  # tokens, for models without a table of positions
_seen: ContextVar[dict[str, Any] | None] = ContextVar("last_attention", default=None)


@dataclass(frozen=True)
class Kind:
    """The way to read an encoder's attention.

    `fused`: its layers call the library's attention interface, and rows are built from the last query and key.
    `maps`: the model has attention of its own and returns whole maps. `band`: it returns maps of a sliding window.
    """

    way: Literal["fused", "maps", "band"]
    width: int
    heads: int
    longest: int  # tokens of one window at most


@contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """Records what the last layer of a model passes to the attention interface."""
    seen: dict[str, Any] = {}
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def note(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None) -> None:
    """For the attention interface: each layer overwrites the record of the previous one."""
    if (seen := _seen.get()) is not None:
        seen.update(query=query, key=key, mask=mask, scaling=scaling)


def fused_rows(seen: dict[str, Any], local: Int[Tensor, "W P"]) -> Float[Tensor, "W A P T"]:
    """Attention scores from the given columns, before the softmax: about -1e38 where nothing may be read."""
    query, key, mask = seen["query"], seen["key"], seen["mask"]
    scaling = query.shape[-1] ** -0.5 if seen["scaling"] is None else seen["scaling"]
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)  # several heads may share their keys
    scores = _picked(query, local) @ key.transpose(2, 3) * scaling
    if mask is None:
        return scores
    mask = mask.expand(-1, -1, query.shape[2], -1) if mask.shape[2] == 1 else mask
    return masked(scores, _picked(mask, local))


def masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Attention scores with the library's mask: true for readable places, or numbers to add."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask


def map_rows(full: Tensor, local: Int[Tensor, "W P"], way: str) -> Float[Tensor, "W A P T"]:
    """The given columns' rows of a model's own maps [W, A, T, T], or of a band around the diagonal [W, A, T, B]."""
    rows = _picked(full, local)
    if way == "maps":
        return rows
    length, reach = full.shape[2], full.shape[3] // 2
    padded = rows.new_zeros(*rows.shape[:3], length + 2 * reach)  # place p of the text is column p + reach
    columns = local[:, None, :, None] + torch.arange(full.shape[3], device=rows.device)
    return padded.scatter(3, columns.expand_as(rows), rows)[..., reach : reach + length]


def _picked(values: Shaped[Tensor, "W A T X"], local: Int[Tensor, "W P"]) -> Shaped[Tensor, "W A P X"]:
    index = local[:, None, :, None].expand(-1, values.shape[1], -1, values.shape[3])
    return values.gather(2, index)


def kind_of(config) -> Kind:
    """How attention is read from models with this configuration. Raises ValueError with the reason if it cannot be."""
    return _kind(type(config), json.dumps(config.to_dict(), default=str, sort_keys=True))


@functools.lru_cache(maxsize=64)
def _kind(of: type, written: str) -> Kind:
    full = of.from_dict(json.loads(written))
    if full.is_encoder_decoder:
        raise _unreadable(full, "it is an encoder with a decoder")
    with torch.random.fork_rng(devices=[]):
        try:
            model = AutoModel.from_config(_small(full), attn_implementation="eager", dtype=torch.float32).eval()
            found = _tried(model)
        except Exception as error:  # a model's own code may raise anything
            said = str(error).partition("\n")[0]
            raise _unreadable(full, f"a small one could not read plain text ({said})") from None
    if isinstance(found, str):
        raise _unreadable(full, found)
    return Kind(*found, _longest(model))


def _unreadable(config, why: str) -> ValueError:
    return ValueError(
        f"encoders of type {config.model_type!r} cannot be used: {why}; choose a BERT, RoBERTa, ELECTRA, DeBERTa, "
        "ModernBERT, DistilBERT or another encoder that returns its attention"
    )


def _small(config):
    """The same kind with one layer and few words."""
    small, layers = copy.deepcopy(config), getattr(config, "num_hidden_layers", None)
    ids = [v for k, v in config.to_dict().items() if k.endswith("_token_id") and isinstance(v, int)]
    if hasattr(config, "vocab_size"):
        small.vocab_size = min(config.vocab_size, max([0, *ids]) + 40)
    if layers:
        small.num_hidden_layers = 1
        for name, value in list(vars(small).items()):
            if isinstance(value, list | tuple) and len(value) == layers:  # one entry for each layer
                setattr(small, name, value[-1:])
    return small


@torch.no_grad()
def _tried(model: nn.Module) -> tuple[str, int, int] | str:
    """Way, width and heads; or the reason why it cannot be read."""
    length, inside = 24, 15
    ids = torch.arange(2 * length).view(2, length) % 30 + 5
    mask = torch.ones_like(ids)
    mask[1, inside:] = 0
    out = model(input_ids=ids, attention_mask=mask, output_attentions=True)
    if not isinstance(model.get_input_embeddings(), nn.Embedding):
        return "its embedding has no room for markers"
    hidden, maps = out.last_hidden_state, getattr(out, "attentions", None)
    if hidden.shape[:2] != ids.shape:
        return "it gives no vector for each token"
    if not maps or maps[-1] is None or maps[-1].dim() != 4:
        return "it returns no attention"
    last, local = maps[-1], torch.arange(length).repeat(2, 1)
    way = "maps" if last.shape[2:] == (length, length) else "band"
    if way == "band" and not (last.shape[2] == length and last.shape[3] % 2):
        return "its last layer's attention is not from every token to every token"
    rows = map_rows(last, local, way)
    real = mask.bool()[:, None, :, None].expand_as(rows)
    total = rows.sum(-1, keepdim=True).expand_as(rows)[real]
    if not torch.allclose(total, torch.ones_like(total), atol=1e-3) or rows[1, :, :inside, inside:].abs().max() > 1e-3:
        return "its attention is not a distribution over the tokens of the text"
    if rows[0].triu(1).abs().max() == 0:
        return "it only reads from left to right"
    size = (hidden.shape[-1], last.shape[1])
    return (_fused(model, ids, mask, rows, local) and "fused") or way, *size


def _fused(model, ids, mask, rows, local) -> bool:
    """Whether the rows that we build from queries and keys match the model's own."""
    try:
        model.set_attn_implementation("docre_lite")
    except ValueError:
        return False
    with watched() as seen:
        model(input_ids=ids, attention_mask=mask)
    if not seen:
        return False
    ours, real = fused_rows(seen, local).softmax(-1), mask.bool()
    return all(torch.allclose(ours[w][:, real[w]], rows[w][:, real[w]], atol=1e-5) for w in range(len(ids)))


def _longest(model: nn.Module) -> int:
    for name, part in model.named_modules():
        if isinstance(part, nn.Embedding) and name.endswith("position_embeddings"):
            # RoBERTa and its kin count positions from the row after padding
            return part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
    limit = getattr(model.config, "max_position_embeddings", None) or 0
    return limit if limit > 0 else UNLIMITED  # -1 and none both mean that there is no limit
