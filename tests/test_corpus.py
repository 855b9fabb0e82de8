"""The embedded corpus: the same everywhere, well-formed, complete in its labels, fit to be read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from docre_lite import corpus
from docre_lite.bench.statistics import statistics
from docre_lite.corpus import INVERSES, RELATIONS, RULES, Rule, close, counterfactuals, derivations, generate
from docre_lite.corpus.plan import candidates
from docre_lite.corpus.things import Statement, Thing, templates, words
from docre_lite.corpus.world import SIGNATURES, options
from docre_lite.formats.docred import document_from_json, document_to_json
from docre_lite.formats.readers import read
from docre_lite.support.checks import check
from docre_lite.types import NA


@pytest.fixture(scope="module")
def train():
    return generate("train", 60)


@pytest.fixture(scope="module")
def dev():
    return generate("dev", 40)


@pytest.fixture(scope="module")
def pairs():
    documents = counterfactuals(6)
    return list(zip(documents[::2], documents[1::2], strict=True))


def digest(documents) -> str:
    text = json.dumps([document_to_json(d) for d in documents], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# The same everywhere ----------------------------------------------------------------------------------------------


def test_the_same_on_every_machine():
    """A changed digest means that every number in the book that comes from the corpus has to be computed again."""
    assert digest(generate("train", 5)) == "db4bdfcae8256e1c"
    assert digest(generate("test", 5, seed=3)) == "de3d838d6cb807ff"
    assert digest(counterfactuals(2)) == "9421b99679fc4a97"


def test_independent_of_hash_order():
    code = (
        "from docre_lite.corpus import *; from docre_lite.formats.docred import document_to_json as j; "
        "print([j(d) for d in generate('dev', 2) + counterfactuals(1)])"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_a_document_does_not_depend_on_the_count(train):
    assert generate("train", 3) == train[:3]


def test_seeds_and_splits_differ(train, dev):
    assert generate("train", 1, seed=1)[0].sentences != train[0].sentences
    assert dev[0].sentences != train[0].sentences
    with pytest.raises(ValueError, match="no split 'valid'; have"):
        generate("valid", 1)


def test_titles_are_unique(train, dev):
    titles = [d.title for d in [*train, *dev, *generate("test", 20), *generate("train", 20, seed=1)]]
    assert len(set(titles)) == len(titles)


# Well-formed ------------------------------------------------------------------------------------------------------


def test_documents_pass_the_readers_check(train, dev, pairs):
    check([*train, *dev, *(d for pair in pairs for d in pair)], "corpus", RELATIONS)


def test_entities_in_order_of_first_mention(train):
    for document in train:
        first = [(e.mentions[0].sentence, e.mentions[0].start) for e in document.entities]
        assert first == sorted(first)


def test_mentions_name_what_they_span(train):
    pronouns = Counter()
    for document in train:
        for entity in document.entities:
            for mention in entity.mentions:
                span = " ".join(document.sentences[mention.sentence][mention.start : mention.end])
                if span in ("She", "He", "she", "he"):
                    pronouns[span.lower()] += 1
                    given_name = entity.name.split()[0]
                    assert given_name in words()["female" if span.lower() == "she" else "male"]
                    assert mention.type == "PER" and mention.name in entity.names
                else:
                    assert span == mention.name
            assert len({m.type for m in entity.mentions}) == 1
    assert pronouns["she"] > 5 and pronouns["he"] > 5


def test_nested_and_adjacent_mentions_occur(train):
    nested = adjacent = 0
    for document in train:
        spans = [(m.sentence, m.start, m.end) for e in document.entities for m in e.mentions]
        nested += sum(a[0] == b[0] and a != b and a[1] <= b[1] and b[2] <= a[2] for a in spans for b in spans)
        adjacent += sum(a[0] == b[0] and a[2] == b[1] for a in spans for b in spans)
        assert len(set(spans)) == len(spans)
    assert nested > 5 and adjacent > 3


def test_there_and_back_as_json(train, pairs):
    for document in [*train[:5], *pairs[0]]:
        assert document_from_json(json.loads(json.dumps(document_to_json(document))), "there") == document


def test_write(tmp_path):
    paths = corpus.write(tmp_path / "new", train=4, dev=3, test=4)
    assert set(paths) == {"train", "dev", "test", "counterfactual", "rel_info"}
    assert read(paths["train"]) == generate("train", 4)
    assert read(paths["counterfactual"]) == counterfactuals(2)
    assert set(json.loads(paths["rel_info"].read_text())) == set(RELATIONS.names[1:])
    label = next(x for d in json.loads(paths["train"].read_text()) for x in d["labels"] if x.get("depth"))
    assert len(label["premises"]) == 2 and label["evidence"]


# Labels -----------------------------------------------------------------------------------------------------------


def test_labels_are_the_closure_of_what_is_stated(train, dev):
    for document in [*train, *dev]:
        stated = [(t.head, t.relation, t.tail) for t in document.triples if t.depth == 0]
        closed = close(stated)
        assert {f: h.depth for f, h in closed.items()} == {
            (t.head, t.relation, t.tail): t.depth for t in document.triples
        }


def test_premises_compose_to_their_conclusion(train):
    rules = {}
    for rule in RULES:
        rules.setdefault((rule.first, rule.second, rule.mode), set()).add(rule.conclusion)
    for document in train:
        known = {(t.head, t.relation, t.tail): t for t in document.triples}
        for triple in document.triples:
            assert (len(triple.premises) == 2) == (triple.depth > 0)
            if triple.depth:
                first, second = triple.premises
                assert any(
                    triple.relation in rules.get((first[1], second[1], mode), ())
                    for mode in modes(first, second, triple)
                )
                assert triple.depth == 1 + max(known[first].depth, known[second].depth)
                assert set(triple.evidence) == {*known[first].evidence, *known[second].evidence}


def modes(first, second, triple) -> list[int]:
    """The inference modes by which two premises join head and tail of a triple."""
    a, b = triple.head, triple.tail
    legs = {1: (a, 2, 0, b), 2: (a, 2, 2, b), 3: (a, 0, 2, b), 4: (a, 0, 0, b)}
    found = []
    for mode, (a, x1, x2, b) in legs.items():
        if first[2 - x1] == a and second[2 - x2] == b and first[x1] == second[x2]:
            found.append(mode)
    return found


def test_every_inverse_is_labelled(train):
    for document in train:
        facts = {(t.head, t.relation, t.tail) for t in document.triples}
        for head, relation, tail in facts:
            if relation in ("sibling", "spouse", "relative", "collaborator", "shares_border"):
                assert (tail, relation, head) in facts
            if relation in ("father", "mother"):
                assert (tail, "child", head) in facts
            if relation == "child" and not {(tail, "father", head), (tail, "mother", head)} & facts:
                assert any(h == tail and r in ("father", "mother") for h, r, _ in facts)  # the other parent is known


def test_evidence_names_both_or_their_antecedents(train):
    """The evidence of a stated fact holds a mention of its head and one of its tail."""
    for document in train:
        for triple in document.triples:
            for entity in (triple.head, triple.tail):
                assert triple.evidence and not document.entities[entity].sentences.isdisjoint(triple.evidence)


# Rules ------------------------------------------------------------------------------------------------------------

BY_HAND = {  # premises of each mode over A = 0, x = 1, B = 2, and what follows
    1: ([(0, "place_of_birth", 1), (1, "country", 2)], (0, "citizenship", 2)),
    2: ([(0, "member_of", 1), (2, "member_of", 1)], (0, "collaborator", 2)),
    3: ([(1, "sibling", 0), (2, "father", 1)], (0, "relative", 2)),
    4: ([(1, "performer", 0), (1, "record_label", 2)], (0, "record_label", 2)),
}


@pytest.mark.parametrize("mode", BY_HAND)
def test_modes_by_hand(mode):
    premises, conclusion = BY_HAND[mode]
    closed = close(premises)
    assert closed[conclusion].premises == tuple(premises) and closed[conclusion].depth == 1
    extra = {2: {(2, "collaborator", 0)}, 3: {(2, "relative", 0)}}.get(mode, set())  # the same from B's side
    assert set(closed) == {*premises, conclusion} | extra
    assert close(premises[:1]).keys() == {premises[0]}


def test_every_derivation_is_named(train):
    """The one that came with a composed triple is among them, and each one alone makes the triple."""
    several = 0
    for document in train:
        facts = {(t.head, t.relation, t.tail) for t in document.triples}
        for t in document.triples:
            ways = derivations(document, t)
            several += len(ways) > 1
            premises = [rule.premises(t.head, x, t.tail) for rule, x in ways]
            assert not t.depth or tuple(t.premises) in premises or tuple(reversed(t.premises)) in premises
            for (rule, x), both in zip(ways, premises, strict=True):
                assert facts.issuperset(both) and all(x in (head, tail) for head, _, tail in both)
                assert rule.conclusion == t.relation and close(both)[t.head, t.relation, t.tail].depth == 1
    assert several
    fact = train[0].triples[0]
    assert derivations(replace(train[0], triples=(fact,)), fact) == []


def test_depth_by_hand():
    """Born in a town of a region of a country: the town's country takes one step, citizenship two."""
    closed = close([(0, "place_of_birth", 1), (1, "located_in", 2), (2, "located_in", 3), (2, "country", 3)])
    depths = {fact: how.depth for fact, how in closed.items() if how.depth}
    assert depths == {(1, "located_in", 3): 1, (1, "country", 3): 1, (0, "citizenship", 3): 2}
    assert closed[0, "citizenship", 3].premises == ((0, "place_of_birth", 1), (1, "country", 3))


