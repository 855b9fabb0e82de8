"""Sphinx extension for what the book looks like: figures for both themes and for phones, and a picture per chapter."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

DRAWN = "_static/drawn"  # where drawings lie in the site

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


def draw(app) -> None:
    """The spine and the thumbnails, for both themes."""
    if app.builder.format != "html":
        return
    import abstracts

    from docre_lite.show.inks import dark

    folder = Path(app.outdir) / DRAWN
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: abstracts.thumbnail(name) for name in abstracts.ABSTRACTS}
    drawn |= {"spine": abstracts.spine(), "spine-phone": abstracts.spine(phone=True)}
    for name, svg in drawn.items():
        (folder / f"{name}-light.svg").write_text(svg, encoding="utf-8")
        (folder / f"{name}-dark.svg").write_text(dark(svg), encoding="utf-8")


def share(app, page, template, context, doctree) -> None:
    """A chapter is shared with its own picture."""
    import abstracts

    name = page.removeprefix("chapters/")
    if doctree is None or name == page or name not in abstracts.ABSTRACTS:
        return
    number = f"Chapter {int(name[:2])}"
    abstracts.card(name, number, app.env.titles[page].astext(), Path(app.outdir) / DRAWN / f"{name}.png")
    said = {"og:image": f"{DRAWN}/{name}.png", "og:image:alt": abstracts.ABSTRACTS[name][2]}
    context["meta"] = {**(context["meta"] or {}), **said, "og:image:width": "1200", "og:image:height": "630"}
    context["metatags"] += '<meta name="twitter:card" content="summary_large_image">\n'


def drawing(name: str, alt: str, phone: str = "", size: str = "", root: str = "../") -> str:
    """A drawing for both themes; without a text it is decoration."""
    said = f'alt="{escape(alt)}"' if alt else 'alt="" role="presentation"'
    out = []
    for theme in ("light", "dark"):
        small = f'<source media="(max-width: 600px)" srcset="{root}{DRAWN}/{phone}-{theme}.svg">' if phone else ""
        image = f'<img class="docre-drawn" src="{root}{DRAWN}/{name}-{theme}.svg" {said} {size}>'
        out.append(f'<picture class="docre-{theme}">{small}{image}</picture>')
    return "".join(out)


class FiveIdeas(SphinxDirective):
    """What the five papers share, and the idea of each."""

    def run(self) -> list[nodes.Node]:
        from abstracts import SPINE_ALT

        picture = drawing("spine", SPINE_ALT, phone="spine-phone")
        return [nodes.raw("", f'<p class="docre-spine">{picture}</p>', format="html")]


class ChaptersInPictures(SphinxDirective):
    """Every chapter with its drawing, its title and its idea."""

    def run(self) -> list[nodes.Node]:
        from abstracts import ABSTRACTS

        chapters = nodes.bullet_list(classes=["docre-chapters"])
        for name, (_, idea, _) in ABSTRACTS.items():
            item = nodes.list_item("", nodes.raw("", drawing(name, "", size='width="144" height="144"'), format="html"))
            text = [rf"{int(name[:2])}\. {{doc}}`/chapters/{name}`", "", f"{idea}."]
            self.state.nested_parse(StringList(text, self.get_source_info()[0]), self.content_offset, item)
            chapters += item
        return [chapters]


def setup(app) -> dict:
    app.add_directive("five-ideas", FiveIdeas)
    app.add_directive("chapters-in-pictures", ChaptersInPictures)
    app.connect("builder-inited", draw)
    app.connect("html-page-context", share, priority=300)
    app.connect("html-page-context", show_figures)
    app.add_js_file("look.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
