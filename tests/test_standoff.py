"""Files of annotation tools: read as they are meant, or refused in a line that names what they are."""

from __future__ import annotations

import json

import pytest

from docre_lite.cli.main import main
from docre_lite.formats.readers import look, read
from docre_lite.support import DataError

TEXT = "Ana Brook left Selm.\nSelm lies in Velm. There brook sang."
# name, start, end, type
SPANS = [
    ("Ana Brook", 0, 9, "PER"),
    ("Selm", 15, 19, "LOC"),
    ("Selm", 21, 25, "LOC"),
    ("Velm", 34, 38, "LOC"),
    ("brook", 46, 51, "PER"),
]
FACTS = {("Ana Brook", "left", "Selm"), ("Selm", "lies_in", "Velm")}


def facts(document):
    return {(document.entities[t.head].name, t.relation, document.entities[t.tail].name) for t in document.triples}


def as_expected(document):
    assert [[m.name for m in e.mentions] for e in document.entities] == [["Ana Brook", "brook"], ["Selm"] * 2, ["Velm"]]
    assert facts(document) == FACTS
    assert [len(sentence) for sentence in document.sentences] == [5, 5, 4]


def brat(folder, *more: str, title="one"):
    lines = [f"T{i}\t{kind} {start} {end}\t{name}" for i, (name, start, end, kind) in enumerate(SPANS)]
    lines += [
        "R1\tleft Arg1:T4 Arg2:T1",
        "R2\tlies_in Arg1:T2 Arg2:T3",
        "*\tEquiv T0 T4",
        "#1\tAnnotatorNotes T1\tsure",
    ]
    (folder / f"{title}.ann").write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")
    (folder / f"{title}.txt").write_text(TEXT, encoding="utf-8")
    return folder


def test_brat(tmp_path, capsys):
    (document,) = read(brat(tmp_path), format="brat")
    as_expected(document)
    assert document.title == "one"
    out = tmp_path / "out.json"
    assert main(["convert", str(tmp_path), "--from", "brat", "--to", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["triples"] == 2
    as_expected(read(out)[0])


def test_brats_concepts_make_entities_and_keep_their_ids(tmp_path):
    (document,) = read(
        brat(tmp_path, "N1\tReference T1 Wiki:Q1\tSelm", "N2\tReference T2 Wiki:Q2\tSelm"), format="brat"
    )
    assert [(e.name, e.id) for e in document.entities][1:3] == [("Selm", "Wiki:Q1"), ("Selm", "Wiki:Q2")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("T9\tPER x 4\tAna", "line 10: .* is none of brat's"),
        ("R9\tleft Arg1:T0 Arg2:T77", "'left' names 'T77'"),
        ("T9\tPER 1 5\tAna", "mention T9: characters 1 to 5 of the text are not 'Ana'"),
    ],
)
def test_faulty_lines_of_brat(tmp_path, line, says):
    brat(tmp_path, line)
    with pytest.raises(DataError, match=says):
        read(tmp_path, format="brat")
    with pytest.warns(UserWarning, match="dropped 1 of"):
        as_expected(read(tmp_path, format="brat", strict=False)[0])


def test_brat_without_texts(tmp_path):
    with pytest.raises(DataError, match="contains no .ann file"):
        read(tmp_path, format="brat")
    brat(tmp_path)
    (tmp_path / "one.txt").unlink()
    with pytest.raises(DataError, match="has no one.txt beside it"):
        read(tmp_path, format="brat")


def task(**more):
    result = [
        {"id": f"r{i}", "type": "labels", "value": {"start": a, "end": b, "text": name, "labels": [kind]}}
        for i, (name, a, b, kind) in enumerate(SPANS)
    ]
    for a, b, label in (("r4", "r1", "left"), ("r2", "r3", "lies_in"), ("r0", "r4", "same_as")):
        result.append({"type": "relation", "from_id": a, "to_id": b, "direction": "right", "labels": [label]})
    result[-2] |= {"from_id": "r3", "to_id": "r2", "direction": "left"}
    annotations = [{"was_cancelled": True, "result": []}, {"result": result}]
    return {"id": 3, "data": {"text": TEXT, "title": "one"}, "annotations": annotations} | more


def test_label_studio(tmp_path):
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task(), task(id=4, data={"article": TEXT}, annotations=[])]))
    first, second = read(path, format="label-studio")
    as_expected(first)
    assert second.title == "task 4" and second.entities == ()


def test_label_studio_counts_code_units(tmp_path):
    moved = task(data={"text": "𝔘𝔙 " + TEXT})
    for result in moved["annotations"][1]["result"]:
        if "value" in result:
            result["value"] |= {"start": result["value"]["start"] + 5, "end": result["value"]["end"] + 5}
    (tmp_path / "x.json").write_text(json.dumps([moved]))
    with pytest.raises(DataError, match="UTF-16 code units, as in JavaScript"):
        read(tmp_path / "x.json", format="label-studio")


