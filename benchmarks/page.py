"""The cost of models in a page compared with the module: `python benchmarks/page.py` (two minutes, on a quiet machine).

Each of the package's models reads the same documents in Chromium and in torch, on one core, in turns; the least
time of several turns counts. The page gets two figures: with matrix products in WebAssembly, and in plain JavaScript.
Also measures how far the logits of twenty test documents differ, and how long a reader waits for a widget.
Rows go to `results/page.json`. Needs Playwright and Chromium (set DOCRE_CHROMIUM to use another than the system's).
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

import docre_lite
from docre_lite.corpus import generate, running_example
from docre_lite.model import DocRE, trained
from docre_lite.page.export import ENGINE, encoder_file, paper_file, write_site
from docre_lite.support.machine import environment
from docre_lite.support.store import write_json
from docre_lite.types import Document, Entity, Mention
from docre_lite.widgets import Reader
from docre_lite.widgets.base import document_data

RESULTS = Path(__file__).parent / "results" / "page.json"
SIZES = ((60, 9), (120, 20), (280, 40))  # tokens with markers, entities
TURNS = 12
LOAD = """async ({ encoder, file, slow }) => {
    const engine = docreEngine();
    if (slow) engine.slowly(true);
    const begin = performance.now();
    (globalThis.held ??= {})[slow ? "slow" : "fast"] = { engine, model: await engine.load(encoder, file) };
    return performance.now() - begin;
}"""
RUN = """async ({ document, slow }) => {
    const { engine, model } = held[slow ? "slow" : "fast"], begin = performance.now();
    model.last = null;  // the features of a document are kept; here they are made anew
    await engine.predict(model, document);
    return performance.now() - begin;
}"""

ANSWER = """async (document) => {
    const { logits, chosen } = await held.fast.engine.predict(held.fast.model, document);
    return { logits: Array.from(logits), chosen: Array.from(chosen) };
}"""
WATCH = """globalThis.marks = {};
new MutationObserver(() => {
    const now = performance.now();
    if (document.querySelector(".dw[data-ready]")) marks.drawn ??= now;
    if (document.querySelector(".dw-sign[data-live=true]")) marks.answered ??= now;
}).observe(document, { subtree: true, childList: true, attributes: true });"""


def made(tokens: int, entities: int) -> Document:
    """Words of the corpus in sentences of twenty, and this many entities of one word each, evenly spread."""
    words = [w for d in generate("test", 3) for s in d.sentences for w in s][: tokens - 2 - 2 * entities]
    sentences = tuple(tuple(words[k : k + 20]) for k in range(0, len(words), 20))
    places = [round(k * (len(words) - 1) / max(entities - 1, 1)) for k in range(entities)]
    mentions = [Mention(words[p], p // 20, p % 20, p % 20 + 1, "PER") for p in places]
    return Document(f"{tokens} tokens, {entities} entities", sentences, tuple(Entity((m,)) for m in mentions))


def longest() -> Document:
    """The longest of 300 test documents."""
    return max(generate("test", 300), key=lambda d: d.words)


def measure(page, model: DocRE) -> list[dict]:
    rows = []
    for slow in (False, True):
        page.evaluate(LOAD, {"encoder": encoder_file(model), "file": paper_file(model), "slow": slow})
    for document in (*(made(*size) for size in SIZES), running_example(), longest()):
        least = {"page_ms": float("inf"), "page_plain_ms": float("inf"), "torch_ms": float("inf")}
        given = document_data(document)
        for _ in range(TURNS):
            begin = time.perf_counter()
            with torch.inference_mode():
                model(model.batch([document], labels=False))
            least["torch_ms"] = min(least["torch_ms"], 1000 * (time.perf_counter() - begin))
            for key, slow in (("page_ms", False), ("page_plain_ms", True)):
                least[key] = min(least[key], page.evaluate(RUN, {"document": given, "slow": slow}))
        row = {"paper": model.classifier.name, "document": document.title, "words": document.words}
        row |= {"tokens": len(model.tokenizer.encode([document])[0].ids), "entities": len(document.entities)}
        rows.append(row | {key: round(value, 2) for key, value in least.items()})
        print(rows[-1], flush=True)
    return rows


@torch.inference_mode()
def agreement(page, model: DocRE, documents: list[Document]) -> dict:
    """The largest distance between the logits of page and module, and the number of decisions that differ."""
    page.evaluate(LOAD, {"encoder": encoder_file(model), "file": paper_file(model), "slow": False})
    worst, flipped, decided = 0.0, 0, 0
    for document in documents:
        found = page.evaluate(ANSWER, document_data(document))
        said = model(model.batch([document], labels=False))
        apart = ~torch.eye(len(document.entities), dtype=torch.bool)
        logits = torch.tensor(found["logits"]).view_as(said.logits[0])
        worst = max(worst, float((said.logits[0] - logits)[apart].abs().max()))
        flipped += int((torch.tensor(found["chosen"]).view_as(logits).bool() != said.chosen[0]).sum())
        decided += int(said.chosen[0].sum())
    row = {"paper": model.classifier.name, "documents": len(documents), "triples": decided, "flipped": flipped}
    print(row | {"worst_logit": worst}, flush=True)
    return row | {"worst_logit": worst}


def waits(browser, folder: Path) -> dict:
    """Milliseconds until a page with one widget, read from disk, has drawn it, and until the model has answered."""
    write_site(folder / "_static" / "models")
    html = Reader({"DRE-MIR": docre_lite.load("dre_mir")}, running_example()).html()
    (folder / "page.html").write_text(f'<!doctype html><meta charset="utf-8">{html}', encoding="utf-8")
    least = {"drawn_ms": float("inf"), "answered_ms": float("inf")}
    for _ in range(TURNS):
        page = browser.new_page()
        page.add_init_script(WATCH)
        page.goto((folder / "page.html").as_uri())
        page.wait_for_function("marks.answered")
        least = {key: min(value, page.evaluate(f"marks.{key[:-3]}")) for key, value in least.items()}
        page.close()
    print(least, flush=True)
    return {"widget": "Reader"} | {key: round(value, 1) for key, value in least.items()}


def main() -> None:
    from playwright.sync_api import sync_playwright

    torch.set_num_threads(1)
    found = os.environ.get("DOCRE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page, rows = browser.new_page(), []
        page.set_content("<title>engine</title>")
        page.add_script_tag(content=ENGINE.read_text(encoding="utf-8"))
        for name in trained():
            rows += measure(page, docre_lite.load(name))
            rows.append(agreement(page, docre_lite.load(name), generate("test", 20)))
        with TemporaryDirectory() as folder:
            rows.append(waits(browser, Path(folder)))
        about = environment() | {"browser": f"Chromium {browser.version}"}
    write_json(RESULTS, [row | {"environment": about} for row in rows])


if __name__ == "__main__":
    main()
