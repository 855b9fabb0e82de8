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
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_baseline_holds_nothing_that_is_gone(page):
    page.goto((SITE / "book" / "references.html").as_uri(), wait_until="load")
    matched = {v.split(":")[0] for v in violations(page) if of_the_theme(v)}
    assert sorted(BASELINE) == sorted(matched), "take what no longer occurs out of tests/axe_baseline.json"
