"""Documents to tensors: markers, sub-words, windows, truncation, labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import made, several, tiny, written
from tokenizers import Tokenizer as Pieces
from tokenizers import models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from docre_lite.encode import NUMBERS, Reading, Tokenizer
from docre_lite.encoder import tiny_tokenizer
from docre_lite.support import DataError
from docre_lite.types import Document, Relations, Triple

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

HIDDEN = "\u200b"  # a zero-width space: BERT's normaliser removes it, and DocRED has such words


def words(documents: list[Document], **reading) -> Tokenizer:
    """One token a word."""
    types = tuple(sorted({e.type for d in documents for e in d.entities}))
    return Tokenizer(tiny_tokenizer(documents, 1), Relations.of(documents), types, Reading(**reading))


def pieces(*vocabulary: str, **reading) -> Tokenizer:
    """BERT-like word pieces over the given vocabulary."""
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "*", *vocabulary]
    tokenizer = Pieces(models.WordPiece({w: i for i, w in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    return Tokenizer(fast, Relations(("NA", "r")), ("PER",), Reading(**reading))


def text_of(tokenizer: Tokenizer, ids: list[int]) -> str:
    return " ".join(tokenizer.subwords.convert_ids_to_tokens(ids))


# Nested (0 in 1, both from word 0), overlapping (2 with 0), equal ends (1 and 2), at a sentence's end (0 again, 4),
# adjacent (3 and 4, and 1 with 0's second mention)
CROWDED = written(
    "crowded",
    ["new york city hall stands", "x y"],
    [
        [(0, 0, 3, "LOC"), (0, 4, 5, "LOC")],
        [(0, 0, 4, "ORG")],
        [(0, 2, 4, "ORG")],
        [(1, 0, 1, "PER")],
        [(1, 1, 2, "PER")],
    ],
)


def test_star_markers():
    tokenizer = words([CROWDED])
    [tokens] = tokenizer.encode([CROWDED])
    assert text_of(tokenizer, tokens.ids) == "[CLS] * * new york * city * hall * * * stands * * x * * y * [SEP]"
    assert tokens.entity == [0, 0, 1, 2, 3, 4]
    assert tokens.start == [2, 11, 1, 5, 14, 17]  # the longer span opens first
    assert tokens.end == [7, 13, 10, 9, 16, 19]  # and closes last
    assert tokens.sentence == [-1] + [0] * 13 + [1] * 6 + [-1]


def test_type_markers_are_new_tokens():
    tokenizer = words([CROWDED], marker="type")
    [tokens] = tokenizer.encode([CROWDED])
    assert text_of(tokenizer, tokens.ids) == (
        "[CLS] [ORG] [LOC] new york [ORG] city [/LOC] hall [/ORG] [/ORG] [LOC] stands [/LOC] "
        "[PER] x [/PER] [PER] y [/PER] [SEP]"
    )
    star = words([CROWDED]).encode([CROWDED])[0]
    assert (tokens.start, tokens.end, tokens.sentence) == (star.start, star.end, star.sentence)


def test_type_and_number_markers():
    tokenizer = words([CROWDED], marker="type_id")
    [tokens] = tokenizer.encode([CROWDED])
    assert text_of(tokenizer, tokens.ids) == (
        "[CLS] [ORG] [LOC] new york [ORG] city [E1] hall [E3] [E2] [LOC] stands [E1] [PER] x [E4] [PER] y [E5] [SEP]"
    )
    star = words([CROWDED]).encode([CROWDED])[0]
    assert (tokens.start, tokens.end, tokens.sentence) == (star.start, star.end, star.sentence)
    # numbers follow the order of the entities that the document has now
    [tokens] = tokenizer.encode([CROWDED.permuted([4, 3, 2, 1, 0])])
    assert text_of(tokenizer, tokens.ids) == (
        "[CLS] [ORG] [LOC] new york [ORG] city [E5] hall [E3] [E4] [LOC] stands [E5] [PER] x [E2] [PER] y [E1] [SEP]"
    )


def test_a_shared_span_has_the_first_entity_s_number():
    document = written("shared", ["a b c"], [[(0, 2, 3, "LOC")], [(0, 0, 2, "LOC")], [(0, 0, 2, "FIRM")]])
    tokenizer = words([document], marker="type_id")
    [tokens] = tokenizer.encode([document])
    assert text_of(tokenizer, tokens.ids) == "[CLS] [FIRM] a b [E2] [LOC] c [E1] [SEP]"


def test_entities_beyond_the_last_number_share_it():
    n = NUMBERS + 2
    crowd = written("crowd", [" ".join(f"w{k}" for k in range(n))], [[(0, k, k + 1, "PER")] for k in range(n)])
    tokenizer = words([crowd], marker="type_id")
    text = text_of(tokenizer, tokenizer.encode([crowd])[0].ids).split()
    closing = [word for word in text if word.startswith("[E")]
    assert closing == [f"[E{k}]" for k in range(1, n - 1)] + [f"[E{NUMBERS}]"] * 2
    assert len(set(closing)) == NUMBERS


def test_no_markers():
    tokenizer = words([CROWDED], marker="none")
    [tokens] = tokenizer.encode([CROWDED])
    assert text_of(tokenizer, tokens.ids) == "[CLS] new york city hall stands x y [SEP]"
    assert tokens.start == [1, 5, 1, 3, 6, 7]
    assert tokens.end == [3, 5, 4, 4, 6, 7]


def test_entities_that_share_a_span_share_its_markers():
    sentences, place, firm = ["a b c"], [(0, 0, 2, "LOC")], [(0, 0, 2, "FIRM"), (0, 2, 3, "FIRM")]
    for order in ([place, firm], [firm, place]):
        document = written("shared", sentences, order)
        tokenizer = words([document], marker="type")
        [tokens] = tokenizer.encode([document])
        assert text_of(tokenizer, tokens.ids) == "[CLS] [FIRM] a b [/FIRM] [FIRM] c [/FIRM] [SEP]"
        assert sorted(zip(tokens.start, tokens.end, strict=True)) == [(1, 4), (1, 4), (5, 7)]


def test_marker_and_mention_stand_where_they_should():
    """Whatever the spans: between the two columns of a mention stand its words, and markers."""
    documents = several() + [made("more", 9, sentences=8, seed=k) for k in range(3)]
    tokenizer = words(documents)
    for document, tokens in zip(documents, tokenizer.encode(documents), strict=True):
        mentions = [m for e in document.entities for m in e.mentions]
        for mention, start, end in zip(mentions, tokens.start, tokens.end, strict=True):
            text = text_of(tokenizer, tokens.ids[start : end + 1]).split()
            assert text[0] == text[-1] == "*"
            assert " ".join(w for w in text if w != "*") == mention.name
            assert set(tokens.sentence[start : end + 1]) == {mention.sentence}


def test_sub_words_of_an_unmarked_mention():
    document = written("p", ["play playing played"], [[(0, 0, 1)], [(0, 1, 3)]])
    tokenizer = pieces("play", "##ing", "##ed", marker="none")
    [tokens] = tokenizer.encode([document])
    assert text_of(tokenizer, tokens.ids) == "[CLS] play play ##ing play ##ed [SEP]"
    assert (tokens.start, tokens.end) == ([1, 2], [1, 5])


@pytest.mark.parametrize("nothing", ["", HIDDEN])
def test_words_that_give_no_sub_word(nothing):
    document = Document(
        "gap",
        (("play", nothing, "##ing"[2:], nothing), (nothing,), (nothing, "play")),
        written("gap", ["a b c d", "e", "f g"], [[(0, 0, 2), (0, 2, 4)], [(1, 0, 1)], [(2, 0, 2)]]).entities,
    )
    tokenizer = pieces("play", "ing", "##ing")
    [tokens] = tokenizer.encode([document])
    assert text_of(tokenizer, tokens.ids) == "[CLS] * play * * ing * * * * play * [SEP]"
    assert (tokens.start, tokens.end) == ([1, 4, 7, 9], [3, 6, 8, 11])
    assert tokens.sentence == [-1] + [0] * 6 + [1] * 2 + [2] * 3 + [-1]
    # unmarked, a mention is what is left of it; one of which nothing is left has no vote
    tokenizer = pieces("play", "ing", marker="none")
    [tokens] = tokenizer.encode([document])
    assert text_of(tokenizer, tokens.ids) == "[CLS] play ing play [SEP]"
    assert tokens.start == [1, 2, -1, 3] and tokens.end[:2] == [1, 2] and tokens.end[3] == 3
    assert tokenizer.collate([tokens]).mention_entity.tolist() == [[0, 0, -1, 2]]


def long_document(length: int) -> Document:
    """A document of `length` tokens with [CLS] and [SEP], each word its own."""
    return Document(f"long {length}", (tuple(f"t{i}" for i in range(length - 2)),), ())


def check_windows(batch, tokens, size: int, stride: int) -> int:
    length = len(tokens.ids)
    ids = torch.tensor(tokens.ids)
    covered = set()
    firsts = []
    for w in range(len(batch.windows)):
        inside = batch.window_mask[w]
        columns, found = batch.column[w][inside].tolist(), batch.windows[w][inside]
        assert len(columns) <= size and inside.long().diff().le(0).all()  # padding only at the end
        assert found[0] == ids[0] and found[-1] == ids[-1]  # its own [CLS] and [SEP]
        inner = columns[1:-1]
        assert inner == list(range(columns[1], columns[1] + len(inner)))
        assert torch.equal(found[1:-1], ids[inner])
        assert (columns[0] == 0) == (w == 0) and (columns[-1] == length - 1) == (w == len(batch.windows) - 1)
        assert columns[0] in (0, -1) and columns[-1] in (length - 1, -1)
        assert (batch.column[w][~inside] == -1).all()
        firsts.append(inner[0] if inner else 1)
        covered |= set(columns) - {-1}
    assert covered == set(range(length))
    if len(firsts) > 1:  # all are full; the last one is aligned with the end, the others with the stride
        assert batch.window_mask.all()
        assert firsts[0] == 1 and firsts[-1] == length - 1 - (size - 2)
        if len(firsts) > 2:
            assert firsts[:-1] == list(range(1, firsts[-1], stride))
    return len(firsts)


@pytest.mark.parametrize(
    ("length", "windows"),
    # 512 tokens are one window; two windows hold 510 tokens each beside their [CLS] and [SEP]: up to 1022
    [(511, 1), (512, 1), (513, 2), (514, 2), (1021, 2), (1022, 2), (1023, 3), (1024, 3), (1025, 3), (1026, 3)]
    + [(1280, 3), (1281, 4), (3000, 8)],
)
def test_windows_of_512(length, windows):
    document = long_document(length)
    tokenizer = words([document])
    [tokens] = tokenizer.encode([document])
    assert len(tokens.ids) == length
    assert check_windows(tokenizer.collate([tokens]), tokens, 512, 384) == windows


@settings(max_examples=80)
@given(st.integers(3, 12), st.integers(1, 10), st.integers(2, 60))
def test_windows_of_any_size_cover_every_column(size, stride, length):
    stride = min(stride, size - 2)
    document = long_document(length)
    tokenizer = words([document], window=size, stride=stride)
    [tokens] = tokenizer.encode([document])
    check_windows(tokenizer.collate([tokens]), tokens, size, stride)


@pytest.mark.parametrize(("window", "stride"), [(512, 511), (100, 384), (512, 0), (512, -1), (2, 1), (0, 0)])
def test_windows_that_would_leave_gaps_are_refused(window, stride):
    with pytest.raises(ValueError, match="window|stride"):
        Reading(window=window, stride=stride)


def test_windows_of_several_documents():
    documents = [long_document(n) for n in (10, 40, 3, 25)]
    tokenizer = words(documents, window=16, stride=8)
    encoded = tokenizer.encode(documents)
    batch = tokenizer.collate(encoded)
    assert batch.window_document.tolist() == [0, 1, 1, 1, 1, 2, 3, 3]
    assert batch.token_mask.sum(1).tolist() == [10, 40, 3, 25] and batch.token_mask.shape == (4, 40)
    for b, tokens in enumerate(encoded):
        alone = tokenizer.collate([tokens])
        mine = batch.window_document == b
        width = alone.windows.shape[1]
        assert torch.equal(batch.windows[mine][:, :width], alone.windows)
        assert torch.equal(batch.column[mine][:, :width], alone.column)
        assert not batch.window_mask[mine][:, width:].any() and (batch.column[mine][:, width:] == -1).all()


def test_truncation():
    document = written("cut", ["a b c d e f"], [[(0, 0, 1), (0, 5, 6)], [(0, 2, 4)], [(0, 4, 5)]])
    tokenizer = words([document], max_tokens=9)
    [tokens] = tokenizer.encode([document])
    assert text_of(tokenizer, tokens.ids) == "[CLS] * a * b * c d [SEP]"
    assert tokens.start == [1, -1, 5, -1]
    assert tokens.end == [3, -1, 5, -1]  # the end marker is gone: the start marker stands for both
    batch = tokenizer.collate([tokens])
    assert batch.mention_entity.tolist() == [[0, -1, 1, -1]] and batch.mention_start.tolist() == [[1, -1, 5, -1]]
    assert batch.mask.sum() == 6  # an entity without a vote is still asked about
    assert len(words([document], max_tokens=100).encode([document])[0].ids) == 16


def test_a_span_goes_as_far_as_it_is_seen():
    document = written("span", ["a b c d e f g"], [[(0, 3, 7)], [(0, 1, 2)]])
    whole, cut = (words([document], marker="none", read="span", max_tokens=most) for most in (None, 7))
    assert text_of(cut, cut.encode([document])[0].ids) == "[CLS] a b c d e [SEP]"
    assert [(t.start, t.end) for t in whole.encode([document])] == [([4, 2], [7, 2])]
    assert [(t.start, t.end) for t in cut.encode([document])] == [([4, 2], [5, 2])]


@pytest.mark.parametrize("reading", [{}, {"read": "both"}, {"read": "span"}, {"pool": "mean"}, {"context": "softmax"}])
def test_an_entity_that_is_cut_off_is_zero(reading):
    document = written("cut", ["a b c d e f"], [[(0, 0, 1), (0, 5, 6)], [(0, 2, 4)], [(0, 4, 5)]])
    model = tiny("atlop", [replace(document, triples=(Triple("cut", 0, "r", 1),))], max_tokens=9, **reading)
    pairs = model.features(model.batch([document]))
    assert (pairs.entities[0, 2] == 0).all() and (pairs.entities[0, :2] != 0).all()
    assert pairs.context.isfinite().all() and model(model.batch([document])).logits.isfinite().all()
    if reading.get("context") != "softmax":
        assert (pairs.context[0, 2] == 0).all() and (pairs.attention[0, :, 2] == 0).all()
        sums = pairs.attention[0, :2, :2].sum(-1)
        torch.testing.assert_close(sums, torch.ones(2, 2))


def test_types():
    known = written("known", ["a b"], [[(0, 0, 1, "ORG")], [(0, 1, 2, "PER")]])
    strange = written("strange", ["a b c"], [[(0, 0, 1, "PER"), (0, 2, 3, "ORG")], [(0, 1, 2, "CHEMICAL")]])
    for marker in ("star", "type", "type_id", "none"):
        tokenizer = words([known], marker=marker)
        batch = tokenizer.collate(tokenizer.encode([known, strange]))
        assert batch.entity_type.tolist() == [[1, 2], [2, 3]]  # ORG, PER; of its first mention; unknown
        assert batch.entity_mask.all()
    padded = tokenizer.collate(tokenizer.encode([written("one", ["a"], [[(0, 0, 1)]]), known]))
    assert padded.entity_mask.tolist() == [[True, False], [True, True]]


def test_labels_and_mask():
    first = written(
        "first", ["a b c", "d"], [[(0, 0, 1)], [(0, 2, 3)], [(1, 0, 1)]], [(0, "r", 1), (0, "s", 1), (2, "r", 0)]
    )
    second = written("second", ["a b"], [[(0, 0, 1)], [(0, 1, 2)]], [(1, "s", 0)], candidates=frozenset({(1, 0)}))
    tokenizer = words([first, second])
    assert tokenizer.relations.names == ("NA", "r", "s")
    batch = tokenizer.collate(tokenizer.encode([first, second]))
    assert batch.labels.nonzero().tolist() == [
        [0, 0, 1, 1],
        [0, 0, 1, 2],
        [0, 0, 2, 0],
        [0, 1, 0, 0],
        [0, 1, 2, 0],
        [0, 2, 0, 1],
        [0, 2, 1, 0],
        [1, 1, 0, 2],
    ]
    assert batch.mask[0].tolist() == [[False, True, True], [True, False, True], [True, True, False]]
    assert batch.mask[1].nonzero().tolist() == [[1, 0]]
    assert torch.equal(batch.labels.any(-1), batch.mask)
    for b, document in enumerate((first, second)):
        n = len(document.entities)
        same = [[document.same_sentence(h, t) for t in range(n)] for h in range(n)]
        assert batch.same_sentence[b, :n, :n].tolist() == same
        assert not batch.same_sentence[b, n:].any() and not batch.same_sentence[b, :, n:].any()
    assert tokenizer.collate(tokenizer.encode([first]), labels=False).labels is None


def test_no_candidates_are_no_pairs():
    document = written("none", ["a b"], [[(0, 0, 1)], [(0, 1, 2)]], candidates=frozenset())
    batch = words([document]).collate(words([document]).encode([document]))
    assert not batch.mask.any() and not batch.labels.any()


def test_relations_the_model_does_not_know():
    document = written("odd", ["a b"], [[(0, 0, 1)], [(0, 1, 2)]], [(0, "strange", 1)])
    tokenizer = pieces("a", "b")
    batch = tokenizer.collate(tokenizer.encode([document]))
    assert batch.labels[0, 0, 1].tolist() == [True, False]  # it cannot be learnt
    with pytest.raises(DataError, match="document \"odd\": relation 'strange'"):
        tokenizer.check([document])


def test_padding():
    documents = several()
    tokenizer = words(documents)
    encoded = tokenizer.encode(documents)
    batch = tokenizer.collate(encoded)
    for b, tokens in enumerate(encoded):
        length, mentions = len(tokens.ids), len(tokens.start)
        assert batch.token_mask[b].sum() == length and batch.token_mask[b, :length].all()
        assert batch.windows[b, :length].tolist() == tokens.ids and (batch.windows[b, length:] == 0).all()
        assert batch.token_sentence[b, :length].tolist() == tokens.sentence
        assert (batch.token_sentence[b, length:] == -1).all()
        for found, expected in (
            (batch.mention_start, tokens.start),
            (batch.mention_end, tokens.end),
            (batch.mention_entity, tokens.entity),
        ):
            assert found[b, :mentions].tolist() == expected and (found[b, mentions:] == -1).all()


def test_empty_sentences_and_texts():
    document = Document(
        "empty", ((), ("a", "b"), (), ("c",), ()), written("", ["", "a b", "", "c"], [[(3, 0, 1)]]).entities
    )
    tokenizer = words([document])
    [tokens] = tokenizer.encode([document])
    assert text_of(tokenizer, tokens.ids) == "[CLS] a b * c * [SEP]"
    assert tokens.sentence == [-1, 1, 1, 3, 3, 3, -1]
    for nothing in ((), ((),), (("",),)):
        [tokens] = tokenizer.encode([Document("nothing", nothing, ())])
        assert text_of(tokenizer, tokens.ids) == "[CLS] [SEP]"
        assert tokenizer.collate([tokens]).mask.sum() == 0
    assert tokenizer.encode([]) == []


def test_a_tokenizer_without_special_tokens_is_refused():
    bare = PreTrainedTokenizerFast(tokenizer_object=Pieces(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")))
    with pytest.raises(ValueError, match=r"\[CLS\], \[SEP\]"):
        Tokenizer(bare, Relations(("NA",)), ())


@pytest.mark.parametrize("marker", ["star", "type", "type_id", "none"])
def test_every_token_knows_its_word(marker):
    document = made("words", 4)
    model = tiny("atlop", [document], marker=marker)
    tokens = model.tokenizer.encode([document])[0]
    words = [word for sentence in document.sentences for word in sentence]
    assert len(tokens.word) == len(tokens.ids)
    assert [w for w in tokens.word if w >= 0] == list(range(len(words)))  # the tiny encoder has one token a word
    for place, token in zip(tokens.word, tokens.ids, strict=True):
        if place >= 0:
            assert model.tokenizer.subwords.convert_ids_to_tokens(token) in (words[place], "[UNK]")
