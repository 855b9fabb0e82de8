"""Reading documents: values by hand, every fault in one line, and the published counts of the real files."""

from __future__ import annotations

import copy
import gzip
import json
import re
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from docre_lite.formats import describe, docred, readers, submission, text
from docre_lite.formats.docred import document_from_json, document_to_json
from docre_lite.formats.readers import look, read, read_relations
from docre_lite.support import DataError, checks
from docre_lite.types import Document, Entity, Mention, Relations, Triple


def plain() -> dict:
    """Two sentences; entity 1 is mentioned first, entity 0 second, so that the reader must turn them."""
    return {
        "title": "Ada Quill",
        "sents": [["Ada", "Quill", "left", "Norwick", "."], ["Norwick", "missed", "her", "."]],
        "vertexSet": [
            [
                {"name": "Norwick", "sent_id": 1, "pos": [0, 1], "type": "LOC"},
                {"name": "Norwick", "sent_id": 0, "pos": [3, 4], "type": "LOC"},
            ],
            [{"name": "Ada Quill", "sent_id": 0, "pos": [0, 2], "type": "PER"}],
        ],
        "labels": [
            {"h": 1, "t": 0, "r": "P19", "evidence": [1]},
            {"h": 1, "t": 0, "r": "P551", "evidence": []},
            {"h": 1, "t": 0, "r": "P19", "evidence": [0]},
        ],
    }


@pytest.fixture
def save(tmp_path):
    def save(content, name="data.json"):
        path = tmp_path / name
        if not isinstance(content, (bytes, str)):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return save


# --- DocRED JSON ----------------------------------------------------------------------------------------------------


def test_entities_come_in_first_mention_order_and_labels_follow():
    document = document_from_json(plain(), "file: document 0")
    assert document == Document(
        title="Ada Quill",
        sentences=(("Ada", "Quill", "left", "Norwick", "."), ("Norwick", "missed", "her", ".")),
        entities=(
            Entity((Mention("Ada Quill", 0, 0, 2, "PER"),)),
            Entity((Mention("Norwick", 0, 3, 4, "LOC"), Mention("Norwick", 1, 0, 1, "LOC"))),
        ),
        triples=(Triple("Ada Quill", 0, "P19", 1), Triple("Ada Quill", 0, "P551", 1)),
        order=(1, 0),
    )
    # evidence takes no part in equality; the label given twice has the union
    assert [t.evidence for t in document.triples] == [(0, 1), ()]


def test_the_file_gets_its_own_numbering_back():
    obj = document_to_json(document_from_json(plain(), "x"))
    assert [e[0]["name"] for e in obj["vertexSet"]] == ["Norwick", "Ada Quill"]
    assert obj["labels"] == [
        {"h": 1, "t": 0, "r": "P19", "evidence": [0, 1]},
        {"h": 1, "t": 0, "r": "P551", "evidence": []},
    ]
    assert obj.keys() == {"title", "vertexSet", "labels", "sents"}  # plain DocRED stays plain
    document = document_from_json(obj, "x")
    assert [docred.file_number(document, i) for i in range(2)] == [1, 0]


def test_order_is_none_where_nothing_was_turned():
    obj = plain()
    obj["vertexSet"].reverse()
    for label in obj["labels"]:
        label["h"], label["t"] = 0, 1
    document = document_from_json(obj, "x")
    assert document.order is None
    assert [docred.file_number(document, i) for i in range(2)] == [0, 1]


def test_of_two_entities_at_one_word_the_files_first_stays_first():
    obj = plain()
    obj["vertexSet"].append([{"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER"}])
    document = document_from_json(obj, "x")
    assert [e.name for e in document.entities] == ["Ada Quill", "Ada", "Norwick"]
    assert document.order == (1, 2, 0)


