"""The context explorer against the model: shares, choice by click and key, margins."""

from __future__ import annotations

import json
import re

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import computed, shipped, shown, violations, with_models
from small import made, tiny

from docre_lite.corpus import running_example
from docre_lite.predict import margin_of, predict, sentence_shares
from docre_lite.show import starred
from docre_lite.widgets import ContextExplorer
from docre_lite.widgets.base import FOLDER, document_data
from docre_lite.widgets.challenge import one_word, without


@pytest.fixture(scope="module")
def documents():
    return [running_example(), made("other", 5)]


@pytest.fixture(scope="module")
def atlop(documents):
    return tiny("atlop", documents)


def choose(root, label, option):
    root.get_by_label(label, exact=True).select_option(str(option))


def test_context_shares_follow_the_model(page, atlop, documents, tmp_path):
    example = documents[0]
    root = shown(page, ContextExplorer(atlop, example, (0, 3)), tmp_path)
    batch = atlop.batch([example])
    with torch.no_grad():
        pairs, looks = atlop.features(batch), atlop.read(batch)[1][0]
    count = len(example.sentences)

    def said():
        return [int(text.split()[0]) for text in root.locator(".dw-share").all_inner_texts()]

    def expected(weights):
        return (100 * sentence_shares(weights[None], batch.token_sentence[0], count)[0]).tolist()

    assert said() == pytest.approx(expected(pairs.attention[0, 0, 3]), abs=1.1)
    root.get_by_label("Tail entity", exact=True).select_option("6")
    assert said() == pytest.approx(expected(pairs.attention[0, 0, 6]), abs=1.1)
    root.get_by_label("head entity", exact=True).check()
    assert said() == pytest.approx(expected(looks[:, 0].mean(0)), abs=1.1)
    root.get_by_label("tail entity", exact=True).check()
    choose(root, "Attention head", 1)
    assert said() == pytest.approx(expected(looks[1, 6]), abs=1.1)
    assert page.problems == []


def test_context_entities_are_chosen_by_click_and_key(page, atlop, documents, tmp_path):
    root = shown(page, ContextExplorer(atlop, documents[0], (0, 3)), tmp_path)
    before = root.locator(".dw-text").screenshot()
    root.locator(".dw-mention[data-entity='1']").first.click()
    root.locator(".dw-mention[data-entity='4']").first.click()
    names = [entity.name for entity in documents[0].entities]
    assert root.locator(".dw-status").inner_text().startswith(f"{names[1]} → {names[4]}:")
    assert root.locator(".dw-text").screenshot() != before
    root.get_by_label("Head entity", exact=True).focus()
    page.keyboard.press("ArrowDown")
    assert root.locator(".dw-status").inner_text().startswith(f"{names[2]} → {names[4]}:")
    root.get_by_role("button", name="Swap").click()
    assert root.locator(".dw-status").inner_text().startswith(f"{names[4]} → {names[2]}:")


def test_context_margins_are_those_of_the_model(page, atlop, documents, tmp_path):
    root = shown(page, ContextExplorer(atlop, documents[0], (0, 3)), tmp_path)
    with torch.no_grad():
        margin = atlop(atlop.batch([documents[0]])).margin[0, 0, 3]
    rows = root.locator(".dw-bars tr").all()
    assert len(rows) >= 6
    for row in rows:
        relation = row.locator("th").inner_text().split()[0]
        value = float(row.locator("td.dw-value").inner_text().replace("−", "-"))
        assert value == pytest.approx(float(margin[atlop.relations.index(relation)]), abs=0.051)


def test_context_stars_are_drawn_and_carry_the_models_weight(page, documents, tmp_path):
    model, example = shipped("atlop"), documents[0]
    widget = ContextExplorer(model, example, (6, 0))
    root = shown(page, widget, tmp_path)
    with torch.no_grad():
        weights = model.features(model.batch([example])).attention[0, 6, 0, 1:-1].tolist()
    written = root.locator(".dw-word").all_inner_texts()
    assert written == [word for sentence in starred(example).sentences for word in sentence]
    titles = [span.get_attribute("title") for span in root.locator(".dw-word").all()]
    assert [float(title.split()[0]) / 100 for title in titles] == pytest.approx(weights, abs=0.006)
    on_stars = 100 * sum(w for w, word in zip(weights, written, strict=True) if word == "*")
    said = re.search(r"with (\d+) % of the weight on stars", root.locator(".dw-status").inner_text())
    assert int(said[1]) == pytest.approx(on_stars, abs=1.6)
    answer = widget.recompute(dict(widget.state))
    assert 100 * sum(answer["stars"]) == pytest.approx(on_stars, abs=0.1)
    bare = ContextExplorer(tiny("atlop", documents, marker="none"), example, (6, 0))
    assert "*" not in shown(page, bare, tmp_path).locator(".dw-text").inner_text()


