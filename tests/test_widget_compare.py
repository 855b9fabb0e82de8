"""The model comparer against the scores of `evaluate`: filters, choice of a fact by click and key, what is said."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import compared, computed, guesses, shipped, shown, violations, with_models
from small import made, tiny

from docre_lite.corpus import generate, running_example
from docre_lite.evaluate import score
from docre_lite.model import trained
from docre_lite.predict import predict
from docre_lite.types import Triple
from docre_lite.widgets import ModelComparer
from docre_lite.widgets.base import FOLDER, changed, document_data


@pytest.fixture(scope="module")
def documents():
    return [running_example(), *generate("test", 2)]


def said(root) -> list[str]:
    return root.locator("figcaption").all_inner_texts()


def test_compare_scores_are_those_of_evaluate(page, documents, tmp_path):
    root = shown(page, compared(*documents), tmp_path)
    for k, document in enumerate(documents):
        root.get_by_label("Document").select_option(str(k))
        for text, keep in zip(said(root), (2, 3), strict=True):
            found = guesses(document, keep)
            s = score(found, [document])
            hit, claimed = len(set(found) & set(document.triples)), len(set(found))
            wrong, missed = claimed - hit, len(document.triples) - hit
            assert f"F1 {100 * s.f1:.1f} %" in text
            assert [int(w) for w in text.replace("✓", " ").replace("✗", " ").replace("○", " ").split()[-3:]] == [
                hit,
                wrong,
                missed,
            ]
    assert page.problems == []


def test_compare_filters_leave_the_right_facts(page, documents, tmp_path):
    document = max(documents, key=lambda d: sum(t.depth > 0 for t in d.triples))
    root = shown(page, compared(document), tmp_path)
    facts = root.locator("tbody tr")
    one, two = (set(guesses(document, keep)) for keep in (2, 3))
    every = one | two | set(document.triples)
    together = {t for t in every if document.same_sentence(t.head, t.tail)}
    composed = {t for t in document.triples if t.depth}
    assert composed and together and every - together
    assert facts.count() == len(every)
    root.get_by_label("within a sentence").check()
    assert facts.count() == len(together)
    root.get_by_label("across sentences").check()
    assert facts.count() == len(every - together)
    before = root.locator(".dw-maps").screenshot()
    root.get_by_label("composed").check()
    assert facts.count() == len(composed)
    assert root.locator(".dw-maps").screenshot() != before
    for text, claims in zip(said(root), (one, two), strict=True):
        assert f"recall {100 * len(claims & composed) / len(composed):.1f} %" in text
    root.get_by_label("all", exact=True).check()
    root.get_by_label("disagree", exact=True).check()
    assert facts.count() == len(one ^ two)
    root.get_by_label("agree", exact=True).check()
    assert facts.count() == len(every - (one ^ two))


def test_compare_a_fact_is_found_in_the_text(page, documents, tmp_path):
    root = shown(page, compared(documents[0]), tmp_path)
    document, names = documents[0], [entity.name for entity in documents[0].entities]
    inferred = next(t for t in document.triples if t.premises)
    fact = f"{names[inferred.head]} → {names[inferred.tail]}: {inferred.relation}"
    root.get_by_role("button", name=fact, exact=True).click()
    status = root.locator(".dw-status").inner_text()
    assert status.startswith(f"{names[inferred.head]} {inferred.relation} {names[inferred.tail]}, ")
    for head, relation, tail in inferred.premises:
        assert f"{names[head]} {relation} {names[tail]}" in status
    for role, entity in (("head", inferred.head), ("tail", inferred.tail)):
        marked = root.locator(f".dw-mention[data-role='{role}']")
        assert {m.get_attribute("data-entity") for m in marked.all()} == {str(entity)}
    lit = [
        k for k, line in enumerate(root.locator(".dw-sentence").all()) if line.get_attribute("data-evidence") == "true"
    ]
    assert lit == sorted(inferred.evidence)
    page.keyboard.press("ArrowDown")
    assert root.locator(".dw-status").inner_text() != status
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.keyboard.press("ArrowUp")
    assert root.locator(".dw-status").inner_text() == status


def test_compare_asks_the_models_again(documents):
    model = tiny("atlop", documents)
    widget = ModelComparer.of({"one": model, "two": model}, documents)
    widget.state = {**widget.state, "document": 1}
    expected = [[t.head, t.relation, t.tail, round(t.score, 2)] for t in predict(model, documents[1:2])]
    assert widget.answer["claims"] == [expected, expected]
    assert expected and widget.data["models"][1]["claims"][1] == expected


@pytest.fixture(scope="module")
def five(documents):
    return ModelComparer.of({name: shipped(name) for name in trained()}, documents)


@pytest.fixture
def comparer(page, five, tmp_path):
    """The five models in a page that computes, with the controls for changes open."""
    with_models(tmp_path)
    root = shown(page, five, tmp_path)
    computed(root)
    root.locator("summary", has_text="Change the document").click()
    return root


def changed_too(page, document, change):
    """The document with a change, as the page's own script makes it, and the change."""
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in ("base.js", "live.js"))
    run = "([script, given, change]) => new Function(`${script}\nreturn changed;`)()(given, change)"
    change = {**change, "document": page.evaluate(run, [script, document_data(document), change])}
    return changed(document, {"change": change}), change


