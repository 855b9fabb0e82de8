"""Scores against definitions written as loops, and against values worked by hand."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hand import FOUR, GUESSES, HAND, SENTENCES, entity
from hypothesis import given, settings
from hypothesis import strategies as st

from docre_lite.bench.counts import by_document, by_frequency
from docre_lite.bench.results import COUNTED, counts, f1_of
from docre_lite.evaluate import Scores, score, seen_facts, triangle_pairs
from docre_lite.types import Document, Triple

# beartype draws a random element of a list to check; the examples stay the same
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

# Values by hand

TRAIN = Document(
    "Train",
    SENTENCES,
    (entity(("Ms Lee", 0), ("Lee", 1)), entity(("Borg", 0), ("Borgia", 2)), entity(("Dell", 1)), entity(("Cork", 1))),
    (Triple("Train", 0, "r", 1), Triple("Train", 2, "q", 3), Triple("Train", 2, "r", 3)),
)
BY_HAND = dict(
    documents=1,
    gold=6,
    predicted=8,  # nine lines, one of them twice
    correct=3,
    precision=3 / 8,
    recall=3 / 6,
    f1=2 * 3 / (8 + 6),
    # one of the three correct is seen: (3 - 1) / (8 - 1); recall stays 1/2; 2 · 2/7 · 1/2 / (2/7 + 1/2) = 4/11
    ign_precision=2 / 7,
    ign_f1=4 / 11,
    # sentence 0 holds entities 0 1, sentence 1 holds 0 2, sentence 2 holds 3: intra pairs are 01, 02 and back
    intra_precision=2 / 4,  # predicted 0r1 0q2 1r0 2r0
    intra_recall=2 / 3,  # gold 0r1 0s1 0q2
    intra_f1=2 * 2 / (4 + 3),
    inter_precision=1 / 4,  # predicted 2s3 1r2 0q3 3q2
    inter_recall=1 / 3,  # gold 1s2 2s3 3r0
    inter_f1=2 * 1 / (4 + 3),
    # one triangle, 0→1→2 with 0→2 (0→2→3→0 is a circle, not a triangle): gold on it 0r1 0s1 1s2 0q2, found 0r1 0q2
    infer_precision=2 / 8,
    infer_recall=2 / 4,
    infer_f1=2 * 2 / (8 + 4),
    infer_pairs_precision=2 / 3,  # predicted on its pairs: 0r1 0q2 1r2
    infer_f1_pairs=2 * 2 / (3 + 4),
    # composed gold 0q2 3r0, found 0q2; of the eight predictions 0r1 and 2s3 are stated gold and do not count
    composed_precision=1 / 6,
    composed_recall=1 / 2,
    composed_f1=2 * 1 / (6 + 2),
    composed_recall_by_depth={1: 1.0, 2: 0.0},
    stated_recall=2 / 4,  # stated gold 0r1 0s1 1s2 2s3
    # related pairs: gold 01 12 02 23 30; predicted 01 02 23 12 03 32 10 20; both 01 02 23 12
    rela_precision=4 / 8,
    rela_recall=4 / 5,
    rela_f1=2 * 4 / (8 + 5),
    rela_accuracy=7 / 12,  # wrong on 03 32 10 20 30, of 4 · 3 ordered pairs
    # shared by 0r1: {0}, by 0q2: {1}, by 2s3: {2}; predicted 2+2+1+1+0+1+0+3 = 10; gold 1+0+2+2+2+1 = 8
    evidence_precision=3 / 10,
    evidence_recall=3 / 8,
    evidence_f1=2 * 3 / (10 + 8),
)


def test_every_field_by_hand():
    scores = score(GUESSES, [HAND], seen_facts([TRAIN]))
    assert {f.name for f in fields(Scores)} == BY_HAND.keys() | {"by_entities", "by_related", "by_relation"}
    for name, value in BY_HAND.items():
        assert getattr(scores, name) == pytest.approx(value), name
    labels = "1-5 6-10 11-15 16-20 21-25 26-30 31-35 36-42 43+".split()
    assert [row.label for row in scores.by_entities] == labels
    counts = [(row.documents, row.gold, row.predicted, row.correct) for row in scores.by_entities]
    assert counts == [(1, 6, 8, 3)] + [(0, 0, 0, 0)] * 8
    assert [row.f1 for row in scores.by_entities] == pytest.approx([3 / 7] + [0] * 8)
    # s: gold 0s1 1s2 2s3, found 2s3. r: gold 0r1 3r0, predicted 0r1 1r2 1r0 2r0. q: gold 0q2, predicted 0q2 0q3 3q2
    assert [(w.label, w.documents, w.gold, w.predicted, w.correct) for w in scores.by_relation] == [
        ("s", 1, 3, 1, 1),
        ("r", 1, 2, 4, 1),
        ("q", 1, 1, 3, 1),
    ]
    assert [w.f1 for w in scores.by_relation] == pytest.approx([2 / 4, 2 / 6, 2 / 4])
    assert [w.precision for w in scores.by_relation] == pytest.approx([1, 1 / 4, 1 / 3])
    assert [w.recall for w in scores.by_relation] == pytest.approx([1 / 3, 1 / 2, 1])


def test_documents_by_their_share_of_related_pairs():
    """Seven documents of three entities (6 pairs) with 0 … 6 related pairs; sparse ones are answered wrongly."""
    pairs = [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)]
    entities = (entity(("A", 0)), entity(("B", 0)), entity(("C", 1)))
    facts = {f"d{k}": [Triple(f"d{k}", h, "r", t) for h, t in pairs[:k]] for k in (3, 0, 6, 1, 5, 2, 4)}
    facts["d3"].append(Triple("d3", 0, "q", 1))  # a second relation of one pair makes it no more related
    documents = [Document(title, SENTENCES, entities, tuple(found)) for title, found in facts.items()]
    documents.append(Document("nobody", SENTENCES, (), ()))  # no pairs, no share
    guesses = [t for found in facts.values() for t in found if t.title > "d2"] + [Triple("d1", 2, "r", 1)]
    rows = score(guesses, documents).by_related
    assert [row.label for row in rows] == ["0.0-0.0 %", "16.7-16.7 %", "33.3-50.0 %", "66.7-66.7 %", "83.3-100.0 %"]
    counts = [(row.documents, row.gold, row.predicted, row.correct) for row in rows]
    assert counts == [(1, 0, 0, 0), (1, 1, 1, 0), (2, 6, 4, 4), (1, 4, 4, 4), (2, 11, 11, 11)]
    assert [row.f1 for row in rows] == pytest.approx([0, 0, 0.8, 1, 1])


def test_relations_by_how_often_training_has_them():
    train = replace(TRAIN, triples=TRAIN.triples[:1] + tuple(replace(TRAIN.triples[1], head=h) for h in range(4)) * 3)
    rows = by_frequency(GUESSES, [HAND], [train])  # r once, q twelve times, s never
    assert [(w.label, w.documents, w.gold, w.predicted, w.correct) for w in rows] == [
        ("0", 1, 3, 1, 1),
        ("1-9", 1, 2, 4, 1),
        ("10-99", 1, 1, 3, 1),
    ]
    assert rows[1].f1 == pytest.approx(1 / 3)
    assert [w.label for w in by_frequency(GUESSES, [HAND], [train] * 100)] == ["0", "100-999", "1000+"]
    assert by_frequency([], [], [train]) == ()


def test_counts_of_each_document():
    other = replace(HAND, title="Other", triples=tuple(replace(t, title="Other") for t in HAND.triples[:2]))
    found = by_document(GUESSES, [other, HAND], seen_facts([TRAIN]))
    assert {k: v for k, v in found.items() if "_" not in k} == {
        "gold": [2, 6],
        "predicted": [0, 8],
        "correct": [0, 3],
        "seen": [0, 1],
    }
    for name in ("gold", "predicted", "correct"):  # a triple is on one side
        assert [a + b for a, b in zip(found[f"intra_{name}"], found[f"inter_{name}"], strict=True)] == found[name]
    assert by_document(GUESSES, [HAND])["seen"] == [0]


def test_seen_facts_are_all_pairs_of_names():
    assert seen_facts([TRAIN]) == {
        ("Ms Lee", "Borg", "r"),
        ("Ms Lee", "Borgia", "r"),
        ("Lee", "Borg", "r"),
        ("Lee", "Borgia", "r"),
        ("Dell", "Cork", "q"),
        ("Dell", "Cork", "r"),
    }


def test_triangles_need_three_entities_of_one_document():
    assert triangle_pairs([("a", 0, 1), ("a", 1, 2), ("a", 0, 2)]) == {("a", 0, 1), ("a", 1, 2), ("a", 0, 2)}
    assert not triangle_pairs([("a", 0, 1), ("a", 1, 2), ("b", 0, 2)])
    assert not triangle_pairs([("a", 0, 1), ("a", 1, 1), ("a", 0, 0), ("a", 1, 0)])
    assert not triangle_pairs([("a", 0, 1), ("a", 1, 2), ("a", 2, 0)])


def test_predicting_gold_is_perfect():
    entities = (entity(("A", 0)), entity(("B", 0)), entity(("C", 1)))
    triples = (
        Triple("t", 0, "r", 1, evidence=(0,)),
        Triple("t", 1, "s", 2, evidence=(1,)),
        Triple("t", 0, "q", 2, evidence=(0, 1), depth=1, premises=((0, "r", 1), (1, "s", 2))),
    )
    document = Document("t", SENTENCES, entities, triples)
    scores = score(triples, [document], {("A", "B", "r")})
    values = scores.to_dict()
    assert {name: value for name, value in values.items() if name.endswith("f1") or "_f1_" in name} == {
        name: 1.0
        for name in "f1 ign_f1 intra_f1 inter_f1 infer_f1 infer_f1_pairs composed_f1 rela_f1 evidence_f1".split()
    }
    assert values["composed_recall_by_depth"] == {"1": 1.0} and scores.stated_recall == scores.rela_accuracy == 1
    assert scores.by_entities[0].f1 == 1 and all(row.f1 == 1 for row in scores.by_relation)


def test_gold_off_the_triangles_costs_infer_precision():
    scores = score(HAND.triples, [HAND])
    # of the six gold triples four lie on the triangle: 4/6, 4/4, and 2 · 4 / (6 + 4)
    assert (scores.infer_precision, scores.infer_recall) == pytest.approx((4 / 6, 1))
    assert scores.infer_f1 == pytest.approx(0.8) and scores.infer_f1_pairs == 1


def zero_but(scores: Scores, **expected) -> None:
    """Every number is 0 except those named; `None` counts as named."""
    for name, value in scores.to_dict().items():
        if name not in ("by_entities", "by_related", "by_relation"):
            assert value == expected.get(name, 0), name


NOT_KNOWN = dict.fromkeys(
    (
        "ign_precision ign_f1 composed_precision composed_recall composed_f1 composed_recall_by_depth stated_recall"
    ).split()
)


def test_no_documents():
    zero_but(score([], []), **NOT_KNOWN)
    zero_but(score([], [], set()), **NOT_KNOWN | {"ign_precision": 0, "ign_f1": 0})


def test_nothing_predicted():
    scores = score([], [HAND], set())
    zero_but(
        scores, documents=1, gold=6, composed_recall_by_depth={"1": 0, "2": 0}, rela_accuracy=pytest.approx(7 / 12)
    )


def test_no_gold():
    scores = score(GUESSES, [replace(HAND, triples=())])
    zero_but(scores, documents=1, predicted=8, rela_accuracy=pytest.approx(4 / 12), **NOT_KNOWN)


def test_one_entity_or_none():
    one = Document("one", SENTENCES, FOUR[:1])
    none = Document("none", SENTENCES, ())
    scores = score([], [one, none])
    zero_but(scores, documents=2, **NOT_KNOWN)
    assert [row.documents for row in scores.by_entities] == [1] + [0] * 8


def test_all_correct_and_all_seen_leaves_nothing_to_score():
    seen = seen_facts([HAND])
    scores = score(HAND.triples, [HAND], seen)
    assert (scores.ign_precision, scores.ign_f1, scores.f1) == (0, 0, 1)
    # another relation of a known pair is not a known fact
    assert score(HAND.triples, [HAND], {(h, t, r + "x") for h, t, r in seen}).ign_f1 == 1


def test_stated_only_corpus_has_no_composed_scores():
    plain = replace(HAND, triples=tuple(replace(t, depth=0, premises=()) for t in HAND.triples))
    scores = score(GUESSES, [plain])
    assert scores.composed_f1 is None and scores.composed_recall_by_depth is None and scores.stated_recall is None
    assert scores.infer_f1 == score(GUESSES, [HAND]).infer_f1  # that one needs no premises


def test_buckets_meet_without_gap():
    ends = {"1-5": (2, 5), "6-10": (6, 10), "11-15": (11, 15), "16-20": (16, 20), "21-25": (21, 25)}
    ends |= {"26-30": (26, 30), "31-35": (31, 35), "36-42": (36, 42), "43+": (43, 60)}
    for label, sizes in ends.items():
        documents = [Document(str(n), SENTENCES, FOUR[:1] * n, (Triple(str(n), 0, "r", n - 1),)) for n in sizes]
        rows = {row.label: row for row in score(documents[0].triples, documents).by_entities}
        assert (rows[label].documents, rows[label].gold, rows[label].correct) == (2, 2, 1)
        assert sum(row.documents for row in rows.values()) == 2


def test_candidates_bound_the_accuracy_and_nothing_else():
    limited = replace(HAND, candidates=frozenset({(0, 1), (0, 3), (3, 0), (2, 3)}))
    # of the four candidate pairs 03 (predicted, not gold) and 30 (gold, not predicted) are wrong
    scores = score(GUESSES, [limited])
    assert scores.rela_accuracy == 2 / 4
    assert scores.rela_f1 == pytest.approx(BY_HAND["rela_f1"]) and scores.gold == 6


def test_repeated_labels_and_documents():
    label = Triple("t", 0, "r", 1, evidence=(0,))
    twice = Document("t", SENTENCES, FOUR, (label, replace(label, evidence=(1, 2))))
    scores = score([replace(label, evidence=(2,))], [twice])
    # one gold triple; its evidence is compared with the last label's and counted for both: 1/1 and 1/(1 + 2)
    assert (scores.gold, scores.f1) == (1, 1)
    assert (scores.evidence_precision, scores.evidence_recall) == pytest.approx((1, 1 / 3))
    assert score(GUESSES, [HAND, HAND]).documents == 1
    with pytest.raises(ValueError, match="Hand"):
        score(GUESSES, [HAND, replace(HAND, entities=FOUR[:3])])


def test_relation_rows_count_documents_of_either_side():
    documents = [Document(title, SENTENCES, FOUR, (Triple(title, 0, "r", 1),)) for title in "abc"]
    guesses = [Triple("a", 0, "r", 1), Triple("a", 0, "s", 1), Triple("b", 0, "s", 1), Triple("b", 1, "s", 0)]
    rows = [(w.label, w.documents, w.gold, w.predicted, w.correct) for w in score(guesses, documents).by_relation]
    assert rows == [("r", 3, 3, 1, 1), ("s", 2, 0, 3, 0)]


def test_predictions_that_cannot_be_meant():
    with pytest.raises(ValueError, match="'Nowhere'"):
        score([Triple("Nowhere", 0, "r", 1)], [HAND])
    for pair in ((0, 4), (4, 0), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="'Hand'.*there are 4"):
            score([Triple("Hand", pair[0], "r", pair[1])], [HAND])


def test_scores_survive_json():
    for scores in (score(GUESSES, [HAND], set()), score([], [])):
        assert json.loads(json.dumps(scores.to_dict(), allow_nan=False)) == scores.to_dict()


def test_arguments_may_be_iterators_and_stay_as_they_came():
    guesses = list(GUESSES)
    assert score(iter(guesses), iter([HAND])) == score(guesses, [HAND])
    assert guesses == GUESSES


# The slow version, from the definitions


def slow_f1(p: float, r: float) -> float:
    return 0 if p + r == 0 else 2 * p * r / (p + r)


def slow_ratio(a: int, b: int) -> float:
    return 0 if b == 0 else a / b


def slow_depth_f1(predicted: list[Triple], documents: list[Document], depth: int) -> float | None:
    """F1 on the gold triples of one depth; those of other depths count neither for nor against."""
    gold = [t for d in documents for t in d.triples]
    if not any(t.depth or t.premises for t in gold):
        return None
    wanted = {t for t in gold if t.depth == depth}
    named = {t for t in predicted if t in wanted or t not in gold}
    return slow_f1(slow_ratio(len(named & wanted), len(named)), slow_ratio(len(named & wanted), len(wanted)))


def slow_score(predicted: list[Triple], documents: list[Document], seen: set) -> dict:
    """Every definition of specs as loops over lists of (title, head, relation, tail)."""
    gold, guess, evidence_of, guessed_evidence, depth = [], [], {}, {}, {}
    for document in documents:
        for t in document.triples:
            gold.append((t.title, t.head, t.relation, t.tail))
            evidence_of[gold[-1]] = t.evidence
            depth[gold[-1]] = t.depth
    for t in predicted:
        key = (t.title, t.head, t.relation, t.tail)
        if key not in guess:
            guess.append(key)
            guessed_evidence[key] = t.evidence
    documents = {d.title: d for d in documents}
    out = {"documents": len(documents), "gold": len(gold), "predicted": len(guess)}
    out["correct"] = sum(1 for g in guess if g in gold)

    def three(name, gold_part, guess_part):
        hits = sum(1 for g in guess_part if g in gold_part)
        p, r = slow_ratio(hits, len(guess_part)), slow_ratio(hits, len(gold_part))
        out.update({f"{name}precision": p, f"{name}recall": r, f"{name}f1": slow_f1(p, r)})

    three("", gold, guess)

    repeats = 0
    for title, h, r, t in guess:
        if (title, h, r, t) in gold:
            hit = False
            for one in documents[title].entities[h].mentions:
                for other in documents[title].entities[t].mentions:
                    hit = hit or (one.name, other.name, r) in seen
            repeats += hit
    out["ign_precision"] = slow_ratio(out["correct"] - repeats, len(guess) - repeats)
    out["ign_f1"] = slow_f1(out["ign_precision"], out["recall"])

    def intra(x):
        return any(
            one.sentence == other.sentence
            for one in documents[x[0]].entities[x[1]].mentions
            for other in documents[x[0]].entities[x[3]].mentions
        )

    three("intra_", [x for x in gold if intra(x)], [x for x in guess if intra(x)])
    three("inter_", [x for x in gold if not intra(x)], [x for x in guess if not intra(x)])

    def edge(x):
        title, n = x[0], len(documents[x[0]].entities)
        linked = [(h, t) for (name, h, _, t) in gold if name == title]
        for h in range(n):
            for o in range(n):
                for t in range(n):
                    if len({h, o, t}) == 3 and (h, o) in linked and (o, t) in linked and (h, t) in linked:
                        if (x[1], x[3]) in [(h, o), (o, t), (h, t)]:
                            return True
        return False

    inferable = [x for x in gold if edge(x)]
    three("infer_pairs_", inferable, [x for x in guess if edge(x)])
    out["infer_f1_pairs"] = out.pop("infer_pairs_f1")
    out.pop("infer_pairs_recall")
    hits = sum(1 for x in guess if x in inferable)
    out["infer_precision"], out["infer_recall"] = slow_ratio(hits, len(guess)), slow_ratio(hits, len(inferable))
    out["infer_f1"] = slow_f1(out["infer_precision"], out["infer_recall"])

    if any(depth.values()):
        stated = [x for x in gold if depth[x] == 0]
        three("composed_", [x for x in gold if depth[x] > 0], [x for x in guess if x not in stated])
        out["composed_recall_by_depth"] = {}
        for level in range(1, 10):
            of = [x for x in gold if depth[x] == level]
            if of:
                out["composed_recall_by_depth"][level] = sum(1 for x in of if x in guess) / len(of)
        out["stated_recall"] = slow_ratio(sum(1 for x in stated if x in guess), len(stated))
    else:
        out |= {k: v for k, v in NOT_KNOWN.items() if not k.startswith("ign")}

    gold_pairs, guess_pairs = {(x[0], x[1], x[3]) for x in gold}, {(x[0], x[1], x[3]) for x in guess}
    three("rela_", sorted(gold_pairs), sorted(guess_pairs))
    right = asked = 0
    for document in documents.values():
        for h in range(len(document.entities)):
            for t in range(len(document.entities)):
                if h != t and (document.candidates is None or (h, t) in document.candidates):
                    asked += 1
                    right += ((document.title, h, t) in gold_pairs) == ((document.title, h, t) in guess_pairs)
    out["rela_accuracy"] = slow_ratio(right, asked)

    shared = cited = truth = 0
    for x in guess:
        cited += len(guessed_evidence[x])
        if x in gold:
            shared += sum(1 for sentence in guessed_evidence[x] if sentence in evidence_of[x])
    for x in gold:
        truth += len(evidence_of[x])
    p, r = slow_ratio(shared, cited), slow_ratio(shared, truth)
    return out | {"evidence_precision": p, "evidence_recall": r, "evidence_f1": slow_f1(p, r)}


@st.composite
def tasks(draw) -> tuple[list[Document], list[Triple], set]:
    documents, guesses, seen = [], [], set()
    evidence = st.sets(st.integers(0, 2), max_size=3).map(lambda s: tuple(sorted(s)))
    for title in draw(st.sets(st.sampled_from("xyz"), max_size=3)):
        mention = st.tuples(st.sampled_from("abcd"), st.integers(0, 2))
        entities = draw(st.lists(st.lists(mention, min_size=1, max_size=3), max_size=7))
        n = len(entities)
        index = st.integers(0, max(n - 1, 0))
        triple = st.builds(Triple, st.just(title), index, st.sampled_from("pq"), index, evidence, depth=st.just(0))
        triple = triple.filter(lambda t: t.head != t.tail)
        triples = draw(st.lists(triple, max_size=12 if n > 1 else 0, unique=True))
        triples = [replace(t, depth=draw(st.sampled_from((0, 0, 1, 2)))) for t in triples]
        candidates = (
            draw(st.none() | st.frozensets(st.tuples(index, index).filter(lambda p: p[0] != p[1]), max_size=5))
            if n > 1
            else None
        )
        documents.append(Document(title, SENTENCES, tuple(entity(*e) for e in entities), tuple(triples), candidates))
        guesses += draw(st.lists(triple, max_size=6 if n > 1 else 0))
        if triples:
            guesses += [
                replace(t, evidence=draw(evidence)) for t in draw(st.lists(st.sampled_from(triples), max_size=8))
            ]
        seen |= draw(
            st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.sampled_from("pq")), max_size=5)
        )
    return documents, draw(st.permutations(guesses)), seen


@settings(max_examples=200)
@given(tasks())
def test_fast_and_slow_agree(task):
    documents, guesses, seen = task
    scores = score(guesses, documents, seen)
    slow = slow_score(guesses, documents, seen)
    assert slow.keys() == BY_HAND.keys()
    for name, value in slow.items():
        fast = getattr(scores, name)
        assert fast == (None if value is None else pytest.approx(value)), name
    # the parts add up to the whole
    for rows in (scores.by_entities, scores.by_relation):
        for count in ("gold", "predicted", "correct"):
            assert sum(getattr(row, count) for row in rows) == getattr(scores, count)
    row = {"dev": {"by_document": by_document(guesses, documents, seen)}}
    for key in COUNTED:
        depth = int(key.split("_")[1]) if key.startswith("depth") else None
        expected = slow_depth_f1(guesses, documents, depth) if depth else getattr(scores, key)
        if expected is not None:
            assert f1_of(counts([row], "dev", key).sum(1).astype(float))[0] == pytest.approx(100 * expected), key


@settings(max_examples=50)
@given(tasks())
def test_predicting_gold_is_perfect_wherever_there_is_gold(task):
    documents, _, _ = task
    gold = [t for d in documents for t in d.triples]
    scores = score(gold + gold, documents, set())
    assert scores.f1 == scores.ign_f1 == scores.rela_f1 == (1 if gold else 0)
    assert scores.infer_f1_pairs in (0, 1) and scores.intra_f1 in (0, 1) and scores.composed_f1 in (None, 1)
    assert scores.infer_recall == scores.infer_f1_pairs
    assert scores.rela_accuracy == (1 if any(d.pairs() for d in documents) else 0)
    assert scores.evidence_f1 == (1 if any(t.evidence for t in gold) else 0)


# Real data


def test_shares_of_redocred(real_data):
    path = real_data / "redocred" / "dev_revised.json"
    if not path.exists():
        pytest.skip("no redocred/dev_revised.json in the folder of real data")
    documents = []
    for raw in json.loads(path.read_text()):
        entities = [entity(*[(m["name"], m["sent_id"]) for m in mentions]) for mentions in raw["vertexSet"]]
        triples = [Triple(raw["title"], x["h"], x["r"], x["t"], tuple(x["evidence"])) for x in raw["labels"]]
        documents.append(Document(raw["title"], tuple(map(tuple, raw["sents"])), tuple(entities), tuple(triples)))
    gold = [t for d in documents for t in d.triples]
    scores = score(gold, documents, seen_facts(documents[:400]))
    assert [row.documents for row in scores.by_entities] == [3, 21, 104, 166, 131, 66, 8, 1, 0]
    assert scores.f1 == scores.intra_f1 == scores.inter_f1 == scores.rela_accuracy == scores.infer_f1_pairs == 1
    assert round(scores.infer_precision, 3) == 0.696  # the share of gold on triangles
    inter = [t for d in documents for t in d.triples if not d.same_sentence(t.head, t.tail)]
    assert round(len(inter) / len(gold), 3) == 0.538
