"""Hidden pairs against the model: scores and marks at each rate and draw, a pair's modes, its gold derivations."""

from __future__ import annotations

import base64
import json
from copy import deepcopy

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import computed, drag, restorer, shown, thinking_on, violations
from small import several, tiny

from docre_lite.corpus import RULES, running_example
from docre_lite.layers import pair_cells
from docre_lite.model import DocRE, trained
from docre_lite.papers.dre_mir import MODES, draw_hidden
from docre_lite.widgets import MaskRateExplorer

MARKS = {"hit": "✓", "partly": "±", "wrong": "✗", "missed": "○", "": ""}


@pytest.fixture(scope="module")
def widget():
    return MaskRateExplorer(restorer(), running_example())


@pytest.fixture(scope="module")
def model():
    return restorer()


@pytest.fixture
def root(page, widget, tmp_path):
    return shown(page, widget, tmp_path)


def hidden_at(model, rate, draw) -> torch.Tensor:
    cells = pair_cells(model.batch([running_example()]).entity_mask)
    return draw_hidden(cells, rate / 100, torch.Generator().manual_seed(draw))


@torch.no_grad()
def answer(model, hidden):
    """Margins [N, N, R], decisions and the layers' weights, from the parts of the module."""
    part, pairs = model.classifier, model.features(model.batch([running_example()]))
    cells, weights = torch.where(hidden.unsqueeze(-1), part.hidden_cell, part.pair_matrix(pairs)), []
    for layer in part.matrix:
        cells, looks = layer(cells, pair_cells(pairs.batch.entity_mask), True)
        weights.append(looks[0])
    chosen, margin = part.objective.decide(part.classify(cells))
    return margin[0], chosen[0] & pairs.mask[0].unsqueeze(-1), torch.stack(weights)


def gold(model) -> set[tuple[int, int, int]]:
    return {(t.head, t.tail, model.relations.index(t.relation)) for t in running_example().triples}


def numbers(root) -> dict[str, str]:
    rows = root.locator(".dw-table").first.locator("tbody tr").all()
    return dict(row.locator("td").all_inner_texts() for row in rows)


def f1_of(claimed, facts) -> float:
    return 200 * len(claimed & facts) / (len(claimed) + len(facts))


def check(root, model, rate, draw) -> None:
    """Every cell of the three matrices and every number is what the model says at this rate and draw."""
    check_hidden(root, model, hidden_at(model, rate, draw))


def check_hidden(root, model, hidden) -> None:
    """The same for any set of hidden pairs [1, N, N]."""
    facts = gold(model)
    _, chosen, _ = answer(model, hidden)
    claimed, count = {tuple(c) for c in chosen.nonzero().tolist()}, len(running_example().entities)
    given, told, known = root.locator(".dw-matrix").all()
    classes = [m.locator("button").evaluate_all("cells => cells.map((c) => c.className)") for m in (given, told)]
    texts = [m.locator("button").all_inner_texts() for m in (told, known)]
    for h in range(count):
        for t in range(count):
            place, (one, two) = h * count + t, ({c for c in found if c[:2] == (h, t)} for found in (claimed, facts))
            assert ("dw-hidden" in classes[0][place].split()) == bool(hidden[0, h, t])
            assert ("dw-veiled" in classes[1][place].split()) == bool(hidden[0, h, t])
            kind = "partly" if one & two else "wrong" if one else "missed" if two else ""
            kind = "hit" if one and one == two else kind
            assert texts[0][place] == MARKS[kind] and (not kind or f"dw-{kind}" in classes[1][place].split())
            assert bool(texts[1][place]) == bool(two)
    right, found = claimed & facts, numbers(root)
    covered = {c for c in facts if hidden[0, c[0], c[1]]}
    assert float(found.get("F1 of this draw (%)") or found["F1 (%)"]) == pytest.approx(f1_of(claimed, facts), abs=0.051)
    assert float(found["its precision (%)"]) == pytest.approx(100 * len(right) / max(len(claimed), 1), abs=0.051)
    assert float(found["its recall (%)"]) == pytest.approx(100 * len(right) / len(facts), abs=0.051)
    assert found["gold triples found"] == f"{len(right)} of {len(facts)}"
    assert found["on hidden pairs"] == f"{len(right & covered)} of {len(covered)}"
    assert found["wrong claims"] == str(len(claimed - right))
    height = float(root.locator(".dw-own").get_attribute("cy"))  # 10 at 100 %, 162 at 0
    assert height == pytest.approx(162 - 1.52 * f1_of(claimed, facts), abs=0.1)


