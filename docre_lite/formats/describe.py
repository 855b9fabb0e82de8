"""A description of what a file holds: counts, and what to be warned of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..types import Document


def first_mention_order(document: Document) -> bool:
    """Does the file number its entities in order of first mention?"""
    return document.order is None or list(document.order) == sorted(document.order)


def describe(documents: Sequence[Document], train: Iterable[Document] | None = None) -> dict:
    """Counts for `docre-lite data info`: plain numbers, ready for JSON.

    `share_related` is the share of candidate pairs with at least one relation, `share_inter_sentence`
    the share of triples whose head and tail have no sentence in common. `warnings` lists documents with
    the same text under different titles, within the file and, if `train` is given, between the two.
    """
    pairs = related = multi = inter = 0
    relations: Counter[str] = Counter()
    for document in documents:
        labelled = Counter((t.head, t.tail) for t in document.triples)
        pairs += document.pair_count
        related += len(labelled)
        multi += sum(count > 1 for count in labelled.values())
        inter += sum(not document.same_sentence(t.head, t.tail) for t in document.triples)
        relations.update(t.relation for t in document.triples)
    entities = [len(document.entities) for document in documents]
    triples = sum(relations.values())
    return {
        "documents": len(documents),
        "sentences": sum(len(d.sentences) for d in documents),
        "words": sum(d.words for d in documents),
        "entities": sum(entities),
        "mentions": sum(len(e.mentions) for d in documents for e in d.entities),
        "entities_per_document": {
            "min": min(entities, default=0),
            "mean": sum(entities) / max(len(entities), 1),
            "max": max(entities, default=0),
        },
        "pairs": pairs,
        "related_pairs": related,
        "share_related": related / max(pairs, 1),
        "multi_label_pairs": multi,
        "triples": triples,
        "share_inter_sentence": inter / max(triples, 1),
        "relations": dict(sorted(relations.items(), key=lambda item: (-item[1], item[0]))),
        "not_in_first_mention_order": [d.title for d in documents if not first_mention_order(d)],
        "warnings": equal_texts(documents, train),
    }


def equal_texts(documents: Sequence[Document], train: Iterable[Document] | None) -> list[str]:
    """Leaks: the same words under two titles, or in training and evaluation data."""
    warnings = []
    seen = {d.sentences: d.title for d in train or ()}
    for document in documents:
        if document.sentences in seen:
            warnings.append(f'"{document.title}" has the text of "{seen[document.sentences]}" in the training data')
    seen = {}
    for document in documents:
        other = seen.setdefault(document.sentences, document.title)
        if other is not document.title:
            warnings.append(f'"{document.title}" has the text of "{other}" in the same file')
    return warnings
