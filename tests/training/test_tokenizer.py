"""The tokenizer: any text survives it, its tokens can be read, and it is kept whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from made_corpus import SENTENCES
from qkv import ArgumentError
from qkv.training import train_tokenizer
from qkv.training._tokenizer import tagged, target_languages

CHINESE = ["无法打开文件", "无法保存文件", "请选择一个文件夹", "文件不存在"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    texts = [text for pair in SENTENCES for text in pair] + CHINESE * 5 + ["4 2"] * 5
    return train_tokenizer(texts, 480, source_languages=["en"], target_languages=["fr", "zh"])


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="▁<"), min_size=1))
def test_any_text_survives(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    import unicodedata

    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == unicodedata.normalize("NFC", text)


def test_tokens_are_words_digits_and_chinese(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("A cat sees 42.") == ["▁A", "▁cat", "▁sees", "▁4", "2", "."]
    tokens = tokenizer.tokenize("无法打开cat")
    assert "文件" in tokenizer.get_vocab()
    assert all(
        token.isascii() or not any(letter.isascii() and letter.isalpha() for letter in token) for token in tokens
    )


def test_what_it_never_saw_is_spelt_in_bytes(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("é")[-2:] == ["<0xC3>", "<0xA9>"]


def test_texts_end_with_the_end_token_and_spaces_are_one(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("  A \t cat ")["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "A cat"


def test_tags_where_there_is_a_choice(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize(tagged(tokenizer, ["A cat"], "zh")[0]) == ["<2zh>", "▁A", "▁cat"]
    alone = train_tokenizer(["A cat"] * 3, 300, target_languages=["fr"])
    assert tagged(alone, ["A cat"], "fr") == ["A cat"]


def test_saved_and_opened_it_is_the_same(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "Un oiseau aime 文件夹 é & 7."
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"], skip_special_tokens=True) == text
    assert target_languages(again) == ["fr", "zh"]
    assert len(again) == len(tokenizer) <= 480


def test_what_it_cannot_do() -> None:
    with pytest.raises(
        ArgumentError, match=r"vocabulary: expected more than 260 \(special tokens and bytes\), got 260"
    ):
        train_tokenizer(["a"], 260)
    with pytest.raises(ArgumentError, match="a tokenizer needs text to learn from, and there is none"):
        train_tokenizer(["", ""], 300)
