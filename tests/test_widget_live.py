"""A widget in JupyterLab with a real kernel: what is dragged, the model recomputes."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from conftest import ROOT
from patience import patience

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")
pytest.importorskip("jupyterlab", reason="no JupyterLab here: pip install -e '.[test]'")

CELL = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from docre_lite.corpus import running_example
from docre_lite.widgets import ContextExplorer
from small import tiny
example = running_example()
ContextExplorer(tiny("atlop", [example]), example, (0, 3))
"""


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab of its own with one notebook; its address."""
    cell = nbformat.v4.new_code_cell(CELL.format(root=str(ROOT), tests=str(ROOT / "tests")))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / "live.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    options = {
        "ServerApp.port": port, "ServerApp.root_dir": str(tmp_path), "IdentityProvider.token": token,
        "ServerApp.ip": "127.0.0.1", "ServerApp.open_browser": False, "ServerApp.allow_root": True,
        "LabApp.news_url": None, "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(nest(options)))
    homes = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", f"--config={tmp_path / 'config.json'}"],
        env=os.environ | homes, stdout=(tmp_path / "log").open("w"), stderr=subprocess.STDOUT, cwd=tmp_path,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/api?token={token}", timeout=patience(5)).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
        yield f"{address}/lab/tree/live.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(patience(60))


def nest(options: dict) -> dict:
    nested: dict = {}
    for name, value in options.items():
        kind, trait = name.split(".")
        nested.setdefault(kind, {})[trait] = value
    return nested


def test_the_kernel_recomputes_what_is_chosen(lab, page):
    page.goto(lab)
    prompt, until = page.locator(".jp-CodeCell .jp-InputPrompt").first, time.monotonic() + patience(120)
    while not re.search(r"[*\d]", prompt.inner_text()):  # what is pressed before the kernel is up is lost
        assert time.monotonic() < until
        if page.locator(".jp-Dialog").count():  # which says that the kernel is not up, and lies over the cell
            page.keyboard.press("Escape")
        page.locator(".jp-CodeCell .cm-content").first.focus()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(1000)
    root = page.locator(".dw[data-ready]")
    root.wait_for()
    assert root.count() == 1  # the view of the kernel's widget, and not the page's copy beside it
    assert root.locator(".dw-sign").inner_text() == "stored"
    before = root.locator(".dw-share").all_inner_texts()
    root.get_by_label("Tail entity", exact=True).select_option("6")
    root.locator(".dw-sign[data-live='true']").wait_for()
    assert root.locator(".dw-sign").inner_text() == "by your kernel"
    assert root.locator(".dw-share").all_inner_texts() != before
    root.get_by_label("head entity", exact=True).check()
    root.locator(".dw-sign[data-live='true']").wait_for()
