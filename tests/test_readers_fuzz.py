"""Whatever a file holds: a valid document or one line that names file and document, never another exception."""

from __future__ import annotations

import copy
import gzip
import json
import warnings
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docre_lite.formats import readers, text
from docre_lite.formats.docred import document_from_json, document_to_json
from docre_lite.support import DataError, checks
from docre_lite.types import Document, Entity, Mention, Triple

# the shape checks that run under test draw a random element of a container
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
quick = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
any_words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


@st.composite
def documents(draw) -> Document:
    """A valid document, with or without everything that DocRED has no place for."""
    sentences = draw(st.lists(st.lists(any_words, min_size=1, max_size=6).map(tuple), min_size=1, max_size=4))

    @st.composite
    def mentions(draw):
        sentence = draw(st.integers(0, len(sentences) - 1))
        start = draw(st.integers(0, len(sentences[sentence]) - 1))
        end = draw(st.integers(start + 1, len(sentences[sentence])))
        return Mention(draw(any_words), sentence, start, end, draw(st.sampled_from(["PER", "LOC"])))

    def place(mention):
        return mention.sentence, mention.start, mention.end

    groups = draw(st.lists(st.lists(mentions(), min_size=1, max_size=3), max_size=5))
    groups = sorted((sorted(group, key=place) for group in groups), key=lambda group: place(group[0])[:2])
    ids = st.none() | any_words
    entities = tuple(Entity(tuple(group), draw(ids)) for group in groups)
    n = len(entities)
    pairs = [(h, t) for h in range(n) for t in range(n) if h != t]
    triples, candidates = (), None
    if pairs:
        fact = st.tuples(st.sampled_from(pairs), st.sampled_from(["P1", "P2", "P3"]))
        facts = draw(st.lists(fact, unique=True, max_size=4))
        premises = st.lists(st.tuples(st.sampled_from(range(n)), any_words, st.sampled_from(range(n))), max_size=2)
        triples = tuple(
            Triple(
                "title",
                head,
                relation,
                tail,
                evidence=tuple(sorted(draw(st.sets(st.integers(0, len(sentences) - 1))))),
                premises=tuple(draw(premises)),
                depth=draw(st.integers(0, 3)),
            )
            for (head, tail), relation in facts
        )
        if draw(st.booleans()):
            candidates = frozenset(draw(st.sets(st.sampled_from(pairs))) | {pair for pair, _ in facts})
    order = tuple(draw(st.permutations(range(n))))
    # of entities that begin at one word the file's first stays first: other numberings cannot come back
    begins = [place(e.mentions[0])[:2] for e in entities]
    tied = any(a == b and order[i] > order[i + 1] for i, (a, b) in enumerate(zip(begins, begins[1:], strict=False)))
    if tied or order == tuple(range(n)):
        order = None
    variant_of = draw(st.none() | any_words)
    return Document("title", tuple(sentences), entities, triples, candidates, variant_of, order)


@quick
@given(documents())
def test_round_trip_is_exact(document):
    checks.check([document], "x")
    through_text = json.loads(json.dumps(document_to_json(document)))
    again = document_from_json(through_text, "x")
    assert again == document
    # equality of triples leaves these out
    extras = [[(t.evidence, t.premises, t.depth) for t in d.triples] for d in (again, document)]
    assert extras[0] == extras[1]
    assert document_to_json(again) == document_to_json(document)


@quick
@given(st.lists(documents(), min_size=1, max_size=2), st.booleans())
def test_round_trip_through_a_file(tmp_path, found, packed):
    found = [Document(str(i), d.sentences, d.entities, (), d.candidates, order=d.order) for i, d in enumerate(found)]
    path = tmp_path / ("x.json.gz" if packed else "x.json")
    readers.write_docred(found, path)
    assert readers.read(path) == found


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats(allow_nan=True)
    | st.text(max_size=4)
    | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["h", "pos", "id"]), inner, max_size=2),
    max_leaves=4,
)


def spots(obj, path=()):
    """Every place in a JSON object."""
    yield path
    items = obj.items() if isinstance(obj, dict) else enumerate(obj) if isinstance(obj, list) else ()
    for key, value in items:
        yield from spots(value, (*path, key))


