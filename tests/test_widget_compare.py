"""The model comparer against the scores of `evaluate`: filters, choice of a fact by click and key, what is said."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import compared, guesses, shown
from small import made, tiny

from docre_lite.corpus import generate, running_example
from docre_lite.evaluate import score
from docre_lite.predict import predict
from docre_lite.types import Triple
from docre_lite.widgets import ModelComparer


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


def test_compare_refuses_what_it_cannot_place():
    document = made("known", 4)
    with pytest.raises(ValueError, match="nothing to compare"):
        ModelComparer([], {})
    with pytest.raises(ValueError, match="same title"):
        ModelComparer([document, document], {"one": []})
    with pytest.raises(KeyError, match="one: a triple of 'other'"):
        ModelComparer([document], {"one": [Triple("other", 0, "r", 1)]})
