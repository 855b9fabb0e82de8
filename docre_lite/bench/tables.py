"""Tables of stored rows: means over seeds, and differences with intervals and a verdict."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..model import paper
from . import results
from .plans import Plan
from .rows import RESULTS, at_plateau, complete, same, scores_of, sound, stored

SCORES = {  # columns of a table: title by name in the rows
    "f1": "F1",
    "ign_f1": "Ign F1",
    "intra_f1": "intra F1",
    "inter_f1": "inter F1",
    "infer_f1": "Infer-F1",
    "composed_f1": "composed F1",
}


def compare(
    plan: Plan,
    folder: Path = RESULTS,
    base: str | None = None,
    metric: str = "f1",
    split: str | None = None,
    draws: int = 10_000,
) -> list[dict[str, Any]]:
    """A record for every paper and variant of the plan that has stored rows, in the plan's order, scores in %.

    `base` is the model to compare with: "atlop", "atlop/no_context", or "own" for each paper's full model;
    by default the first one of each data set and encoder. `split` is "test" if rows have one, else "dev".
    """
    arms: dict[tuple, dict[int, dict]] = {}
    for run in plan.runs:
        identity = plan.identity(run)
        path = plan.file(run, folder)
        found = [sound(path, row) for row in stored(path) if same(row, identity)]
        if found:  # the complete one, if an old script left a row of the run too
            settings = " ".join(f"{k}={v}" for k, v in run.settings.items())
            key = (identity["data"], identity["encoder"], run.paper, run.variant, run.recipe, settings)
            arms.setdefault(key, {})[run.seed] = max(found, key=partial(complete, splits=plan.scored_on(run)))
    if not arms:
        raise ValueError(f"no row of the plan {plan.name} is stored in {folder}; run it with `docre-lite bench run`")
    return [_record(key, rows, _base(arms, key, base), metric, split, draws) for key, rows in arms.items()]


def _base(arms: Mapping[tuple, dict], key: tuple, base: str | None) -> tuple[str, dict[int, dict]]:
    """The name and rows of the model that an arm is compared with."""
    names: dict[str, tuple] = {}
    for k in arms:
        if k[:2] == key[:2]:
            names.setdefault(f"{k[2]}/{k[3]}", k)
    if base is None:
        wanted = next(iter(names))
    else:
        name, _, variant = (key[2] if base == "own" else base).partition("/")
        wanted = f"{name}/{variant or name}"
    if wanted not in names:
        raise ValueError(f"no stored rows of {wanted} on {key[0].split(':')[0]!r}; --base takes {', '.join(names)}")
    return wanted, arms[names[wanted]]


def _record(key: tuple, rows: dict[int, dict], base: tuple[str, dict[int, dict]], metric, split, draws) -> dict:
    data, encoder, name, variant, recipe, settings = key
    split = split or ("test" if all(scores_of(r, "test") for side in (rows, base[1]) for r in side.values()) else "dev")
    for who, side in ((f"{name}/{variant}", rows), base):
        if missing := [seed for seed, row in side.items() if not scores_of(row, split)]:
            raise ValueError(f"{who}: the row of seed {missing[0]} has no scores on {split!r}; try --split dev")
        if lacking := [seed for seed, row in side.items() if not isinstance(row[split].get(metric), float)]:
            raise ValueError(f"{who}: no score {metric!r} in the row of seed {lacking[0]}; try f1 or inter_f1")
    record = {"data": data, "encoder": encoder, "split": split, "paper": name, "variant": variant, "recipe": recipe}
    record |= {"settings": settings, "seeds": len(rows)}
    for key in dict.fromkeys([metric, *SCORES]):
        values = [100 * row[split][key] for row in rows.values() if row[split].get(key) is not None]
        record[key], record[f"{key}_std"] = (mean(values) if values else None), _stdev(values)
    for key in ("seconds", "peak_memory_gb", "parameters"):
        values = [row[key] for row in rows.values() if row.get(key)]
        record[key] = mean(values) if values else None
    record |= {"base": base[0], "difference": None, "low": None, "high": None, "verdict": "the base"}
    record |= {"published": None, "too_large": False}
    if base[1] is rows:
        return record
    published = published_effect(name, variant, base[0])
    if found := results.difference(rows, base[1], metric, split, published if metric == "f1" else None, draws):
        record |= {"difference": found.mean, "low": found.low, "high": found.high, "verdict": found.verdict}
        record["published"], record["too_large"] = found.published, found.too_large
    else:
        record["verdict"] = "no seed in common"
    if rising := [f"{seed}" for seed, row in rows.items() if not at_plateau(row)]:
        record["verdict"] += f"; still rising with seed {', '.join(rising)}"
    return record


def published_effect(name: str, variant: str, base: str) -> float | None:
    """The difference between a variant and the full model in the paper's own table, in points of F1."""
    one, two = (paper(name).variants.get(v) for v in (variant, base.partition("/")[2]))
    if base.partition("/")[0] != name or variant == name or not (one and two and one.f1):
        return None
    whole = one.full_f1 or two.f1
    return None if whole is None else one.f1 - whole


def _stdev(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def markdown(records: Sequence[Mapping[str, Any]], metric: str = "f1") -> str:
    """The records as readable tables, one for each data set and encoder."""
    parts = []
    for group in dict.fromkeys((r["data"], r["encoder"], r["split"]) for r in records):
        rows = [r for r in records if (r["data"], r["encoder"], r["split"]) == group]
        shown = [key for key in dict.fromkeys([metric, *SCORES]) if key == metric or any(r[key] for r in rows)]
        titles = ["model", "seeds", *(SCORES.get(key, key) for key in shown), "minutes", "GB"]
        titles += [f"{SCORES.get(metric, metric)} − {rows[0]['base']}" if _one_base(rows) else "− base"]
        lines = [[*titles, "95 % interval", "verdict"]]
        for r in rows:
            full = r["paper"] == r["variant"]
            name = r["paper"] if full else f"{r['paper']}/{r['variant']}"
            alike = [o for o in rows if (o["paper"], o["variant"]) == (r["paper"], r["variant"])]
            for key in ("recipe", "settings"):
                name += f" ({r[key]})" if len({o[key] for o in alike}) > 1 else ""
            line = [name, r["seeds"], *(_spread(r, key) for key in shown)]
            line += [
                _number(r["seconds"] and r["seconds"] / 60),
                _number(r["peak_memory_gb"]),
                _number(r["difference"], "+.1f"),
            ]
            line += ["" if r["low"] is None else f"{r['low']:+.1f} to {r['high']:+.1f}", _said(r)]
            lines.append([str(cell) for cell in line])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
        parts.append("\n".join([f"{group[0]}. Encoder {group[1]}, {group[2]} documents, in %.", "", *text]))
    return "\n\n".join(parts) + "\n"


def _said(record: Mapping[str, Any]) -> str:
    flag = f"; {results.TOO_LARGE} times the paper's {record['published']:+.1f} or more" if record["too_large"] else ""
    return record["verdict"] + flag.replace("-", "−")


def _one_base(rows: Sequence[Mapping[str, Any]]) -> bool:
    return len({r["base"] for r in rows}) == 1


def _spread(record: Mapping[str, Any], key: str) -> str:
    if record[key] is None:
        return ""
    std = record[f"{key}_std"]
    return f"{record[key]:.1f}" + ("" if std is None else f" ± {std:.1f}")


def _number(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else format(value, form)


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """The records for programs: full precision, one column per number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
