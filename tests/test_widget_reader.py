"""Reader: what is struck, renamed or written in the page is what the module is asked, and what it says is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import computed, shown, violations, with_models
from small import tiny

import docre_lite
from docre_lite.corpus import generate, running_example
from docre_lite.formats.text import from_text
from docre_lite.predict import predict
from docre_lite.support import DataError
from docre_lite.support.prose import gaps
from docre_lite.types import Document, Entity, Mention
from docre_lite.widgets import Reader
from docre_lite.widgets.base import FOLDER, changed, document_data
from docre_lite.widgets.reader import ENTITIES, WORDS, whole_page

EXAMPLE = running_example()


@pytest.fixture
def reader(page, tmp_path):
    """Two of the package's models in a page that can run them."""
    with_models(tmp_path)
    models = {name: docre_lite.load(name) for name in ("dre_mir", "atlop")}
    root = shown(page, Reader(models, EXAMPLE, (0, "citizenship", 3)), tmp_path)
    computed(root)
    yield root
    assert page.problems == []


def facts(root) -> set[tuple[str, str, str]]:
    """What the list says is found now."""
    rows = root.locator(".dw-facts tbody tr").all()
    cells = [
        (row.locator("[role=img]").get_attribute("aria-label"), row.locator("td").all_inner_texts()) for row in rows
    ]
    return {tuple(texts[1:4]) for word, texts in cells if word != "lost"}


def said(model: str, document: Document) -> set[tuple[str, str, str]]:
    names = [entity.name for entity in document.entities]
    found = predict(docre_lite.load(model), [document])
    return {(names[t.head], t.relation, names[t.tail]) for t in found}


def without(document: Document, sentence: int) -> Document:
    """The document without a sentence, by hand."""
    kept = [k for k in range(len(document.sentences)) if k != sentence]
    entities = []
    for e in document.entities:
        mentions = tuple(replace(m, sentence=kept.index(m.sentence)) for m in e.mentions if m.sentence != sentence)
        entities += [replace(e, mentions=mentions)] if mentions else []
    return Document(document.title, tuple(document.sentences[k] for k in kept), tuple(entities))


def test_it_answers_the_question_and_is_accessible(reader, page):
    assert "yes, by a margin of 5.2" in reader.locator(".dw-question").inner_text()
    assert facts(reader) == said("dre_mir", EXAMPLE)
    reader.get_by_label("Model", exact=True).select_option("1")
    computed(reader)
    assert "the model does not say so" in reader.locator(".dw-question").inner_text()
    assert facts(reader) == said("atlop", EXAMPLE)
    assert violations(page) == []


@pytest.mark.parametrize("sentence", range(len(EXAMPLE.sentences)))
def test_a_struck_sentence_is_gone(sentence, reader):
    reader.get_by_role("button", name="strike", exact=True).nth(sentence).click()
    computed(reader)
    names = {e.name for e in EXAMPLE.entities}
    shorter = without(EXAMPLE, sentence)
    want = said("dre_mir", shorter)
    if {e.name for e in shorter.entities} <= names:  # else a later mention names the entity
        assert facts(reader) == want
    assert len(facts(reader)) == len(want)
    assert "facts now" in reader.locator(".dw-status").inner_text()
    reader.get_by_role("button", name="Put everything back").click()
    computed(reader)
    assert facts(reader) == said("dre_mir", EXAMPLE)


def test_an_entity_gets_another_name(reader):
    reader.get_by_label("Entity", exact=True).select_option("3")
    reader.get_by_label("New name").fill("Norrland")
    reader.get_by_role("button", name="Rename").click()
    computed(reader)
    words = tuple(tuple("Norrland" if w == "Velmark" else w for w in s) for s in EXAMPLE.sentences)
    entities = tuple(
        replace(e, mentions=tuple(replace(m, name=m.name.replace("Velmark", "Norrland")) for m in e.mentions))
        for e in EXAMPLE.entities
    )
    assert facts(reader) == said("dre_mir", Document("new", words, entities))
    assert any("Norrland" in fact for fact in facts(reader))


