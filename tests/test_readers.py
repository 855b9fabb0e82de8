"""Reading documents: values by hand, every fault in one line, and the published counts of the real files."""

from __future__ import annotations

import copy
import gzip
import json
import re

import pytest

from docre_lite.formats import checks, docred, pubtator, readers, text
from docre_lite.formats.docred import document_from_json, document_to_json
from docre_lite.formats.readers import read, read_relations
from docre_lite.support import DataError
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


# --- PubTator -------------------------------------------------------------------------------------------------------

PUBTATOR = """\
11|t|Zorbamine and lung or heart pain
11|a|Zorbamine gave one rat edema. Zorb helps.
11\t0\t9\tZorbamine\tChemical\tC1
11\t14\t32\tlung or heart pain\tDisease\tD2|D1\tlung pain|heart pain
11\t33\t42\tZorbamine\tChemical\tC1
11\t56\t61\tedema\tDisease\tD3
11\t63\t67\tZorb\tChemical\tC2
11\t68\t73\thelps\tDisease\t-1
11\tCID\tC1\tD3

12|t|Nothing here
12|a|
"""


def test_pubtator():
    documents = pubtator.from_pubtator(PUBTATOR)
    first, second = documents
    assert first.title == "11"
    assert first.sentences == (
        ("Zorbamine", "and", "lung", "or", "heart", "pain"),
        ("Zorbamine", "gave", "one", "rat", "edema", "."),
        ("Zorb", "helps", "."),
    )
    pain = Mention("lung or heart pain", 0, 2, 6, "Disease")
    assert first.entities == (
        Entity((Mention("Zorbamine", 0, 0, 1, "Chemical"), Mention("Zorbamine", 1, 0, 1, "Chemical")), "C1"),
        Entity((pain,), "D2"),
        Entity((pain,), "D1"),
        Entity((Mention("edema", 1, 4, 5, "Disease"),), "D3"),
        Entity((Mention("Zorb", 2, 0, 1, "Chemical"),), "C2"),
    )
    assert first.triples == (Triple("11", 0, "CID", 3),)
    assert first.candidates == {(0, 1), (0, 2), (0, 3), (4, 1), (4, 2), (4, 3)}
    assert second == Document("12", (("Nothing", "here"),), (), candidates=frozenset())


def test_pubtator_files(save):
    expected = pubtator.from_pubtator(PUBTATOR)
    assert read(save(PUBTATOR)) == expected
    assert read(save(PUBTATOR.replace("\n", "\r\n"))) == expected
    assert read(save(gzip.compress(PUBTATOR.encode()))) == expected


def test_relations_are_turned_to_chemical_before_disease():
    documents = pubtator.from_pubtator(PUBTATOR.replace("CID\tC1\tD3", "CID\tD3\tC1"))
    assert documents[0].triples == (Triple("11", 0, "CID", 3),)


def test_other_types_have_all_pairs():
    documents = pubtator.from_pubtator(PUBTATOR.replace("Zorb\tChemical", "Zorb\tSpecies"))
    assert documents[0].candidates is None


@pytest.mark.parametrize(
    ("old", "new", "says", "left"),
    [
        ("11\t0\t9\tZ", "11\t1\t9\tZ", 'document 0 ("11"): line 3: characters 1 to 9', 5),
        ("11\t0\t9\tZ", "11\tx\t9\tZ", "line 3: offsets 'x', '9' are not whole numbers", 5),
        ("C1\tD3", "C1\tD9", "line 9: CID names concept 'D9', which no mention has", 5),
        ("C1\tD3", "C1\tC1", "line 9: CID relates 'C1' to itself", 5),
        ("C1\tD3", "C1", "line 9: 3 columns", None),
        ("12|a|", "13|a|", "line 12: abstract of 13 without a title", None),
        ("11\tCID", "10\tCID", "line 9: '10\\tCID\\tC1\\tD3' belongs to no document", None),
        ("C1\tD3", "C1\tC2", "not among the candidates", None),
    ],
)
def test_bad_pubtator(save, old, new, says, left):
    file = save(PUBTATOR.replace(old, new))
    with pytest.raises(DataError) as caught:
        read(file)
    assert says in str(caught.value) and str(caught.value).startswith(f"{file}: ")
    if left is not None:
        with pytest.warns(UserWarning, match="dropped 1 faulty lines"):
            assert len(read(file, strict=False)[0].entities) == left


