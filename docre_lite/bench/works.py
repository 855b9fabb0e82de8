"""The works to time: training and prediction steps, those of the bare encoder, and documents of any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ..encoder import Encoder, PretrainedEncoder
from ..model import DocRE
from ..ops import EPSILON
from ..types import Batch, Document, Entity, Mention, Triple

RELATIONS = 96  # of DocRED


def document(entities: int, tokens: int) -> Document:
    """A document of about that many sub-words, markers included, with evenly spread entities and some related pairs.

    A third of the entities have a second mention. Raises ValueError if the mentions alone need more tokens.
    """
    mentions = entities + entities // 3
    words = tokens - 2 - 3 * mentions  # "name7" is two sub-words for most tokenizers, and there are two markers
    if words < mentions:
        raise ValueError(f"{entities} entities with {mentions} mentions need {4 * mentions + 2} tokens, not {tokens}")
    at = {k * words // mentions: k % entities for k in range(mentions)}
    text = [f"name{at[w]}" if w in at else "word" for w in range(words)]
    found: list[list[Mention]] = [[] for _ in range(entities)]
    for w, k in at.items():
        found[k].append(Mention(text[w], w // 20, w % 20, w % 20 + 1, "MISC"))
    title = f"{entities} entities, {tokens} tokens"
    triples = tuple(Triple(title, k, f"relation {k % RELATIONS}", (k + 1) % entities) for k in range(entities))
    sentences = tuple(tuple(text[i : i + 20]) for i in range(0, words, 20))
    return Document(title, sentences, tuple(Entity(tuple(m)) for m in found), triples)


def made(count: int) -> list[Document]:
    """Artificial documents: 10 to 30 entities in 200 to 500 tokens; one of them contains every relation."""
    documents = [document(10 + 20 * k // max(count - 1, 1), 200 + 300 * k // max(count - 1, 1)) for k in range(count)]
    every = document(RELATIONS, 6 * RELATIONS)  # longer than a window, so no batch contains it
    return [*documents, every]


def bare(encoder: Encoder, batch: Batch) -> Tensor:
    """Token vectors of the encoder alone, without joining windows or rebuilding attention."""
    if isinstance(encoder, PretrainedEncoder):
        return encoder.model(input_ids=batch.windows, attention_mask=batch.window_mask.long()).last_hidden_state
    return encoder.read_windows(batch.windows, batch.window_mask, rows=False)[0]


@contextmanager
def as_the_library(encoder: Encoder) -> Iterator[None]:
    """A pretrained encoder with the attention and the dropout of `transformers` and torch in place of ours."""
    if not isinstance(encoder, PretrainedEncoder):
        yield
        return
    ours = encoder.model.config._attn_implementation
    encoder.model.set_attn_implementation("sdpa")
    try:
        with patch("docre_lite.encoder.drop", nn.functional.dropout):
            yield
    finally:
        encoder.model.set_attn_implementation(ours)


def train_bare(model: DocRE, batch: Batch) -> None:
    """The library's encoder, forward, and backward from the sum of its token vectors."""
    with as_the_library(model.encoder):
        bare(model.encoder, batch).sum().backward()


def train_encoder(model: DocRE, batch: Batch) -> None:
    """The same, with our own dropout."""
    bare(model.encoder, batch).sum().backward()


def train_features(model: DocRE, batch: Batch) -> None:
    """Encoder, entity embeddings and the attention that two entities share: the features common to all papers."""
    pairs = model.features(batch)
    (pairs.entities.sum() + pairs.attention.sum()).backward()


def train_whole(model: DocRE, batch: Batch) -> None:
    """The whole model with its loss; the second stage of a paper with two."""
    model(batch).loss.backward()


def train_fp32(model: DocRE, batch: Batch) -> None:
    """The whole step in full precision, while the others are in bf16."""
    with torch.autocast(batch.windows.device.type, enabled=False):
        train_whole(model, batch)


def train_gathered(model: DocRE, batch: Batch) -> None:
    """ATLOP in the style of research code: all attention maps, a gather per mention, an outer product per pair."""
    network = model.encoder.model
    with as_the_library(model.encoder):
        network.set_attn_implementation("eager")
        found = network(input_ids=batch.windows, attention_mask=batch.window_mask.long(), output_attentions=True)
    hidden, maps = found.last_hidden_state, found.attentions[-1]
    head, tail, context = [], [], []
    for b, one in enumerate(batch.documents):
        vectors, looks = [], []
        mentions = list(zip(batch.mention_start[b].tolist(), batch.mention_entity[b].tolist(), strict=True))
        for i in range(len(one.entities)):
            at = [p for p, e in mentions if e == i]
            vectors.append(torch.stack([hidden[b, p] for p in at]).logsumexp(0))
            looks.append(torch.stack([maps[b, :, p] for p in at]).mean(0))
        vectors, looks = torch.stack(vectors), torch.stack(looks)
        s, o = batch.mask[b].nonzero(as_tuple=True)
        weights = (looks[s] * looks[o]).sum(1)
        weights = weights / (weights.sum(1, keepdim=True) + EPSILON)
        context.append(weights @ hidden[b])
        head.append(vectors[s])
        tail.append(vectors[o])
    form = model.classifier.bilinear
    head, tail, context = torch.cat(head), torch.cat(tail), torch.cat(context)
    z_head = torch.tanh(form.head(torch.cat([head, context], 1))).view(len(head), -1, form.block)
    z_tail = torch.tanh(form.tail(torch.cat([tail, context], 1))).view(len(tail), -1, form.block)
    logits = form.bilinear((z_head.unsqueeze(3) * z_tail.unsqueeze(2)).flatten(1))
    model.classifier.objective.loss(logits, batch.labels[batch.mask]).backward()


@contextmanager
def _predicting(model: DocRE) -> Iterator[None]:
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train()


def predict_bare(model: DocRE, batch: Batch) -> None:
    """The encoder's forward pass, with nothing kept for a backward pass."""
    with _predicting(model):
        bare(model.encoder, batch)


def predict_whole(model: DocRE, batch: Batch) -> None:
    with _predicting(model):
        model(replace(batch, labels=None))


def predict_fp32(model: DocRE, batch: Batch) -> None:
    with torch.autocast(batch.windows.device.type, enabled=False):
        predict_whole(model, batch)
