"""Plain notebooks: each kind of markup on its own, Sphinx's answers in a small project, Colab's first cell for real."""

from __future__ import annotations

import http.server
import io
import re
import sys
import threading
import zipfile
from textwrap import dedent

import nbformat
import pytest
from colab import install_cell
from conftest import ROOT
from nbclient import NotebookClient
from sphinx.application import Sphinx

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import plain  # noqa: E402

SITE = "https://here.example/"


def answer(snippet: str) -> str:
    """In the place of Sphinx: a link that repeats what was asked."""
    kinds = {
        r"\{eq\}`eq-(\w+)`": rf"[(7.\1)]({SITE}a.html#equation-eq-\1)",
        r"\{term\}`(?:(.+) <.+>|(.+))`": rf"[\1\2]({SITE}terms.html)",
        r"\{doc\}`(.+)`": rf"[Title of \1]({SITE}a.html)",
        r"(!?)\[(.*)\]\((.+)\)": rf"\1[\2]({SITE}a.html#\3)",
    }
    for pattern, link in kinds.items():
        if re.fullmatch(pattern, snippet):
            return re.sub(pattern, link, snippet)
    raise plain.NotPlain(f"{snippet}: unknown")


def made(text: str) -> str:
    return plain.plain(dedent(text).strip("\n"), answer)


@pytest.mark.parametrize(
    ("myst", "markdown"),
    [
        ("A {term}`pair` of\n{term}`heads <head>`.", f"A [pair]({SITE}terms.html) of\n[heads]({SITE}terms.html)."),
        ("a {term}`context <localized\ncontext pooling>` b", f"a [context]({SITE}terms.html) b"),
        ("| a | {doc}`x` |\n|---|---|\n| {term}`p` | `a \\| b` {term}`q` |",
         f"| a | [Title of x]({SITE}a.html) |\n|---|---|\n| [p]({SITE}terms.html) | `a \\| b` [q]({SITE}terms.html) |"),
        ("*{doc}`x`* and **[{term}`y`](sec-z)**",
         f"*[Title of x]({SITE}a.html)* and **[[y]({SITE}terms.html)]({SITE}a.html#sec-z)**"),
        ("`` {term}`pair` `` is written so, {term}`pair` is meant",
         f"`` {{term}}`pair` `` is written so, [pair]({SITE}terms.html) is meant"),
        ("```python\n{term}`x`\n:::{note}\n```", "```python\n{term}`x`\n:::{note}\n```"),
        ("[below](sec-x), [out](https://a.example/b), ![A plot](plot.png)",
         f"[below]({SITE}a.html#sec-x), [out](https://a.example/b), ![A plot]({SITE}a.html#plot.png)"),
        ("(sec-x)=\n## Title\n\ntext", "## Title\n\ntext"),
        ("$$a=b.$$ (eq-1)\n\nSee {eq}`eq-1`.", f"$$a=b. \\tag{{7.1}} $$\n\nSee [(7.1)]({SITE}a.html#equation-eq-1)."),
        ("$$\na\\\\\nb\n$$ (eq-2)", "$$\na\\\\\nb \\tag{7.2} $$"),
        ("- so:\n\n  $$a$$ (eq-3)\n\n- on", "- so:\n\n  $$a \\tag{7.3} $$\n\n- on"),
        ("% a remark\ntext", "text"),
        ("$x_1 * y$ and \\{term\\}`x`", "$x_1 * y$ and \\{term\\}`x`"),
    ],
)  # fmt: skip
def test_what_stands_in_a_line(myst, markdown):
    assert plain.plain(myst, answer) == markdown


def test_an_admonition_is_a_quote_with_a_title():
    box = ":::{admonition} On {term}`x`\n:class: tip\n- one\n- two\n\n  three\n:::"
    quoted = f"> **On [x]({SITE}terms.html)**\n>\n> - one\n> - two\n>\n>   three\n"
    assert plain.plain(f"before\n{box}\nafter", answer) == f"before\n{quoted}\nafter"
    assert plain.plain(f"{box}\n\n{box}", answer) == f"{quoted}\n{quoted.rstrip()}"
    fence = box.replace("{term}`x`", "*x*").replace(":::", "```")  # no backticks in the title of one
    assert plain.plain(fence, answer).startswith("> **On *x***\n>\n> - one")
    assert made(":::{note} One line.\nAnother.\n:::") == "> **Note**\n>\n> One line.\n> Another."