def test_masking_follows_the_model_by_drag_key_and_click(page, root, model):
    check(root, model, 20, 0)
    slider, pictures = root.get_by_label("Pairs hidden", exact=True), []
    pictures.append(root.locator(".dw-three").screenshot())
    drag(slider, 0.78)
    rate = int(slider.input_value())
    assert rate in (60, 70, 80)
    check(root, model, rate, 0)
    pictures.append(root.locator(".dw-three").screenshot())
    root.get_by_role("button", name="Resample").click()
    assert "draw 2 of 4" in root.inner_text()
    check(root, model, rate, 1)
    pictures.append(root.locator(".dw-three").screenshot())
    slider.focus()
    page.keyboard.press("ArrowLeft")
    check(root, model, rate - 10, 1)
    for _ in range(3):
        root.get_by_role("button", name="Resample").click()
    check(root, model, rate - 10, 0)
    page.keyboard.press("Tab")
    slider.focus()
    page.keyboard.press("Home")
    assert slider.input_value() == "0" and numbers(root)["on hidden pairs"] == "0 of 0"
    check(root, model, 0, 0)
    assert len(set(pictures)) == 3
    assert page.problems == []


def test_masking_curve_has_mean_and_range_over_draws(root, model):
    facts, values = gold(model), []
    for draw in range(4):
        chosen = answer(model, hidden_at(model, 50, draw))[1]
        values.append(f1_of({tuple(c) for c in chosen.nonzero().tolist()}, facts))
    drag(root.get_by_label("Pairs hidden", exact=True), 0.55)
    assert root.get_by_label("Pairs hidden", exact=True).input_value() == "50"
    found = numbers(root)
    assert float(found["F1, mean of 4 draws (%)"]) == pytest.approx(sum(values) / 4, abs=0.06)
    low, high = map(float, found["their range (%)"].split(" to "))
    assert (low, high) == (pytest.approx(min(values), abs=0.06), pytest.approx(max(values), abs=0.06)) and low < high
    assert float(root.locator(".dw-dot").get_attribute("cy")) == pytest.approx(162 - 1.52 * sum(values) / 4, abs=0.1)
    band = root.locator(".dw-band").get_attribute("points").split()
    across = [float(point.split(",")[1]) for point in band]
    assert len(band) == 20 and (across[5], across[14]) == (
        pytest.approx(162 - 1.52 * min(values), abs=0.1), pytest.approx(162 - 1.52 * max(values), abs=0.1)
    )  # fmt: skip
    assert float(root.locator(".dw-marker").get_attribute("x1")) == pytest.approx(46 + 302 * 5 / 9, abs=0.1)


def mode_rows(root) -> list[list[str]]:
    return [row.locator("td").all_inner_texts() for row in root.locator(".dw-pair tbody tr").all()]


def numeral(text: str) -> float:
    return float(text.replace("−", "-"))


