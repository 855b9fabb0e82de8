"""Bytes of files to text and plain objects: unpacked, decoded, parsed, or refused in a line."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path

from ..support import DataError
from .stream import UNPACKED, gunzip, unzip

FORMATS = "DocRED JSON, JSON lines, DocRED parquet, PubTator, or text marked up like [Marie Curie|PER|1]"


def read_bytes(path: Path, empty: bool = False, archive: bool = False, limit: int = UNPACKED) -> bytes:
    """The bytes of a file, unpacked if they are gzip or, unless an `archive` is expected, a zip of one file."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name one file in it")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path, or fetch public data with `docre-lite data`") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if data[:2] == b"\x1f\x8b":
        data = gunzip(BytesIO(data), path, limit)
    if data[:4] == b"PK\x03\x04" and not archive:
        data = _unzipped(data, path, limit)
    if not data.strip() and not empty:
        raise DataError(f"{path}: the file is empty; give {FORMATS}")
    return data


def _unzipped(data: bytes, path: Path, limit: int) -> bytes:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = [i.filename for i in archive.infolist() if not i.is_dir() and "__MACOSX" not in i.filename]
    except Exception:  # `unzip` names the fault
        names = [""]
    if len(names) != 1:
        some = ", ".join(name[:60] for name in names[:3]) + (", …" if len(names) > 3 else "")
        raise DataError(f"{path}: the archive holds {len(names)} files ({some}); unpack it, and give one")
    return unzip(BytesIO(data), lambda name: name == names[0], path, limit)


def decode(data: bytes, path: Path | str, empty: bool = False) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or 3 * data[:200].count(0) > len(data[:200]):
        raise DataError(f"{path}: byte 0 (0x{data[0]:02x}) is not UTF-8: the file is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} (0x{error.object[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        ) from None
    if not text.strip() and not empty:
        raise DataError(f"{path}: the file is empty; give {FORMATS}")
    return text


def parse_json(text: str, where: str):
    def once(pairs: list[tuple[str, object]]) -> dict:
        found = dict(pairs)
        if len(found) < len(pairs):  # json would keep the last without a word
            twice = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
            raise DataError(f"{where}: the key {twice[:40]!r} occurs twice in one object; keep one")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: line {error.lineno} column {error.colno}: malformed JSON ({error.msg}); correct it there"
        ) from None
    except RecursionError:
        raise DataError(f"{where}: JSON nested too deeply; DocRED JSON is a list of documents") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{where}: malformed JSON ({str(error).split(';')[0]}); correct it there") from None


def parquet_rows(data: bytes, path: Path) -> list[dict]:
    """The rows of a parquet file as plain objects. Error messages begin with `path`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading parquet needs pyarrow; run `pip install pyarrow`, or give JSON") from None
    try:
        return pyarrow.parquet.read_table(BytesIO(data)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        line = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: damaged parquet file ({line}); download it again") from None
