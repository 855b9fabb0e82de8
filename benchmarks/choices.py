"""Compares each choice of the implementation with its plain form: `python benchmarks/choices.py ENCODER`.

CPU seconds of one thread, the median of several repeats that alternate between both forms, and the bytes they keep
for the backward pass; for freed memory, whole steps in fresh processes, and their peaks. Documents and models as in
`docre-lite bench speed`. Writes `results/choices.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from docre_lite.bench import meter, speed, works
from docre_lite.formats.readers import read
from docre_lite.model import DocRE
from docre_lite.ops import EPSILON, common_attention, group_bilinear, mapped_context, pool_context
from docre_lite.support import machine
from docre_lite.support.machine import environment, peak_memory
from docre_lite.support.schedule import parameter_groups
from docre_lite.train import BUCKET, TrainConfig
from docre_lite.types import Batch

RESULTS = Path(__file__).parent / "results" / "choices.json"


def kept_bytes(call: Callable[[], object]) -> int:
    """Bytes that autograd keeps for the backward pass, each tensor once."""
    places: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        places[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = call()  # kept until it is counted: freed memory could be reused and counted twice
    del held
    return sum(places.values())


# Forms ------------------------------------------------------------------------------------------------------------


def bilinear_kept(head: Tensor, tail: Tensor, weight: Tensor) -> Tensor:
    """ATLOP (5) with every outer product at once, as published code writes it."""
    return (head.unsqueeze(3) * tail.unsqueeze(2)).flatten(1) @ weight.flatten(0, 1)


def context_of_half(attention: Tensor, tokens: Tensor) -> Tensor:
    """Localized context of pairs with head ≤ tail alone, then mirrored: it is symmetric."""
    n = attention.shape[2]
    i, j = torch.triu_indices(n, n)
    product = (attention[:, :, i] * attention[:, :, j]).sum(1)
    half = product / (product.sum(-1, keepdim=True) + EPSILON) @ tokens
    place = torch.empty(n, n, dtype=torch.long)
    place[i, j] = place[j, i] = torch.arange(len(i))
    return half[:, place]


# Comparisons ------------------------------------------------------------------------------------------------------


def alike(meter: meter.Meter, what: str, of: str, forms: dict[str, Callable[[], Tensor]]) -> list[dict]:
    """A row for each form of the same computation: forward and backward, and the bytes kept in between."""
    first, *others = (form() for form in forms.values())
    for other in others:
        torch.testing.assert_close(other, first, atol=1e-3, rtol=1e-3)
    times = meter.seconds({name: lambda form=form: form().sum().backward() for name, form in forms.items()})
    return [
        {"what": what, "form": name, "of": of, "seconds": times[name], "kept_gb": kept_bytes(form) / 1e9}
        for name, form in forms.items()
    ]


def bilinear(meter: meter.Meter, model: DocRE, batch: Batch) -> list[dict]:
    form, pairs = model.classifier.bilinear, int(batch.mask.sum())
    groups, block = form.bilinear.in_features // form.block**2, form.block
    head, tail = (torch.randn(pairs, groups, block, requires_grad=True) for _ in range(2))
    weight = form.bilinear.weight.detach().T.unflatten(0, (groups, -1)).clone().requires_grad_()
    forms = {"rebuilt on the way back": group_bilinear, "kept": bilinear_kept}
    calls = {name: partial(f, head, tail, weight) for name, f in forms.items()}
    return alike(meter, "outer products of the bilinear form", f"{pairs} pairs", calls)


def context(meter: meter.Meter, model: DocRE, batch: Batch) -> list[dict]:
    with torch.no_grad():
        tokens, looks = model.read(batch)
    tokens, looks = tokens.clone().requires_grad_(), looks.clone().requires_grad_()
    forms = {
        "all pairs": lambda: pool_context(common_attention(looks), tokens),
        "one half, mirrored": partial(context_of_half, looks, tokens),
    }
    of = f"{looks.shape[0]} documents, {looks.shape[2]} entities at most"
    return alike(meter, "localized context, symmetric in head and tail", of, forms)


def context_mapped(meter: meter.Meter, model: DocRE, batch: Batch) -> list[dict]:
    with torch.no_grad():
        tokens, looks = model.read(batch)
        weights, matrix = common_attention(looks), torch.randn(64, tokens.shape[-1])
    inputs = [x.clone().requires_grad_() for x in (weights, tokens, matrix)]
    forms = {
        "tokens mapped, then pooled": partial(mapped_context, *inputs),
        "pooled, then mapped": lambda: pool_context(*inputs[:2]) @ inputs[2].T,
    }
    of = f"{weights.shape[0]} documents, {weights.shape[1]} entities at most"
    return alike(meter, "localized context, mapped to 64 channels", of, forms)


def optimiser(meter: meter.Meter, model: DocRE, batch: Batch) -> list[dict]:
    meter.fresh(works.train_whole, model, batch)
    settings = {"fused": {"fused": True}, "all at once (foreach)": {"foreach": True}, "one by one": {"foreach": False}}
    made = {
        name: torch.optim.AdamW(parameter_groups(model, TrainConfig()), lr=0.0, **more)
        for name, more in settings.items()
    }
    times = meter.seconds({name: one.step for name, one in made.items()})
    weights = f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million weights"
    return [{"what": "AdamW, one update", "form": name, "of": weights, "seconds": times[name]} for name in made]


def batches(model: DocRE, documents, size: int) -> list[dict]:
    """Tokens and pairs that an epoch processes, padding included."""
    encoded = model.tokenizer.encode(documents)
    random.Random(0).shuffle(encoded)
    alike = []
    for i in range(0, len(encoded), BUCKET * size):
        alike += sorted(encoded[i : i + BUCKET * size], key=lambda t: len(t.ids))
    rows = []
    for name, order in (("of like length", alike), ("at random", encoded)):
        groups = [order[i : i + size] for i in range(0, len(order), size)]
        tokens = sum(len(g) * max(len(t.ids) for t in g) for g in groups)
        pairs = sum(len(g) * max(len(t.document.entities) for t in g) ** 2 for g in groups)
        row = {"what": "documents of a batch", "form": name, "of": f"{len(order)} documents, {size} a batch"}
        rows.append(row | {"tokens": tokens, "pairs": pairs, "tokens_needed": sum(len(t.ids) for t in order)})
    return rows


def dropout(meter: meter.Meter, model: DocRE, several: list[Batch]) -> list[dict]:
    """The encoder's training step with our dropout, and as the library has it."""
    rows = []
    for precision in ("fp32", "bf16"):
        steps = {"step_ours": works.train_encoder, "step_library": works.train_bare}
        times = replace(meter, precision=precision).on(model, several, **steps)
        row = {"what": f"dropout of the encoder on a CPU, {precision}", "of": f"{len(several)} batches"}
        rows += [
            row | {"form": "drawn 16 bits a value", "seconds": times["step_ours"]},
            row | {"form": "torch's, with its attention", "seconds": times["step_library"]},
        ]
    return rows


