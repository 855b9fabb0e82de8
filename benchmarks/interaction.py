"""Time and memory of one layer over a document's pairs, naive and as computed: `python benchmarks/interaction.py`.

One document, forward and backward in float32. "naive" gathers the cells that each pair looks at into tensors of size
N³ · width, as public code does; "split" is the module of this package. Both have the same weights and give the same
answers, which is checked first. Times are CPU seconds of one thread, the least of several repeats that alternate
between the forms; each peak comes from a fresh process. Writes `results/interaction.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from docre_lite.papers.docre_ii import ExtendedCrossAttention
from docre_lite.papers.dre_mir import InferenceLayer
from docre_lite.support.machine import environment

RESULTS = Path(__file__).parent / "results" / "interaction.json"
ENTITIES = (10, 20, 42, 80, 120, 200)
WIDTH = 256
LIMIT_GB = 6.0  # what a naive layer may keep for its backward pass


@dataclass(frozen=True)
class Layer:
    """A layer over pairs in both forms, functions of the module, the cells [1, N, N, D] and which of them are pairs."""

    build: Callable[[], nn.Module]
    split: Callable[[nn.Module, Tensor, Tensor], Tensor]
    naive: Callable[[nn.Module, Tensor, Tensor], Tensor]
    kept: int  # numbers that the naive form keeps for each path, to predict its memory


def imsa_split(layer: InferenceLayer, cells: Tensor, legs: Tensor) -> Tensor:
    return layer(cells, legs)[0]


def imsa_naive(layer: InferenceLayer, cells: Tensor, legs: Tensor) -> Tensor:
    """DRE-MIR's inference layer with both legs of every path side by side: [N, N, N, 2 · width of a head]."""
    cells, legs, n = cells[0], legs[0], cells.shape[1]
    query, key, value = (part(cells).unflatten(-1, (4, -1)) for part in (layer.query, layer.key, layer.value))
    heads = []
    for h in range(4):
        from_a, from_b = h in (2, 3), h in (0, 3)

        def both(x: Tensor, from_a: bool = from_a, from_b: bool = from_b) -> Tensor:
            leg1, leg2 = (x.transpose(0, 1) if by else x for by in (from_a, from_b))
            shape = (n, n, n, *x.shape[2:])
            return torch.cat([leg1.unsqueeze(1).expand(shape), leg2.unsqueeze(0).expand(shape)], -1)

        weight = layer.legs[h]
        keys = both(key[:, :, h]) @ weight[:2].flatten(0, 1) + layer.biases[h, 0]
        values = both(value[:, :, h]) @ weight[2:].flatten(0, 1) + layer.biases[h, 1]
        paths = both(legs.unsqueeze(-1)).all(-1)
        scores = torch.einsum("abd,abxd->abx", query[:, :, h], keys).masked_fill(~paths, -torch.inf)
        alone = (query[:, :, h] * key[:, :, h]).sum(-1, keepdim=True)
        weights = (torch.cat([scores, alone], -1) / layer.width**0.5).softmax(-1)
        mixed = torch.einsum("abx,abxd->abd", weights[..., :-1], values)
        heads.append(mixed + weights[..., -1:] * value[:, :, h])
    mixed = layer.norm(cells + layer.out(torch.cat(heads, -1)))
    return layer.feed_norm(mixed + layer.feed(mixed)).unsqueeze(0)


def eca_split(layer: ExtendedCrossAttention, cells: Tensor, legs: Tensor) -> Tensor:
    return layer(cells, cells, legs)[0]


def eca_naive(layer: ExtendedCrossAttention, cells: Tensor, legs: Tensor) -> Tensor:
    """DocRE-II's attention with the keys and values of a line gathered for every cell: [N, N, N, width of a head]."""
    cells, legs, n = cells[0], legs[0], cells.shape[1]
    query, key, value = (part(cells).unflatten(-1, (4, -1)) for part in (layer.query, layer.key, layer.value))
    s, o, k = (torch.arange(n).view(shape) for shape in ((n, 1, 1), (1, n, 1), (1, 1, n)))
    heads = []
    for h, (i, j) in enumerate(((s, k), (k, o), (k, s), (o, k))):
        i, j = i.expand(n, n, n), j.expand(n, n, n)
        seen = legs[i, j] & ~((i == s) & (j == o))  # the cell itself counts once, at the end
        scores = torch.einsum("sod,sokd->sok", query[:, :, h], key[:, :, h][i, j]).masked_fill(~seen, -torch.inf)
        alone = (query[:, :, h] * key[:, :, h]).sum(-1, keepdim=True)
        weights = (torch.cat([scores, alone], -1) / layer.width**0.5).softmax(-1)
        mixed = torch.einsum("sok,sokd->sod", weights[..., :-1], value[:, :, h][i, j])
        heads.append(mixed + weights[..., -1:] * value[:, :, h])
    return layer.out(torch.cat(heads, -1)).unsqueeze(0)


