"""What a front end's errors cost: `python benchmarks/front_end.py` (needs `pip install 'docre_lite[spacy]'`).

Test documents of the embedded corpus, shipped models. Entities are gold, or found by a spaCy model that this script
trains on the training documents, or gold with errors of one kind in a known share of the mentions. Scores are those of
`docre_lite.front.scoring`. Writes `results/front_end.json`: a row per condition and model, machine and commit.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import spacy
import torch
from spacy.training import Example
from spacy.util import filter_spans, fix_random_seed, minibatch

from docre_lite import generate, load
from docre_lite.formats.text import Span
from docre_lite.front.scoring import mention_scores, score_found
from docre_lite.front.spacy_doc import from_spacy
from docre_lite.front.spans import from_spans
from docre_lite.predict import predict
from docre_lite.support.machine import environment
from docre_lite.types import Document, Entity, Mention

RESULTS = Path(__file__).parent / "results" / "front_end.json"
MODELS = ("atlop", "dre_mir")
SHARES = (0.05, 0.1, 0.2, 0.4)
PRONOUNS = {"she", "he"}  # a recogniser of names does not look for them
TYPES = ("LOC", "MISC", "ORG", "PER", "TIME")


# Found entities ---------------------------------------------------------------------------------------------------


def as_text(document: Document) -> tuple[str, list[Span]]:
    """The words with spaces between them, and the gold mentions as characters."""
    text, starts = "", []
    for sentence in document.sentences:
        starts.append([])
        for word in sentence:
            starts[-1].append(len(text))
            text += word + " "
    spans = []
    for key, entity in enumerate(document.entities):
        for m in entity.mentions:
            last = m.end - 1
            end = starts[m.sentence][last] + len(document.sentences[m.sentence][last])
            spans.append(Span(starts[m.sentence][m.start], end, m.type, str(key)))
    return text.rstrip(), spans


def recogniser(documents: Sequence[Document], epochs: int, seed: int) -> spacy.language.Language:
    """spaCy's entity recogniser, trained on the names of the documents, the outer one where names nest."""
    fix_random_seed(seed)
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    examples = []
    for document in documents:
        text, spans = as_text(document)
        gold = nlp.make_doc(text)
        names = [gold.char_span(s.start, s.end, s.type) for s in spans if text[s.start : s.end].lower() not in PRONOUNS]
        gold.ents = filter_spans([name for name in names if name is not None])
        examples.append(Example(nlp.make_doc(text), gold))
    nlp.initialize(lambda: examples)
    draw = random.Random(seed)
    for _ in range(epochs):
        draw.shuffle(examples)
        for batch in minibatch(examples, 8):
            nlp.update(batch, drop=0.2)
    return nlp


def found_by(nlp: spacy.language.Language, documents: Sequence[Document]) -> list[Document]:
    texts = ((as_text(d)[0], d.title) for d in documents)
    return [from_spacy(doc, title) for doc, title in nlp.pipe(texts, as_tuples=True)]


def linked(found: Sequence[Document], gold: Sequence[Document]) -> list[Document]:
    """Found mentions that are gold ones too in the entities of gold; the others by name."""
    documents = []
    for ours, theirs in zip(found, gold, strict=True):
        text, _ = as_text(theirs)
        entity = {(s.start, s.end): s.key for s in as_text(theirs)[1]}
        spans = [(s.start, s.end, s.type, entity.get((s.start, s.end))) for s in _in(text, ours)]
        documents.append(from_spans(text, spans, theirs.title))
    return documents


def by_name_alone(gold: Sequence[Document]) -> list[Document]:
    """Gold mentions, in entities by the name rule: no coreference."""
    documents = []
    for document in gold:
        text, spans = as_text(document)
        documents.append(from_spans(text, [(s.start, s.end, s.type) for s in spans], document.title))
    return documents