def test_masking_shows_a_pairs_modes_and_derivations(page, root, model):
    example = running_example()
    names = [entity.name for entity in example.entities]
    count = len(names)
    slider = root.get_by_label("Pairs hidden", exact=True)
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    hidden = hidden_at(model, 60, 0)
    margin, chosen, looks = answer(model, hidden)
    silent = []
    for mode in range(4):
        other = deepcopy(model)
        for layer in other.classifier.matrix:
            layer.out.weight.data[:, mode * layer.width : (mode + 1) * layer.width] = 0
        silent.append(answer(other, hidden)[0])
    told = root.locator(".dw-matrix").nth(1)
    seen = set()
    for t in example.triples:
        told.locator("button").nth(t.head * count + t.tail).click()
        status = root.locator(".dw-status").inner_text()
        veiled = "hidden" if hidden[0, t.head, t.tail] else "seen"
        assert f"{names[t.head]} → {names[t.tail]}, {veiled}: " in status
        heading = root.locator(".dw-pair p").first.inner_text()
        assert heading.startswith(f"A = {t.head} {names[t.head]} → B = {t.tail} {names[t.tail]} ({veiled}).")
        assert model.relations.label(t.relation) in heading.split("Predicted")[0]
        facts = {r for h, o, r in gold(model) if (h, o) == (t.head, t.tail)}
        claimed = set(chosen[t.head, t.tail].nonzero().flatten().tolist())
        r = max(facts & claimed or claimed or facts, key=lambda r: float(margin[t.head, t.tail, r]))
        rows = mode_rows(root)
        assert [row[0] for row in rows] == list(MODES)
        own, *drops = (float(m[t.head, t.tail, r]) for m in (margin, *silent))
        most = [mode for mode, row in enumerate(rows) if "◀" in row[2]]
        assert len(most) <= 1 and all(drops[mode] < min(drops) + 0.11 for mode in most)  # rounded, so nearly the least
        assert most or min(drops) > own - 0.11
        for mode, row in enumerate(rows):
            assert numeral(row[2].split()[0]) == pytest.approx(drops[mode], abs=0.051)
            for layer, cell in enumerate(row[3:]):
                weights = looks[layer, mode, t.head, t.tail]
                assert int(cell.split()[0]) == pytest.approx(100 * float(1 - weights[-1]), abs=0.8)
                best = int(weights[:-1].argmax())
                if float(weights[best]) > 0.01:
                    shown = int(cell.split("; ")[1].split()[0])  # of two that are as good as equal it may be either
                    assert f"; {shown} {names[shown]} " in cell
                    assert float(weights[shown]) == pytest.approx(float(weights[best]), abs=1e-4)
                    share = int(cell.removesuffix(" ✓").split()[-2])
                    assert share == pytest.approx(100 * float(weights[best]), abs=0.8)
        if t.depth:
            (first, second), seen = t.premises, seen | {t}
            (x,) = {first[0], first[2]} & {second[0], second[2]} - {t.head, t.tail}
            whose = f" ⇒ {model.relations.label(t.relation)}" if len(facts) > 1 else ""
            ways = [
                (rule.mode - 1, f"{rule.pattern}{whose}, x = {x} {names[x]} ")
                for rule in RULES
                if rule.conclusion == t.relation and {rule.first, rule.second} == {first[1], second[1]}
            ]
            gone = sum(bool(hidden[0, a, b]) for a, _, b in t.premises)
            legs = ("both legs seen", "one leg hidden", "both legs hidden")[gone]
            assert any(f"{way}({legs})" in rows[mode][1] for mode, way in ways)
    assert seen and page.problems == []


def test_masking_cells_are_walked_by_keys(page, root):
    names = [entity.name for entity in running_example().entities]
    known = root.locator(".dw-matrix").nth(2)
    known.locator("button").nth(1).click()
    for key, head, tail in (("Right", 0, 2), ("Down", 1, 2), ("Left", 1, 0), ("Down", 2, 0)):
        page.keyboard.press(f"Arrow{key}")  # over the diagonal, too
        assert f"{names[head]} → {names[tail]}, " in root.locator(".dw-status").inner_text()
        for matrix in root.locator(".dw-matrix").all():
            assert matrix.locator(".dw-on").get_attribute("aria-pressed") == "true"
            assert matrix.locator(".dw-on").get_attribute("aria-label").startswith(f"{names[head]} to {names[tail]}: ")
    known.locator("button").nth(3 * len(names) + 7).click()  # a country and a book
    assert "Nothing holds and nothing is claimed here" in root.locator(".dw-pair").inner_text()


