"""The base of all widgets: one class that works in Jupyter, in Colab and in a page without a kernel."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import traitlets
from torch import Tensor

from ..model import DocRE
from ..page.export import name_of
from ..types import Document, Entity, Mention

FOLDER = Path(__file__).resolve().parent
_numbers = itertools.count(1)

# Replaces the kernel's model in a page without one: exactly the methods that a widget's script may use.
_SHIM = """
const host = document.getElementById(ID);
const state = JSON.parse(host.querySelector('script[type="application/json"]').textContent);
const heard = new Map(), tell = (name) => (heard.get(name) ?? []).forEach((f) => f());
const model = {
  page: true,
  get: (name) => state[name],
  set(name, value) { state[name] = value; tell("change:" + name); },
  save_changes() {},
  on(name, f) { heard.set(name, [...(heard.get(name) ?? []), f]); },
};
const source = new TextDecoder().decode(Uint8Array.from(atob(SCRIPT), (c) => c.charCodeAt(0)));
const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
const widget = await import(url);
URL.revokeObjectURL(url);
const el = document.createElement("div");
widget.default.render({ model, el });
host.replaceChildren(host.querySelector("style"), el);
"""


class Widget(anywidget.AnyWidget):
    """A picture with controls. A subclass names its script and defines what to compute.

    `data` never changes and travels with the page: the document, and the answers to states computed beforehand.
    `state` holds the reader's choices. With a kernel, every change of `state` calls `recompute`, and
    its result is `answer`. Without one, `answer` comes from the page's own models if `data["live"]` names one;
    otherwise the script shows the content of `data`. A sign on the widget tells the reader which.
    """

    script: ClassVar[str]  # file of the subclass beside this one; `base.js` and `live.js` are put before it

    data = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)

    def __init_subclass__(cls, **more):
        if "script" in vars(cls):
            parts = [(FOLDER / name).read_text(encoding="utf-8") for name in ("base.js", "live.js", cls.script)]
            cls._esm = "\n".join(parts)
            cls._css = (FOLDER / "base.css").read_text(encoding="utf-8")
        super().__init_subclass__(**more)

    def __init__(self, data: dict[str, Any], state: dict[str, Any]):
        super().__init__(data=data, state=state)
        self.observe(self._ask, names="state")

    def recompute(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """The model's answer for a state; None if the script computes everything itself."""
        return None

    def fallback(self) -> str:
        """HTML for a reader without JavaScript: a table or a text with the same content."""
        raise NotImplementedError

    def _ask(self, change) -> None:
        found = self.recompute(change["new"])
        if found is not None:
            self.answer = {"state": change["new"], **found}

    def html(self) -> str:
        """The widget as HTML that needs no kernel and no network: style, fallback, stored states, script."""
        name = f"docre-widget-{next(_numbers)}"
        content = json.dumps({"data": self.data, "state": self.state, "answer": {}}, ensure_ascii=False)
        content = content.replace("<", "\\u003c")  # so that no text of a document can end the script
        code = base64.b64encode(str(self._esm).encode()).decode()
        shim = _SHIM.replace("ID", json.dumps(name)).replace("SCRIPT", json.dumps(code))
        return (
            f'<div id="{name}" class="docre-widget"><style>{self._css}</style>'
            f'<div class="docre">{self.fallback()}</div>'
            f'<script type="application/json">{content}</script>'
            f'<script type="module">{shim}</script></div>'
        )

    def _repr_mimebundle_(self, **more):
        bundle = super()._repr_mimebundle_(**more)
        content, about = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**content, "text/html": self.html()}, about


def with_pairs(documents: Document | Sequence[Document]) -> list[Document]:
    """One document or several, as a list. Raises ValueError if there is none, or one without a pair to look at."""
    found = [documents] if isinstance(documents, Document) else list(documents)
    if not found:
        raise ValueError("no document to look at; give one or more")
    for document in found:
        if not document.pairs():
            raise ValueError(f"{document.title}: no pair of entities to look at")
    return found


def pack(values, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """An array as bytes in base64, one per number, in steps of 1/255 of the range. The script's `unpack` reads it.

    `low` and `high` are the range, by default that of the values.
    """
    array = np.asarray(values.detach().float().cpu() if isinstance(values, Tensor) else values, dtype=float)
    low = float(array.min(initial=0)) if low is None else low
    high = float(array.max(initial=0)) if high is None else high
    scaled = (array - low) / ((high - low) or 1) * 255
    raw = scaled.round().clip(0, 255).astype(np.uint8)
    return {"shape": list(array.shape), "low": low, "high": high, "bytes": base64.b64encode(raw.tobytes()).decode()}


def rounded(values, digits: int = 3) -> list:
    """A tensor as nested lists with few digits, enough for a page."""
    return np.asarray(values.detach().float().cpu() if isinstance(values, Tensor) else values).round(digits).tolist()


def document_data(document: Document) -> dict[str, Any]:
    """A document in the format of the script's `textOf`, with its gold triples."""
    return {
        "title": document.title,
        "sentences": [list(sentence) for sentence in document.sentences],
        "mentions": [
            {"sentence": m.sentence, "start": m.start, "end": m.end, "entity": i, "type": m.type}
            for i, entity in enumerate(document.entities)
            for m in entity.mentions
        ],
        "names": [entity.name for entity in document.entities],
        "types": [entity.type for entity in document.entities],
        "gold": [
            {"head": t.head, "relation": t.relation, "tail": t.tail, "depth": t.depth, "evidence": list(t.evidence)}
            | ({"premises": [list(p) for p in t.premises]} if t.premises else {})
            for t in document.triples
        ],
    } | ({} if document.candidates is None else {"candidates": document.pairs()})


def live(*models: DocRE) -> dict[str, Any]:
    """Tells the script that the page contains these models, with their names there; empty if it does not."""
    names = [name_of(model) for model in models]
    return {"live": names} if all(names) else {}


def changed(document: Document, state: dict[str, Any]) -> Document:
    """The document as changed by the reader: `state["change"]["document"]`, in the format of the script's `changed`."""
    if not (change := state.get("change")):
        return document
    made = change["document"]
    mentions: list[list[Mention]] = [[] for _ in made["types"]]
    for m in made["mentions"]:
        words = made["sentences"][m["sentence"]][m["start"] : m["end"]]
        kind = m.get("type") or made["types"][m["entity"]]
        mentions[m["entity"]].append(Mention(" ".join(words), m["sentence"], m["start"], m["end"], kind))
    candidates = made.get("candidates")
    return Document(
        made["title"],
        tuple(map(tuple, made["sentences"])),
        tuple(Entity(tuple(m)) for m in mentions),
        candidates=None if candidates is None else frozenset(map(tuple, candidates)),
    )


def html_table(caption: str, head: list[str], rows: list[list]) -> str:
    """A table for `fallback`."""
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
