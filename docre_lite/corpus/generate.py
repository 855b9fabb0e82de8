"""Documents by split, number and seed; counterfactual pairs; and the whole corpus as files."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ..formats.docred import document_from_json, document_to_json
from ..formats.readers import write_text
from ..support import shipped
from ..types import Document
from .plan import Group, Planner, candidates
from .prose import Writer, document
from .rules import RELATIONS, close
from .things import Statement, World
from .world import Builder, options, possible

SPLITS = ("train", "dev", "test")


def generate(split: str, count: int, seed: int = 0, first: int = 0) -> list[Document]:
    """`count` documents of a split, "train", "dev" or "test", starting with number `first`.

    Names of people, works and organisations never occur in two splits, and dev and test use phrasings that train
    lacks. Raises ValueError for any other split.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; have {list(SPLITS)}")
    return [_draw(split, number, seed)[0] for number in range(first, first + count)]


def _draw(split: str, number: int, seed: int, purpose: str = "") -> tuple[Document, World, list[Group], str]:
    key = f"{purpose}{split}/{seed}/{number}"
    rng = random.Random(key)
    world = Builder(split, rng).build()
    groups = Planner(world, split, rng).plan()
    lead = groups[0].parts[0][1].subject
    title = f"{lead.name} ({purpose.strip() or split} {number if not seed else f'{seed}.{number}'})"
    return _write(world, groups, title, key), world, groups, key


def _write(world: World, groups: list[Group], title: str, key: str, variant_of: str | None = None) -> Document:
    sentences = Writer(world, random.Random(f"{key}/prose")).write(groups)
    return document(world, sentences, title, variant_of)


def counterfactuals(count: int, seed: int = 0) -> list[Document]:
    """`count` test documents, each followed by a variant with one premise exchanged for another statement.

    The words around the exchanged phrase, the entities and their positions are the same; at least one composed fact
    no longer follows.
    """
    documents: list[Document] = []
    number = 0
    while len(documents) < 2 * count:
        original, world, groups, key = _draw("test", number, seed, "counterfactual ")
        number += 1
        variant = _vary(original, world, groups, key)
        if variant is not None:
            documents += [original, variant]
    return documents


def _vary(original: Document, world: World, groups: list[Group], key: str) -> Document | None:
    """Exchange one premise of a composed fact for another statement that fits the same sentence."""
    rng = random.Random(f"{key}/variant")
    closed = close(world.facts())
    premises = {fact for how in closed.values() for fact in how.premises}
    used = [s for s in world.statements if premises.intersection(s.facts)]
    rng.shuffle(used)
    for statement in used:
        old = (statement.head, statement.tail, statement.key, statement.template)
        for head, tail, new_key, template in _alternatives(statement, rng):
            statement.head, statement.tail, statement.key, statement.template = head, tail, new_key, template
            changed = close(world.facts())
            lost = {fact for fact, how in closed.items() if how.depth} - set(changed)
            if lost and possible(changed, world.things):
                variant = _write(world, groups, f"{original.title}, changed", key, variant_of=original.title)
                if _layout(variant) == _layout(original):
                    return variant
        statement.head, statement.tail, statement.key, statement.template = old
    return None


def _layout(document: Document) -> list:
    """Which entities are mentioned in which sentences, and by which names."""
    return [[(m.name, m.sentence) for m in entity.mentions] for entity in document.entities]


def _alternatives(statement: Statement, rng: random.Random) -> list[tuple]:
    """Other statements about the same two things that fit the same place in the same sentence."""
    found, now = [], statement.template
    for key, direction, _ in options(statement.head.kind, statement.tail.kind):
        head, tail = (statement.head, statement.tail) if direction == "+" else (statement.tail, statement.head)
        other = Statement(head, tail, key)
        if key == statement.key:
            continue
        for template in candidates(other, "test"):
            other.template = template
            alike = (template.form, template.ends_in_object) == (now.form, now.ends_in_object)
            dated = template.text.endswith("{on} {o}") == now.text.endswith("{on} {o}")
            if alike and dated and other.subject is statement.subject:
                found.append((head, tail, key, template))
    rng.shuffle(found)
    return found


def running_example() -> Document:
    """The running example of the book: nine entities, six sentences, two facts that need two hops."""
    path = shipped("data/running_example.json")
    return document_from_json(json.loads(path.read_text(encoding="utf-8")), path.name)


def write(directory, train: int = 600, dev: int = 150, test: int = 150, seed: int = 0) -> dict[str, Path]:
    """Write the corpus as DocRED JSON, with `rel_info.json`; returns the path of each file.

    Besides DocRED's fields, a label has "premises" and "depth", and a counterfactual document "variant_of".
    """
    splits = {
        "train": generate("train", train, seed),
        "dev": generate("dev", dev, seed),
        "test": generate("test", test, seed),
        "counterfactual": counterfactuals(max(1, test // 2), seed),
    }
    contents = {name: [document_to_json(d) for d in documents] for name, documents in splits.items()}
    contents["rel_info"] = {name: RELATIONS.label(name) for name in RELATIONS.names[1:]}
    return {
        name: write_text(json.dumps(content, ensure_ascii=False) + "\n", Path(directory, f"{name}.json"))
        for name, content in contents.items()
    }
