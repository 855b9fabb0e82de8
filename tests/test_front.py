"""Raw text to documents: spans, spaCy, GLiNER, the command, spaCy's component, scores of found entities."""

from __future__ import annotations

import json
import sys
import tomllib
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from docre_lite import DataError, Triple, from_spacy, from_spans, from_text, generate, load, score_found
from docre_lite.cli.main import main
from docre_lite.evaluate import score
from docre_lite.formats.docred import document_from_json, document_to_json
from docre_lite.formats.readers import read, write_docred
from docre_lite.formats.text import Span
from docre_lite.front.finders import PIECE, gliner_finder
from docre_lite.front.scoring import matches, mention_scores
from docre_lite.front.spans import by_name, plain_name
from docre_lite.front.texts import Raw, raw_texts
from docre_lite.predict import predict

TEXT = "Clara Ramvik was born in Selmouth. The Selmouth 's rival is Clara  Ramvik's Tidal Society."
NAMES = [(0, 12, "PER"), (25, 33, "LOC"), (35, 47, "LOC"), (60, 75, "PER"), (76, 89, "ORG")]
FOREIGN = "Zoë Ångstad met 🙂 Åse in Skåne."
NOTE = "Clara Ramvik was born in Selmouth. Selmouth lies in Velmark."


def entities(document) -> list[tuple[str | None, list[tuple[str, str, int]]]]:
    return [(e.id, [(m.name, m.type, m.sentence) for m in e.mentions]) for e in document.entities]


# Spans ------------------------------------------------------------------------------------------------------------


def test_spans_become_entities_by_name():
    document = from_spans(TEXT, NAMES, "note")
    assert entities(document) == [
        (None, [("Clara Ramvik", "PER", 0), ("Clara Ramvik's", "PER", 1)]),
        (None, [("Selmouth", "LOC", 0), ("The Selmouth", "LOC", 1)]),
        (None, [("Tidal Society", "ORG", 1)]),
    ]
    assert document.title == "note" and [len(s) for s in document.sentences] == [7, 11]
    for entity in document.entities:
        for m in entity.mentions:
            assert "".join(document.sentences[m.sentence][m.start : m.end]) == m.name.replace(" ", "")
    assert document_from_json(document_to_json(document), "again") == document


@pytest.mark.parametrize("form", [list, np.array, lambda s: {"start": s[0], "end": s[1], "label": s[2], "score": 1.0}])
def test_a_span_may_have_any_form(form):
    given = [(np.int64(a), b, kind) for a, b, kind in NAMES]
    given = [form(s) for s in given] if form is not np.array else given
    assert from_spans(TEXT, given) == from_spans(TEXT, NAMES)
    assert from_spans(TEXT, [Span(a, b, kind, "1") for a, b, kind in NAMES[:1]]) == from_spans(TEXT, NAMES[:1])


def test_entities_may_be_given():
    """A key that is no number becomes the id; a mention without key joins the only entity with its name and type."""
    spans = [(0, 12, "PER", 7), (25, 33, "LOC", "Q1"), (35, 47, "LOC"), (60, 75, "PER", np.int32(7)), (76, 89, "ORG")]
    document = from_spans(TEXT, spans)
    assert [(e.id, len(e.mentions)) for e in document.entities] == [(None, 2), ("Q1", 2), (None, 1)]
    apart = from_spans(TEXT, [(0, 12, "PER", "a"), (60, 75, "PER", "b")])
    assert [e.id for e in apart.entities] == ["a", "b"]
    assert by_name([("x", "T", "a"), ("X", "T", "b"), ("the x", "T", None)])[2] not in ("a", "b")


def test_names_are_compared_by_the_stated_rule():
    same = [
        "Tidal Society",
        "the tidal  society",
        "The Tidal Society's",
        "TIDAL\nSOCIETY ’s",
        "ﬁ".replace("ﬁ", "Tidal Society"),
    ]
    assert {plain_name(name) for name in same} == {"tidal society"}
    assert [plain_name(name) for name in ("The", "A", "Anna", "'s", "Theo's")] == ["the", "a", "anna", "'s", "theo"]
    two_types = from_spans("Paris met Paris.", [(0, 5, "PER"), (10, 15, "LOC")])
    assert len(two_types.entities) == 2


