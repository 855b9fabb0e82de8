"""The oracle-cell lab with five seeds: `python benchmarks/lab.py` (about half a minute per arm).

Each module over the pair matrix is trained on cells that hold the stated facts, and scored on composed facts: as they
are, with the entities in a random order, with cells emptied or hidden, by depth of composition, and after further
rounds that read the answers of the last one. Rows go to `results/lab.json` at once; stored rows are skipped.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from docre_lite.bench import lab, rows
from docre_lite.corpus import generate
from docre_lite.support.machine import environment

RESULTS = Path(__file__).parent / "results" / "lab.json"
TRAIN, TEST = 240, 120
ARMS = (
    ("alone", {}),
    ("unet", {}),
    ("tnet", {}),
    ("lines", {}),
    ("paths", {}),
    ("lines", {"layers": 1}),
    ("paths", {"layers": 1}),
    ("lines", {"layers": 1, "reread": True}),
    ("paths", {"layers": 1, "reread": True}),
    ("paths", {"mask_rate": 0.2}),
)


def tests(kind: str) -> dict[str, dict]:
    """The ways to score a module, by name."""
    ways: dict[str, dict] = {"as it is": {}, "shuffled": {"shuffled": True}, "emptied 20 %": {"emptied": 0.2}}
    ways |= {f"depth {d}": {"depth": d} for d in (1, 2, 3)}
    if kind == "alone":
        return ways
    ways |= {f"hidden {round(100 * rate)} %": {"hidden": rate} for rate in (0.1, 0.2, 0.3, 0.4, 0.5)}
    for rounds in (2, 3):
        ways[f"round {rounds}"] = {"rounds": rounds}
        ways |= {f"depth {d}, round {rounds}": {"rounds": rounds, "depth": d} for d in (1, 2, 3)}
    return ways


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    ask.add_argument("--epochs", type=int, default=8)
    args = ask.parse_args()
    torch.set_num_threads(1)
    train, test = lab.sheets(generate("train", TRAIN)), lab.sheets(generate("test", TEST))
    for seed in args.seeds:
        for kind, more in ARMS:
            row = {"kind": kind, "layers": 2, "reread": False, "mask_rate": 0.0, "seed": seed}
            row |= {"documents": TRAIN, "test": TEST, "epochs": args.epochs} | more
            if any(all(old.get(key) == value for key, value in row.items()) for old in rows.stored(RESULTS)):
                continue
            begin = time.process_time()
            model = lab.learn(kind, train, epochs=args.epochs, seed=seed, **more)
            row["cpu_seconds"] = round(time.process_time() - begin, 1)
            row["scores"] = {name: round(lab.composed_f1(model, test, **way), 3) for name, way in tests(kind).items()}
            row["environment"] = environment()
            rows.keep(RESULTS, row, lambda old, new: False)
            print(kind, more, seed, row["scores"]["as it is"], row["cpu_seconds"], flush=True)


if __name__ == "__main__":
    main()
