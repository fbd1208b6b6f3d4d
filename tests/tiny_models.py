"""Tiny models with random weights, one of each family whose attention has a trait of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED: dict[str, Any] = {**SMALL, "num_key_value_heads": 2}
TWO_SIDED: dict[str, Any] = {
    "vocab_size": 96,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
    "dropout": 0.0,
}
T = transformers

DECODERS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: T.GPT2LMHeadModel(
        T.GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
    ),
    "llama": lambda: T.LlamaForCausalLM(T.LlamaConfig(**GROUPED)),
    "gemma2": lambda: T.Gemma2ForCausalLM(
        T.Gemma2Config(**GROUPED, head_dim=8, sliding_window=4, attn_logit_softcapping=5.0, query_pre_attn_scalar=16)
    ),
    "qwen2": lambda: T.Qwen2ForCausalLM(T.Qwen2Config(**GROUPED)),
    "qwen3": lambda: T.Qwen3ForCausalLM(T.Qwen3Config(**GROUPED, head_dim=8)),
    "mistral": lambda: T.MistralForCausalLM(T.MistralConfig(**GROUPED, sliding_window=4)),
    "mixtral": lambda: T.MixtralForCausalLM(T.MixtralConfig(**GROUPED, num_local_experts=2, num_experts_per_tok=1)),
    "gpt_oss": lambda: T.GptOssForCausalLM(
        T.GptOssConfig(**GROUPED, head_dim=8, sliding_window=4, num_local_experts=2, num_experts_per_tok=1)
    ),
}
ENCODERS: dict[str, Callable[[], Any]] = {"bert": lambda: T.BertModel(T.BertConfig(**SMALL))}
ENCODER_DECODERS: dict[str, Callable[[], Any]] = {
    "t5": lambda: T.T5ForConditionalGeneration(
        T.T5Config(
            vocab_size=96,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            pad_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=0,
        )
    ),
    "bart": lambda: T.BartForConditionalGeneration(T.BartConfig(**TWO_SIDED, max_position_embeddings=64)),
    "marian": lambda: T.MarianMTModel(T.MarianConfig(**TWO_SIDED, max_position_embeddings=64)),
}
WITHOUT_TOKENS: dict[str, Callable[[], Any]] = {
    "vit": lambda: T.ViTModel(
        T.ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            image_size=8,
            patch_size=4,
        )
    ),
    "whisper": lambda: T.WhisperForConditionalGeneration(
        T.WhisperConfig(**TWO_SIDED, num_mel_bins=4, max_source_positions=8, max_target_positions=32)
    ),
}
BY_HAND = {"t5"} if T.__version__.startswith("4.") else set()
"""Families whose attention this transformers writes out by hand, where nothing can see it."""
HAND_WRITTEN: dict[str, Callable[[], Any]] = {
    "bloom": lambda: T.BloomModel(T.BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=4)),
    "deberta": lambda: T.DebertaV2Model(T.DebertaV2Config(**SMALL)),
}
UNSEEN = [*HAND_WRITTEN, *BY_HAND]
TEXT_MODELS = [*DECODERS, *ENCODERS, *ENCODER_DECODERS]
ON_INTERFACE = [name for name in [*TEXT_MODELS, *WITHOUT_TOKENS] if name not in BY_HAND]
TWO_TEXTS = [*ENCODER_DECODERS, "whisper"]
RETURNED = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}
"""Where an encoder-decoder returns the weights of each stack; other models have ``attentions`` alone."""


def families(*names: str) -> list[str]:
    """Those of some families that can be captured with the transformers that is installed."""
    return [name for name in names if name in ON_INTERFACE]


@cache
def tiny(name: str, implementation: str = "eager") -> Any:
    """A tiny model in evaluation mode; the same weights every time."""
    torch.manual_seed(0)
    make = {**DECODERS, **ENCODERS, **ENCODER_DECODERS, **WITHOUT_TOKENS, **HAND_WRITTEN}[name]
    model = make().eval()
    for parameter in model.parameters():  # attention that is worth comparing: far from uniform
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    if name not in UNSEEN:
        model.set_attn_implementation(implementation)
    return model


def text_ids(length: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Random token ids, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 96, (batch, length), generator=generator)


def inputs_for(name: str, length: int = 9) -> dict[str, torch.Tensor]:
    """What a model is called with; a target too where it takes one."""
    generator = torch.Generator().manual_seed(2)
    if name == "vit":
        return {"pixel_values": torch.randn(1, 3, 8, 8, generator=generator)}
    if name == "whisper":
        inputs = {"input_features": torch.randn(1, 4, 16, generator=generator)}
    else:
        inputs = {"input_ids": text_ids(length)}
    if name in TWO_TEXTS:
        inputs["decoder_input_ids"] = text_ids(6, seed=1)
    return inputs


def output_of(result: Any) -> torch.Tensor:
    """What a model computes: logits, or hidden states where it has no head."""
    output: torch.Tensor = result.logits if hasattr(result, "logits") else result.last_hidden_state
    return output


def returned_weights(result: Any, stack: str, layer: int, text: int = 0) -> Any:
    """The weights ``(H, N, M)`` that an eager model returned with ``output_attentions=True``."""
    found = getattr(result, RETURNED[stack]) if "encoder_attentions" in result else result.attentions
    return found[layer][text].detach().float().numpy()
