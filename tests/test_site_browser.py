"""The built book in a browser: no error, no request outside, accessible in both themes, nothing wider than a phone.

`make test` builds it first. What axe-core finds in the theme itself stands in `axe_baseline.json`, rule by rule with a
reason; the list may only shrink: an entry that the bibliography, where all of them occur, does not match fails the
last test.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from conftest import ROOT
from seen import violations

SITE = Path(os.environ.get("DOCRE_SITE", ROOT / "_build" / "html"))
PAGES = sorted(p.relative_to(SITE) for p in SITE.rglob("*.html") if "_static" not in p.parts) if SITE.is_dir() else []
BASELINE = json.loads((Path(__file__).parent / "axe_baseline.json").read_text(encoding="utf-8"))

if not PAGES:
    pytest.skip("no built book here; `make test` builds it and runs these tests", allow_module_level=True)
# Colours on their way to the other theme are no fault; what turns for ever is not waited for.
SETTLED = """Promise.allSettled(document.getAnimations()
    .filter((a) => a.effect?.getComputedTiming().endTime < Infinity).map((a) => a.finished))"""


# Tables must fit where there is room; on a phone they may scroll, but nothing of them is cut off.
CLIPPED = """(may) => [...document.querySelectorAll("article table")].filter((table) => {
    let box = table.parentElement;
    while (box && getComputedStyle(box).overflowX === "visible") box = box.parentElement;
    if (!box || !table.offsetParent) return false;
    const [inner, outer] = [table.getBoundingClientRect(), box.getBoundingClientRect()];
    const scrolls = may && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
    return outer.right > innerWidth + 1 || (inner.right > outer.right + 1 && !scrolls);
}).map((table) => table.innerText.slice(0, 60))"""
TALLEST = 25_000  # pixels of a page on a phone


def of_the_theme(violation: str) -> bool:
    rule, target = violation.split(": ", 1)
    return any(re.search(pattern, target) for pattern in BASELINE.get(rule, {}).get("targets", ()))


@pytest.mark.parametrize("name", PAGES, ids=str)
def test_a_page_loads_quietly_and_is_accessible(name, page):
    if name.name == "index.html" and len(name.parts) == 1:
        return  # sends the reader on at once
    found = []
    for theme, rules in (("light", ()), ("dark", ("color-contrast",))):  # colours alone differ
        page.emulate_media(color_scheme=theme)
        page.goto((SITE / name).as_uri(), wait_until="load")
        for widget in page.locator(".docre-widget").all():
            widget.locator(".dw[data-ready]").wait_for()
        page.evaluate(SETTLED)
        found += [f"{theme}: {v}" for v in violations(page, *rules) if not of_the_theme(v)]
    assert "\n".join(page.problems + found) == ""
    page.set_viewport_size({"width": 1280, "height": 800})
    assert page.evaluate(CLIPPED, False) == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(CLIPPED, True) == []
    assert page.evaluate("document.documentElement.scrollHeight") < TALLEST


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_long_code_unfolds_on_a_phone_and_figures_follow_the_theme(theme, page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=theme)
    page.goto((SITE / "chapters" / "05_docunet.html").as_uri(), wait_until="load")
    button = page.locator(".docre-unfold:visible").first
    code = button.locator("xpath=preceding-sibling::*[1]")
    assert button.is_visible() and (before := code.bounding_box()["height"]) < 90
    button.click()
    assert button.get_attribute("aria-expanded") == "true" and code.bounding_box()["height"] > before
    figures = page.locator(f"picture.docre-{theme} img")
    assert figures.count() and figures.first.is_visible()
    assert f"-{theme}" in figures.first.evaluate("(image) => image.currentSrc || image.src")
    assert not page.locator(f"picture.docre-{'dark' if theme == 'light' else 'light'} img").first.is_visible()
    assert page.problems == []


def test_the_baseline_holds_nothing_that_is_gone(page):
    page.goto((SITE / "book" / "references.html").as_uri(), wait_until="load")
    matched = {v.split(":")[0] for v in violations(page) if of_the_theme(v)}
    assert sorted(BASELINE) == sorted(matched), "take what no longer occurs out of tests/axe_baseline.json"
