"""The engine of the page against the module: the same logits, in Chromium, for every paper."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from conftest import ROOT
from small import made, tiny

import docre_lite
from docre_lite.corpus import generate, running_example
from docre_lite.model import DocRE, trained
from docre_lite.page.export import ENGINE, check, encoder_file, paper_file
from docre_lite.predict import predict
from docre_lite.types import Document, Entity, Mention
from docre_lite.widgets.base import document_data

CLOSE = 1e-3  # logits; weights are those of 16 bits on both sides
RUN = """async ({ encoder, file, documents, asked, slow }) => {
    const engine = docreEngine();
    if (slow) engine.slowly(true);
    const model = await engine.load(encoder, file), answers = [];
    for (const document of documents) {
        const found = await engine.predict(model, document, asked);
        answers.push({
            ids: found.tokens.ids, word: found.tokens.word, sentence: found.tokens.sentence, triples: found.triples,
            logits: Array.from(found.logits), rounds: (found.trace.rounds ?? []).map((x) => Array.from(x)),
            attention: asked.keep ? found.trace.attention.flat(Infinity).map((x) => Array.from(x)) : [],
        });
    }
    return answers;
}"""


def entity(*spans: tuple[int, int, int], kind: str = "PER") -> Entity:
    return Entity(tuple(Mention("a name", s, i, j, kind) for s, i, j in spans))


def crowd(n: int) -> Document:
    """One sentence an entity, so that a document has many."""
    first = generate("test", 1)[0].sentences[0]
    return Document(f"{n} entities", (tuple(first),) * n, tuple(entity((k, 0, 1), kind="LOC") for k in range(n)))


def twenty() -> list[Document]:
    """None, one, two and 40 entities; unknown and odd words; nested, repeated and shared mentions; long documents."""
    example = running_example()
    odd = ("ΣΊΣΥΦΟΣ", "İstanbul", "[CLS]", "x[SEP]y", "two words", "\u200b", "  ", "*", "\ufeff", "ﬁnal", "E\u0301mile")
    nested = Document(
        "nested",
        (("The", "Upper", "Kelania", "State", "Press", "of", "Selmouth", "."),) * 2,
        (
            entity((0, 1, 5), (1, 1, 5), kind="ORG"),
            entity((0, 1, 3), (0, 1, 3), (1, 2, 3), kind="LOC"),
            entity((0, 6, 7), (1, 6, 7), kind="LOC"),
            entity((0, 6, 7), kind="MISC"),
            entity((1, 2, 4), kind="strange"),
        ),
    )
    return [
        example,
        *generate("test", 8),
        Document("none", example.sentences, ()),
        replace(example, title="one", entities=example.entities[:1], triples=()),
        replace(example, title="two", entities=example.entities[:2], triples=()),
        crowd(40),
        crowd(3),
        nested,
        Document("odd", (odd, example.sentences[0]), (entity((0, 0, 2)), entity((0, 4, 5)), entity((1, 1, 3)))),
        Document("blank", (("  ", "\u2003"), ("Clara", "slept")), (entity((0, 0, 1)), entity((1, 0, 1)))),
        replace(example, title="candidates", candidates=frozenset({(0, 3), (3, 0), (1, 3)}), triples=()),
        replace(example, title="twice", sentences=example.sentences * 8),
        Document(
            "long", example.sentences * 20, (entity((0, 2, 4), (90, 2, 4)), entity((50, 2, 3)), entity((119, 0, 1)))
        ),
    ]


@pytest.fixture
def ask(page):
    """Asks the engine, on an empty page, as a page of the book would."""
    page.set_content("<title>engine</title>")
    page.add_script_tag(content=ENGINE.read_text(encoding="utf-8"))

    def run(model: DocRE, documents: list[Document], slow: bool = False, **asked) -> list[dict]:
        given = {"encoder": encoder_file(model), "file": paper_file(model), "slow": slow, "asked": asked}
        return page.evaluate(RUN, given | {"documents": json.loads(json.dumps([document_data(d) for d in documents]))})

    yield run
    assert page.problems == []


def of_two(logits: torch.Tensor, found: list[float]) -> float:
    """The largest difference between pairs of different entities."""
    n = len(logits)
    apart = (logits - torch.tensor(found).view_as(logits)).abs()[~torch.eye(n, dtype=torch.bool)]
    return float(apart.max()) if apart.numel() else 0.0


@torch.inference_mode()
def agree(model: DocRE, documents: list[Document], answers: list[dict]) -> None:
    for document, answer in zip(documents, answers, strict=True):
        tokens = model.tokenizer.encode([document])[0]
        assert (answer["ids"], answer["word"], answer["sentence"]) == (tokens.ids, tokens.word, tokens.sentence)
        if not document.entities:
            assert answer["logits"] == []
            continue
        prediction = model(model.batch([document], labels=False))
        assert of_two(prediction.logits[0], answer["logits"]) < CLOSE, document.title
        found = {(t["head"], t["relation"], t["tail"]): t["score"] for t in answer["triples"]}
        known = {(t.head, t.relation, t.tail): t for t in predict(model, [document])}
        margins = {key: t.score for key, t in known.items()}
        assert all(abs({**margins, **found}[key]) < 0.05 for key in found.keys() ^ known.keys())
        for key in found.keys() & known.keys():
            assert found[key] == pytest.approx(margins[key], abs=CLOSE)
        if found.keys() == known.keys():
            assert [t["evidence"] for t in answer["triples"]] == [list(t.evidence) for t in known.values()]
        if "rounds" in prediction.trace:
            for one, two in zip(prediction.trace["rounds"][0], answer["rounds"], strict=True):
                assert of_two(one, two) < CLOSE


@pytest.mark.parametrize("name", sorted(trained()))
def test_the_page_says_what_the_module_says(name, ask):
    documents, model = twenty(), docre_lite.load(name)
    assert len(documents) == 20
    agree(model, documents, ask(model, documents))
    agree(model, documents[:2], ask(model, documents[:2], slow=True))  # where a browser has no SIMD


def test_a_browser_without_webassembly_says_the_same(ask, page):
    page.evaluate("() => { globalThis.WebAssembly = undefined; }")
    agree(docre_lite.load("atlop"), [running_example()], ask(docre_lite.load("atlop"), [running_example()]))


@torch.inference_mode()
def test_hidden_pairs_are_restored_alike(ask):
    model, document = docre_lite.load("dre_mir"), running_example()
    n = len(document.entities)
    hidden = torch.rand(1, n, n, generator=torch.Generator().manual_seed(0)) < 0.4
    pairs, part = model.features(model.batch([document], labels=False)), model.classifier
    part.keep_attention = True
    for mode in (None, 2):
        [answer] = ask(model, [document], hidden=hidden.flatten().int().tolist(), without=mode, keep=True)
        if mode is None:
            want = part.restore(pairs, hidden)
        else:
            with part.without(mode):
                want = part.restore(pairs, hidden)
        assert of_two(want.logits[0], answer["logits"]) < CLOSE
        off = ~torch.eye(n, dtype=torch.bool)
        for one, two in zip(want.trace["attention"][0], answer["attention"], strict=True):
            assert (one - torch.tensor(two).view_as(one))[:, off].abs().max() < CLOSE


@torch.inference_mode()
def test_rounds_and_where_they_looked_are_alike(ask):
    model, document = docre_lite.load("docre_ii", rounds=5), running_example()
    model.classifier.keep_attention = True
    [answer] = ask(model, [document], rounds=5, keep=True)
    found = model(model.batch([document], labels=False))
    for one, two in zip(found.trace["rounds"][0], answer["rounds"], strict=True):
        assert of_two(one, two) < CLOSE
    last = found.trace["attention"][0].flatten(0, 1)  # [layers · F and R, lines, N, N, N + 1]
    off = ~torch.eye(len(document.entities), dtype=torch.bool)
    for one, two in zip(last, answer["attention"][-len(last) :], strict=True):
        assert (one - torch.tensor(two).view_as(one))[:, off].abs().max() < CLOSE


OTHERS = [
    ("atlop", {"marker": "type_id", "read": "both", "pool": "mean"}),
    ("atlop", {"marker": "none", "read": "span", "block": 0, "window": 32, "stride": 16, "layers": 3}),
    ("atlop", {"marker": "type", "context": "softmax", "max_tokens": 40, "top": 1}),
    ("atlop", {"context": "off", "role_width": 16}),
    ("docunet", {"matrix": "ffn"}),
    ("docunet", {"unet_table": "code"}),
    ("paee", {"fill": "zero", "budget": 0.6}),
    ("paee", {"matrix": "unet", "potential": "soft", "re_layers": 2}),
    ("paee", {"matrix": "unet", "fill": "zero"}),
    ("paee", {"matrix": "ffn", "potential_window": 1}),
    ("paee", {"matrix": "none", "potential": "off", "context": "off"}),
    ("paee", {"re_encoder": False, "cross_matching": False, "potential": "off"}),
    ("docre_ii", {"fusion": False, "feedback": "best", "rounds": 2}),
    ("docre_ii", {"rounds": 0}),
    ("docre_ii", {"self_bonus": 1.0, "inference_layers": 1}),
    ("dre_mir", {"mask_rate": 0.0, "inference_layers": 3}),
]


@pytest.mark.parametrize(("name", "settings"), OTHERS, ids=lambda x: x if isinstance(x, str) else " ".join(x))
def test_other_settings_that_the_page_runs(name, settings, ask):
    documents = [made("one", 3), made("two", 7, sentences=9), made("three", 2)]
    model = tiny(name, documents, **settings)
    model.load_state_dict({k: v.half().to(v.dtype) for k, v in model.state_dict().items()})
    check(model)
    agree(model, documents, ask(model, documents))


def test_what_the_page_cannot_run_is_refused_in_a_line():
    documents = [made("one")]
    for name, settings in (
        ("docunet", {"loss": "bce"}),
        ("docre_ii", {"attention": "full"}),
        ("paee", {"fill": "slide"}),
    ):
        with pytest.raises(ValueError, match=f"a page runs {name} with {next(iter(settings))}=") as error:
            check(tiny(name, documents, **settings))
        assert "\n" not in str(error.value)
    first = tiny("docre_ii", documents)
    first.classifier.stage.fill_(1)
    with pytest.raises(ValueError, match="first stage"):
        check(first)


def test_the_product_is_the_one_that_is_written_out():
    wasmtime = pytest.importorskip("wasmtime", reason="no wasmtime here: pip install -e '.[test]'")
    import base64

    made = bytes(wasmtime.wat2wasm((ENGINE.parent / "product.wat").read_text(encoding="utf-8")))
    inlined = base64.b64decode(re.search(r'PRODUCT = "([^"]+)"', ENGINE.read_text(encoding="utf-8"))[1])
    assert made.startswith(inlined)  # all but the names of its variables, which follow
    assert made[len(inlined) : len(inlined) + 1] in (b"", b"\0")


def test_models_of_the_site_are_light():
    from docre_lite.page.export import as_script

    files = {name: paper_file(docre_lite.load(name)) for name in trained()} | {
        "encoder": encoder_file(docre_lite.load("atlop"))
    }
    assert sum(len(as_script(name, content).encode()) for name, content in files.items()) <= 4_000_000
    assert ENGINE.stat().st_size <= 64_000
    assert (ROOT / "docre_lite" / "page" / "product.wat").exists()
