"""The repository itself: clean notebooks, a table of contents that holds, one list of dependencies, no strays."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib import import_module
from types import ModuleType

import nbformat
import pytest
import yaml
from conftest import ROOT

PROJECT = "https://github.com/docre-lite/docre-lite"


def tracked() -> list[str]:
    """Files under version control; none where there is no version control."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def notebooks() -> list[str]:
    return [name for name in tracked() if name.endswith(".ipynb")]


def toc_files(node) -> list[str]:
    """Every `file` and `root` of the table of contents, at any depth."""
    if isinstance(node, dict):
        return [v for k, v in node.items() if k in ("file", "root")] + toc_files(list(node.values()))
    return [name for child in node for name in toc_files(child)] if isinstance(node, list) else []


def test_table_of_contents_and_chapters_agree():
    files = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    assert len(files) == len(set(files))
    for name in files:
        assert any((ROOT / f"{name}{ending}").exists() for ending in (".md", ".ipynb")), f"{name} is in _toc.yml only"
    missing = {name.removesuffix(".ipynb") for name in notebooks()} - set(files)
    assert not missing, f"not in _toc.yml: {missing}"


@pytest.mark.parametrize("name", notebooks())
def test_notebook_is_clean(name):
    book = nbformat.read(ROOT / name, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "strip it: make format"
    assert set(book.metadata) <= {"kernelspec"}, "strip it: make format"
    ids = [cell.id for cell in book.cells]
    assert len(ids) == len(set(ids))
    titles = [c.source for c in book.cells if c.cell_type == "markdown" and re.match(r"# ", c.source)]
    assert len(titles) == 1 and book.cells[0].source.startswith("# "), "one title, in the first cell"
    assert "google.colab" in code[0].source and PROJECT in code[0].source, "first code cell: the install cell for Colab"
    assert "hide-input" in code[0].metadata.get("tags", [])
    for cell in book.cells:
        for address in re.findall(r"https?://[^\s)\"'>`]+", cell.source):
            assert address.startswith(PROJECT), f"a chapter must work without a network: {address}"


def test_every_dependency_is_listed_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = [re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for entries in lists for line in entries]
    assert sorted(names) == sorted(set(names))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    unpinned = [name for name in names if not re.search(rf"^{re.escape(name)}==", pins, re.MULTILINE)]
    assert not unpinned, f"not in constraints.txt: {unpinned}"


def test_environment_repeats_nothing():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert [line for line in lines if isinstance(line, str)] == ["python=3.12", "pip"]
    assert lines[-1] == {"pip": ["-e .[book]"]}


def test_no_stray_words():
    """No path of somebody's machine, no pickle, nothing that calls a network host at build time."""
    forbidden = {
        "a path of one machine": re.compile("/" + r"(?:work|tmp|root)/\w|/" + r"home/\w"),
        "pickle": re.compile("import " + r"pickle|pickle" + r"\.loads?\(|allow_" + "pickle=True"),
        "torch.load without weights_only": re.compile(r"torch\.load" + r"\((?![^)]*weights_only=True)"),
    }
    if not tracked():
        pytest.skip("not a git checkout")
    for name in tracked():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, pattern in forbidden.items():
            found = pattern.search(text)
            assert not found, f"{name}: {what}: {found[0]!r}"


def test_data_files_are_json():
    for name in tracked():
        if name.endswith((".json", ".ipynb")):
            json.loads((ROOT / name).read_text(encoding="utf-8"))


def test_version_is_one(monkeypatch):
    import docre_lite

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert docre_lite.__version__ == project["version"] == citation["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_public_names_exist():
    import docre_lite

    for name in docre_lite.__all__:
        import_module(f"docre_lite.{docre_lite._MODULE.get(name, 'types')}")
        assert not isinstance(getattr(docre_lite, name), ModuleType), f"{name} is hidden by the module of that name"
    with pytest.raises(AttributeError, match="docre_lite has no 'Documents'"):
        docre_lite.Documents  # noqa: B018
