"""Time and memory of a training step against the bare encoder on the same batches: `python benchmarks/speed.py`.

Every time is CPU time of one thread, the least of several repeats that alternate between the things compared, so
that other load on the machine falls out. Peaks are of fresh processes. Writes `results/speed_<paper>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from docre_lite.encode import Reading
from docre_lite.model import DocRE, build
from docre_lite.readers import read
from docre_lite.settings import update
from docre_lite.train import TrainConfig, environment
from docre_lite.types import Batch, Document, Entity, Mention

RESULTS = Path(__file__).parent / "results"
LARGEST = 200  # entities of the document whose prediction must fit into memory


def bare_step(model: DocRE, batch: Batch) -> None:
    """The encoder alone: forward, backward from the sum of its token vectors."""
    hidden = model.encoder.model(input_ids=batch.windows, attention_mask=batch.window_mask.long()).last_hidden_state
    hidden.sum().backward()


def features_step(model: DocRE, batch: Batch) -> None:
    """Encoder, pooling and localized context."""
    pairs = model.features(batch)
    (pairs.entities.sum() + pairs.context.sum()).backward()


def full_step(model: DocRE, batch: Batch) -> None:
    """The whole model with its loss."""
    model(batch).loss.backward()


def gathered_step(model: DocRE, batch: Batch) -> None:
    """The same model as research code shapes it: all attention maps, a gather a mention, an outer product a pair."""
    network = model.encoder.model
    network.set_attn_implementation("eager")
    found = network(input_ids=batch.windows, attention_mask=batch.window_mask.long(), output_attentions=True)
    hidden, maps = found.last_hidden_state, found.attentions[-1]
    head, tail, context = [], [], []
    for b, document in enumerate(batch.documents):
        vectors, looks = [], []
        for i in range(len(document.entities)):
            at = [int(p) for p, e in zip(batch.mention_start[b], batch.mention_entity[b], strict=True) if e == i]
            vectors.append(torch.stack([hidden[b, p] for p in at]).logsumexp(0))
            looks.append(torch.stack([maps[b, :, p] for p in at]).mean(0))
        vectors, looks = torch.stack(vectors), torch.stack(looks)
        s, o = batch.mask[b].nonzero(as_tuple=True)
        weights = (looks[s] * looks[o]).mean(1)
        weights = weights / (weights.sum(1, keepdim=True) + 1e-5)
        context.append(weights @ hidden[b])
        head.append(vectors[s])
        tail.append(vectors[o])
    form = model.classifier.bilinear
    head, tail, context = torch.cat(head), torch.cat(tail), torch.cat(context)
    z_head = torch.tanh(form.head(torch.cat([head, context], 1))).view(len(head), -1, form.block)
    z_tail = torch.tanh(form.tail(torch.cat([tail, context], 1))).view(len(tail), -1, form.block)
    logits = form.bilinear((z_head.unsqueeze(3) * z_tail.unsqueeze(2)).flatten(1))
    model.classifier.objective.loss(logits, batch.labels[batch.mask]).backward()
    network.set_attn_implementation("sdpa")


def infer(model: DocRE, batch: Batch) -> None:
    """Prediction alone, with nothing kept for a way back."""
    model.eval()
    with torch.inference_mode():
        model(replace(batch, labels=None))
    model.train()


STEPS = {"bare": bare_step, "features": features_step, "full": full_step, "gathered": gathered_step, "infer": infer}


def cpu_seconds(step, model: DocRE, batch: Batch) -> float:
    model.zero_grad(set_to_none=True)
    begin = time.process_time()
    step(model, batch)
    return time.process_time() - begin


def compare(model: DocRE, batches: list[Batch], names: list[str], repeats: int) -> dict[str, float]:
    """CPU seconds of each step over all batches: the least of `repeats`, alternating."""
    best = {name: [float("inf")] * len(batches) for name in names}
    for _ in range(repeats):
        for k, batch in enumerate(batches):
            for name in names:
                best[name][k] = min(best[name][k], cpu_seconds(STEPS[name], model, batch))
    return {name: sum(times) for name, times in best.items()}


def inference(model: DocRE, atlop: DocRE, repeats: int) -> list[dict]:
    """CPU seconds to predict one document of about 400 tokens with 42 and with 80 entities, and ATLOP's own."""
    rows = []
    for entities in (42, 80):
        mentions = entities + entities // 3  # each with two markers and a name of two sub-words
        document = spread(entities, words=max(398 - 3 * mentions, mentions))
        best = {"paper": float("inf"), "atlop": float("inf")}
        for _ in range(repeats):
            for name, one in (("paper", model), ("atlop", atlop)):
                best[name] = min(best[name], cpu_seconds(infer, one, batch := one.batch([document])))
        row = {"entities": entities, "tokens": batch.windows.shape[1], "cpu_seconds": _round(best)}
        rows.append(row | {"times_atlop": round(best["paper"] / best["atlop"], 3)})
    return rows


