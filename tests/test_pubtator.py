"""PubTator files: the conventions of several corpora, each fault in one line, and the counts of the real files."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path

import pytest

from docre_lite.formats import describe, pubtator
from docre_lite.formats.docred import document_from_json, document_to_json
from docre_lite.formats.readers import look, read
from docre_lite.support import DataError
from docre_lite.types import Document, Entity, Mention, Triple

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


@pytest.fixture
def save(tmp_path):
    def save(content, name="data.txt") -> Path:
        path = tmp_path / name
        content = content if isinstance(content, bytes | str) else json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return save


def written(*lines: str, title: str = "Zeta drug and eta drug in alpha disease.") -> str:
    """A file of one document, whose lines are columns joined by bars with spaces around them."""
    return "\n".join([f"7|t|{title}", "7|a|None.", *("\t".join(["7", *line.split(" | ")]) for line in lines), ""])


ZETA, ETA, ALPHA = "0 | 9 | Zeta drug | Chemical | D1", "14 | 22 | eta drug | Chemical | D2", ""
ALPHA = "26 | 39 | alpha disease | Disease | D3"


def test_pubtator(save):
    first, second = read(save(PUBTATOR), pairs="cdr")
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


def test_pairs_are_those_that_are_named_and_never_what_else_is_in_the_file(save):
    file = save(PUBTATOR)
    assert read(file)[0].candidates is None
    turned = save(PUBTATOR.replace("CID\tC1\tD3", "CID\tD3\tC1"), "turned.txt")
    assert read(turned, pairs="Chemical:Disease")[0].triples == (Triple("11", 0, "CID", 3),)
    both = read(file, pairs=["Chemical:Disease", ("Disease", "Chemical")])[0].candidates
    one = read(file, pairs="cdr")[0].candidates
    assert both == one | {(tail, head) for head, tail in one}
    with pytest.raises(DataError, match="CID links Chemical:Chemical.*not among the candidates"):
        read(save(PUBTATOR.replace("C1\tD3", "C1\tC2"), "same.txt"), pairs="cdr")
    with pytest.raises(ValueError, match="pairs='Chemical' is neither HEAD:TAIL"):
        read(file, pairs="Chemical")


def test_a_file_that_names_its_candidates_keeps_them(save):
    (document,) = read(save(PUBTATOR), pairs="cdr")[:1]
    obj = document_to_json(document)
    obj["candidates"] = obj["candidates"][1:]
    assert len(read(save([obj]), pairs="cdr")[0].candidates) == 5


def test_a_relation_of_one_type(save):
    text = written(ZETA, ETA, "Drug_Interaction | D1 | D2")
    (document,) = read(save(text))
    assert document.triples == (Triple("7", 0, "Drug_Interaction", 1),) and len(document.pairs()) == 2


@pytest.mark.parametrize(
    ("line", "relation"),
    [
        ("Negative_Correlation | D1 | D3 | Novel", "Negative_Correlation"),
        ("Negative_Correlation | D1 | D3 | No", "Negative_Correlation"),
        ("1 | D1 | D3", "1"),
        ("1 | D1 | D3 | No", "1"),
        ("x | D1 | D3", "x"),
        ("CID | Chemical|D1 | Disease|D3", "CID"),
    ],
)
def test_forms_of_relations(save, line, relation):
    (document,) = read(save(written(ZETA, ALPHA, line)))
    assert document.triples == (Triple("7", 0, relation, 1),)


def test_numbers_as_ids_of_a_relation_are_no_offsets(save):
    lines = ("0 | 9 | Zeta drug | Chemical | 1", "26 | 39 | alpha disease | Disease | 39", "2 | 1 | 39 | Novel")
    assert read(save(written(*lines)))[0].triples == (Triple("7", 0, "2", 1),)


@pytest.mark.parametrize("joint", "|,;+")
def test_several_ids(save, joint):
    file = save(written(f"0 | 9 | Zeta drug | Chemical | D1{joint}D2", ALPHA, "CID | D2 | D3"))
    (document,) = read(file)
    assert [e.id for e in document.entities] == ["D1", "D2", "D3"]
    assert document.triples == (Triple("7", 1, "CID", 2),)
    assert look(file).facts[f"mentions of several concepts, joined by {joint}"] == 1
    assert read(file, ids="whole", labels=False)[0].entities[0].id == f"D1{joint}D2"
    other = "|" if joint != "|" else ","
    assert read(file, ids=other, labels=False)[0].entities[0].id == f"D1{joint}D2"
    assert [e.id for e in read(file, ids=joint)[0].entities] == ["D1", "D2", "D3"]


@pytest.mark.parametrize(
    "identity",
    [
        "p|SUB|V|25|M",
        "c|DEL|1314_1328|",
        "c|DEL|436_436+1|AG",
        "c|Allele|GA|IVS9+459",
        "|SUB|V|25|M",
        "tmVar:p|SUB|V|600|E;HGVS:p.V600E;RS#:113488022",
        "1,2-dichloro-ethane",
    ],
)
def test_one_id_whatever_it_holds(save, identity):
    (document,) = read(save(written(f"0 | 9 | Zeta drug | Chemical | {identity}", ALPHA, f"CID | {identity} | D3")))
    assert [e.id for e in document.entities] == [identity, "D3"] and len(document.triples) == 1
    alone = read(save(written(f"0 | 9 | Zeta drug | Chemical | {identity}")))[0]
    assert [e.id for e in alone.entities] == [identity], "also without a relation that names it"


def test_variants_can_be_joined_too(save):
    (document,) = read(save(written("0 | 9 | Zeta drug | SequenceVariant | p|SUB|V|25|M,rs12")))
    assert [e.id for e in document.entities] == ["p|SUB|V|25|M", "rs12"]


@pytest.mark.parametrize("none", ["-", "-1", "", " ", "CUI-less"])
def test_mentions_without_a_concept(save, none):
    unnamed = [f"0 | 9 | Zeta drug | Chemical | {none}", f"26 | 39 | alpha disease | Disease | {none}", ETA]
    opened = look(save(written(*unnamed)))
    assert [e.id for e in opened.documents[0].entities] == ["D2"]
    assert opened.facts["mentions without a concept"] == 2
    five = [line.rpartition(" | ")[0] for line in (ZETA, ALPHA)]
    assert [e.id for e in read(save(written(*five, ETA)))[0].entities] == ["D2"]
    with pytest.warns(UserWarning, match="mentions, none with a concept id.*: 2"):
        assert read(save(written(*five)))[0].entities == ()


def test_lines_of_three_columns_are_counted(save):
    with pytest.warns(UserWarning, match="lines of three columns.*: 1"):
        assert len(read(save(written(ZETA, "SNP | rs12")))[0].entities) == 1


def test_a_concept_related_to_itself_is_told_and_no_pair(save):
    with pytest.warns(UserWarning, match="relations of a concept to itself.*: 1"):
        assert len(read(save(written(ZETA, ETA, "Bind | D1 | D1", "Bind | D1 | D2")))[0].triples) == 1


def test_one_concept_with_two_types_is_told(save):
    with pytest.warns(UserWarning, match="mentions have several types.*: 1"):
        read(save(written(ZETA, "14 | 22 | eta drug | Gene | D1")))


@pytest.mark.parametrize(
    ("shift", "says"),
    [
        (lambda a, b: (a + 1, b + 1), "offsets count from 1: subtract 1 from both"),
        (lambda a, b: (a, b - 1), "an end is the mention's last character: add 1"),
        (lambda a, b: (a + 1, b), "offsets count from 1 and include the last character"),
    ],
)
def test_offsets_of_another_kind_are_named(save, shift, says):
    def shifted(line):
        start, end, *rest = line.split(" | ")
        return " | ".join([*map(str, shift(int(start), int(end))), *rest])

    with pytest.raises(DataError, match=says):
        read(save(written(*map(shifted, (ZETA, ETA, ALPHA)))))


def test_bytes_and_code_units_are_named(save):
    title = "Zoë and 𝔘𝔙 gave eta drug."
    start = title.index("eta")
    for encoding, width, says in (("utf-8", 1, "bytes of UTF-8"), ("utf-16-le", 2, "UTF-16 code units")):
        begin = len(title[:start].encode(encoding)) // width
        line = f"{begin} | {begin + 8} | eta drug | Chemical | D2"
        with pytest.raises(DataError, match=says):
            read(save(written(line, title=title)))


FAULTS = [
    ("11\t0\t9\tZ", "11\t1\t9\tZ", 'document 0 ("11"): line 3: characters 1 to 9', 5),
    ("11\t0\t9\tZ", "11\tx\t9\tZ", "line 3: offsets 'x', '9' are not whole numbers", 5),
    ("C1\tD3", "C1\tD9", "line 9: CID names concept 'D9', which no mention has", 5),
    ("11\tCID", "11\t", "line 9: a relation without a type", 5),
    ("Zorb\tChemical", "Zorb\t ", "line 7: a mention without a type", 4),
    ("11\tCID\tC1\tD3", "11\tCID", "line 9: 2 columns", 5),
    ("12|a|", "13|a|", "line 12: abstract of 13 without a title", 5),
    ("11\tCID", "10\tCID", "line 9: '10\\tCID\\tC1\\tD3' belongs to no document", 5),
    ("11\tCID\tC1\tD3", "11 CID C1 D3", "line 9: its columns are separated by spaces.*tabs", 5),
]


@pytest.mark.parametrize(("old", "new", "says", "left"), FAULTS)
def test_bad_pubtator(save, old, new, says, left):
    file = save(PUBTATOR.replace(old, new))
    with pytest.raises(DataError) as caught:
        read(file)
    first, _, rest = says.partition(".*")
    assert first in str(caught.value) and rest in str(caught.value) and str(caught.value).startswith(f"{file}: ")
    with pytest.warns(UserWarning, match=r"dropped 1 of \d+ \w+s as faulty; the first: "):
        assert len(read(file, strict=False)[0].entities) == left


def test_an_abstract_that_follows_its_title_directly_is_named(save):
    text = "7|t|Zeta.\n7|a|Eta drug helps.\n7\t5\t13\tEta drug\tChemical\tD1\n"
    with pytest.raises(DataError, match="offsets leave out the space between title and abstract"):
        read(save(text))
    with pytest.raises(DataError, match="dropped 1 of 1 mentions.*more than half"):
        read(save(text), strict=False)


def test_lenient_stops_where_it_would_drop_more_than_half(save):
    wrong = [f"1 | 9 | Zeta drug | Chemical | D{i}" for i in range(5)]
    with pytest.raises(DataError, match="dropped 5 of 7 mentions.*more than half"):
        read(save(written(*wrong, ETA, ALPHA)), strict=False)


def test_hypernym_filter(save):
    trees = {"D1": ["C08.381"], "D3": ["C08.381.520", "C23.1"], "D2": ["C08.38"], "C1": ["D03.1"], "C2": ["D03"]}
    file = save(PUBTATOR)

    def candidates(hypernyms):
        return read(file, pairs="cdr", hypernyms=hypernyms)[0].candidates

    pairs = candidates(None)
    expected = pairs - {(0, 2)}  # D1 is above D3, which C1 causes; D2 only looks alike; C2 causes nothing
    assert candidates(trees) == expected
    assert candidates(save(trees, "mesh.json")) == expected
    records = "".join(
        "*NEWRECORD\nRECTYPE = D\nMH = A name\n"
        + "".join(f"MN = {n}\n" for n in numbers)
        + f"MS = MN = X01\nUI = {i}\n\n"
        for i, numbers in trees.items()
    )
    assert pubtator.tree_numbers(save(records, "d2025.bin")) == trees, "MeSH's own file of descriptors"
    assert candidates(save(records, "d2025.bin")) == expected
    assert candidates({}) == pairs
    for bad in ([1], {"D1": "C08"}):
        with pytest.raises(DataError, match="MeSH tree numbers"):
            candidates(save(bad, "mesh.json"))
    with pytest.raises(DataError, match="not JSON of MeSH"):
        candidates("nowhere.json")


# --- the real files -------------------------------------------------------------------------------------------------


def spoken_as_named(documents):
    for document in documents:
        for entity in document.entities:
            for m in entity.mentions:
                spoken = "".join(document.sentences[m.sentence][m.start : m.end])
                assert spoken == m.name.replace(" ", "")


@pytest.mark.parametrize(("name", "triples", "pairs"), [("Development", 1012, 5261), ("Training", 1038, 5432)])
def test_cdr(real_data, name, triples, pairs):
    path = real_data / "cdr" / f"CDR_{name}Set.PubTator.txt"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of real data")
    documents = read(path, pairs="cdr")
    facts = describe.describe(documents)
    assert (facts["documents"], facts["triples"], facts["pairs"]) == (500, triples, pairs)
    assert all(d.triples for d in documents)
    assert [document_from_json(document_to_json(d), "x") for d in documents[::10]] == documents[::10]
    spoken_as_named(documents)


def test_biored(real_data):
    """All 1,162 published relations are read; one of them relates a concept to itself."""
    path = real_data / "biored" / "Dev.PubTator"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of real data")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        documents = read(path)
    assert [str(w.message).rpartition(": ")[2] for w in told] == ["1"]
    assert (len(documents), sum(len(d.triples) for d in documents)) == (100, 1161)
    # the mentions as the file has them: by id, none merged, those of several genes once for each
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.count("\t") == 5]
    expected = sum(len(c[5].split(",")) for c in lines if c[5] != "-")
    assert sum(len(e.mentions) for d in documents for e in d.entities) == expected == 3629
    ids = {(c[0], c[5]) for c in lines if c[4] == "SequenceVariant"}
    assert ids == {(d.title, e.id) for d in documents for e in d.entities if e.type == "SequenceVariant"}
    spoken_as_named(documents)
