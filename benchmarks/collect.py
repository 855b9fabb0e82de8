"""Adds a finished `docre-lite train` run to the stored results: `python benchmarks/collect.py RUN NAME`.

Writes a row into `results/<NAME>.json`: the best epoch's dev scores, the curve, settings, machine and commit. A row
of the same seed, data and settings is replaced.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("run", type=Path, help="folder of `docre-lite train --out`")
    ask.add_argument("name", help="file of the results, such as atlop_redocred")
    ask.add_argument("--data", required=True, help="what the run was trained and scored on, in words")
    ask.add_argument("--encoder", required=True, help="the encoder's public name")
    args = ask.parse_args()
    plan = json.loads((args.run / "run.json").read_text(encoding="utf-8"))
    metrics = json.loads((args.run / "metrics.json").read_text(encoding="utf-8"))
    history = metrics["history"]
    whole = [row for row in history if row.get("stage", 2) == 2]  # a base that is trained first is not the model
    best = max(whole, key=lambda row: row["dev"]["f1"])
    row = {
        **{key: plan[key] for key in ("paper", "recipe", "settings", "seed")},
        "data": args.data,
        "encoder": args.encoder,
        "epochs": len(history),
        "best_epoch": best["epoch"],
        "dev": best["dev"],
        "dev_last": history[-1]["dev"],
        "curve": [
            {key: h[key] for key in ("epoch", "stage", "loss", "seconds") if key in h} | {"f1": h["dev"]["f1"]}
            for h in history
        ],
        "seconds": history[-1]["seconds"],
        "peak_memory_gb": history[-1]["peak_memory_gb"],
        "environment": metrics["environment"],
    }
    path = RESULTS / f"{args.name}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    key = ("data", "seed", "encoder", "settings")
    rows = [old for old in rows if any(old[k] != row[k] for k in key)] + [row]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
