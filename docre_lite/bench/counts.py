"""Parts of a row besides its scores: counts per document, for intervals, and a breakdown by relation frequency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from ..evaluate import Fact, Row, checked, gold_of, is_seen, row_of
from ..types import Document, Triple

DEPTHS = (1, 2, 3)  # composition steps
FREQUENCIES = ((0, 0), (1, 9), (10, 99), (100, 999), (1000, None))  # training triples of a relation


def by_frequency(
    predicted: Iterable[Triple], documents: Iterable[Document], train: Iterable[Document]
) -> tuple[Row, ...]:
    """A `Row` for the relations with 0, 1-9, 10-99, ... training triples, pooled; rows without any triple are left out.

    Ours; the field's "long tail" means all relations but DocRED's ten most frequent ones.
    """
    known, gold, _ = gold_of(documents)
    found = checked(predicted, known)
    times = Counter(triple.relation for document in train for triple in document.triples)
    rows = []
    for low, high in FREQUENCIES:
        kept = [
            {t for t in triples if low <= times[t.relation] and (high is None or times[t.relation] <= high)}
            for triples in (gold, found)
        ]
        if any(kept):
            label = f"{low}+" if high is None else f"{low}-{high}" if high else "0"
            rows.append(row_of(label, len({t.title for t in kept[0] | kept[1]}), *kept))
    return tuple(rows)


def by_document(
    predicted: Iterable[Triple], documents: Iterable[Document], seen: Collection[Fact] = ()
) -> dict[str, list[int]]:
    """Each document's gold, predicted and correct triples, and how many of the correct ones are `seen` facts.

    The same for the pairs within a sentence ("intra_gold" …) and across ("inter_…"); and if gold triples record their
    derivation, for the composed ones ("composed_…"; predicted are all but the stated gold triples) and those of
    each of the `DEPTHS` ("depth_1_…"; predicted are all but the gold triples of another depth). Each list holds one
    number per document, in the order of the documents. Their sums give the scores of these names; resampling them
    with replacement shows how these would vary with other documents (`results.paired_bootstrap`).
    """
    known, gold, _ = gold_of(documents)
    found = checked(predicted, known)
    parts = {"": gold.keys() | found.keys()}
    parts["intra_"] = {t for t in parts[""] if known[t.title].same_sentence(t.head, t.tail)}
    parts["inter_"] = parts[""] - parts["intra_"]
    if any(t.depth or t.premises for t in gold.values()):
        parts["composed_"] = parts[""] - {t for t in gold.values() if not t.depth}
        for depth in DEPTHS:
            parts[f"depth_{depth}_"] = parts[""] - {t for t in gold.values() if t.depth != depth}
    counts = {}
    for name, part in parts.items():
        counts |= {f"{name}gold": gold.keys() & part, f"{name}predicted": found.keys() & part}
        counts[f"{name}correct"] = counts[f"{name}gold"] & counts[f"{name}predicted"]
    counts["seen"] = {t for t in counts["correct"] if is_seen(t, known[t.title], seen)}
    times = {name: Counter(t.title for t in triples) for name, triples in counts.items()}
    return {name: [of[title] for title in known] for name, of in times.items()}
