"""Streams documents from files larger than memory, and unpacks archives up to a limit: they may hide any size."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

from ..support import DataError

LINE = 1 << 24  # bytes; a longer line is not a document but a file that would not fit into memory


UNPACKED = 1 << 31  # most bytes that an archive, or a member of one, may unpack to by default
PIECE = 1 << 20


def gunzip(packed: BufferedIOBase, where: Path | str, limit: int = UNPACKED) -> bytes:
    """The content of a gzip file. Raises DataError, which begins with `where`, if it is damaged or beyond the limit."""
    try:
        return _read(gzip.GzipFile(fileobj=packed), where, limit)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{where}: the gzip file is truncated or damaged; download it again") from None


def unzip(
    packed: BufferedIOBase | Path, choose: Callable[[str], bool], where: Path | str, limit: int = UNPACKED
) -> bytes:
    """The first member of a zip whose name is chosen. Raises DataError, which begins with `where`, if there is none, if
    the archive is damaged or locked, or if the member is larger than the limit, whatever its header says.
    """
    try:
        with zipfile.ZipFile(packed) as archive:
            names = archive.namelist()
            if (name := next(filter(choose, names), None)) is None:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise Absent(f"{where}: contains {', '.join(repr(name[:60]) for name in names[:3])}{more}")
            with archive.open(name) as member:
                return _read(member, where, limit)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # each method of compression has errors of its own; also a password
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(
            f"{where}: damaged or locked zip or not a zip archive ({said}); fetch or write it again"
        ) from None


class Absent(DataError):
    """An archive lacks a member."""


def _read(file: BufferedIOBase, where: Path | str, limit: int) -> bytes:
    """All of a file that is unpacked while it is read; at no time more than the limit."""
    pieces, size = [], 0
    while piece := file.read(PIECE):
        pieces.append(piece)
        if (size := size + len(piece)) > limit:
            raise DataError(
                f"{where}: unpacks to more than the limit of {limit >> 20} MiB; divide it, unpack it first, or raise "
                "the limit (`data info` and `convert` have --unpacked)"
            )
    return b"".join(pieces)


class Row(NamedTuple):
    """A document of a stream, not parsed yet."""

    number: int  # of its line or parquet row, from 0
    data: bytes | DataError  # its JSON, or why there is none
    position: int  # bytes of the file up to its end


def stream(path: Path) -> Iterator[Row]:
    """The documents of JSON lines, plain or gzipped, or of DocRED parquet: one at a time, never the file as a whole.

    A damaged part yields a `DataError` in place of its JSON: a line longer than `LINE`, or everything after the
    point where an archive or a row group is truncated. `document_from_json` checks whether the JSON is a document.

    Raises:
        DataError: before the first row if the file cannot be opened or is a JSON list; at any row if the disk fails.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            yield from _parquet_stream(path) if magic == b"PAR1" else _line_stream(path, file, magic)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check path, permissions, disk") from None


def _line_stream(path: Path, raw, magic: bytes) -> Iterator[Row]:
    file = gzip.GzipFile(fileobj=raw) if magic[:2] == b"\x1f\x8b" else raw
    number, begun = 0, False
    while True:
        try:
            line = file.readline(LINE + 1)
            long = len(line) > LINE and not line.endswith(b"\n")
            while long and (piece := file.readline(LINE)) and not piece.endswith(b"\n"):
                pass
        except (EOFError, zlib.error, gzip.BadGzipFile):
            fault = "the gzip file is truncated or damaged from here on; the rest of it is lost"
            yield Row(number, DataError(fault), raw.tell())
            return
        if not line:
            return
        if not begun and re.match(rb"(\xef\xbb\xbf)?\[\s*(\{|$)", line.lstrip()):
            raise DataError(
                f"{path}: a JSON list cannot be streamed; use `docre-lite predict`, or write one document per line"
            )
        if long:
            fault = f"the line is longer than {LINE >> 20} MiB; give one document per line"
            yield Row(number, DataError(fault), raw.tell())
        elif line.strip():
            yield Row(number, line, raw.tell())
        begun = begun or bool(line.strip())
        number += 1


def _parquet_stream(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    begin, size = 0, path.stat().st_size
    try:
        # buffer_size: read columns piece by piece
        file = pyarrow.parquet.ParquetFile(path, buffer_size=1 << 16)
    except pyarrow.ArrowException as error:
        line = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: damaged parquet file ({line}); download it again") from None
    with file:
        for group in range(file.num_row_groups):
            number = begin
            try:
                for batch in file.iter_batches(batch_size=16, row_groups=[group]):
                    for i in range(len(batch)):
                        try:
                            data = json.dumps(batch.slice(i, 1).to_pylist()[0], default=str).encode()
                            if len(data) > LINE:
                                data = DataError(f"the row is longer than {LINE >> 20} MiB; give one document per row")
                        except UnicodeDecodeError:
                            data = DataError("its text is not UTF-8; write it as UTF-8")
                        number += 1
                        yield Row(number - 1, data, size * number // file.metadata.num_rows)
            except (pyarrow.ArrowException, OSError) as error:
                if getattr(error, "errno", None):  # the disk's fault, not the file's
                    raise
                line = " ".join(str(error).split())[:100]
                fault = f"row group {group} is damaged from here on ({line}); the rest of it is lost"
                yield Row(number, DataError(fault), size * (number + 1) // file.metadata.num_rows)
            begin += file.metadata.row_group(group).num_rows