@st.composite
def mutated(draw):
    """A valid object with up to three places dropped, replaced, repeated or shifted."""
    obj = [document_to_json(draw(documents()))]
    for _ in range(draw(st.integers(1, 3))):
        places = [p for p in spots(obj) if p]
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        inside = obj
        for key in path:
            inside = inside[key]
        action = draw(st.sampled_from(["drop", "replace", "shift", "repeat"]))
        if action == "drop":
            del inside[last]
        elif action == "shift" and type(inside[last]) is int:
            inside[last] += draw(st.sampled_from([-5, -1, 1, 5, 10**30]))
        elif action == "repeat" and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[last]))
        else:
            inside[last] = draw(junk)
    return obj


def valid_or_one_line(path, strict=True):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = readers.read(path, strict=strict)
    except DataError as error:
        message = str(error)
        assert len(message.splitlines()) == 1 and message.startswith(str(path)), message
        message.encode()
        return None, message
    assert found
    checks.check(found, "again")
    return found, None


@settings(quick, max_examples=400)
@given(mutated(), st.booleans())
def test_mutated_json_is_read_or_refused_in_one_line(tmp_path, obj, strict):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(obj))
    found, message = valid_or_one_line(path, strict)
    if found:
        for document in found:
            document.pairs()
            again = document_from_json(document_to_json(document), "x")
            whole = sorted(document.order or ()) == list(range(len(document.order or ())))
            assert (again if whole else replace(again, order=document.order)) == document  # left-out entities have gone
    elif isinstance(obj, list) and obj:
        assert ": document " in message


PUBTATOR = "7|t|A b\n7|a|C d e.\n7\t0\t1\tA\tChemical\tD1\n7\t4\t7\tC d\tDisease\tD2|D3\tC|d\n7\tCID\tD1\tD3\n"
STARTS = [
    b"",
    b"[",
    b"{",
    b"PAR1",
    b"\x1f\x8b",
    b"# T\n",
    b"[A|PER|1] b ",
    PUBTATOR.encode(),
    json.dumps([{"title": "T", "sents": [["a"]], "vertexSet": []}]).encode(),
    gzip.compress(PUBTATOR.encode(), mtime=0),
]


@settings(quick, max_examples=300)
@given(st.sampled_from(STARTS), st.binary(max_size=40) | st.text('[]|\\#{}\n\t",:07aD1 ').map(str.encode), st.data())
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, start, middle, data):
    cut = data.draw(st.integers(0, len(start)))
    path = tmp_path / "data"
    path.write_bytes(start[:cut] + middle + start[cut:])
    valid_or_one_line(path, data.draw(st.booleans()))


@settings(quick, max_examples=300)
@given(st.text("Ab. ?!'’-/\u0301é 1,.\n\u2028中", max_size=40), st.data())
def test_words_cover_the_text_and_mentions_are_whole_words(string, data):
    spans = []
    for key in range(data.draw(st.integers(0, 4)) if string else 0):
        start = data.draw(st.integers(0, len(string) - 1))
        end = data.draw(st.integers(start + 1, len(string)))
        if string[start:end].strip():
            spans.append(text.Span(start, end, "T", str(key)))
    document = text.build("t", string, spans, "x", breaks=[len(string) // 2])
    # no character but spaces is lost, none is doubled, and order is kept
    assert "".join(w for s in document.sentences for w in s) == "".join(string.split())
    assert all(word and not any(c.isspace() for c in word) for s in document.sentences for word in s)
    assert len(document.entities) == len(spans)
    by_key = {int(e.id): e.mentions[0] for e in document.entities}
    for span in spans:
        mention = by_key[int(span.key)]
        spoken = document.sentences[mention.sentence][mention.start : mention.end]
        assert "".join(spoken) == "".join(string[span.start : span.end].split())
    if document.words:
        checks.check([document], "x")
        assert document_from_json(document_to_json(document), "x") == document


@settings(quick, max_examples=300)
@given(st.text("ab .\\[]|1#\n", max_size=30))
def test_any_marked_up_text_is_read_or_refused(string):
    try:
        document = text.from_text(string)
    except DataError as error:
        assert len(str(error).splitlines()) == 1
    else:
        if document.words:
            checks.check([document], "x")


@pytest.mark.parametrize("field", ["labels", "sents", "vertexSet"])
def test_deeply_nested_fields(tmp_path, field):
    deep = "[" * 400 + "]" * 400
    path = tmp_path / "x.json"
    path.write_text(f'[{{"title": "T", "sents": [["a"]], "vertexSet": [], "{field}": {deep}}}]')
    assert valid_or_one_line(path)[1]
