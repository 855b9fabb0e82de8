"""`docre-lite score`: compares predictions with gold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from .options import AsJson, Lenient, file, show, table


def score(
    predictions: Annotated[Path, file("result.json or result.zip")],
    gold: Annotated[Path, file("documents with labels")],
    train: Annotated[Path | None, file("training documents, whose facts Ign F1 leaves out")] = None,
    by_relation: Annotated[bool, Option("--by-relation", help="add a row for each relation")] = False,
    lenient: Lenient = False,
    json: AsJson = False,
) -> None:
    """Score predictions with every metric of the field."""
    from ..evaluate import score as compare
    from ..evaluate import seen_facts
    from ..formats.readers import read
    from ..formats.submission import read_predictions

    documents = read(gold, strict=not lenient)
    seen = seen_facts(read(train, strict=not lenient)) if train else None
    scores = compare(read_predictions(predictions, documents), documents, seen).to_dict()
    if not by_relation:
        del scores["by_relation"]
    show(scores) if json else print(table(scores))
