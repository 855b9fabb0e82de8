"""Fetches public data: pinned revisions, resumable, verified, and with clear instructions without internet.

    fetch("redocred", "data/redocred")      # or: docre-lite data fetch redocred --to data/redocred

If the checksum of a file is not known beforehand, the first download records its own in `checksums.json` beside
the data, and every later download is checked against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..support import DataError, shipped
from ..support.store import alone, read_json, sweep, write_whole, writing
from ..types import Document
from .convert import from_dwie, from_renet, split_dwie
from .download import Source, download, record, to_stderr, verify
from .faults import Faults
from .files import parquet_rows, read_bytes
from .readers import read, read_relations, write_docred
from .stream import Absent, gunzip, unzip


@dataclass(frozen=True)
class Dataset:
    """The files to fetch, how to convert them, and how many documents and triples must then be found."""

    page: str
    licence: str
    sources: tuple[Source, ...]
    counts: dict[str, tuple[int, int | None]]  # file: documents, triples (None: not published)
    convert: Callable[[Path], None] | None = None
    notes: tuple[str, ...] = ()


RENET_FILES = ("abstracts.txt", "anns.txt", "labels.csv")
# Other software for this corpus publishes the checksum of the development file, the only one of the three.
CDR_DEVELOPMENT = "9e18d8e700168887a7919e62f67ac2ce2357e3f409a48ee992906abdd80fe3e5"


def _unpack_cdr(folder: Path) -> None:
    names = list(SOURCES["cdr"].counts)
    _unpack(folder / "CDR_Data.zip", {name: folder / name for name in names})
    verify(folder / "CDR_DevelopmentSet.PubTator.txt", CDR_DEVELOPMENT)


def _convert_dwie(folder: Path) -> None:
    path = folder / "dwie.parquet"
    rows = parquet_rows(read_bytes(path), path)
    faults = Faults(str(path), lenient=True)
    articles = [from_dwie(row, f"{path}: document {i}", faults) for i, row in enumerate(rows)]
    faults.tell(len(articles))
    for name, documents in split_dwie(articles).items():
        write_docred(documents, folder / f"{name}.json")


def _convert_gda(folder: Path) -> None:
    """EoG's split: the training abstracts listed in `train_gda_docs`, the rest for dev; RENET's test set."""
    parts = [f"{split}_data/{file}" for split in ("training", "testing") for file in RENET_FILES]
    _unpack(folder / "gda.zip", {part: folder / part for part in parts})
    listed = set((folder / "train_gda_docs").read_text().split())
    training = _renet(folder / "training_data")
    write_docred([d for d in training if d.title in listed], folder / "train.json.gz")
    write_docred([d for d in training if d.title not in listed], folder / "dev.json.gz")
    write_docred(_renet(folder / "testing_data"), folder / "test.json.gz")


def _renet(folder: Path) -> list[Document]:
    faults = Faults(str(folder), lenient=True)
    documents = from_renet(folder, faults)
    faults.tell(len(documents))
    return documents


def _unpack(archive: Path, wanted: dict[str, Path]) -> None:
    """Extracts the members whose path ends in a wanted one, each to its place. Uses no other path of the archive."""
    for ending, path in wanted.items():
        try:
            content = unzip(archive, lambda name, ending=ending: f"/{name}".endswith(f"/{ending}"), archive)
        except Absent:
            raise DataError(f"{archive}: contains no {ending}; it is another release: see its page") from None
        with writing(path, "fix that and run this again"):
            write_whole(path, content)


CONVERSIONS = {"cdr": _unpack_cdr, "dwie": _convert_dwie, "gda": _convert_gda}


def _sources() -> dict[str, Dataset]:
    """`data/sources.json`: repositories, revisions and sizes as the hub's pages show them, counts as published."""
    found = {}
    for name, told in read_json(shipped("data/sources.json")).items():
        sources = tuple(Source(**source) for source in told.pop("sources"))
        counts = {file: tuple(numbers) for file, numbers in told.pop("counts").items()}
        notes = tuple(told.pop("notes", ()))
        found[name] = Dataset(**told, sources=sources, counts=counts, convert=CONVERSIONS.get(name), notes=notes)
    return found


