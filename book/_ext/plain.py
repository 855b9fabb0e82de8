"""Plain notebooks: the book's own, written in MyST, as Colab and Jupyter show them without an extension.

What a role or a label stands for is asked of Sphinx, so a number, a title or an author is the one on the page. The
text is taken apart by MyST's parser, and only what other readers of Markdown do not know is replaced in it.
"""

from __future__ import annotations

import base64
import html
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import nbformat
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst.directives import admonitions
from docutils.parsers.rst.states import MarkupError
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.directives import parse_directive_text
from myst_parser.parsers.mdit import create_md_parser
from myst_parser.parsers.sphinx_ import MystParser
from myst_parser.sphinx_ext.myst_refs import MystReferenceResolver
from sphinx.transforms import SphinxTransformer
from sphinx.transforms.post_transforms import ReferencesResolver
from sphinx.util.docutils import new_document, sphinx_domains

from docre_lite.show.phone import split

Resolve = Callable[[str], str]  # a piece of MyST within a line -> Markdown
EXTENSIONS = {"colon_fence", "dollarmath", "substitution", "tasklist"}  # linkify, too, changes nothing here
PARSER = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)
ADMONITIONS = ("admonition", "note", "tip", "hint", "important", "attention", "caution", "warning", "danger")
# What every reader of Markdown knows. Anything else is replaced below, or a fault.
BLOCKS = "blockquote bullet_list code_block fence heading hr html_block list_item math_block ordered_list paragraph"
KNOWN = {f"{name}{end}" for name in f"{BLOCKS} table thead tbody tr th td".split() for end in ("", "_open", "_close")}
INLINE = {"text", "softbreak", "hardbreak", "math_inline", "math_inline_double", "html_inline"}
INLINE |= {f"{name}_{end}" for name in ("em", "strong", "s") for end in ("open", "close")}
ROLE_IN_CODE = re.compile(r"(\{{1,2})((?:cite:[pt])|doc|eq|numref|ref|term)\}{1,2}(`[^`]+`)")
LINK_IN_CODE = re.compile(r"\]\(((?:sec|fig|eq)-[\w-]+)\)")
BOX_IN_CODE = re.compile(r"^:::\{\{?(\w+)\}\}?(.*?)^:::$(\n(?=\S))?", re.MULTILINE | re.DOTALL)


class NotPlain(ValueError):
    """Something that no rule here makes plain."""


class _Edits:
    """Replacements in a text, found from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.made = text, 0, []
        self.lines = [0, *(m.end() for m in re.finditer("\n", text)), len(text)]

    def find(self, pattern: str) -> re.Match:
        found = re.compile(pattern).search(self.text, self.at)
        if not found:
            raise NotPlain(f"cannot find {pattern} where it was read: {self.text[self.at : self.at + 80]!r}")
        self.at = found.end()
        return found

    def replace(self, span: tuple[int, int], text: str) -> None:
        self.made.append((*span, text))

    def result(self) -> str:
        text = self.text
        for start, end, new in reversed(self.made):
            text = text[:start] + new + text[end:]
        return text


def plain(text: str, resolve: Resolve) -> str:
    """MyST as Markdown that needs no extension.

    Raises:
        NotPlain: for a directive, a role or a block that is not known here.
    """
    edits = _Edits(text)
    for token in PARSER.parse(text):
        if token.map:
            edits.at = max(edits.at, edits.lines[token.map[0]])
        directive = re.match(r"\{(.+?)\}(.*)", token.info) if token.type in ("fence", "colon_fence") else None
        if directive or token.type in ("myst_target", "myst_line_comment"):
            start, end = (edits.lines[min(k, len(edits.lines) - 1)] for k in token.map)
            block = ""
            if directive:
                first, after = text[start:end].split("\n")[0], text[end:].split("\n")[0]
                box = _directive(directive[1], directive[2].strip(), token.content, resolve)
                block = _indent(box, first[: first.index(token.markup)])
                block += "\n" if end < len(text) else ""
                block += "\n" if re.search(r"[^\s>]", after) else ""  # or the next paragraph would go on in it
            edits.replace((start, end), block)
        elif token.type == "math_block_label":
            found = edits.find(rf"\s*\$\$\s*\({re.escape(token.info)}\)")
            number = re.match(r"\[\((.+?)\)\]", resolve(f"{{eq}}`{token.info}`"))[1]
            edits.replace(found.span(), f" \\tag{{{number}}} $$")
        elif token.type == "inline":
            _inline(token.children, edits, resolve)
        elif token.type not in KNOWN:
            raise NotPlain(f"no rule for {token.type}: {token.content[:80]!r}")
    return edits.result()


def _inline(children, edits: _Edits, resolve: Resolve) -> None:
    links = []
    for child in children:
        if child.type == "code_inline":  # what looks like a role in there is none
            edits.find(re.escape(child.markup) + r"\s*" + _loose(child.content) + r"\s*" + re.escape(child.markup))
        elif child.type == "myst_role":
            found = edits.find(re.escape(f"{{{child.meta['name']}}}") + "(`+)" + _loose(child.content) + r"\1")
            edits.replace(found.span(), resolve(f"{{{child.meta['name']}}}`{child.content}`"))
        elif child.type == "link_open":
            links.append(child)
        elif child.type == "image" or child.type == "link_close":
            address = child.attrs["src"] if child.type == "image" else (opened := links.pop()).attrs["href"]
            if urlsplit(address).scheme in ("http", "https", "mailto", "data", "attachment"):
                continue
            if child.type == "link_close" and opened.info == "auto":
                raise NotPlain(f"no rule for <{address}>")
            found = edits.find(r"\]\(\s*<?(" + re.escape(address) + ")")
            asked = resolve(f"{'!' * (child.type == 'image')}[text]({address})")
            edits.replace(found.span(1), re.search(r"\]\((\S+)\)$", asked)[1])
        elif child.type not in INLINE:
            raise NotPlain(f"no rule for {child.type}: {child.content[:80]!r}")


def _loose(content: str) -> str:
    """The pattern of a text of which a parser has joined the lines, or freed the bars from a table's backslashes."""
    words = (re.escape(word).replace(r"\|", r"\\?\|") for word in content.strip().split())
    return r"\s*" + r"[\s>]+".join(words) + r"\s*"