def test_extras_are_read_written_and_renumbered():
    obj = plain()
    obj["labels"] = [{"h": 1, "t": 0, "r": "P19", "evidence": [0], "premises": [[1, "P551", 0]], "depth": 2}]
    obj["candidates"] = [[1, 0]]
    obj["variant_of"] = "Eda Quill"
    for mention in obj["vertexSet"][0]:
        mention["id"] = "Q1"
    document = document_from_json(obj, "x")
    assert document.triples[0].premises == ((0, "P551", 1),)
    assert document.triples[0].depth == 2
    assert document.candidates == {(0, 1)}
    assert document.variant_of == "Eda Quill"
    assert [e.id for e in document.entities] == [None, "Q1"]
    again = document_to_json(document)
    assert again["labels"] == obj["labels"]
    assert again["candidates"] == [[1, 0]] and again["variant_of"] == "Eda Quill"
    assert again["vertexSet"][0][0]["id"] == "Q1" and "id" not in again["vertexSet"][1][0]


def test_order_goes_by_sentence_before_word_and_ids_must_agree():
    obj = {**plain(), "labels": []}
    obj["vertexSet"].append([{"name": "her", "sent_id": 1, "pos": [2, 3], "type": "PER"}])
    obj["vertexSet"].reverse()
    obj["vertexSet"][2][0]["id"] = "Q1"  # and its other mention has none
    obj["vertexSet"][1][0]["id"] = "Q2"
    document = document_from_json(obj, "x")
    assert [(e.name, e.id) for e in document.entities] == [("Ada Quill", "Q2"), ("Norwick", None), ("her", None)]
    assert document.order == (1, 2, 0)


@pytest.mark.parametrize("as_columns", [True, False])
def test_the_hubs_names_and_columns(as_columns):
    obj = plain()
    rows = [{"head": x["h"], "tail": x["t"], "relation_id": x["r"], "evidence": x["evidence"]} for x in obj["labels"]]
    obj["labels"] = {key: [row[key] for row in rows] for key in rows[0]} if as_columns else rows
    assert document_from_json(obj, "x") == document_from_json(plain(), "x")


def test_arguments_stay_as_they_came():
    obj = plain()
    document_from_json(obj, "x")
    assert obj == plain()


@pytest.mark.parametrize("entities", [0, 1])
def test_few_entities_and_no_labels_are_legal(entities):
    obj = {**plain(), "vertexSet": plain()["vertexSet"][:entities]}
    del obj["labels"]
    document = document_from_json(obj, "x")
    assert len(document.entities) == entities and document.triples == () and document.pairs() == []


def change(path: str, value) -> dict:
    """`plain()` with one field set; `...` removes it."""
    obj = plain()
    *keys, last = re.findall(r"\w+", path)
    place = obj
    for key in keys:
        place = place[int(key) if key.isdigit() else key]
    last = int(last) if last.isdigit() else last
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return obj


FAULTS = {
    "title": [(..., "missing; give a string"), (3, "3 where a string belongs")],
    "sents": [(..., "missing"), ({}, "{} where a list belongs"), ([[]], "no words")],
    "sents[1]": [("Norwick", '"Norwick" where a list belongs')],
    "sents[1][2]": [(7, "7 where a string belongs")],
    "vertexSet": [(..., "missing"), ("no", "where a list belongs")],
    "vertexSet[0]": [([], "without mentions")],
    "vertexSet[0][1]": [([], "[] where an object")],
    "vertexSet[0][1].pos": [
        ([4, 4], "[4, 4] is empty"),
        ([3, 6], "outside sentence 0 of 5 words"),
        ([-1, 2], "outside sentence"),
        ([1], "is not two numbers"),
        (..., "missing"),
    ],
    "vertexSet[0][1].pos[0]": [(3.0, "3.0 where a whole number"), (True, "true where a whole number")],
    "vertexSet[0][1].sent_id": [(2, "2 is outside the 2 sentences"), (-1, "outside"), ("0", "whole number")],
    "vertexSet[0][1].name": [(..., "missing")],
    "vertexSet[0][1].type": [(None, "missing")],
    "vertexSet[0][1].id": [(5, "5 where a string belongs")],
    "labels": [("P19", "where a list belongs")],
    "labels[1]": [("P19", "where an object")],
    "labels[1].h": [(2, "entity 2 is absent; there are 2"), (-1, "absent"), (..., "missing"), (0, "to itself")],
    "labels[1].t": [(9, "absent")],
    "labels[1].r": [(5, "where a string"), ("NA", "class of unrelated pairs"), ("Na", "class of unrelated pairs")],
    "labels[1].evidence": [([2], "outside the 2 sentences"), (["0"], "whole number"), (0, "where a list")],
    "labels[1].premises": [([[0, "P1", 5]], "absent"), ([[0]], "three values"), (1, "where a list")],
    "labels[1].depth": [("1", "whole number")],
    "candidates": [
        ([[0, 1]], "lacks the related pair [1, 0]"),
        ([[0, 0]], "not a pair"),
        ([[1, 9]], "absent"),
        (4, "list"),
    ],
    "variant_of": [(4, "where a string belongs")],
}