def optimiser_seconds(model: DocRE, batch: Batch, repeats: int) -> float:
    """One update of all weights, as `docre_lite.train` sets the optimiser up."""
    config = TrainConfig()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, eps=config.adam_epsilon, weight_decay=0.0, fused=True)
    full_step(model, batch)
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        times.append(time.process_time() - begin)
    return min(times)


def peak_gb(args: argparse.Namespace, name: str) -> float:
    """Peak memory of a fresh process: three training steps of one kind, or the prediction of a large document."""
    command = [sys.executable, __file__, *sys.argv[1:], "--peak", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def run_peak(args: argparse.Namespace) -> None:
    model, batches = load(args)
    if args.peak == "infer":
        infer(model, model.batch([spread(LARGEST)]))
    else:
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        for batch in batches[:3]:
            STEPS[args.peak](model, batch)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent process too
    print(int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9)


def spread(entities: int, words: int = 330) -> Document:
    """A document of `words` words in sentences of 20, with `entities` entities of one or two mentions all over it."""
    mentions = entities + entities // 3
    at = [k * words // mentions for k in range(mentions)]
    found = [Mention(f"name{k % entities}", a // 20, a % 20, a % 20 + 1, "MISC") for k, a in enumerate(at)]
    text = [f"name{at.index(w) % entities}" if w in at else "word" for w in range(words)]
    sentences = tuple(tuple(text[i : i + 20]) for i in range(0, words, 20))
    return Document("spread", sentences, tuple(Entity(tuple(found[i::entities])) for i in range(entities)))


def load(args: argparse.Namespace) -> tuple[DocRE, list[Batch]]:
    """The model, and batches of documents spread over the file by length."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    documents = read(args.data)
    model = build(args.paper, documents, args.encoder)
    model.tokenizer.reading = update(Reading(), {"window": 512})
    encoded = model.tokenizer.encode(documents)
    encoded = sorted((t for t in encoded if len(t.ids) <= 512), key=lambda t: len(t.ids))
    size, count = args.batch_size, args.batches
    starts = [round((k + 0.5) * (len(encoded) - size) / count) for k in range(count)]
    return model.train(), [model.tokenizer.collate(encoded[i : i + size]) for i in starts]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--paper", default="atlop")
    ask.add_argument("--data", required=True, help="documents to time on (Re-DocRED's development file)")
    ask.add_argument("--encoder", required=True, help="folder or hub name of a BERT-like encoder (MiniLM)")
    ask.add_argument("--batch-size", type=int, default=4)
    ask.add_argument("--batches", type=int, default=5)
    ask.add_argument("--repeats", type=int, default=5)
    ask.add_argument("--peak", help=argparse.SUPPRESS)
    args = ask.parse_args()
    if args.peak:
        return run_peak(args)
    model, batches = load(args)
    reading = []
    for _ in range(3):
        begin = time.process_time()
        read_documents = read(args.data)
        reading.append(time.process_time() - begin)
    atlop = load(argparse.Namespace(**{**vars(args), "paper": "atlop"}))[0]
    names = ["bare", "features", "full", *(["gathered"] if args.paper == "atlop" else [])]
    seconds = compare(model, batches, names, args.repeats)
    weights = optimiser_seconds(model, batches[0], args.repeats) * len(batches)
    growth = []
    for entities in (10, 20, 42, 80):
        batch = model.batch([spread(entities)])
        times = compare(model, [batch], ["bare", "full"], args.repeats)
        growth.append({"entities": entities, "tokens": batch.windows.shape[1], **_round(times)})
    row = {
        "paper": args.paper,
        "encoder": Path(args.encoder).parent.name if Path(args.encoder).is_dir() else args.encoder,
        "data": Path(args.data).name,
        "precision": "fp32",
        "batch_size": args.batch_size,
        "batches": len(batches),
        "tokens": [int(b.windows.shape[1]) for b in batches],
        "pairs": [int(b.mask.sum()) for b in batches],
        "cpu_seconds": _round(seconds) | {"optimiser": round(weights, 4)},
        "times_bare": {name: round(value / seconds["bare"], 3) for name, value in seconds.items()},
        "times_bare_with_optimiser": round((seconds["full"] + weights) / (seconds["bare"] + weights), 3),
        "peak_gb": {name: round(peak_gb(args, name), 3) for name in names},
        "growth": growth,
        "inference": inference(model, atlop, args.repeats),
        "inference_peak_gb": {"entities": LARGEST, "peak_gb": round(peak_gb(args, "infer"), 3)},
        "reading": {"documents": len(read_documents), "cpu_seconds": round(min(reading), 3)},
        "environment": environment(),
    }
    print(json.dumps(row, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"speed_{args.paper}.json").write_text(json.dumps([row], indent=1) + "\n", encoding="utf-8")


def _round(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}


if __name__ == "__main__":
    main()