def test_a_solution_is_folded():
    box = """
        :::{admonition} Solution *1*
        :class: tip, dropdown
        See {doc}`x`:

        ```python
        print(":::")
        ```
        :::

        Then.
    """
    body = f'See [Title of x]({SITE}a.html):\n\n```python\nprint(":::")\n```'
    folded = f"<details>\n<summary><b>Solution <em>1</em></b></summary>\n\n{body}\n\n</details>\n\nThen."
    assert made(box.replace("tip, dropdown", "tip dropdown")) == folded


def test_boxes_within_boxes_lists_and_quotes():
    box = """
        ::::{admonition} Outer
        First.

        :::{admonition} Inner
        :class: dropdown
        $$a$$ (eq-1)
        :::

        Last.
        ::::
    """
    inner = ["<details>", "<summary><b>Inner</b></summary>", "", "$$a \\tag{7.1} $$", "", "</details>"]
    lines = ["**Outer**", "", "First.", "", *inner, "", "Last."]
    assert made(box) == "\n".join(f"> {line}".rstrip() for line in lines)
    assert made("- item\n\n  :::{note}\n  text\n  :::\n- next") == "- item\n\n  > **Note**\n  >\n  > text\n\n- next"
    assert made("> :::{note}\n> text\n> :::") == "> > **Note**\n> >\n> > text"
    assert made("- :::{note}\n  text\n  :::") == "- > **Note**\n  >\n  > text"


@pytest.mark.parametrize(
    "myst",
    [
        ":::{figure} a.png\n:::",
        "```{code-cell}\n1\n```",
        "text {nope}`x`",
        ":::{admonition} A\n:nope: here\ntext\n:::",
        ":::{admonition} A\n\n{nope}`x`\n:::",
        ":::{admonition}\ntext\n:::",
        "{{ substituted }}",
        "<project:#here>",
        "a[^1]\n\n[^1]: foot",
        "+++",
    ],
)
def test_the_unknown_is_a_fault(myst):
    with pytest.raises(plain.NotPlain):
        plain.plain(myst, answer)


def test_strings_of_code_are_made_plain_and_code_is_not():
    code = dedent('''\
        close(layer[0](F0), f"{n}`x`")
        say(f"{n} {{term}}`pairs <pair>`, {{doc}}`it's`, [below](sec-x)" "{eq}`eq-1`")
        say(f"""
        :::{{admonition}} Of {n}
        :class: attention
        - {rows["a"]:.1f}
        :::
        Then.
        """)
    ''')
    links = f"[pairs]({SITE}terms.html), [Title of it’s]({SITE}a.html), [below]({SITE}a.html#sec-x)"
    expected = dedent(f'''\
        close(layer[0](F0), f"{{n}}`x`")
        say(f"{{n}} {links}" "[(7.1)]({SITE}a.html#equation-eq-1)")
        say(f"""
        > **Of {{n}}**
        >
        > - {{rows["a"]:.1f}}

        Then.
        """)
    ''')
    assert plain.plain_code(code, answer) == expected
    with pytest.raises(plain.NotPlain, match="in a string"):
        plain.plain_code("say('{doc}`{x}`')", lambda _: "[{x}](y)")


@pytest.mark.parametrize(
    ("tag", "source", "outputs"),
    [("hide-input", True, None), ("remove-input", True, None), ("hide-cell", True, True), ("hide-output", None, True)],
)
def test_hidden_cells_are_folded(tag, source, outputs):
    data = plain.folded({"tags": [tag]})
    assert data["tags"] == [tag]
    assert (data["jupyter"].get("source_hidden"), data["jupyter"].get("outputs_hidden")) == (source, outputs)
    assert (data.get("cellView"), data.get("collapsed")) == (source and "form", outputs)
    assert plain.folded({"tags": ["mine"]}) == {"tags": ["mine"]}


