"""Rows of results: one per run, kept in JSON files; and the progress of each run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..support import PACKAGE, DataError
from ..support.store import ANEW, read_json, write_whole
from .plans import Plan, Run

_STORED = PACKAGE.parent / "benchmarks" / "results"
RESULTS = _STORED if _STORED.is_dir() else Path("results")  # of a checkout, or here
PLATEAU = 0.5  # points of dev F1 that the last quarter of the epochs may add
# The fields that identify a run. Rows of older scripts lack some of them.
IDENTITY = ("paper", "variant", "seed", "data", "encoder", "recipe", "settings", "train", "epochs")


def stored(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of results; none if there is no such file. Raises DataError if it is damaged."""
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also bytes that are not text, and lists nested without end
        raise DataError(f"{path}: not JSON ({error}); restore it, or move it away to start over") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: not a list of rows; restore it, or move it away to start over")
    return rows


def sound(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """The row of a training run. Raises DataError if a field that tables compute with is of another type."""
    numbers = {name: row.get(name) for name in ("seconds", "peak_memory_gb", "parameters")}
    for split, scores in row.items():
        if isinstance(scores, Mapping) and "f1" in scores:
            numbers |= {f"{split}.{name}": value for name, value in scores.items() if name.endswith("f1")}
            counts = scores.get("by_document", {})
            lists = list(counts.values()) if isinstance(counts, Mapping) else [counts]
            if not all(isinstance(c, list) and len(c) == len(lists[0]) and {*map(type, c)} <= {int} for c in lists):
                raise DataError(f"{path}: {split}.by_document is not lists of counts of one length; restore the row")
    curve = row.get("curve", [])
    if not isinstance(curve, list) or not all(isinstance(point, dict) for point in curve):
        raise DataError(f"{path}: curve is not a list of epochs; restore the row")
    for k, point in enumerate(curve):
        numbers[f"curve[{k}].f1"] = point.get("f1", "nothing")
    for name, value in numbers.items():
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
            raise DataError(f"{path}: {name} is {str(value)[:40]!r} where a number belongs; restore the row")
    return row


def same(row: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Does the row belong to that run, as far as its fields show?"""
    row = {"variant": row.get("paper"), **row}
    return all(plain(row[key]) == plain(identity[key]) for key in IDENTITY if key in row and key in identity)


def plain(value: Any) -> Any:
    """Settings were stored as text and as numbers."""
    return {k: str(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def complete(row: Mapping[str, Any], splits: Sequence[str] = ("dev",)) -> bool:
    """Does the row hold the counts that a paired comparison on these splits needs?"""
    return all("by_document" in scores_of(row, split) for split in splits)


def scores_of(row: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    """The scores of a row on a split, empty if it has none; "train" is the number of documents."""
    found = row.get(split)
    return found if isinstance(found, Mapping) else {}


def keep(path: Path, row: dict[str, Any], same: Callable[[dict, dict], bool] = same) -> None:
    """Puts a row into a file of results, one row per line, replacing an older one of the same run, or at the end."""
    rows = stored(path)
    place = next((k for k, old in enumerate(rows) if same(old, row)), len(rows))
    rows = [*rows[:place], row, *(old for old in rows[place:] if not same(old, row))]
    write_whole(path, ("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n]\n").encode())


def state(plan: Plan, run: Run, out: Path, folder: Path) -> str:
    """The progress of a run in words: "done", or what remains to do."""
    found = [row for row in stored(plan.file(run, folder)) if same(row, plan.identity(run))]
    if any(complete(row, plan.scored_on(run)) for row in found):
        return "done"
    epochs = len(history(out / run.name))
    lacking = [split for split in plan.scored_on(run) if found and not complete(found[0], [split])]
    again = f", stored without counts per document on {' and '.join(lacking)}" if lacking else ""
    if epochs >= run.epochs:
        return "to score" + again
    return (f"to resume after epoch {epochs} of {run.epochs}" if epochs else "to run") + again


def history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.json"
    found = read_json(path).get("history") if path.is_file() else []
    if not isinstance(found, list):
        raise DataError(f"{path}: its history is not a list of epochs; {ANEW}")
    return found


def gained(row: Mapping[str, Any]) -> float | None:
    """Points of dev F1 that the last quarter of a row's epochs added to the best before; None for a row without curve.

    With two stages, only the epochs of the second count, which train the whole model.
    """
    scores = [100 * point["f1"] for point in row.get("curve", ()) if point.get("stage", 2) == 2]
    if len(scores) < 2:
        return None
    last = max(1, len(scores) // 4)
    return max(0.0, max(scores[-last:]) - max(scores[:-last]))


def at_plateau(row: Mapping[str, Any]) -> bool:
    """Had the model stopped improving? Only rows at their plateau count; a row without a curve passes."""
    return (gained(row) or 0.0) < PLATEAU
