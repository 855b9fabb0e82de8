"""The stepper of DocRE-II against the model: marks and counts of every round, attention, text, derivation."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import computed, drag, shown, thinking_on, violations
from small import made, sgd_steps, tiny

from docre_lite.corpus import running_example
from docre_lite.evaluate import score
from docre_lite.layers import pair_cells
from docre_lite.model import DocRE, trained
from docre_lite.papers.docre_ii import LINES
from docre_lite.types import Triple
from docre_lite.widgets import RefinementStepper, refinement


@pytest.fixture(scope="module")
def documents():
    return [running_example(), made("other", 5)]


@pytest.fixture(scope="module")
def docre(documents):
    """A few steps of training, so that rounds add, remove and keep, and cells are hit, missed and wrong."""
    model = tiny("docre_ii", documents)
    sgd_steps(model, model.batch(documents), 25, 1e-2)
    return model


def after(model, document, rounds):
    """What the model says that ends in this round, and its trace: straight from the module."""
    part = model.classifier
    kept, part.options, part.keep_attention = part.options, replace(part.options, rounds=rounds), True
    with torch.no_grad():
        prediction = model(model.batch([document]))
    part.options, part.keep_attention = kept, False
    names = model.relations.names
    facts = {(h, names[r], t) for h, t, r in prediction.chosen[0].nonzero().tolist()}
    return facts, prediction


def marks(document, now, was):
    """The signs of every cell that has some, each once: what changed, then what did not, in order of the relations."""
    gold, signs = {(t.head, t.relation, t.tail) for t in document.triples}, {}
    for h, r, t in sorted(gold | now | was):
        fact = (h, r, t)
        change = "+" if fact in now - was else "−" if fact in was - now else ""
        state = ("✓" if fact in now else "○") if fact in gold else "✗"
        here = signs.setdefault((h, t), ([], []))[not change]
        if change + state not in here:
            here.append(change + state)
    return {cell: "\n".join("".join(x) for x in found if x) for cell, found in signs.items()}


def drawn(root):
    """The signs that stand in the matrix."""
    rows = [row.locator(".dw-cell").all_inner_texts() for row in root.locator(".dw-matrix tbody tr").all()]
    return {(h, t): text for h, row in enumerate(rows) for t, text in enumerate(row) if text}


def cell(root, head, tail):
    return root.locator(".dw-matrix tbody tr").nth(head).locator(".dw-cell").nth(tail)


def status(root):
    return root.locator(".dw-status").inner_text()


def listed(root):
    """The list of attention: label and percent."""
    rows = root.locator(".dw-looks tr").all()
    return [(row.locator("th").inner_text(), int(row.locator("td.dw-value").inner_text())) for row in rows]


def test_every_round_is_told_against_gold_and_the_round_before(page, docre, documents, tmp_path):
    example = documents[0]
    said = [after(docre, example, k)[0] for k in range(4)]
    moved = [len(said[k] ^ said[k - 1]) for k in (1, 2, 3)]
    assert moved[0] and any(said[0])  # else the test shows nothing
    root = shown(page, RefinementStepper(docre, example, cell=(0, 3)), tmp_path)
    picture = root.locator(".dw-matrix").screenshot()
    slider = root.get_by_label("Round", exact=True)

    def check(k):
        was = said[k - 1] if k else said[0]
        assert drawn(root) == marks(example, said[k], was)
        found = score([Triple(example.title, *fact) for fact in said[k]], [example])
        current = root.locator(".dw-table tr", has_text="▸").first.locator("td").all_inner_texts()
        assert current[:5] == [
            f"▸ {k}", *(f"{100 * x:.1f}" for x in (found.f1, found.precision, found.recall)), str(found.predicted),
        ]  # fmt: skip
        gold = {(t.head, t.relation, t.tail) for t in example.triples}
        moves = (said[k] - was, was - said[k])
        assert current[5:] == ([f"{len(m)} ({len(m & gold)})" for m in moves] if k else ["–", "–"])
        assert f"F1 {100 * found.f1:.1f} %" in status(root)

    check(1)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    check(0)
    assert root.locator(".dw-matrix").screenshot() != picture
    root.get_by_role("button", name="Next").click()
    check(1)
    drag(slider, 1.0)
    check(3)
    root.get_by_role("button", name="Back").click()
    check(2)
    kinds = {"✓": "dw-hit", "○": "dw-missed", "✗": "dw-wrong"}
    for place, text in drawn(root).items():
        look = cell(root, *place).get_attribute("class").split()
        assert ("dw-changed" in look) == ("+" in text or "−" in text)
        now = re.sub("−✗", "", text)  # what is gone has no colour
        assert bool(now.strip()) == any(kinds[x] in look for x in now if x in kinds)
    assert page.problems == []


def test_a_cell_is_chosen_by_click_and_arrows(page, docre, documents, tmp_path):
    example, (head, tail) = documents[0], (7, 0)
    names = [entity.name for entity in example.entities]
    root = shown(page, RefinementStepper(docre, example, cell=(0, 3)), tmp_path)
    cell(root, head, tail).click()
    assert f"{names[head]} → {names[tail]}:" in status(root) and "gold: author (composed)" in status(root)
    (before, one), (now, two) = (after(docre, example, k) for k in (0, 1))
    index = docre.relations.index
    rows = root.locator(".dw-table").nth(1).locator("tbody tr").all()
    assert {row.locator("td").first.inner_text() for row in rows} == {"author"} | {
        r for h, r, t in before | now if (h, t) == (head, tail)
    }
    for row in rows:
        relation, *margins = row.locator("td").all_inner_texts()[:3]
        for text, prediction in zip(margins, (one, two), strict=True):
            expected = float(prediction.margin[0, head, tail, index(relation)])
            assert float(text.replace("−", "-")) == pytest.approx(expected, abs=0.051)
    page.keyboard.press("ArrowRight")
    assert f"{names[7]} → {names[1]}:" in status(root)
    page.keyboard.press("ArrowUp")
    assert f"{names[6]} → {names[1]}:" in status(root)
    assert cell(root, 6, 1).get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize(("layer", "side"), [(-1, -1), (0, 1), (1, 0)])
def test_attention_is_that_of_the_round_along_four_lines(layer, side, page, docre, documents, tmp_path):
    example, (s, o), k = documents[0], (7, 0), 2
    root = shown(page, RefinementStepper(docre, example, cell=(s, o)), tmp_path)
    root.get_by_role("button", name="Next").click()
    root.get_by_label("Layer", exact=True).select_option(index=layer + 1)
    root.get_by_label(("features", "answers", "both (mean)")[side], exact=True).check()
    kept = after(docre, example, k)[1].trace["attention"][0, :, :, :, s, o]  # layers, F and R, lines, N + 1
    kept = kept.mean(0) if layer < 0 else kept[layer]
    kept = kept.mean(0) if side < 0 else kept[side]
    names, n = [entity.name for entity in example.entities], len(example.entities)
    entries, share = {}, {}
    for line in range(4):
        for e in range(n + 1):
            place = (s, o) if e == n else ((s, e), (e, o), (e, s), (o, e))[line]
            text = "the cell itself" if e == n else f"{names[place[0]]} → {names[place[1]]}"
            weight = float(kept[line, e])
            entries[f"line {line + 1}, {LINES[line]}: {text}"] = weight
            share[place] = max(share.get(place, 0), weight)
    found = listed(root)
    assert len(found) == refinement_ranked()
    for label, percent in found:
        key = label.rsplit(" (", 1)[0]
        assert percent == pytest.approx(100 * entries[key], abs=1.01)
    assert min(p for _, p in found) >= 100 * sorted(entries.values())[-len(found)] - 1.01
    for h in range(n):
        for t in range(n):
            if h != t:
                filled = cell(root, h, t).evaluate("e => Number(e.style.getPropertyValue('--share'))")
                assert filled == pytest.approx(share.get((h, t), 0), abs=0.006)
    through = kept[:, :n].sum(0)
    through[[s, o]] = 0
    if through.topk(2).values.diff().abs() > 0.05:
        roles = root.locator(".dw-mention[data-role='middle']")
        assert set(roles.evaluate_all("all => all.map(e => e.dataset.entity)")) == {str(int(through.argmax()))}
    for role, entity in (("head", s), ("tail", o)):
        marked = root.locator(f".dw-mention[data-role='{role}']")
        assert set(marked.evaluate_all("all => all.map(e => e.dataset.entity)")) == {str(entity)}


def refinement_ranked() -> int:
    """How many entries the script lists."""
    return int(re.search(r"RANKED = (\d+)", RefinementStepper._esm).group(1))


def test_the_base_looks_nowhere(page, docre, documents, tmp_path):
    root = shown(page, RefinementStepper(docre, documents[0]), tmp_path)
    assert listed(root)
    root.get_by_role("button", name="Back").click()
    assert listed(root) == [] and root.locator(".dw-looked").count() == 1  # that of the legend
    assert "no cell looks at another" in root.locator(".dw-looks caption").inner_text()


def test_a_composed_triple_shows_what_it_follows_from(page, docre, documents, tmp_path):
    example = documents[0]
    names = [entity.name for entity in example.entities]
    deep = next(t for t in example.triples if t.depth == 2)
    root = shown(page, RefinementStepper(docre, example, cell=(deep.head, deep.tail)), tmp_path)
    reasons = root.locator(".dw-reasons").inner_text()
    gold = {(t.head, t.relation, t.tail): t for t in example.triples}
    steps = [*deep.premises, *(p for q in deep.premises for p in gold[q].premises)]
    assert len(steps) == 4
    for h, r, t in steps:
        assert f"{names[h]} · {r} · {names[t]}" in reasons
    assert re.search(r"\d+ % of line \d", reasons)
    lines = [s for s, p in enumerate(root.locator(".dw-sentence").all()) if p.get_attribute("data-evidence") == "true"]
    assert lines == sorted(deep.evidence)


def test_another_document_brings_its_own_matrix(page, docre, documents, tmp_path):
    root = shown(page, RefinementStepper(docre, documents), tmp_path)
    root.get_by_label("Document", exact=True).select_option(index=1)
    said = [after(docre, documents[1], k)[0] for k in (0, 1)]
    assert drawn(root) == marks(documents[1], said[1], said[0])
    assert root.locator(".dw-sentence").count() == len(documents[1].sentences)


def test_the_kernel_runs_more_rounds_and_leaves_the_model_as_it_was(page, docre, documents, tmp_path):
    widget, options = RefinementStepper(docre, documents[0]), docre.classifier.options
    docre.train()
    widget.state = {**widget.state, "rounds": 5, "round": 5}
    assert docre.training and docre.classifier.options is options and not docre.classifier.keep_attention
    docre.eval()
    assert len(widget.answer["run"]["scores"]) == 6
    root = shown(page, widget, tmp_path)  # what a page without a kernel has of it: three rounds
    assert drawn(root) == marks(documents[0], *(after(docre, documents[0], k)[0] for k in (3, 2)))
    more = root.get_by_role("button", name="Run one more")
    assert more.count() == 0
    live = widget.html().replace('"answer": {}', f'"answer": {json.dumps(widget.answer)}')
    (tmp_path / "live.html").write_text(f"<meta charset=utf-8>{live}")
    page.goto((tmp_path / "live.html").as_uri())
    page.wait_for_selector(".dw[data-ready]")
    assert drawn(root) == marks(documents[0], *(after(docre, documents[0], k)[0] for k in (5, 4)))
    more.click()
    assert root.get_by_label("Round", exact=True).input_value() == "6"
    assert page.problems == []


def test_a_page_says_which_attention_did_not_travel(page, docre, documents, tmp_path, monkeypatch):
    monkeypatch.setattr(refinement, "ROOM", 3 * 16 * 10 * 5)  # five cells
    widget = RefinementStepper(docre, documents[0], cell=(8, 4))
    cells = [tuple(c) for c in widget.data["runs"][0]["cells"]]
    assert len(cells) == 5 and cells[0] == (8, 4)
    root = shown(page, widget, tmp_path)
    assert listed(root)
    other = next(p for p in documents[0].pairs() if p not in cells)
    cell(root, *other).click()
    assert listed(root) == [] and "did not travel" in root.locator(".dw-looks caption").inner_text()


def test_a_document_without_gold_is_not_judged(page, docre, documents, tmp_path):
    root = shown(page, RefinementStepper(docre, replace(documents[0], triples=())), tmp_path)
    assert set("".join(drawn(root).values())) <= set("+−●\n") and "F1" not in status(root)


def test_what_has_no_rounds_is_refused(docre, documents):
    example = documents[0]
    for model, message in (
        (tiny("atlop", documents), "'atlop' answers once"),
        (tiny("docre_ii", documents, attention="full"), "attention='full'"),
        (tiny("docre_ii", documents, rounds=0), "rounds=0"),
    ):
        with pytest.raises(ValueError, match=message):
            RefinementStepper(model, example)
    young = tiny("docre_ii", documents)
    young.classifier.stage.fill_(1)
    with pytest.raises(ValueError, match="first stage"):
        RefinementStepper(young, example)
    with pytest.raises(ValueError, match=r"\(3, 3\) is not a pair"):
        RefinementStepper(docre, example, cell=(3, 3))
    with pytest.raises(ValueError, match="alone: no pair"):
        RefinementStepper(docre, replace(example, title="alone", entities=example.entities[:1], triples=()))
    with pytest.raises(ValueError, match="no document"):
        RefinementStepper(docre, [])


@pytest.fixture(scope="module")
def shipped():
    return DocRE.load(trained()["docre_ii"])


@pytest.fixture(scope="module")
def thinking(shipped):
    return RefinementStepper(shipped, running_example())


def alike(found: dict, expected: dict) -> None:
    """The page's answer and Python's: the same facts; margins and weights as near as weights of 16 bits allow."""
    assert found.keys() - {"state"} == expected.keys()
    assert (found["untouched"] is None) == (expected["untouched"] is None)
    lists = [(found["run"]["facts"], expected["run"]["facts"]), (found["untouched"] or [], expected["untouched"] or [])]
    for one, two in (pair for facts in lists for pair in zip(*facts, strict=True)):
        assert {k: one[k] for k in one if k != "margin"} == {k: two[k] for k in two if k != "margin"}
        assert one["margin"] == pytest.approx(two["margin"], abs=0.15)  # both rounded to a tenth
    for key in ("scores", "cells"):
        assert found["run"][key] == expected["run"][key]
    one, two = found["run"]["attention"], expected["run"]["attention"]
    assert one.keys() == two.keys() and one["shape"] == two["shape"]
    assert list(base64.b64decode(one["bytes"])) == pytest.approx(list(base64.b64decode(two["bytes"])), abs=3)


def with_hand(model, document, rounds, by_hand):
    """Facts and margins of the round that ends here, round by round from the parts of the module."""
    part, names = model.classifier, model.relations.names
    with torch.no_grad():
        pairs = model.features(model.batch([document]))
        cells = pair_cells(pairs.batch.entity_mask)
        features = part.base(pairs, cells)
        logits = part.base.classify(features)
        for k in range(rounds):
            read = part.read(logits, pairs.mask)
            for h, t, relations in by_hand.get(str(k), []):
                read[0, h, t] = torch.tensor([name in relations for name in names])
            logits = part.classify(part.refine(features, part.relation_matrix(read), cells, {}))
        chosen, margin = part.objective.decide(logits)
    chosen = chosen[0] & pairs.mask[0].unsqueeze(-1)
    return {(h, names[r], t) for h, t, r in chosen.nonzero().tolist()}, margin[0]


def test_python_reads_what_is_put_in_by_hand(thinking, shipped):
    hands = (
        {},
        {"0": [[0, 5, ["shares_border"]]]},
        {"1": [[0, 1, []], [1, 3, ["father", "child"]]], "2": [[5, 0, []]]},
    )
    for by_hand in hands:
        answer = thinking.recompute({**thinking.state, "byHand": by_hand})
        for k in range(4):
            facts, margin = with_hand(shipped, running_example(), k, by_hand)
            assert {(f["head"], f["relation"], f["tail"]) for f in answer["run"]["facts"] if f["held"][k]} == facts
            for f in answer["run"]["facts"]:
                own = float(margin[f["head"], f["tail"], shipped.relations.index(f["relation"])])
                assert f["margin"][k] == pytest.approx(own, abs=0.051)
        plain = thinking.recompute(dict(thinking.state))["run"]["facts"]
        assert answer["untouched"] == (plain if by_hand else None)
    assert "read" not in vars(shipped.classifier)  # the model is as it was


def test_the_page_reads_what_is_put_in_by_hand(page, thinking, shipped, tmp_path):
    example, (head, tail) = running_example(), (0, 5)
    names = [entity.name for entity in example.entities]
    root = thinking_on(page, thinking, tmp_path)
    assert root.locator(".dw-sign").inner_text() == "computed here"
    alike(page.evaluate("kept.answer"), thinking.recompute(dict(thinking.state)))
    root.get_by_role("button", name="◀ Back").click()
    cell(root, head, tail).click()
    computed(root)
    for relation, action in (("father", "Remove"), ("shares_border", "Add")):
        root.get_by_label("Say by hand", exact=True).select_option(relation)
        root.get_by_role("button", name=action, exact=True).click()
        computed(root)
    by_hand = {"0": [[head, tail, ["shares_border"]]]}
    assert page.evaluate("kept.state.byHand") == by_hand
    assert cell(root, head, tail).inner_text().startswith("✎")
    state = page.evaluate("kept.state")
    alike(page.evaluate("kept.answer"), thinking.recompute(state))
    said = [with_hand(shipped, example, k, by_hand)[0] for k in range(4)]
    plain = [with_hand(shipped, example, k, {})[0] for k in range(4)]
    assert (head, "father", tail) in plain[1] - said[1] and said[3] == plain[3]  # else the test shows nothing
    for k in (0, 1, 2, 3):
        if k:
            root.get_by_role("button", name="Next").click()
            computed(root)
        assert drawn(root) == {
            place: ("✎" if (place, k) == ((head, tail), 0) else "") + text
            for place, text in marks(example, said[k], said[k - 1] if k else said[0]).items()
        }
        differ = {(h, t) for h, _, t in said[k] ^ plain[k]}
        for h, t in example.pairs():
            assert ("dw-follows" in cell(root, h, t).get_attribute("class").split()) == ((h, t) in differ)
    put = f"With {names[head]} → {names[tail]}: shares_border put in by hand after round 0"
    assert put in root.locator(".dw-because").first.inner_text()
    lines = root.locator(".dw-because").first.locator("li").all_inner_texts()
    assert lines[0] == f"round 1 does not say {names[head]} · father · {names[tail]}"
    assert len(lines) == 3 and lines[2].startswith("round 3 gives the same answers as without it")
    assert status(root).startswith(f"{put}, round 3 gives the same answers as without it")
    assert not root.get_by_role("button", name="Add", exact=True).is_enabled()  # no round reads round 3
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert violations(page, "color-contrast") == []
    root.get_by_role("button", name="Undo all by hand").click()
    computed(root)
    assert drawn(root) == marks(example, plain[3], plain[2])
    assert root.locator(".dw-because").first.locator("li").count() == 0
    assert page.problems == []


def test_the_page_stops_after_any_round_and_adds_rounds(page, thinking, shipped, tmp_path):
    root, example = thinking_on(page, thinking, tmp_path), running_example()
    for rounds in (4, 5):
        root.get_by_role("button", name="Run one more").click()
        computed(root)
        now, was = (with_hand(shipped, example, k, {})[0] for k in (rounds, rounds - 1))
        assert drawn(root) == marks(example, now, was) and listed(root)
        assert root.locator(".dw-table").first.locator("tbody tr").count() == rounds + 1
    alike(page.evaluate("kept.answer"), thinking.recompute(page.evaluate("kept.state")))
    for _ in range(3):
        root.get_by_role("button", name="◀ Back").click()
    root.get_by_role("button", name="Stop after this round").focus()
    page.keyboard.press("Enter")
    computed(root)
    assert root.get_by_label("Round", exact=True).get_attribute("max") == "2"
    assert root.locator(".dw-table").first.locator("tbody tr").count() == 3
    alike(page.evaluate("kept.answer"), thinking.recompute(page.evaluate("kept.state")))
    assert page.problems == []


def test_a_page_reads_documents_that_restrict_their_pairs(page, shipped, tmp_path):
    example = running_example()
    pairs = frozenset((h, t) for h, t in example.pairs() if (h + t) % 3)
    part = replace(example, candidates=pairs, triples=tuple(t for t in example.triples if (t.head, t.tail) in pairs))
    widget = RefinementStepper(shipped, [example, part])
    root = thinking_on(page, widget, tmp_path)
    root.get_by_label("Document", exact=True).select_option(index=1)
    computed(root)
    alike(page.evaluate("kept.answer"), widget.recompute(page.evaluate("kept.state")))
    assert page.problems == []


def test_without_the_package_s_model_nothing_is_put_in_by_hand(page, docre, documents, tmp_path):
    root = shown(page, RefinementStepper(docre, documents[0]), tmp_path)
    assert not root.get_by_label("Say by hand", exact=True).is_visible()
    assert root.get_by_role("button", name="Stop after this round").count() == 0