def test_masking_a_kernel_draws_anew(page, widget, model, tmp_path):
    state = {**widget.state, "rate": 40, "draw": 7}
    kernel = json.dumps({"state": state, **widget.recompute(state)})
    html = widget.html().replace('"answer": {}', f'"answer": {kernel}')
    html = html.replace(json.dumps(dict(widget.state)), json.dumps(state))
    (tmp_path / "live.html").write_text(f"<meta charset=utf-8>{html}")
    page.goto((tmp_path / "live.html").as_uri())
    page.wait_for_selector(".dw[data-ready]")
    root = page.locator(".dw")
    assert root.locator(".dw-sign").inner_text() == "computed here" and "draw 8, fresh" in root.inner_text()
    check(root, model, 40, 7)
    root.locator(".dw-matrix").first.locator("button").nth(5).click()
    check(root, model, 40, 7)  # another pair needs no other answer
    root.get_by_role("button", name="Resample").click()
    check(root, model, 40, 7)  # the next draw has not come yet


def test_masking_starts_from_a_composed_triple_and_leaves_the_model_as_it_was(widget, model):
    state = widget.data["states"][2][0]
    head, tail = widget.state["head"], widget.state["tail"]
    (best,) = {t.depth > 0 for t in running_example().triples if (t.head, t.tail) == (head, tail)}
    assert best and any(claim[:2] == [head, tail] for claim in state["claims"])
    assert widget.recompute(dict(widget.state)) == state
    assert not model.training and not model.classifier.keep_attention
    model.train()
    widget.recompute(dict(widget.state))
    assert model.training
    model.eval()


def test_masking_refuses_what_it_cannot_show():
    documents = several()
    for model in (
        tiny("atlop", documents),
        *(tiny("dre_mir", documents, variant=variant) for variant in ("no_mir", "no_imsa")),
        tiny("dre_mir", documents, inference_layers=0),
    ):
        with pytest.raises(ValueError, match="only a DRE-MIR with I-MSA and mask_rate above 0"):
            MaskRateExplorer(model, documents[0])
    model = tiny("dre_mir", documents)
    alone = type(documents[0])("alone", documents[0].sentences, documents[0].entities[:1])
    with pytest.raises(ValueError, match="alone: no pair of entities to look at"):
        MaskRateExplorer(model, alone)
    with pytest.raises(ValueError, match="the model does not know"):
        MaskRateExplorer(model, running_example())
    with pytest.raises(ValueError, match=r"one: \(1, 1\) is not a pair to classify"):
        MaskRateExplorer(model, documents[0], pair=(1, 1))
    with pytest.raises(ValueError, match="draws=0: at least one draw"):
        MaskRateExplorer(model, documents[0], draws=0)


def test_masking_shows_two_entities_and_restricted_pairs(page, tmp_path):
    """No third entity: no path. A document that asks for some pairs only: the others are no cells of the answer."""
    documents = several()
    model = tiny("dre_mir", documents)
    root = shown(page, MaskRateExplorer(model, documents[2], draws=1), tmp_path)
    assert "draw 1 of 1" in root.inner_text()
    root = shown(page, MaskRateExplorer(model, documents[3], draws=2), tmp_path)
    enabled = [m.locator("button:enabled").count() for m in root.locator(".dw-matrix").all()]
    assert enabled == [12, len(documents[3].candidates), len(documents[3].candidates)]
    assert page.problems == []


@pytest.fixture(scope="module")
def shipped():
    return DocRE.load(trained()["dre_mir"])


@pytest.fixture(scope="module")
def thinking(shipped):
    return MaskRateExplorer(shipped, running_example())


def kept_answer(page) -> dict:
    """What the page computed, as the script has it; see `thinking_on`."""
    return page.evaluate("kept.answer")


def raw(packed) -> list[int]:
    return list(base64.b64decode(packed["bytes"]))


def alike(found: dict, expected: dict) -> None:
    """The page's answer and Python's: the same facts; margins and weights as near as weights of 16 bits allow."""
    assert found.keys() - {"state"} == expected.keys()
    for key in ("hidden", "correct", "covered", "restored"):
        assert found[key] == expected[key]
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert [claim[:4] for claim in found["claims"]] == [claim[:4] for claim in expected["claims"]]
    for one, two in zip(found["claims"], expected["claims"], strict=True):
        assert one[4:] == pytest.approx(two[4:], abs=0.15)  # both rounded to a tenth
    for key in ("looks", "middles"):
        assert {k: found[key][k] for k in ("shape", "low", "high")} == {
            k: expected[key][k] for k in ("shape", "low", "high")
        }
    assert raw(found["looks"]) == pytest.approx(raw(expected["looks"]), abs=3)
    most = raw(expected["looks"])[1::2]
    middles = zip(raw(found["middles"]), raw(expected["middles"]), most, strict=True)
    assert all(one == two for one, two, share in middles if share > 140)  # more than half of a head's attention


