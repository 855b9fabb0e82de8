"""Files to documents: DocRED JSON in its variants, PubTator and marked-up text, recognised by content.

Numbers in messages count from 0, like the indices in the file; only lines and columns count from 1.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from ..support import DataError
from ..support.store import write_whole
from ..types import NA, Document, Relations
from .checks import check
from .docred import document_from_json, document_to_json
from .pubtator import from_pubtator, is_pubtator
from .text import from_texts, is_marked_up

FORMATS = "DocRED JSON, JSON lines, DocRED parquet, PubTator, or text marked up like [Marie Curie|PER|1]"


def read(
    path: str | Path,
    *,
    hypernyms: Mapping[str, Sequence[str]] | str | Path | None = None,
    relations: Relations | None = None,
    strict: bool = True,
) -> list[Document]:
    """The documents of a file. The content determines the format; the file's name does not matter.

    Accepts DocRED / Re-DocRED JSON, also as one object per line; the hub's parquet of DocRED; PubTator
    (BioCreative V CDR); and marked-up text (`from_text`); all but parquet plain or gzipped. Entities are in
    order of first mention, whatever the file's order: see `document_from_json`.

    Args:
        hypernyms: PubTator only, see `pubtator.drop_hypernyms`. It looks at gold labels; off by default.
        relations: if given, a relation that it lacks is an error.
        strict: if false, repeated titles are numbered and labels from an entity to itself are dropped;
            otherwise both are errors.

    Raises:
        DataError: one line naming file, document, field and the way out.
    """
    path = Path(path)
    data = read_bytes(path)
    if data[:4] == b"PAR1":
        documents = _from_objects(parquet_rows(data, path), path, strict)
    else:
        text = decode(data, path)
        if is_pubtator(text):
            documents = from_pubtator(text, str(path), hypernyms=hypernyms, strict=strict)
        elif _is_json(text):
            documents = _from_objects(_json_objects(text, path), path, strict)
        elif is_marked_up(text):
            documents = from_texts(text, title=path.stem, where=str(path))
        else:
            raise DataError(f"{path}: unknown format; give {FORMATS}")
    if not documents:
        raise DataError(f"{path}: contains no documents; give a file with at least one")
    if not strict:
        documents = _number_titles(documents)
    check(documents, str(path), relations)
    return documents


def write_docred(documents: Sequence[Document], path: str | Path) -> Path:
    """Write documents as DocRED JSON: a list, one document per line. A name that ends in .gz means compression."""
    lines = ",\n".join(json.dumps(document_to_json(d), ensure_ascii=False) for d in documents)
    return write_text(f"[\n{lines}\n]\n", Path(path))


def write_text(text: str, path: Path) -> Path:
    """Write the whole file or none; compressed if its name ends in .gz. Equal texts give equal files."""
    write_whole(path, gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


def read_relations(path: str | Path, labels: str | Path | None = None) -> Relations:
    """The classes of a task from `rel2id.json` (name to number, NA at 0) or `rel_info.json` (name to label), or both.

    With `rel_info.json` alone, the classes are numbered in its order, after NA. A JSON list of names is
    accepted too. "Na", as DocRED's public map spells it, becomes NA.
    """
    maps = [(Path(p), _map(Path(p))) for p in (path, labels) if p is not None]
    numbered = [m for m in maps if all(isinstance(value, int) for value in m[1].values())]
    labelled = [m for m in maps if all(isinstance(value, str) for value in m[1].values())]
    if len(numbered) + len(labelled) != len(maps) or len(numbered) > 1 or len(labelled) > 1:
        both = " and ".join(str(p) for p, _ in maps)
        raise DataError(f"{both}: give one map of names to numbers, one of names to labels, or one of each")
    texts = labelled[0][1] if labelled else {}
    if not numbered:
        return Relations((NA, *(name for name in texts if name not in (NA, "Na"))), texts)
    where, ids = numbered[0]
    if sorted(ids.values()) != list(range(len(ids))):
        raise DataError(f"{where}: the numbers of {len(ids)} relations must be 0 to {len(ids) - 1}, each once")
    names = sorted(ids, key=ids.__getitem__)
    if names[0] not in (NA, "Na"):
        raise DataError(f"{where}: number 0 is {names[0]!r}; NA, the class of unrelated pairs, must be number 0")
    if {NA, "Na"} & set(names[1:]):
        raise DataError(f"{where}: NA occurs twice; keep the one with number 0")
    return Relations((NA, *names[1:]), texts)


def _map(path: Path) -> dict:
    data = parse_json(decode(read_bytes(path), path), str(path))
    if isinstance(data, list) and all(isinstance(name, str) for name in data) and len(set(data)) == len(data):
        data = {name: i for i, name in enumerate(data)}
    if not isinstance(data, dict) or not data or any(isinstance(value, bool) for value in data.values()):
        raise DataError(f'{path}: not a relation map; give {{"NA": 0, "P17": 1, ...}} or {{"P17": "country", ...}}')
    return data


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, decompressed if they are gzip."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name one file in it")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path, or fetch public data with `docre-lite data`") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error):
            raise DataError(f"{path}: the gzip file is truncated or damaged; download it again") from None
    if not data.strip():
        raise DataError(f"{path}: the file is empty; give {FORMATS}")
    return data


def decode(data: bytes, path: Path | str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} (0x{error.object[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        ) from None
    if not text.strip():
        raise DataError(f"{path}: the file is empty; give {FORMATS}")
    return text


def parse_json(text: str, where: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: line {error.lineno} column {error.colno}: malformed JSON ({error.msg}); correct it there"
        ) from None
    except RecursionError:
        raise DataError(f"{where}: JSON nested too deeply; DocRED JSON is a list of documents") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{where}: malformed JSON ({str(error).split(';')[0]}); correct it there") from None


def _is_json(text: str) -> bool:
    """Is it an object or a list? A text may begin with a mention in brackets, which is not a list."""
    if re.match(r"\s*(\{|\[\s*([{\]]|$))", text):
        return True
    return text.lstrip()[0] == "[" and not is_marked_up(text)


def _json_objects(text: str, path: Path) -> list:
    """The documents of a JSON file: a list, one object, or one object per line."""
    # not splitlines(): a word may contain one of the rarer line ends
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and all(line.lstrip()[0] == "{" for _, line in lines):
        return [parse_json(line, f"{path}: line {i}") for i, line in lines]
    data = parse_json(text, str(path))
    if isinstance(data, dict) and not {"sents", "vertexSet"} & data.keys():
        raise DataError(f"{path}: a JSON object without 'sents' and 'vertexSet' is not a document; give {FORMATS}")
    return [data] if isinstance(data, dict) else data


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


def _from_objects(objects: list, path: Path, strict: bool) -> list[Document]:
    return [document_from_json(obj, f"{path}: document {i}", strict=strict) for i, obj in enumerate(objects)]


def _number_titles(documents: list[Document]) -> list[Document]:
    """Numbers repeated titles for strict=False: `Title`, `Title (2)`, ..."""
    taken = {d.title for d in documents}
    seen: set[str] = set()
    numbered = []
    for document in documents:
        title, n = document.title, 1
        while title in seen or (n > 1 and title in taken):
            n += 1
            title = f"{document.title} ({n})"
        seen.add(title)
        triples = tuple(replace(triple, title=title) for triple in document.triples)
        numbered.append(document if n == 1 else replace(document, title=title, triples=triples))
    return numbered
