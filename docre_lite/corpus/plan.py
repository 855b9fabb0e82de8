"""The plan of a document: the order of its statements, their sentences, and which of the two things is the subject.

The plan considers the content of a statement only to make sure that a phrasing exists, so its order reveals little.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .things import Statement, Template, Thing, World, templates

FILLERS = (
    "Little is known about the early years .",
    "The sources do not agree on every detail .",
    "Much of this was forgotten for a long time .",
    "Several letters from these years have survived .",
    "The story has often been told since then .",
    "A small museum keeps the remaining papers .",
)


HELD_OUT_WEIGHT = 0.4  # of a phrasing that train never contains; the others have 1


@dataclass
class Group:
    """The statements of one sentence, each with how it is joined: "start", "and", "relative" or "while"."""

    parts: list[tuple[str, Statement]]
    filler: str | None = None


def candidates(statement: Statement, split: str) -> list[Template]:
    """The phrasings available for a statement in a split."""
    return [
        template
        for template in templates()[statement.key]
        if template.fits(statement.head, statement.tail) and (split != "train" or not template.held_out)
    ]


class Planner:
    """Orders the statements of a world, staying with a subject for a while, and groups them into sentences."""

    def __init__(self, world: World, split: str, rng: random.Random):
        self.left, self.split, self.rng = list(world.statements), split, rng
        rng.shuffle(self.left)
        self.fillers = rng.sample(FILLERS, len(FILLERS))
        self.used: set[Template] = set()  # a document avoids using a phrasing twice
        self.topic: Thing | None = None
        self.recent: list[Thing] = []  # things of the previous sentence, the last named first

    def plan(self) -> list[Group]:
        groups: list[Group] = []
        while self.left:
            groups.append(Group(self._sentence()))
            if self.left and self.fillers and self.rng.random() < 0.04:
                groups.append(Group([], self.fillers.pop()))
        return groups

    def _sentence(self) -> list[tuple[str, Statement]]:
        rng = self.rng
        stay = [self.topic] if self.topic and rng.random() < 0.7 else []
        parts = [("start", self._take([*stay, *self.recent]) or self._take(None))]
        for _ in range(rng.choice((0, 1, 2, 2, 3))):
            join, last = parts[-1]
            joins = ["relative", "and"] if rng.random() < 0.55 else ["and", "relative"]
            for join in [*joins, "while"]:
                follower = self._follow(join, parts)
                if follower:
                    parts.append((join, follower))
                    break
            if join == "while":
                break
        starts = [statement for join, statement in parts if join in ("start", "while")]
        self.topic = starts[-1].subject
        self.recent = [t for _, s in reversed(parts) for t in (s.object, s.subject) if t is not self.topic]
        return parts

    def _follow(self, join: str, parts: list[tuple[str, Statement]]) -> Statement | None:
        last = parts[-1][1]
        if join == "while":
            named = {thing.index for _, s in parts for thing in (s.head, s.tail)}
            if len(parts) > 1 or self.rng.random() < 0.4:
                return None
            return self._take(None, avoid=named)
        if join == "and":
            return self._take([last.subject], form="V") if last.template.form == "V" else None
        if not last.template.ends_in_object or any(join == "relative" for join, _ in parts):
            return None
        return self._take([last.object], avoid={s.subject.index for _, s in parts})

    def _take(self, subjects: list[Thing] | None, form: str | None = None, avoid=frozenset()) -> Statement | None:
        """A statement with a phrasing about the first of `subjects` that has one left; `None` means any subject."""
        for subject in [None] if subjects is None else subjects:
            for statement in self.left:
                if avoid & {statement.head.index, statement.tail.index}:
                    continue
                fitting = [
                    template
                    for template in candidates(statement, self.split)
                    if (subject is None or (statement.head if template.subject == "h" else statement.tail) is subject)
                    and (form is None or template.form == form)
                ]
                if fitting:
                    new = [template for template in fitting if template not in self.used]
                    if not new and subjects is not None:
                        continue
                    choice = new or fitting
                    weights = [HELD_OUT_WEIGHT if template.held_out else 1.0 for template in choice]
                    statement.template = self.rng.choices(choice, weights)[0]
                    self.used.add(statement.template)
                    self.left.remove(statement)
                    return statement
        return None
