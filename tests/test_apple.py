"""Apple's GPUs have no float64: nothing that runs on a model's device may make one. Told without such a GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import several, small_settings, tiny
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertModel

from docre_lite.encoder import tiny_tokenizer
from docre_lite.model import DocRE, _papers, build, paper
from docre_lite.predict import predict
from docre_lite.support.settings import fields
from docre_lite.train import TrainConfig, fit, fit_frozen

DOCUMENTS = several()
CONFIG = TrainConfig(epochs=2, batch_size=2, clip=1.0, weight_decay=1e-4, precision="fp32")
DOUBLE = (torch.float64, torch.complex128)


class Doubles(TorchDispatchMode):
    """Notes every operation that takes or gives a float64 tensor. On this machine the device is the CPU."""

    def __init__(self):
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and t.dtype in DOUBLE for t in tree_leaves((args, kwargs, out))):
            self.found.add(str(func))
        return out


NARROW = {"unet_width": 32, "map_width": 32, "matrix_width": 32}  # the published networks are wide
VARIANTS = [(name, variant) for name in _papers() for variant in paper(name).variants]


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=map("-".join, VARIANTS))
def test_no_float64_in_training_and_prediction(name, variant):
    """Steps with clipping and AdamW, scoring, tuned thresholds, frozen features."""
    kept = {k: v for k, v in NARROW.items() if k in fields(paper(name).Options)}
    model = tiny(name, DOCUMENTS, variant=variant, **kept)
    with Doubles() as doubles:
        list(fit(model, DOCUMENTS, DOCUMENTS[:2], replace(CONFIG, epochs=1)))
        next(fit_frozen(model, DOCUMENTS[:2], CONFIG))
    assert not doubles.found


@pytest.mark.parametrize("name", _papers())
def test_no_float64_with_a_pretrained_encoder(name, tmp_path):
    """With checkpoints written and read, and the model that was kept."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=200, max_position_embeddings=600, **sizes)).save_pretrained(tmp_path / "bert")
    tiny_tokenizer(DOCUMENTS, 1).save_pretrained(tmp_path / "bert")
    settings = {k: v for k, v in small_settings(name).items() if k in ("block", "map_width")}
    model, again = (build(name, DOCUMENTS, str(tmp_path / "bert"), **settings) for _ in range(2))
    with Doubles() as doubles:
        steps = fit(model, DOCUMENTS, DOCUMENTS[:2], CONFIG, tmp_path / "run")
        next(steps)
        steps.close()
        list(fit(again, DOCUMENTS, DOCUMENTS[:2], CONFIG, tmp_path / "run", resume=True))
        predict(DocRE.load(tmp_path / "run" / "model"), DOCUMENTS)
    assert not doubles.found


@pytest.mark.parametrize(
    "fault",
    [
        lambda logits: logits.double().float(),
        lambda logits: logits + torch.from_numpy(np.zeros(logits.shape[-1])).to(logits.device).float(),
        lambda logits: logits * torch.linspace(1, 1, logits.shape[-1], dtype=torch.float64).float(),
    ],
    ids=["a cast", "from NumPy", "made"],
)
def test_a_float64_is_noticed(fault, monkeypatch):
    kind = paper("atlop")
    logits = kind.logits
    monkeypatch.setattr(kind, "logits", lambda self, pairs, trace: fault(logits(self, pairs, trace)))
    with Doubles() as doubles:
        next(fit(tiny("atlop", DOCUMENTS), DOCUMENTS, (), CONFIG))
    assert doubles.found
