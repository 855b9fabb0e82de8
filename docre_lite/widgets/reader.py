"""A document that the reader can change, and the facts that the models then find."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ..model import DocRE
from ..page.export import ENGINE, as_script, encoder_file, paper_file
from ..predict import predict
from ..support.prose import joined
from ..types import Document, Triple
from .base import Widget, changed, document_data, html_table, live

WORDS, ENTITIES = 1500, 60  # of a document that a page reads; live.js has the same


class Reader(Widget):
    """The facts that models find in a document: strike a sentence, rename an entity, or write a document of your own.

        from docre_lite.widgets import Reader
        Reader({"my model": model}, document)

    A graph, a matrix and a list show the facts with their margins and evidence, and mark those that a change adds or
    removes. `question` is one fact (head, relation, tail), which the widget asks for and answers first. Raises
    ValueError if there is no model or no entity.
    """

    script = "reader.js"

    def __init__(self, models: Mapping[str, DocRE], document: Document, question: tuple[int, str, int] | None = None):
        if not models or not document.entities:
            raise ValueError("nothing to read: give at least one model, and a document with entities")
        self._models, self._document = dict(models), document
        data = {
            "document": document_data(document),
            "models": list(models),
            "found": [[_fact(t) for t in predict(model, [document])] for model in models.values()],
            "question": list(question) if question else None,
            **live(*models.values()),
        }
        super().__init__(data, {"model": 0, "change": None})

    def recompute(self, state: dict[str, Any]) -> dict[str, Any]:
        model = list(self._models.values())[state["model"]]
        return {"found": [_fact(t) for t in predict(model, [changed(self._document, state)])]}

    def fallback(self) -> str:
        names = [entity.name for entity in self._document.entities]
        text = " ".join(joined(sentence) for sentence in self._document.sentences)
        tables = []
        for name, found in zip(self.data["models"], self.data["found"], strict=True):
            rows = [[names[h], r, names[t], f"{s:.1f}", ", ".join(map(str, e))] for h, r, t, s, e in found]
            head = ["head", "relation", "tail", "margin (logits)", "evidence sentences"]
            tables.append(html_table(f"What {name} finds", head, rows))
        return f"<p>{escape(text)}</p>" + "".join(tables)


def _fact(t: Triple) -> list:
    return [t.head, t.relation, t.tail, round(t.score, 4), list(t.evidence)]


def whole_page(model: DocRE, document: Document, title: str) -> str:
    """One HTML file with the model, its engine and a first document; it needs no network and no server.

    Raises ValueError, in one line, for a model that a page cannot run, and for a document too large for it.
    """
    name, entities = model.classifier.name, len(document.entities)
    if entities > ENTITIES or document.words > WORDS:
        raise ValueError(
            f"{' '.join(document.title.split())}: has {entities} entities and {document.words} words; a page reads "
            f"up to {ENTITIES} and {WORDS}; give a smaller document"
        )
    scripts = [as_script("encoder", encoder_file(model)), as_script(name, paper_file(model))]
    widget = Reader({name: model}, document)
    widget.data = {**widget.data, "live": [name]}
    engine = "".join(f"<script>{text}</script>\n" for text in (*scripts, ENGINE.read_text(encoding="utf-8")))
    policy = "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:; "
    policy += "style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        "<style>body { font-family: system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 .7rem; }\n"
        "@media (prefers-color-scheme: dark) { body { background: #0f1319; color: #e8ebf0; } }</style>\n"
        "<script>if (matchMedia('(prefers-color-scheme: dark)').matches) "
        "document.documentElement.dataset.theme = 'dark';</script></head>\n"
        f"<body><main><h1>{escape(title)}</h1>\n{engine}{widget.html()}</main></body></html>\n"
    )
