"""Tokens as people read them, for the three kinds of tokenizer there are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from qkv.recording._tokens import CONTINUED, Reader
from qkv.trace import Token

TEXTS = ["我昨天吃了一个苹果，也吃了一个橙子。", "I ate an apple 🍎 and an orange 🍊.", "Ça va? naïve café 👩‍🚀 10:30"]
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def byte_level(vocabulary: int = 300) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def word_piece() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "i", "ate", "an", "app", "##le", "##s", ".", ",", "(", ")", "'", "don"]
    words += ["t", "苹", "果"]
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def sentence_piece() -> PreTrainedTokenizerFast:
    """Pieces with ▁ for a space, and a token for each byte, as Llama and Gemma have them."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = [*"▁ateinplo.", "▁a", "▁an", "▁at", "▁ate", "▁ap", "▁app"]
    merges = [("▁", "a"), ("▁a", "n"), ("▁a", "t"), ("▁at", "e"), ("▁a", "p"), ("▁ap", "p")]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


BYTE_LEVEL, WORD_PIECE, SENTENCE_PIECE = byte_level(), word_piece(), sentence_piece()


def read(tokenizer: Any, text: str) -> list[Token]:
    return Reader(tokenizer).tokens(tokenizer(text, add_special_tokens=False)["input_ids"])


def joined(tokens: list[Token]) -> str:
    """The text again: marks of continued characters stand for nothing."""
    return "".join((" " if token.space else "") + ("" if token.text == CONTINUED else token.text) for token in tokens)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("vocabulary", [257, 300, 400])
def test_byte_level_shows_each_character_once(text: str, vocabulary: int) -> None:
    tokenizer = byte_level(vocabulary)
    tokens = read(tokenizer, text)
    assert joined(tokens) == text
    assert not any(REPLACEMENT in token.text for token in tokens)


def test_pieces_of_a_character_cut_apart() -> None:
    """Every byte is a token, as where nothing was learned: the first shows the character."""
    tokens = read(byte_level(257), "a 果🍎!")
    assert [token.text for token in tokens] == ["a", "", "果", *"··", "🍎", *"···", "!"]
    assert [token.space for token in tokens] == [False, True, *[False] * 8]


def test_pieces_that_end_one_character_and_begin_the_next() -> None:
    names = ["è", "ĭ¹æ", "ŀľ"]
    tokenizer = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="è"))
    tokenizer.decoder = decoders.ByteLevel()
    tokens = Reader(PreTrainedTokenizerFast(tokenizer_object=tokenizer)).tokens([0, 1, 2])
    assert [token.text for token in tokens] == ["苹", "果", CONTINUED]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: CONTINUED not in text))
def test_byte_level_gives_any_text_back(text: str) -> None:
    tokens = read(BYTE_LEVEL, text)
    assert joined(tokens) == text if not text.startswith(" ") else joined(tokens) == text[1:]


@given(st.lists(st.integers(0, 254), max_size=10))
def test_bytes_of_no_character_are_shown_as_bytes(content: list[int]) -> None:
    alphabet = sorted({*pre_tokenizers.ByteLevel.alphabet()} - {"Ġ"})  # a space alone is a space and no text
    ids = BYTE_LEVEL.convert_tokens_to_ids([alphabet[byte] for byte in content])
    tokens = Reader(BYTE_LEVEL).tokens(ids)
    assert len(tokens) == len(content)
    assert not any(REPLACEMENT in token.text for token in tokens)
    assert all(token.text for token in tokens)
    for token in tokens:
        token.text.encode()  # no half of a surrogate pair


def test_a_byte_that_nothing_completes() -> None:
    ids = BYTE_LEVEL.convert_tokens_to_ids(["æ", "a"])
    assert [token.text for token in Reader(BYTE_LEVEL).tokens(ids)] == ["<E6>", "a"]


def test_byte_level_words() -> None:
    tokens = read(BYTE_LEVEL, "I ate 苹果.")
    words: dict[int, str] = {}
    for token in tokens:
        words[token.word] = words.get(token.word, "") + ("" if token.text == CONTINUED else token.text)
    assert list(words) == list(range(len(words)))
    assert [word for word in words.values() if word] == ["I", "ate", "苹", "果", "."]


