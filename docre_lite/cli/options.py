"""Shared by several commands: options with their checks, and the display of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from ..support.prose import printable


def file(help: str) -> Any:
    return Option(help=help, metavar="FILE")


def folder(help: str) -> Any:
    return Option(help=help, metavar="DIR")


def count(help: str) -> Any:
    """A whole number from 1."""
    return Option(help=help, min=1, metavar="N")


def seed(help: str) -> Any:
    return Option(help=help, min=0, max=2**32 - 1, metavar="S")


Precision = Literal["fp32", "bf16", "fp16"]
Evidence = Annotated[
    float, Option(help="share of a pair's attention that makes a sentence evidence", min=0, max=1, metavar="SHARE")
]
Arithmetic = Annotated[
    Precision,
    Option(
        help="of the computation; bf16 and fp16 (a T4) are faster if the hardware multiplies them", show_choices=True
    ),
]
Model = Annotated[
    Path,
    Option(
        "--run",
        help="folder that `train --out` wrote; a paper's name, such as atlop, for the tiny model that comes with "
        "the package (trained on the embedded corpus); or user/name@revision for one of the hub",
        metavar="DIR",
    ),
]
HowToPredict = Annotated[
    list[str] | None,
    Option(
        "--set",
        help="a setting of the paper that affects prediction, such as rounds=1 (DocRE-II); repeatable",
        metavar="KEY=VALUE",
    ),
]
Budget = Annotated[
    int,
    count("most tokens, entity pairs, rows of attention (mentions times heads) or sentences per batch"),
]
BatchSize = Annotated[int, count("documents per batch")]
Lenient = Annotated[
    bool,
    Option(
        "--lenient",
        help="leave out faulty mentions, labels and lines, with a count, instead of stopping",
    ),
]
Pairs = Annotated[
    list[str] | None,
    Option(
        help="classify only pairs of these types, such as Chemical:Disease (repeatable), or those of cdr or gda",
        metavar="HEAD:TAIL",
    ),
]
AsJson = Annotated[bool, Option("--json", help="print JSON instead of a table")]


def settings(items: list[str] | None) -> dict[str, Any]:
    """The settings given as `--set KEY=VALUE`."""
    given: dict[str, Any] = {}
    for item in items or ():
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE, not {item!r}")
        given[key] = value
    return given


def model_folder(run: Path) -> Path:
    """The model in the folder of a run, in the folder itself, or by name as for `DocRE.load`."""
    from ..model import located
    from ..support.store import whole

    found = whole(run / "model")
    return found if found.is_dir() else located(run)


def show(values: Any) -> None:
    print("\n".join(map(printable, json.dumps(values, indent=1, ensure_ascii=False).split("\n"))))


def table(values: dict[str, Any], indent: str = "") -> str:
    """Nested results as aligned lines, with the same numbers as the JSON."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", table(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{key}")
            lines += [indent + "  " + "  ".join(f"{k} {_figure(v)}" for k, v in row.items()) for row in value]
        else:
            lines.append(f"{indent}{printable(str(key)):<24} {printable(_figure(value))}")
    return "\n".join(lines)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