@pytest.mark.parametrize(("path", "value", "says"), [(p, v, s) for p, cases in FAULTS.items() for v, s in cases])
def test_every_fault_is_one_line_with_file_document_and_field(save, path, value, says):
    file = save([{**plain(), "title": "Fine"}, change(path, value)])
    with pytest.raises(DataError) as caught:
        read(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: document 1")
    assert says in message
    assert f"field {re.match(r'[a-z_A-Z]+', path)[0]}" in message
    assert ";" in message or "where" in message  # the way out
    if path != "title":
        assert '("Ada Quill")' in message


def test_broken_unicode_is_refused(save):
    file = save([change("sents[0][0]", "\ud800")])
    with pytest.raises(DataError, match="not valid Unicode"):
        read(file)


def test_unequal_columns_are_refused():
    obj = {**plain(), "labels": {"head": [1], "tail": [0, 0], "relation_id": ["P19"]}}
    with pytest.raises(DataError, match="columns of different lengths"):
        document_from_json(obj, "x")


# --- files ----------------------------------------------------------------------------------------------------------


def test_formats_are_told_apart_by_content(save):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    second = {**plain(), "title": "Second"}
    expected = [document_from_json(plain(), "x"), document_from_json(second, "x")]
    second["sents"] = [["Ada\u2028", "Quill", "left", "Norwick", "."], *second["sents"][1:]]
    expected[1] = document_from_json(second, "x")
    whole = json.dumps([plain(), second], indent=1)
    lines = json.dumps(plain(), ensure_ascii=False) + "\n\n" + json.dumps(second, ensure_ascii=False) + "\n"
    assert read(save(whole, "data.txt")) == expected
    assert read(save(b"\xef\xbb\xbf" + whole.encode(), "bom")) == expected
    assert read(save(gzip.compress(whole.encode()), "data.json")) == expected
    assert read(save(lines, "lines.pubtator")) == expected
    assert read(save(json.dumps(plain(), indent=2), "one")) == expected[:1]
    rows = []
    for obj in (plain(), copy.deepcopy(second)):
        labels = {k: [x[k] for x in obj["labels"]] for k in ("h", "t", "r", "evidence")}
        obj["labels"] = dict(zip(("head", "tail", "relation_id", "evidence"), labels.values(), strict=True))
        rows.append(obj)
    path = save("", "hub.json")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read(path) == expected


def test_write_docred_and_back(tmp_path):
    documents = [document_from_json(plain(), "x")]
    for name in ("out.json", "out.json.gz"):
        readers.write_docred(documents, tmp_path / name)
        assert read(tmp_path / name) == documents
    first = (tmp_path / "out.json.gz").read_bytes()
    readers.write_docred(documents, tmp_path / "out.json.gz")
    assert (tmp_path / "out.json.gz").read_bytes() == first
    assert json.loads((tmp_path / "out.json").read_text())[0]["title"] == "Ada Quill"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"[]", "contains no documents"),
        (b'[{"title": "A",\n  "sents": }]', "line 2 column 12: malformed JSON"),
        (b'{"title": "A"}\n{"title": \n', "line 2: line 1 column 11: malformed"),
        (b'[{"title": 1' + b"0" * 5000 + b"}]", "malformed JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"P17": "country"}', "not a document"),
        (b"[1]", "document 0: 1 where an object"),
        ("[{}]".encode("utf-16"), "byte 0 (0xff) is not UTF-8"),
        ("Zoé".encode("latin-1"), "byte 2 (0xe9) is not UTF-8"),
        (gzip.compress(b"[]" * 999, mtime=0)[:-9], "truncated"),
        (b"\x1f\x8bnonsense", "truncated or damaged"),
        (b"PAR1 and no more", "damaged parquet"),
        (b"Just a sentence.", "unknown format"),
    ],
)
def test_bad_files_are_one_line(save, content, says):
    file = save(content)
    with pytest.raises(DataError) as caught:
        read(file)
    assert says in str(caught.value) and str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataError, match="no such file; check the path"):
        read(tmp_path / "none.json")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)


