"""What a training run records of itself, for `metrics.json` and a model's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from .machine import settled


def best_epoch(history: Sequence[Mapping[str, Any]], select: str = "f1") -> int | None:
    """The epoch whose model is kept: the first of the best by dev score, the last one without; of two stages, the last.

    `history` as in `metrics.json`; None if it is empty.
    """
    rows = [row for row in history if row.get("stage") == history[-1].get("stage")]
    if not rows:
        return None
    best = max(rows, key=lambda row: row["dev"][select] or 0.0) if "dev" in rows[-1] else rows[-1]
    return best["epoch"]


def described(model: Any, config: Any, train: int, dev: int, device: torch.device) -> dict[str, Any]:
    """A run in facts: paper, encoder, numbers of documents and parameters, every setting's final value, precision."""
    return {
        "paper": model.classifier.name,
        "encoder": model.encoder.source,
        "documents": {"train": train, "dev": dev},
        "relations": len(model.relations) - 1,
        "types": len(model.tokenizer.types),
        "parameters": {
            part: sum(p.numel() for p in network.parameters())
            for part, network in (("encoder", model.encoder), ("paper", model.classifier))
        },
        "seed": config.seed,
        "settings": asdict(config) | model.settings,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": settled(config.precision, device),
    }