def compiled(meter: meter.Meter, model: DocRE, several: list[Batch]) -> list[dict]:
    """The encoder under `torch.compile`: how long until it runs, and how fast it is then."""
    plain = model.encoder.model
    times = meter.on(model, several, plain=works.train_encoder)
    model.encoder.model = torch.compile(plain, dynamic=True)
    begin = time.perf_counter()
    for batch in several:
        meter.fresh(works.train_encoder, model, batch)
    start = time.perf_counter() - begin
    times |= meter.on(model, several, compiled=works.train_encoder)
    model.encoder.model = plain
    where = f"{len(several)} batches"
    return [
        {"what": "encoder, forward and backward", "form": "as it is", "of": where, "seconds": times["plain"]},
        {"what": "encoder, forward and backward", "form": "torch.compile", "of": where, "seconds": times["compiled"]}
        | {"start_seconds": start},
    ]


def freed(setting: speed.Setting) -> list[dict]:
    """Whole training steps with the settings that `docre-lite train` gives the C library, and without."""
    rows = []
    for form, keep in (("kept for the next step", True), ("given back, by habit", False)):
        with meter.plain_malloc(), ProcessPoolExecutor(1, get_context("spawn")) as pool:
            seconds, peak = pool.submit(_steps, setting, keep).result()
        row = {"what": "memory that a training step has freed", "form": form, "of": "4 documents of 500 tokens"}
        rows.append(row | {"seconds": seconds, "peak_gb": peak})
    return rows


def _steps(setting: speed.Setting, keep: bool) -> tuple[float, float]:
    """CPU seconds of a step, the system's work included, and the process's peak in GB."""
    if keep:
        machine.keep_freed()
    torch.set_num_threads(1)
    model, _ = setting.load("atlop")
    batch = model.batch([works.document(20, 500)] * 4)
    optimiser = torch.optim.AdamW(parameter_groups(model, TrainConfig()), lr=0.0, fused=True)
    times = []
    for _ in range(1 + setting.repeats):
        begin = time.process_time()
        meter.fresh(works.train_whole, model, batch)
        optimiser.step()
        times.append(time.process_time() - begin)
    return median(times[1:]), peak_memory(torch.device("cpu"))  # the first time warms up


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("encoder", help="folder or hub name of a BERT-like encoder (MiniLM)")
    ask.add_argument("--data", help="documents; none = made ones")
    ask.add_argument("--repeats", type=int, default=5)
    args = ask.parse_args()
    torch.set_num_threads(1)
    setting = speed.Setting(args.encoder, args.data, repeats=args.repeats)
    model, several = setting.load("atlop")
    meter, middle = setting.meter, several[len(several) // 2]
    rows = bilinear(meter, model, middle) + context(meter, model, middle) + context_mapped(meter, model, middle)
    rows += optimiser(meter, model, middle)
    if args.data:
        rows += batches(model, read(args.data), setting.batch_size)
    rows += dropout(meter, model, several) + freed(setting) + compiled(meter, model, several)
    told = {"encoder": Path(args.encoder).name, "data": Path(args.data).name if args.data else None}
    for row in rows:
        row |= told | {"environment": environment()}
        print({k: v for k, v in row.items() if k != "environment"}, flush=True)
    RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
