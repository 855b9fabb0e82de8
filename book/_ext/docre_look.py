"""Sphinx extension for what the book looks like: figures for both themes and for phones."""

from __future__ import annotations

import re
from pathlib import Path

IMAGE = re.compile(
    r'<img (?P<attributes>[^>]*?)src="(?P<folder>[^"]*_images/)(?P<name>[\w-]+)\.svg"(?P<rest>[^>]*?)\s*/?>'
)
SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)pt" height="([\d.]+)pt"')


def show_figures(app, page, template, context, doctree) -> None:
    """A figure comes as up to four files: for the light page and the dark, and each for phones if that is legible."""
    if "_images/" not in context.get("body", ""):
        return
    from docre_lite.show.inks import dark
    from docre_lite.show.phone import split

    sources = {name: Path(app.srcdir) / uri for uri, name in app.builder.images.items()}
    target = Path(app.outdir) / app.builder.imagedir

    def written(name: str, svg: str) -> tuple[str, str]:
        (target / name).write_text(svg, encoding="utf-8")
        width, height = (round(float(points) / 0.75) for points in SIZE.search(svg).groups())
        return name, f'width="{width}" height="{height}"'

    def pictures(found: re.Match) -> str:
        source = sources.get(f"{found['name']}.svg")
        if source is None or "matplotlib" not in (svg := source.read_text(encoding="utf-8")):
            return found[0]
        target.mkdir(parents=True, exist_ok=True)
        out, (wide, narrow) = [], split(svg)
        for theme, inked in (("light", str), ("dark", dark)):
            name, size = written(f"{found['name']}-{theme}.svg", inked(wide))
            small = ""
            if narrow:
                other, its = written(f"{found['name']}-{theme}-phone.svg", inked(narrow))
                small = f'<source media="(max-width: 600px)" srcset="{found["folder"]}{other}" {its}>'
            image = f'<img {found["attributes"]}src="{found["folder"]}{name}"{found["rest"]} {size} loading="lazy">'
            out.append(f'<picture class="docre-{theme}{"" if narrow else " docre-wide"}">{small}{image}</picture>')
        return "".join(out)

    context["body"] = IMAGE.sub(pictures, context["body"])


def setup(app) -> dict:
    app.connect("html-page-context", show_figures)
    app.add_js_file("look.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