def found(models, document, left=None) -> list[set]:
    """What each model finds, entities in the numbers of before."""
    left = left or list(range(len(document.entities)))
    return [{(left[t.head], t.relation, left[t.tail]) for t in predict(m, [document])} for m in models]


def signs(root) -> dict[str, list[str]]:
    rows = root.locator(".dw-facts tbody tr").all()
    return {row.locator("th").inner_text(): row.locator(".dw-cell").all_inner_texts() for row in rows}


def test_compare_a_struck_sentence_and_what_each_model_loses(page, comparer, documents):
    document, models = documents[0], [shipped(name) for name in trained()]
    names = [entity.name for entity in document.entities]
    comparer.locator("[data-key='s0']").click()
    comparer.locator("[data-key='w75']").click()  # and a word of the last one
    computed(comparer)
    shorter, change = changed_too(page, document, {"sentences": [0], "words": [75]})
    before, now = found(models, document), found(models, shorter, change["document"]["from"])
    assert any(b - n for b, n in zip(before, now, strict=True))
    expected = {}
    for h, r, t in set().union(*before, *now):
        fact = (h, r, t)
        mark = {(True, True): "✓", (False, True): "+", (True, False): "−", (False, False): ""}
        expected[f"{names[h]} → {names[t]}: {r}"] = [
            mark[fact in b, fact in n] for b, n in zip(before, now, strict=True)
        ]
    assert {fact.split(" (")[0]: cells for fact, cells in signs(comparer).items()} == expected
    for text, b, n in zip(said(comparer), before, now, strict=True):
        assert f"{len(n)} found\n✓ {len(b & n)}, + {len(n - b)}, − {len(b - n)}" in text
    status = comparer.locator(".dw-status").inner_text()
    for name, b, n in zip(trained(), before, now, strict=True):
        assert not b - n or f"{name} " in status and f"loses {len(b - n)}" in status
    assert comparer.locator("thead th").all_inner_texts()[1] == "gold before"
    comparer.get_by_role("button", name="Put everything back").click()
    computed(comparer)
    assert "F1" in said(comparer)[0] and comparer.locator("thead th").all_inner_texts()[1] == "gold"
    assert page.problems == []


def test_compare_a_changed_document_is_accessible_and_fits_a_phone(page, comparer):
    page.set_viewport_size({"width": 390, "height": 800})
    comparer.locator("[data-key='w11']").click()
    computed(comparer)
    comparer.locator(".dw-fact").nth(3).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
    page.evaluate(
        "document.documentElement.dataset.theme = 'dark'; document.body.style = 'background: #111; color: #eee'"
    )
    assert violations(page, "color-contrast") == []


