"""Sphinx extension of the book: MathJax from the disk, no script twice, a start page with a language."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

WIDGET = "application/vnd.jupyter.widget-view+json"
MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2")  # 1.5 of the 24 MB in the package


def copy_mathjax(app) -> None:
    """Pages must work without a network, from a web server as from the disk: ship MathJax with them."""
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


def drop_unused_widgets(app, page, template, context, doctree) -> None:
    """myst-nb embeds the state of every widget a kernel made, and 3.7 MB of scripts; keep them where one is shown."""
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


def finish(app, exception) -> None:
    """The redirect that stands for the start page names no language by itself."""
    start = Path(app.outdir) / "index.html"
    if exception is None and app.builder.format == "html" and start.exists():
        text = start.read_text(encoding="utf-8")
        if "<html>" in text or "<html" not in text:
            target = f"{app.config.root_doc}.html"
            start.write_text(
                f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{app.config.html_title}</title>\n'
                f'<meta http-equiv="refresh" content="0; url={target}"></head>\n'
                f'<body><p><a href="{target}">{app.config.html_title}</a></p></body></html>\n',
                encoding="utf-8",
            )


def setup(app) -> dict:
    app.connect("builder-inited", copy_mathjax)
    app.connect("html-page-context", drop_unused_widgets, priority=400)
    app.connect("html-page-context", dedupe_scripts, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
