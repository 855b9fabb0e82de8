"""Kinds of encoders: each is read as it reads itself and works for every paper, or is refused before it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import several, sgd_steps, small_settings
from test_encoder import batch_of, eager_maps, tokenizer_of
from transformers import CONFIG_MAPPING, AutoModel

from docre_lite.encoder import PretrainedEncoder
from docre_lite.model import DocRE, classifier
from docre_lite.model import _papers as papers
from docre_lite.predict import predict
from docre_lite.support import attention

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SIZES = {"vocab_size": 200, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 600}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
KINDS = {  # how attention is read, and settings of its own
    "albert": ("fused", {"embedding_size": 16}),
    "bert": ("fused", {}),
    "camembert": ("fused", {}),
    "convbert": ("maps", {"hidden_size": 32, "num_attention_heads": 4}),
    "data2vec-text": ("fused", {}),
    "deberta": ("maps", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "deberta-v2": ("maps", {"relative_attention": True, "position_buckets": 16, "share_att_key": True}),
    "distilbert": ("fused", {"dim": 24, "n_heads": 3, "n_layers": 2, "hidden_dim": 32}),
    "electra": ("fused", {"embedding_size": 16}),
    "ernie": ("fused", {}),
    "esm": ("fused", {"position_embedding_type": "rotary", "mask_token_id": 4}),
    "eurobert": ("fused", {"num_key_value_heads": 1, "hidden_size": 24}),
    "flaubert": ("maps", {"emb_dim": 24, "n_heads": 3, "n_layers": 2}),
    "jina_embeddings_v3": ("fused", {}),
    "layoutlm": ("fused", {}),
    "lilt": ("maps", {"channel_shrink_ratio": 4, "hidden_size": 48, "num_attention_heads": 3}),
    "longformer": ("band", {"attention_window": [8, 16]}),
    "luke": ("maps", {"entity_vocab_size": 10, "entity_emb_size": 8}),
    "markuplm": ("fused", {}),
    "megatron-bert": ("maps", {}),
    "mobilebert": ("fused", {"embedding_size": 16, "intra_bottleneck_size": 24, "true_hidden_size": 24}),
    "modernbert": ("fused", {"local_attention": 8, "global_attn_every_n_layers": 3}),
    "mpnet": ("maps", {}),
    "nomic_bert": ("fused", {}),
    "rembert": ("maps", {"input_embedding_size": 16}),
    "roberta": ("fused", {}),
    "roberta-prelayernorm": ("fused", {}),
    "roc_bert": ("fused", {"shape_vocab_size": 20, "pronunciation_vocab_size": 20}),
    "roformer": ("maps", {"embedding_size": 24}),
    "splinter": ("fused", {}),
    "xlm": ("maps", {"emb_dim": 24, "n_heads": 3, "n_layers": 2}),
    "xlm-roberta": ("fused", {}),
    "xlm-roberta-xl": ("fused", {}),
    "xlnet": ("maps", {"d_model": 24, "n_head": 3, "n_layer": 2, "d_inner": 32}),
    "xmod": ("fused", {"languages": ["en_XX"], "default_language": "en_XX"}),
}
REFUSED = {
    "bart": "an encoder with a decoder",
    "big_bird": "returns no attention",
    "bros": "You have to specify bbox",
    "fnet": "returns no attention",
    "funnel": "could not read plain text",
    "ibert": "no room for markers",
    "gpt2": "only reads from left to right",
    "llama": "only reads from left to right",
    "mra": "returns no attention",
    "t5": "an encoder with a decoder",
}
COUNTS_FROM_PADDING = (
    *("camembert", "data2vec-text", "lilt", "longformer", "luke", "markuplm"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)


def config_of(kind: str):
    special = KINDS[kind][1] if kind in KINDS else {}
    sizes = {k: v for k, v in SIZES.items() if kind not in ("xlnet",) or k == "vocab_size"}
    return CONFIG_MAPPING[kind](**sizes | SPECIAL | special)


def encoder_of(kind: str, folder: Path) -> PretrainedEncoder:
    torch.manual_seed(0)
    config_of(kind).save_pretrained(folder)
    encoder = PretrainedEncoder.from_folder(folder)
    for parameter in encoder.parameters():  # attention that is far from uniform, so that a wrong row shows
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return encoder.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_models_own(kind, tmp_path):
    encoder = encoder_of(kind, tmp_path).double()
    assert encoder.kind.way == KINDS[kind][0]
    batch = batch_of(several())
    assert not batch.window_mask.all(), "some of it is padding"
    with torch.no_grad():
        tokens, rows = encoder(batch, batch.mention_start)
        out = eager_maps(encoder, batch)
    hidden, maps = out
    torch.testing.assert_close(tokens[batch.token_mask], hidden[batch.window_mask], rtol=1e-4, atol=1e-5)
    for b, starts in enumerate(batch.mention_start.tolist()):
        for m, column in enumerate(starts):
            if column >= 0:
                expected = whole_row(maps[b], column) if encoder.kind.way == "band" else maps[b, :, column]
                torch.testing.assert_close(rows[b, :, m], expected, rtol=1e-5, atol=1e-5)
    length = int(batch.token_mask[0].sum())
    assert (rows[0, :, 0, :length] - 1 / length).abs().max() > 1e-3, "attention is not the same for all tokens"


def whole_row(band: torch.Tensor, place: int) -> torch.Tensor:
    """A row of a sliding window's map, put where it belongs, by a loop."""
    heads, length, width = band.shape
    row = torch.zeros(heads, length, dtype=band.dtype)
    for i in range(width):
        if 0 <= (column := place + i - width // 2) < length:
            row[:, column] = band[:, place, i]
    return row


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_trains_and_travels(kind, tmp_path):
    documents = several()
    tokenizer = tokenizer_of(documents)
    for name in papers():
        encoder, sizes = encoder_of(kind, tmp_path), small_settings(name)
        model = DocRE(tokenizer, encoder, classifier(name, tokenizer, encoder, **sizes | {"block": encoder.width}))
        sgd_steps(model, model.batch(documents), 2)
        model.eval().save(tmp_path / name)
        again = DocRE.load(tmp_path / name)
        batch = model.batch(documents)
        with torch.no_grad():
            torch.testing.assert_close(again(batch).logits, model(batch).logits)
        assert predict(again, documents) == predict(model, documents)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_before_it_is_loaded(kind, monkeypatch, tmp_path):
    config = CONFIG_MAPPING[kind]()
    config.save_pretrained(tmp_path)
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match=REFUSED[kind]) as error:
        PretrainedEncoder.load(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_positions_are_counted_as_the_model_counts_them(kind, tmp_path):
    encoder = encoder_of(kind, tmp_path)
    behind = {"mpnet": 2} | dict.fromkeys(COUNTS_FROM_PADDING, 1)  # rows of the table before the first position
    expected = 1 << 20 if kind == "xlnet" else 600 - behind.get(kind, 0)
    assert encoder.longest == expected
    if kind != "xlnet":
        ids = torch.full((1, encoder.longest), 7)
        with torch.no_grad():
            hidden, _ = encoder.read_windows(ids, torch.ones_like(ids).bool(), False)
        assert hidden.isfinite().all()


def test_trying_a_kind_leaves_the_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    attention._kind.cache_clear()
    attention.kind_of(config_of("bert"))
    assert torch.equal(torch.rand(3), expected)