def test_equal_titles_name_both_and_the_way_out(save):
    file = save([plain(), {**plain(), "title": "Other"}, plain()])
    with pytest.raises(DataError, match=r'document 2 \("Ada Quill"\): field title: document 0 has the same title'):
        read(file)
    documents = read(file, strict=False)
    assert [d.title for d in documents] == ["Ada Quill", "Other", "Ada Quill (2)"]
    assert {t.title for t in documents[2].triples} == {"Ada Quill (2)"}


def test_self_relations_are_dropped_where_asked(save):
    file = save([change("labels[1].h", 0)])
    with pytest.raises(DataError, match="relates entity 0 to itself.*strict=False"):
        read(file)
    assert [t.relation for t in read(file, strict=False)[0].triples] == ["P19"]


def test_unknown_relations(save):
    file = save([plain()])
    with pytest.raises(DataError, match=r"relation 'P551' is not among the 2 of the relation map"):
        read(file, relations=Relations(("NA", "P19")))
    assert read(file, relations=Relations(("NA", "P19", "P551")))


def test_check_sees_faults_in_documents_made_by_hand():
    good = document_from_json(plain(), "x")
    checks.check([good], "memory")
    mention = Mention("Norwick", 1, 3, 5, "LOC")
    for fault, says in [
        ({"entities": (good.entities[0], Entity((mention,)))}, "outside sentence 1 of 4 words"),
        ({"entities": (good.entities[0], Entity(()))}, "entity 1: has no mentions"),
        ({"entities": good.entities[:1], "order": None}, "absent"),
        ({"triples": (Triple("Ada Quill", 1, "P1", 1),)}, "to itself"),
        ({"triples": (Triple("Ada Quill", 1, "P1", 0, evidence=(2,)),)}, "outside the 2 sentences"),
        ({"triples": (Triple("Ada Quill", 1, "P1", 0, premises=((0, "P2", 2),)),)}, "premises"),
        ({"candidates": frozenset({(0, 2)})}, "not a pair"),
        ({"candidates": frozenset({(1, 0)})}, "not among the candidates"),
        ({"order": (0, 0)}, "does not number"),
        ({"sentences": ((),)}, "no words"),
    ]:
        bad = Document(**{f: fault.get(f, getattr(good, f)) for f in good.__dataclass_fields__})
        with pytest.raises(DataError, match=re.escape(says)) as caught:
            checks.check([bad], "memory")
        assert str(caught.value).startswith('memory: document 0 ("Ada Quill")')


# --- relations ------------------------------------------------------------------------------------------------------