def test_words_are_struck_by_keyboard(reader, page):
    first = reader.locator(".dw-line").nth(1).locator(".dw-strike").first
    first.focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    computed(reader)
    assert reader.locator(".dw-strike[aria-pressed=true]").all_inner_texts() == ["is"]
    assert page.evaluate("document.activeElement.textContent") == "is"


def test_an_own_text_is_read_as_the_module_reads_it(reader):
    text = "[Clara|PER|1] was born in [Selmouth|LOC|2] . [Selmouth|LOC|2] lies in [Velmark|LOC|3] ."
    reader.get_by_text("Write your own document").click()
    area = reader.locator("textarea")
    area.fill(text)
    reader.get_by_text("facts in your text").wait_for()
    computed(reader)
    assert facts(reader) == said("dre_mir", from_text(text))
    area.fill("[Clara|PER] sang .")
    reader.get_by_text("does not have three parts").wait_for()
    assert facts(reader) == said("dre_mir", from_text(text))


def test_text_of_a_reader_stays_text(reader, page):
    page.evaluate("window.hit = 0")
    nasty = "<img src=x onerror=window.hit=1></script><script>window.hit=1</script>"
    reader.get_by_label("New name").fill(nasty[:59])
    reader.get_by_role("button", name="Rename").click()
    computed(reader)
    reader.get_by_text("Write your own document").click()
    reader.locator("textarea").fill(f"[{nasty}|PER|1] met [Bo|<b>x</b>|2] .")
    reader.get_by_text("in your text").wait_for()
    computed(reader)
    assert reader.locator("img, script, b").count() == 0
    assert page.evaluate("window.hit") == 0


def test_the_last_of_many_changes_wins(reader, page):
    for k in (0, 1, 2, 1):
        reader.locator(".dw-line button.dw-small").nth(k).click()
    page.wait_for_function("!document.querySelector('.dw[aria-busy]')")
    computed(reader)
    kept = without(without(EXAMPLE, 2), 0)
    assert len(facts(reader)) == len(said("dre_mir", kept))


def test_without_the_files_the_stored_answers_stand(page, tmp_path):
    root = shown(page, Reader({"dre_mir": docre_lite.load("dre_mir")}, EXAMPLE), tmp_path)
    root.get_by_text("could not be loaded").wait_for()
    assert root.locator(".dw-sign").inner_text() == "stored"
    assert facts(root) == said("dre_mir", EXAMPLE)


def test_a_change_made_before_the_files_fail_is_taken_back(page, tmp_path):
    root = shown(page, Reader({"dre_mir": docre_lite.load("dre_mir")}, EXAMPLE), with_models(tmp_path))
    computed(root)
    root.locator(".dw-line button.dw-small").nth(1).click()
    computed(root)
    for torn in ("", "globalThis.docreFiles.dre_mir = {"):
        (tmp_path / "_static" / "models" / "dre_mir.js").write_text(torn)
        page.reload()
        root.locator(".dw-line button.dw-small").nth(1).evaluate("button => button.click()")
        root.get_by_text("dre_mir.js is damaged").wait_for()
        assert facts(root) == said("dre_mir", EXAMPLE)
        assert not root.locator(".dw-editor").is_visible() and root.locator(".dw-mention").count() > 0
        assert root.get_attribute("aria-busy") is None


def test_a_change_taken_back_before_its_answer_has_none(reader, page):
    strike = reader.locator(".dw-line button.dw-small")
    strike.nth(0).click()
    computed(reader)
    before = facts(reader)
    page.evaluate("() => { for (const _ of 'ab') document.querySelectorAll('.dw-line .dw-small')[1].click(); }")
    page.wait_for_function("!document.querySelector('.dw[aria-busy]')")
    asked = "(doc) => globalThis.docreThinker('test', 'dre_mir', doc).then(() => true)"
    assert page.evaluate(asked, document_data(generate("test", 1)[0]))  # what was asked before is answered by now
    computed(reader)
    assert facts(reader) == before


