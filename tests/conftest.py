"""Shared set-up: one torch thread, types and shapes in signatures checked at run time, and the folder of real data."""

from __future__ import annotations

import os
import re
import shutil
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from beartype import BeartypeConf
from beartype.claw import beartype_package
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook
from patience import patience

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)
# From here on every call checks its types, and its shapes too in the modules that name any: to look for shapes makes
# each call dear, and the corpus, which has none, seven times as slow. (In a NamedTuple beartype finds no names that its
# module imports; jaxtyping leaves these classes out.) All this must stand before the package's import.
shaped = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "docre_lite").rglob("*.py"))
    if re.search("jaxtyping|NamedTuple", path.read_text(encoding="utf-8"))
]
beartype_package("docre_lite", conf=BeartypeConf(claw_is_pep526=False, violation_type=TypeError))
install_import_hook(shaped, "beartype.beartype")

# On a busy machine examples are drawn slowly: no fault of a test's.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


# A file's tests run one after the other: files that take long come first, so that none is left over at the end.
LONG = ("site_browser", "processes", "probes", "extract", "killed", "widgets", "widget_live", "train", "corpus", "cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}.py": k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


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
    page.set_default_timeout(1000 * patience(120))
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
