"""Settings as frozen dataclasses whose fields carry their help: one table for Python, `--set` and `--help-paper`."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal


def option(default: Any, help: str) -> Any:
    """A dataclass field with a line of help: what it does, its unit, where a published value stands."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Variant:
    """A named set of settings: a rung or an ablation of a paper, with the scores it printed on DocRED dev."""

    settings: dict[str, Any]
    help: str
    ign_f1: float | None = None
    f1: float | None = None
    full_f1: float | None = None  # F1 of the full model in the same table, if it is not the full variant's


def fields(*records: Any) -> dict[str, dataclasses.Field]:
    """The fields of several settings records by name. No two records may share one: `--set` is flat."""
    table: dict[str, dataclasses.Field] = {}
    for record in records:
        for f in dataclasses.fields(record):
            if f.name in table:
                raise ValueError(f"two settings are named {f.name!r}; rename one")
            table[f.name] = f
    return table


def update(record: Any, values: dict[str, Any]) -> Any:
    """The record with those of `values` that it has a field for; text is read as the field's type."""
    hints = typing.get_type_hints(type(record))
    known = {f.name for f in dataclasses.fields(record)}
    return dataclasses.replace(record, **{k: parse(k, v, hints[k]) for k, v in values.items() if k in known})


def parse(name: str, value: Any, kind: Any) -> Any:
    """One value as `kind`. Raises ValueError that names the setting and what it takes."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise ValueError(f"{name} is one of {', '.join(map(repr, choices))}, not {value!r}")
        return value
    if isinstance(kind, types.UnionType):  # X | None
        if value is None or value == "none":
            return None
        return parse(name, value, next(k for k in typing.get_args(kind) if k is not types.NoneType))
    if kind is bool:
        text = str(value).lower()
        if text not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(f"{name} is true or false, not {value!r}")
        return text in ("true", "1", "yes")
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} takes a value of type {kind.__name__}, not {value!r}") from None


def kind_of(record: Any, name: str) -> str:
    """A field's type in words, for help texts."""
    kind = typing.get_type_hints(record if isinstance(record, type) else type(record))[name]
    if typing.get_origin(kind) is Literal:
        return "|".join(map(str, typing.get_args(kind)))
    return str(kind).replace("<class '", "").replace("'>", "")
