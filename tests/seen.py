"""What the tests of widgets share: a widget on a page of its own, a drag, a key, a check for accessibility."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Locator, Page
from small import sgd_steps, tiny

from docre_lite.corpus import running_example
from docre_lite.model import DocRE, trained
from docre_lite.page.export import write_site
from docre_lite.types import Document, Triple
from docre_lite.widgets import (
    ContextExplorer,
    EntityImage,
    MaskRateExplorer,
    ModelComparer,
    PotentialPairs,
    Reader,
    RefinementStepper,
    ThresholdPlayground,
)
from docre_lite.widgets.base import Widget

LIMIT = 300_000  # bytes of a widget in a page


def guesses(document: Document, keep: int) -> list[Triple]:
    """All gold triples but every `keep`-th, and those turned round in their stead."""
    return [
        t if k % keep else Triple(t.title, t.tail, t.relation, t.head, score=1.5)
        for k, t in enumerate(document.triples)
    ]


def compared(*documents: Document) -> ModelComparer:
    found = {name: [t for d in documents for t in guesses(d, keep)] for name, keep in (("first", 2), ("second", 3))}
    return ModelComparer(documents, found)


@cache
def restorer() -> DocRE:
    """A DRE-MIR after a few steps on the running document: right, wrong and missed relations are all there."""
    model = tiny("dre_mir", [running_example()])
    sgd_steps(model, model.batch([running_example()]), 40, 1e-2)
    return model


# One small widget of each kind, by its class's name: what every widget must do is tested on them.
SAMPLES = {
    "ContextExplorer": lambda: ContextExplorer(tiny("atlop", [running_example()]), running_example()),
    "ModelComparer": lambda: compared(running_example()),
    "RefinementStepper": lambda: RefinementStepper(tiny("docre_ii", [running_example()]), running_example()),
    "PotentialPairs": lambda: PotentialPairs(tiny("paee", [running_example()]), running_example()),
    "EntityImage": lambda: EntityImage(tiny("docunet", [running_example()], unet_width=8), running_example()),
    "MaskRateExplorer": lambda: MaskRateExplorer(restorer(), running_example()),
    "Reader": lambda: Reader({"mine": tiny("atlop", [running_example()])}, running_example(), (0, "citizenship", 3)),
    "ThresholdPlayground": lambda: ThresholdPlayground(),
}


@cache
def sample(name: str) -> Widget:
    return SAMPLES[name]()


def shown(page: Page, widget: Widget, folder, dark: bool = False, above: str = "") -> Locator:
    """The widget on an otherwise empty page, as the book carries it: no kernel, no network."""
    html = widget.html()
    assert len(html.encode()) <= LIMIT
    file = folder / "page.html"
    ground = 'data-theme="dark" style="background:#111;color:#eee"' if dark else 'data-theme="light"'
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Widget</title>'
    body = f"<main><h1>Page</h1>{above}{html}</main>"
    file.write_text(f'<!doctype html><html lang="en" {ground}><head>{head}</head><body>{body}</body></html>')
    page.goto(file.as_uri())
    page.wait_for_selector(".dw[data-ready]")
    return page.locator(".dw")


@cache
def shipped(name: str) -> DocRE:
    """A model that comes with the package."""
    return DocRE.load(trained()[name])


@cache
def _models() -> dict[str, str]:
    with TemporaryDirectory() as made:
        write_site(Path(made))
        return {file.name: file.read_text(encoding="utf-8") for file in Path(made).iterdir()}


def with_models(folder: Path) -> Path:
    """The folder of a page, with the package's models beside it as the book has them."""
    (folder / "_static" / "models").mkdir(parents=True, exist_ok=True)
    for name, text in _models().items():
        (folder / "_static" / "models" / name).write_text(text, encoding="utf-8")
    return folder


def computed(root: Locator) -> None:
    """Waits until the page has computed what it shows."""
    root.locator(".dw-sign[data-live='true']").wait_for()
    assert root.locator(".dw-sign").inner_text().startswith("computed here")


def thinking_on(page: Page, widget: Widget, folder: Path) -> Locator:
    """The widget beside the package's models, once it has computed; a script may read its state as `kept`."""
    page.add_init_script("const parse = JSON.parse; JSON.parse = (text) => (globalThis.kept = parse(text));")
    root = shown(page, widget, with_models(folder))
    computed(root)
    return root


def drag(slider: Locator, share: float) -> None:
    """Drags a slider by mouse to a share of its length."""
    page, box = slider.page, slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * share, y, steps=8)
    page.mouse.up()


# Highlighted code is most of a chapter's elements, and axe measures the contrast of each. Of the words that are
# nothing but a colour, and have the same classes all the way up, one stays to be measured; the others become mere text.
ALIKE_ONCE = """() => {
    const seen = new Set();
    const way = (node) => node ? way(node.parentElement) + " / " + node.className : "";
    for (const word of document.querySelectorAll("pre span")) {
        if (word.childElementCount || word.attributes.length > 1 || !word.hasAttribute("class")) continue;
        if (seen.has(way(word))) word.replaceWith(word.textContent);
        else seen.add(way(word));
    }
}"""


def violations(page: Page, *rules: str) -> list[str]:
    """What axe-core finds on the page, as "rule: selector"; of some rules, or of all."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(ALIKE_ONCE)
    options = {"resultTypes": ["violations"], "preload": False} | ({"runOnly": list(rules)} if rules else {})
    found = Axe().run(page, options=options).response["violations"]
    return [f"{v['id']}: {node['target'][0]}" for v in found for node in v["nodes"]]
