"""Rows of the stored benchmarks, as the chapters read them."""

from __future__ import annotations

import json

from ..support import shipped


def results(name: str = "") -> list[dict]:
    """Rows of the stored benchmarks whose file name starts with `name`; [] if there are none."""
    rows = []
    for file in sorted(shipped("benchmarks/results").glob(f"{name}*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        rows += content if isinstance(content, list) else [content]
    return rows


def speed() -> dict[str, dict]:
    """The stored row of `docre-lite bench speed` by paper: on a CPU, in fp32."""
    rows = [r for r in results("speed") if r["precision"] == "fp32" and r["device"] == "cpu"]
    return {r["paper"]: r for r in rows}
