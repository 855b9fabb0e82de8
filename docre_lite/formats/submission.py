"""Predictions as files: writes what CodaLab expects (`write_submission`) and reads it back (`read_predictions`)."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..evaluate import by_title, checked, unique
from ..support import DataError
from ..support.checks import place
from ..support.store import write_whole
from ..types import Document, Triple
from .files import read_bytes
from .readers import write_text
from .stream import Absent, unzip


def write_submission(
    predicted: Iterable[Triple], path: str | Path, documents: Iterable[Document] | None = None, zip: bool = False
) -> Path:
    """Write DocRED's submission file: a JSON list of {title, h_idx, t_idx, r, evidence, score}.

    Predictions are sorted, and repeated ones written once. With `zip`, also writes `result.zip` beside it, with the
    list as `result.json` (CodaLab accepts no other names). Returns the file to hand in. A reader may have renumbered
    the entities of the data file (`Document.order`): pass the `documents`, so that the file's own numbers are written.
    """
    known = None if documents is None else by_title(documents)
    found = unique(predicted) if known is None else checked(predicted, known)
    rows = []
    for triple in found.values():
        order = None if known is None else known[triple.title].order
        head, tail = (triple.head, triple.tail) if order is None else (order[triple.head], order[triple.tail])
        evidence = sorted({int(sentence) for sentence in triple.evidence})
        rows.append(
            {"title": triple.title, "h_idx": int(head), "t_idx": int(tail), "r": triple.relation}
            | {"evidence": evidence, "score": None if triple.score is None else float(triple.score)}
        )
    rows.sort(key=lambda row: (row["title"], row["h_idx"], row["t_idx"], row["r"]))
    text = json.dumps(rows, ensure_ascii=False, indent=0)
    path = write_text(f"{text}\n", Path(path))
    if not zip:
        return path
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        # a fixed date: with that of the clock, equal predictions would give different files
        file.writestr(zipfile.ZipInfo("result.json", (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    archive = path.with_name("result.zip")
    write_whole(archive, packed.getvalue())
    return archive


def read_predictions(path: str | Path, documents: Iterable[Document]) -> list[Triple]:
    """Read a submission (`.json`, or a `.zip` that holds `result.json`) back into triples of these documents.

    Entity numbers are those of the data file and are mapped to the documents' own (`Document.order`). Raises DataError
    for a missing key, or for a title, entity or sentence that does not exist. Repeated predictions are
    kept once, as in the official scorer, with a warning that gives their number; so does one about relations that no
    gold triple has.
    """
    known = by_title(documents)
    relations = {triple.relation for document in known.values() for triple in document.triples}
    rows = _load(Path(path))
    found = unique(_read_row(row, known, f"{path}: prediction {i}") for i, row in enumerate(rows))
    if len(found) < len(rows):
        again = len(rows) - len(found)
        warnings.warn(f"{path}: {again} of {len(rows)} predictions repeat another; each is kept once", stacklevel=2)
    odd = [triple.relation for triple in found if relations and triple.relation not in relations]
    if odd:
        names = ", ".join(repr(name[:40]) for name in sorted(set(odd))[:3])
        warnings.warn(f"{path}: {len(odd)} predictions have relations that no gold triple has ({names})", stacklevel=2)
    return list(found.values())


def _load(path: Path) -> list:
    content = read_bytes(path, archive=True)
    if content.startswith(b"PK"):
        content = _unzipped(path, content)
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:  # also bytes that are not text, and lists nested without end
        raise DataError(f"{path}: not JSON ({error}); a submission is a JSON list of predictions") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a {type(rows).__name__}; a submission is a JSON list of predictions")
    return rows


def _unzipped(path: Path, content: bytes) -> bytes:
    try:
        return unzip(io.BytesIO(content), "result.json".__eq__, path)
    except Absent as error:
        raise DataError(f"{error}, but no result.json, the name CodaLab expects") from None


def _read_row(row: object, known: Mapping[str, Document], where: str) -> Triple:
    keys = ("title", "h_idx", "t_idx", "r")
    if not isinstance(row, dict) or (missing := [key for key in keys if key not in row]):
        lack = f"lacks {missing}" if isinstance(row, dict) else f"is a {type(row).__name__}"
        raise DataError(f"{where} {lack}; a prediction is an object with {', '.join(keys)}")
    title, relation = row["title"], row["r"]
    if not isinstance(title, str) or title not in known:
        raise DataError(f"{where}: title {title!r} is not among the {len(known)} documents; is it from another split?")
    here = place(where, title)
    if not isinstance(relation, str):
        raise DataError(f"{here}: r is {relation!r}; give a relation's name in the data, such as 'P17'")
    document, order, pair = known[title], known[title].order, []
    for key in ("h_idx", "t_idx"):
        _check_index(row[key], range(len(document.entities)) if order is None else order, f"{here}: {key}", "entities")
        pair.append(row[key] if order is None else order.index(row[key]))
    evidence, margin = row.get("evidence") or [], row.get("score")
    if not isinstance(evidence, list):
        raise DataError(f"{here}: evidence is {evidence!r}; give a list of sentence numbers")
    for sentence in evidence:
        _check_index(sentence, range(len(document.sentences)), f"{here}: evidence", "sentences")
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
        raise DataError(f"{here}: score is {margin!r}; give a number, or leave it out")
    return Triple(title, pair[0], relation, pair[1], tuple(sorted(set(evidence))), margin)


def _check_index(index: object, allowed: Sequence[int], where: str, what: str) -> None:
    if not isinstance(index, int) or isinstance(index, bool) or index not in allowed:
        raise DataError(f"{where} is {index!r}, but the document has {len(allowed)} {what}, numbered from 0")
