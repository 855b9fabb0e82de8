"""A document of four entities with gold triples and guesses, small enough to score by hand."""

from __future__ import annotations

from docre_lite.types import Document, Entity, Mention, Triple

SENTENCES = (("one",), ("two",), ("three",))


def entity(*mentions: tuple[str, int]) -> Entity:
    return Entity(tuple(Mention(name, sentence, 0, 1, "T") for name, sentence in mentions))


FOUR = (entity(("Ada", 0), ("Ms Lee", 1)), entity(("Borg", 0)), entity(("Cork", 1)), entity(("Dell", 2)))
HAND = Document(
    "Hand",
    SENTENCES,
    FOUR,
    (
        Triple("Hand", 0, "r", 1, evidence=(0,)),
        Triple("Hand", 0, "s", 1),
        Triple("Hand", 1, "s", 2, evidence=(0, 1)),
        Triple("Hand", 0, "q", 2, evidence=(0, 1), premises=((0, "r", 1), (1, "s", 2)), depth=1),
        Triple("Hand", 2, "s", 3, evidence=(1, 2)),
        Triple("Hand", 3, "r", 0, evidence=(2,), premises=((0, "q", 2), (2, "s", 3)), depth=2),
    ),
)
GUESSES = [
    Triple("Hand", 0, "r", 1, evidence=(0, 1)),  # correct, and a fact of the training set
    Triple("Hand", 0, "q", 2, evidence=(1, 2)),  # correct
    Triple("Hand", 2, "s", 3, evidence=(2,)),  # correct
    Triple("Hand", 1, "r", 2, evidence=(0,)),  # the right pair, the wrong relation
    Triple("Hand", 0, "q", 3),  # wrong
    Triple("Hand", 3, "q", 2, evidence=(1,)),  # wrong, though a fact of the training set
    Triple("Hand", 1, "r", 0),  # wrong
    Triple("Hand", 2, "r", 0, evidence=(0, 1, 2)),  # wrong
    Triple("Hand", 0, "r", 1, evidence=(2,)),  # the first one again: counts for nothing, nor does its evidence
]
