"""Translators of transformers' own with the same sizes, weights and positions as one of ours.

Tests hold ours against them, and benchmarks let them run beside ours.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel, PegasusConfig, PegasusForConditionalGeneration

from ..models import Translator, TranslatorConfig
from ..nn import sinusoids

NAMES = {
    "attention": "self_attn",
    "cross_attention": "encoder_attn",
    "around_attention.norm": "self_attn_layer_norm",
    "around_cross_attention.norm": "encoder_attn_layer_norm",
    "around_feed_forward.norm": "final_layer_norm",
    "feed_forward.up": "fc1",
    "feed_forward.down": "fc2",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "output": "out_proj",
}


def equal_sizes(ours: TranslatorConfig, kind: Any = MarianConfig, attention: str = "sdpa", longest: int = 512) -> Any:
    """A configuration with the sizes, the dropout and the tokens of one of ours, as MarianMT or Pegasus reads it."""
    return kind(
        vocab_size=ours.vocab_size,
        d_model=ours.hidden_size,
        encoder_layers=ours.encoder_layers,
        decoder_layers=ours.decoder_layers,
        encoder_ffn_dim=ours.intermediate_size,
        decoder_ffn_dim=ours.intermediate_size,
        encoder_attention_heads=ours.num_attention_heads,
        decoder_attention_heads=ours.num_attention_heads,
        activation_function=ours.activation,
        dropout=ours.dropout,
        attention_dropout=ours.dropout,
        activation_dropout=ours.dropout,
        scale_embedding=True,
        max_position_embeddings=longest,
        pad_token_id=ours.pad_token_id,
        bos_token_id=ours.bos_token_id,
        eos_token_id=ours.eos_token_id,
        decoder_start_token_id=ours.decoder_start_token_id,
        forced_eos_token_id=None,
        attn_implementation=attention,
    )


def equal_model(model: Translator, attention: str = "sdpa", longest: int = 512) -> Any:
    """MarianMT where the norms stand after the sums, as in the paper; Pegasus where they stand before the parts."""
    ours: Any = model.config
    after = ours.norm_place == "after"
    config = equal_sizes(ours, MarianConfig if after else PegasusConfig, attention, longest)
    theirs: Any = (MarianMTModel if after else PegasusForConditionalGeneration)(config)
    theirs.eval()
    state = theirs.state_dict()
    state.update({_name(name): value for name, value in model.state_dict().items() if ".stack." in name})
    for name in ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"):
        state[f"{name}.weight"] = model.get_input_embeddings().weight
    for side in ("encoder", "decoder"):
        place = f"model.{side}.embed_positions.weight"
        state[place] = sinusoids(*state[place].shape)
    with torch.no_grad():
        theirs.load_state_dict(state)
    return theirs


def _name(ours: str) -> str:
    """``decoder.stack.layers.0.attention.query.weight`` is ``model.decoder.layers.0.self_attn.q_proj.weight``."""
    side, _, *place, kind = ours.split(".")
    if place == ["norm"]:
        return f"model.{side}.layer_norm.{kind}"
    _, layer, *rest = place
    part = ".".join(rest)
    pieces = [part] if part in NAMES else part.rsplit(".", 1)
    return ".".join(["model", side, "layers", layer, *(NAMES[piece] for piece in pieces), kind])
