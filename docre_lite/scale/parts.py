"""Inputs and their parts: some rows of one file, and the work on them."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..corpus import running_example
from ..encode import Tokens
from ..formats.docred import document_from_json, file_number
from ..formats.files import decode, parse_json
from ..formats.stream import Row, stream
from ..model import DocRE
from ..predict import over, predict_encoded
from ..support import DataError
from ..support.machine import arithmetic, give_back, out_of_memory
from ..support.store import write_whole, writing
from ..types import Document, Triple

PART_BYTES = 1 << 24  # most bytes of a part; only rows far larger than any document reach it
MANIFEST, REJECTED = "_manifest.json", "_rejected"  # readers of parquet folders skip names that begin with "_"
LONGEST = 1 << 14  # most characters of a title or name
OBJECT = re.compile(rb"(\xef\xbb\xbf)?\s*\{\s*\S")  # the start of a line with a document
SCHEMA = pa.schema(
    {
        "input": pa.string(),  # as in the manifest
        "row": pa.int64(),  # line or parquet row, from 0
        "title": pa.string(),
        "head": pa.int32(),  # entities keep the input's numbers
        "head_name": pa.string(),  # name and type of the first mention
        "head_type": pa.string(),
        "tail": pa.int32(),
        "tail_name": pa.string(),
        "tail_type": pa.string(),
        "relation": pa.string(),
        "score": pa.float32(),  # margin over the threshold, in logits
        "evidence": pa.list_(pa.int32()),  # sentences, the strongest first
    }
)


Reject = Callable[[int, object, str], None]  # takes row, title and reason


@dataclass(frozen=True)
class Source:
    """An input: its path below the folder that all inputs share, and the marks that identify the file."""

    name: str
    path: Path
    bytes: int
    sha256: str  # of the first and the last MiB

    @property
    def mark(self) -> dict[str, Any]:
        return {"name": self.name, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True)
class Part:
    """Consecutive rows of an input. The limits of parts depend on the input and `part_size` alone."""

    source: Source
    number: int
    rows: list[Row]
    bytes: int  # of the input, from the end of the previous part to the end of this one

    @property
    def name(self) -> str:
        return part_name(self.source.name, self.number)


@dataclass(frozen=True)
class Job:
    """The information that a process needs to work on parts."""

    model: Path
    out: Path
    settings: Mapping[str, Any]  # everything that determines the triples
    batch_size: int


def find(patterns: str | Sequence[str], out: Path) -> list[Source]:
    """The files that match the patterns, sorted by name, without those that an earlier call wrote to `out`.

    Raises `DataError` if one of them cannot be read at all.
    """
    found: set[Path] = set()
    out = Path(os.path.abspath(out))
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if Path(pattern).is_dir():
            raise DataError(f"{pattern}: is a folder; give a pattern for the files in it, such as '{pattern}/*.jsonl'")
        named = Path(pattern).is_file()
        files = [pattern] if named else glob.glob(pattern, recursive=True)
        files = [Path(os.path.abspath(name)) for name in files if Path(name).is_file()]
        if not files:
            raise DataError(f"{pattern}: no file matches; check the path, and put a pattern in quotes")
        inputs = [path for path in files if path.parent not in (out, out / REJECTED)]
        if not inputs:
            raise DataError(f"{files[0]}: lies in the --out folder; choose another one")
        if odd := [path for path in inputs if any("\ud800" <= c <= "\udfff" for c in str(path))]:
            raise DataError(f"{str(odd[0])!a}: this file name is not UTF-8; rename the file")
        found.update(inputs)
    common = Path(os.path.commonpath([path.parent for path in found]))
    sources = [_source(path, path.relative_to(common).as_posix()) for path in sorted(found)]
    names: dict[str, Source] = {}
    for source in sources:
        if (other := names.setdefault(part_name(source.name, 0), source)) is not source:
            raise DataError(f"{source.path}: its parts would have the same names as those of {other.path}; rename one")
        first = list(islice(stream(source.path), 10))  # a damaged row is set aside, but not all may be
        if first and not any(isinstance(r.data, DataError) or OBJECT.match(r.data) for r in first):
            raise DataError(
                f"{source.path}: not JSON with one document per line; convert it, or use `docre-lite predict`"
            )
    return sources


def _source(path: Path, name: str) -> Source:
    try:
        with path.open("rb") as file:
            size, mebibyte = path.stat().st_size, 1 << 20
            digest = hashlib.sha256(file.read(mebibyte))
            file.seek(max(size - mebibyte, 0))
            digest.update(file.read(mebibyte))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    return Source(name, path, size, digest.hexdigest())


def part_name(source: str, number: int) -> str:
    return f"triples-{source.replace('/', '-')}-{number:05d}.parquet"


def parts_of(source: Source, size: int) -> Iterator[Part]:
    """The rows of an input, `size` at a time, or fewer if they are large."""
    number = length = begin = 0
    rows: list[Row] = []
    for row in stream(source.path):
        rows.append(row)
        length += len(row.data) if isinstance(row.data, bytes) else 0
        if len(rows) == size or length >= PART_BYTES:
            yield Part(source, number, rows, row.position - begin)
            number, length, begin, rows = number + 1, 0, row.position, []
    if rows:
        yield Part(source, number, rows, rows[-1].position - begin)


def work(job: Job, part: Part) -> dict[str, Any]:
    """Finds and writes the triples of a part, rejected rows first: the part's file shows that both are complete."""
    give_back()
    model = loaded_model(job.model, tuple(job.settings["options"].items()))
    rejected: list[dict[str, Any]] = []

    def reject(row: int, title: object, reason: str) -> None:
        title = title if isinstance(title, str | int | float) else None  # others may be nested, or of any length
        rejected.append({"input": part.source.name, "row": row, "title": title, "reason": reason})

    encoded = _encode(model, part, job.settings["budget"], reject)
    try:
        found = _found(model, job, encoded, reject)
    except Exception as error:
        error.add_note(f"{part.source.path}: in rows {part.rows[0].number} to {part.rows[-1].number}")
        raise
    columns = _columns(part, {row: encoded[row] for row in found}, list(found.values()))
    count = {
        "name": part.name,
        "input": part.source.mark,
        "first": part.rows[0].number,
        "bytes": part.bytes,
        "documents": len(found),
        "triples": len(columns["row"]),
        "rejected": len(rejected),
    }
    if rejected:
        lines = "".join(json.dumps(row) + "\n" for row in sorted(rejected, key=lambda row: row["row"]))
        write(job.out / REJECTED / f"{Path(part.name).stem.removeprefix('triples-')}.jsonl", lines.encode())
    about = {"docre_lite": json.dumps({"settings": dict(job.settings), "count": count}, sort_keys=True)}
    packed = BytesIO()
    table = pa.table(columns, SCHEMA.with_metadata(about))
    pq.write_table(table, packed, compression="zstd", write_page_checksum=True)
    write(job.out / part.name, packed.getvalue())
    return count


