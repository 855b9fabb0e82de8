"""The logits of one pair under three losses, and the direction in which each loss pushes every logit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..model import DocRE
from ..objectives import TOP, AdaptiveSoftmax, AdaptiveThreshold, BalancedSoftmax, Objective
from ..types import Document
from .base import Widget, html_table

LOSSES: dict[str, tuple[Objective, str]] = {
    "AdaptiveThreshold": (AdaptiveThreshold(), "adaptive threshold, ATLOP section 4"),
    "BalancedSoftmax": (BalancedSoftmax(), "balanced softmax, DocuNet (11)"),
    "AdaptiveSoftmax": (AdaptiveSoftmax(), "adaptive softmax, PAEE (9)"),
}
REACH = 6  # sliders run from −REACH to REACH, further if a logit needs it
MOST = 12  # relations with a slider each
SHOWN = 6  # relations of a real pair that get one; the gold ones always do
NAMES = ["TH", "located_in", "country", "place_of_birth", "sibling"]


class ThresholdPlayground(Widget):
    """Logits of one pair with a slider each, the threshold class among them: three losses and who pushes whom.

        from docre_lite.widgets import ThresholdPlayground
        ThresholdPlayground([-4, 2.5, 1.5, -0.5], positives=[1, 2], names=["TH", "father", "child", "sibling"])
        ThresholdPlayground.of(model, document, (0, 3))

    A tick means that a relation holds. Each loss is drawn in two parts, that of the positives and that of the
    negatives; a mark on ATLOP's shows the floor k·log k of its first part. Beside every logit is its push, minus
    the gradient of the chosen loss, and a button takes steps along it. ATLOP section 4, DocuNet (10)-(11), PAEE (9).

    `logits` are those of class 0 (the threshold class) and 1 to 12 relations; `positives` are the relations that hold,
    by index or name. Raises ValueError for fewer or more logits, for logits that are not finite, and for positives
    that are not relations. `of` takes them from a model: relations beyond the strongest share one bar, the log-sum-exp
    of their logits, which leaves every loss unchanged. It raises ValueError for a pair that the document lacks.
    """

    script = "threshold.js"

    def __init__(
        self,
        logits: Sequence[float | int] | Tensor | None = None,
        positives: Sequence[int | str] | None = None,
        names: Sequence[str] | None = None,
    ):
        if logits is None:
            logits, names = [-4.0, 2.5, 1.5, -0.5, -1.5], NAMES if names is None else names
            positives = [1, 2] if positives is None else positives
        if isinstance(logits, Tensor) and logits.dim() != 1:
            raise ValueError(f"logits of shape {list(logits.shape)}: give those of one pair, [R]")
        self._begin([float(x) for x in logits], positives or [], names, 0, "AdaptiveThreshold")

    @classmethod
    def of(cls, model: DocRE, document: Document, pair: tuple[int, int]) -> ThresholdPlayground:
        """A pair of a document with a model's scores: its gold relations, the strongest others, and the rest as one."""
        if tuple(pair) not in document.pairs():
            raise ValueError(f"{document.title}: {pair} is not a pair to classify; give one of document.pairs()")
        training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                logits = model(model.batch([document], labels=False)).logits[0, pair[0], pair[1]].double().cpu()
        finally:
            model.train(training)
        names = model.relations.names
        held = {t.relation for t in document.triples if (t.head, t.tail) == tuple(pair)}
        if unknown := sorted(held - set(names)):
            raise ValueError(f"the model does not know {unknown}; it was built from documents without them")
        gold = sorted(map(names.index, held))
        order = [r for r in logits.argsort(descending=True).tolist() if r and r not in gold]
        kept, rest = [*gold, *order[: max(SHOWN - len(gold), 1)]], order[max(SHOWN - len(gold), 1) :]
        shown, labels = [float(logits[r]) for r in (0, *kept)], ["TH", *(names[r] for r in kept)]
        if rest:
            shown.append(float(logits[rest].logsumexp(0)))
            labels.append(f"{len(rest)} others")
        kind = type(model.classifier.objective).__name__
        made = cls.__new__(cls)
        made._begin(shown, range(1, len(gold) + 1), labels, len(rest), kind if kind in LOSSES else "AdaptiveThreshold")
        return made

    def _begin(self, logits: list[float], positives, names, together: int, loss: str) -> None:
        """`together` is the number of relations that the last bar combines; 0 if it is a single one."""
        if not 2 <= len(logits) <= MOST + 1 + bool(together):
            raise ValueError(
                f"{len(logits)} logits: give those of class 0 and of 1 to {MOST} relations; "
                "ThresholdPlayground.of(model, document, pair) chooses them for you"
            )
        if not all(map(math.isfinite, logits)):
            raise ValueError(f"logits {logits} are not all finite; a slider has no place for inf or nan")
        names = list(names) if names is not None else ["TH", *(f"relation {r}" for r in range(1, len(logits)))]
        if len(names) != len(logits):
            raise ValueError(f"{len(names)} names for {len(logits)} logits; give one per logit, class 0 first")
        holds = sorted({names.index(p) if p in names else p for p in positives}, key=str)
        if wrong := [p for p in holds if not (isinstance(p, int) and 0 < p < len(logits))]:
            raise ValueError(f"positives {wrong} are not relations; give indices 1 to {len(logits) - 1}, or names")
        start = {"name": "at the start", "logits": [round(x, 4) for x in logits], "positives": sorted(holds)}
        data = {
            "names": names,
            "together": together,
            "reach": max(REACH, math.ceil(max(map(abs, logits)))),
            "losses": [[key, text] for key, (_, text) in LOSSES.items()],
            "top": TOP,
            "presets": [start, *_presets(len(logits), together)],
        }
        super().__init__(data, {"logits": start["logits"], "positives": start["positives"], "loss": loss})

    def recompute(self, state: dict[str, Any]) -> dict[str, Any]:
        """Both parts of every loss, computed by the module, and the gradient of the chosen one by autograd."""
        logits, positives = state["logits"], state["positives"]
        parts = {key: _parts(key, logits, positives) for key in LOSSES}
        return {"parts": parts, "gradient": _gradient(state["loss"], logits, positives)}

    def fallback(self) -> str:
        rows = []
        for preset in self.data["presets"]:
            k, logits = len(preset["positives"]), " ".join(f"{x:.1f}" for x in preset["logits"])
            holds = ", ".join(self.data["names"][r] for r in preset["positives"]) or "none"
            row = [preset["name"], logits, holds, f"{k * math.log(k or 1):.2f}"]
            for key in LOSSES:
                positive, negative = _parts(key, preset["logits"], preset["positives"])
                row.append(f"{positive:.2f} + {negative:.2f} = {positive + negative:.2f}")
            rows.append(row)
        head = ["case", f"logits of {', '.join(self.data['names'])}", "holds", "floor k·log k of ATLOP's first part"]
        caption = "Losses of one pair in nats, positives' part + negatives' part"
        return html_table(caption, [*head, *(text for _, text in LOSSES.values())], rows)


