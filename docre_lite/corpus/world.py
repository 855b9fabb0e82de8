"""A small world for one document: things, and statements about them that are facts or no facts at all.

Skeletons first, meanings afterwards: which things occur together is drawn before it is drawn what holds
between them, so that the layout of a document says little about its labels.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from docre_lite.corpus.rules import FUNCTIONAL, INVERSES, Fact, close

TYPES = {
    **dict.fromkeys(("quarter", "town", "district", "region", "country"), "LOC"),
    **dict.fromkeys(("company", "label", "house", "university", "band", "society"), "ORG"),
    **dict.fromkeys(("novel", "series", "album", "song", "film", "opera"), "MISC"),
    "person": "PER",
    "time": "TIME",
    "number": "NUM",
}


def data_file(name: str) -> Path:
    """A file of `data/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    for folder in (package / "data", package.parent / "data"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no {name} in {package / 'data'} or {package.parent / 'data'}; reinstall docre-lite")


@cache
def _names() -> dict[str, list[str]]:
    return json.loads(data_file("names.json").read_text(encoding="utf-8"))


@dataclass
class Thing:
    """An entity to be: what it is called, and what a sentence needs to know of it."""

    index: int
    kind: str
    name: str
    short: str | None = None
    other: str | None = None  # a second full name, given in brackets
    article: bool = False
    gender: str = ""
    occupation: str | None = None
    full_date: bool = False
    inside: Thing | None = None  # the place whose name is a part of this name

    @property
    def type(self) -> str:
        return TYPES[self.kind]


@dataclass(frozen=True)
class Template:
    """One way to put a statement: a verb phrase ("V") or a possessive ("P") about its head or its tail."""

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
    raw = json.loads(data_file("templates.json").read_text(encoding="utf-8"))
    return {key: [_template(key, text) for text in texts] for key, texts in raw.items()}


def _template(key: str, text: str) -> Template:
    star, subject, possessive, kinds, body = re.fullmatch(r"(\*?)([ht])('s)?(?:\[([^]]*)\])?: (.*)", text).groups()
    head, _, tail = (kinds or "").partition(">")
    kind_sets = (frozenset(filter(None, side.split(","))) for side in (head, tail))
    return Template(key, subject, "P" if possessive else "V", body, *kind_sets, bool(star))


@dataclass
class Statement:
    """Something the text says of two things. Only a statement whose key names relations states facts."""

    head: Thing
    tail: Thing
    key: str
    template: Template | None = None

    @property
    def facts(self) -> list[Fact]:
        if self.key not in FACT_KEYS:
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


# What may hold between a head and a tail of these kinds. Every signature has its share of statements that are no
# facts, and several relations with the same types and similar frequencies.
SIGNATURES: dict[str, tuple[str, str, int]] = {
    # key: head kinds, tail kinds, weight
    "place_of_birth": ("person", "quarter town district region", 4),
    "place_of_death": ("person", "quarter town district region", 3),
    "residence": ("person", "quarter town district", 2),
    "place_of_birth+place_of_death": ("person", "town district region", 1),
    "citizenship": ("person", "country", 3),
    "father": ("person", "person", 3),
    "mother": ("person", "person", 3),
    "sibling": ("person", "person", 2),
    "spouse": ("person", "person", 3),
    "relative": ("person", "person", 2),
    "student_of": ("person", "person", 3),
    "collaborator": ("person", "person", 2),
    "employer": ("person", "company label house university society", 3),
    "educated_at": ("person", "university", 3),
    "member_of": ("person", "band society", 4),
    "founded_by": ("company label house band society", "person", 3),
    "director_manager": ("company label house university society", "person", 3),
    "founded_by+director_manager": ("company label house society", "person", 1),
    "author": ("novel series song film opera", "person", 3),
    "composer": ("song opera film", "person", 3),
    "author+composer": ("song opera", "person", 1),
    "performer": ("song album", "person band", 3),
    "author+performer": ("song", "person", 1),
    "publisher": ("novel series", "house", 4),
    "record_label": ("song album band person", "label", 4),
    "part_of": ("song", "album", 4),
    "part_of:2": ("novel", "series", 4),
    "based_on": ("film opera song", "novel series", 4),
    "narrative_location": ("novel film opera", "quarter town district region", 4),
    "headquarters_location": ("company label house university society", "quarter town district", 4),
    "location_of_formation": ("company label house band society", "town district", 3),
    "parent_organization": ("company label house", "company label house", 4),
    "located_in:0": ("quarter", "town district region", 5),
    "located_in": ("town", "district region country", 5),
    "located_in:2": ("district", "region country", 5),
    "located_in:3": ("region", "country", 5),
    "shares_border:0": ("quarter", "quarter", 3),
    "shares_border": ("town", "town district", 3),
    "shares_border:2": ("region", "region country", 3),
    "shares_border:3": ("country", "country", 3),
    "shares_border:4": ("district", "district region", 3),
    "date_of_birth": ("person", "time", 3),
    "publication_date": ("novel album song film opera", "time", 3),
    "inception": ("company label house university band society", "time", 3),
}
FACT_KEYS = frozenset(key.partition(":")[0] for key in SIGNATURES)
DISTRACTOR_WEIGHT = 0.55  # share of statements that state no fact, when nothing else is asked for


@cache
def options(head_kind: str, tail_kind: str) -> tuple[tuple[str, str, float], ...]:
    """(key, direction, weight) of all that can be said of two things of these kinds; direction "-" exchanges them."""
    found = []
    for direction, h, t in (("+", head_kind, tail_kind), ("-", tail_kind, head_kind)):
        for key, (heads, tails, weight) in SIGNATURES.items():
            if h in heads.split() and t in tails.split():
                found.append((key.partition(":")[0], direction, float(weight)))
        if f"{TYPES[h]}-{TYPES[t]}" in templates():
            found.append((f"{TYPES[h]}-{TYPES[t]}", direction, 0.0))
    facts = sum(weight for *_, weight in found)
    nothing = [row for row in found if not row[2]]
    share = (facts or 1.0) * DISTRACTOR_WEIGHT / (1 - DISTRACTOR_WEIGHT) / max(1, len(nothing))
    return tuple((key, direction, weight or share) for key, direction, weight in found)


# Skeletons: kinds of things, and which of them are named together. What holds along an edge is drawn later.
# A node "kind*" is taken from the world if there is one to spare.
SKELETONS: dict[str, list[str]] = {
    "family": ["person a", "person b", "person c", "person d", "a b", "b c", "c d"],
    "large family": ["person a", "person b", "person c", "person d", "person e", "a b", "b c", "c d", "d e"],
    "branches": ["person a", "person b", "person c", "person d", "person e", "a b", "b c", "b d", "d e"],
    "books": ["novel a", "novel b", "series s", "person* p", "house h", "a s", "b s", "a p", "a h"],
    "trilogy": ["novel a", "novel b", "novel c", "series s", "person* p", "house h", "a s", "b s", "c s", "a p", "b h"],
    "album": ["song a", "song b", "album s", "person* p", "label l", "a s", "b s", "a p", "s l"],
    "songs": ["song a", "song b", "album s", "person* p", "label l", "a s", "b s", "s p", "b l"],
    "band": ["band s", "person* p", "person* q", "person* r", "label l", "p s", "q s", "r s", "l s"],
    "records": ["album a", "song b", "band s", "person* p", "label l", "a s", "p s", "b l", "b a"],
    "group": ["company a", "company b", "company c", "company d", "a b", "b c", "c d"],
    "firms": ["company a", "house b", "company c", "person* p", "person* q", "a b", "a c", "b p", "c q"],
    "film": ["film a", "novel b", "person* p", "person* q", "a p", "a q", "a b", "b q"],
    "opera": ["opera a", "series b", "person* p", "person* q", "a p", "a q", "a b", "b q"],
    "school": ["university a", "person* p", "person* q", "person* r", "a p", "a q", "a r", "p q"],
    "club": ["society a", "person* p", "person* q", "person* r", "a p", "a q", "a r", "q r"],
}
OFTEN = {"family": 2, "large family": 2, "branches": 2, "books": 2, "trilogy": 2}
LANDS: list[list[str]] = [
    ["town a", "region b", "country c", "a b", "b c"],
    ["quarter a", "town b", "region c", "country d", "a b", "b c", "c d"],
    ["town a", "district b", "region c", "country d", "a b", "b c", "c d"],
    ["town a", "district b", "region c", "country d", "a b", "b c", "b d"],
    ["quarter a", "town b", "district c", "region d", "country e", "a b", "b c", "c d", "d e"],
    ["town a", "town b", "district c", "region d", "country e", "a c", "b c", "c d", "d e"],
    ["quarter a", "quarter b", "town c", "region d", "country e", "a c", "b c", "c d", "d e"],
]
KIN = frozenset(("father", "mother", "child", "sibling", "spouse", "relative"))


def possible(facts: dict[Fact, object], things: list[Thing]) -> bool:
    """Could a world be like this? One father each, nobody their own ancestor, and so on."""
    seen: dict[tuple[int, str], int] = {}
    kin: dict[tuple[int, int], str] = {}
    for head, relation, tail in facts:
        if relation in FUNCTIONAL and seen.setdefault((head, relation), tail) != tail:
            return False
        if relation in KIN and kin.setdefault((head, tail), relation) != relation:
            return False
        if relation not in INVERSES.values() and (tail, relation, head) in facts:
            return False
        if relation == "father" and things[tail].gender != "m" or relation == "mother" and things[tail].gender != "f":
            return False
        if relation == "spouse" and things[head].gender == things[tail].gender:
            return False
    parents = [(h, t) for h, r, t in facts if r in ("father", "mother")]
    return not any((t, x) in parents and (x, h) in parents for h, t in parents for x, _ in parents)


@cache
def atlas() -> dict[str, dict[str, dict[str, dict[str, list[str]]]]]:
    """Countries, regions, districts and towns that all splits share, so that some facts of dev stand in train."""
    builder = Builder("", random.Random("atlas"))
    builder.mine = lambda name: True

    def layer(kinds, counts):
        if not counts:
            return [builder.add(kinds[0]).name for _ in range(2)]
        return {builder.add(kinds[0]).name: layer(kinds[1:], counts[1:]) for _ in range(counts[0])}

    return layer(("country", "region", "district", "town", "quarter"), (8, 2, 2, 2))


class Builder:
    """Draws one world. `split` decides which names it may use."""

    def __init__(self, split: str, rng: random.Random):
        self.split, self.rng, self.world, self.taken = split, rng, World(), set()
        self.surname: str | None = None

    # names ----------------------------------------------------------------------------------------------------

    def mine(self, name: str) -> bool:
        """Names are dealt to the splits by their checksum, so no list of used names has to be kept."""
        return ("train", "train", "train", "dev", "test")[zlib.crc32(name.encode()) % 5] == self.split

    def fresh(self, make) -> str:
        for _ in range(10_000):
            name = make()
            if name not in self.taken and self.mine(name):
                self.taken.add(name)
                return name
        raise RuntimeError(f"no name left for split {self.split!r} in {make.__name__}; add words to names.json")

    def syllables(self, end: str) -> str:
        names, rng = _names(), self.rng
        middle = rng.choice(names["middle"]) if rng.random() < 0.5 else ""
        return rng.choice(names["start"]) + middle + rng.choice(names[end])

    def title(self) -> str:
        names, rng = _names(), self.rng
        first, second = rng.sample(names["noun"], 2)
        adjective = rng.choice(names["adjective"])
        forms = (f"The {adjective} {first}", f"{adjective} {first}", f"The {first} and the {second}")
        return rng.choice((*forms, f"The {first} of {self.syllables('country_end')}"))

    def add(self, kind: str) -> Thing:
        thing = Thing(len(self.world.things), kind, "")
        getattr(self, f"_name_{kind}", self._name_work)(thing)
        self.world.things.append(thing)
        return thing

    def atlas_names(self, kinds: list[str]) -> dict[str, list[str]]:
        """Names from the shared atlas that fit together: every place lies in the last one of each wider kind."""
        land = self.rng.choice([country for country in atlas() if country not in self.taken])
        regions = self.rng.sample(sorted(atlas()[land]), 2)
        districts = self.rng.sample(sorted(atlas()[land][regions[-1]]), 2)
        towns = self.rng.sample(sorted(atlas()[land][regions[-1]][districts[-1]]), 2)
        quarters = list(atlas()[land][regions[-1]][districts[-1]][towns[-1]])
        names = {"country": [land], "region": regions, "district": districts, "town": towns, "quarter": quarters}
        self.taken.update(name for kind in kinds for name in names[kind])
        return names

    def place(self) -> Thing | None:
        towns = [thing for thing in self.world.things if thing.kind == "town"]
        return self.rng.choice(towns) if towns else None

    def _name_person(self, thing: Thing):
        names, rng = _names(), self.rng
        thing.gender = rng.choice("fm")
        first = self.fresh(lambda: rng.choice(names["female" if thing.gender == "f" else "male"]))
        surname = self.surname or self.fresh(lambda: self.syllables("surname_end"))
        thing.name, thing.short = f"{first} {surname}", first if self.surname else surname
        thing.occupation = rng.choice(names["occupation"])

    def _name_town(self, thing: Thing):
        thing.name = self.fresh(lambda: self.syllables("town_end"))

    def _name_quarter(self, thing: Thing):
        thing.name = self.fresh(lambda: self.syllables("quarter_end"))

    def _name_district(self, thing: Thing):
        thing.name = self.fresh(lambda: self.syllables("town_end")) + self.rng.choice(
            (" Valley", " Hills", " District")
        )
        thing.article = True

    def _name_region(self, thing: Thing):
        thing.name = self.fresh(lambda: self.syllables("country_end"))
        thing.name = self.rng.choice(("Upper ", "Lower ", "North ", "South ")) + thing.name

    def _name_country(self, thing: Thing):
        thing.name = self.fresh(lambda: self.syllables("country_end"))
        if self.rng.random() < 0.3:
            thing.other = f"Republic of {thing.name}"

    def _name_company(self, thing: Thing):
        town = self.place()
        if town and self.rng.random() < 0.2:
            thing.inside, thing.name = town, f"{town.name} {self.rng.choice(('Steelworks', 'Shipyards', 'Mills'))}"
        else:
            base = self.fresh(lambda: self.syllables("surname_end"))
            thing.name, thing.short = f"{base} {self.rng.choice(('Motors', 'Brothers', 'Electric', 'Optics'))}", base

    def _name_label(self, thing: Thing):
        base = self.fresh(lambda: self.rng.choice(_names()["noun"]) + self.rng.choice(("wave", "tone", "disc", "song")))
        thing.name, thing.short = f"{base} Records", base

    def _name_house(self, thing: Thing):
        base = self.fresh(lambda: self.syllables("surname_end"))
        thing.name, thing.short = f"{base} {self.rng.choice(('Press', 'Books'))}", base

    def _name_university(self, thing: Thing):
        town = self.place()
        if town:
            thing.inside, thing.name, thing.article = town, f"University of {town.name}", True
        else:
            thing.name = self.fresh(lambda: self.syllables("surname_end")) + " College"

    def _name_band(self, thing: Thing):
        names = _names()
        thing.name = self.fresh(lambda: f"The {self.rng.choice(names['adjective'])} {self.rng.choice(names['plural'])}")

    def _name_society(self, thing: Thing):
        base = self.fresh(lambda: self.rng.choice(_names()["adjective"]) + " " + self.rng.choice(_names()["noun"]))
        thing.name, thing.article = f"{base} Society", True

    def _name_series(self, thing: Thing):
        base = self.fresh(lambda: self.rng.choice(_names()["adjective"]) + " " + self.rng.choice(_names()["noun"]))
        thing.name, thing.article = f"{base} {self.rng.choice(('Cycle', 'Chronicles', 'Saga'))}", True

    def _name_work(self, thing: Thing):
        town = self.place()
        if town and self.rng.random() < 0.15:
            season = self.rng.choice(("A Winter in", "Letters from", "The Road to", "Return to"))
            thing.inside, thing.name = town, f"{season} {town.name}"
            if thing.name not in self.taken:
                self.taken.add(thing.name)
                return
            thing.inside = None
        thing.name = self.fresh(self.title)

    def _name_time(self, thing: Thing):
        thing.name = ""  # drawn at the end, when it is known who is older than whom

    def _name_number(self, thing: Thing):
        self.rng.random()
        value = self.rng.randrange(12, 980) * 100
        thing.name = self.fresh_any(f"{value:,}")

    def fresh_any(self, name: str) -> str:
        self.taken.add(name)
        return name

    # meanings -------------------------------------------------------------------------------------------------

    def meaning(self, a: Thing, b: Thing) -> Statement:
        """What is said of two things, drawn among all that can be said of their kinds."""
        rows = [
            (key, direction)
            for key, direction, _ in options(a.kind, b.kind)
            if self.allowed(key, *((a, b) if direction == "+" else (b, a)))
        ]
        weights = [weight for key, direction, weight in options(a.kind, b.kind) if (key, direction) in rows]
        key, direction = self.rng.choices(rows, weights)[0]
        return Statement(*((a, b) if direction == "+" else (b, a)), key)

    def allowed(self, key: str, head: Thing, tail: Thing) -> bool:
        if key == "father" and tail.gender != "m" or key == "mother" and tail.gender != "f":
            return False
        return not (key == "spouse" and head.gender == tail.gender)

    def lay(self, skeleton: list[str], complete: float, shared: bool = False) -> None:
        """Add a skeleton's things and, in one of several draws, statements along its edges."""
        nodes: dict[str, Thing] = {}
        people = [thing for thing in self.world.things if thing.kind == "person"]
        self.rng.shuffle(people)
        family = sum(item.startswith("person ") for item in skeleton) > 2 and self.rng.random() < 0.4
        self.surname = self.fresh(lambda: self.syllables("surname_end")) if family else None
        edges = []
        kinds = [item.split()[0] for item in skeleton]
        known = self.atlas_names([kind for kind in kinds if kind in TYPES]) if shared else {}
        for item in skeleton:
            left, right = item.split()
            if left in nodes:
                edges.append((nodes[left], nodes[right]))
            elif left.endswith("*") and people and self.rng.random() < 0.8:
                nodes[right] = people.pop()
            else:
                nodes[right] = self.add(left.rstrip("*"))
                if known:
                    nodes[right].name, nodes[right].other = known[left].pop(), None
        self.surname = None
        self.say(edges, complete)

    def say(self, pairs: list[tuple[Thing, Thing]], complete: float, given: Sequence[Statement] = ()) -> None:
        """Draw what holds of some pairs; a share of the time, keep of several draws the one that most follows from."""
        wanted = self.rng.random() < complete
        draws = [[self.meaning(a, b) for a, b in pairs] for _ in range(DRAWS if wanted else 1)]
        self.world.statements += max(draws, key=lambda draw: self.derived([*given, *draw])) if wanted else draws[0]

    def derived(self, statements: list[Statement]) -> int:
        """How much follows, deep conclusions counting for more; -1 if it is impossible."""
        closed = close(fact for statement in statements for fact in statement.facts)
        if not possible(closed, self.world.things):
            return -1
        return sum(how.depth**2 for how in closed.values())

    def connect(self, count: int) -> None:
        """Say something of pairs of things that have nothing to do with one another so far."""
        things, rng = self.world.things, self.rng
        said = {frozenset((s.head.index, s.tail.index)) for s in self.world.statements}
        for _ in range(count * 8):
            a, b = rng.sample(things, 2)
            pair = frozenset((a.index, b.index))
            if count and pair not in said and options(a.kind, b.kind):
                said.add(pair)
                self.world.statements.append(self.meaning(a, b))
                count -= 1

    def build(self) -> World:
        rng = self.rng
        while True:
            self.world, self.taken, self.surname = World(), set(), None
            for _ in range(rng.choice((1, 1, 2))):
                self.lay(rng.choice(LANDS), COMPLETE_LAND, shared=rng.random() < SHARED)
            deck = [name for name in SKELETONS for _ in range(OFTEN.get(name, 1))]
            for name in dict.fromkeys(rng.sample(deck, rng.choice((2, 3)))):
                self.lay(SKELETONS[name], COMPLETE)
            places = [thing for thing in self.world.things if thing.type == "LOC"]
            pairs = [
                (thing, place)
                for thing in self.world.things
                for place in (rng.choice([p for p in places if p.kind in ("quarter", "town", "district")] or places),)
                if thing.type in ("PER", "ORG") and rng.random() < 0.45 and options(thing.kind, place.kind)
            ]
            self.say(pairs, COMPLETE, given=list(self.world.statements))
            for kind in rng.choices(EXTRAS, k=rng.choice((3, 4, 5))):
                others = [t for t in self.world.things if options(t.kind, kind)]
                self.world.statements.append(self.meaning(rng.choice(others), self.add(kind)))
            self.connect(max(2, rng.choice(STATEMENTS) - len(self.world.statements)))
            used = {i for s in self.world.statements for i in (s.head.index, s.tail.index)}
            closed = close(self.world.facts())
            if len(used) == len(self.world.things) <= 24 and len(used) >= 12 and possible(closed, self.world.things):
                self.date(closed)
                return self.world

    def date(self, closed) -> None:
        """Give the TIME things names that fit: parents are born before their children, works come later."""
        rng, base = self.rng, self.rng.randrange(1850, 1950)
        parents = [(h, t) for h, r, t in sorted(closed) if r in ("father", "mother")]
        age = dict.fromkeys((t.index for t in self.world.things), 0)
        for _ in range(4):
            for child, parent in parents:
                age[parent] = max(age[parent], age[child] + 1)
        for statement in self.world.statements:
            thing = statement.tail
            if thing.kind == "time" and not thing.name:
                year = base - 28 * age[statement.head.index] + rng.randrange(8)
                if statement.key != "date_of_birth":
                    year += rng.randrange(30, 55)
                while not thing.name or thing.name in self.taken:
                    form, month = rng.random(), rng.choice(_names()["month"])
                    day = rng.randrange(1, 29)
                    thing.full_date = form < 0.4
                    thing.name = (
                        f"{day} {month} {year}" if form < 0.4 else f"{month} {year}" if form < 0.6 else f"{year}"
                    )
                    year += thing.name in self.taken
                self.taken.add(thing.name)


EXTRAS = ("time", "time", "time", "number", "person", "person", "town", "company", "film", "song", "society")
COMPLETE = 0.6
COMPLETE_LAND = 0.52
DRAWS = 16
SHARED = 0.65
STATEMENTS = (18, 19, 20)
