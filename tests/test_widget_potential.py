"""The map of potential pairs against the model: pairs kept, patches, precision, recall, claims; by drag, click, key."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import drag, shown, with_models
from small import made, sgd_steps, tiny

from docre_lite.corpus import running_example
from docre_lite.model import DocRE, trained
from docre_lite.widgets import PotentialPairs
from docre_lite.widgets.base import changed

MAP, WEIGHTS = ".dw-matrix:has(button)", ".dw-matrix:not(:has(button))"


@pytest.fixture(scope="module")
def documents():
    return [running_example(), made("other", 5)]


@pytest.fixture(scope="module")
def paee(documents):
    model = tiny("paee", documents)
    sgd_steps(model, model.batch(documents), 25, lr=1e-2)
    with torch.no_grad():
        model.classifier.bilinear.head.weight[:, -1] = torch.linspace(-3, 3, 32)  # a model that listens to its tag
    return model


def truth(model, document, budget: float, λ: float) -> dict:
    """What the widget must show, from the model alone. Pairs are (head, tail)."""
    classifier = model.classifier
    options, share = classifier.options, classifier.matrix.budget
    classifier.options, classifier.matrix.budget = replace(options, potential_threshold=λ), budget
    with torch.no_grad():
        found = model(model.batch([document]))
    classifier.options, classifier.matrix.budget = options, share
    potential = found.trace["potential"][0].sigmoid()
    pairs = document.pairs()
    claims: dict[tuple[int, int], set[str]] = {}
    for h, t, r in found.chosen[0].nonzero().tolist():
        claims.setdefault((h, t), set()).add(model.relations.names[r])
    return {
        "probability": {(h, t): float(potential[h, t]) for h, t in pairs},
        "kept": {(h, t) for h, t in pairs if potential[h, t] > λ},
        "claims": claims,
        "claimed": set(claims),
        "gold": {(t.head, t.tail) for t in document.triples},
        "looked": found.trace["patch_looked"][0],
        "weight": found.trace["patch_weight"][0],
    }


def row(chosen: set, right: dict) -> list[float]:
    """A row of the table: pairs, of how many, gold ones among them, of how many, precision and recall in %."""
    hit, gold = len(chosen & right["gold"]), len(right["gold"])
    return [len(chosen), len(right["probability"]), hit, gold, 100 * hit / max(len(chosen), 1), 100 * hit / gold]


def table(root) -> list[list[int]]:
    texts = root.locator(".dw-table td").all_inner_texts()
    return [[int(x) for x in re.findall(r"\d+", " ".join(line))] for line in (texts[1:5], texts[6:])]


def framed(root, table: str) -> list[list[list[bool]]]:
    """For each place: is it framed above, right, below, left?"""
    sides = ", ".join(f"look.border{side}Width" for side in ("Top", "Right", "Bottom", "Left"))
    read = f"""(lines) => lines.map((line) => [...line.querySelectorAll("td")].map((place) => {{
        const look = getComputedStyle(place, "::after");
        return [{sides}].map((width) => width !== "0px"); }}))"""
    return root.locator(f"{table} tbody tr").evaluate_all(read)


def cells(root) -> list[list[list]]:
    """For each cell of the map: no pair?, its text, its classes."""
    read = """(lines) => lines.map((line) => [...line.querySelectorAll("button")].map((cell) =>
        [cell.disabled, cell.textContent, cell.className]))"""
    return root.locator(f"{MAP} tbody tr").evaluate_all(read)


def check(root, model, document, budget: float, λ: float) -> dict:
    """All that the page shows for a budget and a λ is what the model says."""
    right, n = truth(model, document, budget, λ), len(document.entities)
    assert root.get_by_role("slider", name="Threshold").get_attribute("aria-valuetext") == f"{λ:.2f}"
    looks = right["looked"]
    said = f"{100 * budget:.0f} %: {int(looks.sum())} of {looks.numel()} patches"
    assert root.get_by_role("slider", name="Patch budget").get_attribute("aria-valuetext") == said
    for written, chosen in zip(table(root), (right["kept"], right["claimed"]), strict=True):
        expected = row(chosen, right)
        assert written[:4] == expected[:4] and written[4:] == pytest.approx(expected[4:], abs=0.51)
    for h, line in enumerate(cells(root)):
        for t, (disabled, text, look) in enumerate(line):
            assert disabled == ((h, t) not in right["probability"])
            if disabled:
                continue
            assert float(text.rstrip("●")) == pytest.approx(100 * right["probability"][h, t], abs=0.52)
            assert text.endswith("●") == ((h, t) in right["gold"])
            kind = {(True, True): "hit", (True, False): "wrong", (False, True): "missed", (False, False): None}
            expected = kind[(h, t) in right["kept"], (h, t) in right["gold"]]
            assert [k for k in ("hit", "wrong", "missed") if f"dw-{k}" in look] == ([expected] if expected else [])
    for y, line in enumerate(framed(root, MAP)):
        for x, (above, after, below, before) in enumerate(line):
            on = bool(looks[y // 3, x // 3])
            assert (above, before) == (on and y % 3 == 0, on and x % 3 == 0)
            assert (after, below) == (on and (x % 3 == 2 or x == n - 1), on and (y % 3 == 2 or y == n - 1))
    written = root.locator(f"{WEIGHTS} td").all_inner_texts()
    shares = torch.tensor([float(text) for text in written]).view_as(looks)
    assert shares / 100 == pytest.approx(right["weight"].float(), abs=0.00051)
    assert torch.tensor(framed(root, WEIGHTS)).all(-1).tolist() == looks.tolist()
    # the points on both curves, over an axis from 0 to 1
    ticks, points = (
        root.locator(mark).evaluate_all(f"(all) => all.map((one) => Number(one.getAttribute('{name}')))")
        for mark, name in ((".dw-tick", "y1"), (".dw-dot", "cy"))
    )
    shares = [(ticks[0] - y) / (ticks[0] - ticks[-1]) for y in points]
    hit = len(right["kept"] & right["gold"])
    assert shares == pytest.approx([hit / max(len(right["kept"]), 1), hit / len(right["gold"])], abs=0.002)
    return right


def test_potential_pairs_follow_both_sliders(page, paee, documents, tmp_path):
    widget = PotentialPairs(paee, documents)
    root, budgets = shown(page, widget, tmp_path), widget.data["budgets"]
    seen = [check(root, paee, documents[0], 0.25, 0.3)]
    before = root.locator(MAP).screenshot()
    drag(root.get_by_role("slider", name="Threshold"), 0.15)
    λ = float(root.get_by_role("slider", name="Threshold").input_value())
    assert 0.05 < λ < 0.25
    assert root.locator(MAP).screenshot() != before
    seen.append(check(root, paee, documents[0], 0.25, λ))
    assert seen[1]["kept"] > seen[0]["kept"]
    before = root.locator(MAP).screenshot()
    drag(root.get_by_role("slider", name="Patch budget"), 0.7)
    k = int(root.get_by_role("slider", name="Patch budget").input_value())
    budget = budgets[k]
    assert 0.5 < budget < 0.9
    assert root.locator(MAP).screenshot() != before
    seen.append(check(root, paee, documents[0], budget, λ))
    assert seen[2]["probability"] != seen[1]["probability"]
    root.get_by_role("slider", name="Threshold").press("Home")
    everything = check(root, paee, documents[0], budget, 0.0)
    assert len(everything["kept"]) == 72
    root.get_by_role("slider", name="Patch budget").press("ArrowLeft")
    check(root, paee, documents[0], budgets[k - 1], 0.0)
    root.get_by_role("slider", name="Threshold").press("End")
    nothing = check(root, paee, documents[0], budgets[k - 1], 1.0)
    assert not nothing["kept"] and nothing["claimed"] != everything["claimed"]  # the tag reaches the claims
    assert page.problems == []


def test_potential_thresholds_decide_as_the_model_does(paee, documents):
    """At every λ of the slider, also where a probability lies a hair above or below it."""
    shares = PotentialPairs(paee, documents[0]).data["documents"][0]["levels"][0]["potential"]
    exact = truth(paee, documents[0], 0.1, 0.3)["probability"]
    for k in range(101):
        kept = {(h, t) for h, line in enumerate(shares) for t, p in enumerate(line) if p is not None and p > 100 * k}
        assert kept == {pair for pair, p in exact.items() if p > k / 100}


def test_potential_cells_are_chosen_by_click_and_key(page, paee, documents, tmp_path):
    example = documents[0]
    names, right = [entity.name for entity in example.entities], truth(paee, example, 0.25, 0.3)
    root = shown(page, PotentialPairs(paee, example), tmp_path)

    def said(head, tail):
        text = root.locator(".dw-status").inner_text()
        gold = [t for t in example.triples if (t.head, t.tail) == (head, tail)]
        kept = (head, tail) in right["kept"]
        assert text.startswith(f"{names[head]} → {names[tail]}: probability {right['probability'][head, tail]:.2f}")
        assert ("so kept." in text, "so not kept." in text) == (kept, not kept)
        listed = ", ".join(t.relation + (" (composed)" if t.depth else "") for t in gold)
        assert f"Gold: {listed or 'none'};" in text
        claimed = re.search("claims: (.*)[.] Its", text)[1].split(", ")
        assert set(claimed) == right["claims"].get((head, tail), {"none"})
        looked = bool(right["looked"][head // 3, tail // 3])
        assert (" gets a close look" in text, " gets no close look" in text) == (looked, not looked)
        chosen = root.locator(f"{MAP} [aria-pressed=true]")
        assert chosen.count() == 1 and chosen.get_attribute("aria-label").startswith(f"{names[head]} to {names[tail]}:")

    first = example.triples[0]
    said(first.head, first.tail)
    root.locator(f"{MAP} tbody tr").nth(4).locator("button").nth(6).click()
    said(4, 6)
    for key, place in (("ArrowLeft", (4, 5)), ("ArrowLeft", (4, 3)), ("ArrowUp", (2, 3)), ("ArrowRight", (2, 4))):
        page.keyboard.press(key)  # the diagonal holds no pair
        said(*place)
    for pair in sorted(right["gold"] | right["claimed"]):
        root.locator(f"{MAP} tbody tr").nth(pair[0]).locator("button").nth(pair[1]).click()
        said(*pair)
    assert (
        names[3] in root.locator(f"{MAP} thead").inner_text() and names[3] in root.locator(f"{MAP} tbody").inner_text()
    )


def test_potential_changes_the_document(page, paee, documents, tmp_path):
    root = shown(page, PotentialPairs(paee, documents), tmp_path)
    root.get_by_label("Document", exact=True).select_option("1")
    check(root, paee, documents[1], 0.25, 0.3)
    root.get_by_role("slider", name="Patch budget").press("End")
    check(root, paee, documents[1], 1.0, 0.3)
    root.get_by_label("Document", exact=True).select_option("0")
    check(root, paee, documents[0], 1.0, 0.3)


def test_potential_shows_what_a_kernel_answers(page, paee, documents, tmp_path):
    widget = PotentialPairs(paee, documents)
    state = {**widget.state, "document": 1, "budget": 0.5, "threshold": 0.2}
    answer, right = widget.recompute(state), truth(paee, documents[1], 0.5, 0.2)
    kept = {(h, t) for h, t in documents[1].pairs() if answer["kept"][h][t]}
    assert kept == right["kept"] and answer["looked"] == right["looked"].tolist()
    assert {tuple(map(int, key.split(","))) for key in answer["claims"]} == right["claimed"]
    answer = widget.recompute(dict(widget.state))
    answer["kept"] = [[True] * 9] * 9  # no such tags: only the answer can say so
    embedded = json.dumps({"state": dict(widget.state), **answer})
    widget.html = lambda: PotentialPairs.html(widget).replace('"answer": {}', f'"answer": {embedded}')
    root = shown(page, widget, tmp_path)
    assert root.locator(".dw-sign").inner_text() == "computed here"
    assert table(root)[0][:2] == [72, 72]
    root.get_by_role("slider", name="Threshold").press("ArrowRight")  # a state that was not asked for
    assert root.locator(".dw-sign").inner_text() == "stored"
    check(root, paee, documents[0], 0.25, 0.31)


def test_potential_leaves_the_model_as_it_was(paee, documents):
    paee.train()
    options, budget = paee.classifier.options, paee.classifier.matrix.budget
    PotentialPairs(paee, documents).state = {
        "document": 1,
        "threshold": 0.9,
        "budget": 1.0,
        "head": 0,
        "tail": 1,
        "change": None,
    }
    assert (paee.classifier.options, paee.classifier.matrix.budget) == (options, budget) and paee.training
    paee.eval()


def test_potential_says_the_same_without_a_script(paee, documents):
    right = truth(paee, documents[0], 0.25, 0.3)
    kept, of, hit, gold, *shares = row(right["kept"], right)
    cells = ["0.3", f"{kept} of {of}", f"{hit} of {gold}", *(f"{share:.0f}" for share in shares)]
    assert "".join(f"<td>{cell}</td>" for cell in cells) in PotentialPairs(paee, documents).fallback()


def test_potential_takes_candidates_and_a_written_out_matrix(page, documents, tmp_path):
    few = replace(
        documents[1], candidates=frozenset({(0, 1), (1, 2), *((t.head, t.tail) for t in documents[1].triples)})
    )
    model = tiny("paee", documents, fill="slide", potential="soft", budget=0.1, matrix_size=12)
    root = shown(page, PotentialPairs(model, few), tmp_path)
    right = check(root, model, few, 0.1, 0.3)
    assert right["looked"].shape == (4, 4) and "copy" in root.locator(WEIGHTS).inner_text()
    root.get_by_role("slider", name="Patch budget").press("End")
    check(root, model, few, 1.0, 0.3)


def test_potential_refuses_what_it_cannot_show(paee, documents):
    for model in (tiny("atlop", documents), *(tiny("paee", documents, variant=v) for v in ("no_potential", "unet"))):
        with pytest.raises(ValueError, match="no potential pairs or no patches here; give a PAEE"):
            PotentialPairs(model, documents[0])
    alone = type(documents[0])("alone", documents[0].sentences, documents[0].entities[:1])
    with pytest.raises(ValueError, match="alone: no pair"):
        PotentialPairs(paee, [documents[0], alone])
    with pytest.raises(ValueError, match="no document"):
        PotentialPairs(paee, [])


@pytest.fixture(scope="module")
def shipped():
    return DocRE.load(trained()["paee"])


def state_of(page, root) -> dict:
    """Waits for the page's own answer, and gives the change that the reader has made."""
    page.wait_for_selector(".dw-sign[data-live='true']")
    page.wait_for_function("!document.querySelector('.dw').hasAttribute('aria-busy')")
    return page.evaluate("() => globalThis.seen.get('state')")


