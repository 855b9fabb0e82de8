"""Widgets in a browser: by mouse and keys, numbers and picture follow; and each script against the module."""

from __future__ import annotations

import base64
import json

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import SAMPLES, sample, shown, violations
from small import made, tiny

import docre_lite.widgets
from docre_lite.widgets import ContextExplorer
from docre_lite.widgets.base import pack

EVERY = sorted(SAMPLES)


@pytest.mark.parametrize("name", EVERY)
def test_a_widget_is_accessible_and_asks_nobody(name, page, tmp_path):
    shown(page, sample(name), tmp_path)
    assert violations(page) == []
    shown(page, sample(name), tmp_path, dark=True)
    assert violations(page, "color-contrast") == []  # colours alone differ
    assert page.problems == []


@pytest.mark.parametrize("name", EVERY)
def test_a_widget_fits_a_phone(name, page, tmp_path):
    page.set_viewport_size({"width": 390, "height": 800})
    shown(page, sample(name), tmp_path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", EVERY)
def test_without_a_script_a_table_or_text_teaches_the_same(name, browser, tmp_path):
    widget = sample(name)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(widget.html())
    assert len(page.locator(".docre-widget").inner_text()) > 100
    context.close()


@pytest.mark.parametrize("name", EVERY)
def test_the_page_and_the_kernel_show_the_same(name, page, tmp_path):
    widget = sample(name)
    assert {"text/html", "application/vnd.jupyter.widget-view+json"} <= set(widget._repr_mimebundle_()[0])
    first = shown(page, widget, tmp_path)
    alone = name == "ThresholdPlayground"  # its script computes everything, whoever else is there
    assert first.locator(".dw-sign").inner_text() == ("computed here" if alone else "stored")
    said = first.locator(".dw-status").inner_text()
    answer = widget.recompute(dict(widget.state))
    if answer is None:
        return
    embedded = widget.html().replace('"answer": {}', '"answer": ' + dumps({"state": dict(widget.state), **answer}))
    (tmp_path / "live.html").write_text(f"<meta charset=utf-8>{embedded}")
    page.goto((tmp_path / "live.html").as_uri())
    page.wait_for_selector(".dw[data-ready]")
    assert page.locator(".dw-sign").inner_text() == "computed here"
    assert page.locator(".dw-status").inner_text() == said


def dumps(content) -> str:
    return json.dumps(content).replace("<", "\\u003c")


def test_every_widget_of_the_package_is_tested():
    assert EVERY == sorted(docre_lite.widgets.__all__)


def test_text_of_a_document_cannot_break_out_of_the_page(page, tmp_path):
    document = made("one")
    nasty = "</script><b>é</b><!--<script>"
    changed = type(document)(
        document.title, ((nasty, *document.sentences[0][1:]), *document.sentences[1:]), document.entities
    )
    root = shown(page, ContextExplorer(tiny("atlop", [document]), changed), tmp_path)
    assert nasty in root.locator(".dw-text").inner_text()
    assert page.locator("b").count() == 0


def test_packed_numbers_are_within_half_a_step():
    values = torch.randn(3, 4)
    packed = pack(values)
    raw = torch.tensor(list(base64.b64decode(packed["bytes"]))).view(3, 4) / 255
    back = packed["low"] + raw * (packed["high"] - packed["low"])
    assert (back - values).abs().max() <= (packed["high"] - packed["low"]) / 255 / 2 + 1e-6