def test_rules_are_many_and_of_all_modes():
    assert len(RULES) >= 20 and len(set(RULES)) == len(RULES)
    assert {rule.mode for rule in RULES} == {1, 2, 3, 4}
    assert all({rule.first, rule.second, rule.conclusion} <= set(RELATIONS.names) for rule in RULES)
    assert Rule("a", "b", 3, "c").name == "a(x,A) & b(B,x) => c(A,B)"


def slow_closure(facts) -> set:
    """Every rule on every pair of facts until nothing is new."""
    known, before = set(facts), -1
    while len(known) != before:
        before = len(known)
        for rule in RULES:
            for h1, r1, t1 in list(known):
                for h2, r2, t2 in list(known):
                    if (r1, r2) == (rule.first, rule.second):
                        a, x1 = (h1, t1) if rule.mode in (1, 2) else (t1, h1)
                        b, x2 = (t2, h2) if rule.mode in (1, 4) else (h2, t2)
                        if x1 == x2 and a != b:
                            known.add((a, rule.conclusion, b))
    return known


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(sorted({r.first for r in RULES})), st.integers(0, 3)).filter(
            lambda fact: fact[0] != fact[2]
        ),
        max_size=5,
    )
)
def test_closure_against_the_slow_one(facts):
    closed = close(facts)
    assert set(closed) == slow_closure(facts)
    assert {f for f, how in closed.items() if not how.depth} == set(facts)
    assert set(close(closed)) == set(closed)
    assert close(reversed(facts)) == closed


