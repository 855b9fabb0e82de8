"""The variants named after released code against loops written from what that code computes, in float64.

The weights are read from the model one by one; nothing else of the package is called on the way to the logits.
"""

from __future__ import annotations

import math

import pytest
import slow
import torch
from small import made, several, tiny
from test_layers import shaken
from torch.nn import functional as F

from docre_lite.papers.docunet import UNet

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def exactly(fast, expected):
    torch.testing.assert_close(fast, expected, rtol=1e-9, atol=1e-9)


def released(name, documents, **settings):
    """The variant with small maps, weights far from their start, and averages as if it had been trained."""
    model = tiny(name, documents, variant="released_code", **settings).double()
    shaken(model.classifier)
    noise = torch.Generator().manual_seed(3)
    for key, buffer in model.classifier.named_buffers():
        if key.endswith(".mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=noise, dtype=torch.float64) * 0.3)
        elif key.endswith(".variance"):
            buffer.copy_(torch.rand(buffer.shape, generator=noise, dtype=torch.float64) + 0.5)
    return model


# DocuNet ------------------------------------------------------------------------------------------------------------


def two_convolutions(image, block, training):
    for conv, norm in zip(block.convs, block.norms, strict=True):
        image = F.conv2d(image, conv.weight, conv.bias, padding=1)
        averages = norm.mean.clone(), norm.variance.clone()
        image = torch.relu(F.batch_norm(image, *averages, norm.weight, norm.bias, training))
    return image


def upwards(low, skip):
    """Twice the side with corners on corners, a frame of zeros up to the skip's side, the skip's channels first."""
    side = low.shape[-1]
    place = torch.arange(2 * side, dtype=low.dtype) * (side - 1) / (2 * side - 1)
    left = place.long().clamp_max(side - 2) if side > 1 else place.long()
    right, share = (left + 1).clamp_max(side - 1), place - left
    low = low[:, :, left] * (1 - share)[:, None] + low[:, :, right] * share[:, None]
    low = low[..., left] * (1 - share) + low[..., right] * share
    lack = skip.shape[-1] - 2 * side
    frame = skip.new_zeros(*low.shape[:2], skip.shape[-1], skip.shape[-1])
    start = lack // 2
    frame[:, :, start : start + 2 * side, start : start + 2 * side] = low
    return torch.cat([skip, frame], 1)


def halved(image):
    side = image.shape[-1] // 2 * 2
    image = image[..., :side, :side]
    return torch.stack([image[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)


def published_u_net(image, net, training=False):
    enter = two_convolutions(image, net.enter, training)
    down1 = two_convolutions(halved(enter), net.down1, training)
    down2 = two_convolutions(halved(down1), net.down2, training)
    up1 = two_convolutions(upwards(down2, down1), net.up1, training)
    up2 = two_convolutions(upwards(up1, enter), net.up2, training)
    return F.conv2d(up2, net.leave.weight, net.leave.bias)


def published_docunet(model, documents, size, training=False):
    """The logits of every pair, one [n, n, R] a document: a filled image, the U-Net, the grouped bilinear form."""
    pairs, paper = model.features(model.batch(documents)), model.classifier
    images = []
    for b, document in enumerate(documents):
        last = len(document.entities) - 1
        rows = [[pairs.context[b, min(i, last), min(j, last)] for j in range(size)] for i in range(size)]
        image = torch.stack([torch.stack(row) for row in rows]) @ paper.image.weight.T + paper.image.bias
        images.append(image.permute(2, 0, 1))
    maps = published_u_net(torch.stack(images), paper.matrix, training)
    layer = paper.bilinear
    W = layer.bilinear.weight.view(layer.bilinear.out_features, -1, layer.block, layer.block)
    roles = layer.head.weight, layer.head.bias, layer.tail.weight, layer.tail.bias
    found = []
    for b, document in enumerate(documents):
        e, n = pairs.entities[b], len(document.entities)
        form = [
            [slow.role_bilinear(e[s], e[o], maps[b, :, s, o], *roles, W, layer.bilinear.bias) for o in range(n)]
            for s in range(n)
        ]
        found.append(torch.stack([torch.stack(row) for row in form]))
    return found


@pytest.mark.parametrize("size", [42, 35, 6])
@pytest.mark.parametrize("training", [False, True])
def test_docunet(size, training):
    documents = several()[:3]
    model = released("docunet", documents, unet_width=8, map_width=6, matrix_size=size).train(training)
    batch = model.batch(documents)
    with torch.no_grad():
        expected = published_docunet(model, documents, size, training)
        prediction = model(batch)
    for b, one in enumerate(expected):
        n, mask = len(one), batch.mask[b, : len(one), : len(one)]
        exactly(prediction.logits[b, :n, :n][mask], one[mask])
        for s, o in mask.nonzero().tolist():
            best = sorted(range(len(one[s, o])), key=lambda r: -one[s, o, r])[:3]  # class 0 may be one of the three
            chosen = {r for r in best if r > 0 and one[s, o, r] > 0}
            assert set(prediction.chosen[b, s, o].nonzero().flatten().tolist()) == chosen


def test_docunet_beyond_its_square():
    """A document of more entities than the square has rows is computed as if it were alone, and so are the others."""
    documents = [made("long", 9, sentences=9, words=14), *several()[:2]]
    model = released("docunet", documents, unet_width=8, map_width=6, matrix_size=6)
    together = model(model.batch(documents)).logits
    for b, document in enumerate(documents):
        n = len(document.entities)
        [expected] = published_docunet(model, [document], max(n, 6))
        mask = model.batch([document]).mask[0]
        exactly(together[b, :n, :n][mask], expected[mask])


@pytest.mark.parametrize("upsample", ["bilinear", "deconv"])
def test_the_published_grid_does_not_see_padding(upsample):
    net = shaken(UNet(2, 3, 2, "code", upsample, "batch", grid="code")).eval()
    sides = torch.tensor([4, 5, 6, 7, 11, 42])
    image = torch.randn(6, 2, 43, 43, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = net(image, sides)
        for b, n in enumerate(sides.tolist()):
            one = image[b : b + 1, :, :n, :n]
            exactly(found[b, :, :n, :n], net(one, None)[0])
            if upsample == "bilinear":
                exactly(found[b, :, :n, :n], published_u_net(one, net)[0])
        assert net(image[:1, :, :42, :42], None, trace := {}).shape == (1, 3, 42, 42)
    assert [trace[k].shape[-1] for k in ("enter", "down1", "down2", "up1", "up2")] == [42, 21, 10, 21, 42]


# DocRE-II -----------------------------------------------------------------------------------------------------------


def normed(x, layer):
    x = x - x.mean()
    return x / torch.sqrt((x * x).mean() + layer.eps) * layer.weight + layer.bias


def linear(x, layer):
    return layer.weight @ x if layer.bias is None else layer.weight @ x + layer.bias


def two_layers(x, feed):
    return linear(torch.relu(linear(x, feed[0])), feed[2])


class PublishedDocREII:
    """One document: cells as a dictionary of pairs, every head's keys written out."""

    def __init__(self, paper, entities, document, context):
        self.paper, n = paper, len(entities)
        self.cells = [(s, o) for s in range(n) for o in range(n) if s != o]
        layer = paper.base.pairs
        W = layer.bilinear.weight.view(layer.bilinear.out_features, -1, layer.block, layer.block)
        roles = layer.head.weight, layer.head.bias, layer.tail.weight, layer.tail.bias
        known = [torch.cat([e, document]) for e in entities]  # beside each entity the vector at [CLS]
        wide = {
            (s, o): torch.relu(slow.role_bilinear(known[s], known[o], context[s, o], *roles, W, layer.bilinear.bias))
            for s, o in self.cells
        }
        _, norm, answer = paper.base.classify
        self.base = {c: linear(normed(x, norm), answer) for c, x in wide.items()}
        self.features = {c: linear(x, paper.narrow[0]) for c, x in wide.items()}

    def read(self, logits):
        """Above class 0, and among the four best with class 0 counted; class 0 if nothing is."""
        answers = {}
        for c, x in logits.items():
            best = sorted(range(len(x)), key=lambda r: -x[r])[:4]
            answers[c] = [r for r in best if x[r] > x[0]] or [0]
        return answers

    def look(self, attention, asking, memory):
        width, found = attention.width, {}
        q = {c: linear(x, attention.query).view(4, width) for c, x in asking.items()}
        k = {c: linear(x, attention.key).view(4, width) for c, x in memory.items()}
        v = {c: linear(x, attention.value).view(4, width) for c, x in memory.items()}
        for s, o in self.cells:
            heads = []
            for h, (at, fixed) in enumerate([(0, s), (1, o), (1, s), (0, o)]):  # rows, columns
                line = [c for c in self.cells if c[at] == fixed and c != (s, o)]
                scores = [q[s, o][h] @ k[c][h] / math.sqrt(width) for c in line]
                scores.append(q[s, o][h] @ k[s, o][h] / math.sqrt(width) + 1)  # the mask of the cell itself holds a 1
                weights = torch.stack(scores).softmax(0)
                heads.append(sum(w * v[c][h] for w, c in zip(weights, [*line, (s, o)], strict=True)))
            found[s, o] = linear(torch.cat(heads), attention.out)
        return found

    def round(self, answers):
        paper, F_, cells = self.paper, self.features, self.cells
        R = {c: sum(paper.labels.weight[r] for r in answers[c]) for c in cells}
        for layer in paper.matrix:
            fuse, _, norm = layer.fuse
            M = {c: normed(linear(torch.cat([F_[c], R[c]]), fuse), norm) for c in cells}
            one, two = self.look(layer.attend[0], F_, M), self.look(layer.attend[1], R, M)
            gate = {c: torch.sigmoid(linear(torch.cat([one[c], two[c]]), layer.gate)) for c in cells}
            mixed = {c: gate[c] * one[c] + (1 - gate[c]) * two[c] for c in cells}
            F_ = {c: normed(F_[c] + two_layers(mixed[c], layer.feed[0]), layer.norm[0]) for c in cells}
            R = {c: normed(R[c] + two_layers(mixed[c], layer.feed[1]), layer.norm[1]) for c in cells}
        meet = {c: normed(linear(torch.cat([F_[c], R[c]]), paper.meet), paper.settle[1]) for c in cells}
        return {c: linear(x, paper.classify) for c, x in meet.items()}

    def answer(self, rounds, read_the_sum=True):
        """The sums so far, the base's logits first. The other rule reads each round's own logits."""
        sums, own = [self.base], self.base
        for _ in range(rounds):
            own = self.round(self.read(sums[-1] if read_the_sum else own))
            sums.append({c: sums[-1][c] + own[c] for c in self.cells})
        return sums


def test_docre_ii():
    documents = several()[:3]
    model = released("docre_ii", documents, inference_layers=2)
    paper, batch = model.classifier, model.batch(documents)
    moved = other = 0
    with torch.no_grad():
        pairs = model.features(batch)
        prediction = paper(pairs)
        for b, document in enumerate(documents):
            n = len(document.entities)
            slowly = PublishedDocREII(paper, pairs.entities[b, :n], pairs.document[b], pairs.context[b])
            sums = slowly.answer(3)
            for s, o in slowly.cells:
                for k in range(4):
                    exactly(prediction.trace["rounds"][b, k, s, o], sums[k][s, o])
                exactly(prediction.logits[b, s, o], sums[3][s, o])
                chosen = prediction.chosen[b, s, o].nonzero().flatten().tolist() or [0]
                assert chosen == sorted(slowly.read(sums[3])[s, o])
            answers = [slowly.read(x) for x in sums]
            moved += sum(answers[0][c] != answers[1][c] for c in slowly.cells)
            own = slowly.answer(3, read_the_sum=False)
            other += sum((sums[3][c] - own[3][c]).abs().max() > 1e-3 for c in slowly.cells)
    assert moved and other  # or the rounds would have nothing to read, and both rules would agree


def test_both_mentions_markers_and_the_document_are_read():
    documents = several()[:3]
    model = released("docre_ii", documents)
    assert model.tokenizer.reading.read == "both" and model.tokenizer.reading.max_tokens == 1024
    batch = model.batch(documents)
    pairs = model.features(batch)
    before = model.classifier(pairs).logits
    pairs.document = pairs.document + 1
    assert (model.classifier(pairs).logits - before)[batch.mask].abs().max() > 1e-3
