"""A CTranslate2 file becomes the very Whisper that it was made of."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from qkv import ModelError, pretrained
from qkv.pretrained._ctranslate2 import convert_whisper

CONFIG = WhisperConfig(
    vocab_size=50364,
    num_mel_bins=8,
    d_model=16,
    encoder_layers=1,
    decoder_layers=2,
    encoder_attention_heads=2,
    decoder_attention_heads=4,
    encoder_ffn_dim=24,
    decoder_ffn_dim=40,
    max_source_positions=20,
    max_target_positions=12,
    pad_token_id=50256,
)
SETTINGS = {"suppress_ids": [1, 2], "suppress_ids_begin": [220, 50256], "alignment_heads": [[1, 0]]}


def variables(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """CTranslate2's names and stacks, written down by hand from its Whisper specification."""
    state = {name.removeprefix("model."): value.half().numpy() for name, value in model.state_dict().items()}
    found: dict[str, np.ndarray] = {}

    def linear(target: str, *sources: str) -> None:
        weights = [state[f"{source}.weight"] for source in sources]
        biases = [state.get(f"{source}.bias", np.zeros(len(weights[0]), np.float16)) for source in sources]
        found[f"{target}/weight"], found[f"{target}/bias"] = np.concatenate(weights), np.concatenate(biases)

    def norm(target: str, source: str) -> None:
        found[f"{target}/gamma"], found[f"{target}/beta"] = state[f"{source}.weight"], state[f"{source}.bias"]

    for side, layers in (("encoder", CONFIG.encoder_layers), ("decoder", CONFIG.decoder_layers)):
        found[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for index in range(layers):
            ours, theirs = f"{side}/layer_{index}", f"{side}.layers.{index}"
            query, key, value, out = (f"{theirs}.self_attn.{name}_proj" for name in ("q", "k", "v", "out"))
            linear(f"{ours}/self_attention/linear_0", query, key, value)
            linear(f"{ours}/self_attention/linear_1", out)
            norm(f"{ours}/self_attention/layer_norm", f"{theirs}.self_attn_layer_norm")
            linear(f"{ours}/ffn/linear_0", f"{theirs}.fc1")
            linear(f"{ours}/ffn/linear_1", f"{theirs}.fc2")
            norm(f"{ours}/ffn/layer_norm", f"{theirs}.final_layer_norm")
            if side == "decoder":
                query, key, value, out = (f"{theirs}.encoder_attn.{name}_proj" for name in ("q", "k", "v", "out"))
                linear(f"{ours}/attention/linear_0", query)
                linear(f"{ours}/attention/linear_1", key, value)
                linear(f"{ours}/attention/linear_2", out)
                norm(f"{ours}/attention/layer_norm", f"{theirs}.encoder_attn_layer_norm")
    for name in ("conv1", "conv2"):
        linear(f"encoder/{name}", f"encoder.{name}")
    found["decoder/embeddings/weight"] = state["decoder.embed_tokens.weight"]
    found["encoder/num_heads"] = np.array(CONFIG.encoder_attention_heads, np.int16)
    found["decoder/num_heads"] = np.array(CONFIG.decoder_attention_heads, np.int16)
    found["decoder/alignment_heads"] = np.array([1, 0], np.int16)
    return found


def write(arrays: dict[str, np.ndarray], version: int = 6, specification: str = "WhisperSpec") -> io.BytesIO:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    file = io.BytesIO()
    file.write(struct.pack("<I", version) + text(specification) + struct.pack("<II", 3, len(arrays)))
    for name, array in sorted(arrays.items()):
        kind = 4 if array.dtype == np.float16 else 2 if array.dtype == np.int16 else 0
        file.write(text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape))
        file.write(struct.pack("<BI", kind, array.nbytes) + array.tobytes())
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def original() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(CONFIG).eval()
    for name, parameter in model.named_parameters():
        if name != "model.encoder.embed_positions.weight":
            parameter.data.normal_(0, 0.3)
        parameter.data.copy_(parameter.data.half())
    return model


def test_converted_model_is_the_original(original: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    file = write(variables(original))
    seen: list[int] = []
    convert_whisper(file, SETTINGS, tmp_path, seen.append)
    assert seen == sorted(seen)
    assert file.read() == b""

    opened = pretrained.load(tmp_path)
    assert (opened.kind, opened.maximum_length) == ("encoder-decoder", 12)
    for name, expected in original.state_dict().items():
        assert torch.equal(opened.model.state_dict()[name], expected), name
    features, tokens = torch.randn(1, 8, 40), torch.tensor([[50257, 50362, 5]])
    with torch.inference_mode():
        expected = original(features, decoder_input_ids=tokens).logits
        torch.testing.assert_close(opened.model(features, decoder_input_ids=tokens).logits, expected)
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation["suppress_tokens"] == [1, 2]
    assert generation["begin_suppress_tokens"] == [220, 50256]


def test_it_cannot_read_a_text(original: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    convert_whisper(write(variables(original)), SETTINGS, tmp_path, lambda done: None)
    with pytest.raises(ModelError, match="reads input features: it cannot read a text"):
        pretrained.load(tmp_path).text_tokenizer()


def test_other_files_are_refused(original: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    arrays = variables(original)
    with pytest.raises(ModelError, match="holds version 5: a WhisperSpec of version 6"):
        convert_whisper(write(arrays, version=5), SETTINGS, tmp_path, lambda done: None)
    with pytest.raises(ModelError, match="holds TransformerSpec: a WhisperSpec"):
        convert_whisper(write(arrays, specification="TransformerSpec"), SETTINGS, tmp_path, lambda done: None)
    arrays["decoder/embeddings/weight"] = arrays["decoder/embeddings/weight"].astype(np.float32)
    with pytest.raises(ModelError, match="'decoder/embeddings/weight' in a type that is not float16"):
        convert_whisper(write(arrays), SETTINGS, tmp_path, lambda done: None)
