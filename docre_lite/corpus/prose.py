"""From a plan to a document: the words for each thing and each statement, and the labels that follow.

The words for a thing do not depend on the statements about it. So one statement can replace another without moving
anything else, which is how counterfactual documents are made.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ..types import Document, Entity, Mention, Triple
from .plan import Group
from .rules import close
from .things import Statement, Thing, World

NOUNS = {
    "quarter": "quarter",
    "town": "town",
    "district": "district",
    "region": "province",
    "country": "country",
    "company": "company",
    "label": "record label",
    "house": "publishing house",
    "university": "university",
    "band": "band",
    "society": "society",
    "novel": "novel",
    "series": "series",
    "album": "album",
    "song": "song",
    "film": "film",
    "opera": "opera",
}
OPENINGS = ("By all accounts ,", "As is well known ,", "According to local records ,", "As it turned out ,")


@dataclass
class Sentence:
    words: list[str] = field(default_factory=list)
    mentions: list[tuple[Thing, int, int, str]] = field(default_factory=list)
    said: list[tuple[Statement, Thing | None]] = field(default_factory=list)  # with the thing left unnamed


class Writer:
    """Writes the sentences of a plan and remembers what has been mentioned."""

    def __init__(self, world: World, reference: random.Random):
        self.world, self.rng = world, reference
        self.sentences: list[Sentence] = []
        self.openings = reference.sample(OPENINGS, len(OPENINGS))
        self.seen: set[int] = set()
        self.introduced: set[int] = set()
        self.last: set[int] = set()  # things of the previous sentence
        self.topic: Thing | None = None  # its subject

    def write(self, groups: list[Group]) -> list[Sentence]:
        for group in groups:
            sentence = Sentence()
            if group.filler:
                sentence.words = group.filler.split()
            else:
                self._sentence(group.parts, sentence)
                self.last = {t.index for _, s in group.parts for t in (s.head, s.tail)}
                self.topic = [s.subject for join, s in group.parts if join in ("start", "while")][-1]
            sentence.words[0] = sentence.words[0][0].upper() + sentence.words[0][1:]
            self.sentences.append(sentence)
        return self.sentences

    def _sentence(self, parts: list[tuple[str, Statement]], out: Sentence) -> None:
        (_, first), *rest = parts
        opening, front = self.rng.random(), self.rng.random()
        following = rest[0][0] if rest else ""
        if (
            first.template.text.endswith("{on} {o}")
            and first.template.form == "V"
            and front < 0.5
            and following != "and"
        ):
            out.words += [_on(first.object)]
            self._name(first.object, out)
            unnamed = self._subject(first, out)
            self._text(first, out, first.template.text.removesuffix(" {on} {o}"))
        else:
            if opening < 0.05 and self.openings:
                out.words += self.openings.pop().split()
            unnamed = self._subject(first, out)
            self._text(first, out)
        out.said.append((first, unnamed))
        for number, (join, statement) in enumerate(rest):
            if join == "and":
                more = number + 1 < len(rest) and rest[number + 1][0] == "and"
                out.words += [","] if more else ["and"]
            elif join == "relative":
                unnamed = None
                who = "who" if statement.subject.kind == "person" else "which"
                out.words += [",", "whose" if statement.template.form == "P" else who]
            else:
                out.words += [",", "while"]
                unnamed = self._subject(statement, out, fresh=True)
            self._text(statement, out)
            out.said.append((statement, unnamed))
        out.words.append(".")

    def _text(self, statement: Statement, out: Sentence, text: str | None = None) -> None:
        subject, other = statement.subject, statement.object
        fill = {
            "{poss}": _possessive(subject),
            "{on}": _on(other),
            "{sib}": _by_gender(subject, "sister", "brother"),
            "{sibo}": _by_gender(other, "sister", "brother"),
            "{spouse}": _by_gender(subject, "wife", "husband"),
            "{spouseo}": _by_gender(other, "wife", "husband"),
        }
        for word in (text or statement.template.text).split():
            if word == "{o}":
                self._name(other, out)
            else:
                out.words.append(fill.get(word, word))

    def _subject(self, statement: Statement, out: Sentence, fresh: bool = False) -> Thing | None:
        """Write the subject. Returns it if the text does not name it, so that its antecedent is evidence too."""
        thing, possessive = statement.subject, statement.template.form == "P"
        draw = self.rng.random()
        if thing.index in self.last and not fresh:
            rival = any(
                t.kind == thing.kind and t.gender == thing.gender and t is not thing
                for t in self.world.things
                if t.index in self.last
            )
            noun = NOUNS.get(thing.kind, "person").split()[-1]
            people = sum(t.kind == "person" and t.index in self.last for t in self.world.things)
            other = people == 1 if thing.kind == "person" else noun not in statement.template.text.split()
            clear = thing is self.topic or other
            if not rival and draw < 0.96 and clear:
                return self._anaphor(thing, possessive, draw / 0.96, statement.template.text, out)
        self._name(thing, out)
        if possessive:
            out.words.append("'s")
        return None

    def _anaphor(self, thing: Thing, possessive: bool, draw: float, text: str, out: Sentence) -> Thing | None:
        if thing.kind == "person":
            unique = sum(t.occupation == thing.occupation for t in self.world.things) == 1
            if unique and thing.index in self.introduced and draw < 0.4:
                out.words += ["the", thing.occupation] + ["'s"] * possessive
                return thing
            if possessive:
                out.words.append(_possessive(thing))
                return thing
            out.mentions.append((thing, len(out.words), len(out.words) + 1, thing.name))
            out.words.append(_by_gender(thing, "she", "he"))
            return None
        noun = NOUNS[thing.kind].split()
        if (draw < 0.75 or thing is not self.topic) and noun[-1] not in text.split():
            out.words += ["the", *noun] + ["'s"] * possessive
        else:
            out.words.append("its" if possessive else "it")
        return thing

    def _name(self, thing: Thing, out: Sentence) -> None:
        first, draw, intro = thing.index not in self.seen, self.rng.random(), self.rng.random()
        name, article = thing.name, thing.article
        if first:
            if thing.kind == "person" and intro < 0.7:
                out.words += ["the", thing.occupation]
                self.introduced.add(thing.index)
            elif thing.kind in ("novel", "album", "song", "film", "opera", "label", "house", "band") and intro < 0.5:
                out.words += ["the", *NOUNS[thing.kind].split()]
            elif thing.kind == "town" and intro < 0.3:
                out.words += ["the", "town", "of"]
        elif thing.short and draw < 0.75:
            name, article = thing.short, False
        elif thing.other and draw < 0.3:
            name, article = thing.other, True
        if article:
            out.words.append("the")
        start, words = len(out.words), name.split()
        out.mentions.append((thing, start, start + len(words), name))
        if thing.inside and thing.inside.name in words:
            at = start + words.index(thing.inside.name)
            out.mentions.append((thing.inside, at, at + 1, thing.inside.name))
        out.words += words
        self.seen.add(thing.index)


def _on(thing: Thing) -> str:
    return "on" if thing.full_date else "in"


def _possessive(thing: Thing) -> str:
    return _by_gender(thing, "her", "his") if thing.gender else "its"


def _by_gender(thing: Thing, female: str, male: str) -> str:
    return female if thing.gender == "f" else male


def document(world: World, sentences: list[Sentence], title: str, variant_of: str | None = None) -> Document:
    """The document with entities in order of first mention, and the closure of what is stated as triples."""
    spans: dict[int, list[tuple[int, int, int, str]]] = {}
    for number, sentence in enumerate(sentences):
        for thing, start, end, name in sentence.mentions:
            spans.setdefault(thing.index, []).append((number, start, end, name))
    order = sorted(spans, key=lambda index: (min(spans[index]), index))
    place = {index: position for position, index in enumerate(order)}
    entities = tuple(
        Entity(
            tuple(
                Mention(name, number, start, end, world.things[index].type)
                for number, start, end, name in sorted(spans[index])
            )
        )
        for index in order
    )
    closed = close(world.facts())
    evidence: dict = {}
    for number, sentence in enumerate(sentences):
        for statement, unnamed in sentence.said:
            lines = {number}
            if unnamed is not None:
                lines.add(max(n for n, *_ in spans[unnamed.index] if n < number))
            for fact in statement.facts:
                evidence.setdefault(fact, lines)
    for fact, how in sorted(closed.items(), key=lambda item: (item[1].depth, item[0])):
        if how.depth:
            evidence[fact] = evidence[how.premises[0]] | evidence[how.premises[1]]
    triples = sorted(
        Triple(
            title,
            place[h],
            r,
            place[t],
            tuple(sorted(evidence[h, r, t])),
            premises=tuple((place[a], q, place[b]) for a, q, b in how.premises),
            depth=how.depth,
        )
        for (h, r, t), how in closed.items()
    )
    return Document(title, tuple(tuple(s.words) for s in sentences), entities, tuple(triples), variant_of=variant_of)
