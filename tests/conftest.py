"""Shared set-up: one torch thread, shapes in signatures checked at run time, and the folder of real data."""

from __future__ import annotations

import os
import shutil
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
# From here on every call checks its shapes. The hook must stand before the first import of the package.
install_import_hook("docre_lite", "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def same_weights_in_any_order() -> None:
    """A test's random weights do not hang on the tests that ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with `redocred/` and `cdr/`: $DOCRE_DATA, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("DOCRE_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data here; set DOCRE_DATA to a folder with redocred/ and cdr/")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def processes():
    """Starts processes that have the package imported: cheap ones to kill."""
    context = get_context("forkserver")
    # the last one is what an optimiser imports when it is first made
    context.set_forkserver_preload(["docre_lite.scale.extract", "docre_lite.train", "torch._dynamo"])
    return context.Process


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window: the system's own, or the one that Playwright has fetched."""
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("DOCRE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with api.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=found, args=flags)
        except api.Error:
            pytest.skip("no Chromium here: install the system's package chromium, or run `playwright install chromium`")
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that may ask for files of this machine alone; `page.problems` are its errors and outside requests."""
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.problems = []
    inside = ("file:", "data:", "blob:", "http://localhost", "http://127.0.0.1", "ws://127.0.0.1", "ws://localhost")

    def ask(route):
        if route.request.url.startswith(inside):
            return route.continue_()
        page.problems.append(f"asked for {route.request.url}")
        return route.abort()

    page.route("**/*", ask)
    page.on("console", lambda m: page.problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    page.close()