def bioc_document(relations, concepts=None):
    title, _, abstract = TEXT.partition("\n")
    annotations = [
        {
            "id": f"m{i}",
            "text": name,
            "infons": {"type": kind} | ({"identifier": concepts[i]} if concepts else {}),
            "locations": [{"offset": a, "length": b - a}],
        }
        for i, (name, a, b, kind) in enumerate(SPANS)
    ]
    parts = [(0, title, annotations[:2]), (len(title) + 1, abstract, annotations[2:])]
    passages = [
        {"offset": at, "text": text, "infons": {}, "sentences": [], "annotations": marks, "relations": []}
        for at, text, marks in parts
    ]
    return {"id": "one", "infons": {}, "passages": passages, "annotations": [], "relations": relations}


def node(number, kind, a, b):
    nodes = [{"refid": a, "role": "head"}, {"refid": b, "role": "tail"}]
    return {"id": f"R{number}", "infons": {"type": kind}, "nodes": nodes}


def collection(*documents):
    return {"source": "x", "date": "", "key": "", "infons": {}, "documents": list(documents)}


MENTIONS = [node(1, "left", "m4", "m1"), node(2, "lies_in", "m2", "m3"), node(3, "Equiv", "m0", "m4")]


@pytest.mark.parametrize("form", ["collection", "documents", "one", "lines", "xml"])
def test_bioc(tmp_path, form):
    document, path = bioc_document(MENTIONS), tmp_path / "data"
    if form == "xml":
        biocjson, biocxml = (pytest.importorskip(f"bioc.{name}") for name in ("biocjson", "biocxml"))
        path.write_text(biocxml.dumps(biocjson.loads(json.dumps(collection(document)))), encoding="utf-8")
    elif form == "lines":
        path.write_text("".join(json.dumps(d) + "\n" for d in (document, {**document, "id": "two"})))
    else:
        path.write_text(
            json.dumps({"collection": collection(document), "documents": [document], "one": document}[form])
        )
    as_expected(read(path, format="bioc")[0])


def test_relations_between_concepts_of_bioc(tmp_path):
    concepts = ["9,10", "D1", "D1", "p|SUB|V|2|M", "9"]
    facts = [
        {"infons": {"type": "left", "entity1": "9", "entity2": "D1", "novel": "No"}, "nodes": [], "id": "R0"},
        {"infons": {"type": "saw", "role1": {"identifier": "D1"}, "role2": {"identifier": "10"}}, "id": "R1"},
    ]
    (tmp_path / "x").write_text(json.dumps(collection(bioc_document(facts, concepts))))
    opened = look(tmp_path / "x", format="biored")
    (document,) = opened.documents
    assert opened.format == "bioc" and [e.id for e in document.entities] == ["9", "10", "D1", "p|SUB|V|2|M"]
    assert {(t.head, t.relation, t.tail) for t in document.triples} == {(0, "left", 2), (2, "saw", 1)}


def test_bad_bioc(tmp_path):
    path = tmp_path / "x"
    for content, says in (
        ("<collection><document></x>", "not BioC's XML"),
        (json.dumps({"documents": [{"id": "1"}]}), "document 0: not BioC's format: lacks 'passages'"),
        (json.dumps(collection(bioc_document([{"infons": {"type": "x"}}]))), "a relation 'x' without two nodes"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=says):
            read(path, format="bioc")


@pytest.mark.parametrize(
    ("obj", "says"),
    [
        ([task()], "is Label Studio's export; convert it with `docre-lite convert FILE --from label-studio"),
        (collection(bioc_document([])), "is BioC JSON; convert it with"),
        ([{"tokens": ["a"], "entities": [], "relations": [], "orig_id": 1}], "is data for SpERT"),
        ([{"doc_key": "x", "sentences": [["a"]], "ner": [], "relations": []}], "is data for SciIE or DyGIE"),
        ({"token": ["a"], "subj_start": 0, "obj_start": 1, "relation": "x"}, "is data in TACRED's format"),
        ([{"title": "x", "h_idx": 0, "t_idx": 1, "r": "P1"}], "is a submission of predictions, not documents"),
        ([{"id": 1, "content": "x", "tags": [], "mentions": [], "concepts": [], "relations": []}], "article of DWIE"),
        ([{"text": "x", "spans": [], "tokens": []}], "is an export of Prodigy"),
    ],
)
def test_foreign_json_is_named(tmp_path, obj, says, capsys):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(obj))
    assert main(["data", "info", str(path)]) == 2
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1 and str(path) in told
    if isinstance(obj, list):
        path.write_text("".join(json.dumps(part) + "\n" for part in obj * 2))
        assert main(["data", "info", str(path)]) == 2 and says in capsys.readouterr().err


def test_files_of_tools_that_are_not_json(tmp_path):
    for content, says in (
        ("<?xml version='1.0'?><collection/>", "for BioC, `docre-lite convert"),
        ("T1\tPER 0 3\tAna\n", "looks like brat's .ann"),
    ):
        (tmp_path / "x").write_text(content)
        with pytest.raises(DataError, match=says):
            read(tmp_path / "x")
