"""Learning rates over a training, stage by stage, and the groups of weights that have their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Stages:
    """The stages of a training: one, or for papers with a base that is trained first, two with a schedule each."""

    def __init__(self, classifier: nn.Module, config: Any, per_epoch: int):
        self.base_epochs = int(classifier.base_share * config.epochs)
        self.base_lr, self.config, self.per_epoch = classifier.base_lr, config, per_epoch

    def stage(self, epoch: int) -> tuple[int, int, int]:
        """The stage of an epoch, its first epoch and how many it has; epochs count from 0."""
        if epoch < self.base_epochs:
            return 1, 0, self.base_epochs
        return 2, self.base_epochs, self.config.epochs - self.base_epochs

    def enter(self, epoch: int, classifier: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
        """At an epoch's start: tells the paper its stage; the second one begins with a new optimiser. Is this it?"""
        number, first, _ = self.stage(epoch)
        if classifier.base_share:
            classifier.stage.fill_(number)
        if begins := number == 2 and epoch == first > 0:
            optimizer.state.clear()
        return begins

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Learning rates of step 1 … of the whole training."""
        number, first, epochs = self.stage((step - 1) // self.per_epoch)
        rate = warmup_linear(step - first * self.per_epoch, epochs * self.per_epoch, self.config.warmup)
        small = number == 2 and self.base_epochs and self.base_lr is not None
        for group in optimizer.param_groups:
            in_base = group["part"] in ("encoder.", "classifier.base.")
            group["lr"] = rate * (self.base_lr if small and in_base else group["peak"])


def parameter_groups(model: nn.Module, config: Any) -> list[dict[str, Any]]:
    """The weights by peak learning rate: those of the encoder, of the classifier's `matrix`, its `base`, all others."""
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

    It would reach 0 one step after the last, so that no step is without effect.
    """
    rise = max(1, round(steps * warmup))
    return step / rise if step <= rise else (steps + 1 - step) / (steps + 1 - rise)