def test_special_tokens_are_marked_and_belong_to_no_word() -> None:
    tokens = Reader(BYTE_LEVEL).tokens([*BYTE_LEVEL("I ate")["input_ids"], BYTE_LEVEL.eos_token_id])
    assert [token.special for token in tokens[-2:]] == [False, True]
    assert (tokens[-1].text, tokens[-1].word) == ("<|end|>", -1)


class TestWordPiece:
    def test_pieces_join_to_words(self) -> None:
        tokens = read(WORD_PIECE, "I ate an apples.")
        assert [token.text for token in tokens] == ["i", "ate", "an", "app", "le", "s", "."]
        assert [token.space for token in tokens] == [False, True, True, True, False, False, False]
        assert [token.word for token in tokens] == [0, 1, 2, 3, 3, 3, 4]
        assert joined(tokens) == "i ate an apples."

    @pytest.mark.parametrize("text", ["i (ate) an app, i ate.", "i don't", "ate 苹果.".replace(" ", "")])
    def test_punctuation_stands_where_people_type_it(self, text: str) -> None:
        assert joined(read(WORD_PIECE, text)) == text

    def test_no_space_after_a_special_token(self) -> None:
        ids = WORD_PIECE.convert_tokens_to_ids(["[CLS]", "i", "ate", "[SEP]"])
        tokens = Reader(WORD_PIECE).tokens(ids)
        assert [token.space for token in tokens] == [False, False, True, False]
        assert [token.word for token in tokens] == [-1, 0, 1, -1]


class TestSentencePiece:
    @pytest.mark.parametrize("text", ["ate an app", "苹果", "a 🍎 at", "tea\n  pot"])
    def test_text_comes_back(self, text: str) -> None:
        tokens = read(SENTENCE_PIECE, text)
        assert joined(tokens) == text
        assert not any(REPLACEMENT in token.text for token in tokens)

    def test_bytes_are_one_character(self) -> None:
        tokens = read(SENTENCE_PIECE, "a 果")
        assert [token.text for token in tokens][-3:] == ["果", CONTINUED, CONTINUED]
        assert len({token.word for token in tokens[-3:]}) == 1

    def test_a_byte_alone(self) -> None:
        ids = SENTENCE_PIECE.convert_tokens_to_ids(["<0xE4>", "<0x41>"])
        assert [token.text for token in Reader(SENTENCE_PIECE).tokens(ids)] == ["<E4>", "A"]


class TestCandidates:
    def test_byte_level(self) -> None:
        space, inside, cut = BYTE_LEVEL.convert_tokens_to_ids(["Ġa", "a", "æ"])
        reader = Reader(BYTE_LEVEL)
        found = [reader.candidate(token, 0.25) for token in (space, inside, cut)]
        assert [(each.text, each.space) for each in found] == [("a", True), ("a", False), ("<E6>", False)]
        assert found[0].probability == 0.25

    def test_word_piece(self) -> None:
        whole, rest = WORD_PIECE.convert_tokens_to_ids(["ate", "##le"])
        reader = Reader(WORD_PIECE)
        assert [(c.text, c.space) for c in (reader.candidate(whole, 1), reader.candidate(rest, 1))] == [
            ("ate", True),
            ("le", False),
        ]

    def test_sentence_piece(self) -> None:
        (token,) = SENTENCE_PIECE.convert_tokens_to_ids(["▁ate"])
        found = Reader(SENTENCE_PIECE).candidate(token, 1.0)
        assert (found.text, found.space) == ("ate", True)


def test_without_a_tokenizer_ids_are_their_own_text() -> None:
    tokens = Reader(None).tokens([7, 5], [False, True])
    assert [(token.id, token.text, token.generated) for token in tokens] == [(7, "7", False), (5, "5", True)]
    assert Reader(None).candidate(3, 0.5).text == "3"


def test_inputs_that_are_no_tokens_are_counted() -> None:
    assert [token.text for token in Reader(BYTE_LEVEL).tokens([-1, -1, -1])] == ["0", "1", "2"]


def test_an_id_that_the_tokenizer_does_not_know() -> None:
    (token,) = Reader(BYTE_LEVEL).tokens([100_000])
    assert token.text == "100000"


def test_a_processor_hands_its_tokenizer_on() -> None:
    class Processor:
        tokenizer = WORD_PIECE

    ids = WORD_PIECE.convert_tokens_to_ids(["i", "ate"])
    assert [token.text for token in Reader(Processor()).tokens(ids)] == ["i", "ate"]