LAYERS = {
    "I-MSA": Layer(lambda: InferenceLayer(WIDTH, 2 * WIDTH), imsa_split, imsa_naive, 6 * WIDTH),
    "ECA": Layer(lambda: ExtendedCrossAttention(WIDTH, WIDTH), eca_split, eca_naive, 2 * WIDTH),
}


def inputs(entities: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    cells = torch.randn(1, entities, entities, WIDTH, requires_grad=True)
    return cells, ~torch.eye(entities, dtype=torch.bool).unsqueeze(0)


def one_pass(form: Callable, layer: nn.Module, cells: Tensor, legs: Tensor) -> float:
    layer.zero_grad(set_to_none=True)
    cells.grad = None
    begin = time.process_time()
    (form(layer, cells, legs) * legs.unsqueeze(-1)).square().mean().backward()
    return time.process_time() - begin


def check(layer: Layer) -> None:
    """The two forms agree on outputs and on the gradients of cells and weights."""
    cells, legs = inputs(7)
    module, found = layer.build().double(), []
    cells = cells.detach().double().requires_grad_()
    for form in (layer.split, layer.naive):
        out = form(module, cells, legs)[legs]
        found.append([out, *torch.autograd.grad(out.square().sum(), [cells, *module.parameters()])])
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-8)


def forms(layer: Layer, entities: int) -> dict[str, Callable]:
    """The forms that fit into memory."""
    small = 4 * layer.kept * entities**3 / 1e9 <= LIMIT_GB
    return {"split": layer.split} | ({"naive": layer.naive} if small else {})


def memory(word: str) -> float:
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent process too
    return int(status.split(f"{word}:")[1].split()[0]) * 1024 / 1e9


def peak_gb(name: str, form: str, entities: int) -> list[float]:
    """Memory of a fresh process before one forward and backward pass, and at its peak."""
    command = [sys.executable, __file__, "--peak", name, form, str(entities)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(figure) for figure in output.split()[-2:]]


def run_peak(name: str, form: str, entities: str) -> None:
    torch.set_num_threads(1)
    module, (cells, legs) = LAYERS[name].build(), inputs(int(entities))
    before = memory("VmRSS")
    one_pass(getattr(LAYERS[name], form), module, cells, legs)
    print(before, memory("VmHWM"))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--layers", nargs="*", default=list(LAYERS), choices=list(LAYERS))
    ask.add_argument("--entities", type=int, nargs="*", default=list(ENTITIES))
    ask.add_argument("--repeats", type=int, default=3)
    ask.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = ask.parse_args()
    if args.peak:
        return run_peak(*args.peak)
    torch.set_num_threads(1)
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    rows = [r for r in rows if r["layer"] not in args.layers or r["entities"] not in args.entities]
    for name in args.layers:
        check(LAYERS[name])
        for entities in args.entities:
            module, (cells, legs), best = LAYERS[name].build(), inputs(entities), {}
            for _ in range(args.repeats):
                for form, function in forms(LAYERS[name], entities).items():
                    best[form] = min(best.get(form, float("inf")), one_pass(function, module, cells, legs))
            for form, seconds in best.items():
                before, peak = peak_gb(name, form, entities)
                row = {"layer": name, "form": form, "entities": entities, "width": WIDTH}
                row |= {"cpu_seconds": round(seconds, 4), "start_gb": round(before, 3), "peak_gb": round(peak, 3)}
                rows.append(row | {"environment": environment()})
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
                print(name, form, entities, f"{seconds:.3f} s, {peak - before:.3f} GB", flush=True)


if __name__ == "__main__":
    main()