def _directive(name: str, argument: str, content: str, resolve: Resolve) -> str:
    """An admonition as a block quote with a bold title, or folded if the page folds it."""
    if name not in ADMONITIONS:
        raise NotPlain(f"no rule for the directive {name}")
    try:
        read = parse_directive_text(getattr(admonitions, name.capitalize()), argument, content)
    except MarkupError as error:
        raise NotPlain(f"the directive {name}: {error}") from error
    if read.warnings:
        raise NotPlain(f"the directive {name} {argument}: {read.warnings[0].msg}")
    title = plain(read.arguments[0] if read.arguments else name.capitalize(), resolve)
    body = plain("\n".join(read.body), resolve).strip("\n")
    if "dropdown" not in read.options.get("class", []):
        return _indent(f"**{title}**\n\n{body}", "> ")
    title = MarkdownIt("commonmark").renderInline(title)
    return f"<details>\n<summary><b>{title}</b></summary>\n\n{body}\n\n</details>"


def _indent(text: str, prefix: str) -> str:
    """Lines behind a prefix; a list's bullet is on the first alone."""
    rest = re.sub(r"[^\s>]", " ", prefix)
    return "\n".join((prefix if k == 0 else rest) + line for k, line in enumerate(text.split("\n"))).replace(
        f"\n{rest}\n", f"\n{rest.rstrip()}\n"
    )


def plain_code(code: str, resolve: Resolve) -> str:
    """Code whose strings hold MyST, to be displayed: the roles, links and boxes in them made plain."""

    def quoted(snippet: str) -> str:
        text = resolve(snippet).replace("'", "’").replace('"', "”")
        if re.search(r"[\\{}]", text):
            raise NotPlain(f"{snippet} is {text}, which would mean something else in a string")
        return text

    code = ROLE_IN_CODE.sub(lambda m: quoted(f"{{{m[2]}}}{m[3]}"), code)
    code = LINK_IN_CODE.sub(lambda m: quoted(f"[text]({m[1]})").removeprefix("[text"), code)
    return BOX_IN_CODE.sub(lambda m: plain(f":::{{{m[1]}}}{m[2]}:::", str) + 2 * (m[3] or ""), code)


