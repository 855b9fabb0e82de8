"""Raw text from files, and the documents that a front end makes of it, written one per line."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm.auto import tqdm

from ..formats.docred import document_to_json
from ..formats.files import decode, parse_json, read_bytes
from ..formats.stream import stream
from ..formats.text import is_marked_up
from ..support import DataError
from ..support.store import writing, written_whole
from ..types import Document

Per = Literal["file", "block"]


class Raw(NamedTuple):
    """A text without mentions; `where` begins messages about it."""

    title: str
    text: str
    where: str


Finder = Callable[[Iterable[Raw]], Iterator[Document]]  # a front end: texts to documents, in the same order


def raw_texts(paths: Sequence[Path], per: Per = "file") -> Iterator[Raw]:
    """The texts of files, plain or gzipped, one at a time.

    A file is either JSON lines with the fields `text` and, if you like, `title`; or plain text: one document, or with
    `per="block"` one for each block between blank lines. A first line `# Title` gives the title; otherwise the
    name of the file does, with a number if it holds several texts. A title that occurred before gets a number too.

    Raises:
        DataError: one line naming file, document, field and the way out.
    """
    seen: Counter[str] = Counter()
    for path in paths:
        for raw in _json_lines(path) if _is_json_lines(path) else _plain(path, per):
            title = " ".join(raw.title.split())
            seen[title] += 1
            while seen[title] > 1:
                title = f"{' '.join(raw.title.split())} ({seen[title]})"
                seen[title] += 1
            yield raw._replace(title=title)


def _is_json_lines(path: Path) -> bool:
    if not path.is_file():
        read_bytes(path)  # whose message names the fault
    row = next(stream(path), None)
    return row is not None and isinstance(row.data, bytes) and row.data.lstrip(b"\xef\xbb\xbf \t")[:1] == b"{"


def _json_lines(path: Path) -> Iterator[Raw]:
    for row in stream(path):
        where = f"{path}: line {row.number + 1}"
        if isinstance(row.data, DataError):
            raise DataError(f"{where}: {row.data}")
        obj = parse_json(decode(row.data, path).strip(), where)
        if not isinstance(obj, dict) or not isinstance(obj.get("text"), str):
            made = isinstance(obj, dict) and "vertexSet" in obj
            way = "it has entities already; give it to `docre-lite predict`" if made else "give a string"
            raise DataError(f"{where}: field text: missing or no string; {way}")
        title = obj.get("title", f"{path.stem} {row.number + 1}")
        if not isinstance(title, str):
            raise DataError(f"{where}: field title: {json.dumps(title)[:30]} where a string belongs; correct it")
        yield _checked(Raw(title, obj["text"], where))


def _plain(path: Path, per: Per) -> Iterator[Raw]:
    text = decode(read_bytes(path), path).replace("\r\n", "\n")
    if is_marked_up(text):
        raise DataError(f"{path}: is marked up already, like [Marie Curie|PER|1]; give it to `docre-lite predict`")
    blocks = re.split(r"\n[^\S\n]*(?:\n[^\S\n]*)+", text.strip()) if per == "block" else [text.strip()]
    for i, block in enumerate(blocks):
        title = path.stem if len(blocks) == 1 else f"{path.stem} {i}"
        first, _, rest = block.partition("\n")
        if first.startswith("# ") and rest.strip():
            title, block = first[2:].strip() or title, rest
        yield _checked(Raw(title, block, f"{path}: document {i}"))


def _checked(raw: Raw) -> Raw:
    if not raw.text.strip():
        raise DataError(f"{raw.where}: no text; add it, or remove the document")
    for string in (raw.title, raw.text):
        if not string.isascii() and (broken := re.search("[\ud800-\udfff]", string)):
            raise DataError(f"{raw.where}: character {broken.start()} is not valid Unicode; write the text as UTF-8")
    return raw


def annotate(
    paths: Sequence[Path], find: Finder, out: Path, *, per: Per = "file", longest: int | None = None, progress=False
) -> dict[str, Any]:
    """Writes the documents that a front end makes of raw text: one DocRED JSON object per line.

    All texts are checked before the first is given to the front end, and again never more than one batch of them is
    in memory. `out` gets its name when it is complete.

    Args:
        find: a front end of `finders`.
        longest: the most characters that it takes.

    Returns:
        Counts of documents, entities, mentions and types.

    Raises:
        DataError: as `raw_texts`, for a text that is too long, and if `out` cannot be written.
    """
    if out.is_dir():
        raise DataError(f"{out}: is a folder; name a file, such as {out / 'documents.jsonl'}")
    if any(out.exists() and path.exists() and out.samefile(path) for path in paths):
        raise DataError(f"{out}: is one of the files to read, which would be overwritten; choose another")
    total = 0
    for raw in raw_texts(paths, per):
        total += 1
        if longest is not None and len(raw.text) > longest:
            raise DataError(f"{raw.where}: {len(raw.text)} characters, and the front end takes {longest}; split it")
    if not total:
        raise DataError(f"{paths[0]}: no text; give a file with at least one document")
    entities, types = 0, Counter()
    with writing(out, "fix that, or choose another file"), written_whole(out) as new, new.open("wb") as file:
        found = find(raw_texts(paths, per))
        for document in tqdm(found, total=total, unit="doc", disable=None if progress else True):
            entities += len(document.entities)
            types.update(mention.type for entity in document.entities for mention in entity.mentions)
            file.write((json.dumps(document_to_json(document), ensure_ascii=False) + "\n").encode())
    return {
        "documents": total,
        "entities": entities,
        "mentions": types.total(),
        "types": dict(types.most_common()),
    }
