"""Names for things, made of syllables and words: different in every split, except for an atlas that all share."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from functools import cache

from .things import Thing, words

Atlas = dict[str, dict[str, dict[str, dict[str, list[str]]]]]


@cache
def atlas() -> Atlas:
    """Countries, regions, districts, towns and quarters that all splits share: train contains some facts of dev."""
    namer = Namer("", random.Random("atlas"))

    def layer(kinds, counts):
        if not counts:
            return [namer.thing(kinds[0], 0).name for _ in range(2)]
        return {namer.thing(kinds[0], 0).name: layer(kinds[1:], counts[1:]) for _ in range(counts[0])}

    return layer(("country", "region", "district", "town", "quarter"), (8, 2, 2, 2))


class Namer:
    """Makes names that this document does not use yet. `split` "" may use any name, other splits only their own."""

    def __init__(self, split: str, rng: random.Random):
        self.split, self.rng, self.taken = split, rng, set()
        self.surname: str | None = None  # for people who are to share one
        self.towns: Sequence[Thing] = ()

    def mine(self, name: str) -> bool:
        """Does the name belong to this split? Its checksum decides, so that no list of used names is needed."""
        return ("train", "train", "train", "dev", "test")[zlib.crc32(name.encode()) % 5] == self.split or not self.split

    def fresh(self, make) -> str:
        for _ in range(10_000):
            name = make()
            if name not in self.taken and self.mine(name):
                self.taken.add(name)
                return name
        raise RuntimeError(f"no name left for split {self.split!r} in {make.__name__}; add words to names.json")

    def syllables(self, end: str) -> str:
        names, rng = words(), self.rng
        middle = rng.choice(names["middle"]) if rng.random() < 0.5 else ""
        return rng.choice(names["start"]) + middle + rng.choice(names[end])

    def title(self) -> str:
        names, rng = words(), self.rng
        first, second = rng.sample(names["noun"], 2)
        adjective = rng.choice(names["adjective"])
        forms = (f"The {adjective} {first}", f"{adjective} {first}", f"The {first} and the {second}")
        return rng.choice((*forms, f"The {first} of {self.syllables('country_end')}"))

    def thing(self, kind: str, index: int, towns: Sequence[Thing] = ()) -> Thing:
        """A new thing with a name, which may contain the name of one of `towns`."""
        thing, self.towns = Thing(index, kind, ""), towns
        getattr(self, f"_name_{kind}", self._name_work)(thing)
        return thing

    def atlas_names(self, kinds: list[str]) -> dict[str, list[str]]:
        """Matching names from the shared atlas: every place lies in the last one of each wider kind."""
        land = self.rng.choice([country for country in atlas() if country not in self.taken])
        regions = self.rng.sample(sorted(atlas()[land]), 2)
        districts = self.rng.sample(sorted(atlas()[land][regions[-1]]), 2)
        towns = self.rng.sample(sorted(atlas()[land][regions[-1]][districts[-1]]), 2)
        quarters = list(atlas()[land][regions[-1]][districts[-1]][towns[-1]])
        names = {"country": [land], "region": regions, "district": districts, "town": towns, "quarter": quarters}
        self.taken.update(name for kind in kinds for name in names[kind])
        return names

    def place(self) -> Thing | None:
        return self.rng.choice(self.towns) if self.towns else None

    def _name_person(self, thing: Thing):
        names, rng = words(), self.rng
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
            (" Valley", " Forest", " District", " Plain")
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
        base = self.fresh(lambda: self.rng.choice(words()["noun"]) + self.rng.choice(("wave", "tone", "disc", "song")))
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
        base = self.fresh(lambda: self.rng.choice(words()["adjective"]) + " " + self.rng.choice(words()["noun"]))
        thing.name, thing.article = f"{base} {self.rng.choice(('Quartet', 'Quintet', 'Orchestra', 'Band'))}", True

    def _name_society(self, thing: Thing):
        base = self.fresh(lambda: self.rng.choice(words()["adjective"]) + " " + self.rng.choice(words()["noun"]))
        thing.name, thing.article = f"{base} Society", True

    def _name_series(self, thing: Thing):
        base = self.fresh(lambda: self.rng.choice(words()["adjective"]) + " " + self.rng.choice(words()["noun"]))
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
        thing.name = ""  # drawn at the end, once ages are known

    def _name_number(self, thing: Thing):
        thing.name = f"{self.rng.randrange(12, 980) * 100:,}"
