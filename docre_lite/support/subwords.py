"""The tokenizer of a hub encoder: loaded for text that is split into words, rejected if it cannot fit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from functools import partial

from transformers import AutoTokenizer, PreTrainedTokenizerFast

UNKNOWN = 0.2  # share of sub-words above which `warn_of_unknown` warns


def read_subwords(name: str) -> PreTrainedTokenizerFast:
    """Tokenizer by hub name or folder; runs none of its code. Raises ValueError if it knows no words."""
    read = partial(AutoTokenizer.from_pretrained, name, use_fast=True, trust_remote_code=False)
    subwords = read()
    if not getattr(subwords, "is_fast", False):
        raise ValueError("its tokenizer has no fast form, and only fast ones know the word of each sub-word")
    if _pattern(subwords, "pre_tokenizer").count("ByteLevel"):
        subwords = read(add_prefix_space=True)  # accepts split words only if each starts with a space
    known = set(subwords.get_vocab()) - set(subwords.all_special_tokens)
    if not known:
        raise ValueError(
            "its tokenizer knows no words, as if tokenizer.json were missing; get it from the source of the model with "
            "`AutoTokenizer.from_pretrained(...).save_pretrained(folder)`"
        )
    capitals = sum(token.lower() != token for token in known) / len(known)
    if capitals > 0.1 and "Lowercase" in _pattern(subwords, "normalizer"):
        warnings.warn(
            f"encoder {name!r}: its tokenizer lower-cases all text, but {capitals:.0%} of its vocabulary has capitals; "
            'if it is a cased model, set "do_lower_case": false in its tokenizer_config.json',
            stacklevel=3,
        )
    return subwords


def check_fits(subwords: PreTrainedTokenizerFast, rows: int) -> None:
    """Raises ValueError if the tokenizer uses numbers beyond the rows of the embedding; or what the library raises if
    it cannot read a word that it does not know.
    """
    subwords(["\ufffd"], is_split_into_words=True, add_special_tokens=False)
    subwords.convert_tokens_to_ids(subwords.all_special_tokens)
    if (largest := max(subwords.get_vocab().values())) >= rows:
        raise ValueError(
            f"its tokenizer numbers tokens up to {largest}, but the model has an embedding for {rows}: "
            "the two do not belong together"
        )


def warn_of_unknown(subwords: PreTrainedTokenizerFast, name: str, sentences: Iterable[Sequence[str]]) -> None:
    """Warns if the tokenizer does not know more than a fifth of a sample."""
    sample = [list(words) for words in sentences if words]
    if not sample or subwords.unk_token_id is None:
        return
    ids = subwords(sample, is_split_into_words=True, add_special_tokens=False, verbose=False)["input_ids"]
    total = sum(map(len, ids))
    unknown = sum(token == subwords.unk_token_id for sentence in ids for token in sentence)
    if total and unknown > UNKNOWN * total:
        warnings.warn(
            f"encoder {name!r}: its tokenizer does not know {unknown / total:.0%} of the sub-words of these documents; "
            "choose an encoder of their language and script",
            stacklevel=3,
        )


def _pattern(subwords: PreTrainedTokenizerFast, part: str) -> str:
    return json.dumps(json.loads(subwords.backend_tokenizer.to_str()).get(part))
