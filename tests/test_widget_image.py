"""The entity image against the model: numbers of every stage, gradients, reach, and what another order changes."""

from __future__ import annotations

import base64
import json

import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install -e '.[test]'")

from seen import LIMIT, shown, with_models
from small import made, tiny

from docre_lite.corpus import running_example
from docre_lite.evaluate import score
from docre_lite.model import DocRE, trained
from docre_lite.predict import predict
from docre_lite.widgets import EntityImage

FIRST = list(range(9))
BACK = FIRST[::-1]


@pytest.fixture(scope="module")
def example():
    return running_example()


@pytest.fixture(scope="module")
def docunet(example):
    return tiny("docunet", [example], unet_width=16)


@pytest.fixture(scope="module")
def widget(docunet, example):
    return EntityImage(docunet, example, [BACK])


def maps(model, document, order=None):
    """All stages [C, n, n] of one forward pass."""
    ordered = document.permuted(order or range(len(document.entities)))
    with torch.no_grad():
        found = model(model.batch([ordered]))
    return {**{k: v[0] for k, v in found.trace.items()}, "logits": found.logits[0, ..., 1:].movedim(-1, 0)}


def moving(model, document, stage, channel, r, c, order=None):
    """Share of each cell of the image in what moves one number, [N, N]: each cell's gradient norm over their sum."""
    ordered = document.permuted(order or range(len(document.entities)))
    with torch.no_grad():
        pairs = model.features(model.batch([ordered]))
        image = model.classifier.image(pairs.context).movedim(-1, 1)
    image.requires_grad_()
    trace: dict = {}
    found = model.classifier.matrix(image, pairs.batch.sides, trace)
    logits = model.classifier.bilinear(pairs.entities, found.movedim(1, -1), pairs.mask)
    value = logits[0, r, c, channel + 1] if stage == "logits" else trace[stage][0, channel, r, c]
    sizes = torch.autograd.grad(value, image)[0][0].norm(dim=0)
    return sizes / sizes.sum()


