"""How far word-free probes get on the embedded corpus, at full size: `python benchmarks/corpus_probes.py`.

Writes `results/corpus_probes.json`: a row per probe and seed, the statistics of the dev split, machine and commit.
With `--add unet`, the rows of that kind join the stored ones, each with its own machine and commit.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from docre_lite.bench.probes import run_probe
from docre_lite.bench.statistics import statistics
from docre_lite.corpus import generate
from docre_lite.support.machine import environment

RESULTS = Path(__file__).parent / "results"
KINDS = ("type", "type_position", "imsa", "unet")  # "count" is for data whose order of entities is informative


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--dev", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--add", choices=KINDS, help="run this kind alone, and keep the stored rows of the others")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, dev = generate("train", options.train), generate("dev", options.dev)
    file = RESULTS / "corpus_probes.json"
    stored = json.loads(file.read_text(encoding="utf-8")) if options.add else {"environment": environment()}
    rows = [row for row in stored.get("probes", []) if row["kind"] != options.add]
    for kind in [options.add] if options.add else KINDS:
        for seed in options.seeds:
            start = time.process_time()
            found = run_probe(kind, train, dev, options.epochs, seed)
            rows.append(
                {"kind": kind, "seed": seed, "train": len(train), "dev": len(dev), "epochs": options.epochs}
                | {name: round(value, 4) for name, value in found.items()}
                | {"cpu_seconds": round(time.process_time() - start, 1)}
                | ({"environment": environment()} if options.add else {})
            )
            print(rows[-1], flush=True)
    rounded = {row: round(value, 4) for row, value in statistics(dev, train).items()}
    record = {"environment": stored["environment"], "probes": rows, "statistics_dev": rounded}
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