def test_spans_may_nest_overlap_and_repeat():
    text = "Selmouth University Press"
    document = from_spans(text, [(0, 8, "LOC"), (0, 19, "ORG"), (9, 25, "ORG"), (0, 8, "LOC"), (0, 9, "LOC")])
    assert [e.name for e in document.entities] == ["Selmouth", "Selmouth University", "University Press"]
    assert [len(e.mentions) for e in document.entities] == [1, 1, 1]
    assert predict(load("atlop"), [document]) is not None


def test_a_blank_line_ends_a_sentence():
    assert from_spans("A heading\n\nthe text\n of it", []).sentences == (("A", "heading"), ("the", "text", "of", "it"))


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ((0, 99, "PER"), "span 0: [0, 99] is outside the text of 90 characters"),
        ((5, 5, "PER"), "[5, 5] is empty; give [first character, last character + 1]"),
        ((12, 13, "PER"), "holds nothing but spaces"),
        ((-1, 3, "PER"), "[-1, 3] is empty"),
        ((0, 3), "is not a span; give (start, end, type)"),
        ("PER", "'PER' is not a span"),
        ((0.0, 3, "PER"), "field start: '0.0' where a whole number belongs"),
        ((0, True, "PER"), "field end: 'True' where a whole number belongs"),
        ((0, 3, " "), "field type: ' ' where a type such as 'PER' belongs"),
        ((0, 3, "PER", 0.5), "field entity: '0.5'"),
        ({"start": 0, "label": "PER"}, "field end: missing"),
        ({"start": 1, "end": 13, "type": "PER", "text": "Clara Ramvik"}, "they fit as offsets counted from 1"),
        ({"start": 0, "end": 11, "type": "PER", "text": "Clara Ramvik"}, "they fit as offsets with an inclusive end"),
        ({"start": 1, "end": 5, "type": "PER", "text": "Selmouth"}, "[1, 5] is 'lara' in the text, not 'Selmouth'"),
    ],
)
def test_a_bad_span_is_refused_in_one_line(span, said):
    with pytest.raises(DataError) as error:
        from_spans(TEXT, [span], "note", where="f.json: document 3")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith('f.json: document 3 ("note"): span 0: ')
    for text in ("", " \n", "\ud800"):
        with pytest.raises(DataError, match="no text|valid Unicode"):
            from_spans(text, [])