@pytest.fixture
def computing(page, shipped, documents, tmp_path, monkeypatch):
    """The widget in a page that has the models; `globalThis.seen` is what the shim gives in place of a kernel."""
    widget = PotentialPairs(shipped, documents)
    assert widget.data["live"] == ["paee"]
    html = widget.html().replace("const el = document", "globalThis.seen = model; const el = document")
    monkeypatch.setattr(widget, "html", lambda: html)
    root = shown(page, widget, with_models(tmp_path))
    assert state_of(page, root)["change"] is None
    return root


def test_potential_computes_any_budget_and_threshold(page, shipped, documents, computing):
    for key, times in (("ArrowRight", 7), ("Home", 1), ("End", 1)):
        for _ in range(times):
            computing.get_by_role("slider", name="Patch budget").press(key)
            state = state_of(page, computing)
        check(computing, shipped, documents[0], state["budget"], state["threshold"])
    assert state["budget"] == 1
    computing.get_by_role("slider", name="Patch budget").press("ArrowLeft")
    for k in (5, 30, 31):
        computing.get_by_role("slider", name="Threshold").fill(str(k / 100))
        state_of(page, computing)
        check(computing, shipped, documents[0], 0.99, k / 100)
    assert page.problems == []


def test_potential_computes_a_changed_document(page, shipped, documents, computing):
    example = documents[0]
    computing.get_by_text("Change the document").click()
    computing.locator(".dw-line .dw-button").nth(1).click()
    state = state_of(page, computing)
    now = changed(example, state)
    assert len(now.sentences) == len(example.sentences) - 1
    right, shares = truth(shipped, now, 0.25, 0.3), cells(computing)
    for (h, t), share in right["probability"].items():
        assert float(shares[h][t][1].rstrip("●")) == pytest.approx(100 * share, abs=0.52)
    assert table(computing)[0][0] == len(right["kept"]) and table(computing)[1][0] == len(right["claimed"])
    assert computing.locator(".dw-status").inner_text().startswith("Your change: pairs newly kept: ")
    answer = page.evaluate("() => globalThis.seen.get('answer')")
    ours = PotentialPairs(shipped, documents).recompute(state)
    assert {k: answer[k] for k in ("kept", "looked", "claims")} == {k: ours[k] for k in ("kept", "looked", "claims")}
    assert answer["weight"] == [pytest.approx(line, abs=2e-5) for line in ours["weight"]]
    for mine, other in zip(answer["potential"], ours["potential"], strict=True):
        assert [p is None for p in mine] == [p is None for p in other]
        assert [p or 0 for p in mine] == pytest.approx([p or 0 for p in other], abs=3)

    computing.get_by_label("Entity", exact=True).select_option("3")
    computing.get_by_label("New name").fill("Ada Norvik")
    computing.get_by_role("button", name="Rename").click()
    state_of(page, computing)
    assert "Ada Norvik" in computing.locator(f"{MAP} tbody").inner_text()
    computing.get_by_text("Write your own document").click()
    computing.locator("textarea").fill("[Ann|PER|1] was born in [Rome|LOC|2]. She met [Bob|PER|3].")
    page.wait_for_function("document.querySelectorAll('.dw-matrix tbody tr').length < 6")
    now = changed(example, state_of(page, computing))
    right = truth(shipped, now, 0.25, 0.3)
    assert table(computing)[0][:2] == [len(right["kept"]), 6]
    assert "precision" not in computing.locator(".dw-status").inner_text()  # a text of one's own has no gold
    computing.get_by_role("button", name="Put everything back").click()
    state_of(page, computing)
    check(computing, shipped, example, 0.25, 0.3)
    for button in computing.locator(".dw-line .dw-button").all():
        button.click()
    assert PotentialPairs(shipped, documents).recompute(state_of(page, computing))["potential"] == []
    assert computing.locator(".dw-status").inner_text().startswith("No pair of entities is left")
    computing.get_by_label("Document", exact=True).select_option("1")
    assert state_of(page, computing)["change"] is None
    check(computing, shipped, documents[1], 0.25, 0.3)
    assert page.problems == []


def test_potential_without_the_models_shows_what_is_stored(page, shipped, documents, tmp_path):
    root = shown(page, PotentialPairs(shipped, documents), tmp_path)  # no models beside the page
    page.wait_for_function("document.querySelector('.dw-status').textContent.includes('does not run in this page')")
    root.get_by_role("slider", name="Threshold").press("ArrowRight")
    check(root, shipped, documents[0], 0.25, 0.31)
    assert not root.get_by_text("Change the document").is_visible()