def reach(stage, k, n):
    """First and last row of the image that can change row k of a stage, by counting what each part reads."""
    half, quarter = (n + 1) // 2, (n + 3) // 4

    def convs(cells, side):
        return {j for i in cells for j in range(i - 2, i + 3) if 0 <= j < side}

    def unpool(cells, side):
        return {j for i in cells for j in (2 * i, 2 * i + 1) if j < side}

    def coarse(cells, side):
        return {j for i in cells for j in (i // 2, i // 2 + (1 if i % 2 else -1)) if 0 <= j < side}

    def enter(cells):
        return convs(cells, n)

    def down1(cells):
        return enter(unpool(convs(cells, half), n))

    def down2(cells):
        return down1(unpool(convs(cells, quarter), half))

    def up1(cells):
        cells = convs(cells, half)
        return down1(cells) | down2(coarse(cells, quarter))

    def up2(cells):
        cells = convs(cells, n)
        return enter(cells) | up1(coarse(cells, half))

    ways = {"image": set, "enter": enter, "down1": down1, "down2": down2, "up1": up1, "up2": up2, "logits": up2}
    found = ways[stage]({k})
    return min(found), max(found)


def choose(root, label, option):
    root.get_by_label(label, exact=True).select_option(str(option))


def left(root, r, c):
    return root.locator(".dw-image .dw-scroll").first.locator("tbody tr").nth(r).locator("button").nth(c)


def right(root):
    """The numbers of the image, 0 where a cell is blank, and the rows and columns of the outline's corners."""
    rows = root.locator(".dw-image .dw-scroll").nth(1).locator("tbody tr")
    texts = rows.evaluate_all("rows => rows.map((row) => [...row.querySelectorAll('td')].map((td) => td.textContent))")
    numbers = [[float(text or 0) for text in line] for line in texts]
    sides = "['top', 'bottom', 'left', 'right'].map((side) => cell.style.getPropertyValue('--' + side) === '3px')"
    cells = root.locator(".dw-image .dw-scroll").nth(1).locator("td span")
    edges = cells.evaluate_all(f"cells => cells.map((cell) => {sides})")
    n, on = len(numbers), lambda e: [k for k, edge in enumerate(edges) if edge[e]]
    if not on(0):
        return numbers, None
    return numbers, [on(0)[0] // n, on(1)[0] // n, on(2)[0] % n, on(3)[0] % n]


def buttons(root):
    """What is said of each pixel of the stage, row by row."""
    rows = root.locator(".dw-image .dw-scroll").first.locator("tbody tr")
    return rows.evaluate_all("rows => rows.map((row) => [...row.querySelectorAll('button')].map((cell) => cell.title))")


def numeral(text):
    return float(text.replace("−", "-"))


@pytest.mark.parametrize("stage", ["image", "enter", "down1", "down2", "up1", "up2", "logits"])
def test_image_shows_the_numbers_of_every_stage(stage, page, widget, docunet, example, tmp_path):
    root = shown(page, widget, tmp_path)
    choose(root, "Stage", stage)
    for order, name in ((FIRST, "first mention"), (BACK, "order 1")):
        root.get_by_label("Order of the entities").select_option(label=name)
        expected = maps(docunet, example, order)[stage]
        options = root.get_by_label("Channel", exact=True).locator("option").all()
        assert len(options) == 3
        for option in options:
            text = option.inner_text()
            channel = docunet.relations.index(text) - 1 if stage == "logits" else int(text.split()[-1])
            choose(root, "Channel", channel)
            step = float(expected[channel].max() - expected[channel].min()) / 255
            titles = buttons(root)
            assert [len(line) for line in titles] == [expected.shape[-1]] * expected.shape[-1]
            for r, line in enumerate(titles):
                for c, title in enumerate(line):
                    if stage == "logits" and r == c:
                        assert title == ""
                    else:
                        value = numeral(title.split(": ")[-1])
                        assert value == pytest.approx(float(expected[channel, r, c]), abs=step / 2 + 0.006)
    assert page.problems == []


def check(root, model, document, stage, channel, r, c, order=None):
    """The image beside the pixel is the gradient of that very number, and the outline what the convolutions reach."""
    n = len(document.entities)
    expected = 100 * moving(model, document, stage, channel, r, c, order)
    numbers, box = right(root)
    assert (torch.tensor(numbers) - expected).abs().max() <= 0.85  # whole percents of roots in 255 steps
    assert box == [*reach(stage, r, n), *reach(stage, c, n)]
    value = float(maps(model, document, order)[stage][channel, r, c])
    said = root.locator(".dw-image caption").nth(1).inner_text()
    assert f"pixel ({r}, {c})" in said
    assert numeral(said.split(" = ")[1].split(",")[0]) == pytest.approx(value, abs=0.05)


def test_image_pixels_by_click_keys_and_pointer(page, widget, docunet, example, tmp_path):
    root = shown(page, widget, tmp_path)
    channel = widget.state["channel"]
    values = maps(docunet, example)["enter"][channel]
    on = [(r, c) for r in range(1, 8) for c in range(1, 7) if values[r, c] > 0.2 and values[r, c + 1] > 0.2]
    (r, c), (over_r, over_c) = on[0], on[-1]
    left(root, r, c).click()
    page.mouse.move(2, 2)
    check(root, docunet, example, "enter", channel, r, c)
    before = root.locator(".dw-image .dw-scroll").nth(1).screenshot()
    names = [entity.name for entity in example.entities]
    said = root.locator(".dw-status").inner_text()
    assert said.startswith(f"{names[r]} → {names[c]}")
    inside = moving(docunet, example, "enter", channel, r, c)
    (r0, r1), (c0, c1) = reach("enter", r, 9), reach("enter", c, 9)
    share = 100 * float(inside[r0 : r1 + 1, c0 : c1 + 1].sum())
    assert share < 99  # some of it comes by the normalisation
    assert float(said.split("Of what moves it, ")[1].split()[0]) == pytest.approx(share, abs=1.5)
    page.keyboard.press("ArrowRight")
    check(root, docunet, example, "enter", channel, r, c + 1)
    assert root.locator(".dw-image .dw-scroll").nth(1).screenshot() != before
    left(root, over_r, over_c).hover()
    check(root, docunet, example, "enter", channel, over_r, over_c)
    assert root.locator(".dw-status").inner_text().startswith(f"{names[r]} → {names[c + 1]}")  # looking is not choosing
    page.mouse.move(2, 2)
    check(root, docunet, example, "enter", channel, r, c + 1)
    assert page.problems == []


@pytest.mark.parametrize("stage", ["down1", "down2", "up1", "up2", "logits"])
def test_image_coarse_and_late_pixels_see_more(stage, page, widget, docunet, example, tmp_path):
    root = shown(page, widget, tmp_path)
    choose(root, "Stage", stage)
    entry = next(s for s in widget.data["stages"] if s["name"] == stage)
    channel, side = entry["shown"][0], entry["side"]
    values = maps(docunet, example)[stage][channel]
    seen = 0
    for r, c in ((0, side - 1), (side - 1, 0), (side // 2, side // 2 - 1)):
        if values[r, c] == 0:
            continue  # a closed ReLU, see below
        left(root, r, c).click()
        page.mouse.move(2, 2)
        check(root, docunet, example, stage, channel, r, c)
        own = root.locator(".dw-mark:visible").evaluate_all("all => all.filter(s => s.closest('table')).length")
        scale = entry["scale"]
        assert own == len(range(9)[r * scale :][:scale]) * len(range(9)[c * scale :][:scale])
        assert (f"{own} pairs in one pixel" in root.locator(".dw-status").inner_text()) == (own > 1)
        seen += 1
    assert seen


def test_image_says_when_a_relu_is_closed(page, widget, docunet, example, tmp_path):
    root = shown(page, widget, tmp_path)
    values = maps(docunet, example)["enter"][widget.state["channel"]]
    r, c = (values == 0).nonzero()[0].tolist()
    left(root, r, c).click()
    numbers, box = right(root)
    assert "its ReLU is closed" in root.locator(".dw-status").inner_text()
    assert not any(map(any, numbers)) and box == [*reach("enter", r, 9), *reach("enter", c, 9)]


def test_image_in_another_order_has_other_neighbours_and_answers(page, widget, docunet, example, tmp_path):
    root = shown(page, widget, tmp_path)
    choose(root, "Stage", "logits")
    left(root, 6, 0).click()
    page.mouse.move(2, 2)
    names = [entity.name for entity in example.entities]
    pair = f"{names[6]} → {names[0]}"
    assert root.locator(".dw-status").inner_text().startswith(pair)
    root.get_by_role("button", name="Shuffle entities").click()
    said = root.locator(".dw-status").inner_text()
    assert said.startswith(pair)  # the same pair at another place
    assert left(root, 2, 8).get_attribute("aria-pressed") == "true"
    channel = next(s["shown"][0] for s in widget.data["stages"] if s["name"] == "logits")
    check(root, docunet, example, "logits", channel, 2, 8, BACK)

    turned = example.permuted(BACK)
    sets = [predict(docunet, [example]), predict(docunet, [turned])]
    one = {(t.head, t.tail, t.relation) for t in sets[0]}
    two = {(BACK[t.head], BACK[t.tail], t.relation) for t in sets[1]}
    changed = {(h, t) for h, t, _ in one ^ two}
    assert 0 < len(changed) < 72
    f1 = [100 * score(found, [document]).f1 for found, document in zip(sets, (example, turned), strict=True)]
    assert (
        f"{len(changed)} of 72 pairs have another answer than by first mention: "
        f"F1 {f1[0]:.1f} % by first mention, {f1[1]:.1f} % now"
    ) in said
    rows = [row.locator("td").all_inner_texts() for row in root.locator(".dw-table tbody tr").all()]
    assert {row[0] for row in rows} == {f"{names[h]} → {names[t]}" for h, t in changed}
    gold = {(t.head, t.tail, t.relation) for t in example.triples}
    for text, *cells in rows:
        h, t = (names.index(part) for part in text.split(" → "))
        for facts, cell in zip((one, two, gold), cells, strict=True):
            assert cell == (", ".join(sorted(r for a, b, r in facts if (a, b) == (h, t))) or "none")
    root.get_by_role("button", name="Shuffle entities").click()  # after the last order comes the first
    assert root.locator(".dw-table").count() == 0 and "another answer" not in root.locator(".dw-status").inner_text()


def test_image_shows_what_a_kernel_answers(page, docunet, example, tmp_path):
    widget = EntityImage(docunet, example, [])
    order = [4, 8, 0, 2, 6, 1, 3, 7, 5]
    seen = next(s for s in widget.data["stages"] if s["name"] == "up2")
    values = maps(docunet, example, order)["up2"]
    channel = next(c for c in range(len(values)) if c not in seen["shown"] and values[c, 3, 5] > 0.1)
    state = {"order": order, "stage": "up2", "channel": channel, "row": 3, "column": 5}
    widget.state = state
    assert widget.answer["state"] == state
    live = widget.html().replace('"answer": {}', '"answer": ' + json.dumps(widget.answer).replace("<", "\\u003c"))
    (tmp_path / "live.html").write_text(f"<meta charset=utf-8>{live}")
    page.goto((tmp_path / "live.html").as_uri())
    page.wait_for_selector(".dw[data-ready]")
    root = page.locator(".dw")
    assert root.locator(".dw-sign").inner_text() == "computed here"
    check(root, docunet, example, "up2", channel, 3, 5, order)
    assert root.get_by_label("Channel", exact=True).locator("option").count() == len(values)
    root.get_by_role("button", name="Shuffle entities").click()  # a fresh one, which no kernel answers here
    assert root.locator(".dw-sign").inner_text() == "stored"
    assert "not computed yet" in root.locator(".dw-status").inner_text()
    assert page.problems == []


def test_image_without_a_unet_sees_one_cell(page, example, tmp_path):
    model = tiny("docunet", [example], variant="no_unet")
    root = shown(page, EntityImage(model, example, []), tmp_path)
    assert root.get_by_label("Stage", exact=True).locator("option").count() == 2
    numbers, box = right(root)
    chosen = root.locator("button[aria-pressed=true]").get_attribute("aria-label")
    names = [entity.name for entity in example.entities]
    r, c = (names.index(part) for part in chosen.split(": ")[0].split(" to "))
    assert box == [r, r, c, c] and numbers[r][c] == 100 and sum(map(sum, numbers)) == 100


def test_image_holds_what_fits_a_page_and_says_what_does_not(page, tmp_path):
    large = made("large", 24, sentences=10, words=20)
    model = tiny("docunet", [large], unet_width=8)
    widget = EntityImage(model, large)
    root = shown(page, widget, tmp_path)  # within the limit
    assert len(widget.html().encode()) > LIMIT / 2
    choose(root, "Stage", "up2")
    stage = next(s for s in widget.data["stages"] if s["name"] == "up2")
    held = widget.data["fields"][f"first mention/up2/{stage['shown'][0]}"]["shape"][0]
    assert 0 < held < 24**2
    r, c = divmod(stage["pixels"][held - 1], 24)
    left(root, r, c).click()
    assert "a kernel computes it" not in root.locator(".dw-status").inner_text()
    r, c = divmod(stage["pixels"][held], 24)
    left(root, r, c).click()
    assert "is not in the page; a kernel computes it" in root.locator(".dw-status").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000


def test_image_of_the_published_code_is_cut_to_the_entities(example):
    model = tiny("docunet", [example], variant="released_code", unet_width=8)
    widget = EntityImage(model, example, [])
    assert [s["side"] for s in widget.data["stages"]] == [9, 9, 5, 3, 5, 9, 9]
    state = {"order": FIRST, "stage": "enter", "channel": 0, "row": 3, "column": 4}
    assert widget.recompute(state)["box"] == [1, 5, 2, 6]  # no average is in the way: batch norm has its own
    assert model.training is False and all(p.grad is None for p in model.parameters())


def test_image_refuses_what_it_cannot_show(example, docunet):
    with pytest.raises(ValueError, match="atlop makes no image"):
        EntityImage(tiny("atlop", [example]), example)
    alone = type(example)("alone", example.sentences, example.entities[:1])
    with pytest.raises(ValueError, match="alone: no pair"):
        EntityImage(docunet, alone)
    with pytest.raises(ValueError, match="is not an order of entities 0 to 8"):
        EntityImage(docunet, example, [[0, 1]])


def test_image_shows_each_order_once(example):
    two = made("two", 2)
    assert [o["order"] for o in EntityImage(tiny("docunet", [two], unet_width=8), two).data["orders"]] == [
        [0, 1],
        [1, 0],
    ]


@pytest.fixture(scope="module")
def shipped():
    return DocRE.load(trained()["docunet"])


@pytest.fixture
def computing(page, shipped, example, tmp_path, monkeypatch):
    """The widget in a page that has the models; `globalThis.seen` is what the shim gives in place of a kernel."""
    widget = EntityImage(shipped, example)
    assert (widget.data["live"], widget.data["control"]) == (["docunet"], "atlop")
    html = widget.html().replace("const el = document", "globalThis.seen = model; const el = document")
    monkeypatch.setattr(widget, "html", lambda: html)
    root = shown(page, widget, with_models(tmp_path))
    answered(page)
    return root


def answered(page) -> dict:
    """The page's own answer to what it shows."""
    page.wait_for_selector(".dw-sign[data-live='true']")
    page.wait_for_function("!document.querySelector('.dw').hasAttribute('aria-busy')")
    return page.evaluate("() => globalThis.seen.get('answer')")


def unpacked(packed) -> torch.Tensor:
    raw = torch.frombuffer(bytearray(base64.b64decode(packed["bytes"])), dtype=torch.uint8).float()
    return (packed["low"] + raw * (packed["high"] - packed["low"]) / 255).view(packed["shape"])


def rows(root) -> list[str]:
    return [text.split(" ", 2)[2].strip() for text in root.locator(".dw-grip").all_inner_texts()]


def same_as_python(page, shipped, example) -> dict:
    answer = answered(page)
    ours = EntityImage(shipped, example, []).recompute(answer["state"])
    assert answer["compared"] == ours["compared"] and answer["box"] == ours["box"]
    assert answer["compared"]["control"] == 0
    assert "ATLOP's answers do not change." in page.locator(".dw-status").inner_text()
    step = (ours["map"]["high"] - ours["map"]["low"]) / 255
    assert answer["map"]["shape"] == ours["map"]["shape"]
    assert (unpacked(answer["map"]) - unpacked(ours["map"])).abs().max() <= 1.01 * step + 0.005
    return answer


def test_image_computes_the_order_that_is_dragged(page, shipped, example, computing):
    names = [entity.name for entity in example.entities]
    assert rows(computing) == names
    one, other = (computing.locator(".dw-grip").nth(k).bounding_box() for k in (1, 7))
    page.mouse.move(one["x"] + 30, one["y"] + 9)
    page.mouse.down()
    page.mouse.move(one["x"] + 35, other["y"] + other["height"] - 2, steps=9)
    page.mouse.up()
    order = [0, *range(2, 8), 1, 8]
    assert rows(computing) == [names[i] for i in order]
    assert same_as_python(page, shipped, example)["state"]["order"] == order
    page.keyboard.press("Alt+ArrowUp")  # what was dragged is what the keys move
    page.keyboard.press("Alt+ArrowUp")
    order = [0, *range(2, 6), 1, 6, 7, 8]
    assert same_as_python(page, shipped, example)["state"]["order"] == order
    computing.get_by_role("button", name=f"Move {names[8]} up").click()
    order[7:] = [8, 7]
    for stage in ("image", "down2", "up1", "logits"):
        choose(computing, "Stage", stage)
        answer = same_as_python(page, shipped, example)
        assert answer["state"]["order"] == order and answer["state"]["stage"] == stage
    assert "needs a kernel" in computing.locator(".dw-image caption").nth(1).inner_text()
    assert page.problems == []


def test_image_computes_shuffles(page, shipped, example, computing):
    names, seen = [entity.name for entity in example.entities], set()
    for _ in range(4):
        computing.get_by_role("button", name="Shuffle entities").click()
        compared = same_as_python(page, shipped, example)["compared"]
        seen.add(len(compared["changed"]))
        listed = computing.locator(".dw-table tbody tr").all()
        pairs = [f"{names[h]} → {names[t]}" for h, t, *_ in compared["changed"]]
        assert [row.locator("td").first.inner_text() for row in listed] == pairs
    assert max(seen) > 0
    assert page.problems == []


def test_image_of_a_model_of_ones_own_has_no_list_to_drag(page, widget, tmp_path):
    root = shown(page, widget, with_models(tmp_path))
    assert "live" not in widget.data
    assert not root.locator(".dw-ordered").is_visible()
