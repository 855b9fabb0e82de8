"""Statistics of a file of documents, to compare with the corpus: `python benchmarks/file_statistics.py FILE NAME`.

Writes `results/statistics_<NAME>.json`: counts and shares only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from docre_lite.bench.statistics import statistics
from docre_lite.formats.readers import read

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("file", type=Path, help="documents in any supported format")
    ask.add_argument("name", help="name of the result")
    args = ask.parse_args()
    row = {"data": args.file.name, **{name: round(value, 4) for name, value in statistics(read(args.file)).items()}}
    (RESULTS / f"statistics_{args.name}.json").write_text(json.dumps([row], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