def test_hypernym_filter(save):
    trees = {"D1": ["C08.381"], "D3": ["C08.381.520", "C23.1"], "D2": ["C08.38"], "C1": ["D03.1"], "C2": ["D03"]}
    pairs = set(pubtator.from_pubtator(PUBTATOR)[0].candidates)
    expected = pairs - {(0, 2)}  # D1 is above D3, which C1 causes; D2 only looks alike; C2 causes nothing
    assert pubtator.from_pubtator(PUBTATOR, hypernyms=trees)[0].candidates == expected
    assert read(save(PUBTATOR), hypernyms=save(trees, "mesh.json"))[0].candidates == expected
    records = "".join(
        "*NEWRECORD\nRECTYPE = D\nMH = A name\n"
        + "".join(f"MN = {n}\n" for n in numbers)
        + f"MS = MN = X01\nUI = {i}\n\n"
        for i, numbers in trees.items()
    )
    assert pubtator._trees(save(records, "d2025.bin")) == trees, "MeSH's own file of descriptors"
    assert read(save(PUBTATOR), hypernyms=save(records, "d2025.bin"))[0].candidates == expected
    assert pubtator.from_pubtator(PUBTATOR, hypernyms={})[0].candidates == pairs
    for bad in ([1], {"D1": "C08"}):
        with pytest.raises(DataError, match="MeSH tree numbers"):
            read(save(PUBTATOR), hypernyms=save(bad, "mesh.json"))
    with pytest.raises(DataError, match="not JSON of MeSH"):
        pubtator.from_pubtator(PUBTATOR, hypernyms="nowhere.json")


# --- describe -------------------------------------------------------------------------------------------------------


def test_describe():
    back = {"h": 0, "t": 1, "r": "P551"}
    document = document_from_json({**plain(), "labels": [*plain()["labels"], back]}, "x")
    copied = copy.deepcopy({**plain(), "title": "Copy", "labels": []})
    facts = checks.describe([document, document_from_json(copied, "x")], train=[document])
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
    assert checks.describe([])["share_related"] == 0


def test_inter_sentence_share_counts_pairs_that_share_no_sentence():
    obj = plain()
    del obj["vertexSet"][0][1]
    assert checks.describe([document_from_json(obj, "x")])["share_inter_sentence"] == 1.0


# --- the real files -------------------------------------------------------------------------------------------------


def test_redocred_development_set(real_data):
    path = real_data / "redocred" / "dev_revised.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of real data")
    relations = read_relations(path.with_name("rel2id.json"), path.with_name("rel_info.json"))
    documents = read(path, relations=relations)
    facts = checks.describe(documents)
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


@pytest.mark.parametrize(("name", "triples", "pairs"), [("Development", 1012, 5261), ("Training", 1038, 5432)])
def test_cdr(real_data, name, triples, pairs):
    path = real_data / "cdr" / f"CDR_{name}Set.PubTator.txt"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of real data")
    documents = read(path)
    facts = checks.describe(documents)
    assert (facts["documents"], facts["triples"], facts["pairs"]) == (500, triples, pairs)
    assert all(d.triples for d in documents)
    assert [document_from_json(document_to_json(d), "x") for d in documents[::10]] == documents[::10]
    for document in documents:
        for entity in document.entities:
            for m in entity.mentions:
                spoken = "".join(document.sentences[m.sentence][m.start : m.end])
                assert spoken == m.name.replace(" ", "")
