"""Statistics of a corpus: means, counts and shares of any documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..types import Document


def statistics(documents: Sequence[Document], train: Iterable[Document] | None = None) -> dict[str, float | int]:
    """Means, counts and shares of any documents in DocRED's format; shares are in [0, 1].

    Rows that need `depth` (stated, derived) appear only if some triple has one, rows that compare with
    `train` only if it is given. A fact is shared with train if some pair of names of its entities occurs
    there with the same relation, as in Ign F1.
    """
    triples = [(document, triple) for document in documents for triple in document.triples]
    pairs = [(d, *pair) for d in documents for pair in d.pairs()]
    labelled = Counter((d.title, t.head, t.tail) for d, t in triples)
    together = [(d.title, h, t) in labelled for d, h, t in pairs if d.same_sentence(h, t)]
    inside = [sum(s in e.sentences for e in d.entities) for d in documents for s in range(len(d.sentences))]
    relations = Counter(t.relation for _, t in triples)
    entities = sum(len(d.entities) for d in documents)
    two_paths = [_two_paths(d) for d in documents]
    count, facts = len(documents), len(triples)
    rows = {
        "documents": count,
        "entities_per_document": entities / count,
        "mentions_per_entity": sum(len(e.mentions) for d in documents for e in d.entities) / entities,
        "words_per_document": sum(d.words for d in documents) / count,
        "sentences_per_document": len(inside) / count,
        "entities_per_sentence": sum(inside) / len(inside),
        "related_given_same_sentence": share(together),
        "facts_per_document": facts / count,
        "positive_pairs": len(labelled) / len(pairs),
        "multi_label_pairs": share(n > 1 for n in labelled.values()),
        "inter_sentence_facts": share(not d.same_sentence(t.head, t.tail) for d, t in triples),
        "closes_directed_2_path": sum(directed for directed, _ in two_paths) / max(facts, 1),
        "closes_any_2_path": sum(either for _, either in two_paths) / max(facts, 1),
        "facts_without_evidence": share(not t.evidence for _, t in triples),
        "relations": len(relations),
        "share_of_top_10_relations": sum(n for _, n in relations.most_common(10)) / max(facts, 1),
    }
    derived = [(d, t) for d, t in triples if t.depth]
    if derived:
        stated = [(d, t) for d, t in triples if not t.depth]
        rows |= {
            "derivable_facts": len(derived) / facts,
            "depth_2_or_more_of_derived": share(t.depth > 1 for _, t in derived),
            "inter_sentence_stated": share(not d.same_sentence(t.head, t.tail) for d, t in stated),
            "inter_sentence_derived": share(not d.same_sentence(t.head, t.tail) for d, t in derived),
        }
    if train is not None:
        rows |= _shared_with(list(train), documents)
    return rows


def share(values: Iterable[bool]) -> float:
    values = list(values)
    return sum(values) / max(len(values), 1)


def _two_paths(document: Document) -> tuple[int, int]:
    """How many triples h → t have an entity x with h → x → t, and with any two facts that join h, x and t."""
    n = len(document.entities)
    after, before = [set() for _ in range(n)], [set() for _ in range(n)]
    for t in document.triples:
        after[t.head].add(t.tail)
        before[t.tail].add(t.head)
    beside = [after[e] | before[e] for e in range(n)]
    directed = sum(bool((after[t.head] & before[t.tail]) - {t.head, t.tail}) for t in document.triples)
    either = sum(bool((beside[t.head] & beside[t.tail]) - {t.head, t.tail}) for t in document.triples)
    return directed, either


def _shared_with(train: Sequence[Document], documents: Sequence[Document]) -> dict[str, float]:
    known = {
        (a, t.relation, b)
        for d in train
        for t in d.triples
        for a in d.entities[t.head].names
        for b in d.entities[t.tail].names
    }
    names = {name for d in train for e in d.entities for name in e.names}
    seen = [
        any((a, t.relation, b) in known for a in d.entities[t.head].names for b in d.entities[t.tail].names)
        for d in documents
        for t in d.triples
    ]
    named = [not e.names.isdisjoint(names) for d in documents for e in d.entities if e.type not in ("TIME", "NUM")]
    return {"facts_shared_with_train": share(seen), "entities_named_in_train": share(named)}
