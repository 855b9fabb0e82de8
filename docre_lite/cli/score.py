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
    found: Annotated[
        Path | None,
        file("the documents that predictions were made for, if a front end found their entities (`annotate`)"),
    ] = None,
    by_relation: Annotated[bool, Option("--by-relation", help="add a row for each relation")] = False,
    lenient: Lenient = False,
    json: AsJson = False,
) -> None:
    """Score predictions with every metric of the field."""
    from ..evaluate import score as compare
    from ..evaluate import seen_facts
    from ..formats.readers import read
    from ..formats.submission import read_predictions
    from ..front.scoring import score_found

    documents = read(gold, strict=not lenient)
    seen = seen_facts(read(train, strict=not lenient)) if train else None
    if found:
        read_by_model = read(found, labels=False, strict=not lenient)
        scores = score_found(read_predictions(predictions, read_by_model), read_by_model, documents, seen).to_dict()
    else:
        scores = compare(read_predictions(predictions, documents), documents, seen).to_dict()
    if not by_relation:
        del scores["by_relation"]
    show(scores) if json else print(table(scores))
