"""`docre-lite data` and `convert`: fetches public data sets, describes and converts files of documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from .options import AsJson, Lenient, Pairs, folder, show, table
from .options import file as _file

Ids = Annotated[
    str, Option(help="characters that join several concept ids of a mention, or 'whole'", metavar="auto|CHARS")
]

Unpacked = Annotated[int, Option(help="most MiB that an archive may unpack to", min=1, metavar="MIB")]


def fetch(
    name: Annotated[Literal["docred", "redocred", "cdr", "dwie", "gda"], Argument(help="which data set")],
    to: Annotated[Path, folder("folder to write to; an interrupted download continues there")],
) -> None:
    """Download a public data set."""
    from ..formats.hub import fetch as load

    show({str(k): str(v) for k, v in load(name, to).items()})


def info(
    file: Annotated[Path, Argument(help="documents in any supported format", metavar="FILE")],
    train: Annotated[Path | None, _file("training documents; warn of texts that both files contain")] = None,
    pairs: Pairs = None,
    ids: Ids = "auto",
    lenient: Lenient = False,
    unpacked: Unpacked = 2048,
    json: AsJson = False,
) -> None:
    """Show the format, counts and warnings of a file of documents."""
    from ..formats.describe import describe
    from ..formats.readers import look, read

    opened = look(file, pairs=pairs, ids=ids, strict=not lenient, unpacked=unpacked << 20)
    facts = dict(opened.facts)
    names, right = facts.pop("names"), facts.pop("names_right")
    found = {"format": opened.format} | describe(opened.documents, read(train, strict=not lenient) if train else None)
    found |= {"share_of_mentions_that_are_their_name": right / names if names else None, "in_the_file": facts}
    show(found) if json else print(table(found))


def convert(
    input: Annotated[Path, Argument(help="file, or folder (brat, gda)", metavar="INPUT")],
    to: Annotated[Path, _file("DocRED JSON to write; compressed if its name ends in .gz")],
    format: Annotated[
        Literal["auto", "docred", "pubtator", "text", "biored", "bioc", "brat", "label-studio", "spacy", "dwie", "gda"],
        Option("--from", help="format of the input; spacy: a .spacy file of documents"),
    ] = "auto",
    pairs: Pairs = None,
    ids: Ids = "auto",
    lenient: Lenient = False,
    unpacked: Unpacked = 2048,
) -> None:
    """Turn a file of another format into DocRED JSON, which every command reads."""
    from ..formats.readers import look, typed, write_docred

    if format == "spacy":
        from ..front.finders import stored_docs

        documents = stored_docs(input)
        if directions := typed(pairs):
            documents = [document.restricted(directions) for document in documents]
    else:
        opened = look(input, format=format, pairs=pairs, ids=ids, strict=not lenient, unpacked=unpacked << 20)
        documents, format = opened.documents, opened.format
    write_docred(documents, to)
    counts = {"documents": len(documents), "entities": sum(len(d.entities) for d in documents)}
    show(counts | {"triples": sum(len(d.triples) for d in documents), "from": format, "to": str(to)})
