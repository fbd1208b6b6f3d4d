"""``qkv similar``: numbers that are the model's own, and clear sentences for words that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from rich.cells import cell_len
from typer.testing import CliRunner

from qkv import ArgumentError, ModelError
from qkv.cli._app import app
from qkv.views.similar import find_word, pieces_between, text_similarity, word_similarity
from tiny_store import bert_folder as bert_folder

FRUIT, COMPANY = "I ate an apple and an orange", "apple released a new phone"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["similar", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_numbers_are_the_models_own(bert_folder: Path) -> None:
    texts = ("i ate an apple", "orange and apple .")
    answer = json.loads(run(*texts, "--word", "apple", "--model", str(bert_folder), "--json"))
    model = transformers.BertModel.from_pretrained(bert_folder).eval()
    with torch.inference_mode():
        first = model(torch.tensor([[5, 6, 7, 8]]), output_hidden_states=True).hidden_states
        second = model(torch.tensor([[10, 9, 8, 11]]), output_hidden_states=True).hidden_states
    cosine = torch.nn.functional.cosine_similarity
    expected = [cosine(a[0, 3], b[0, 2], dim=0).item() for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(answer["word"]["layers"], expected, rtol=1e-5)
    assert answer["word"]["pieces"] == [["apple"], ["apple"]]
    means = (first[-1][0].mean(0), second[-1][0].mean(0))
    assert answer["similarity"] == pytest.approx(cosine(*means, dim=0).item(), rel=1e-5)
    assert json.loads(run("i", "i", "--model", str(bert_folder), "--json"))["similarity"] == pytest.approx(1)


def test_views() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 6, 4))
    a, b = first[:, [1, 2]].mean(1), second[:, [4]].mean(1)
    expected = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(word_similarity(first, second, [1, 2], [4]), expected)
    assert text_similarity(first[0], 3 * first[0]) == pytest.approx(1)
    assert text_similarity(first[0], np.zeros((2, 4))) == 0


def test_find_word() -> None:
    assert find_word("An Apple a day", "apple") == (3, 8)
    assert find_word("pineapple, apple", " apple ") == (11, 16)
    assert find_word("我吃了一个苹果。", "苹果") == (5, 7)
    assert find_word("C++ or C", "C") == (0, 1)
    assert find_word("ice cream", "ice cream") == (0, 9)
    with pytest.raises(ArgumentError, match="word 'apple' does not stand in the text 'pineapple'"):
        find_word("pineapple", "apple")
    with pytest.raises(ArgumentError, match="word is empty"):
        find_word("apple", " ")


def test_pieces_of_a_word() -> None:
    offsets = [(0, 0), (0, 3), (4, 8), (8, 12), (0, 0)]
    assert pieces_between(offsets, 4, 12) == [2, 3]
    assert pieces_between(offsets, 0, 3) == [1]


def test_what_it_cannot_do(bert_folder: Path) -> None:
    model = ("--model", str(bert_folder))
    with pytest.raises(ArgumentError, match=r"word 'pear' does not stand in the text 'i ate an apple'"):
        run("i ate an apple", "a pear", "--word", "pear", *model)
    with pytest.raises(ModelError, match="word 'pear' is not in the model's vocabulary"):
        run("i ate an pear", "an pear", "--word", "pear", *model)
    with pytest.raises(ArgumentError, match="the text is empty"):
        run("", "apple", *model)
    with pytest.raises(ArgumentError, match="not UTF-8"):
        run("apple", "\udcff", *model)
    with pytest.raises(ModelError, match="text has 25 tokens, and tiny-bert reads at most 24: shorten it"):
        run("i " * 25, "apple", *model)


@pytest.mark.models
def test_apple_drifts_apart_in_minilm() -> None:
    answer = json.loads(run(FRUIT, COMPANY, "--word", "apple", "--json"))
    np.testing.assert_allclose(answer["word"]["layers"], [0.955, 0.797, 0.753, 0.718, 0.753, 0.774, 0.631], atol=0.0006)
    assert answer["similarity"] == pytest.approx(0.261, abs=0.0006)


@pytest.mark.models
def test_table_is_plain_and_narrow() -> None:
    output = run(FRUIT, COMPANY, "--word", "apple")
    assert "\x1b" not in output
    assert max(map(cell_len, output.splitlines())) <= 80
    assert "before any layer" in output
    assert "after 6 layers" in output


@pytest.mark.models
def test_long_texts_are_shown_around_the_word() -> None:
    long = "It was a fine day. " * 12 + "An apple fell. " + "Nobody saw it. " * 12
    output = run(long, COMPANY, "--word", "apple")
    assert "An apple fell." in output.replace("\n", " ")
    assert output.count("…") == 2
    assert len(output) < 1200


@pytest.mark.models
def test_words_in_pieces_are_averaged() -> None:
    texts = ("a photosynthesizing leaf", "Photosynthesizing is slow")
    answer = json.loads(run(*texts, "--word", "photosynthesizing", "--json"))
    assert answer["word"]["pieces"][0] == answer["word"]["pieces"][1]
    assert len(answer["word"]["pieces"][0]) > 1
    assert answer["word"]["layers"][0] > 0.9
