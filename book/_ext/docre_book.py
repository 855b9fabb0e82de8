"""Sphinx extension of the book: MathJax and models from the disk, notebooks for Colab and Jupyter, how to cite."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import nbformat
import plain
import yaml
from docutils import nodes
from jupyter_cache import get_cache
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

WIDGET = "application/vnd.jupyter.widget-view+json"
MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2")  # 1.5 of the 24 MB in the package


def copy_mathjax(app) -> None:
    """Ships MathJax with the pages: they must work without a network, from a web server or from disk."""
    if app.builder.format != "html":
        return
    package = Path(next(iter(find_spec("sphinx-mathjax-offline").submodule_search_locations)))
    for name in MATHJAX:
        source, target = package / "static" / "mathjax" / name, Path(app.outdir) / "_static" / "mathjax" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)


def write_models(app) -> None:
    """The package's models, for widgets to run in the page: each file is loaded when a reader comes to one."""
    if app.builder.format == "html":
        from docre_lite.page.export import write_site

        write_site(Path(app.outdir) / "_static" / "models")


# Pages load nothing from outside. The theme has scripts and styles within its pages; models run in a worker that a
# page makes of its own text, with a product of matrices in WebAssembly. `file:` is for a book read from the disk.
POLICY = (
    "default-src 'self' file: data: blob:; script-src 'self' file: blob: 'unsafe-inline' 'wasm-unsafe-eval'; "
    "style-src 'self' file: 'unsafe-inline'; worker-src blob:; object-src 'none'"
)


def state_policy(app, page, template, context, doctree) -> None:
    meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    context["metatags"] = meta + context.get("metatags", "")


def drop_unused_widgets(app, page, template, context, doctree) -> None:
    """myst-nb embeds the state of every widget of a kernel, and 3.7 MB of scripts; keep them where one is shown."""
    if WIDGET in context.get("body", ""):
        return
    files = app.env.nb_metadata.get(page, {}).get("js_files", {})
    for name in [name for name in files if name.startswith("ipywidgets")]:
        del files[name]


def dedupe_scripts(app, page, template, context, doctree) -> None:
    """Sphinx registers inline scripts of the theme twice, which is an error in the browser; thebe is not used."""
    seen, scripts = set(), []
    for script in context.get("script_files", []):
        name = str(getattr(script, "filename", script) or "")
        key = (name, str(sorted(getattr(script, "attributes", {}).items())))
        if key not in seen and "thebe" not in name and "THEBE" not in key[1]:
            seen.add(key)
            scripts.append(script)
    context["script_files"] = scripts


def name_download(app, page, template, context, doctree) -> None:
    """The theme calls every source a source file; a chapter's is the notebook with its results."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("label") == "download-source-button" and button["text"] == ".ipynb":
                button["tooltip"] = "Download the executed notebook"


def open_plain_in_colab(app, page, template, context, doctree) -> None:
    """Colab knows no MyST: its button opens the plain notebook, on a branch of its own. Other buttons keep theirs."""
    options = app.config.html_theme_options
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("text") == "Colab":
                source, target = options["repository_branch"], options["launch_buttons"]["notebooks_branch"]
                button["url"] = button["url"].replace(f"/blob/{source}/", f"/blob/{target}/")


def write_notebooks(app, exception) -> None:
    """Sphinx offers a chapter's source: MyST without outputs. Offer the page's run, from the cache, made plain."""
    if exception is not None or app.builder.format != "html":
        return
    cache = get_cache(app.env.mystnb_config.execution_cache_path)
    repository, branch = (app.config.html_theme_options[f"repository_{what}"] for what in ("url", "branch"))
    head, newest = plain.commit(Path(app.srcdir)), f"{repository}/archive/refs/heads/{branch}.zip"
    archive = f"{repository}/archive/{head}.zip" if head else newest
    origin = f"commit [{head[:7]}]({repository}/commit/{head})" if head else f"the branch `{branch}`, as it is that day"
    for page in sorted(app.env.found_docs):
        file = app.env.doc2path(page)
        if not file.endswith(".ipynb"):
            continue
        try:
            _, book = cache.merge_match_into_file(file)
        except KeyError:  # not executed, as where a chapter failed
            book = nbformat.read(file, as_version=4)
        try:
            answers = plain.Answers(app, page)
            note = f"[A page of the book]({answers.address}) as a notebook. On Colab, its first cell installs {origin}."
            book = plain.plain_notebook(book, answers, (newest, archive), f"*{note}*")
        except plain.NotPlain as error:
            raise ExtensionError(f"{page}.ipynb, {error}") from error
        nbformat.write(book, Path(app.outdir) / "_sources" / f"{page}.ipynb")


class AskTheModels(SphinxDirective):
    """The five models on the running document, asked the book's opening question."""

    def run(self) -> list[nodes.Node]:
        from docre_lite import load
        from docre_lite.corpus import running_example
        from docre_lite.model import trained
        from docre_lite.widgets import Reader

        document, titles = running_example(), {name: load(name).classifier.title.split(":")[0] for name in trained()}
        models = {titles[name]: load(name) for name in sorted(titles, key=lambda name: name != "dre_mir")}
        clara, velmark = ([e.name for e in document.entities].index(name) for name in ("Clara Ramvik", "Velmark"))
        return [nodes.raw("", Reader(models, document, (clara, "citizenship", velmark)).html(), format="html")]


