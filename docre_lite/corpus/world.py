"""A small world for one document: things, and statements about them, some of which are facts.

Skeletons first, meanings afterwards: which things occur together is drawn before the relations between them,
so that the layout of a document says little about its labels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from .names import Namer
from .rules import FUNCTIONAL, INVERSES, Fact, close
from .things import TYPES, Statement, Thing, World, templates, words

COMPLETE = 0.6  # share of skeletons whose meaning is chosen so that something follows
COMPLETE_LAND = 0.52  # the same for places
DRAWS = 16  # draws to choose from
SHARED = 0.65  # share of lands that come from the atlas of all splits
STATEMENTS = (18, 19, 20)  # minimum of statements in a document
EXTRAS = ("time", "time", "time", "number", "person", "person", "town", "company", "film", "song", "society")

# The relations possible between a head and a tail of these kinds. Every signature has its share of statements that
# are not facts, and several relations with the same types and similar frequencies.
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
DISTRACTOR_WEIGHT = 0.55  # share of statements that state no fact, before some are drawn so that something follows


@cache
def options(head_kind: str, tail_kind: str) -> tuple[tuple[str, str, float], ...]:
    """(key, direction, weight) of every possible statement about two things of these kinds; "-" exchanges the two."""
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


# Skeletons: kinds of things, and which of them are named together. The relation of an edge is drawn later.
# A node "kind*" reuses a thing of the world if one is available.
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
    """Is such a world possible? One father each, nobody their own ancestor, and so on."""
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


class Builder:
    """Draws one world. `split` determines the names it may use."""

    def __init__(self, split: str, rng: random.Random):
        self.split, self.rng = split, rng

    def build(self) -> World:
        rng = self.rng
        while True:
            self.world, self.namer = World(), Namer(self.split, rng)
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

    def add(self, kind: str) -> Thing:
        towns = [thing for thing in self.world.things if thing.kind == "town"]
        self.world.things.append(self.namer.thing(kind, len(self.world.things), towns))
        return self.world.things[-1]

    def meaning(self, a: Thing, b: Thing) -> Statement:
        """A statement about two things, drawn from all that are possible for their kinds."""
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
        self.namer.surname = self.namer.fresh(lambda: self.namer.syllables("surname_end")) if family else None
        edges = []
        kinds = [item.split()[0] for item in skeleton]
        known = self.namer.atlas_names([kind for kind in kinds if kind in TYPES]) if shared else {}
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
        self.namer.surname = None
        self.say(edges, complete)

    def say(self, pairs: list[tuple[Thing, Thing]], complete: float, given: Sequence[Statement] = ()) -> None:
        """Draw statements about some pairs; for a share of them, keep the draw from which the most facts follow."""
        wanted = self.rng.random() < complete
        draws = [[self.meaning(a, b) for a, b in pairs] for _ in range(DRAWS if wanted else 1)]
        self.world.statements += max(draws, key=lambda draw: self.derived([*given, *draw])) if wanted else draws[0]

    def derived(self, statements: list[Statement]) -> int:
        """How much follows from the statements, with more weight on deep conclusions; -1 if they are impossible."""
        closed = close(fact for statement in statements for fact in statement.facts)
        if not possible(closed, self.world.things):
            return -1
        return sum(how.depth**2 for how in closed.values())

    def connect(self, count: int) -> None:
        """Add statements about pairs of things that are unconnected so far."""
        things, rng = self.world.things, self.rng
        said = {frozenset((s.head.index, s.tail.index)) for s in self.world.statements}
        for _ in range(count * 8):
            a, b = rng.sample(things, 2)
            pair = frozenset((a.index, b.index))
            fits = (
                options(a.kind, b.kind) and a.inside is not b and b.inside is not a and "number" not in (a.kind, b.kind)
            )
            if count and pair not in said and fits:
                said.add(pair)
                self.world.statements.append(self.meaning(a, b))
                count -= 1

    def date(self, closed) -> None:
        """Give the TIME things consistent names: parents are born before their children, works come later."""
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
                while not thing.name or thing.name in self.namer.taken:
                    form, month = rng.random(), rng.choice(words()["month"])
                    day = rng.randrange(1, 29)
                    thing.full_date = form < 0.4
                    thing.name = (
                        f"{day} {month} {year}" if form < 0.4 else f"{month} {year}" if form < 0.6 else f"{year}"
                    )
                    year += thing.name in self.namer.taken
                self.namer.taken.add(thing.name)
