"""The parts of a world: things, and statements about two of them, which a template puts into words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from ..support import shipped
from ..support.store import read_json
from .rules import INVERSES, Fact

TYPES = {
    **dict.fromkeys(("quarter", "town", "district", "region", "country"), "LOC"),
    **dict.fromkeys(("company", "label", "house", "university", "band", "society"), "ORG"),
    **dict.fromkeys(("novel", "series", "album", "song", "film", "opera"), "MISC"),
    "person": "PER",
    "time": "TIME",
    "number": "NUM",
}


@cache
def words() -> dict[str, list[str]]:
    """The lists of words that names are made of."""
    return read_json(shipped("data/names.json"))


@dataclass
class Thing:
    """A future entity: its names, and the properties that a sentence needs."""

    index: int
    kind: str
    name: str
    short: str | None = None
    other: str | None = None  # a second full name, given in brackets
    article: bool = False
    gender: str = ""
    occupation: str | None = None
    full_date: bool = False
    inside: Thing | None = None  # the place whose name is part of this name

    @property
    def type(self) -> str:
        return TYPES[self.kind]


@dataclass(frozen=True)
class Template:
    """One phrasing of a statement: a verb phrase ("V") or a possessive ("P") about its head or its tail."""

    key: str
    subject: str  # "h" or "t"
    form: str  # "V" or "P"
    text: str
    head_kinds: frozenset[str]
    tail_kinds: frozenset[str]
    held_out: bool

    def fits(self, head: Thing, tail: Thing) -> bool:
        return (not self.head_kinds or head.kind in self.head_kinds) and (
            not self.tail_kinds or tail.kind in self.tail_kinds
        )

    @property
    def ends_in_object(self) -> bool:
        return self.text.endswith("{o}")


@cache
def templates() -> dict[str, list[Template]]:
    raw = read_json(shipped("data/templates.json"))
    return {key: [_template(key, text) for text in texts] for key, texts in raw.items()}


def _template(key: str, text: str) -> Template:
    star, subject, possessive, kinds, body = re.fullmatch(r"(\*?)([ht])('s)?(?:\[([^]]*)\])?: (.*)", text).groups()
    head, _, tail = (kinds or "").partition(">")
    kind_sets = (frozenset(filter(None, side.split(","))) for side in (head, tail))
    return Template(key, subject, "P" if possessive else "V", body, *kind_sets, bool(star))


@dataclass
class Statement:
    """Something that the text says about two things. Only statements whose key names relations state facts."""

    head: Thing
    tail: Thing
    key: str
    template: Template | None = None

    @property
    def facts(self) -> list[Fact]:
        if "-" in self.key:  # a pair of types, such as PER-LOC: no fact
            return []
        relations = self.key.split("+")
        facts = [(self.head.index, relation, self.tail.index) for relation in relations]
        if "located_in" in relations and self.tail.kind == "country":
            facts.append((self.head.index, "country", self.tail.index))
        return facts + [(t, INVERSES[r], h) for h, r, t in facts if r in INVERSES]

    @property
    def subject(self) -> Thing:
        return self.head if self.template.subject == "h" else self.tail

    @property
    def object(self) -> Thing:
        return self.tail if self.template.subject == "h" else self.head


@dataclass
class World:
    things: list[Thing] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)

    def facts(self) -> list[Fact]:
        return sorted({fact for statement in self.statements for fact in statement.facts})
