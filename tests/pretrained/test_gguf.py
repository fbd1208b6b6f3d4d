"""A GGUF file becomes the very model that it was made of."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM

from qkv import ModelError, pretrained
from qkv.pretrained._gguf import convert_gguf

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġ", "a", "b", "1", "2", "12", "Ġa", "é", "Ã", "©", "ab"]
MERGES = ["Ġ a", "a b", "1 2"]
CONFIG = LlamaConfig(
    vocab_size=len(TOKENS),
    hidden_size=128,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    rope_theta=5000.0,
    tie_word_embeddings=True,
)
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's own permutation of query and key rows (convert_hf_to_gguf.py, ``LlamaModel.permute``)."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write(path: Path, model: LlamaForCausalLM, architecture: str = "llama", extra: str | None = None) -> None:
    """The model as GGUF; its weights become what 8 (embedding) and 4 bits (matrices) leave of them."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_rope_dimension_count(CONFIG.head_dim)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_vocab_size(CONFIG.vocab_size)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{{ messages }}")
    if extra:
        writer.add_tensor(extra, np.ones(4, np.float32))
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        kind = gguf.GGMLQuantizationType.Q8_0 if "embed" in name else gguf.GGMLQuantizationType.Q4_1
        values = parameter.numpy()
        if values.ndim > 1:
            parameter.copy_(torch.from_numpy(dequantize(quantize(values, kind), kind)))
            values = parameter.numpy()
            if "q_proj" in name or "k_proj" in name:
                values = interleave(values, CONFIG.num_attention_heads if "q_proj" in name else 2)
            writer.add_tensor(gguf_name(name), quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, *middle, suffix = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(middle)]}.{suffix}"


@pytest.fixture
def original() -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG).eval()
    for parameter in model.parameters():  # norms too, so that each has to arrive at its place
        parameter.data.normal_(0, 0.3)
    return model


def test_converted_model_is_the_original(original: LlamaForCausalLM, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    folder.mkdir()
    write(tmp_path / "model.gguf", original)
    seen: list[tuple[int, int]] = []
    convert_gguf(tmp_path / "model.gguf", folder, lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]

    opened = pretrained.load(folder)
    assert (opened.kind, opened.maximum_length) == ("decoder", 64)
    for name, parameter in opened.model.state_dict().items():
        expected = original.state_dict()[name]
        rounding = 0 if expected.ndim == 1 else 2**-11
        torch.testing.assert_close(parameter, expected, rtol=rounding, atol=1e-7)
    tokens = torch.arange(12)[None] % len(TOKENS)
    with torch.inference_mode():
        torch.testing.assert_close(opened.model(tokens).logits, original(tokens).logits, rtol=1e-2, atol=1e-2)


def test_tokenizer(original: LlamaForCausalLM, tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", original)
    convert_gguf(tmp_path / "model.gguf", tmp_path, lambda done, total: None)
    tokenizer = pretrained.load(tmp_path).text_tokenizer()
    assert tokenizer.tokenize("ab 12é a<|im_start|>") == ["ab", "Ġ", "1", "2", "Ã", "©", "Ġa", "<|im_start|>"]
    assert tokenizer.decode(tokenizer("ab 12é a").input_ids) == "ab 12é a"
    assert tokenizer("a").input_ids == [4]  # nothing is added in front
    assert tokenizer.special_tokens_map == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }


def test_other_architectures_are_refused(original: LlamaForCausalLM, tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", original, architecture="gpt2")
    with pytest.raises(ModelError, match="holds a 'gpt2' model: a Llama-style one was expected"):
        convert_gguf(tmp_path / "model.gguf", tmp_path, lambda done, total: None)


def test_unknown_tensor_is_refused(original: LlamaForCausalLM, tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", original, extra="blk.0.mystery.weight")
    with pytest.raises(ModelError, match=r"tensor 'blk\.0\.mystery\.weight' that a Llama-style model does not have"):
        convert_gguf(tmp_path / "model.gguf", tmp_path, lambda done, total: None)