def test_a_worker_that_stops_is_replaced(page, tmp_path):
    page.add_init_script(
        "const W = Worker; globalThis.Worker = function (url) { return globalThis.last = new W(url); };"
    )
    model = docre_lite.load("atlop")
    root = shown(page, Reader({"atlop": model}, EXAMPLE), with_models(tmp_path))
    computed(root)
    page.evaluate("() => { globalThis.last.terminate(); globalThis.last.onerror(); }")
    root.locator(".dw-line button.dw-small").nth(0).click()
    computed(root)
    assert len(facts(root)) == len(said("atlop", without(EXAMPLE, 0)))


def test_ones_own_model_is_not_taken_for_the_pages(page, tmp_path):
    with_models(tmp_path)
    model = tiny("atlop", [EXAMPLE])
    root = shown(page, Reader({"mine": model}, EXAMPLE), tmp_path)
    assert root.locator(".dw-editor").count() == 0 and root.locator(".dw-sign").inner_text() == "stored"
    changed_weights = docre_lite.load("atlop")
    changed_weights.classifier.bilinear.bilinear.bias.data[3] += 1
    assert "live" not in Reader({"mine": changed_weights}, EXAMPLE).data


TEXTS = [
    "[Marie Curie|PER|1] was born in [Warsaw|LOC|2]. She (Dr. [Curie|PER|1]) won 1,000.50 kr. in 1903!",
    "# A title\n[[Paris|LOC|2] Opera|ORG|3] opened on [5 May|TIME|t]. It isn't far, e.g. from [St. Denis|LOC|Q2].",
    r"A \[bracket\] and a [bar \| inside|ORG|1] . [J. Smith|PER|4] \"met\" him...",
    "“[Élodie|PER|5]” said? yes. Then [it|MISC|1] is 3.5 m.",
    "[Émile Zola|PER|1] [in Zürich|LOC|2]\nund [ Bern |LOC|3]. [U.S.A.|LOC|4]",
    "v. [Zola|PER|1]'s [x] 'quotes'. 東京 [東京|LOC|6]。",
    "\ufeff[[Bern|LOC|1]|LOC|1] \x1c[\u2028Ulm\x85|LOC|\ufeff2]. ªb ½.½. _\u0345a",
    "[J|PER|1] ’ſ\r\n[😀 e\u0301|PER|constructor] No. X!",
]
REFUSED = [
    "[Bern|LOC|1] lies\n\x85 \nin [Ulm|LOC|2]",
    "# A title\r\n\r\n[Bern|LOC|1]",
    "# [Bern|LOC|1]",
    "[\x1c|LOC|1] lies",
    "[Bern|LOC",
]


@pytest.mark.parametrize("text", TEXTS)
def test_marked_up_text_is_read_alike(text, page, tmp_path):
    scripted(page)
    found, document = page.evaluate("(text) => fromText(text)", text), from_text(text)
    assert [tuple(s) for s in found["sentences"]] == list(document.sentences)
    known = document_data(document)
    order = ("sentence", "start", "end", "entity", "type")
    assert sorted(tuple(m[k] for k in order) for m in found["mentions"]) == sorted(
        tuple(m[k] for k in order) for m in known["mentions"]
    )
    assert (found["names"], found["types"]) == (known["names"], known["types"])


def scripted(page) -> None:
    """A page with what all widgets share, and nothing else."""
    page.set_content("<title>x</title>")
    page.add_script_tag(content="".join((FOLDER / name).read_text(encoding="utf-8") for name in ("base.js", "live.js")))


@pytest.mark.parametrize("text", REFUSED)
def test_marked_up_text_is_refused_alike(text, page):
    with pytest.raises(DataError):
        from_text(text)
    scripted(page)
    said = page.evaluate("(text) => { try { fromText(text); } catch (error) { return error.message; } }", text)
    assert said and len(said) < 120


