"""What is read from public files, beside what their publishers count: `python benchmarks/formats.py FOLDER`.

FOLDER holds `redocred/`, `cdr/` and `biored/`. Writes `results/formats.json`: counts only.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

from docre_lite.formats.readers import look
from docre_lite.support.machine import environment

RESULTS = Path(__file__).parent / "results"
# file: how to read it, and the documents and relations that its publisher counts
FILES = {
    "redocred/dev_revised.json": ("Re-DocRED, dev", {}, 500, 17284),
    "cdr/CDR_TrainingSet.PubTator.txt": ("CDR, train", {"pairs": "cdr"}, 500, 1038),
    "cdr/CDR_DevelopmentSet.PubTator.txt": ("CDR, dev", {"pairs": "cdr"}, 500, 1012),
    "biored/Dev.PubTator": ("BioRED, dev", {}, 100, 1162),
}


def row_of(path: Path, name: str, given: dict, documents: int, relations: int) -> dict:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        file = look(path, **given)
    facts = dict(file.facts)
    names, right = facts.pop("names"), facts.pop("names_right")
    row = {"name": name, "file": path.name, "format": file.format, "settings": given}
    row |= {"documents": len(file.documents), "published_documents": documents}
    row |= {"entities": sum(len(d.entities) for d in file.documents), "mentions": names, "mentions_right": right}
    row |= {"pairs": sum(len(d.pairs()) for d in file.documents)}
    row |= {"triples": sum(len(d.triples) for d in file.documents), "published_relations": relations}
    return row | {"facts": facts, "told": [str(w.message).removeprefix(f"{path}: ") for w in told]}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("folder", type=Path, help="folder of public data")
    folder = ask.parse_args().folder
    rows = [row_of(folder / file, *how) for file, how in FILES.items() if (folder / file).is_file()]
    record = [row | {"environment": environment()} for row in rows]
    (RESULTS / "formats.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