def _encode(model: DocRE, part: Part, budget: int, reject: Reject) -> dict[int, Tokens]:
    """The documents of a part in sub-words by row; those that cannot be read or are too large are set aside."""
    documents: dict[int, Document] = {}
    for row in part.rows:
        obj = None
        where = f"{part.source.name}: row {row.number}"
        try:
            if isinstance(row.data, DataError):
                raise row.data
            obj = parse_json(decode(row.data, where), where)
            if isinstance(obj, dict):
                obj.pop("labels", None)  # extraction ignores them
            documents[row.number] = document_from_json(obj, where)
        except Exception as error:
            reject(row.number, obj.get("title") if isinstance(obj, dict) else None, _reason(error, where))

    def encode(rows: list[int]) -> dict[int, Tokens]:
        return dict(zip(rows, model.tokenizer.encode([documents[row] for row in rows]), strict=True))

    encoded = _together_or_alone(encode, list(documents), lambda row, why: reject(row, documents[row].title, why))
    for row, tokens in list(encoded.items()):
        if reason := over(model, tokens, budget) or _long_name(tokens.document):
            del encoded[row]
            reject(row, tokens.document.title, reason)
    return encoded


def _long_name(document: Document) -> str | None:
    """Each triple repeats title and names: a long one fills memory and disk."""
    strings = [document.title, *(text for entity in document.entities for text in (entity.name, entity.type))]
    if (longest := max(map(len, strings))) <= LONGEST:
        return None
    return f"a title, name or type of {longest} characters, more than {LONGEST}; shorten it"


def _found(model: DocRE, job: Job, encoded: Mapping[int, Tokens], reject: Reject) -> dict[int, list[Triple]]:
    """The triples of each document by row. One that fails alone is set aside, unless the model fails at any."""
    told = job.settings

    def find(tokens: list[Tokens]) -> list[list[Triple]]:
        torch.manual_seed(told["seed"])
        with arithmetic(told["precision"], model.device):
            return predict_encoded(model, tokens, job.batch_size, evidence=told["evidence"], budget=told["budget"])

    failed: dict[int, str] = {}
    found = _together_or_alone(
        lambda rows: dict(zip(rows, find([encoded[row] for row in rows]), strict=True)),
        list(encoded),
        failed.__setitem__,
    )
    if failed:
        find(model.tokenizer.encode([running_example()]))  # whoever cannot read this either has another fault
    for row, reason in failed.items():
        reject(row, encoded[row].document.title, reason)
    return found


def _together_or_alone(
    do: Callable[[list[int]], dict[int, Any]], rows: list[int], fails: Callable[[int, str], object]
) -> dict[int, Any]:
    """What `do` finds in all rows at once. If it fails, each row is tried alone, once, and `fails` hears of those that
    fail; the rest is done once more together, as it would be without them.
    """
    try:
        return do(rows)
    except Exception:
        pass  # the memory that the exception holds goes with it
    alone = {}
    for row in rows:
        give_back()
        try:
            alone |= do([row])
        except Exception as error:
            fails(row, _reason(error))
    give_back()
    try:
        return do(list(alone))
    except Exception:  # each fits into memory, but not all
        return alone


def _reason(error: Exception, where: str = "") -> str:
    """Why a document was set aside, in one line."""
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, RecursionError):
        return f"{where}: JSON nested too deeply; DocRED JSON is a list of documents"
    said = " ".join(str(error).split())[:200]
    if out_of_memory(error):
        return f"it needs more memory than there is ({said or 'MemoryError'}); a smaller --budget sets it aside at once"
    return f"it could not be read ({type(error).__name__}: {said})"


def _columns(part: Part, encoded: Mapping[int, Tokens], found: Sequence[Sequence[Triple]]) -> dict[str, list]:
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for (row, tokens), triples in zip(encoded.items(), found, strict=True):
        document = tokens.document
        for t in triples:
            head, tail = document.entities[t.head], document.entities[t.tail]
            values = [part.source.name, row, document.title]
            values += [file_number(document, t.head), head.name, head.type]
            values += [file_number(document, t.tail), tail.name, tail.type]
            values += [t.relation, t.score, list(t.evidence)]
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return columns


@lru_cache(maxsize=1)
def loaded_model(folder: Path, options: tuple) -> DocRE:
    return DocRE.load(folder, **dict(options)).to("cuda" if torch.cuda.is_available() else "cpu")


def write(path: Path, data: bytes) -> None:
    with writing(path, "fix that and run the same command again: it continues where it stopped"):
        write_whole(path, data)