def test_relation_maps(save):
    ids = save({"P2": 2, "Na": 0, "P1": 1}, "rel2id.json")
    labels = save({"P1": "one", "P2": "two"}, "rel_info.json")
    assert read_relations(ids).names == ("NA", "P1", "P2")
    assert read_relations(labels).names == ("NA", "P1", "P2") and read_relations(labels).label("P2") == "two"
    for both in (read_relations(ids, labels), read_relations(labels, ids)):
        assert both.names == ("NA", "P1", "P2") and both.label("P1") == "one"
    assert read_relations(save(["NA", "P9"], "list.json")).names == ("NA", "P9")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"P1": 0, "NA": 1}, "number 0 is 'P1'; NA"),
        ({"P1": 0}, "number 0 is 'P1'"),
        ({"NA": 0, "P1": 2}, "must be 0 to 1, each once"),
        ({"NA": 0, "P1": 1, "P2": 1}, "each once"),
        ({"NA": 0, "Na": 1}, "NA occurs twice"),
        ({"NA": 0, "P1": "one"}, "one map of names to numbers"),
        ({"NA": False}, "not a relation map"),
        ({}, "not a relation map"),
        ([1, 2], "not a relation map"),
        (["P1", "NA"], "number 0 is 'P1'"),
    ],
)
def test_bad_relation_maps(save, content, says):
    with pytest.raises(DataError, match=re.escape(says)):
        read_relations(save(content))


# --- text -----------------------------------------------------------------------------------------------------------


def words(string: str) -> list[str]:
    return [string[a:b] for a, b in text.split_words(string, 0, len(string))]


@pytest.mark.parametrize(
    ("string", "expected"),
    [
        ("Marie's well-known 3.5 mg/kg dose.", "Marie 's well - known 3.5 mg / kg dose ."),
        ("1,000,000 in the U.S. (e.g. Utah)", "1,000,000 in the U.S. ( e.g. Utah )"),
        ("don't stop... now", "don 't stop ... now"),
        ("D2-like 5HT 3.5mg", "D2 - like 5HT 3.5 mg"),
        ("Cafe\u0301 é_ü", "Cafe\u0301 é _ ü"),
        ("alpha.b.c", "alpha . b . c"),
    ],
)
def test_words(string, expected):
    assert words(string) == expected.split()


@pytest.mark.parametrize(
    ("string", "sentences"),
    [
        ("Dr. Smith came. He left.", ["Dr. Smith came.", "He left."]),
        ("J. K. Moss wrote it. Was it good? Yes!", ["J. K. Moss wrote it.", "Was it good?", "Yes!"]),
        ('She said "No." Then (see Fig. 2) she left.', ['She said "No."', "Then (see Fig. 2) she left."]),
        ("Doe et al. Found it, e.g. Here. 12 rats died.", ["Doe et al. Found it, e.g. Here.", "12 rats died."]),
        ("at 3.5 mg. then more", ["at 3.5 mg. then more"]),
        ("Ende. Über allem. été", ["Ende.", "Über allem. été"]),
    ],
)
def test_sentences(string, sentences):
    assert [string[a:b].strip() for a, b in text.split_sentences(string)] == sentences


def test_a_run_of_points_is_read_once():
    """If each point were a start, this would take minutes."""
    assert text.split_sentences("." * 200_000 + " A") == [(0, 200_000), (200_000, 200_002)]


def test_marked_up_text():
    document = text.from_text(
        "# Curie\n[Marie Curie|PER|1] was born in [Warsaw|LOC|Q270]. "
        "[Curie|PER|1] sang at the [[Paris|LOC|3] Opera|ORG|4]house [1]."
    )
    assert document.title == "Curie"
    assert document.sentences == (
        ("Marie", "Curie", "was", "born", "in", "Warsaw", "."),
        ("Curie", "sang", "at", "the", "Paris", "Opera", "house", "[", "1", "]", "."),
    )
    assert document.entities == (
        Entity((Mention("Marie Curie", 0, 0, 2, "PER"), Mention("Curie", 1, 0, 1, "PER"))),
        Entity((Mention("Warsaw", 0, 5, 6, "LOC"),), id="Q270"),
        Entity((Mention("Paris", 1, 4, 5, "LOC"),)),
        Entity((Mention("Paris Opera", 1, 4, 6, "ORG"),)),
    )
    assert document.triples == () and document.candidates is None and len(document.pairs()) == document.pair_count == 12


