"""Learning rates during training, stage by stage, and the groups of weights with rates of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Stages:
    """The stages of training: one, or two with a schedule each for papers that train a base first."""

    def __init__(self, classifier: nn.Module, config: Any, per_epoch: int):
        self.base_epochs = int(classifier.base_share * config.epochs)
        self.base_lr, self.config, self.per_epoch = classifier.base_lr, config, per_epoch

    def stage(self, epoch: int) -> tuple[int, int, int]:
        """The stage of an epoch, the stage's first epoch and its number of epochs; epochs count from 0."""
        if epoch < self.base_epochs:
            return 1, 0, self.base_epochs
        return 2, self.base_epochs, self.config.epochs - self.base_epochs

    def enter(self, epoch: int, classifier: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """At the start of an epoch, tells the paper its stage. True if a second stage begins, with a new optimiser."""
        number, first, _ = self.stage(epoch)
        if classifier.base_share:
            classifier.stage.fill_(number)
        if begins := number == 2 and epoch == first > 0:
            optimizer.state.clear()
        return begins

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Sets the learning rates of a step, counted from 1 over all of training."""
        number, first, epochs = self.stage((step - 1) // self.per_epoch)
        rate = warmup_linear(step - first * self.per_epoch, epochs * self.per_epoch, self.config.warmup)
        small = number == 2 and self.base_epochs and self.base_lr is not None
        for group in optimizer.param_groups:
            in_base = group["part"] in ("encoder.", "classifier.base.")
            group["lr"] = rate * (self.base_lr if small and in_base else group["peak"])


def parameter_groups(model: nn.Module, config: Any) -> list[dict[str, Any]]:
    """The weights by peak learning rate: the encoder's, those of the classifier's `matrix` and `base`, all others."""
    peaks = {"encoder.": config.encoder_lr, "classifier.matrix.": config.matrix_lr}
    peaks |= {"classifier.base.": config.classifier_lr, "": config.classifier_lr}
    groups: dict[str, list] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(next(prefix for prefix in peaks if name.startswith(prefix)), []).append(parameter)
    return [
        {"params": group, "part": prefix, "peak": config.classifier_lr if peaks[prefix] is None else peaks[prefix]}
        for prefix, group in groups.items()
    ]


def warmup_linear(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at step 1 … steps: a linear rise over the share `warmup`, then a linear fall.

    It would reach 0 one step after the last one, so that every step has an effect.
    """
    rise = max(1, round(steps * warmup))
    return step / rise if step <= rise else (steps + 1 - step) / (steps + 1 - rise)
