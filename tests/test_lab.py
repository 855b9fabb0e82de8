"""The oracle-cell lab: what its cells hold, that a cell alone cannot compose, and that paths can."""

from __future__ import annotations

import pytest
import torch

from docre_lite.bench import lab
from docre_lite.corpus import RELATIONS, generate, running_example


@pytest.fixture(scope="module")
def train():
    return lab.sheets(generate("train", 160))


@pytest.fixture(scope="module")
def test():
    return lab.sheets(generate("test", 20))


def test_a_sheet_holds_the_facts_of_its_document():
    document, (sheet,) = running_example(), lab.sheets([running_example()])
    for t in document.triples:
        place = 0, t.head, t.tail, RELATIONS.index(t.relation)
        assert sheet.stated[place] == (t.depth == 0) and sheet.composed[place] == (t.depth > 0)
        assert sheet.depth[place] == t.depth
    assert int(sheet.stated.sum() + sheet.composed.sum()) == len(document.triples)


def test_joining_shuffles_everything_alike(test):
    one = lab.join(test[:3], shuffled=True, generator=torch.Generator().manual_seed(0))
    for k, sheet in enumerate(test[:3]):
        n = sheet.entities.shape[1]
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0)) if k == 0 else None
        if order is not None:
            assert torch.equal(one.stated[k, :n, :n], sheet.stated[0, order][:, order])
            assert torch.equal(one.types[k, :n], sheet.types[0, order])
        assert int(one.stated[k].sum()) == int(sheet.stated.sum())
    assert not one.pairs.diagonal(dim1=1, dim2=2).any()


def test_f1_counts_composed_facts_alone(test):
    class Oracle(lab.Reasoner):
        """Names what it is told to, whatever it is given."""

        def __init__(self, say):
            super().__init__("alone")
            self.say = say

        def answers(self, facts, sheet, hidden=None):
            return self.say(sheet)

    assert lab.composed_f1(Oracle(lambda s: s.composed | s.stated), test) == 100
    assert lab.composed_f1(Oracle(lambda s: s.stated), test) == 0
    one, two = (sum(int((s.depth == d).sum()) for s in test) for d in (1, 2))
    deep = sum(int((s.depth > 2).sum()) for s in test)
    only_one = Oracle(lambda s: s.depth == 1)
    assert lab.composed_f1(only_one, test) == pytest.approx(200 * one / (2 * one + two + deep))
    assert lab.composed_f1(only_one, test, depth=1) == 100 and lab.composed_f1(only_one, test, depth=2) == 0


def test_later_rounds_are_given_the_answers_of_earlier_ones(test):
    class Counter(lab.Reasoner):
        """Names one more depth each time it is given all of the depth before."""

        def answers(self, facts, sheet, hidden=None):
            level = int((sheet.depth * facts).max()) + 1
            return (sheet.depth > 0) & (sheet.depth <= level)

    assert lab.composed_f1(Counter("alone"), test, rounds=1, depth=2) == 0
    assert lab.composed_f1(Counter("alone"), test, rounds=2, depth=2) == 100


@pytest.mark.parametrize("kind", list(lab.MODULES))
def test_padding_changes_nothing_and_order_only_images(kind, test):
    torch.manual_seed(0)
    model = lab.Reasoner(kind).eval().double()
    alone = lab.join(test[:1])
    n = alone.entities.shape[1]
    padded = lab.join([test[0], *sorted(test, key=lambda s: -s.entities.shape[1])[:1]])
    with torch.no_grad():
        one, more = (answered(model, sheet) for sheet in (alone, padded))
        torch.testing.assert_close(one[0], more[0, :n, :n], rtol=1e-8, atol=1e-8)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
        other = lab.Sheet(
            *(x[:, order][:, :, order] for x in (alone.stated, alone.composed, alone.depth)),
            alone.types[:, order],
            alone.entities,
        )
        same = torch.allclose(answered(model, other)[0], one[0, order][:, order], atol=1e-8)
    assert same == (kind not in ("unet", "tnet"))


def answered(model, sheet):
    return model(sheet.stated, sheet) * sheet.pairs.unsqueeze(-1)


def test_a_cell_alone_composes_nothing_and_paths_do(train, test):
    alone, paths = (lab.learn(kind, train, layers=1) for kind in ("alone", "paths"))
    assert lab.composed_f1(alone, test) < 5
    assert lab.composed_f1(paths, test) > 25
    assert lab.composed_f1(paths, test, emptied=0.5) < lab.composed_f1(paths, test)


def test_an_unknown_module_is_refused():
    with pytest.raises(ValueError, match="no module 'cnn'; have alone, unet"):
        lab.Reasoner("cnn")
