"""Tiny models of many architectures, beyond those whose attention has a trait of its own (`tiny_models`)."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers

from tiny_models import GROUPED, ON_INTERFACE, SMALL, TWO_SIDED, TWO_TEXTS, text_ids, tiny

NARROW = {**GROUPED, "head_dim": 8}
SPEECH: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16, 16),
    "conv_stride": (4, 2),
    "conv_kernel": (8, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
IMAGE: dict[str, Any] = {**SMALL, "image_size": 8, "patch_size": 4, "num_channels": 3}
T5_SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
EXPERTS = {"num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}

# Name: model class, configuration class, sizes.
DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "apertus": ("ApertusForCausalLM", "ApertusConfig", GROUPED),
    "arcee": ("ArceeForCausalLM", "ArceeConfig", GROUPED),
    "biogpt": ("BioGptForCausalLM", "BioGptConfig", SMALL),
    "cohere": ("CohereForCausalLM", "CohereConfig", GROUPED),
    "cohere2": ("Cohere2ForCausalLM", "Cohere2Config", {**GROUPED, "sliding_window": 4}),
    "deepseek_v2": (
        "DeepseekV2ForCausalLM",
        "DeepseekV2Config",
        {
            **SMALL,
            "num_key_value_heads": 4,
            "first_k_dense_replace": 2,
            "kv_lora_rank": 8,
            "q_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
            "head_dim": 4,
        },
    ),
    "ernie4_5": ("Ernie4_5ForCausalLM", "Ernie4_5Config", NARROW),
    "exaone4": ("Exaone4ForCausalLM", "Exaone4Config", {**GROUPED, "sliding_window": 4, "sliding_window_pattern": 2}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", NARROW),
    "gemma3": (
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        {**NARROW, "sliding_window": 4, "query_pre_attn_scalar": 16, "sliding_window_pattern": 2},
    ),
    "glm": ("GlmForCausalLM", "GlmConfig", {**NARROW, "pad_token_id": 0}),
    "gpt_bigcode": (
        "GPTBigCodeForCausalLM",
        "GPTBigCodeConfig",
        {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "multi_query": True},
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL),
    "granite": ("GraniteForCausalLM", "GraniteConfig", {**GROUPED, "attention_multiplier": 0.3}),
    "helium": ("HeliumForCausalLM", "HeliumConfig", NARROW),
    "llama4": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        {**NARROW, **EXPERTS, "attention_chunk_size": 4, "intermediate_size_mlp": 48, "moe_layers": []},
    ),
    "ministral": ("MinistralForCausalLM", "MinistralConfig", {**NARROW, "sliding_window": 4}),
    "modernbert_decoder": (
        "ModernBertDecoderForCausalLM",
        "ModernBertDecoderConfig",
        {**SMALL, "local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "nemotron": ("NemotronForCausalLM", "NemotronConfig", NARROW),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", GROUPED),
    "olmo3": ("Olmo3ForCausalLM", "Olmo3Config", {**GROUPED, "sliding_window": 4}),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
    ),
    "persimmon": ("PersimmonForCausalLM", "PersimmonConfig", SMALL),
    "phi": ("PhiForCausalLM", "PhiConfig", SMALL),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {**GROUPED, "sliding_window": 4}),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 16},
    ),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", GROUPED),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", GROUPED),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", {**GROUPED, "sliding_window": 4}),
}
ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "albert": ("AlbertModel", "AlbertConfig", {**SMALL, "embedding_size": 16}),
    "camembert": ("CamembertModel", "CamembertConfig", SMALL),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {"vocab_size": 96, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
    ),
    "electra": ("ElectraModel", "ElectraConfig", {**SMALL, "embedding_size": 16}),
    "ernie": ("ErnieModel", "ErnieConfig", SMALL),
    "esm": ("EsmModel", "EsmConfig", {**SMALL, "mask_token_id": 5, "position_embedding_type": "rotary"}),
    "eurobert": ("EuroBertModel", "EuroBertConfig", SMALL),
    "modernbert": (
        "ModernBertModel",
        "ModernBertConfig",
        {**SMALL, "local_attention": 4, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "roberta": ("RobertaModel", "RobertaConfig", SMALL),
    "xlm_roberta": ("XLMRobertaModel", "XLMRobertaConfig", SMALL),
}
ENCODER_DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "blenderbot": ("BlenderbotForConditionalGeneration", "BlenderbotConfig", TWO_SIDED),
    "m2m_100": ("M2M100ForConditionalGeneration", "M2M100Config", TWO_SIDED),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", TWO_SIDED),
    "mt5": ("MT5ForConditionalGeneration", "MT5Config", T5_SIZES),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", TWO_SIDED),
    "plbart": ("PLBartForConditionalGeneration", "PLBartConfig", TWO_SIDED),
    "umt5": ("UMT5ForConditionalGeneration", "UMT5Config", T5_SIZES),
}
WITHOUT_TOKENS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "audio_spectrogram_transformer": ("ASTModel", "ASTConfig", {**IMAGE, "num_mel_bins": 16, "max_length": 24}),
    "beit": ("BeitModel", "BeitConfig", {**IMAGE, "use_relative_position_bias": True}),
    "deit": ("DeiTModel", "DeiTConfig", IMAGE),
    "dinov2": ("Dinov2Model", "Dinov2Config", IMAGE),
    "hubert": ("HubertModel", "HubertConfig", SPEECH),
    "siglip_vision": ("SiglipVisionModel", "SiglipVisionConfig", IMAGE),
    "videomae": ("VideoMAEModel", "VideoMAEConfig", {**IMAGE, "num_frames": 2, "tubelet_size": 1}),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", SPEECH),
}
MORE = {**DECODERS, **ENCODERS, **ENCODER_DECODERS, **WITHOUT_TOKENS}


def on_interface(name: str) -> bool:
    """Whether the installed transformers has the architecture, and lets it choose its attention by name."""
    made = MORE[name][0]
    if not hasattr(transformers, made):
        return False
    asked = getattr(getattr(transformers, made), "_can_set_attn_implementation", None)
    return bool(asked()) if asked is not None else False


HERE = [name for name in MORE if on_interface(name)]
ALL = [*ON_INTERFACE, *HERE]
"""Every architecture that is compared."""


@cache
def model(name: str) -> Any:
    """A tiny model in evaluation mode, its attention far from uniform."""
    if name in ON_INTERFACE:
        made = tiny(name)
        return _plain(made)
    kind, config, sizes = MORE[name]
    torch.manual_seed(0)
    made = getattr(transformers, kind)(getattr(transformers, config)(**sizes)).eval()
    for parameter in made.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return _plain(made)


def _plain(made: Any) -> Any:
    made.set_attn_implementation("eager")
    if hasattr(made, "set_experts_implementation"):  # the default one has no float64
        made.set_experts_implementation("eager")
    return made


def inputs(name: str, batch: int = 1, length: int = 9) -> dict[str, torch.Tensor]:
    """What a model is called with; a target too where it takes one."""
    generator = torch.Generator().manual_seed(2)
    if name == "vit":
        return {"pixel_values": torch.randn(batch, 3, 8, 8, generator=generator)}
    if name in ("hubert", "wav2vec2"):
        return {"input_values": torch.randn(batch, 200, generator=generator)}
    if name == "audio_spectrogram_transformer":
        return {"input_values": torch.randn(batch, 24, 16, generator=generator)}
    if name == "videomae":
        return {"pixel_values": torch.randn(batch, 2, 3, 8, 8, generator=generator)}
    if name in WITHOUT_TOKENS:
        return {"pixel_values": torch.randn(batch, 3, 8, 8, generator=generator)}
    if name == "whisper":
        given = {"input_features": torch.randn(batch, 4, 16, generator=generator)}
    else:
        given = {"input_ids": text_ids(length, batch=batch)}
    if name in TWO_TEXTS or name in ENCODER_DECODERS:
        given["decoder_input_ids"] = text_ids(6, batch=batch, seed=1)
    return given
