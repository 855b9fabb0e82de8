"""Settings as frozen records whose fields carry their help: one definition for Python, `--set`, JSON and saved models.

Pydantic checks every value, whatever its source, and converts text to the field's type.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple, dataclass_transform, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Few = Annotated[int, Field(ge=0, le=1000)]  # what nothing else bounds: no weight has a size that depends on it
Side = Annotated[int, Field(ge=1, le=1000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(ge=0, lt=1)]  # a share that leaves something


def option(default: Any, help: str) -> Any:
    """A field with a line of help: its effect, its unit, the source of a published value."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclass_transform(frozen_default=True, field_specifiers=(option,))
def settings(kind: type) -> type:
    """Makes a class of options a frozen record. An invalid value raises ValueError: one line that names it."""
    made = dataclass(frozen=True, config=ConfigDict(extra="forbid"))(kind)
    begin = made.__init__

    def __init__(self, *args, **values):
        try:
            begin(self, *args, **values)
        except ValidationError as error:
            raise ValueError(_in_words(error)) from None

    made.__init__ = __init__
    return made


def _in_words(error: ValidationError) -> str:
    first = error.errors()[0]
    name, given, limits = ".".join(map(str, first["loc"])), first["input"], first.get("ctx", {})
    kind = first["type"].partition("_")[0]
    if kind == "value":  # the record's own checks
        return str(limits["error"])
    if kind == "unexpected":
        return f"there is no setting {name!r}"
    words = {
        "literal": f"is one of {limits.get('expected')}",
        "bool": "is true or false",
        "int": "is a whole number",
        "float": "is a number",
        "finite": "is a finite number",
        "greater": f"is a number {'from' if 'ge' in limits else 'above'} {limits.get('ge', limits.get('gt'))}",
        "less": f"is a number {'up to' if 'le' in limits else 'below'} {limits.get('le', limits.get('lt'))}",
    }
    return f"{name} {words.get(kind, first['msg'])}, not {given!r}"


class Variant(NamedTuple):
    """A named set of settings: a baseline or an ablation of a paper, with its published scores on DocRED dev."""

    settings: dict[str, Any]
    help: str
    ign_f1: float | None = None
    f1: float | None = None
    full_f1: float | None = None  # F1 of the full model in the same table, if it is not the full variant's


def fields(*records: Any) -> dict[str, dataclasses.Field]:
    """The fields of several records by name. No two records may share one: `--set` is flat."""
    table: dict[str, dataclasses.Field] = {}
    for record in records:
        for f in dataclasses.fields(record):
            if f.name in table:
                raise ValueError(f"two settings are named {f.name!r}; rename one")
            table[f.name] = f
    return table


def update(record: Any, values: dict[str, Any]) -> Any:
    """The record updated with those of `values` that it has a field for; "none" means None if that is allowed."""
    hints = get_type_hints(type(record))
    own = {k: v for k, v in values.items() if k in hints}
    absent = {k: None for k, v in own.items() if v == "none" and type(None) in get_args(hints[k])}
    return dataclasses.replace(record, **own | absent)


def kind_of(record: type, name: str) -> str:
    """A field's type in words, for help texts."""
    kind = get_type_hints(record)[name]
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    return " | ".join("none" if k is type(None) else k.__name__ for k in get_args(kind) or (kind,))
