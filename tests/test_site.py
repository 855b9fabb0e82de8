"""The built book, page by page: links, alt texts, ids, weight, nothing from outside. `make test` builds it first."""

from __future__ import annotations

import json
import os
import re
import struct
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import torch
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT

SITE = Path(os.environ.get("DOCRE_SITE", ROOT / "_build" / "html"))
PAGES = sorted(p.relative_to(SITE) for p in SITE.rglob("*.html") if "_static" not in p.parts) if SITE.is_dir() else []
GENERATED = {"genindex.html", "search.html"}  # by the theme
WRITTEN = [p for p in PAGES if p.name not in GENERATED and p != Path("index.html")]  # index.html is a redirect
CHAPTERS = [p for p in PAGES if (ROOT / p.with_suffix(".ipynb")).exists()]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
ADDRESS, PROJECT = CONFIG["html"]["baseurl"], CONFIG["repository"]["url"]
HEAVIEST = 1_000_000  # bytes of HTML. Figures lie beside it; a widget carries its data and script within

if not PAGES:
    pytest.skip("no built book here; `make test` builds it and runs these tests", allow_module_level=True)


@cache
def page(name: Path) -> BeautifulSoup:
    return BeautifulSoup((SITE / name).read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(name: Path) -> set[str]:
    return {tag["id"] for tag in page(name).find_all(id=True)}


def each_page(test):
    return pytest.mark.parametrize("name", PAGES, ids=str)(test)


def each_chapter(test):
    return pytest.mark.parametrize("name", CHAPTERS, ids=str)(test)


@each_page
def test_links_inside_the_book_resolve(name):
    broken = []
    for tag in page(name).find_all(["a", "link", "img", "script", "source", "iframe"]):
        address = tag.get("href") or tag.get("src")
        if not address or urlsplit(address).scheme or address.startswith("//"):
            continue
        parts = urlsplit(address)
        target = (SITE / name.parent / unquote(parts.path)).resolve() if parts.path else SITE / name
        if not target.exists():
            broken.append(address)
        elif parts.fragment and target.suffix == ".html":
            if unquote(parts.fragment) not in anchors(target.relative_to(SITE.resolve() if parts.path else SITE)):
                broken.append(address)
    assert not broken


@each_page
def test_every_image_says_what_it_shows(name):
    for image in page(name).find_all("img"):
        text = (image.get("alt") or "").strip()
        decoration = image.get("alt") == "" and image.get("role") == "presentation"
        says = len(text) >= 8 and not re.search(r"\.(svg|png|jpe?g|gif)$|^_images", text)
        assert decoration or says, f"{image.get('src')}: alt={text!r}"


@each_page
def test_ids_are_unique_and_language_is_said(name):
    ids = [tag["id"] for tag in page(name).find_all(id=True)]
    twice = {i for i in ids if ids.count(i) > 1}
    assert not twice
    assert page(name).html.get("lang") == "en"


@each_page
def test_nothing_is_loaded_from_outside(name):
    outside = [
        tag.get("src") or tag.get("href")
        for tag in page(name).find_all(["script", "link", "img", "iframe", "source", "video", "audio"])
        if (tag.get("src") or tag.get("href") or "").startswith(("http:", "https:", "//"))
        and tag.get("rel") != ["canonical"]
    ]
    assert not outside
    for style in page(name).find_all("style"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", style.get_text())


@pytest.mark.parametrize("name", [p for p in PAGES if p != Path("index.html")], ids=str)
def test_a_policy_allows_nothing_from_outside(name):
    [policy] = page(name).find_all("meta", attrs={"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    inside = {"'self'", "'none'", "file:", "data:", "blob:", "'unsafe-inline'", "'wasm-unsafe-eval'"}
    assert {"default-src", "script-src", "style-src", "worker-src"} <= rules.keys()
    assert set(" ".join(rules.values()).split()) <= inside
    scripts = page(name).head.find_all("script")
    assert not scripts or scripts[0] in policy.find_all_next("script")  # stated before anything is run


def test_models_lie_beside_the_pages_and_are_asked_for_by_widgets_alone():
    files = sorted((SITE / "_static" / "models").iterdir())
    assert [f.stem for f in files] == ["atlop", "docre_ii", "docunet", "dre_mir", "encoder", "engine", "paee"]
    assert sum(f.stat().st_size for f in files if f.stem != "engine") <= 4_000_000
    assert not [
        p for p in PAGES if re.search(r"(src|href)=[^>]*_static/models", (SITE / p).read_text(encoding="utf-8"))
    ]


@each_page
def test_frames_have_titles(name):
    assert all(frame.get("title") for frame in page(name).find_all("iframe"))


@each_page
def test_one_title_and_no_level_skipped(name):
    if name not in WRITTEN:
        return
    levels = [int(h.name[1]) for h in page(name).find("article").find_all(re.compile("^h[1-6]$"))]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), levels


@each_page
def test_no_traceback_is_shown(name):
    assert "Traceback (most recent call last)" not in page(name).get_text()


@each_page
def test_pages_stay_light(name):
    assert (SITE / name).stat().st_size <= HEAVIEST


@each_chapter
def test_chapters_open_in_colab_as_plain_notebooks_and_are_edited_as_they_are_written(name):
    links = {a["href"] for a in page(name).find_all("a", href=True)}
    file, project = name.with_suffix(".ipynb"), PROJECT.removeprefix("https://github.com/")
    colab = {link for link in links if "colab.research.google.com" in link}
    assert colab == {f"https://colab.research.google.com/github/{project}/blob/notebooks/{file}"}
    assert f"{PROJECT}/edit/main/{file}" in links


@each_chapter
def test_chapters_are_downloaded_with_their_results(name):
    links = [a["href"] for a in page(name).find_all("a", href=True) if a["href"].endswith(".ipynb")]
    files = {(SITE / name.parent / unquote(link)).resolve() for link in links if not urlsplit(link).scheme}
    assert files == {(SITE / "_sources" / name.with_suffix(".ipynb")).resolve()}
    cells = json.loads(files.pop().read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code) and any(cell["outputs"] for cell in code)


@cache
def plain(name: Path):
    """The notebook behind a page's download button, which Colab opens, too."""
    return nbformat.read(SITE / "_sources" / name.with_suffix(".ipynb"), as_version=4)


def texts(cells) -> list[str]:
    """What readers of these cells see as text, in their order: Markdown, of cells and of what they display."""
    shown = []
    for cell in cells:
        outputs = [out.get("data", {}).get("text/markdown") for out in cell.get("outputs", [])]
        shown += [cell.source] if cell.cell_type == "markdown" else filter(None, outputs)
    return shown


@each_chapter
def test_notebooks_hold_no_myst(name):
    nbformat.validate(plain(name))
    myst = r":::|```\{|~~~\{|(\{|\})[a-z][a-z:]*\}+`|^\([\w-]+\)=|\]\((?!https?:|mailto:)[^)\s]*\)"
    for text in texts(plain(name).cells):
        text = re.sub(r"(?ms)^```python$.*?^```$", "", text)  # the module's own code
        assert not re.search(myst, text, re.MULTILINE), text
    for cell in plain(name).cells:  # what would be displayed again when a reader runs it
        if cell.cell_type == "code":
            assert not re.search(r":::|\b(term|doc|eq|numref|ref|cite:[pt])\}+`|\]\((sec|fig|eq)-", cell.source), (
                cell.id
            )
            compile(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", cell.source), cell.id, "exec")


@each_chapter
def test_solutions_are_folded_in_notebooks(name):
    source = nbformat.read(ROOT / name.with_suffix(".ipynb"), as_version=4)
    folded = [re.findall(r":::\{admonition\} (.+)\n:class: .*dropdown", text) for text in texts(source.cells)]
    text = "\n".join(texts(plain(name).cells))
    summaries = [
        BeautifulSoup(s, "html.parser").get_text() for s in re.findall("<summary><b>(.*?)</b></summary>", text)
    ]
    assert len(summaries) == text.count("<details>") == text.count("</details>") == len(sum(folded, []))
    assert not re.search(r"^(> )*\*\*Solution", text, re.MULTILINE)
    for cell in plain(name).cells:
        if {"hide-input", "remove-input", "hide-cell"} & set(cell.metadata.get("tags", [])):
            assert cell.metadata.cellView == "form" and cell.metadata.jupyter.source_hidden


@each_chapter
def test_equations_have_the_page_s_numbers_in_notebooks(name):
    on_page = [tag.get_text().removesuffix("#") for tag in page(name).find_all(class_="eqno")]
    in_text = [f"({number})" for text in texts(plain(name).cells) for number in re.findall(r"\\tag\{(.+?)\}", text)]
    assert in_text == on_page


@each_chapter
def test_links_of_notebooks_lead_to_pages_that_are_there(name):
    text = "\n".join(texts(plain(name).cells))
    links = set(re.findall(re.escape(ADDRESS) + r"([^)\s\"]+)\)", text))
    assert str(name) in links, "the page itself"
    for link in links:
        file, _, anchor = link.partition("#")
        assert (SITE / file).is_file(), link
        assert not anchor or anchor in anchors(Path(file)), link


@each_chapter
def test_notebooks_install_the_commit_of_the_page(name):
    first = next(cell for cell in plain(name).cells if cell.cell_type == "code")
    commit = re.search(re.escape(PROJECT) + r"/archive/(\S+)\.zip\"", first.source)[1]
    assert re.fullmatch(r"[0-9a-f]{40}|refs/heads/main", commit)  # without version control, what is newest
    about = plain(name).cells[1].source
    assert f"/commit/{commit}" in about if len(commit) == 40 else "the branch `main`" in about


@each_chapter
def test_no_object_is_shown_by_accident(name):
    """A model, a picture's axes, a thing with its address: the value of a last line that was there to do something."""
    outputs = [(cell.id, out) for cell in plain(name).cells if cell.cell_type == "code" for out in cell.outputs]
    for cell, out in outputs:
        if out.output_type == "execute_result" and set(out.data) == {"text/plain"}:
            shown = out.data["text/plain"]
            assert not re.search(r"<[\w.]+[ :(]|\bat 0x[0-9a-f]{6}|^\w+\(\s*\(\w+\): ", shown), f"{cell}: {shown[:80]}"
            assert not isinstance(getattr(torch.nn, shown.split("(")[0], None), type), f"{cell}: {shown[:80]}"


@pytest.mark.parametrize("name", WRITTEN, ids=str)
def test_pages_have_a_public_address_and_a_preview(name):
    head = page(name).head
    assert head.find("link", rel="canonical")["href"] == f"{ADDRESS}{name}"
    said = {tag["property"]: tag["content"] for tag in head.find_all("meta", property=True)}
    assert said["og:url"] == f"{ADDRESS}{name}" and said["og:title"] and said["og:description"]
    assert said["og:image"].startswith(ADDRESS)
    picture = SITE / said["og:image"].removeprefix(ADDRESS)
    assert picture.suffix == ".png" and 0 < picture.stat().st_size <= 150_000


@pytest.mark.parametrize("name", [p for p in CHAPTERS if p.parent == Path("chapters")], ids=str)
def test_a_chapter_has_a_drawing_of_its_own(name):
    said = {tag["property"]: tag["content"] for tag in page(name).head.find_all("meta", property=True)}
    assert said["og:image"] == f"{ADDRESS}_static/drawn/{name.stem}.png" and len(said["og:image:alt"]) >= 30
    header = (SITE / "_static" / "drawn" / f"{name.stem}.png").read_bytes()[:24]
    assert struct.unpack(">II", header[16:]) == (1200, 630)
    listed = page(Path("book/index.html")).find(class_="docre-chapters").find_all("a", href=f"../{name}")
    assert len(listed) == 1
    for theme in ("light", "dark"):
        assert (SITE / "_static" / "drawn" / f"{name.stem}-{theme}.svg").is_file()


def test_figures_come_for_both_themes():
    for name in CHAPTERS:
        pictures = [image["src"] for image in page(name).select(".cell_output picture img")]
        light, dark = ([src for src in pictures if src.endswith(f"-{theme}.svg")] for theme in ("light", "dark"))
        assert [src.replace("-light", "-dark") for src in light] == dark and len(light) + len(dark) == len(pictures)
        for src in dark:
            svg = (SITE / name.parent / src).read_text(encoding="utf-8")
            assert not re.search(r"<!-- [^>]* -->\s*<g transform", svg), f"{src}: plain black"


def test_the_start_page_can_be_shared_by_its_short_address():
    start = page(Path("index.html")).head
    assert start.find("meta", property="og:image")["content"].startswith(ADDRESS)


def test_sitemap_lists_every_page():
    listed = re.findall("<loc>(.*?)</loc>", (SITE / "sitemap.xml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(f"{ADDRESS}{name}" for name in WRITTEN)


def test_start_page_says_how_to_cite():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    entry = page(Path("book/index.html")).find(class_="highlight-bibtex").get_text()
    assert entry.count("{") == entry.count("}") and entry.startswith("@software{docre_lite,")
    for said in (citation["authors"][0]["name"], citation["version"], citation["repository-code"]):
        assert f"{said}}}" in entry


def test_execution_times_name_every_chapter():
    table = page(Path("book/execution.html")).find("article").find("table")
    assert {row.find("a").get_text() for row in table.find("tbody").find_all("tr")} == {
        str(name.with_suffix("")) for name in CHAPTERS
    }