def _labels(logits: Sequence[float], positives: Sequence[int]) -> Tensor:
    """[1, R], as in the data: column 0 is true for a pair without relations."""
    labels = torch.zeros(1, len(logits), dtype=torch.bool)
    labels[0, list(positives) or [0]] = True
    return labels


def _parts(key: str, logits: Sequence[float], positives: Sequence[int]) -> list[float]:
    """The parts of the positives and the negatives. The second is the loss without the positives."""
    objective, _ = LOSSES[key]
    x, labels = torch.tensor([logits], dtype=torch.double), _labels(logits, positives)
    out = labels[0].clone()
    if key != "BalancedSoftmax":
        out[0] = False  # the threshold class stays: it is not a positive
    rest = x[:, ~out]
    negative = float(objective.loss(rest, torch.zeros_like(rest, dtype=torch.bool)))
    return [float(objective.loss(x, labels)) - negative, negative]


def _gradient(key: str, logits: Sequence[float], positives: Sequence[int]) -> list[float]:
    x = torch.tensor([logits], dtype=torch.double, requires_grad=True)
    with torch.enable_grad():
        loss = LOSSES[key][0].loss(x, _labels(logits, positives))
    return torch.autograd.grad(loss, x)[0][0].tolist()


def _presets(classes: int, together: int) -> list[dict[str, Any]]:
    """Instructive cases for any number of classes: TH at 0, the first relations in the leading roles."""
    single = classes - 1 - bool(together)  # relations that can hold

    def case(name: str, positives: list[int], *leading: float, rest: float = -3.0) -> dict[str, Any]:
        return {"name": name, "logits": [*leading, *[rest] * classes][:classes], "positives": positives}

    cases = [
        case("one positive, well above", [1], 0.0, 4.0),
        case("two positives, level", [1, 2], 0.0, 4.0, 4.0),
        case("two, one far ahead", [1, 2], 0.0, 5.0, 1.0),
        case("three positives, level", [1, 2, 3], 0.0, 4.0, 4.0, 4.0),
        case("none holds, one above TH", [], 0.0, 2.0),
        case("TH too low", [1], -4.0, 2.0, rest=0.0),
    ]
    return [c for c in cases if max(c["positives"], default=1) <= single]