def test_masking_the_page_hides_by_hand_what_the_reader_clicks(page, thinking, shipped, tmp_path):
    root = thinking_on(page, thinking, tmp_path)
    assert root.locator(".dw-sign").inner_text() == "computed here"
    check(root, shipped, 20, 0)
    alike(kept_answer(page), thinking.recompute(dict(thinking.state)))
    names = [entity.name for entity in running_example().entities]
    given, count = root.locator(".dw-matrix").first, len(names)
    root.get_by_role("button", name="Hide none").click()
    computed(root)
    root.get_by_label("hides it, or shows it again", exact=True).check()
    hidden = torch.zeros(1, count, count, dtype=torch.bool)
    chosen = root.locator(".dw-matrix").nth(1).locator(".dw-on").get_attribute("aria-label")
    for head, tail in ((0, 1), (1, 0), (1, 3), (3, 0), (0, 3)):
        given.locator("button").nth(head * count + tail).click()
        computed(root)
        hidden[0, head, tail] = True
        check_hidden(root, shipped, hidden)
        assert f"{names[head]} → {names[tail]} is hidden: " in root.locator(".dw-status").inner_text()
    page.keyboard.press("ArrowRight")  # the focus walks, nothing else changes
    page.keyboard.press("Enter")
    computed(root)
    hidden[0, 0, 4] = True
    check_hidden(root, shipped, hidden)
    page.keyboard.press("Space")
    computed(root)
    hidden[0, 0, 4] = False
    check_hidden(root, shipped, hidden)
    status = root.locator(".dw-status").inner_text()
    assert f"{names[0]} → {names[4]} is shown again: " in status and "5 of 72 pairs hidden by hand: F1 " in status
    assert root.locator(".dw-matrix").nth(1).locator(".dw-on").get_attribute("aria-label").startswith(chosen[:9])
    alike(kept_answer(page), thinking.recompute(kept_answer(page)["state"]))
    assert violations(page) == [] and page.problems == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert violations(page, "color-contrast") == []


def test_masking_the_page_draws_anew_without_end(page, thinking, shipped, tmp_path):
    root = thinking_on(page, thinking, tmp_path)
    slider, cells, seen = root.get_by_label("Pairs hidden", exact=True), 72, set()
    for k in range(2, 7):
        root.get_by_role("button", name="Resample").click()
        computed(root)
        assert (f"draw {k} of 4" if k <= 4 else f"draw {k}, fresh") in root.inner_text()
        seen.add(kept_answer(page)["hidden"])
    assert len(seen) == 5
    before = kept_answer(page)["hidden"]
    assert before.count("1") == 14  # exactly a fifth, rounded down
    slider.focus()
    for rate in (30, 40, 50):
        page.keyboard.press("ArrowRight")
        computed(root)
        answer = kept_answer(page)
        assert answer["hidden"].count("1") == cells * rate // 100
        assert all(now == "1" for now, then in zip(answer["hidden"], before, strict=True) if then == "1")
        assert not any(answer["hidden"][e * 10] == "1" for e in range(9))
        before = answer["hidden"]
    check_hidden(root, shipped, torch.tensor([c == "1" for c in before]).view(1, 9, 9))
    alike(answer, thinking.recompute(answer["state"]))
    assert page.problems == []