@pytest.mark.parametrize(("encoding", "width", "said"), [("utf-8", 1, "UTF-8 bytes"), ("utf-16-le", 2, "UTF-16 units")])
def test_offsets_of_another_unit_are_named(encoding, width, said):
    def unit(name: str) -> tuple[int, int, str]:
        start = len(FOREIGN[: FOREIGN.index(name)].encode(encoding)) // width
        return start, start + len(name.encode(encoding)) // width, "X"

    text = FOREIGN.rstrip(".")
    with pytest.raises(DataError, match=said):
        from_spans(text, [unit("Zoë Ångstad"), unit("Skåne")])  # outside the text
    with pytest.warns(UserWarning, match=f"inside a word.*{said}"):
        from_spans(FOREIGN + " And no more of it.", [unit("Åse"), unit("Skåne")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_spans(FOREIGN, [(0, 11, "PER"), (18, 21, "PER"), (19, 21, "X")])  # that no other unit mends


# spaCy ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spacy():
    return pytest.importorskip("spacy")


@pytest.fixture
def nlp(spacy):
    """A pipeline that knows four names."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    known = {"Clara Ramvik": "PERSON", "Selmouth": "GPE", "Velmark": "GPE", "1920": "DATE"}
    ruler.add_patterns([{"label": kind, "pattern": name} for name, kind in known.items()])
    return nlp


TYPES = {"PERSON": "PER", "GPE": "LOC", "DATE": ""}


def test_a_doc_becomes_a_document(nlp):
    doc = nlp("Clara Ramvik  was born in Selmouth in 1920.\n\nthe end\n\nSelmouth's in Velmark.")
    document = from_spacy(doc, "note", types=TYPES)
    assert entities(document) == [
        (None, [("Clara Ramvik", "PER", 0)]),
        (None, [("Selmouth", "LOC", 0), ("Selmouth", "LOC", 2)]),
        (None, [("Velmark", "LOC", 2)]),
    ]
    assert [" ".join(words) for words in document.sentences] == [
        "Clara Ramvik was born in Selmouth in 1920 .",
        "the end",
        "Selmouth 's in Velmark .",
    ]
    assert entities(from_spacy(doc))[2] == (None, [("1920", "DATE", 0)])
    with pytest.raises(DataError, match="no words"):
        from_spacy(nlp(" \n"))


def test_spacys_own_sentences_are_kept_and_joined_by_a_mention(spacy):
    words = "Dr . No saw Clara . She left".split()
    doc = spacy.tokens.Doc(
        spacy.blank("en").vocab, words=words, sent_starts=[True, False, True, *[False] * 3, True, False]
    )
    doc.ents = [spacy.tokens.Span(doc, 4, 5, "PER")]
    assert [len(s) for s in from_spacy(doc).sentences] == [2, 4, 2]
    doc.ents = [spacy.tokens.Span(doc, 0, 3, "PER")]
    assert [len(s) for s in from_spacy(doc).sentences] == [6, 2]


def test_stored_docs_are_converted_with_their_relations(nlp, spacy, tmp_path, capsys):
    doc = nlp("Clara Ramvik was born in Selmouth. Selmouth is old.")
    if not spacy.tokens.Doc.has_extension("rel"):
        spacy.tokens.Doc.set_extension("rel", default={})
    head, tail = doc.ents[0].start, doc.ents[-1].start
    doc._.rel = {(head, tail): {"born_in": 0.9, "died_in": 0.1}, (tail, head): {"born_in": 0.2}}
    spacy.tokens.DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "docs.spacy")
    out = tmp_path / "out.json"
    assert main(["convert", str(tmp_path / "docs.spacy"), "--from", "spacy", "--to", str(out)]) == 0
    (document,) = read(out)
    assert [(document.entities[t.head].name, t.relation, document.entities[t.tail].name) for t in document.triples] == [
        (doc.ents[0].text, "born_in", doc.ents[-1].text)
    ]
    (tmp_path / "docs.spacy").write_bytes(b"no")
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "docs.spacy"), "--from", "spacy", "--to", str(out)]) == 2
    assert "not a .spacy file" in capsys.readouterr().err


def test_coreference_comes_from_span_groups_and_links(nlp, spacy):
    doc = nlp("Clara Ramvik left the old Selmouth. She loved it. Selmouth is in Velmark.")
    tokens = {token.text: token.i for token in doc}
    she, it = tokens["She"], tokens["it"]
    doc.spans["coref_clusters_1"] = [doc[1:2], doc[she : she + 1]]  # heads alone, as the first component writes them
    doc.spans["coref_clusters_2"] = [doc[5:6], doc[it : it + 1]]
    doc.spans["coref_clusters_3"] = [doc[3:5], doc[2:3]]  # of nothing with a name
    doc.spans["other_1"] = [doc[0:1], doc[5:6]]
    found = [[m[0] for m in mentions] for _, mentions in entities(from_spacy(doc, types=TYPES))]
    assert found == [["Clara Ramvik", "She"], ["Selmouth", "it", "Selmouth"], ["Velmark"]]
    ids = {"Clara Ramvik": "Q1", "Velmark": "NIL"}
    doc.ents = [spacy.tokens.Span(doc, e.start, e.end, e.label_, kb_id=ids.get(e.text, "")) for e in doc.ents]
    assert [e.id for e in from_spacy(doc).entities] == ["Q1", None, None]
    assert [len(e.mentions) for e in from_spacy(doc, clusters="none").entities] == [1, 2, 1]


# The command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path) -> Path:
    (tmp_path / "page.txt").write_text(f"# A note\n{NOTE}\n\nClara Ramvik left Velmark.\n", encoding="utf-8")
    return tmp_path / "page.txt"


@pytest.fixture
def folder(nlp, tmp_path) -> Path:
    nlp.to_disk(tmp_path / "rules")
    return tmp_path / "rules"


def annotated(given, model, out, *more) -> int:
    return main(
        ["annotate", "--input", *map(str, given), "--with", "spacy", "--model", str(model), "--out", str(out), *more]
    )


MAP = ["--map", "PERSON=PER", "--map", "GPE=LOC"]


def test_two_commands_from_text_to_triples(page, folder, tmp_path, capsys):
    out, result = tmp_path / "documents.jsonl", tmp_path / "result.json"
    assert annotated([page], folder, out, *MAP) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["documents"], said["entities"], said["types"]) == (1, 3, {"LOC": 4, "PER": 2})
    assert main(["predict", "--run", "dre_mir", "--data", str(out), "--out", str(result)]) == 0
    names = [e.name for e in read(out)[0].entities]
    rows = json.loads(result.read_text(encoding="utf-8"))
    found = {(names[r["h_idx"]], r["r"], names[r["t_idx"]]) for r in rows}
    assert {("Clara Ramvik", "place_of_birth", "Selmouth"), ("Clara Ramvik", "citizenship", "Velmark")} <= found
    assert annotated([page], folder, out, *MAP, "--per", "block") == 0
    assert [d.title for d in read(out)] == ["A note", "page 1"]
    (tmp_path / "rows.jsonl").write_text(f'{{"text": "{NOTE}"}}\n{{"title": "A note", "text": "Velmark."}}\n')
    assert annotated([page, tmp_path / "rows.jsonl"], folder, out) == 0
    assert [d.title for d in read(out)] == ["A note", "rows 1", "A note (2)"]


def test_score_takes_the_documents_of_a_front_end(page, folder, tmp_path, capsys):
    out, result, gold = (tmp_path / name for name in ("documents.jsonl", "result.json", "gold.json"))
    assert annotated([page], folder, out, *MAP) == 0
    assert main(["predict", "--run", "atlop", "--data", str(out), "--out", str(result)]) == 0
    marked = NOTE.replace("Selmouth", "[Selmouth|LOC|1]").replace("Clara Ramvik", "[Clara Ramvik|PER|2]")
    document = from_text(f"# A note\n{marked}\nClara Ramvik left Velmark.")
    write_docred([replace(document, triples=(Triple("A note", 0, "place_of_birth", 1),))], gold)
    capsys.readouterr()
    scored = ["score", "--predictions", str(result), "--gold", str(gold), "--json", "--found"]
    assert main([*scored, str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["correct"] == 1
    write_docred([replace(document, title="other")], gold)
    assert main([*scored, str(out)]) == 2
    assert "'A note' is only among the found documents" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "fine"}\n{"text": 3}\n', "in.txt: line 2: field text: missing or no string; give a string"),
        ('{"text": "fine"}\n{"text": ""}\n', "in.txt: line 2: no text"),
        ('{"text": "a", "title": 3}\n', "line 1: field title: 3 where a string belongs"),
        ('{"text": "a"}\n{"text"\n', "line 2: line 1 column 8: malformed JSON"),
        ('{"text": "\\ud800"}\n', "character 0 is not valid Unicode"),
        ('{"vertexSet": [], "sents": []}\n', "it has entities already; give it to `docre-lite predict`"),
        ("[Clara|PER|1] left.", "is marked up already"),
        ("", "is empty"),
    ],
)
def test_all_texts_are_checked_before_the_first_is_read(content, said, tmp_path, folder, capsys, monkeypatch):
    (tmp_path / "in.txt").write_text(content, encoding="utf-8")
    monkeypatch.setattr("docre_lite.front.spacy_doc.read", lambda *a, **k: pytest.fail("read too early"))
    out = tmp_path / "out" / "documents.jsonl"
    assert annotated([tmp_path / "in.txt"], folder, out) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not out.parent.exists()


def test_what_is_missing_is_said_in_one_line(page, tmp_path, folder, capsys, monkeypatch, spacy):
    def fault(*arguments: str) -> str:
        assert main(["annotate", "--input", str(page), "--out", str(tmp_path / "out.jsonl"), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "`python -m spacy download no_such`" in fault("--with", "spacy", "--model", "no_such")
    assert "which is a folder" in fault("--with", "spacy", "--model", str(tmp_path))
    assert "--labels is for GLiNER" in fault("--with", "spacy", "--model", str(folder), "--labels", "x")
    assert "needs --labels" in fault("--with", "gliner", "--model", "x")
    assert "--map takes PERSON=PER" in fault("--with", "spacy", "--model", str(folder), "--map", "PER")
    spacy.blank("en").to_disk(tmp_path / "blank")
    assert annotated([page], tmp_path / "blank", tmp_path / "none.jsonl") == 0
    assert "no component of this pipeline (none) says that it finds entities" in capsys.readouterr().err
    assert annotated([page], folder, page) == 2 and "would be overwritten" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "spacy", None)
    assert "run `pip install 'docre_lite[spacy]'`" in fault("--with", "spacy", "--model", "x")
    monkeypatch.setitem(sys.modules, "gliner", None)
    assert "run `pip install 'docre_lite[gliner]'`" in fault("--with", "gliner", "--model", "x", "--labels", "a")


def test_an_interrupted_run_leaves_nothing(page, folder, tmp_path, monkeypatch):
    out = tmp_path / "out" / "documents.jsonl"
    out.parent.mkdir()
    out.write_text("as it was", encoding="utf-8")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("docre_lite.front.texts.document_to_json", stop)
    assert annotated([page], folder, out) == 130
    assert [p.name for p in out.parent.iterdir()] == ["documents.jsonl"] and out.read_text() == "as it was"


def test_texts_come_one_at_a_time(tmp_path):
    lines = ['{"title": "one", "text": "First."}', '{"text": 3}']
    (tmp_path / "many.jsonl").write_text("\n".join(lines), encoding="utf-8")
    texts = raw_texts([tmp_path / "many.jsonl"])
    assert next(texts).title == "one"
    with pytest.raises(DataError):
        next(texts)


# GLiNER, by its documented interface ------------------------------------------------------------------------------


class FakeGLiNER:
    """Finds names from a list, in the form that the library documents."""

    known = {"Clara Ramvik": "person", "Selmouth": "place", "Velmark": "place"}

    def __init__(self):
        self.read = []

    @classmethod
    def from_pretrained(cls, name: str) -> FakeGLiNER:
        if name != "fake":
            raise OSError("offline")
        return cls()

    def predict_entities(self, text: str, labels: list[str], threshold: float = 0.5) -> list[dict]:
        self.read.append(text)
        return [
            {"start": at, "end": at + len(name), "text": name, "label": label, "score": 0.9}
            for name, label in self.known.items()
            if label in labels and threshold <= 0.9 and (at := text.find(name)) >= 0
        ]


def test_gliner_behind_the_same_command(page, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gliner", SimpleNamespace(GLiNER=FakeGLiNER))
    out = tmp_path / "documents.jsonl"
    command = ["annotate", "--input", str(page), "--with", "gliner", "--out", str(out), "--labels", "person, place"]
    assert main([*command, "--model", "fake", "--map", "person=PER", "--map", "place="]) == 0
    assert entities(read(out)[0]) == [(None, [("Clara Ramvik", "PER", 0)])]
    assert main([*command, "--model", "fake", "--threshold", "0.95"]) == 0 and read(out)[0].entities == ()
    capsys.readouterr()
    assert main([*command, "--model", "urchade/x"]) == 2
    assert "a hub name needs a network the first time (OSError: offline)" in capsys.readouterr().err


def test_gliner_reads_long_texts_in_pieces_of_whole_sentences():
    model, long = FakeGLiNER(), " ".join(["It rained all day in the small town."] * 100)
    text = f"{long} Clara Ramvik left. {long} Selmouth lies in Velmark. " + "Word " + "word " * PIECE * 2
    (document,) = gliner_finder(model, ["person", "place"])([Raw("t", text, "here")])
    assert [e.name for e in document.entities] == ["Clara Ramvik", "Selmouth", "Velmark"]
    assert "".join(model.read) == text and len(model.read) > 5
    assert all(len(piece.split()) <= PIECE or piece.lstrip().startswith("Word") for piece in model.read)
    with pytest.raises(DataError, match="only for types that you name"):
        gliner_finder(model, [])


# The component ----------------------------------------------------------------------------------------------------


@pytest.fixture
def component(nlp):
    module = import_module("docre_lite.front.component")
    nlp.add_pipe("docre_lite", config={"run": "dre_mir", "types": {"PERSON": "PER", "GPE": "LOC"}})
    return module


def facts(doc) -> list[str]:
    return [str(relation) for relation in doc._.relations]


def test_the_component_sets_relations(nlp, component):
    doc = nlp(NOTE)
    assert "Clara Ramvik | citizenship | Velmark" in facts(doc)
    expected = predict(load("dre_mir"), [from_spacy(doc, types=TYPES)])
    assert [(r.relation, r.score) for r in doc._.relations] == [(t.relation, pytest.approx(t.score)) for t in expected]
    born = next(r for r in doc._.relations if r.relation == "place_of_birth")
    assert [span.text for span in born.tail] == ["Selmouth", "Selmouth"]
    assert all(doc[a.start : a.end].text.endswith(".") for a in born.evidence) and born.evidence
    assert facts(nlp("Velmark.")) == [] == facts(nlp(""))
    bytes_ = type(doc)(nlp.vocab).from_bytes(doc.to_bytes())
    assert facts(bytes_) == facts(doc)
    doc.ents = []
    assert facts(nlp.get_pipe("docre_lite")(doc)) == []  # nothing of the first time stays


def test_batches_give_what_single_documents_give(nlp, component):
    texts = [NOTE, "", "Velmark.", *[f"{NOTE} {NOTE}"] * 9, NOTE]
    assert [facts(doc) for doc in nlp.pipe(texts)] == [facts(nlp(text)) for text in texts]


def test_a_pipeline_with_the_component_goes_to_disk_and_back(nlp, component, spacy, tmp_path, monkeypatch):
    before = facts(nlp(NOTE))
    nlp.get_pipe("docre_lite").run = "gone"
    nlp.to_disk(tmp_path / "nlp")
    text = (tmp_path / "nlp" / "config.cfg").read_text(encoding="utf-8")
    (tmp_path / "nlp" / "config.cfg").write_text(text.replace('run = "dre_mir"', 'run = "gone"'), encoding="utf-8")
    assert facts(spacy.load(tmp_path / "nlp")(NOTE)) == before
    with pytest.raises(ValueError, match="does not fit into bytes; use nlp.to_disk"):
        nlp.to_bytes()


def test_the_component_says_what_it_lacks(nlp, spacy):
    import_module("docre_lite.front.component")
    finder = nlp.add_pipe("docre_lite", config={"run": "atlop"})
    with pytest.warns(UserWarning, match="does not know GPE, PERSON"):
        nlp(NOTE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp(NOTE)  # once
    assert finder is nlp.get_pipe("docre_lite")
    nlp.remove_pipe("docre_lite")
    nlp.add_pipe("docre_lite", config={"run": "no/such"})
    with pytest.raises(ValueError, match="model 'no/such' is no folder here, and could not be fetched"):
        nlp(NOTE)


def test_spacy_finds_the_component_by_its_entry_point():
    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["spacy_factories"]["docre_lite"].partition(":")
    pytest.importorskip("spacy")
    assert callable(getattr(import_module(module), name))


# Scores of found entities -----------------------------------------------------------------------------------------

GOLD = from_text(
    "[Clara Ramvik|PER|1] was born in [Selmouth|LOC|2]. [Ramvik|PER|1] left [Selmouth|LOC|2] for [Velmark|LOC|3]."
)
GOLD = replace(GOLD, triples=(Triple("text", 0, "born", 1), Triple("text", 0, "lives", 2), Triple("text", 1, "in", 2)))


def test_triples_of_found_entities_count_for_gold_ones():
    text = "Clara Ramvik was born in Selmouth. Ramvik left Selmouth for Velmark."
    found = from_spans(text, [(0, 12, "PER"), (25, 33, "ORG"), (35, 41, "PER"), (47, 55, "ORG"), (42, 46, "X")])
    assert matches(found, GOLD) == [0, 1, 0, None]
    claims = [(0, "born", 1), (2, "born", 1), (2, "lives", 1), (3, "in", 1)]  # right, the same again, wrong, wrong
    scores = score_found([Triple("text", *claim) for claim in claims], [found], [GOLD])
    assert (scores.gold, scores.predicted, scores.correct) == (3, 3, 1)
    assert scores.rela_accuracy == pytest.approx(1 - 3 / 12)  # (0, 2), (1, 2), and the entity that is none
    same = mention_scores([found], [GOLD])
    assert same["mention_recall"] == pytest.approx(2 / 5) and same["mention_precision"] == pytest.approx(2 / 5)
    assert same["entity_f1"] == pytest.approx(2 * 1 / (4 + 3))


def test_words_may_be_cut_differently_and_boundaries_may_be_near():
    text = "Clara Ramvik was born in Selmouth. Ramvik left Selmouth for Velmark."
    found = from_spans(text, [(6, 12, "PER"), (25, 34, "LOC"), (60, 65, "LOC")])
    assert matches(found, GOLD) == [None, None, None]
    assert matches(found, GOLD, overlap=0.5) == [0, 1, 2]
    assert matches(found, GOLD, overlap=0.8) == [None, 1, None]
    for wrong in (replace(found, sentences=(("Other",),), entities=()), replace(found, title="other")):
        with pytest.raises(DataError, match="different texts|only among the found"):
            score_found([], [wrong], [GOLD])
    with pytest.raises(DataError, match="3 entities were found"):
        score_found([Triple("text", 0, "born", 3)], [found], [GOLD])


def test_gold_entities_score_as_ever():
    documents = generate("test", 4)
    triples = predict(load("atlop"), documents)
    for overlap in (1.0, 0.5):
        assert score_found(triples, documents, documents, overlap=overlap) == score(triples, documents)
    turned = [d.permuted(range(len(d.entities) - 1, -1, -1)) for d in documents]
    assert score_found(predict(load("atlop"), turned), turned, documents).f1 == pytest.approx(
        score(triples, documents).f1
    )
