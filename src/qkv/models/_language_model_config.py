"""The sizes of a `LanguageModel`, under Hugging Face's names."""

from __future__ import annotations

from typing import Any, Literal

from transformers import PretrainedConfig

from ..nn._feed_forward import Activation
from ..nn._norms import NormName


class LanguageModelConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """How a `LanguageModel` is made: like Llama, unless something else is said; like GPT-2 with
    ``positions="learned", norm="layer", activation="gelu", bias=True``.

    Args:
        vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads: sizes.
        num_key_value_heads: divides the heads; None is as many.
        positions: ``"rotary"``, or ``"learned"`` and ``"sinusoidal"``, which are added to the embeddings.
        max_position_embeddings: how many positions are learned, where they are.
        rope_theta: the base of rotary positions.
        activation, norm: ``"swiglu"``, ``"gelu"`` or ``"relu"``; ``"rms"`` or ``"layer"``, before the parts of a layer.
        dropout, bias: as in `qkv.nn.DecoderLayer`.

    >>> LanguageModelConfig(hidden_size=64, num_attention_heads=4).num_key_value_heads
    4
    """

    model_type = "qkv-language-model"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 512,
        intermediate_size: int | None = None,
        num_hidden_layers: int = 8,
        num_attention_heads: int = 8,
        num_key_value_heads: int | None = None,
        positions: Literal["rotary", "learned", "sinusoidal"] = "rotary",
        max_position_embeddings: int = 1024,
        rope_theta: float = 10000.0,
        activation: Activation = "swiglu",
        norm: NormName = "rms",
        dropout: float = 0.0,
        bias: bool = False,
        use_cache: bool = True,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.positions = positions
        self.max_position_embeddings = max_position_embeddings
        self.rope_theta = rope_theta
        self.activation = activation
        self.norm = norm
        self.dropout = dropout
        self.bias = bias
        self.use_cache = use_cache
        others["is_decoder"] = True
        for name, token in (("pad_token_id", 0), ("bos_token_id", 1), ("eos_token_id", 2)):
            others.setdefault(name, token)
        super().__init__(**others)
