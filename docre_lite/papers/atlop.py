"""ATLOP: document-level relation extraction with adaptive thresholding and localized context pooling (AAAI 2021)."""

from __future__ import annotations

from typing import Literal

from ..layers import RoleBilinear
from ..model import Inputs, PairClassifier
from ..objectives import TOP, AdaptiveThreshold, BinaryCrossEntropy
from ..support.settings import Amount, Count, Variant, option, settings


class ATLOP(PairClassifier):
    """Entity pairs scored one by one: each role's projection of entity and localized context, then a group bilinear.

    Two ideas: the context of a pair is what both entities attend to, and each pair learns its own threshold.
    """

    name = "atlop"
    title = "ATLOP: adaptive thresholding and localized context pooling"

    @settings
    class Options:
        block: Amount = option(
            64,
            "dimensions of a group in the bilinear form, Table 2 'group size', a divisor of the role's width; "
            "0 = all (full bilinear)",
        )
        role_width: Count | None = option(
            None, "width of a role's projection; none = the encoder's. The published code uses 768 for every encoder"
        )
        loss: Literal["adaptive", "bce"] = option("adaptive", "adaptive-threshold loss (section 4), or cross-entropy")
        threshold: Literal["adaptive", "global", "per_class"] = option(
            "adaptive", "choose relations above class 0 (section 4), or above probabilities tuned on dev (Table 6)"
        )
        top: Count = option(TOP, "most relations a pair may hold (4 in the published DocRED script, 1 for CDR and GDA)")

    recipes = {
        # Table 2; weight decay 0 and Adam's epsilon are those of the published code's optimiser
        "docred": {"batch_size": 4, "epochs": 30, "encoder_lr": 5e-5, "classifier_lr": 1e-4},
        # RoBERTa-large, from the public code
        "docred_large": {"batch_size": 4, "epochs": 30, "encoder_lr": 3e-5, "classifier_lr": 1e-4},
        "cdr": {"batch_size": 4, "epochs": 30, "encoder_lr": 2e-5, "classifier_lr": 1e-4, "top": 1},
        "gda": {"batch_size": 16, "epochs": 10, "encoder_lr": 2e-5, "classifier_lr": 1e-4, "top": 1},
        # ours, for the tiny encoder from scratch
        "tiny": {"batch_size": 4, "epochs": 6, "encoder_lr": 1e-3, "classifier_lr": 1e-3, "block": 16},
    }
    _bce = {"loss": "bce", "threshold": "global"}
    _bert_e = {**_bce, "context": "off"}
    variants = {
        "atlop": Variant({}, "the full model", 59.22, 61.09),
        "global_threshold": Variant(
            _bce, "Table 5 '– Adaptive Thresholding': one threshold tuned on dev", 58.32, 60.20
        ),
        "no_context": Variant({"context": "off"}, "Table 5 '– Localized Context Pooling'", 58.19, 60.12),
        "no_adaptive_loss": Variant(
            {"loss": "bce"}, "Table 5 '– Adaptive-Thresholding Loss': BCE, compared with class 0", 39.52, 41.74
        ),
        "bert_e": Variant(_bert_e, "Table 5 'BERT-E': markers, log-sum-exp, group bilinear", 56.51, 58.52),
        "bert_e_no_marker": Variant({**_bert_e, "marker": "none"}, "Table 5 '– Entity Marker'", 56.22, 58.28),
        "bert_e_full_bilinear": Variant({**_bert_e, "block": 0}, "Table 5 '– Group Bilinear'", 55.51, 57.54),
        "bert_e_mean_pooling": Variant({**_bert_e, "pool": "mean"}, "Table 5 '– Logsumexp Pooling'", 55.35, 57.40),
        "bert": Variant(
            {**_bert_e, "marker": "none", "read": "span", "pool": "mean", "block": 0},
            "Table 3 'BERT': no markers, means, full bilinear, BCE",
            54.27,
            56.39,
        ),
        "per_class_threshold": Variant(
            {"loss": "bce", "threshold": "per_class"},
            "Table 6 (adaptive there: 61.27): a threshold per relation, tuned on dev",
            None,
            61.73,
        ),
    }

    def __init__(self, inputs: Inputs, options: Options | None = None):
        super().__init__()
        self.options = options = options or self.Options()
        if options.loss == "adaptive" and options.threshold != "adaptive":
            raise ValueError(
                f"threshold={options.threshold!r} needs loss='bce': the adaptive loss trains class 0 as the threshold"
            )
        context = inputs.width if inputs.context else 0
        width = options.role_width or inputs.width
        self.bilinear = RoleBilinear(width, context, inputs.relations, options.block or width, inputs.width)
        self.objective = (
            AdaptiveThreshold(options.top)
            if options.loss == "adaptive"
            else BinaryCrossEntropy(inputs.relations, options.threshold, options.top)
        )

    def logits(self, pairs, trace):
        return self.bilinear(pairs.entities, pairs.context, pairs.mask)