def test_mentions_cut_words_and_hold_sentences_together():
    document = text.from_text("The anti[TNF|GENE|1]alpha of [Dr. Who? And Sons|ORG|2]. It works.")
    assert document.sentences == (
        ("The", "anti", "TNF", "alpha", "of", "Dr", ".", "Who", "?", "And", "Sons", "."),
        ("It", "works", "."),
    )
    assert document.entities[0].mentions == (Mention("TNF", 0, 2, 3, "GENE"),)
    assert document.entities[1].mentions == (Mention("Dr. Who? And Sons", 0, 5, 11, "ORG"),)


def test_spaces_at_the_rim_of_a_mention_belong_to_no_word():
    document = text.from_text("see [ Rome |LOC|1] now")
    assert document.entities[0].mentions == (Mention("Rome", 0, 1, 2, "LOC"),)


def test_backslashes_and_brackets_that_are_text():
    document = text.from_text(r"In \[a|b\] and x|y, [0, 1) and [Rome\|Roma|LOC|1].")
    assert "".join(document.sentences[0]) == "In[a|b]andx|y,[0,1)andRome|Roma."
    assert document.entities[0].name == "Rome|Roma"


@pytest.mark.parametrize(
    ("string", "says"),
    [
        ("[Rome|LOC] fell.", "'[Rome|LOC]' does not have three parts"),
        ("[Rome|LOC|1|2] fell.", "does not have three parts"),
        ("[|LOC|1] fell.", "does not have three parts"),
        ("[Rome|LOC|1 fell.", "is not closed"),
        ("[Rome|LOC|1] fell.\n\n[Ravenna|LOC|1] rose.", "2 documents where one belongs"),
        ("# Title alone", "a title without text"),
        ("", "0 documents"),
    ],
)
def test_bad_marked_up_text(string, says):
    with pytest.raises(DataError, match=re.escape(says)):
        text.from_text(string)


def test_a_file_of_several_marked_up_texts(save):
    file = save("# One\n[A|PER|1] fell.\r\n\r\n \n[B|PER|1] rose.\n", "notes.json")
    assert [(d.title, d.entities[0].name) for d in read(file)] == [("One", "A"), ("notes 1", "B")]


# --- positions, archives, callers -----------------------------------------------------------------------------------

WAYS = {
    "positions count from 1: subtract 1 from both": lambda m: m.update(pos=[p + 1 for p in m["pos"]]),
    "an end is the mention's last word": lambda m: m.update(pos=[m["pos"][0], m["pos"][1] - 1]),
    "positions count from 1 and include the last word": lambda m: m.update(pos=[m["pos"][0] + 1, m["pos"][1]]),
    "sentences count from 1": lambda m: m.update(sent_id=m["sent_id"] + 1),
    "positions count words of the whole document": lambda m: m.update(pos=[p + 5 * m["sent_id"] for p in m["pos"]]),
}


@pytest.mark.parametrize("way", WAYS)
def test_positions_of_another_kind_are_named(save, way):
    obj = plain()
    for entity in obj["vertexSet"]:
        for mention in entity:
            WAYS[way](mention)
    with warnings.catch_warnings(), pytest.raises((DataError, UserWarning), match=f"it seems that {way}"):
        warnings.simplefilter("error")  # an error where a mention lies outside its sentence, else a warning
        read(save([obj]))


def test_names_that_do_not_fit_are_told_with_an_example(save):
    obj = {**plain(), "labels": []}
    obj["vertexSet"] = [[{"name": "Ada Quill", "sent_id": 0, "pos": [1, 3], "type": "PER"}]]
    with pytest.warns(UserWarning, match="0 of 1 mentions are .* 'Ada Quill' is at 'Quill left'; it seems .* from 1"):
        read(save([obj]))
    obj["vertexSet"][0][0]["name"] = "Bo"
    with pytest.warns(UserWarning, match="'Bo' is at 'Quill left'; check the positions"):
        read(save([obj]))
    obj["vertexSet"][0][0]["name"] = ""  # not given
    assert look(save([obj])).facts["names"] == 0


