"""What trained models find in the same documents: `python benchmarks/predictions.py RUN [RUN ...]`.

A RUN is a folder of `docre-lite bench run lite --only seed=0`, such as `runs/lite/corpus-tiny-atlop-atlop-0`; its best
epoch by dev F1 is taken. `results/predictions.json` holds, per paper, the triples of the embedded corpus's test
documents as [document, head, relation, tail, margin]. A paper's older row goes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from docre_lite.bench.speed import PAPERS
from docre_lite.corpus import generate
from docre_lite.model import DocRE
from docre_lite.predict import predict

PATH = Path(__file__).parent / "results" / "predictions.json"
TEST = 150  # documents, as the plan has it


def row(run: Path) -> dict:
    told, metrics = (json.loads((run / name).read_text(encoding="utf-8")) for name in ("run.json", "metrics.json"))
    documents = generate("test", TEST)
    place = {document.title: k for k, document in enumerate(documents)}
    triples = predict(DocRE.load(run / "model"), documents)
    return {
        "paper": told["paper"],
        "seed": told["seed"],
        "test": TEST,
        "epochs": len(metrics["history"]),
        "triples": [[place[t.title], t.head, t.relation, t.tail, round(t.score, 2)] for t in triples],
        "environment": metrics["environment"],
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ask.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    rows = {r["paper"]: r for r in json.loads(PATH.read_text(encoding="utf-8"))} if PATH.is_file() else {}
    for run in ask.parse_args().runs:
        found = row(run)
        rows[found["paper"]] = found
        print(found["paper"], len(found["triples"]), flush=True)
    lines = ",\n".join(json.dumps(rows[p]) for p in PAPERS if p in rows)
    PATH.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