# Templates and splits ---------------------------------------------------------------------------------------------


def test_templates_and_relations_agree():
    stated = {relation for key in templates() if "-" not in key for relation in key.split("+")}
    assert stated | set(INVERSES.values()) | {"country"} == set(RELATIONS.names[1:])
    assert {key.partition(":")[0] for key in SIGNATURES} == {key for key in templates() if "-" not in key}
    assert set(RELATIONS.labels) == set(RELATIONS.names) - {NA}


def test_everything_that_may_hold_can_be_said_in_every_split():
    for key, (heads, tails, _) in SIGNATURES.items():
        for h in heads.split():
            for t in tails.split():
                statement = Statement(Thing(0, h, "A"), Thing(1, t, "B"), key.partition(":")[0])
                assert candidates(statement, "train"), f"{key}: no phrasing for {h} and {t}"


def test_every_pair_of_kinds_leaves_open_what_holds():
    """Nowhere does the company of two kinds alone make one relation likelier than not."""
    kinds = {kind for heads, tails, _ in SIGNATURES.values() for kind in f"{heads} {tails}".split()}
    for a in kinds:
        for b in kinds:
            rows = options(a, b)
            total = sum(weight for *_, weight in rows)
            for key, _, weight in rows:
                assert weight / total <= 0.5 or "-" in key, f"{a} and {b}: mostly {key}"


def test_held_out_phrasings(train, dev):
    held = [t for rows in templates().values() for t in rows if t.held_out]
    assert len(held) >= 40
    markers = [" ".join(w for w in t.text.split() if "{" not in w) for t in held]
    markers = [m for m in markers if len(m.split()) >= 3]
    text = {name: " ".join(" ".join(s) for d in docs for s in d.sentences) for name, docs in (("t", train), ("d", dev))}
    assert not [m for m in markers if m in text["t"]]
    assert sum(m in text["d"] for m in markers) > 5