def _in(text: str, document: Document) -> list[Span]:
    """The mentions of a document as characters of the text that it was made of."""
    place, at = [], 0
    for sentence in document.sentences:
        place.append([])
        for word in sentence:
            at = text.index(word, at)
            place[-1].append((at, at + len(word)))
            at += len(word)
    return [
        Span(place[m.sentence][m.start][0], place[m.sentence][m.end - 1][1], m.type, str(key))
        for key, entity in enumerate(document.entities)
        for m in entity.mentions
    ]


# Errors of a known share ------------------------------------------------------------------------------------------


def with_errors(document: Document, kind: str, share: float, seed: int) -> Document:
    """Gold with one kind of error in about this share of the mentions, each drawn independently.

    missed: the mention is absent. split: it is an entity of its own. boundary: it lacks its first word or, if it has
    only one, includes the word after it. type: it has another type.
    """
    draw = random.Random(f"{document.title}/{kind}/{seed}")
    groups: list[list[Mention]] = []
    for entity in document.entities:
        kept: list[Mention] = []
        for mention in entity.mentions:
            hit, other = draw.random() < share, draw.choice([name for name in TYPES if name != mention.type])
            if hit and kind == "split":
                groups.append([mention])
            elif hit and kind == "boundary":
                kept.append(_moved(mention, document))
            elif hit and kind == "type":
                kept.append(replace(mention, type=other))
            elif not hit:
                kept.append(mention)
        groups.append(kept)
    entities = [Entity(tuple(group)) for group in groups if group]
    entities.sort(key=lambda e: (e.mentions[0].sentence, e.mentions[0].start))
    return Document(document.title, document.sentences, tuple(entities))


def _moved(mention: Mention, document: Document) -> Mention:
    words = document.sentences[mention.sentence]
    start, end = (
        (mention.start + 1, mention.end) if mention.end - mention.start > 1 else (mention.start, mention.end + 1)
    )
    end = min(end, len(words))
    return replace(mention, start=start, end=end, name=" ".join(words[start:end]))


# Rows -------------------------------------------------------------------------------------------------------------


def rows_of(condition: dict, found: Sequence[Document], gold: Sequence[Document], models: dict) -> Iterable[dict]:
    for name, model in models.items():
        begin = time.process_time()
        triples = predict(model, found)
        exact, near = (score_found(triples, found, gold, overlap=overlap) for overlap in (1.0, 0.5))
        keys = ("precision", "recall", "f1", "composed_f1", "stated_recall", "predicted", "correct", "gold")
        row = condition | {"paper": name} | {key: getattr(exact, key) for key in keys} | {"f1_near": near.f1}
        row |= mention_scores(found, gold) | {"cpu_seconds": time.process_time() - begin}
        yield {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=300, help="test documents")
    parser.add_argument("--train", type=int, default=600, help="training documents for spaCy's recogniser")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    setting = environment() | {"spacy": version("spacy")}
    gold = generate("test", options.documents)
    models = {name: load(name) for name in MODELS}
    begin = time.process_time()
    nlp = recogniser(generate("train", options.train), options.epochs, options.seed)
    trained = time.process_time() - begin
    found = found_by(nlp, gold)
    conditions = [
        ({"mentions": "gold", "entities": "gold"}, gold),
        ({"mentions": "gold", "entities": "by name"}, by_name_alone(gold)),
        ({"mentions": "spacy", "entities": "gold"}, linked(found, gold)),
        ({"mentions": "spacy", "entities": "by name"}, found),
    ]
    for kind in ("missed", "split", "boundary", "type"):
        for share in SHARES:
            conditions.append(
                ({"error": kind, "share": share}, [with_errors(d, kind, share, options.seed) for d in gold])
            )
    rows = []
    for condition, documents in conditions:
        for row in rows_of(condition, documents, gold, models):
            print(row, flush=True)
            rows.append(row)
    record = {
        "environment": setting,
        "documents": len(gold),
        "recogniser": {"train": options.train, "epochs": options.epochs, "seed": options.seed}
        | {"cpu_seconds": round(trained, 1)},
        "rows": rows,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