def shares(root) -> list[int]:
    return [int(text.split()[0]) for text in root.locator(".dw-share").all_inner_texts() if text]


def rows(root) -> dict[str, tuple[float, ...]]:
    """Each relation's margin, and the one before the change where it is said."""
    found = {}
    for row in root.locator(".dw-bars tr").all():
        said = row.locator("td.dw-value").inner_text().replace("−", "-").replace("(was", "").replace(")", "")
        found[row.locator("th").inner_text().split()[0]] = tuple(map(float, said.split()))
    return found


@pytest.fixture
def explorer(page, tmp_path):
    """The shipped ATLOP on the running document, in a page that computes, with the controls for changes open."""
    with_models(tmp_path)
    root = shown(page, ContextExplorer(shipped("atlop"), running_example(), (6, 0)), tmp_path)
    computed(root)
    root.locator("summary", has_text="Change the document").click()
    return root


def test_context_a_struck_word_moves_what_the_page_shows(page, explorer, documents):
    example, model = documents[0], shipped("atlop")
    names = [entity.name for entity in example.entities]
    challenge = one_word(model, example)
    head, relation, tail = challenge["fact"]
    explorer.get_by_role("button", name="Look at this pair").click()
    assert explorer.locator(".dw-status").inner_text().startswith(f"{names[head]} → {names[tail]}: the model claims")
    explorer.locator(f"[data-key='w{challenge['word']}']").focus()
    page.keyboard.press("Enter")
    computed(explorer)
    shorter = without(example, 0, challenge["word"])  # a word of the first sentence
    said = rows(explorer)
    for name, (now, was) in said.items():
        assert now == pytest.approx(margin_of(model, shorter, head, name, tail), abs=0.051 + 0.01)
        assert was == pytest.approx(margin_of(model, example, head, name, tail), abs=0.051 + 0.01)
    lost = {t.relation for t in predict(model, [example]) if (t.head, t.tail) == (head, tail)}
    lost -= {t.relation for t in predict(model, [shorter]) if (t.head, t.tail) == (head, tail)}
    status = explorer.locator(".dw-status").inner_text()
    assert relation in lost and all(name in status.split("it lost")[1] for name in lost)
    with torch.no_grad():
        batch = model.batch([shorter], labels=False)
        attention = model.features(batch).attention[0, head, tail]
    expected = 100 * sentence_shares(attention[None], batch.token_sentence[0], len(shorter.sentences))[0]
    assert shares(explorer) == pytest.approx(expected.tolist(), abs=1.1)
    assert "situated" not in explorer.locator(".dw-text").inner_text()
    task = explorer.locator(".dw-task")
    assert "Solved" in task.inner_text() and "Strike" not in task.inner_text()
    task.get_by_text("One answer").click()
    assert f"Strike “{example.sentences[0][challenge['word']]}” in sentence 0" in task.inner_text()
    explorer.get_by_role("button", name="Put everything back").click()
    assert all(len(values) == 1 for values in rows(explorer).values())
    assert page.problems == []


OWN = "[Ann Bell|PER|1] was born in [Orby|LOC|2]. [Orby|LOC|2] is a city in [Kalenia|LOC|3]."
CHANGES = {
    "a name": (dict(names={6: "The Golden Gate"}), (6, 0)),
    "a hidden name": (dict(names={0: "[UNK]"}), (6, 0)),
    "the tail's sentences": (dict(sentences=[0, 2, 3]), (None, None)),
    "an own text": (dict(text=OWN), (None, None)),
    "all but one entity": (dict(sentences=[0, 1, 2, 3, 5]), (None, None)),
}


