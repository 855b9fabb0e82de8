"""`docre-lite annotate`: finds mentions and entities in raw text, and writes documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .options import file, show


def annotate(
    input: Annotated[
        list[Path],
        Option(help='plain text, or JSON lines with "text" and "title"; .gz too; several files', metavar="FILE…"),
    ],
    front: Annotated[Literal["spacy", "gliner"], Option("--with", help="what finds the mentions; an extra of pip")],
    model: Annotated[
        str,
        Option(help="of spaCy: an installed package or a folder; of GLiNER: a hub name or a folder", metavar="NAME"),
    ],
    out: Annotated[Path, file("documents, one DocRED JSON object per line, as `predict` and `extract` read them")],
    per: Annotated[
        Literal["file", "block"], Option(help="one document of plain text per file, or per block between blank lines")
    ] = "file",
    labels: Annotated[
        str | None, Option(help="GLiNER: what to find, such as person,place", metavar="TYPE,TYPE…")
    ] = None,
    threshold: Annotated[float, Option(help="GLiNER: least score of a mention", min=0, max=1, metavar="SCORE")] = 0.5,
    map: Annotated[
        list[str] | None,
        Option(
            help="call a type of the front end what your model calls it; PERSON= leaves its mentions out; repeatable",
            metavar="PERSON=PER",
        ),
    ] = None,
) -> None:
    """Find mentions and entities in raw text with spaCy or GLiNER."""
    from ..front import finders
    from ..front.texts import annotate as write

    types = {}
    for item in map or ():
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise ValueError(f"--map takes PERSON=PER, not {item!r}")
        types[name] = value
    if front == "gliner":
        named = [label.strip() for label in (labels or "").split(",") if label.strip()]
        if not named:
            raise ValueError("--with gliner needs --labels, the types to find, such as --labels person,place")
        find, longest = finders.gliner_finder(finders.gliner_model(model), named, threshold, types), None
    else:
        if labels:
            raise ValueError("--labels is for GLiNER; a model of spaCy finds the types it was trained on")
        nlp = finders.spacy_pipeline(model)
        find, longest = finders.spacy_finder(nlp, types), nlp.max_length
    show({**write(input, find, out, per=per, longest=longest, progress=True), "out": str(out)})