def test_masking_shows_the_legs_of_what_is_restored(page, thinking, shipped, tmp_path):
    root = thinking_on(page, thinking, tmp_path)
    hidden = hidden_at(shipped, 20, 0)
    names = [entity.name for entity in running_example().entities]
    margin, chosen, looks = answer(shipped, hidden)
    restored = {
        (t.head, t.tail)
        for t in running_example().triples
        if hidden[0, t.head, t.tail] and chosen[t.head, t.tail, shipped.relations.index(t.relation)]
    }
    rows = root.locator(".dw-facts tbody tr")
    assert sorted(rows.locator("button").all_inner_texts()) == sorted(f"{names[h]} → {names[t]}" for h, t in restored)
    assert restored
    legs = ("ax xb", "ax bx", "xa bx", "xa xb")
    for k in range(rows.count()):
        rows.nth(k).locator("button").click()
        computed(root)
        (head, tail) = next(
            p for p in restored if rows.nth(k).locator("button").inner_text() == f"{names[p[0]]} → {names[p[1]]}"
        )
        assert f"{names[head]} → {names[tail]}, hidden: " in root.locator(".dw-status").inner_text()
        most = [mode for mode, row in enumerate(mode_rows(root)) if "◀" in row[2]]
        framed = (
            root.locator(".dw-matrix")
            .first.locator("button")
            .evaluate_all(
                "all => all.map((e, k) => [e.classList.contains('dw-leg'), k]).filter(([on]) => on).map(([, k]) => k)"
            )
        )
        if not most:
            assert framed == []
            continue
        weights = looks[:, most[0], head, tail, :-1].max(0).values  # of the layer where a single x gets most
        if float(weights.topk(2).values.diff().abs()) > 0.02:
            place = {"a": head, "b": tail, "x": int(weights.argmax())}
            assert framed == sorted(place[one] * 9 + place[two] for one, two in legs[most[0]].split())
    assert page.problems == []


def test_masking_honours_hidden_pairs_in_python(thinking, shipped):
    count = 9
    for cells in ({(0, 1)}, {(1, 3), (0, 3), (4, 0)}, set()):
        by_hand = "".join("1" if (k // count, k % count) in cells else "0" for k in range(count * count))
        found = thinking.recompute({**thinking.state, "hidden": by_hand})
        hidden = torch.tensor([c == "1" for c in by_hand]).view(1, count, count)
        _, chosen, _ = answer(shipped, hidden)
        assert found["hidden"] == by_hand
        assert {(h, t, r) for h, t, relations, *_ in found["claims"] for r in relations} == {
            tuple(c) for c in chosen.nonzero().tolist()
        }
    assert thinking.recompute({**thinking.state, "hidden": "1" * 81})["hidden"].count("1") == 72  # no pair with itself


def test_masking_a_page_without_models_shows_what_is_stored(page, root, widget, thinking, tmp_path):
    assert root.get_by_label("hides it, or shows it again").count() == 1
    assert not root.get_by_label("hides it, or shows it again").is_visible()  # the model is not the package's
    assert not root.get_by_role("button", name="Hide none").is_visible() and "live" not in widget.data
    alone = shown(page, thinking, tmp_path)  # no models beside this page
    alone.locator(".dw-status", has_text="stored answers are shown").wait_for()
    assert not alone.get_by_label("hides it, or shows it again").is_visible()
    for _ in range(4):
        alone.get_by_role("button", name="Resample").click()
    assert "draw 1 of 4" in alone.inner_text()


def test_masking_a_kernel_answers_for_pairs_hidden_by_hand(page, widget, model, tmp_path):
    by_hand = "".join("1" if k in (1, 12, 27) else "0" for k in range(81))
    state = {**widget.state, "hidden": by_hand}
    kernel = json.dumps({"state": state, **widget.recompute(state)})
    html = widget.html().replace('"answer": {}', f'"answer": {kernel}')
    html = html.replace(json.dumps(dict(widget.state)), json.dumps(state))
    (tmp_path / "live.html").write_text(f"<meta charset=utf-8>{html}")
    page.goto((tmp_path / "live.html").as_uri())
    page.wait_for_selector(".dw[data-ready]")
    root = page.locator(".dw")
    assert "3 of 72 pairs hidden by hand: F1 " in root.locator(".dw-status").inner_text()
    check_hidden(root, model, torch.tensor([c == "1" for c in by_hand]).view(1, 9, 9))
    assert page.problems == []