def change_by_hand(root, change):
    for s in change.get("sentences", ()):
        root.locator(f"[data-key='s{s}']").click()
    for entity, name in change.get("names", {}).items():
        choose(root, "Entity", entity)
        if name == "[UNK]":
            root.get_by_role("button", name="Hide its name").click()
        else:
            root.get_by_label("New name").fill(name)
            root.get_by_label("New name").press("Enter")
    if text := change.get("text"):
        root.get_by_text("Write your own document").click()
        root.get_by_label("Mark each name").fill(text)
        root.locator(".dw-text", has_text="Orby").wait_for()


@pytest.mark.parametrize("what", CHANGES)
def test_context_the_page_and_the_kernel_say_the_same_of_a_change(what, page, explorer, tmp_path, documents):
    change, (head, tail) = CHANGES[what]
    change_by_hand(explorer, change)
    computed(explorer)
    status, said, looked = explorer.locator(".dw-status").inner_text(), rows(explorer), shares(explorer)

    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in ("base.js", "live.js"))
    run = "([script, given, change]) => new Function(`${script}\nreturn changed;`)()(given, change)"
    made_of = page.evaluate(run, [script, document_data(documents[0]), change])
    widget = ContextExplorer(shipped("atlop"), documents[0], (6, 0))
    widget.state = {**widget.state, "head": head, "tail": tail, "change": {**change, "document": made_of}}
    answer = '"answer": ' + json.dumps(widget.answer).replace("<", "\\u003c")
    file = tmp_path / "kernel.html"
    html = widget.html().replace('"answer": {}', answer)
    file.write_text(f"<meta charset=utf-8>{html}", encoding="utf-8")
    page.goto(file.as_uri())
    page.wait_for_selector(".dw[data-ready]")
    root = page.locator(".dw")
    words = re.compile(r"[−+]?\d+(\.\d)?")
    assert words.sub("", root.locator(".dw-status").inner_text()) == words.sub("", status)
    by_kernel = rows(root)
    assert by_kernel.keys() == said.keys()
    for name, values in by_kernel.items():
        assert values == pytest.approx(said[name], abs=0.11)
    assert shares(root) == pytest.approx(looked, abs=1.1)
    if what == "all but one entity":
        assert "no pair to look at" in status and not said


def test_context_a_changed_document_is_accessible_and_fits_a_phone(page, explorer):
    page.set_viewport_size({"width": 390, "height": 800})
    explorer.locator("[data-key='w11']").click()
    computed(explorer)
    explorer.get_by_text("One answer").click()
    explorer.get_by_text("Write your own document").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
    page.evaluate(
        "document.documentElement.dataset.theme = 'dark'; document.body.style = 'background: #111; color: #eee'"
    )
    assert violations(page, "color-contrast") == []


def test_context_a_pair_that_went_comes_back(explorer):
    status = explorer.locator(".dw-status")
    before = status.inner_text()
    explorer.locator("[data-key='s3']").click()
    computed(explorer)
    assert status.inner_text().startswith("The pair you chose is no longer in the text; the strongest pair now: ")
    assert "→ Clara Ramvik: the model claims" in status.inner_text()  # the tail is still there
    assert "6 The Silent Ferry" not in explorer.get_by_label("Head entity", exact=True).inner_text()
    explorer.locator("[data-key='s3']").click()
    computed(explorer)
    assert status.inner_text() == before


def test_context_a_model_of_ones_own_is_not_asked_in_a_page(page, atlop, documents, tmp_path):
    widget = ContextExplorer(atlop, documents[0])
    assert "live" not in widget.data and widget.data["challenge"] is None
    assert shown(page, widget, tmp_path).locator(".dw-change").count() == 0


def test_context_models_that_do_not_load_leave_what_is_stored(page, tmp_path):
    root = shown(page, ContextExplorer(shipped("atlop"), running_example(), (6, 0)), tmp_path)
    root.locator(".dw-status", has_text="stored answers are shown").wait_for()
    assert root.locator(".dw-change").is_hidden()
    assert "the model claims author" in root.locator(".dw-status").inner_text()


def test_context_refuses_what_it_cannot_show(documents):
    with pytest.raises(ValueError, match="context='off'"):
        ContextExplorer(tiny("atlop", documents, context="off"), documents[0])
    alone = type(documents[0])("alone", documents[0].sentences, documents[0].entities[:1])
    with pytest.raises(ValueError, match="alone: no pair"):
        ContextExplorer(tiny("atlop", documents), alone)