def test_a_document_written_out_is_read_back(page):
    scripted(page)
    odd = Document(
        "odd",
        (("#", "1", "[x]", "|", "a\\"), ("End", "\\", ".")),
        (Entity((Mention("a\\", 0, 4, 5, "PER"),)), Entity((Mention("End \\", 1, 0, 2, "LOC"),))),
    )
    assert page.evaluate("(doc) => fromText(toText(doc)).names", document_data(odd)) == ["a\\", "End \\"]
    blank = document_data(odd) | {"sentences": [["#", "1"], [], ["b"]], "mentions": []}
    assert page.evaluate("toText", blank) == "# odd\n# 1\nb"
    for document in [EXAMPLE, *generate("test", 5)]:
        given = document_data(document)
        back = page.evaluate("(doc) => fromText(toText(doc))", given)
        assert back["sentences"] == given["sentences"], document.title
        order = ("sentence", "start", "end", "entity")
        one, two = (sorted(tuple(m[k] for k in order) for m in d["mentions"]) for d in (back, given))
        assert one == two
        assert back["names"] == given["names"] and back["types"] == given["types"]


def test_a_page_sets_words_as_the_package_does(page):
    scripted(page)
    lines = [list(s) for d in generate("test", 3) for s in d.sentences]
    lines += [line.split() for line in ("a \" b \" ( c , d ) , e's n't 5 % “ f ” .", "' x ' - y", "( ( z ) ) ?!", "")]
    assert page.evaluate("(lines) => lines.map(gaps)", lines) == [gaps(line) for line in lines]
    given = document_data(EXAMPLE)
    written = page.evaluate("toText", given)
    assert written.startswith("The writer [Clara Ramvik|PER|1] was born in [Selmouth|LOC|2], which")


def test_a_kernel_is_asked_for_the_changed_document():
    given = document_data(EXAMPLE)
    mentions = [m for m in given["mentions"] if m["sentence"] == 0]
    made = {"title": "x", "sentences": given["sentences"][:1], "mentions": mentions, "types": given["types"][:3]}
    document = changed(EXAMPLE, {"change": {"document": made}})
    assert document.sentences == EXAMPLE.sentences[:1]
    assert [e.name for e in document.entities] == [e.name for e in EXAMPLE.entities[:3]]
    assert changed(EXAMPLE, {"change": None}) is EXAMPLE


def test_pairs_that_are_not_to_be_classified_stay_out(page):
    document = replace(EXAMPLE, triples=(), candidates=frozenset({(0, 1), (1, 0), (0, 3)}))
    scripted(page)
    change = {"names": {"1": "Somewhere"}, "sentences": [0]}
    made = page.evaluate("([doc, change]) => changed(doc, change)", [document_data(document), change])
    now = {e: k for k, e in enumerate(made["from"])}
    want = {(now[h], now[t]) for h, t in document.candidates if h in now and t in now}
    assert want and {tuple(pair) for pair in made["candidates"]} == want
    assert changed(document, {"change": {"document": made}}).candidates == want
    assert "candidates" not in page.evaluate(
        "([doc, change]) => changed(doc, change)", [document_data(EXAMPLE), change]
    )


def test_a_document_too_large_for_a_page_is_refused():
    model = docre_lite.load("atlop")
    for large in (
        replace(EXAMPLE, entities=EXAMPLE.entities[:1] * (ENTITIES + 1)),
        replace(EXAMPLE, sentences=(*EXAMPLE.sentences, ("x",) * WORDS)),
    ):
        with pytest.raises(ValueError, match="a page reads up to") as error:
            whole_page(model, large, "Large")
        assert "\n" not in str(error.value)
    assert f"words: {WORDS}, entities: {ENTITIES}" in (FOLDER / "live.js").read_text(encoding="utf-8")


def test_a_whole_page_thinks_by_itself(page, tmp_path):
    file = tmp_path / "ask.html"
    file.write_text(whole_page(docre_lite.load("paee"), EXAMPLE, "Ask <me>"), encoding="utf-8")
    assert file.stat().st_size < 3_500_000
    page.goto(file.as_uri())
    root = page.locator(".dw[data-ready]")
    computed(root)
    assert facts(root) == said("paee", EXAMPLE)
    assert page.title() == "Ask <me>" and violations(page) == [] and page.problems == []
