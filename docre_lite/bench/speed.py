"""Speed relative to the minimum: what a paper costs on top of its encoder.

Every time is compared with the *bare* encoder on the same batch, in the same process: for a training step its forward
and backward pass as `transformers` does them, for prediction its forward pass. On a CPU, times are CPU seconds of one
thread; on a GPU they are wall-clock times until the GPU has finished. Repeats alternate between the works compared,
and a ratio is the median over repeats. Peak memory on a CPU is that of fresh processes.

Weights do not matter: an encoder of the right shape gives the right times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..encoder import PretrainedEncoder
from ..formats.readers import read
from ..model import DocRE, build
from ..support.machine import arithmetic, bf16_in_hardware, environment, give_back, peak_memory
from ..support.schedule import parameter_groups
from ..train import TrainConfig, configure
from ..types import Batch
from .meter import Meter, fresh, kind, malloc, plain_malloc
from .works import (
    document,
    made,
    predict_bare,
    predict_fp32,
    predict_whole,
    train_bare,
    train_encoder,
    train_features,
    train_fp32,
    train_gathered,
    train_whole,
)

PAPERS = ("atlop", "docunet", "paee", "docre_ii", "dre_mir")  # in the order of the chapters
ENTITIES = (10, 20, 42, 80, 120, 200)
TOKENS = (128, 256, 512, 1024, 2048, 4096)
ONE_DOCUMENT = ((20, 400), (42, 400), (80, 440))  # entities and tokens; one of DocRED has 19.5 entities on average
LARGEST = (200, 1200)
KIND = ("paper", "variant", "recipe", "encoder", "data", "device", "precision", "batch_size")  # identifies a row


@dataclass(frozen=True)
class Setting:
    """The object and the conditions of a measurement."""

    encoder: str
    data: str | None = None
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int = 4
    batches: int = 5
    repeats: int = 5
    recipe: str = "docred"
    variant: str | None = None

    def load(self, paper: str) -> tuple[DocRE, list[Batch]]:
        """The model, in training mode, and batches of documents of similar length, from the shortest to the longest."""
        torch.manual_seed(0)
        documents = read(self.data) if self.data else made(self.batch_size * self.batches)
        _, settings = configure(paper, self.recipe, **({"variant": self.variant} if self.variant else {}))
        model = build(paper, documents, self.encoder, **settings).to(self.device).train()
        window = model.tokenizer.reading.window
        encoded = sorted(
            (t for t in model.tokenizer.encode(documents) if len(t.ids) <= window), key=lambda t: len(t.ids)
        )
        if len(encoded) < self.batch_size:
            raise ValueError(
                f"{self.data}: {len(encoded)} documents fit into a window of {window} tokens, but a batch needs "
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
    """The row of a paper: times, memory, work and growth, and the machine that measured them."""
    meter, (model, batches) = setting.meter, setting.load(paper)
    works = _works(paper, setting, model)
    say(f"{paper}: {len(batches)} batches of {setting.batch_size} documents")
    meter.on(model, batches[-1:], **works)  # warms up
    seconds = meter.on(model, batches, **works)
    seconds["optimiser"] = len(batches) * _optimiser(meter, model, batches[0])
    both = {name: seconds[name] + seconds["optimiser"] for name in ("train_bare", "train_whole")}
    row = _identity(paper, setting) | {
        "options": asdict(model.classifier.options),
        "batch_tokens": [int(b.windows.shape[1]) for b in batches],
        "batch_pairs": [int(b.mask.sum()) for b in batches],
        "seconds": _rounded(seconds),
        "times_bare": {n: round(seconds[n] / seconds[f"{kind(n)}_bare"], 3) for n in works if "_bare" not in n},
        "times_bare_with_optimiser": round(both["train_whole"] / both["train_bare"], 3),
        "documents_per_second": {
            kind: round(setting.batch_size * len(batches) / seconds[f"{kind}_whole"], 2)
            for kind in ("train", "predict")
        },
        "work": {name: meter.work(partial(fresh, works[name], model, batches[len(batches) // 2])) for name in works},
        "work_seconds": _rounded(meter.on(model, batches[len(batches) // 2 :][:1], **works)),
        "roof": meter.roof(),
    }
    say(f"{paper}: a training step takes {row['times_bare']['train_whole']:.2f} times as long as the bare encoder's")
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
    about = {"bf16_in_hardware": bf16_in_hardware(torch.device(setting.device)), "malloc": malloc()}
    return row | {"environment": environment() | about}


def _identity(paper: str, setting: Setting) -> dict[str, Any]:
    """The fields that identify a row, see `KIND`."""
    return {
        "paper": paper,
        "variant": setting.variant or paper,
        "recipe": setting.recipe,
        "encoder": Path(setting.encoder).name if Path(setting.encoder).is_dir() else setting.encoder,
        "data": Path(setting.data).name if setting.data else "made documents",
        "device": setting.device,
        "precision": setting.precision,
        "batch_size": setting.batch_size,
    }


def _works(paper: str, setting: Setting, model: DocRE) -> dict[str, Callable[[DocRE, Batch], Any]]:
    works = {"train_bare": train_bare, "train_encoder": train_encoder}
    works |= {"train_features": train_features, "train_whole": train_whole}
    works |= {"predict_bare": predict_bare, "predict_whole": predict_whole}
    if setting.precision == "bf16":
        works |= {"train_fp32": train_fp32, "predict_fp32": predict_fp32}
    if paper == "atlop" and isinstance(model.encoder, PretrainedEncoder):
        works |= {"train_gathered": train_gathered}
    return works


def sizes(entities: Sequence[int], tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Entity and token counts of the documents that show growth: entities in a long text, tokens with 20 entities."""
    return [(n, LARGEST[1]) for n in entities] + [(20, t) for t in tokens]


def _growth(meter: Meter, model: DocRE, sizes, works) -> list[dict[str, Any]]:
    """Seconds of works on single documents with various numbers of entities and tokens."""
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
    """Peak memory in GB: on a CPU that of a fresh process with the allocator's defaults, on a GPU what torch allocated.

    `name` is a training step by its name in `seconds`, which then runs three times, or "predict_largest": prediction of
    a document of the size `LARGEST`.
    """
    give_back()  # memory of a GPU, which both processes share
    with plain_malloc(), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak, paper, setting, name, torch.get_num_threads()).result()


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
        kind = [row.get(k) for k in KIND]
        return kind, _machine(row)

    return key(row) == key(other)


def _machine(row: Mapping[str, Any]) -> str:
    environment = row["environment"]
    return (row["device"] != "cpu" and environment["gpu"]) or environment["cpu"] or environment["machine"]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a readable table: the cost of a step and of a prediction relative to the bare encoder."""
    titles = ["paper", "recipe", "precision", "training step", "with optimiser", "prediction"]
    titles += ["20 entities", "42", "80"]
    lines = [[*titles, "documents/s", "GB", "on"], ["-"] * (len(titles) + 3)]
    for row in rows:
        times, ones = row["times_bare"], row["one_document"]
        line = [times["train_whole"], row["times_bare_with_optimiser"], times["predict_whole"]]
        line += [one["predict_whole"] / one["predict_bare"] for one in ones]
        line += [row["documents_per_second"]["train"], row["peak_gb"]["train_whole"]]
        numbers = [f"{number:.2f}" for number in line]
        lines.append([row["variant"], row["recipe"], row["precision"], *numbers, _machine(row)])
    said = "Times are multiples of the bare encoder's on the same batch; documents/s and GB refer to training."
    return "\n".join([said, "", *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 5) for key, value in values.items()}