SOURCES = _sources()


def fetch(
    name: str, to: str | Path, *, progress: bool = True, say: Callable[[str], None] = to_stderr
) -> dict[str, Path]:
    """Download a data set into the folder `to`, check it, and make it readable with `read`.

    Running it again resumes interrupted downloads and verifies finished ones. A file that you put there
    under its name (the error message of an offline machine gives it) counts as downloaded.

    Args:
        name: docred, docred-distant, redocred, cdr, dwie or gda.
        progress: show progress bars.
        say: receives a line for everything worth knowing; writes it to standard error by default.

    Returns:
        The files to read, and the relation map if there is one: path by name.

    Raises:
        DataError: unknown name, no connection, another fetch at work in the folder, a file that is not what its name
            says, a different checksum or count; one line each.
    """
    if name not in SOURCES:
        raise DataError(f"no data set {name!r} to fetch; have {', '.join(SOURCES)}")
    dataset = SOURCES[name]
    folder = Path(to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot create this folder ({error.strerror}); choose another") from None
    say(f"{name}: {dataset.page}, licence: {dataset.licence}")
    with alone(folder, "choose another folder for --to"):
        sweep(folder)
        for source in dataset.sources:
            _get(source, folder / source.name, progress)
        if dataset.convert is not None:
            dataset.convert(folder)
        for file, (documents, triples) in dataset.counts.items():
            _check_counts(folder / file, documents, triples, say)
        for source in dataset.sources:  # only now: the checksum of a wrong file must not be recorded as right
            if source.sha256 is None:
                record(folder / source.name, say)
    for note in dataset.notes:
        say(f"note: {note}")
    read_as_they_are = [s.name for s in dataset.sources] if dataset.convert is None else []
    return {file: folder / file for file in [*dataset.counts, *read_as_they_are]}


def _get(source: Source, path: Path, progress: bool) -> None:
    """Downloads a file unless it is there, and checks it."""
    new = not path.is_file()
    if new:
        download(source, path, progress=progress)
    try:
        inspect(path)
    except DataError:
        if new:  # else whoever put it there may want to see it
            path.unlink()
        raise
    verify(path, source.sha256)


def inspect(path: Path) -> None:
    """Opens a file that was fetched, up to its end: a server may send a page, such as a login, in place of it.

    Raises DataError with the way out. Only `read` and `read_relations` can tell whether it is the right file.
    """
    way_out = "delete it and fetch again, or fetch it by hand in a browser"
    with path.open("rb") as file:
        begin = file.read(4)
        file.seek(0)
        try:
            if path.suffix == ".zip":
                unzip(file, lambda name: not name.endswith("/"), path)
            elif path.suffix == ".parquet":
                parquet_rows(file.read(), path)
            else:
                content = gunzip(file, path) if begin[:2] == b"\x1f\x8b" else file.read()
        except DataError as error:
            raise DataError(f"{error}; {way_out}") from None
    if path.suffix in (".zip", ".parquet"):
        return
    content = content.strip()
    ends = content[:1] + content[-1:]
    if content.startswith(b"<") or "json" in path.name and ends not in (b"[]", b"{}"):
        begin = content[:30].decode(errors="replace").split("\n")[0]
        raise DataError(f"{path}: the server sent something else, which begins {begin!r}; {way_out}")
    if path.name.startswith("rel_info"):
        names = read_relations(path).names[1:]
        if odd := [name for name in names if not re.fullmatch(r"P\d+", name)]:
            raise DataError(f"{path}: holds {odd[0]!r} where Wikidata's properties belong, such as 'P17'; {way_out}")


def _check_counts(path: Path, documents: int, triples: int | None, say: Callable[[str], None]) -> None:
    found = read(path, strict=False)
    facts = sum(len(document.triples) for document in found)
    if len(found) != documents or triples not in (None, facts):
        raise DataError(
            f"{path}: {len(found)} documents and {facts} triples, but {documents} and "
            f"{'any number' if triples is None else triples} were expected; the file is another version or incomplete: "
            "delete it and fetch again, or use it as it is at your own risk"
        )
    say(f"{path}: {len(found)} documents, {facts} triples")
