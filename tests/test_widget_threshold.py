"""The playground of logits against the module: three losses, both parts, gradients, floor, decisions."""

from __future__ import annotations

import json
import math

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import drag, shown
from small import made, tiny

from docre_lite import objectives
from docre_lite.corpus import running_example
from docre_lite.widgets import ThresholdPlayground

NAMES = ["TH", "father", "child", "sibling", "spouse"]
KINDS = [objectives.AdaptiveThreshold, objectives.BalancedSoftmax, objectives.AdaptiveSoftmax]


def numeral(text: str) -> float:
    return float(text.replace("−", "-").replace("→", "").replace("←", "").replace("+", "").strip())


def logits(root) -> list[float]:
    return [numeral(text) for text in root.locator(".dw-height").all_inner_texts()]


def pushes(root) -> list[float]:
    return [numeral(text) for text in root.locator(".dw-push").all_inner_texts()]


def sums(root) -> list[list[float]]:
    """[positives, negatives, both] of each loss, as written."""
    texts = [text.split(";")[0].replace("=", "+") for text in root.locator(".dw-sum").all_inner_texts()]
    return [[numeral(part) for part in text.split("+")] for text in texts]


def expected(kind, values, positives) -> tuple[float, list[float]]:
    x = torch.tensor([values], dtype=torch.double, requires_grad=True)
    labels = torch.zeros(1, len(values), dtype=torch.bool)
    labels[0, positives or [0]] = True
    loss = kind().loss(x, labels)
    return loss.item(), (-torch.autograd.grad(loss, x)[0][0]).tolist()


def check(root, values, positives) -> None:
    """All that the page says of these logits is what the module says."""
    assert logits(root) == pytest.approx(values, abs=0.051)
    for row, kind, written in zip(root.locator(".dw-loss").all(), KINDS, sums(root), strict=True):
        row.get_by_role("radio").check()
        loss, push = expected(kind, values, positives)
        assert written[2] == pytest.approx(loss, abs=0.0051)
        assert written[0] + written[1] == pytest.approx(loss, abs=0.011)
        assert pushes(root) == pytest.approx(push, abs=0.0051)
    # the softmax over the negatives and TH, and the rest of ATLOP's loss
    rest = torch.tensor([x for r, x in enumerate(values) if r not in positives], dtype=torch.double)
    assert sums(root)[0][1] == pytest.approx(float(rest.logsumexp(0)) - values[0], abs=0.0051)


def test_threshold_losses_and_pushes_are_the_modules(page, tmp_path):
    values = [0.5, 1.0, -0.5, 0.8, -1.0]
    root = shown(page, ThresholdPlayground(values, ["child", 1], NAMES), tmp_path)
    check(root, values, [1, 2])
    root.get_by_label("child holds").uncheck()
    check(root, values, [1])
    root.get_by_label("father holds").uncheck()
    check(root, values, [])
    for name in NAMES[1:]:
        root.get_by_label(f"{name} holds").check()
    check(root, values, [1, 2, 3, 4])
    for name, values, positives in (
        ("one positive, well above", [0, 4, -3, -3, -3], [1]),
        ("two, one far ahead", [0, 5, 1, -3, -3], [1, 2]),
        ("three positives, level", [0, 4, 4, 4, -3], [1, 2, 3]),
        ("none holds, one above TH", [0, 2, -3, -3, -3], []),
        ("TH too low", [-4, 2, 0, 0, 0], [1]),
    ):
        root.get_by_role("button", name=name).click()
        check(root, [float(x) for x in values], positives)
    assert page.problems == []


