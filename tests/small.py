"""Small documents and models for the tests: made on the spot, the same everywhere."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from multiprocessing import get_context

import torch

from docre_lite.model import DocRE, build, paper
from docre_lite.types import Batch, Document, Entity, Mention, Triple

TYPES = ("PER", "ORG", "LOC")
RELATIONS = ("r", "s", "q")
SMALL = {"layers": 1, "width": 32, "heads": 2, "dropout": 0.0, "min_count": 1}


def written(title: str, sentences: list[str], entities: list[list[tuple]], triples=(), **more) -> Document:
    """A document from sentences as text; a mention is (sentence, start, end) or has its type as a fourth member."""
    words = tuple(tuple(sentence.split()) for sentence in sentences)
    found = tuple(
        Entity(tuple(Mention(" ".join(words[s][i:j]), s, i, j, *(kind or ["PER"])) for s, i, j, *kind in mentions))
        for mentions in entities
    )
    return Document(title, words, found, tuple(Triple(title, h, r, t) for h, r, t in triples), **more)


def made(title: str, entities: int = 4, sentences: int = 3, words: int = 12, seed: int = 0) -> Document:
    """A document at random: entities with one to three mentions, about a third of the pairs related, some twice."""
    draw = random.Random(f"{title} {seed}")
    text = [[f"w{draw.randrange(30)}" for _ in range(words)] for _ in range(sentences)]
    places = [(s, p) for s in range(sentences) for p in range(0, words - 1, 3)]
    draw.shuffle(places)
    spans: list[list[tuple[int, int, int]]] = []
    for i in range(entities):
        spans.append([])
        for s, p in [places.pop(0), *(places.pop() for _ in range(draw.randrange(3)) if len(places) > entities)]:
            end = p + draw.choice((1, 2))
            text[s][p:end] = [f"e{i}{'ab'[k]}" for k in range(end - p)]
            spans[-1].append((s, p, end))
    order = sorted(range(entities), key=lambda i: min(spans[i]))
    found = tuple(
        Entity(tuple(Mention(" ".join(text[s][p:e]), s, p, e, TYPES[i % 3]) for s, p, e in sorted(spans[i])))
        for i in order
    )
    triples = [
        Triple(title, h, r, t)
        for h in range(entities)
        for t in range(entities)
        if h != t and draw.random() < 0.35
        for r in draw.sample(RELATIONS, draw.choice((1, 1, 2)))
    ]
    return Document(title, tuple(map(tuple, text)), found, tuple(triples))


def several() -> list[Document]:
    """Four documents of different length with 2 to 5 entities; one restricts its pairs."""
    documents = [
        made("one", 3),
        made("two", 5, sentences=4),
        made("three", 2, sentences=2, words=9),
        made("four", 4, sentences=6),
    ]
    last = documents[3]
    kept = frozenset({(0, 1), (1, 0), (2, 3), (3, 0), *((t.head, t.tail) for t in last.triples[:3])})
    documents[3] = replace(last, candidates=kept, triples=tuple(t for t in last.triples if (t.head, t.tail) in kept))
    return documents


def tiny(name: str, documents: list[Document], **settings) -> DocRE:
    """A model of the paper with a very small encoder, the same one every time, in evaluation mode."""
    torch.manual_seed(0)
    return build(name, documents, **{**small_settings(name, settings.get("variant")), **settings}).eval()


def small_settings(name: str, variant: str | None = None) -> dict:
    """Sizes for tests; more than one group in the bilinear form unless the variant says how many."""
    kind = paper(name)
    given = kind.variants[variant].settings if variant else {}
    options = {f.name for f in fields(kind.Options)}
    sizes = {"block": 8, "map_width": 32}
    return {**SMALL, **{key: size for key, size in sizes.items() if key in options and key not in given}}


def wider(batch: Batch, extra: int = 2) -> Batch:
    """The batch with room for more entities than any document has."""
    pad = torch.nn.functional.pad
    return replace(
        batch,
        entity_type=pad(batch.entity_type, (0, extra)),
        same_sentence=pad(batch.same_sentence, (0, extra, 0, extra)),
        mask=pad(batch.mask, (0, extra, 0, extra)),
        labels=None if batch.labels is None else pad(batch.labels, (0, 0, 0, extra, 0, extra)),
    )


def extract_with_forks(*given, **more) -> None:
    """`extract` by workers that are forks of this process: cheap ones to kill. For a process of its own."""
    from docre_lite.scale import extract as extract_module

    torch.set_num_threads(1)  # the threads of OpenMP do not outlive a fork
    extract_module.get_context = lambda _: get_context("fork")
    extract_module.extract(*given, **more)


def sgd_steps(model: DocRE, batch: Batch, steps: int, lr: float = 3e-3) -> list[float]:
    """Plain training on one batch; the losses on the way."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses
