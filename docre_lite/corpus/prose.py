"""From a world to a document: what is said in which order, in which sentence and with which words.

The plan (order, grouping, how each thing is referred to) does not look at what a statement says, only at which
things it is about. So a statement can be exchanged for another without moving anything else: that is how the
counterfactual documents are made.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from docre_lite.corpus.rules import close
from docre_lite.corpus.world import Statement, Template, Thing, World, templates
from docre_lite.types import Document, Entity, Mention, Triple

NOUNS = {
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
FILLERS = (
    "Little is known about the early years .",
    "The sources do not agree on every detail .",
    "Much of this was forgotten for a long time .",
    "Several letters from these years have survived .",
    "The story has often been told since then .",
    "A small museum keeps the remaining papers .",
)


@dataclass
class Group:
    """The statements of one sentence and how they are joined: "one", "and", "relative" or "while"."""

    join: str
    statements: list[Statement]
    seed: float
    filler: str | None = None


@dataclass
class Sentence:
    words: list[str] = field(default_factory=list)
    mentions: list[tuple[Thing, int, int, str]] = field(default_factory=list)
    said: list[tuple[Statement, Thing | None]] = field(default_factory=list)  # with the thing that is not named


def choose_templates(world: World, split: str, rng: random.Random) -> None:
    for statement in world.statements:
        fitting = candidates(statement, split)
        statement.template = rng.choice(fitting)


def candidates(statement: Statement, split: str) -> list[Template]:
    return [
        template
        for template in templates()[statement.key]
        if template.fits(statement.head, statement.tail) and (split != "train" or not template.held_out)
    ]


def plan(world: World, rng: random.Random) -> list[Group]:
    """An order of the statements that stays with a subject for a while, and their grouping into sentences."""
    left, groups, about, recent = list(world.statements), [], None, set()
    rng.shuffle(left)
    while left:
        same = [s for s in left if s.subject is about]
        near = [s for s in left if s.subject.index in recent]
        touching = [s for s in left if s.object.index in recent]
        pool = same if same and rng.random() < 0.75 else near or touching or left
        first = pool[0]
        left.remove(first)
        join, second = _partner(first, left, rng)
        chosen = [first] + ([second] if second else [])
        if second:
            left.remove(second)
        groups.append(Group(join, chosen, rng.random()))
        if join == "and" and rng.random() < 0.3:
            third = next((s for s in left if s.subject is first.subject and s.template.form == "V"), None)
            if third:
                left.remove(third)
                chosen.append(third)
                groups[-1].statements = chosen
        about = first.subject if join != "while" else second.subject
        recent = {thing.index for s in chosen for thing in (s.head, s.tail)}
        if rng.random() < 0.05:
            groups.append(Group("filler", [], 0.0, rng.choice(FILLERS)))
    return groups


def _partner(first: Statement, left: list[Statement], rng: random.Random) -> tuple[str, Statement | None]:
    """A second statement for the sentence that `first` opens, and how it is joined."""
    kind = rng.random()
    if kind < 0.25:
        return "one", None
    if kind < 0.55 and first.template.form == "V":
        for second in left:
            if second.subject is first.subject and second.template.form == "V":
                return "and", second
    if kind < 0.8 and first.template.ends_in_object:
        for second in left:
            if second.subject is first.object and second.object is not first.subject:
                return "relative", second
    if kind < 0.9:
        for second in left:
            if not {second.head.index, second.tail.index} & {first.head.index, first.tail.index}:
                return "while", second
    return "one", None


class Writer:
    """Writes the sentences of a plan and keeps in mind what has been mentioned."""

    def __init__(self, world: World, reference: random.Random):
        self.world, self.rng = world, reference
        self.sentences: list[Sentence] = []
        self.seen: set[int] = set()
        self.introduced: set[int] = set()
        self.last: set[int] = set()  # things of the sentence before
        self.topic: Thing | None = None  # its subject

    def write(self, groups: list[Group]) -> list[Sentence]:
        for group in groups:
            sentence = Sentence()
            if group.filler:
                sentence.words = group.filler.split()
            else:
                self._sentence(group, sentence)
                self.last = {t.index for s in group.statements for t in (s.head, s.tail)}
                self.topic = group.statements[0].subject if group.join != "while" else group.statements[1].subject
            sentence.words[0] = sentence.words[0][0].upper() + sentence.words[0][1:]
            self.sentences.append(sentence)
        return self.sentences

    def _sentence(self, group: Group, out: Sentence) -> None:
        first, *rest = group.statements
        opening, front = self.rng.random(), self.rng.random()
        dated = first.template.text.endswith("{on} {o}") and first.template.form == "V"
        if dated and front < 0.5 and group.join in ("one", "and", "while"):
            out.words += [_on(first.object).capitalize()]
            self._name(first.object, out)
            unnamed = self._subject(first, out)
            self._text(first, out, first.template.text.removesuffix(" {on} {o}"))
        else:
            if opening < 0.08:
                out.words += self.rng.choice(OPENINGS).split()
            unnamed = self._subject(first, out)
            self._text(first, out)
        out.said.append((first, unnamed))
        for i, statement in enumerate(rest):
            if group.join == "and":
                out.words += [","] if i + 1 < len(rest) else ["and"]
                self._text(statement, out)
                out.said.append((statement, unnamed))
            elif group.join == "relative":
                person = statement.subject.kind == "person"
                possessive = statement.template.form == "P"
                out.words += [",", "whose" if possessive else "who" if person else "which"]
                self._text(statement, out)
                out.said.append((statement, None))
            else:
                out.words += [",", "while"]
                out.said.append((statement, self._subject(statement, out, fresh=True)))
                self._text(statement, out)
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
        if thing.index in self.seen and not fresh and thing is self.topic:
            rival = any(
                t.kind == thing.kind and t.gender == thing.gender and t is not thing
                for t in self.world.things
                if t.index in self.last
            )
            if not rival and draw < 0.75:
                return self._anaphor(thing, possessive, draw / 0.75, out)
        self._name(thing, out)
        if possessive:
            out.words.append("'s")
        return None

    def _anaphor(self, thing: Thing, possessive: bool, draw: float, out: Sentence) -> Thing | None:
        if thing.kind == "person":
            unique = sum(t.occupation == thing.occupation for t in self.world.things) == 1
            if unique and thing.index in self.introduced and draw < 0.5:
                out.words += ["the", thing.occupation] + ["'s"] * possessive
                return thing
            if possessive:
                out.words.append(_possessive(thing))
                return thing
            out.mentions.append((thing, len(out.words), len(out.words) + 1, thing.name))
            out.words.append(_by_gender(thing, "she", "he"))
            return None
        if draw < 0.7:
            out.words += ["the", *NOUNS[thing.kind].split()] + ["'s"] * possessive
        else:
            out.words.append("its" if possessive else "it")
        return thing

    def _name(self, thing: Thing, out: Sentence) -> None:
        first, draw, intro = thing.index not in self.seen, self.rng.random(), self.rng.random()
        name, article = thing.name, thing.article
        if first:
            if thing.kind == "person" and intro < 0.6:
                out.words += ["the", thing.occupation]
                self.introduced.add(thing.index)
            elif thing.kind in ("novel", "album", "song", "film", "opera", "label", "house", "band") and intro < 0.5:
                out.words += ["the", *NOUNS[thing.kind].split()]
            elif thing.kind == "town" and intro < 0.3:
                out.words += ["the", "town", "of"]
        elif thing.short and draw < 0.6:
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
