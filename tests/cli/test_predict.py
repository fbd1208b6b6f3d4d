"""``qkv predict``: candidates in order, as a table and as JSON, and clear sentences for what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from rich.cells import cell_len
from tokenizers import pre_tokenizers
from typer.testing import CliRunner

from qkv import ArgumentError, ModelError
from qkv.cli._app import app
from qkv.cli.predict import _bytes
from qkv.views.predict import candidates
from tiny_store import WORDS, word_tokenizer
from tiny_store import bert_folder as bert_folder


def run(*arguments: str, typed: str | None = None) -> str:
    result = CliRunner().invoke(app, ["predict", *arguments], input=typed, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny-decoder")
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 8, "vocab_size": len(WORDS)}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return str(folder)


def test_probabilities_are_the_models_own(decoder: str) -> None:
    answer = json.loads(run("i ate an", "--model", decoder, "--top", "4", "--json"))
    model = transformers.GPT2LMHeadModel.from_pretrained(decoder)
    ids = [WORDS.index(word) for word in ("i", "ate", "an")]
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0, -1].softmax(-1).sort(descending=True)
    assert (answer["text"], answer["tokens"]) == ("i ate an", 3)
    assert [found["text"] for found in answer["candidates"]] == [WORDS[index] for index in expected.indices[:4]]
    np.testing.assert_allclose(
        [found["probability"] for found in answer["candidates"]], expected.values[:4].numpy(), rtol=1e-5
    )


def test_standard_input(decoder: str) -> None:
    assert run("-", "--model", decoder, typed="i ate\n") == run("i ate", "--model", decoder)


def test_all_of_a_small_vocabulary(decoder: str) -> None:
    answer = json.loads(run("i", "--model", decoder, "--top", "1000", "--json"))
    assert len(answer["candidates"]) == len(WORDS)
    assert sum(found["probability"] for found in answer["candidates"]) == pytest.approx(1)


def test_what_it_cannot_do(decoder: str, bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the text is empty"):
        run("", "--model", decoder)
    with pytest.raises(ArgumentError, match="not UTF-8"):
        run("\udcff", "--model", decoder)
    with pytest.raises(ModelError, match=r"text has 9 tokens, and tiny-decoder\d* reads at most 8: shorten it"):
        run("i " * 9, "--model", decoder)
    with pytest.raises(ModelError, match=r"it is an encoder\. predict needs a decoder, such as smollm2"):
        run("i", "--model", str(bert_folder))
    body = tmp_path / "body"
    transformers.GPT2LMHeadModel.from_pretrained(decoder).transformer.save_pretrained(body)
    word_tokenizer(WORDS).save_pretrained(body)
    with pytest.raises(ModelError, match="has no language-model head"):
        run("i", "--model", str(body))


def test_candidates() -> None:
    logits = np.array([0.0, 2.0, -np.inf, 2.0])
    found = candidates(logits, ["a", " b", "c", "\n"].__getitem__, top=4)
    assert [(candidate["text"], candidate["space"]) for candidate in found] == [
        ("b", True),  # ties go to the lower index
        ("\n", False),
        ("a", False),
        ("c", False),
    ]
    assert found[0]["probability"] == pytest.approx(np.exp(2) / (1 + 2 * np.exp(2)))
    assert found[3]["probability"] == 0
    with pytest.raises(ArgumentError, match="top must be at least 1, got 0"):
        candidates(logits, str, top=0)


def test_fragments_are_named_by_their_bytes() -> None:
    for text, expected in (("你", "⟨E4 BD A0⟩"), ("é", "⟨C3 A9⟩"), ("\n", "⟨0A⟩"), ("\xad", "⟨C2 AD⟩")):
        [(piece, _)] = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        assert _bytes(piece) == expected
    assert _bytes("你") == ""


@pytest.mark.models
def test_smollm2_wants_a_new_car() -> None:
    answer = json.loads(run("I want to buy a new", "--json"))
    best = answer["candidates"][0]
    assert (best["text"], best["space"]) == ("car", True)
    assert best["probability"] == pytest.approx(0.328, abs=0.002)
    assert len(answer["candidates"]) == 10


@pytest.mark.models
def test_table_is_plain_and_narrow() -> None:
    output = run("我想买一个新的", "--top", "30")
    assert "\x1b" not in output
    assert "\ufffd" not in output
    assert "part of a character" in output
    lines = output.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert lines[0] == "SmolLM2-135M · 10 tokens read"
    assert lines[2] == "我想买一个新的▏"
    numbers = [float(line.split()[-1]) for line in lines[4:34]]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.models
def test_pieces_of_a_word_are_shown_joined() -> None:
    """After "Par" the model would finish the word: "is" is shown as "Paris"."""
    output = run("The capital of France is Par", "--top", "1")
    assert output.splitlines()[4].startswith("Paris ")
