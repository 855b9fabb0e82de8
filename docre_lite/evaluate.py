"""From predicted triples to numbers: every metric of the field in one place, each defined in `Scores`.

All sums are micro: pooled over documents, then divided. A ratio whose denominator is zero is 0. `formats.submission`
reads and writes files of predictions; `objectives` searches for decision thresholds.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

from .support.checks import check
from .types import NA, Document, Triple

Fact = tuple[str, str, str]  # head name, tail name, relation

BUCKETS = ((1, 5), (6, 10), (11, 15), (16, 20), (21, 25), (26, 30), (31, 35), (36, 42), (43, None))  # entities
PARTS = 5  # groups of documents, by their share of related pairs


@dataclass(frozen=True)
class Row:
    """The F1 of one part of the data: a bucket of documents, or a relation; `documents` is the number in that part."""

    label: str
    documents: int
    gold: int
    predicted: int
    correct: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Scores:
    """The scores of a set of predictions. Shares are in 0..1; `None` means that the data does not determine the value.

    A prediction is correct if title, head, relation and tail are those of a gold triple. Repeated predictions
    count once, as in DocRED's official scorer, and so do repeated labels. T is the gold set, P the predicted set.

    documents, gold, predicted, correct
        The number of each; gold = |T|, predicted = |P|, correct = |P ∩ T|.
    precision, recall, f1
        |P ∩ T| / |P|, |P ∩ T| / |T| and their harmonic mean. DocRED official.
        *Surprising:* nobody in this field reports macro averages over documents or relations, common elsewhere.
    ign_precision, ign_f1
        DocRED official. A correct prediction is *seen* if some name of its head, some name of its tail and its
        relation form a fact of the training set (`seen_facts`). ign_precision = (correct - seen) / (predicted -
        seen); ign_f1 is the harmonic mean of ign_precision and the ordinary recall. `None` without training facts.
        *Surprising:* papers say that shared facts are left out, yet recall still counts them, and a *wrong*
        prediction that repeats a training fact still costs precision. (Some copies of the official scorer add 1e-5
        to the denominator; this one does not.)
    intra_precision, intra_recall, intra_f1
        Gold and predictions restricted to pairs with a mention of the head and a mention of the tail in one
        sentence. LSR; Re-DocRED's evaluation.
        *Surprising:* this is a property of the pair, not of the fact: the sentence need not state the fact.
    inter_precision, inter_recall, inter_f1
        The same for all other pairs. Every triple is either intra or inter.
    infer_precision, infer_recall, infer_f1
        Infer-F1 of GAIN and SIRE. A gold triple is *inferable* if its pair is an edge of a gold triangle head → o,
        o → tail, head → tail of three different entities, whatever the relations. Recall = correct inferable /
        inferable; precision = correct inferable / |P|.
        *Surprising:* nobody released code. All three edges count, not only the conclusion, and precision is
        over *all* predictions, so that predicting gold scores below 1: both are inferred from the published numbers
        (precision 39-45 with recall 53-59 for models with both near 60 on all triples).
    infer_pairs_precision, infer_f1_pairs
        The same with the predictions also restricted to the pairs of the gold triangles (recall is the same).
        Ours; gold scores 1.
    composed_precision, composed_recall, composed_f1
        For corpora whose gold triples record their derivation (depth, premises), else `None`. Gold = triples
        composed from others (depth >= 1); predictions = all that are not a *stated* gold triple (depth 0).
        Ours, the strict definition of Infer-F1.
        *Surprising:* every false positive lowers it, whether or not composition led to it.
    composed_recall_by_depth, stated_recall
        Recall on the composed triples of each depth {1: ., 2: .}, and on those of depth 0. `None` as above. Ours.
    rela_precision, rela_recall, rela_f1, rela_accuracy
        Finding the related pairs: relations are ignored; a pair is positive if it has any. PAEE.
        *Surprising:* the paper speaks of accuracy, which is near .97 even for a model that predicts nothing. Its
        column "Rela" must be rela_f1 and its column "ACC" rela_recall; rela_accuracy is the actual accuracy over
        the pairs to classify (`Document.pairs`).
    evidence_precision, evidence_recall, evidence_f1
        DocRED official. Correct = sentences that a correct prediction shares with the evidence of its gold triple;
        precision divides by the evidence of all predictions, recall by the evidence of all gold triples.
        *Surprising:* evidence of a wrong triple lowers precision, evidence of a missed triple lowers recall,
        so the model's F1 caps it. If a label is repeated, the total adds up the evidence of all copies, but only
        the last copy is compared. In Re-DocRED more than half of the gold triples have no evidence.
    by_entities
        A `Row` for each range of entity counts 1-5, ..., 36-42, 43+; counts are pooled within a row. ATLOP figure 4,
        with DocuNet's buckets. *Surprising:* the outer rows contain only a handful of documents. A document without
        entities is in no row.
    by_related
        A `Row` for each fifth of the documents by their share of related pairs, the sparsest first; the label gives
        the shares. PAEE figure 4 does not give the limits of its buckets; these hold equally many documents.
    by_relation
        A `Row` for each relation of the gold or predicted triples, the most frequent in gold first; `documents`
        counts those in which it occurs, gold or predicted.
    """

    documents: int
    gold: int
    predicted: int
    correct: int
    precision: float
    recall: float
    f1: float
    ign_precision: float | None
    ign_f1: float | None
    intra_precision: float
    intra_recall: float
    intra_f1: float
    inter_precision: float
    inter_recall: float
    inter_f1: float
    infer_precision: float
    infer_recall: float
    infer_f1: float
    infer_pairs_precision: float
    infer_f1_pairs: float
    composed_precision: float | None
    composed_recall: float | None
    composed_f1: float | None
    composed_recall_by_depth: Mapping[int, float] | None
    stated_recall: float | None
    rela_precision: float
    rela_recall: float
    rela_f1: float
    rela_accuracy: float
    evidence_precision: float
    evidence_recall: float
    evidence_f1: float
    by_entities: tuple[Row, ...]
    by_related: tuple[Row, ...]
    by_relation: tuple[Row, ...]

    def to_dict(self) -> dict:
        """Plain lists, dictionaries and numbers that survive JSON (so depths become strings)."""
        out = asdict(self)
        out |= {name: list(out[name]) for name in ("by_entities", "by_related", "by_relation")}
        if self.composed_recall_by_depth is not None:
            out["composed_recall_by_depth"] = {str(d): r for d, r in self.composed_recall_by_depth.items()}
        return out


def score(predicted: Iterable[Triple], documents: Iterable[Document], seen: Collection[Fact] | None = None) -> Scores:
    """Compares predicted triples with the documents' gold triples; see `Scores` for every definition.

    `seen` are the facts of the training set (`seen_facts`), which Ign F1 needs. Equal documents with the same title
    count once, as in the official scorer. Raises ValueError for a prediction that `checked` refuses (that scorer
    counts an unknown title as wrong), for different documents with one title, and for gold that `check` refuses.
    """
    known, gold, cited = gold_of(documents)
    found = checked(predicted, known)
    correct = found.keys() & gold.keys()

    def ratios(part: set[Triple]) -> Ratios:  # both sides restricted to a part of all triples
        return _ratios(len(correct & part), len(found.keys() & part), len(gold.keys() & part))

    everything = found.keys() | gold.keys()
    intra = {t for t in everything if known[t.title].same_sentence(t.head, t.tail)}
    edges = triangle_pairs(_pair(t) for t in gold)
    in_triangle = {t for t in everything if _pair(t) in edges}
    inferable, hits = len(in_triangle & gold.keys()), len(in_triangle & correct)

    both, within = _ratios(len(correct), len(found), len(gold)), ratios(intra)
    across, infer, infer_pairs = ratios(everything - intra), _ratios(hits, len(found), inferable), ratios(in_triangle)
    composed = _composed(found, gold)
    rela, rela_accuracy = _related(found, gold, known)
    evidence = _ratios(
        sum(len(set(found[t].evidence) & set(gold[t].evidence)) for t in correct),
        sum(len(set(t.evidence)) for t in found.values()),
        cited,
    )
    ign_precision = ign_f1 = None
    if seen is not None:
        repeats = sum(is_seen(t, known[t.title], seen) for t in correct)
        ign_precision = _share(len(correct) - repeats, len(found) - repeats)
        ign_f1 = _f1(ign_precision, both.recall)  # with the ordinary recall, as in the official scorer
    counts = {"documents": len(known), "gold": len(gold), "predicted": len(found), "correct": len(correct)}
    return Scores(
        **counts,
        **both._asdict(),
        ign_precision=ign_precision,
        ign_f1=ign_f1,
        **_named("intra", within) | _named("inter", across) | _named("infer", infer),
        infer_pairs_precision=infer_pairs.precision,
        infer_f1_pairs=infer_pairs.f1,
        **composed,
        **_named("rela", rela) | _named("evidence", evidence),
        rela_accuracy=rela_accuracy,
        by_entities=_by_entities(found, gold, known),
        by_related=_by_related(found, gold, known),
        by_relation=_by_relation(found, gold),
    )


def seen_facts(train_documents: Iterable[Document]) -> frozenset[Fact]:
    """Every (head name, tail name, relation) of the training triples, over all names of both entities.

    Relations keep their names from the data. `score` needs these facts for Ign F1 (DocRED official).
    """
    return frozenset(
        (head, tail, triple.relation)
        for document in train_documents
        for triple in document.triples
        for head in document.entities[triple.head].names
        for tail in document.entities[triple.tail].names
    )


def triangle_pairs(pairs: Iterable[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """The pairs (title, head, tail) on any edge of a triangle h → o, o → t, h → t of three different entities.

    GAIN calls the triples on these pairs inferable. All three edges are returned, not only the conclusion h → t.
    """
    pairs = {(title, head, tail) for title, head, tail in pairs if head != tail}
    after, before = defaultdict(set), defaultdict(set)
    for title, head, tail in pairs:
        after[title, head].add(tail)
        before[title, tail].add(head)
    edges = set()
    for title, head, tail in pairs:
        for bridge in after[title, head] & before[title, tail]:
            edges |= {(title, head, bridge), (title, bridge, tail), (title, head, tail)}
    return edges


# The parts of `score`


class Ratios(NamedTuple):
    precision: float
    recall: float
    f1: float


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _ratios(correct: int, predicted: int, gold: int) -> Ratios:
    precision, recall = _share(correct, predicted), _share(correct, gold)
    return Ratios(precision, recall, _f1(precision, recall))


def _named(prefix: str, ratios: Ratios) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in ratios._asdict().items()}


def _pair(triple: Triple) -> tuple[str, int, int]:
    return triple.title, triple.head, triple.tail


def by_title(documents: Iterable[Document]) -> dict[str, Document]:
    known: dict[str, Document] = {}
    for document in documents:
        # DocRED's first development set holds two documents twice; the official scorer counts them once.
        if known.setdefault(document.title, document).entities != document.entities:
            raise ValueError(f"two different documents have the title {document.title!r}; give each its own")
    return known


def gold_of(documents: Iterable[Document]) -> tuple[dict[str, Document], dict[Triple, Triple], int]:
    """Documents by title, gold triples (each its own key: the last of equals gives the evidence), evidence cited."""
    documents = list(documents)
    check(documents, "gold documents", titles=False, candidates=False)
    triples = [triple for document in documents for triple in document.triples]
    return by_title(documents), {t: t for t in triples}, sum(len(t.evidence) for t in triples)


def unique(predicted: Iterable[Triple]) -> dict[Triple, Triple]:
    """Maps each prediction to itself, because equal triples may differ in evidence; the first of equals counts."""
    first: dict[Triple, Triple] = {}
    for triple in predicted:
        first.setdefault(triple, triple)
    return first


def checked(predicted: Iterable[Triple], known: Mapping[str, Document]) -> dict[Triple, Triple]:
    """The predictions without repetitions, after a check that their documents and entities exist, that they relate two
    entities by a relation other than NA, and that their scores are finite."""
    found = unique(predicted)
    for triple in found:
        if triple.title not in known:
            raise ValueError(f"prediction for {triple.title!r}, which is not among the {len(known)} documents to score")
        entities = len(known[triple.title].entities)
        if triple.score is not None and not math.isfinite(triple.score):
            raise ValueError(f"prediction for {triple.title!r}: its score is {triple.score}; give a finite number")
        if triple.relation in (NA, "Na") or triple.head == triple.tail:
            raise ValueError(
                f"prediction for {triple.title!r}: ({triple.head}, {triple.relation!r}, {triple.tail}) is no relation "
                "of two entities; leave it out"
            )
        if not (0 <= triple.head < entities and 0 <= triple.tail < entities):
            raise ValueError(
                f"prediction for {triple.title!r}: pair ({triple.head}, {triple.tail}), but entities are numbered"
                f" from 0 and there are {entities}"
            )
    return found


def is_seen(triple: Triple, document: Document, seen: Collection[Fact]) -> bool:
    heads, tails = document.entities[triple.head].names, document.entities[triple.tail].names
    return any((head, tail, triple.relation) in seen for head in heads for tail in tails)


def _composed(found: Mapping[Triple, Triple], gold: Mapping[Triple, Triple]) -> dict:
    known = any(t.depth or t.premises for t in gold.values())
    if not known:
        names = "composed_precision composed_recall composed_f1 composed_recall_by_depth stated_recall"
        return dict.fromkeys(names.split())
    depth = {t: t.depth for t in gold.values()}
    all_of, hit = Counter(depth.values()), Counter(d for t, d in depth.items() if t in found)
    stated, derived = all_of[0], len(gold) - all_of[0]
    ratios = _ratios(sum(hit.values()) - hit[0], len(found) - hit[0], derived)
    return _named("composed", ratios) | {
        "composed_recall_by_depth": {d: _share(hit[d], all_of[d]) for d in sorted(all_of) if d},
        "stated_recall": _share(hit[0], stated),
    }


def _related(found: Iterable[Triple], gold: Iterable[Triple], known: Mapping[str, Document]) -> tuple[Ratios, float]:
    predicted, true = {_pair(t) for t in found}, {_pair(t) for t in gold}
    wrong = defaultdict(set)
    for title, head, tail in predicted ^ true:
        wrong[title].add((head, tail))
    pairs = mistakes = 0
    for title, document in known.items():
        pairs += document.pair_count
        # accuracy leaves out pairs that nobody classifies (a CDR pair of one type)
        asked = document.candidates
        mistakes += sum(asked is None or pair in asked for pair in wrong[title])
    return _ratios(len(predicted & true), len(predicted), len(true)), _share(pairs - mistakes, pairs)


def row_of(label: str, documents: int, gold: set[Triple], found: set[Triple]) -> Row:
    correct = len(gold & found)
    return Row(label, documents, len(gold), len(found), correct, **_ratios(correct, len(found), len(gold))._asdict())


def _by_entities(found: Iterable[Triple], gold: Iterable[Triple], known: Mapping[str, Document]) -> tuple[Row, ...]:
    size = {title: len(document.entities) for title, document in known.items()}
    rows = []
    for low, high in BUCKETS:
        titles = {title for title, n in size.items() if n >= low and (high is None or n <= high)}
        rows.append(_row_of_titles(f"{low}+" if high is None else f"{low}-{high}", titles, gold, found))
    return tuple(rows)


def _by_related(found: Iterable[Triple], gold: Iterable[Triple], known: Mapping[str, Document]) -> tuple[Row, ...]:
    related = Counter(title for title, _, _ in {_pair(t) for t in gold})
    pairs = {title: document.pair_count for title, document in known.items()}
    share = {title: related[title] / n for title, n in pairs.items() if n}
    order = sorted(share, key=lambda title: (share[title], title))
    rows = []
    for k in range(PARTS):
        titles = order[k * len(order) // PARTS : (k + 1) * len(order) // PARTS]
        if titles:
            label = f"{100 * share[titles[0]]:.1f}-{100 * share[titles[-1]]:.1f} %"
            rows.append(_row_of_titles(label, set(titles), gold, found))
    return tuple(rows)


def _row_of_titles(label: str, titles: set[str], gold: Iterable[Triple], found: Iterable[Triple]) -> Row:
    kept = ({t for t in triples if t.title in titles} for triples in (gold, found))
    return row_of(label, len(titles), *kept)


def _by_relation(found: Iterable[Triple], gold: Iterable[Triple]) -> tuple[Row, ...]:
    gold_of, found_of = defaultdict(set), defaultdict(set)
    for triples, of in ((gold, gold_of), (found, found_of)):
        for triple in triples:
            of[triple.relation].add(triple)
    names = sorted(gold_of.keys() | found_of.keys(), key=lambda name: (-len(gold_of[name]), name))
    return tuple(
        row_of(name, len({t.title for t in gold_of[name] | found_of[name]}), gold_of[name], found_of[name])
        for name in names
    )