def test_compare_another_name_leaves_gold_what_it_is(page, comparer, documents):
    comparer.get_by_label("Entity", exact=True).select_option("6")
    comparer.get_by_role("button", name="Hide its name").click()
    computed(comparer)
    document, _ = changed_too(page, documents[0], {"names": {"6": "[UNK]"}})
    for text, name in zip(said(comparer), trained(), strict=True):
        claims = [Triple(documents[0].title, t.head, t.relation, t.tail) for t in predict(shipped(name), [document])]
        assert f"F1 {100 * score(claims, documents[:1]).f1:.1f} %" in text
    assert any("[UNK]" in fact for fact in signs(comparer))


def test_compare_of_a_text_of_ones_own_nobody_knows_the_gold(page, comparer, documents):
    own = "[Ann Bell|PER|1] was born in [Orby|LOC|2]. [Ann|PER|1] married [Tom Bell|PER|3]."
    comparer.get_by_label("composed").check()
    comparer.get_by_text("Write your own document").click()
    comparer.get_by_label("Mark each name").fill(own)
    comparer.locator(".dw-status", has_text="Your text").wait_for()
    document, _ = changed_too(page, documents[0], {"text": own})
    names = [entity.name for entity in document.entities]
    claims = found([shipped(name) for name in trained()], document)
    expected = {
        f"{names[h]} → {names[t]}: {r}": ["✓" if (h, r, t) in one else "" for one in claims]
        for h, r, t in set().union(*claims)
    }
    assert expected and signs(comparer) == expected
    first = comparer.locator(".dw-facts tbody tr").first
    assert first.locator("td").first.inner_text() == f"{first.locator('.dw-hit').count()} of 5"
    assert "F1" not in "".join(said(comparer))
    assert comparer.get_by_label("composed").is_hidden()
    comparer.get_by_label("Document").select_option("1")
    assert comparer.locator(".dw-status").inner_text().startswith(documents[1].title)


def test_compare_loads_no_model_before_it_is_in_view(page, five, tmp_path):
    asked = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[-1]))
    with_models(tmp_path)
    root = shown(page, five, tmp_path, above="<div style='height: 4000px'></div>")
    page.wait_for_timeout(300)
    assert not [name for name in asked if name.endswith(".js")]
    root.scroll_into_view_if_needed()
    computed(root)
    assert {f"{name}.js" for name in ("engine", "encoder", *trained())} <= set(asked)


def test_compare_a_kernel_reads_the_changed_document(page, documents, five):
    page.goto("about:blank")
    document, change = changed_too(page, documents[0], {"sentences": [0], "names": {"4": "Georg Tann"}})
    five.state = {**five.state, "document": 0, "change": change}
    claims = [
        [[t.head, t.relation, t.tail, round(t.score, 2)] for t in predict(shipped(n), [document])] for n in trained()
    ]
    assert five.answer["claims"] == claims
    five.state = {**five.state, "change": None}


def test_compare_changes_need_models(page, documents, tmp_path):
    assert shown(page, compared(*documents), tmp_path).locator(".dw-change").count() == 0
    model = tiny("atlop", documents)
    own = ModelComparer.of({"mine": model, "shipped": shipped("atlop")}, documents)
    assert "live" not in own.data  # the page has but one of the two
    assert shown(page, own, tmp_path).locator(".dw-change").count() == 0


def test_compare_refuses_what_it_cannot_place():
    document = made("known", 4)
    with pytest.raises(ValueError, match="nothing to compare"):
        ModelComparer([], {})
    with pytest.raises(ValueError, match="same title"):
        ModelComparer([document, document], {"one": []})
    with pytest.raises(KeyError, match="one: a triple of 'other'"):
        ModelComparer([document], {"one": [Triple("other", 0, "r", 1)]})