def test_a_notebook_is_made_plain_cell_by_cell():
    v4, markdown = nbformat.v4, "See {term}`x`."
    said = v4.new_output("display_data", {"text/markdown": markdown, "text/plain": "x"})
    shown = v4.new_output("display_data", {"text/html": "<p>", "application/vnd.jupyter.widget-view+json": {}})
    drawing = v4.new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "<Figure>"})
    mystnb = {"mystnb": {"figure": {"name": "fig-x", "caption": "All {term}`x`."}, "image": {"alt": 'A "line"'}}}
    book = v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}, "widgets": {}},
        cells=[
            v4.new_markdown_cell("# Title"),
            v4.new_code_cell('%pip install "a/main.zip"', metadata={"tags": ["hide-input"]}),
            v4.new_code_cell("draw()", metadata=mystnb, outputs=[said, shown, drawing], id="drawn"),
        ],
    )
    before = nbformat.from_dict(book)
    link = f"[x]({SITE}terms.html)"
    asked = lambda s: "[Fig. 1]()" if s == "{numref}`fig-x`" else answer(s)  # noqa: E731
    new = plain.plain_notebook(book, asked, ("a/main.zip", "a/123.zip"), "A note.")
    nbformat.validate(new)
    assert book == before, "what was given stays as it is"
    title, note, install, drawn, caption = new.cells
    assert (title.source, note.source, drawn.source) == ("# Title", "A note.", "draw()")
    assert install.source.startswith("# @title ") and install.source.endswith('%pip install "a/123.zip"')
    assert install.metadata.cellView == "form" and "widgets" not in new.metadata
    assert [dict(o.data) for o in drawn.outputs] == [
        {"text/markdown": f"See {link}.", "text/plain": "x"},
        {"text/html": "<p>"},
        {
            "text/html": '<img alt="A &quot;line&quot;" src="data:image/svg+xml;base64,PHN2Zy8+">',
            "text/plain": "<Figure>",
        },
    ]
    assert (caption.source, caption.id) == (f"[Fig. 1]() All {link}.", "drawn-caption")
    with pytest.raises(plain.NotPlain, match="first code cell"):
        plain.plain_notebook(book, asked, ("b/main.zip", "b/123.zip"), "A note.")
    book.cells[2].outputs[0].data["text/markdown"] = "{nope}`x`"
    with pytest.raises(plain.NotPlain, match="cell drawn: .*nope"):
        plain.plain_notebook(book, asked, ("a/main.zip", "a/123.zip"), "A note.")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Two pages of a small book, built; what the second may ask."""
    root = tmp_path_factory.mktemp("sphinx")
    (root / "conf.py").write_text(
        "extensions = ['myst_parser', 'sphinxcontrib.bibtex']\nbibtex_bibfiles = ['a.bib']\nnumfig = True\n"
        f"bibtex_reference_style = 'author_year'\nhtml_baseurl = {SITE!r}\n"
        "myst_enable_extensions = ['colon_fence', 'dollarmath']\n"
    )
    (root / "a.bib").write_text("@misc{doe, author={Doe, Jane and Roe, Al and Poe, E.}, title={T}, year={2020}}")
    (root / "index.md").write_text(
        "# Start\n\n```{toctree}\n:numbered:\nin/b\n```\n\n```{glossary}\nword\n  What is said.\n```\n\n"
        "```{figure} dot.png\n:name: fig-dot\n\nA dot.\n```\n\n```{bibliography}\n```\n"
    )
    (root / "dot.png").write_bytes(b"\x89PNG")
    (root / "in").mkdir()
    (root / "in" / "b.md").write_text(
        "# It's *here*\n\n(sec-part)=\n## A part\n\n$$a$$ (eq-a)\n\n{cite:t}`doe`\n\n![A dot](../dot.png)\n"
    )
    said = io.StringIO()
    app = Sphinx(root, root, root / "out", root / "doctrees", "html", status=None, warning=said)
    app.build()
    assert app.statuscode == 0 and not said.getvalue()
    return plain.Answers(app, "in/b")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("{doc}`/index`", f"[Start]({SITE}index.html)"),
        ("{doc}`this one </in/b>`", f"[this one]({SITE}in/b.html)"),
        ("{doc}`/in/b`", f"[It’s here]({SITE}in/b.html)"),
        ("{ref}`sec-part`", f"[A part]({SITE}in/b.html#sec-part)"),
        ("[below](sec-part)", f"[below]({SITE}in/b.html#sec-part)"),
        ("[](sec-part)", f"[A part]({SITE}in/b.html#sec-part)"),
        ("{term}`words <word>`", f"[words]({SITE}index.html#term-word)"),
        ("{numref}`fig-dot`", f"[Fig. 1]({SITE}index.html#fig-dot)"),
        ("{eq}`eq-a`", f"[(1.1)]({SITE}in/b.html#equation-eq-a)"),
        ("{cite:t}`doe`", f"Doe *et al.* [[2020]({SITE}index.html#id2)]"),
        ("{cite:p}`doe`", f"[[Doe *et al.*, 2020]({SITE}index.html#id2)]"),
        ("![text](../dot.png)", f"![text]({SITE}_images/dot.png)"),
    ],
)
def test_sphinx_answers(answers, asked, answered):
    assert answers(asked) == answered


@pytest.mark.parametrize(
    "asked",
    ["{nope}`x`", "{doc}`/nope`", "{ref}`nope`", "[x](nope)", "{term}`nope`", "{numref}`nope`", "{eq}`nope`",
     "{cite:t}`nope`", "{sub}`2`", "![x](nope.png)"],
)  # fmt: skip
def test_what_sphinx_cannot_answer_is_a_fault(answers, asked):
    with pytest.raises(plain.NotPlain, match=re.escape(asked)):
        answers(asked)


def wheel(name: str, version: str, files: dict[str, str]) -> bytes:
    """The smallest wheel that pip installs."""
    about, file = f"{name}-{version}.dist-info", io.BytesIO()
    files |= {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in {**files, f"{about}/RECORD": "".join(f"{f},,\n" for f in files)}.items():
            archive.writestr(path, text)
    return file.getvalue()


BACKEND = """
import shutil
from pathlib import Path

