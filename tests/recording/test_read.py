"""`read`: a text through a model, to a trace."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from qkv import open_trace, pretrained
from qkv.errors import ArgumentError, ModelError
from qkv.recording import read
from tiny_models import tiny

TEXT = "the animal did n't cross street because it was too tired wide i ate an apple and orange . ,"
WORDS = TEXT.split()
NAMES = ["<pad>", "<s>", "</s>", "<unk>"]


def tokenizer(template: str, pair: str | None = None) -> PreTrainedTokenizerFast:
    vocabulary = [*NAMES, *WORDS, *(f"word{n}" for n in range(96 - len(NAMES) - len(WORDS)))]
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        backend.post_processor = processors.TemplateProcessing(
            single=template, pair=pair, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if pair is not None:
        names |= {"cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    layouts = {
        "bert": ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1"),
        "llama": ("", None),
        "gpt2": ("", None),
        "gemma2": ("<s> $A", None),
        "marian": ("$A </s>", None),
        "bart": ("<s> $A </s>", None),
    }
    for name, layout in layouts.items():
        found[name] = tmp_path_factory.mktemp("models") / f"tiny-{name}"
        model = tiny(name)
        model.save_pretrained(found[name])
        tokenizer(*layout).save_pretrained(found[name])
    return found


def opened(folders: dict[str, Path], name: str) -> Any:
    return pretrained.load(folders[name])


class TestEncoder:
    def test_a_pair(self, folders: dict[str, Path]) -> None:
        trace = read(opened(folders, "bert"), "i ate an apple .", "an orange")
        tokens = trace.sequences[0].sides["input"]
        assert trace.tokens == ["<s>", "i", "ate", "an", "apple", ".", "</s>", "an", "orange", "</s>"]
        assert [token.special for token in tokens] == [True, *[False] * 5, True, False, False, True]
        assert trace.model.kind == "encoder"
        assert trace.predictions is None
        loaded = opened(folders, "bert")
        inputs = loaded.tokenizer("i ate an apple .", "an orange", return_tensors="pt")
        loaded.model.set_attn_implementation("eager")
        expected = loaded.model(**inputs, output_attentions=True).attentions  # token types count as well
        np.testing.assert_allclose(trace.weights(1), expected[1][0], atol=2e-5)

    def test_a_text_that_is_too_long_names_both_numbers(
        self, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
    ) -> None:
        bert = opened(folders, "bert")
        bert.tokenizer.model_max_length = 64
        logger = logging.getLogger("transformers")  # which does not pass on what it logs
        logger.addHandler(caplog.handler)
        with pytest.raises(ModelError, match=r"text: tiny-bert reads at most 64 tokens at once, and this text has 82;"):
            read(bert, "apple " * 80)
        logger.removeHandler(caplog.handler)
        assert caplog.messages == []  # the tokenizer would say the same once more, in other words

    def test_the_trace_has_the_models_name(self, folders: dict[str, Path]) -> None:
        trace = read(opened(folders, "bert"), "i ate")
        assert trace.model.title == "tiny-bert"
        assert (trace.model.layers, trace.model.heads, trace.model.hidden_size) == (2, 4, 32)


class TestDecoder:
    def test_what_it_writes_is_marked(self, folders: dict[str, Path]) -> None:
        trace = read(opened(folders, "llama"), "the animal was", generate=4)
        tokens = trace.sequences[0].sides["input"]
        assert [token.generated for token in tokens][:4] == [False, False, False, True]
        assert all(token.generated for token in tokens[3:])
        assert trace.attentions[0].queries == len(tokens)

    def test_nothing_is_marked_where_nothing_is_written(self, folders: dict[str, Path]) -> None:
        trace = read(opened(folders, "llama"), "the animal was")
        assert not any(token.generated for token in trace.sequences[0].sides["input"])

    @pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
    def test_predictions_are_the_models_own(self, folders: dict[str, Path], name: str) -> None:
        loaded = opened(folders, name)
        trace = read(loaded, "the animal was too tired", predictions=5)
        loaded.model.set_attn_implementation("eager")  # others may leave Gemma's softcap out
        ids = torch.tensor([[token.id for token in trace.sequences[0].sides["input"]]])
        expected = torch.softmax(loaded.model(ids).logits[0].float(), -1).topk(5)
        assert trace.predictions is not None
        assert len(trace.predictions) == ids.shape[1]
        for after, best, chances in zip(trace.predictions, expected.indices, expected.values, strict=True):
            np.testing.assert_allclose([c.probability for c in after], chances, rtol=1e-3, atol=1e-6)
            assert [c.id for c in after] == best.tolist()
        after = trace.predictions[-1][0]
        assert after.text == loaded.tokenizer.convert_ids_to_tokens(after.id)

    def test_predictions_can_be_left_out(self, folders: dict[str, Path]) -> None:
        assert read(opened(folders, "llama"), "it was", predictions=0).predictions is None

    def test_what_is_to_be_written_counts_too(self, folders: dict[str, Path]) -> None:
        message = r"reads at most 64 tokens at once, and this text has 60 and 5 more are to be written"
        with pytest.raises(ModelError, match=message):
            read(opened(folders, "llama"), "apple " * 60, generate=5)

    def test_on_disk_it_is_the_same(self, folders: dict[str, Path], tmp_path: Path) -> None:
        trace = read(opened(folders, "llama"), "it was too", generate=2, to=tmp_path / "it.qkv", layers=[1], heads=[2])
        again = open_trace(tmp_path / "it.qkv")
        assert again.complete
        assert again.sequences[0].sides == trace.sequences[0].sides
        assert any(token.generated for token in again.sequences[0].sides["input"])
        assert again.predictions == trace.predictions
        np.testing.assert_array_equal(again.weights(1, 2), trace.weights(1, 2))


class TestEncoderDecoder:
    @pytest.mark.parametrize("name", ["marian", "bart"])
    def test_a_target_that_is_given(self, folders: dict[str, Path], name: str) -> None:
        loaded = opened(folders, name)
        loaded.model.final_logits_bias.copy_(torch.linspace(-2, 2, 96)[None])
        trace = read(loaded, "i ate an apple", target="the orange", predictions=3)
        sides = trace.sequences[0].sides
        words = [token.text for token in sides["target"]]
        assert words[0] == "<s>"  # where the decoder starts
        assert words[-3:] == ["the", "orange", "</s>"]
        assert not any(token.generated for token in sides["target"])
        ids = {side: torch.tensor([[token.id for token in tokens]]) for side, tokens in sides.items()}
        logits = loaded.model(ids["input"], decoder_input_ids=ids["target"]).logits[0]
        assert trace.predictions is not None
        assert [after[0].id for after in trace.predictions] == logits.argmax(-1).tolist()
        np.testing.assert_allclose(
            [after[0].probability for after in trace.predictions], torch.softmax(logits, -1).amax(-1), rtol=1e-3
        )

    def test_without_a_target_it_writes_its_own(self, folders: dict[str, Path]) -> None:
        loaded = opened(folders, "marian")
        trace = read(loaded, "i ate an apple", generate=5)
        target = trace.sequences[0].sides["target"]
        inputs = loaded.tokenizer("i ate an apple", return_tensors="pt", return_token_type_ids=False)
        written = loaded.model.generate(**inputs, max_new_tokens=5, do_sample=False, num_beams=1)
        assert [token.id for token in target] == written[0, :-1].tolist()
        assert [token.generated for token in target] == [False] + [True] * (len(target) - 1)
        assert {each.stack for each in trace.attentions} == {"encoder", "decoder", "cross"}

    def test_a_target_that_is_too_long(self, folders: dict[str, Path]) -> None:
        with pytest.raises(ModelError, match=r"target: tiny-marian reads at most 64 tokens at once"):
            read(opened(folders, "marian"), "i ate", target="apple " * 70)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("llama", {"pair": "apple"}, r"pair: expected one text, got two; .*'decoder', and only encoders read pairs"),
        ("marian", {"pair": "apple"}, r"pair: .*'encoder-decoder'"),
        ("bert", {"target": "apple"}, r"target: expected none, got 'apple'; .*only encoder-decoders write one"),
        ("llama", {"target": "apple"}, r"target: expected none"),
        ("bert", {"generate": 3}, r"generate: expected 0, got 3; .*'encoder', which writes nothing; choose a decoder"),
        ("llama", {"generate": -1}, r"generate: expected 0 or more tokens, got -1"),
        ("llama", {"predictions": -1}, r"predictions: expected 0 or more, got -1"),
        ("llama", {"heads": [9]}, r"heads: .* has 4 heads"),
    ],
)
def test_options_that_a_kind_does_not_have(
    folders: dict[str, Path], name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        read(opened(folders, name), "i ate", **options)


def test_a_text_without_tokens(folders: dict[str, Path]) -> None:
    with pytest.raises(ArgumentError, match="text: expected a text with at least one token, got none"):
        read(opened(folders, "llama"), "")
