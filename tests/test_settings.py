"""Settings: checked whichever way they come in, and every fault one line that names the setting."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Literal

import pytest

from docre_lite.encode import Reading
from docre_lite.encoder import TinyConfig
from docre_lite.model import _papers
from docre_lite.support.settings import Count, Part, Rate, kind_of, option, settings, update
from docre_lite.train import TrainConfig


@settings
class Options:
    kind: Literal["star", "none"] = option("star", "which")
    size: Count = option(3, "how many")
    rate: Rate | None = option(None, "how fast")
    drop: Part = option(0.1, "how much")
    on: bool = option(False, "whether")

    def __post_init__(self):
        if self.size == 7:
            raise ValueError("size=7 is taken; give another")


def test_text_becomes_the_fields_type():
    found = update(Options(), {"size": "5", "rate": "1e-3", "drop": "0", "on": "yes", "other": 1})
    assert asdict(found) == {"kind": "star", "size": 5, "rate": 1e-3, "drop": 0.0, "on": True}
    assert [type(value) for value in asdict(found).values()] == [str, int, float, float, bool]


def test_none_is_nothing_only_where_that_may_be():
    found = update(Options(rate=1.0), {"rate": "none", "kind": "none"})
    assert (found.rate, found.kind) == (None, "none")
    with pytest.raises(ValueError, match="size is a whole number, not 'none'"):
        update(Options(), {"size": "none"})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kind": "stars"}, "kind is one of 'star' or 'none', not 'stars'"),
        ({"size": "many"}, "size is a whole number, not 'many'"),
        ({"size": 2.5}, "size is a whole number, not 2.5"),
        ({"size": 0}, "size is a number from 1, not 0"),
        ({"rate": float("nan")}, "rate is a finite number, not nan"),
        ({"rate": -1}, "rate is a number from 0.0, not -1"),
        ({"drop": 1.0}, "drop is a number below 1.0, not 1.0"),
        ({"on": "maybe"}, "on is true or false, not 'maybe'"),
        ({"size": 7}, "size=7 is taken; give another"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(values, says):
    for make in (lambda: Options(**values), lambda: update(Options(), values), lambda: replace(Options(), **values)):
        with pytest.raises(ValueError) as told:
            make()
        assert str(told.value) == says


def test_settings_are_frozen_and_closed():
    with pytest.raises(FrozenInstanceError):
        Options().size = 4
    with pytest.raises(ValueError, match="there is no setting 'colour'"):
        Options(colour="red")


@pytest.mark.parametrize("record", [Reading, TinyConfig, TrainConfig, *(p.Options for p in _papers().values())])
def test_every_setting_has_help_a_kind_and_a_default_that_may_be(record):
    assert asdict(update(record(), asdict(record()))) == asdict(record())
    for f in fields(record):
        assert f.metadata["help"] and kind_of(record, f.name)