def test_lenient_drops_and_counts_any_faulty_part(save):
    obj = plain()
    obj["vertexSet"][0][0]["pos"] = [7, 9]
    obj["vertexSet"].append([{"name": "x", "sent_id": 9, "pos": [0, 1], "type": "LOC"}])
    obj["labels"] += [{"h": 0, "t": 2, "r": "P1"}, {"h": 0, "t": 1, "r": "NA"}]
    file = save([obj, {**plain(), "title": "Two"}, {**plain(), "title": "Two"}, {"title": "No text"}])
    says = "dropped 2 of 10 mentions, 2 of 11 labels, 1 of 4 documents as faulty; the first: .*pos: .7, 9. is empty"
    with pytest.warns(UserWarning, match=says):
        first, *others = read(file, strict=False)
    assert [d.title for d in others] == ["Two", "Two (2)"]
    assert [[m.name for m in e.mentions] for e in first.entities] == [["Ada Quill"], ["Norwick"]]
    assert {t.relation for t in first.triples} == {"P19", "P551"}


def test_an_entity_that_is_left_out_leaves_the_others_their_numbers(save):
    obj = plain()
    obj["vertexSet"].insert(0, [{"name": "x", "sent_id": 9, "pos": [0, 1], "type": "LOC"}])
    obj["labels"] = [{"h": 2, "t": 1, "r": "P19"}]
    with pytest.warns(UserWarning, match="dropped 1 of 4 mentions"):
        (document,) = read(save([obj]), strict=False)
    assert [docred.file_number(document, i) for i in range(2)] == [2, 1]
    assert document_to_json(document)["labels"] == [{"h": 1, "t": 0, "r": "P19", "evidence": []}]


@pytest.mark.parametrize("broken", ['{"title": ', "{}"])
def test_lenient_leaves_out_lines_that_are_no_documents(save, broken):
    lines = [json.dumps({**plain(), "title": str(i)}) for i in range(3)]
    with pytest.warns(UserWarning, match="dropped 1 of"):
        assert len(read(save("\n".join([lines[0], broken, *lines[1:]])), strict=False)) == 3


def test_zip_archives(save, tmp_path):
    path = tmp_path / "data.zip"

    def packed(**files):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    packed(one=json.dumps([plain()]))
    assert read(path) == [document_from_json(plain(), "x")]
    packed(**{f"n{i}": "x" for i in range(9)})
    with pytest.raises(DataError, match=r"holds 9 files \(n0, n1, n2, …\); unpack it"):
        read(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="damaged or locked zip"):
        read(path)


def test_an_archive_unpacks_up_to_a_limit(save, tmp_path):
    large = gzip.compress(json.dumps([{**plain(), "title": "x" * (3 << 20)}]).encode())
    path = save(large, "x.json.gz")
    assert len(read(path)) == 1
    with pytest.raises(DataError, match="x.json.gz: unpacks to more than the limit of 2 MiB.*--unpacked"):
        read(path, unpacked=2 << 20)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(save, encoding):
    with pytest.raises(DataError, match="the file is UTF-16; save it as UTF-8"):
        read(save(json.dumps([plain()]).encode(encoding)))


def test_numbers_and_sequences_of_numpy(tmp_path):
    obj = plain()
    for entity in obj["vertexSet"]:
        for mention in entity:
            mention |= {"pos": np.array(mention["pos"]), "sent_id": np.int64(mention["sent_id"])}
    obj["labels"] = tuple({**label, "h": np.int32(label["h"]), "evidence": (0,)} for label in obj["labels"])
    obj["sents"] = tuple(map(tuple, obj["sents"]))
    document = document_from_json(obj, "x")
    mention = Mention("Ada Quill", np.int64(0), np.int64(0), np.int64(2), "PER")
    triple = Triple("Ada Quill", np.int64(0), "P19", np.int64(1), (np.int64(0),), np.float32(0.5))
    made = replace(document, entities=(Entity((mention,)), document.entities[1]), triples=(triple,))
    readers.write_docred([made], tmp_path / "x.json")
    assert read(tmp_path / "x.json")[0].triples == (triple,)
    submission.write_submission([triple], tmp_path / "r.json", [made])
    assert submission.read_predictions(tmp_path / "r.json", [made])[0].score == 0.5


