"""The context explorer against the model: shares, choice by click and key, margins."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import shown
from small import made, tiny

from docre_lite.corpus import running_example
from docre_lite.predict import sentence_shares
from docre_lite.widgets import ContextExplorer


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


def test_context_refuses_what_it_cannot_show(documents):
    with pytest.raises(ValueError, match="context='off'"):
        ContextExplorer(tiny("atlop", documents, context="off"), documents[0])
    alone = type(documents[0])("alone", documents[0].sentences, documents[0].entities[:1])
    with pytest.raises(ValueError, match="alone: no pair"):
        ContextExplorer(tiny("atlop", documents), alone)