class Answers:
    """Sphinx's answers on one page: `answers("{eq}`eq-atlop-context`")` is `[(4.2)](https://...)`."""

    def __init__(self, app, page: str) -> None:
        self.app, self.page, self.known = app, page, {}
        self.address = urljoin(app.config.html_baseurl, app.builder.get_target_uri(page))

    def __call__(self, snippet: str) -> str:
        if snippet not in self.known:
            document = self._read(snippet)
            if len(document) != 1 or document.next_node(nodes.system_message):
                raise NotPlain(f"{snippet}: {document.astext().strip()}")
            try:
                self.known[snippet] = "".join(map(self._markdown, document[0]))
            except NotPlain as error:
                raise NotPlain(f"{snippet}: {error}") from error
        return self.known[snippet]

    def _read(self, snippet: str) -> nodes.document:
        env, settings = self.app.env, get_default_settings(MystParser)
        for name, value in {**env.settings, "env": env, "report_level": 5}.items():
            setattr(settings, name, value)
        document, parser = new_document(env.doc2path(self.page), settings), MystParser()
        parser.set_application(self.app)
        env.prepare_settings(self.page)
        try:
            with sphinx_domains(env):
                parser.parse(snippet, document)
            transformer = SphinxTransformer(document)
            transformer.set_environment(env)
            transformer.add_transforms([ReferencesResolver, MystReferenceResolver])
            transformer.apply_transforms()
        finally:
            env.temp_data.clear()
        return document

    def _markdown(self, node: nodes.Node) -> str:
        if isinstance(node, nodes.Text):
            return re.sub(r"([\\`*_<$|])", r"\\\1", node.astext())
        inner = "".join(map(self._markdown, node.children))
        if isinstance(node, nodes.image):
            file, _ = self.app.env.relfn2path(node["uri"], self.page)
            if file not in self.app.env.images:
                raise NotPlain(f"no page shows {file}")
            address = urljoin(self.app.config.html_baseurl, f"_images/{self.app.env.images[file][1]}")
            return f"![{node.get('alt', '')}]({address})"
        if isinstance(node, nodes.reference):
            if "myst" in (node[0].get("classes", []) if isinstance(node[0], nodes.Element) else []):
                raise NotPlain("nothing is called so")
            return f"[{inner}]({urljoin(self.address, node['refuri'] if 'refuri' in node else '#' + node['refid'])})"
        asked = {"xref", "bibtex-citation"} & set(node.get("classes", []))
        if asked and not isinstance(node.parent, nodes.reference) and not node.next_node(nodes.reference):
            raise NotPlain("nothing is called so")
        if isinstance(node, nodes.emphasis):
            return f"*{inner}*"
        if isinstance(node, nodes.inline):
            return inner
        raise NotPlain(f"no rule for {node.tagname}: {node.astext()}")


def folded(metadata: dict) -> dict:
    """What a cell's tags hide on the page, hidden in JupyterLab (`jupyter`) and on Colab (`cellView`, `collapsed`)."""
    tags, new = set(metadata.get("tags", [])), {}
    if tags & {"hide-input", "remove-input", "hide-cell", "remove-cell"}:
        new |= {"cellView": "form", "jupyter": {"source_hidden": True}}
    if tags & {"hide-output", "remove-output", "hide-cell", "remove-cell"}:
        new |= {"collapsed": True, "jupyter": {**new.get("jupyter", {}), "outputs_hidden": True}}
    return {**metadata, **new}


def plain_notebook(book, resolve: Resolve, archives: tuple[str, str], note: str):
    """A notebook made plain, with a note under its title.

    Its first code cell installs the second of the archives in the place of the first.
    """
    first, cells = next(cell.id for cell in book.cells if cell.cell_type == "code"), []
    for cell in book.cells:
        try:
            cells += _cell(nbformat.from_dict(cell), resolve, archives if cell.id == first else None)
        except NotPlain as error:
            raise NotPlain(f"cell {cell.id}: {error}") from error
    cells.insert(1, nbformat.v4.new_markdown_cell(note, id="about-this-notebook"))
    kept = {name: value for name, value in book.metadata.items() if name != "widgets"}
    return nbformat.from_dict({**book, "cells": cells, "metadata": kept})


def _cell(cell, resolve: Resolve, archives: tuple[str, str] | None) -> list:
    if cell.cell_type == "markdown":
        cell.source = plain(cell.source, resolve)
    if cell.cell_type != "code":
        return [cell]
    if archives:
        if cell.source.count(archives[0]) != 1:
            raise NotPlain(f"the first code cell does not install {archives[0]}")
        cell.source = "# @title Run this first: it installs the book's module on Colab\n" + cell.source
        cell.source = cell.source.replace(*archives)
    cell.source = plain_code(cell.source, resolve)
    shown = cell.metadata.get("mystnb", {})
    for output in cell.get("outputs", []):
        _show(output.get("data", {}), shown.get("image", {}).get("alt", ""))
        if "text/markdown" in output.get("data", {}):
            output.data["text/markdown"] = plain(output.data["text/markdown"], resolve)
    figure = shown.get("figure")
    cell.metadata = nbformat.from_dict(folded(cell.metadata))
    if not figure:
        return [cell]
    caption = f"{resolve('{numref}`' + figure['name'] + '`')} {plain(figure['caption'], resolve)}"
    return [cell, nbformat.v4.new_markdown_cell(caption, id=f"{cell.id}-caption")]


def _show(data: dict, alt: str) -> None:
    """Keep of an output what is shown before a reader trusts or runs the notebook."""
    if svg := data.pop("image/svg+xml", None):  # on its own, it would wait for that
        image = base64.b64encode(split(svg)[0].encode()).decode()  # without the drawing for phones
        data["text/html"] = f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{image}">'
    if "text/html" in data:  # as which a widget without its kernel is shown
        data.pop("application/vnd.jupyter.widget-view+json", None)


def commit(root: Path) -> str | None:
    """HEAD of the checkout; None where there is none, as in an unpacked archive."""
    git = ["git", "-C", str(root), "rev-parse", "--show-prefix", "--verify", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True)
    prefix, _, head = done.stdout.partition("\n")
    return head.strip() if done.returncode == 0 and not prefix else None