def test_a_key_that_occurs_twice_is_refused(save):
    text = json.dumps([plain()]).replace('"title": "Ada Quill"', '"title": "Ada Quill", "title": "Bo"', 1)
    with pytest.raises(DataError, match="the key 'title' occurs twice in one object"):
        read(save(text))


def test_empty_words_are_counted(save):
    obj = plain()
    obj["sents"][1][2] = ""
    with pytest.warns(UserWarning, match="empty words, kept so that positions fit: 1"):
        read(save([obj]))


def test_classes_that_mean_unrelated(save):
    obj = plain()
    obj["labels"][0]["r"] = "no_relation"
    with pytest.warns(UserWarning, match="labels 'no_relation', read as any relation .*: 1"):
        read(save([obj]))
    with pytest.warns(UserWarning, match="'no_relation' is a class of its own beside NA"):
        read_relations(save({"NA": 0, "no_relation": 1}))
    with pytest.raises(DataError, match="its numbers are texts"):
        read_relations(save({"NA": "0", "P17": "1"}))


# --- describe -------------------------------------------------------------------------------------------------------


def test_describe():
    back = {"h": 0, "t": 1, "r": "P551"}
    document = document_from_json({**plain(), "labels": [*plain()["labels"], back]}, "x")
    copied = copy.deepcopy({**plain(), "title": "Copy", "labels": []})
    facts = describe.describe([document, document_from_json(copied, "x")], train=[document])
    assert facts == {
        "documents": 2,
        "sentences": 4,
        "words": 18,
        "entities": 4,
        "mentions": 6,
        "entities_per_document": {"min": 2, "mean": 2.0, "max": 2},
        "pairs": 4,
        "related_pairs": 2,
        "share_related": 0.5,
        "multi_label_pairs": 1,
        "triples": 3,
        "share_inter_sentence": 0.0,
        "relations": {"P551": 2, "P19": 1},
        "not_in_first_mention_order": ["Ada Quill", "Copy"],
        "warnings": [
            '"Ada Quill" has the text of "Ada Quill" in the training data',
            '"Copy" has the text of "Ada Quill" in the training data',
            '"Copy" has the text of "Ada Quill" in the same file',
        ],
    }
    json.dumps(facts)
    assert describe.describe([])["share_related"] == 0


def test_inter_sentence_share_counts_pairs_that_share_no_sentence():
    obj = plain()
    del obj["vertexSet"][0][1]
    assert describe.describe([document_from_json(obj, "x")])["share_inter_sentence"] == 1.0


# --- the real files -------------------------------------------------------------------------------------------------


def test_redocred_development_set(real_data):
    path = real_data / "redocred" / "dev_revised.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of real data")
    relations = read_relations(path.with_name("rel2id.json"), path.with_name("rel_info.json"))
    documents = read(path, relations=relations)
    facts = describe.describe(documents)
    assert (facts["documents"], facts["triples"], len(relations)) == (500, 17284, 97)
    assert relations.label("P17") == "country"
    assert len(facts["not_in_first_mention_order"]) == 3
    assert round(facts["share_related"], 3) == 0.069
    objects = json.loads(path.read_text(encoding="utf-8"))
    for i, (document, obj) in enumerate(zip(documents, objects, strict=True)):
        written = document_to_json(document)
        if document.order or i % 10 == 0:
            assert document_from_json(written, "x") == document
        # in the file's own numbering: the same facts and the same names, entity by entity
        facts = [{(x["h"], x["r"], x["t"]) for x in o["labels"]} for o in (written, obj)]
        names = [[sorted(m["name"] for m in entity) for entity in o["vertexSet"]] for o in (written, obj)]
        assert facts[0] == facts[1] and names[0] == names[1]
