"""The word-free probes: that they see no words, compute what they should, and find little in the corpus."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import replace

import pytest
import torch

from docre_lite.bench.probes import KINDS, Probe, encode, pad, run_probe, train_probe
from docre_lite.bench.statistics import statistics
from docre_lite.corpus import RELATIONS, generate
from docre_lite.formats.readers import read
from docre_lite.types import Document, Entity, Mention, Triple

TYPES = ["LOC", "MISC", "NUM", "ORG", "PER", "TIME"]


def without_words(document: Document) -> Document:
    entities = tuple(Entity(tuple(replace(m, name="?") for m in e.mentions)) for e in document.entities)
    return replace(document, entities=entities, sentences=tuple(tuple("?" for _ in s) for s in document.sentences))


def test_a_probe_sees_no_words():
    for document in generate("train", 3):
        for kind in KINDS:
            before = encode(document, TYPES, RELATIONS, kind)
            after = encode(without_words(document), TYPES, RELATIONS, kind)
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_type_probe_sees_types_only():
    document = generate("train", 1)[0]
    features, _, _ = encode(document, TYPES, RELATIONS, "type")
    assert features.shape[-1] == 2 * len(TYPES)
    for h, head in enumerate(document.entities):
        for t, tail in enumerate(document.entities):
            assert features[h, t].nonzero().flatten().tolist() == [
                TYPES.index(head.type),
                len(TYPES) + TYPES.index(tail.type),
            ]


def test_padding_keeps_what_was_there():
    items = [encode(d, TYPES, RELATIONS, "type_position") for d in generate("train", 3)]
    features, labels, mask, sides = pad(items)
    assert sides.tolist() == [len(m) for *_, m in items]
    for row, (f, y, m) in enumerate(items):
        n = len(m)
        assert torch.equal(features[row, :n, :n], f) and torch.equal(labels[row, :n, :n], y)
        assert int(mask[row].sum()) == int(m.sum()) == n * (n - 1)


def test_a_probe_learns_what_layout_tells():
    """In documents where the first entity is always related to the second, even the type and place tell all."""
    documents = [document_of_two(f"d{i}", swap=i % 2 == 1) for i in range(24)]
    found = run_probe("type_position", documents[:16], documents[16:], epochs=30)
    assert found["f1"] == 1.0 and found["precision"] == found["recall"] == 1.0


def document_of_two(title: str, swap: bool) -> Document:
    types = ("PER", "LOC") if not swap else ("LOC", "PER")
    entities = tuple(Entity((Mention("x", 0, i, i + 1, kind),)) for i, kind in enumerate(types))
    return Document(title, (("x", "x", "."),), entities, (Triple(title, int(swap), "lives_in", int(not swap)),))


def unrelated(title: str, entities: int, word: str, kind: str, **more) -> Document:
    found = tuple(Entity((Mention(word, 0, i, i + 1, kind),)) for i in range(entities))
    return Document(title, ((word,) * entities,), found, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_no_probe_sees_the_padding_of_a_batch(kind):
    documents = sorted(generate("train", 6), key=lambda d: len(d.entities))
    torch.manual_seed(0)
    features = encode(documents[0], TYPES, RELATIONS, kind)[0].shape[-1]
    probe = Probe(kind, TYPES, RELATIONS, features).eval()
    first, last = (encode(d, TYPES, RELATIONS, kind) for d in (documents[0], documents[-1]))
    n = len(first[2])
    assert n < len(last[2])
    both, _, mask, sides = pad([first, last])
    logits = probe(both, sides)[0][mask[0]]
    torch.testing.assert_close(logits[:, 1:] - logits[:, :1], probe.margins(documents[0]), atol=1e-5, rtol=1e-4)


def test_the_count_probe_sees_the_number_of_entities_alone():
    torch.manual_seed(0)
    probe = Probe("count", TYPES, RELATIONS, 2).eval()
    some = frozenset({(0, 1), (2, 0), (3, 4)})
    one = unrelated("a", 5, "x", "PER", candidates=some)
    other = unrelated("b", 5, "y", "LOC", candidates=some)
    assert torch.equal(probe.margins(one), probe.margins(other))
    more = unrelated("c", 6, "x", "PER", candidates=some)
    assert not torch.allclose(probe.margins(one), probe.margins(more))


def first_two_related(seed: int) -> Document:
    """Four to seven entities of one type in one sentence; the first is related to the second, whatever the words."""
    n = random.Random(seed).randrange(4, 8)
    return replace(unrelated(f"d{seed}", n, "x", "PER"), triples=(Triple(f"d{seed}", 0, "knows", 1),))


def test_the_count_probe_reads_the_order_of_entities():
    """It finds what stands in row 0 and column 1, since the border of the matrix is told by zeros around it."""
    documents = [first_two_related(i) for i in range(48)]
    assert run_probe("count", documents[:40], documents[40:], epochs=6)["f1"] == 1.0

    def shuffled(document: Document) -> Document:
        order = list(range(len(document.entities)))
        random.Random(document.title).shuffle(order)
        return document.permuted(order)

    documents = [shuffled(d) for d in documents]
    assert run_probe("count", documents[:40], documents[40:], epochs=6)["best_f1"] < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_learns_from_candidates_alone(kind):
    """Facts outside the candidates, here each of them a lie, change nothing."""
    documents = [replace(first_two_related(i), candidates=frozenset({(0, 1), (1, 2), (3, 2)})) for i in range(8)]
    lies = [
        replace(d, triples=(*d.triples, Triple(d.title, 2, "knows", 0), Triple(d.title, 2, "knows", 1)))
        for d in documents
    ]
    honest, lied = (train_probe(kind, some, epochs=2) for some in (documents, lies))
    for document in documents:
        assert honest.margins(document).shape == (3, 1)
        assert torch.equal(honest.margins(document), lied.margins(document))


def test_scores_are_of_candidates_alone():
    """All persons look related, and among the candidates they are; beside them are many more pairs of persons."""
    documents = [first_two_related(i) for i in range(16)]
    place = Entity((Mention("x", 0, 2, 3, "LOC"),))
    documents = [
        replace(d, entities=(*d.entities[:2], place, *d.entities[3:]), candidates=frozenset({(0, 1), (1, 2)}))
        for d in documents
    ]
    found = run_probe("type", documents, documents, epochs=20)
    assert found["precision"] == found["recall"] == 1.0


def test_unknown_probe():
    with pytest.raises(ValueError, match="no probe 'words'; have"):
        run_probe("words", [], [])


# What may be found in the corpus, at full size (benchmarks/results/corpus_probes.json) and, in 200 documents and few
# epochs, here. A corpus with few distractors and every skeleton complete gives "imsa" 0.33 here.
CEILINGS = {"type": 0.02, "type_position": 0.20, "imsa": 0.35, "unet": 0.20}
SMALL = {"type": (0.02, 2), "type_position": (0.12, 4), "imsa": (0.15, 5)}


@pytest.fixture(scope="module")
def small():
    return generate("train", 200), generate("dev", 50)


@pytest.mark.parametrize("kind", SMALL)
def test_layout_tells_little(kind, small):
    ceiling, epochs = SMALL[kind]
    found = run_probe(kind, *small, epochs=epochs)
    assert found["f1"] <= ceiling, found
    assert found["infer_f1"] <= ceiling, found


def test_full_size_probes_are_under_the_ceilings(root):
    rows = json.loads((root / "benchmarks/results/corpus_probes.json").read_text())["probes"]
    assert {row["kind"] for row in rows} == set(CEILINGS)
    for row in rows:
        assert row["train"] >= 600 and row["dev"] >= 200 and row["f1"] <= CEILINGS[row["kind"]], row


# Statistics -------------------------------------------------------------------------------------------------------


def test_statistics_by_hand():
    """Three entities in two sentences: 0 and 1 together, 2 alone; 0→1 twice, 1→2, and 0→2 composed."""
    names = (("Ada", 0, 0, "PER"), ("Ulm", 0, 2, "LOC"), ("Bonn", 1, 0, "LOC"))
    entities = tuple(Entity((Mention(n, s, p, p + 1, kind),)) for n, s, p, kind in names)
    triples = (
        Triple("t", 0, "born", 1, (0,)),
        Triple("t", 0, "died", 1, (0,)),
        Triple("t", 1, "near", 2),
        Triple("t", 0, "far", 2, (0, 1), premises=((0, "born", 1), (1, "near", 2)), depth=1),
    )
    document = Document("t", (("Ada", "left", "Ulm", "."), ("Bonn", ".")), entities, triples)
    rows = statistics([document], [replace(document, triples=triples[:1])])
    expected = {
        "entities_per_document": 3,
        "mentions_per_entity": 1,
        "words_per_document": 6,
        "entities_per_sentence": 1.5,
        "related_given_same_sentence": 0.5,
        "facts_per_document": 4,
        "positive_pairs": 0.5,
        "multi_label_pairs": 1 / 3,
        "inter_sentence_facts": 0.5,
        "closes_directed_2_path": 0.25,
        "closes_any_2_path": 1.0,
        "facts_without_evidence": 0.25,
        "relations": 4,
        "derivable_facts": 0.25,
        "depth_2_or_more_of_derived": 0,
        "inter_sentence_stated": 1 / 3,
        "inter_sentence_derived": 1,
        "facts_shared_with_train": 0.25,
        "entities_named_in_train": 1,
    }
    assert {row: rows[row] for row in expected} == pytest.approx(expected)


def test_statistics_of_real_documents(real_data):
    """Re-DocRED dev, against counts made independently."""
    rows = statistics(read(real_data / "redocred" / "dev_revised.json", strict=False))
    assert rows["documents"] == 500 and rows["relations"] == 96 - 1
    assert rows["entities_per_document"] == pytest.approx(19.4, abs=0.1)
    assert rows["facts_per_document"] == pytest.approx(34.6, abs=0.1)
    assert rows["inter_sentence_facts"] == pytest.approx(0.54, abs=0.01)
    assert rows["multi_label_pairs"] == pytest.approx(0.27, abs=0.01)
    assert "derivable_facts" not in rows


# The benchmark on the order of entities ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cdr_order(root):
    """`benchmarks/cdr_order.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("cdr_order", root / "benchmarks" / "cdr_order.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def abstract() -> Document:
    """In order of mention: disease, chemical, chemical, disease; chemical 2 causes disease 3."""
    kinds = ("Disease", "Chemical", "Chemical", "Disease")
    entities = tuple(Entity((Mention(f"e{i}", 0, i, i + 1, kind),)) for i, kind in enumerate(kinds))
    candidates = frozenset({(1, 0), (1, 3), (2, 0), (2, 3)})
    return Document("a", (("e0", "e1", "e2", "e3"),), entities, (Triple("a", 2, "CID", 3),), candidates)


def names(document: Document) -> list[str]:
    return [entity.name for entity in document.entities]


def test_positives_first_by_hand(cdr_order):
    document = abstract()
    found = cdr_order.positives_first(document)
    assert names(found) == ["e2", "e3", "e0", "e1"]  # the related pair, then 0-1, 0-2, 1-3
    assert found.triples == (Triple("a", 0, "CID", 1),)
    assert found.candidates == {(3, 2), (3, 1), (0, 2), (0, 1)}
    turned = cdr_order.positives_first_turned(document)
    assert names(turned) == ["e2", "e3", "e0", "e1"]
    assert turned.triples == (Triple("a", 0, "CID", 1),)
    assert turned.candidates == {(2, 3), (3, 1), (2, 0), (0, 1)}  # 0-1, 1-3, 0-2, 2-3 by mention
    # the pair of the entities mentioned first and third is named before that of the second and fourth
    both = replace(document, triples=(Triple("a", 1, "CID", 3), Triple("a", 2, "CID", 0)))
    assert names(cdr_order.positives_first(both)) == ["e0", "e2", "e1", "e3"]
    assert cdr_order.first_pair_is_gold(found) and not cdr_order.first_pair_is_gold(document)


def test_without_gold_positives_first_is_first_mention(cdr_order):
    document = replace(abstract(), triples=())
    assert names(cdr_order.positives_first(document)) == names(document)
    alone = replace(document, candidates=frozenset({(2, 3)}))
    assert names(cdr_order.positives_first(alone)) == ["e2", "e3", "e0", "e1"]  # what no pair names comes last


def test_the_order_of_the_loader_puts_a_related_pair_first(cdr_order, real_data):
    documents = read(real_data / "cdr" / "CDR_DevelopmentSet.PubTator.txt")
    assert all(cdr_order.first_pair_is_gold(cdr_order.positives_first(d)) for d in documents)
    assert sum(map(cdr_order.first_pair_is_gold, documents)) < len(documents) / 2


def test_a_table_knows_places_alone(cdr_order):
    """Of three documents, the cell (2, 3) is related in three, (1, 3) in one; what was never seen has the mean."""
    some = [abstract(), abstract(), replace(abstract(), triples=(*abstract().triples, Triple("a", 1, "CID", 3)))]
    score = cdr_order.table(some, 0, 0)
    assert score(abstract()).tolist() == pytest.approx([0, 1 / 3, 0, 1])  # (1, 0), (1, 3), (2, 0), (2, 3)
    assert score(replace(abstract(), candidates=frozenset({(3, 0)}))).tolist() == pytest.approx([4 / 12])