def test_threshold_sliders_follow_mouse_and_keys(page, tmp_path):
    root = shown(page, ThresholdPlayground([0.0, 1.0, -1.0], [1], NAMES[:3]), tmp_path)
    before = root.locator(".dw-logits").screenshot()
    drag(root.get_by_role("slider", name="Logit of child"), 0.9)
    values = logits(root)
    assert values[:2] == [0, 1] and values[2] > 4
    assert root.locator(".dw-logits").screenshot() != before
    check(root, values, [1])
    assert "child (wrong)" in root.locator(".dw-status").inner_text()
    root.get_by_role("radio").first.check()
    root.get_by_role("slider", name="Logit of TH").focus()
    for _ in range(15):
        page.keyboard.press("ArrowRight")
    check(root, [1.5, 1.0, values[2]], [1])
    root.get_by_role("radio").first.check()
    said = root.locator(".dw-status").inner_text()
    assert "missed: father" in said and "Claimed, above TH: child (wrong)" in said
    bars = [row.locator(".dw-bar").first.bounding_box()["width"] for row in root.locator(".dw-logit").all()[1:]]
    assert bars[2] > bars[0] > bars[1]  # child above TH above father
    line = root.locator(".dw-logit .dw-cut").first.bounding_box()["x"]
    root.get_by_role("radio").nth(1).check()  # balanced softmax: the line is 0, below TH
    assert root.locator(".dw-logit .dw-cut").first.bounding_box()["x"] < line - 20
    assert "Claimed, above 0: child (wrong), father (right)" in root.locator(".dw-status").inner_text()


def test_threshold_descent_ends_at_the_floor(page, tmp_path):
    root = shown(page, ThresholdPlayground([0.0, 5.0, 1.0, -1.0], [1, 2], NAMES[:4]), tmp_path)
    floor = root.locator(".dw-floor").first
    assert floor.is_visible() and not root.locator(".dw-floor").nth(2).is_visible()
    assert f"floor of the first part {2 * math.log(2):.2f}" in root.locator(".dw-sum").first.inner_text()
    step = root.get_by_role("button", name="1 step")
    _, push = expected(KINDS[0], [0.0, 5.0, 1.0, -1.0], [1, 2])
    step.click()
    moved = [x + 0.5 * p for x, p in zip([0.0, 5.0, 1.0, -1.0], push, strict=True)]
    assert logits(root) == pytest.approx(moved, abs=0.051)
    for _ in range(8):
        root.get_by_role("button", name="50 steps").click()
    first, *_ = sums(root)[0]
    assert 2 * math.log(2) <= first + 0.005 <= 2 * math.log(2) + 0.05
    assert logits(root)[1] == pytest.approx(logits(root)[2], abs=0.11)  # level: what the decision never asked for
    mark, one = floor.bounding_box(), root.locator(".dw-loss .dw-bar").first.bounding_box()
    assert one["x"] + one["width"] == pytest.approx(mark["x"], abs=6)
    root.get_by_label("child holds").uncheck()
    assert not floor.is_visible()


@pytest.mark.parametrize("pair", [(0, 1), (1, 3), (4, 1)])
def test_threshold_of_a_model_keeps_the_loss_of_all_relations(pair, page, tmp_path):
    example = running_example()
    model = tiny("atlop", [example])
    batch = model.batch([example])
    with torch.no_grad():
        whole, labels = model(batch).logits[0, *pair].double(), batch.labels[0, *pair]
    root = shown(page, ThresholdPlayground.of(model, example, pair), tmp_path)
    for kind, written in zip(KINDS, sums(root), strict=True):
        assert written[2] == pytest.approx(float(kind().loss(whole[None], labels[None])), abs=0.0051)
    gold = [t.relation for t in example.triples if (t.head, t.tail) == pair]
    ticked = [box.get_attribute("aria-label") for box in root.get_by_role("checkbox").all() if box.is_checked()]
    assert sorted(ticked) == sorted(f"{relation} holds" for relation in gold)
    chosen = model.classifier.objective.decide(whole[None])[0][0].nonzero()[:, 0].tolist()
    said = root.locator(".dw-status").inner_text()
    assert all(model.relations.names[r] in said.split(";")[0] for r in chosen)
    lumped = root.locator(".dw-logit").last
    assert "others" in lumped.inner_text() and lumped.get_by_role("checkbox").count() == 0