class CiteThis(SphinxDirective):
    """CITATION.cff as BibTeX, so that the page and the file cannot disagree."""

    def run(self) -> list[nodes.Node]:
        file = Path(self.env.srcdir) / "CITATION.cff"
        self.env.note_dependency(str(file))
        entry = bibtex(yaml.safe_load(file.read_text(encoding="utf-8")), self.config.copyright)
        return [nodes.literal_block(entry, entry, language="bibtex")]


def bibtex(citation: dict, year: str) -> str:
    """An entry of BibTeX. Braces keep a group's name whole, and the title's capitals."""
    people = (a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in citation["authors"])
    fields = {
        "author": " and ".join("{" + name + "}" for name in people),
        "title": "{" + citation["title"].replace("_", r"\_") + "}",
        "year": year,
        "version": citation["version"],
        "url": citation["repository-code"],
    }
    name = re.match(r"\w+", citation["title"])[0]
    return "\n".join([f"@software{{{name},", *(f"  {key} = {{{value}}}," for key, value in fields.items()), "}"])


def finish(app, exception) -> None:
    """People share the redirect to the start page, which has no language and no preview of its own: add both."""
    start, target = Path(app.outdir) / "index.html", f"{app.config.root_doc}.html"
    if exception is None and app.builder.format == "html" and start.exists():
        text = start.read_text(encoding="utf-8")
        if "<html>" in text or "<html" not in text:
            first = (Path(app.outdir) / target).read_text(encoding="utf-8")
            preview = "\n".join(re.findall(r'<meta (?:property="og:|name="(?:twitter:|description))[^>]*>', first))
            start.write_text(
                f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{app.config.html_title}</title>\n'
                f'<meta http-equiv="refresh" content="0; url={target}">\n{preview}</head>\n'
                f'<body><p><a href="{target}">{app.config.html_title}</a></p></body></html>\n',
                encoding="utf-8",
            )


def setup(app) -> dict:
    # The previews need the public address, which _config.yml gives once, as the base of the pages.
    app.connect("config-inited", lambda app, config: setattr(config, "ogp_site_url", config.html_baseurl))
    app.add_directive("cite-this", CiteThis)
    app.add_directive("ask-the-models", AskTheModels)
    app.connect("builder-inited", copy_mathjax)
    app.connect("builder-inited", write_models)
    app.connect("html-page-context", state_policy)
    app.connect("html-page-context", drop_unused_widgets, priority=400)
    app.connect("html-page-context", dedupe_scripts, priority=900)
    app.connect("html-page-context", name_download, priority=900)
    app.connect("html-page-context", open_plain_in_colab, priority=900)
    app.connect("build-finished", write_notebooks)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
