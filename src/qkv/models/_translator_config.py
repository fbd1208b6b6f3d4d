"""The sizes of a `Translator`, under Hugging Face's names."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from ..nn._feed_forward import Activation
from ..nn._norms import NormName, NormPlace


class TranslatorConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """How a `Translator` is made; the paper's base model, unless something else is said.

    Args:
        vocab_size: tokens of source and target together.
        hidden_size: of every position's vector; the paper's d_model.
        intermediate_size: of the feed-forward parts; the paper's d_ff.
        encoder_layers, decoder_layers: how many.
        num_attention_heads: of every attention; divides `hidden_size`.
        activation: of the feed-forward parts: ``"relu"``, ``"gelu"`` or ``"swiglu"``.
        norm, norm_place: ``"layer"`` or ``"rms"``, ``"before"`` the parts of a layer or ``"after"`` them, the paper's.
        dropout: of embeddings, attention weights, hidden parts and results, while training.
        bias: whether linear maps have one.
        pad_token_id, bos_token_id, eos_token_id: of the vocabulary.
        decoder_start_token_id: what a translation begins with; None is `pad_token_id`, as in Marian.

    >>> TranslatorConfig(vocab_size=100, hidden_size=32, num_attention_heads=4).decoder_start_token_id
    0
    """

    model_type = "qkv-translator"
    keys_to_ignore_at_inference = ("past_key_values",)
    attribute_map = {"num_hidden_layers": "encoder_layers"}  # noqa: RUF012  # transformers' own

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 512,
        intermediate_size: int = 2048,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        num_attention_heads: int = 8,
        activation: Activation = "relu",
        norm: NormName = "layer",
        norm_place: NormPlace = "after",
        dropout: float = 0.1,
        bias: bool = True,
        use_cache: bool = True,
        pad_token_id: int = 0,
        bos_token_id: int | None = 1,
        eos_token_id: int = 2,
        decoder_start_token_id: int | None = None,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.encoder_layers = encoder_layers
        self.decoder_layers = decoder_layers
        self.num_attention_heads = num_attention_heads
        self.activation = activation
        self.norm = norm
        self.norm_place = norm_place
        self.dropout = dropout
        self.bias = bias
        self.use_cache = use_cache
        others.update(
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            decoder_start_token_id=pad_token_id if decoder_start_token_id is None else decoder_start_token_id,
            is_encoder_decoder=True,
        )
        super().__init__(**others)