def test_names_of_people_are_held_out(train, dev):
    people = [{n for d in docs for e in d.entities if e.type == "PER" for n in e.names} for docs in (train, dev)]
    assert not people[0] & people[1]


# Prose ------------------------------------------------------------------------------------------------------------


def test_prose_is_clean(train, dev):
    for document in [*train, *dev]:
        for sentence in document.sentences:
            text = " ".join(sentence)
            assert text[0].isupper() and text.endswith(" .") and "{" not in text, text
            assert not re.search(r"\b(\w+) \1\b", text), text
            assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", text), text
            assert not re.search(r"\bthe The\b|, \.|, ,| and and ", text), text
            assert not re.search(r"[a-z] (The|A|In|On|She|He|It|According|By|As) (?=[a-z])", text), text


def test_like_real_documents(train, dev):
    """The ranges that the corpus is made for; a small sample, so a little wider than the aims."""
    rows = statistics([*train, *dev])
    for row, low, high in (
        ("entities_per_document", 16, 22),
        ("mentions_per_entity", 1.4, 2.0),
        ("words_per_document", 170, 230),
        ("sentences_per_document", 9, 14),
        ("positive_pairs", 0.03, 0.065),
        ("multi_label_pairs", 0.08, 0.30),
        ("inter_sentence_facts", 0.38, 0.60),
        ("inter_sentence_stated", 0.19, 0.40),
        ("derivable_facts", 0.29, 0.42),
        ("depth_2_or_more_of_derived", 0.28, 0.50),
    ):
        assert low <= rows[row] <= high, (row, rows[row])
    shared = statistics(dev, train)
    assert shared["facts_shared_with_train"] > 0.04 and shared["entities_named_in_train"] < 0.25


# Counterfactuals --------------------------------------------------------------------------------------------------


def test_counterfactuals_change_one_sentence_and_lose_a_conclusion(pairs):
    for original, variant in pairs:
        assert variant.variant_of == original.title and original.variant_of is None
        assert [e.name for e in variant.entities] == [e.name for e in original.entities]
        places = [[[m.sentence for m in e.mentions] for e in d.entities] for d in (original, variant)]
        assert places[0] == places[1]
        changed = [a != b for a, b in zip(original.sentences, variant.sentences, strict=True)]
        assert sum(changed) == 1
        gold = [{(t.head, t.relation, t.tail): t.depth for t in d.triples} for d in (original, variant)]
        assert any(depth and fact not in gold[1] for fact, depth in gold[0].items())


# The running example ----------------------------------------------------------------------------------------------


def test_running_example():
    document = corpus.running_example()
    check([document], "running_example.json", RELATIONS)
    assert 8 <= len(document.entities) <= 10 and 5 <= len(document.sentences) <= 7
    depths = Counter(t.depth for t in document.triples)
    assert depths[1] >= 2 and depths[2] >= 1
    assert any(not t.depth and not document.same_sentence(t.head, t.tail) for t in document.triples)
    assert max(Counter((t.head, t.tail) for t in document.triples).values()) >= 2
    assert any(w == "She" for s in document.sentences for w in s)
    stated = [(t.head, t.relation, t.tail) for t in document.triples if not t.depth]
    closed = close(stated)
    assert {(t.head, t.relation, t.tail, t.premises, t.depth) for t in document.triples} == {
        (*fact, how.premises, how.depth) for fact, how in closed.items()
    }


def test_running_example_is_readable_for_a_model_of_the_corpus(train):
    """Every word outside names is one of the training split, so that a model trained on the corpus can read it."""
    seen = {word.lower() for d in train for s in d.sentences for word in s}
    seen |= {word for rows in templates().values() for t in rows if not t.held_out for word in t.text.split()}
    document = corpus.running_example()
    named = {(m.sentence, i) for e in document.entities for m in e.mentions for i in range(m.start, m.end)}
    unknown = [
        word
        for s, sentence in enumerate(document.sentences)
        for i, word in enumerate(sentence)
        if (s, i) not in named and word.lower() not in seen
    ]
    assert not unknown
