"""What the five papers find in the same documents, one seed each: `python benchmarks/predictions.py`.

Each is trained on the embedded corpus with its recipe for the tiny encoder. `results/predictions.json` holds, per
paper, the triples of the test documents as [document, head, relation, tail, margin].
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from accelerate.utils import set_seed

from docre_lite.corpus import generate
from docre_lite.model import build
from docre_lite.predict import predict, tune
from docre_lite.train import configure, environment, fit

PAPERS = ("atlop", "docunet", "paee", "docre_ii", "dre_mir")  # in the order of the chapters
PATH = Path(__file__).parent / "results" / "predictions.json"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--train", type=int, default=600)
    ask.add_argument("--test", type=int, default=150)
    args = ask.parse_args()
    train, dev, test = generate("train", args.train), generate("dev", 150), generate("test", args.test)
    place = {document.title: k for k, document in enumerate(test)}
    rows = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else []
    size = {"seed": args.seed, "train": args.train, "test": args.test}
    for name in PAPERS:
        if any(row["paper"] == name and size.items() <= row.items() for row in rows):
            continue
        config, settings = configure(name, "tiny", seed=args.seed)
        set_seed(args.seed)
        model = build(name, train, "tiny", **settings)
        begin = time.process_time()
        for _ in fit(model, train, (), config):
            pass
        seconds = round(time.process_time() - begin, 1)
        tune(model, dev)
        found = [[place[t.title], t.head, t.relation, t.tail, round(t.score, 2)] for t in predict(model, test)]
        row = {"paper": name, **size, "epochs": config.epochs, "cpu_seconds": seconds, "triples": found}
        rows.append(row | {"environment": environment()})
        lines = ",\n".join(json.dumps(row) for row in rows)
        PATH.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        print(name, len(found), f"{seconds} s", flush=True)


if __name__ == "__main__":
    main()
