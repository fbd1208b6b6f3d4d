"""A Whisper model in CTranslate2's float16 file as Hugging Face safetensors and configuration.

The two layouts map one to one: CTranslate2 stacks the rows of a layer's query, key and value projections (or of the
key and value projections, where a decoder reads the encoder), and gives the key a bias, which is zero.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .._optional import imports_for
from ..errors import ModelError

Array = npt.NDArray[Any]

_VERSION = 6
_FLOAT16 = 4  # CTranslate2's number for it
_ATTENTION = {"self_attention": ("self_attn", "qkv"), "attention": ("encoder_attn", "q kv")}
_LINEAR = {"ffn/linear_0": "fc1", "ffn/linear_1": "fc2"}
_SUFFIX = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}
_TOP = {"embeddings": "embed_tokens", "conv1": "conv1", "conv2": "conv2", "layer_norm": "layer_norm"}
_TOKENS = {"bos_token_id": 50256, "eos_token_id": 50256, "pad_token_id": 50256, "decoder_start_token_id": 50257}


def convert_whisper(source: IO[bytes], settings: dict[str, Any], folder: Path, advance: Callable[[int], None]) -> str:
    """Write ``config.json``, ``generation_config.json``, ``preprocessor_config.json`` and ``model.safetensors``.

    Arguments:
        source: CTranslate2's ``model.bin``.
        settings: its ``config.json``: the tokens that are never written, and the heads that follow time.
        folder: where to.
        advance: called with the bytes read so far.
    """
    with imports_for("reading this model", extra="hf"):
        from safetensors.numpy import save_file

    tensors: dict[str, Array] = {}
    facts: dict[str, int] = {}
    for name, array in _variables(source, advance):
        if array.ndim == 0:
            facts[name] = int(array)
        else:
            tensors.update(_parameters(name, array))
    _write(folder / "config.json", _config(tensors, facts))
    _write(folder / "generation_config.json", _generation(settings))
    _write(folder / "preprocessor_config.json", {"feature_extractor_type": "WhisperFeatureExtractor"})
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return "CTranslate2's float16 weights, renamed; fused projections taken apart"


def _variables(source: IO[bytes], advance: Callable[[int], None]) -> Iterator[tuple[str, Array]]:
    """(name, array) of everything in the file: a header, then name, shape, type, bytes for each."""

    def number(kind: str) -> int:
        return int(struct.unpack(kind, source.read(struct.calcsize(kind)))[0])

    def text() -> str:
        return source.read(number("<H"))[:-1].decode()

    if (version := number("<I")) != _VERSION or (specification := text()) != "WhisperSpec":
        found = f"version {version}" if version != _VERSION else specification
        raise ModelError(f"the CTranslate2 file holds {found}: a WhisperSpec of version {_VERSION} was expected.")
    number("<I")  # the specification's revision
    read = 0
    for _ in range(number("<I")):
        name = text()
        shape = [number("<I") for _ in range(number("<B"))]
        kind, size = number("<B"), number("<I")
        data = source.read(size)
        read += size
        advance(read)
        if not shape:
            yield name, np.array(int.from_bytes(data, "little"))
        elif kind == _FLOAT16 and size == 2 * math.prod(shape):
            yield name, np.frombuffer(data, "<f2").reshape(shape)
        elif "alignment" not in name:
            raise ModelError(f"the CTranslate2 file holds {name!r} in a type that is not float16.")


def _parameters(name: str, array: Array) -> dict[str, Array]:
    """``decoder/layer_1/attention/linear_1/weight`` → the key and value projection that it stacks."""
    side, *path, last = name.split("/")
    base = f"model.{side}"
    if path == ["position_encodings"]:
        return {f"{base}.embed_positions.weight": array}
    suffix = _SUFFIX[last]
    if len(path) == 1:
        return {f"{base}.{_TOP[path[0]]}.{suffix}": array}
    layer, part, piece = path
    base = f"{base}.layers.{layer.removeprefix('layer_')}"
    if part == "ffn":
        return {f"{base}.{_LINEAR.get(f'{part}/{piece}', 'final_layer_norm')}.{suffix}": array}
    attention, stacks = _ATTENTION[part]
    if piece == "layer_norm":
        return {f"{base}.{attention}_layer_norm.{suffix}": array}
    index = int(piece.removeprefix("linear_"))
    if index == len(stacks.split()):
        return {f"{base}.{attention}.out_proj.{suffix}": array}
    letters = stacks.split()[index]
    parts = zip(letters, np.split(array, len(letters)), strict=True)
    return {
        f"{base}.{attention}.{letter}_proj.{suffix}": np.ascontiguousarray(rows)
        for letter, rows in parts
        if (letter, suffix) != ("k", "bias")
    }


def _config(tensors: dict[str, Array], facts: dict[str, int]) -> dict[str, Any]:
    """Every size can be read off the weights; the special tokens are those of Whisper's English models."""
    vocabulary, width = tensors["model.decoder.embed_tokens.weight"].shape
    layers = {
        side: sum(name.startswith(f"model.{side}.layers.") and name.endswith(".fc1.weight") for name in tensors)
        for side in ("encoder", "decoder")
    }
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "dtype": "float16",
        "is_encoder_decoder": True,
        "d_model": width,
        "vocab_size": vocabulary,
        "num_mel_bins": tensors["model.encoder.conv1.weight"].shape[1],
        "encoder_layers": layers["encoder"],
        "decoder_layers": layers["decoder"],
        "encoder_attention_heads": facts["encoder/num_heads"],
        "decoder_attention_heads": facts["decoder/num_heads"],
        "encoder_ffn_dim": tensors["model.encoder.layers.0.fc1.weight"].shape[0],
        "decoder_ffn_dim": tensors["model.decoder.layers.0.fc1.weight"].shape[0],
        "max_source_positions": tensors["model.encoder.embed_positions.weight"].shape[0],
        "max_target_positions": tensors["model.decoder.embed_positions.weight"].shape[0],
        "activation_function": "gelu",
        **_TOKENS,
    }


def _generation(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        **_TOKENS,
        "forced_decoder_ids": [[1, 50362]],
        "no_timestamps_token_id": 50362,
        "is_multilingual": False,
        "max_length": 448,
        "suppress_tokens": settings["suppress_ids"],
        "begin_suppress_tokens": settings["suppress_ids_begin"],
        "alignment_heads": settings["alignment_heads"],
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