def build_wheel(folder, config_settings=None, metadata_directory=None):
    shutil.copy(Path(__file__).parent / "made.whl", Path(folder) / "docre_lite-0-py3-none-any.whl")
    return "docre_lite-0-py3-none-any.whl"
"""


@pytest.fixture
def github(tmp_path):
    """A server on this machine with an archive at the address of a commit; the archive builds itself, offline."""
    commit, asked = "0123456789abcdef0123456789abcdef01234567", []
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"docre-lite-{commit}/pyproject.toml", system)
        archive.writestr(f"docre-lite-{commit}/backend.py", BACKEND)
        archive.writestr(
            f"docre-lite-{commit}/made.whl", wheel("docre_lite", "0", {"docre_lite.py": "here = 'colab'\n"})
        )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = self.path == f"/docre-lite/docre-lite/archive/{commit}.zip"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/zip")
            self.end_headers()
            self.wfile.write(file.getvalue() if found else b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", commit, asked
        server.shutdown()


def test_the_first_cell_installs_the_page_s_commit_on_colab(github, tmp_path, monkeypatch):
    """The very cell of a chapter, in a kernel that has `google.colab`; elsewhere it leaves everything alone."""
    address, commit, asked = github
    (tmp_path / "fake" / "google" / "colab").mkdir(parents=True)
    for package in ("google", "google/colab"):
        (tmp_path / "fake" / package / "__init__.py").touch()
    for name in ("jaxtyping", "wadler_lindig"):
        (tmp_path / f"{name}-1-py3-none-any.whl").write_bytes(wheel(name, "1", {f"{name}.py": ""}))
    target = tmp_path / "target"
    settings = {"PIP_TARGET": target, "PIP_NO_INDEX": 1, "PIP_FIND_LINKS": tmp_path, "PIP_CONFIG_FILE": "/dev/null"}
    settings |= {"PIP_NO_CACHE_DIR": 1, "PYTHONPATH": tmp_path / "fake", "IPYTHONDIR": tmp_path / "ipython"}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))

    source = "https://github.com/docre-lite/docre-lite/archive/"
    chapter = nbformat.read(ROOT / "chapters" / "04_atlop.ipynb", as_version=4)
    chapter.cells = [cell for cell in chapter.cells if cell is install_cell(chapter)]
    new = plain.plain_notebook(chapter, answer, (f"{source}refs/heads/main.zip", f"{source}{commit}.zip"), "A note.")
    cell = install_cell(new)
    cell.source = cell.source.replace("https://github.com", address)

    def run(*cells: str) -> str:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
        NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return "".join(out.get("text", "") for c in book.cells for out in c.outputs)

    run(cell.source)
    assert not asked and not target.exists()
    see = f"import sys; sys.path.insert(0, {str(target)!r}); import docre_lite, jaxtyping; print(docre_lite.here)"
    assert run("import google.colab", cell.source, see).endswith("colab\n")
    assert asked == [f"/docre-lite/docre-lite/archive/{commit}.zip"]
    assert (target / "wadler_lindig.py").exists()


def test_the_commit_is_that_of_the_checkout(tmp_path):
    assert plain.commit(tmp_path) is None
    head = plain.commit(ROOT)
    assert head is None or re.fullmatch("[0-9a-f]{40}", head)
    assert plain.commit(ROOT / "book") is None, "a folder in somebody's checkout is none"