def test_threshold_begins_with_something_to_find(page, tmp_path):
    """Two groups of logits with TH below both: dragging it in between is the best there is, and both ways lead up."""
    root = shown(page, ThresholdPlayground(), tmp_path)
    assert root.locator(".dw-sign").inner_text() == "computed here"
    start = logits(root)
    holds = [box.is_checked() for box in root.get_by_role("checkbox").all()]
    right = [x for x, hold in zip(start[1:], holds, strict=True) if hold]
    wrong = [x for x, hold in zip(start[1:], holds, strict=True) if not hold]
    assert start[0] < min(wrong) and max(wrong) < min(right)
    found = {}
    for th in (start[0], (max(wrong) + min(right)) / 2, 5.0):
        root.get_by_role("slider", name="Logit of TH").fill(str(round(th, 1)))
        found[th] = sums(root)[0][2]
    low, between, high = found.values()
    assert between < low - 1 and between < high - 1


def test_threshold_shows_what_a_kernel_answers(page, tmp_path):
    widget = ThresholdPlayground([0.0, 1.0, -1.0], [1], NAMES[:3])
    answer = widget.recompute(dict(widget.state))
    for (kind, parts), text in zip(
        zip(KINDS, answer["parts"].values(), strict=True), widget.data["losses"], strict=True
    ):
        assert kind.__name__ == text[0]
        assert sum(parts) == pytest.approx(expected(kind, [0.0, 1.0, -1.0], [1])[0])
    assert [-x for x in answer["gradient"]] == pytest.approx(expected(KINDS[0], [0.0, 1.0, -1.0], [1])[1])
    answer["gradient"] = [0.25, -0.5, 0.25]  # no such gradient: only the answer can say so
    embedded = json.dumps({"state": dict(widget.state), **answer})
    widget.html = lambda: ThresholdPlayground.html(widget).replace('"answer": {}', f'"answer": {embedded}')
    root = shown(page, widget, tmp_path)
    assert root.locator(".dw-sign").inner_text() == "computed here"
    assert pushes(root) == [-0.25, 0.5, -0.25]
    root.get_by_role("slider", name="Logit of child").press("ArrowRight")  # a state that was not asked for
    assert root.locator(".dw-sign").inner_text() == "computed here"  # by the script, which needs nobody
    assert pushes(root) == pytest.approx(expected(KINDS[0], [0.0, 1.0, -0.9], [1])[1], abs=0.0051)


def test_threshold_begins_with_the_models_own_loss():
    documents = [made("one"), made("two")]
    pair = documents[0].pairs()[0]
    assert ThresholdPlayground.of(tiny("docunet", documents), documents[0], pair).state["loss"] == "BalancedSoftmax"
    assert ThresholdPlayground.of(tiny("paee", documents), documents[0], pair).state["loss"] == "AdaptiveSoftmax"


def test_threshold_refuses_what_it_cannot_show():
    for wrong, said in (
        (([1.0],), "1 logits: give"),
        ((range(20),), "20 logits: give"),
        (([0.0, math.inf],), "not all finite"),
        ((torch.zeros(2, 3),), r"logits of shape \[2, 3\]"),
        (([0.0, 1.0], [0]), r"positives \[0\] are not relations"),
        (([0.0, 1.0], ["father"]), r"positives \['father'\] are not relations"),
        (([0.0, 1.0], [1], ["TH"]), "1 names for 2 logits"),
    ):
        with pytest.raises(ValueError, match=said):
            ThresholdPlayground(*wrong)
    example = running_example()
    model = tiny("atlop", [example])
    with pytest.raises(ValueError, match="not a pair to classify"):
        ThresholdPlayground.of(model, example, (2, 2))
    with pytest.raises(ValueError, match="the model does not know"):
        ThresholdPlayground.of(tiny("atlop", [made("one")]), example, (1, 3))
