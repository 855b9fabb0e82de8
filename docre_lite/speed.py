"""Speed against the floor: what a paper costs over the encoder that it stands on.

Every time is set beside the *bare* encoder on the same batch, in the same process: for a training step its forward
and backward pass as `transformers` does them, for prediction its forward pass. On a CPU a time is that of one thread,
in CPU seconds; on a GPU it is that of the clock once the GPU has finished. Repeats alternate between the things
compared, and how many times as long one takes is the median over repeats. Peaks of a CPU are those of fresh processes.

Weights play no part in any of it: an encoder of the right shape gives the right times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from .encoder import Encoder, PretrainedEncoder
from .machine import arithmetic, bf16_in_hardware, environment, peak_memory
from .memory import give_back
from .model import DocRE, build
from .ops import EPSILON
from .readers import read
from .train import TrainConfig, parameter_groups
from .types import Batch, Document, Entity, Mention, Triple

PAPERS = ("atlop", "docunet", "paee", "docre_ii", "dre_mir")  # in the order of the chapters
ENTITIES = (10, 20, 42, 80, 120, 200)
TOKENS = (128, 256, 512, 1024, 2048, 4096)
ONE_DOCUMENT = ((20, 400), (42, 400), (80, 440))  # entities and tokens; one of DocRED has 19.5 entities on average
LARGEST = (200, 1200)
RELATIONS = 96  # of DocRED
PATIENCE = 20.0  # seconds of repeats after which a measurement is taken as it is


# Documents --------------------------------------------------------------------------------------------------------


def document(entities: int, tokens: int) -> Document:
    """A document of about that many sub-words, markers included, with entities all over it and some related pairs.

    A third of the entities has a second mention. Raises ValueError if the mentions alone need more tokens.
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
    """Documents without a data set: 10 to 30 entities in 200 to 500 tokens, and every relation in one of them."""
    documents = [document(10 + 20 * k // max(count - 1, 1), 200 + 300 * k // max(count - 1, 1)) for k in range(count)]
    every = document(RELATIONS, 6 * RELATIONS)  # longer than a window: it is in no batch
    return [*documents, every]


# Works ------------------------------------------------------------------------------------------------------------


def bare(encoder: Encoder, batch: Batch) -> Tensor:
    """Token vectors of the encoder alone: no window joined, no attention rebuilt."""
    if isinstance(encoder, PretrainedEncoder):
        return encoder.model(input_ids=batch.windows, attention_mask=batch.window_mask.long()).last_hidden_state
    return encoder.read_windows(batch.windows, batch.window_mask)[0]


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
    """The encoder as the library has it, forward, and backward from the sum of its token vectors."""
    with as_the_library(model.encoder):
        bare(model.encoder, batch).sum().backward()


def train_encoder(model: DocRE, batch: Batch) -> None:
    """The same, with the dropout that we train with."""
    bare(model.encoder, batch).sum().backward()


def train_features(model: DocRE, batch: Batch) -> None:
    """Encoder, entity embeddings and the attention that two entities share: what all papers start from."""
    pairs = model.features(batch)
    (pairs.entities.sum() + pairs.attention.sum()).backward()


def train_whole(model: DocRE, batch: Batch) -> None:
    """The whole model with its loss; of a paper with two stages, the second."""
    model(batch).loss.backward()


def train_fp32(model: DocRE, batch: Batch) -> None:
    """The whole step in full precision, where the others are in bf16."""
    with torch.autocast(batch.windows.device.type, enabled=False):
        train_whole(model, batch)


def train_gathered(model: DocRE, batch: Batch) -> None:
    """ATLOP as research code shapes it: all attention maps, a gather a mention, an outer product a pair."""
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
    """The encoder forward, with nothing kept for a way back."""
    with _predicting(model):
        bare(model.encoder, batch)


def predict_whole(model: DocRE, batch: Batch) -> None:
    with _predicting(model):
        model(replace(batch, labels=None))


def predict_fp32(model: DocRE, batch: Batch) -> None:
    with torch.autocast(batch.windows.device.type, enabled=False):
        predict_whole(model, batch)


# Measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meter:
    """Measures on one device in one precision."""

    device: torch.device
    precision: str = "fp32"
    repeats: int = 5

    def seconds(self, works: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
        """Seconds of each work: of the first the median, of others so many times that, by the median of their ratios.

        Repeats alternate between works, and a ratio is taken within a repeat: what slows a machine slows it for
        seconds, so it strikes both.
        """
        times = self.times(works)
        reference = next(iter(times.values()))
        return {
            name: median(reference) * median(t / r for t, r in zip(found, reference, strict=True))
            for name, found in times.items()
        }

    def times(self, works: Mapping[str, Callable[[], Any]]) -> dict[str, list[float]]:
        """Seconds of each work in each repeat."""
        found: dict[str, list[float]] = {name: [] for name in works}
        begin = time.perf_counter()
        for k in range(self.repeats):
            if k > 1 and time.perf_counter() - begin > PATIENCE:
                break
            for name, work in works.items():
                found[name].append(self._once(work))
        return found

    def _once(self, work: Callable[[], Any]) -> float:
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        with arithmetic(self.precision, self.device):
            self.wait()
            begin = clock()
            work()
            self.wait()
        return clock() - begin

    def work(self, call: Callable[[], Any]) -> dict[str, int]:
        """FLOPs and bytes of a call in this precision, see `work`."""
        with arithmetic(self.precision, self.device):
            return work(call)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def on(self, model: DocRE, batches: Sequence[Batch], **works: Callable[[DocRE, Batch], Any]) -> dict[str, float]:
        """Seconds of works of a model, summed over batches. Works "kind_…" are compared with the first of the kind."""
        total = dict.fromkeys(works, 0.0)
        for batch in batches:
            for _, names in groupby(sorted(works, key=_kind), _kind):
                for name, seconds in self.seconds({k: partial(fresh, works[k], model, batch) for k in names}).items():
                    total[name] += seconds
        return total

    def roof(self, size: int = 2048, megabytes: int = 256) -> dict[str, float]:
        """What this device gives at best: FLOP/s of a large matrix product, bytes/s of a copy that no cache holds."""
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float32
        a, b = (torch.randn(size, size, device=self.device, dtype=kind) for _ in range(2))
        long = torch.empty(megabytes << 18, device=self.device)
        to = torch.empty_like(long)
        found = replace(self, repeats=10).times({"product": lambda: a @ b, "copy": lambda: to.copy_(long)})
        return {"flops": 2 * size**3 / min(found["product"]), "bytes": 2 * long.nbytes / min(found["copy"])}


def _kind(name: str) -> str:
    return name.partition("_")[0]


def fresh(work: Callable[[DocRE, Batch], Any], model: DocRE, batch: Batch) -> None:
    """One piece of work, from no gradients."""
    model.zero_grad(set_to_none=True)
    work(model, batch)


class _Traffic(TorchDispatchMode):
    """Bytes that operations read and write, each for itself: what would pass through memory without any cache."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        wrote = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        places = {t.untyped_storage().data_ptr() for t in read}
        view = not func._schema.is_mutable and any(t.untyped_storage().data_ptr() in places for t in wrote)
        if not view:
            self.bytes += sum(t.nbytes for t in (*read, *wrote))
        return out


def work(call: Callable[[], Any]) -> dict[str, int]:
    """FLOPs of the products and convolutions in a call, and the bytes that its operations read and write."""
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as flops:
        with _Traffic() as traffic:
            call()
    return {"flops": flops.get_total_flops(), "bytes": traffic.bytes}


def _addmm_flops(into, left, right, **_) -> int:
    """Of the in-place form, from shapes: torch counts the other one only."""
    return 2 * left[0] * left[1] * right[1]


def _attention_flops(query, key, value, *_, **__) -> int:
    """Of the CPU's fused attention, from shapes."""
    return sdpa_flop_count(query, key, value)


UNCOUNTED = {  # by torch's own counter
    torch.ops.aten.addmm_: _addmm_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}


# Rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What is measured, and where."""

    encoder: str
    data: str | None = None
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int = 4
    batches: int = 5
    repeats: int = 5

    def load(self, paper: str) -> tuple[DocRE, list[Batch]]:
        """The model, in training mode, and batches of documents of like length, from the shortest to the longest."""
        torch.manual_seed(0)
        documents = read(self.data) if self.data else made(self.batch_size * self.batches)
        model = build(paper, documents, self.encoder).to(self.device).train()
        window = model.tokenizer.reading.window
        encoded = sorted(
            (t for t in model.tokenizer.encode(documents) if len(t.ids) <= window), key=lambda t: len(t.ids)
        )
        if len(encoded) < self.batch_size:
            raise ValueError(
                f"{self.data}: {len(encoded)} documents fit into a window of {window} tokens, and a batch takes "
                f"{self.batch_size}; give a larger file or a smaller --batch-size"
            )
        spread = [round((k + 0.5) * (len(encoded) - self.batch_size) / self.batches) for k in range(self.batches)]
        return model, [model.tokenizer.collate(encoded[i : i + self.batch_size]).to(self.device) for i in spread]

    @property
    def meter(self) -> Meter:
        return Meter(torch.device(self.device), self.precision, self.repeats)


def measure(
    paper: str,
    setting: Setting,
    entities: Sequence[int] = ENTITIES,
    tokens: Sequence[int] = TOKENS,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The row of a paper: times, memory, work and growth, and the machine that gave them."""
    meter, (model, batches) = setting.meter, setting.load(paper)
    works = {"train_bare": train_bare, "train_encoder": train_encoder}
    works |= {"train_features": train_features, "train_whole": train_whole}
    works |= {"predict_bare": predict_bare, "predict_whole": predict_whole}
    if setting.precision == "bf16":
        works |= {"train_fp32": train_fp32, "predict_fp32": predict_fp32}
    if paper == "atlop" and isinstance(model.encoder, PretrainedEncoder):
        works |= {"train_gathered": train_gathered}
    say(f"{paper}: {len(batches)} batches of {setting.batch_size} documents")
    meter.on(model, batches[-1:], **works)  # warms up
    seconds = meter.on(model, batches, **works)
    seconds["optimiser"] = len(batches) * _optimiser(meter, model, batches[0])
    row = {
        "paper": paper,
        "encoder": Path(setting.encoder).name if Path(setting.encoder).is_dir() else setting.encoder,
        "data": Path(setting.data).name if setting.data else "made documents",
        "device": setting.device,
        "precision": setting.precision,
        "batch_size": setting.batch_size,
        "batch_tokens": [int(b.windows.shape[1]) for b in batches],
        "batch_pairs": [int(b.mask.sum()) for b in batches],
        "seconds": _rounded(seconds),
        "times_bare": {
            name: round(seconds[name] / seconds[f"{_kind(name)}_bare"], 3)
            for name in works
            if not name.endswith("_bare")
        },
        "times_bare_with_optimiser": round(
            (seconds["train_whole"] + seconds["optimiser"]) / (seconds["train_bare"] + seconds["optimiser"]), 3
        ),
        "documents_per_second": {
            kind: round(setting.batch_size * len(batches) / seconds[f"{kind}_whole"], 2)
            for kind in ("train", "predict")
        },
        "work": {name: meter.work(partial(fresh, works[name], model, batches[len(batches) // 2])) for name in works},
        "work_seconds": _rounded(meter.on(model, batches[len(batches) // 2 :][:1], **works)),
        "roof": meter.roof(),
    }
    say(f"{paper}: a training step costs {row['times_bare']['train_whole']:.2f} times the bare encoder's")
    both = {"predict_bare": predict_bare, "predict_whole": predict_whole}
    often = replace(meter, repeats=5 * meter.repeats)  # short work needs more repeats to settle
    row["one_document"] = _growth(often, model, ONE_DOCUMENT, both)
    both |= {"train_bare": train_bare, "train_whole": train_whole}
    fewer = replace(meter, repeats=min(3, meter.repeats))
    row["by_entities"] = _growth(fewer, model, sizes(entities, ()), both)
    row["by_tokens"] = _growth(fewer, model, sizes((), tokens), both)
    say(f"{paper}: memory")
    parts = [name for name in works if name in ("train_bare", "train_whole", "train_gathered")]
    row["peak_gb"] = {name: round(peak_gb(paper, setting, name), 3) for name in (*parts, "predict_largest")}
    about = {"bf16_in_hardware": bf16_in_hardware(torch.device(setting.device)), "malloc": _malloc()}
    return row | {"environment": environment() | about}


def sizes(entities: Sequence[int], tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Entities and tokens of the documents that show growth: over entities in a long text, over tokens with 20."""
    return [(n, LARGEST[1]) for n in entities] + [(20, t) for t in tokens]


def _growth(meter: Meter, model: DocRE, sizes, works) -> list[dict[str, Any]]:
    """Seconds of works on one document each of some numbers of entities and tokens."""
    rows = []
    for entities, tokens in sizes:
        batch = model.batch([document(entities, tokens)])
        found = int(batch.token_mask.sum())
        rows.append({"entities": entities, "tokens": found} | _rounded(meter.on(model, [batch], **works)))
    return rows


def _optimiser(meter: Meter, model: DocRE, batch: Batch) -> float:
    """One update of all weights, as `docre_lite.train` does it."""
    config = TrainConfig()
    optimiser = torch.optim.AdamW(parameter_groups(model, config), lr=0.0, eps=config.adam_epsilon, fused=True)
    fresh(train_whole, model, batch)

    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()

    return meter.seconds({"update": update})["update"]


def peak_gb(paper: str, setting: Setting, name: str) -> float:
    """Peak memory in GB: on a CPU that of a fresh process with the allocator's own habits, on a GPU of what torch took.

    `name` is a training step by its name in `seconds`, three of which are made, or "predict_largest": prediction of
    a document of the size `LARGEST`.
    """
    give_back()  # of a GPU, which both processes share
    with plain_malloc(), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak, paper, setting, name, torch.get_num_threads()).result()


def _malloc() -> dict[str, str]:
    """What the environment tells glibc's allocator, such as to keep what is freed: faster, and larger."""
    return {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")}


@contextmanager
def plain_malloc() -> Iterator[None]:
    """New processes begin with the allocator's own habits."""
    told = _malloc()
    for key in told:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ |= told


def _peak(paper: str, setting: Setting, name: str, threads: int) -> float:
    torch.set_num_threads(threads)
    model, batches = setting.load(paper)
    with arithmetic(setting.precision, torch.device(setting.device)):
        if name == "predict_largest":
            predict_whole(model, model.batch([document(*LARGEST)]))
        else:
            optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
            for batch in batches[:3]:
                fresh(globals()[name], model, batch)
                optimiser.step()
    return peak_memory(torch.device(setting.device))


def same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Is a row the same measurement on the same kind of machine?"""

    def key(row):
        kind = [row[k] for k in ("paper", "encoder", "data", "device", "precision", "batch_size")]
        return kind, _machine(row)

    return key(row) == key(other)


def _machine(row: Mapping[str, Any]) -> str:
    environment = row["environment"]
    return (row["device"] != "cpu" and environment["gpu"]) or environment["cpu"] or environment["machine"]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows for people: what a step and a prediction cost over the bare encoder's."""
    titles = ["paper", "precision", "training step", "with optimiser", "prediction", "20 entities", "42", "80"]
    lines = [[*titles, "documents/s", "GB", "on"], ["-"] * (len(titles) + 3)]
    for row in rows:
        times, ones = row["times_bare"], row["one_document"]
        line = [times["train_whole"], row["times_bare_with_optimiser"], times["predict_whole"]]
        line += [one["predict_whole"] / one["predict_bare"] for one in ones]
        line += [row["documents_per_second"]["train"], row["peak_gb"]["train_whole"]]
        numbers = [f"{number:.2f}" for number in line]
        lines.append([row["paper"], row["precision"], *numbers, _machine(row)])
    said = "Times of the bare encoder's on the same batch; documents/s and GB are those of training."
    return "\n".join([said, "", *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 5) for key, value in values.items()}
