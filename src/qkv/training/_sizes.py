"""Translators by size, for training: deep enough to be good, shallow where every written token must pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._settings import SIZES, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def of_size(size: str) -> dict[str, Any]:
    """A name in `SIZES`, in the words of a `qkv.models.TranslatorConfig`."""
    width, heads, encoder, decoder = SIZES[size]
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "encoder_layers": encoder,
        "decoder_layers": decoder,
        "num_attention_heads": heads,
    }


def new_translator(tokenizer: PreTrainedTokenizerFast, settings: Settings) -> PreTrainedModel:
    """A `qkv.models.Translator` of ``settings.size`` with fresh weights, for this tokenizer.

    Args:
        tokenizer: decides the size of the vocabulary, and which tokens pad, begin and end a text.
        settings: their size and their dropout.

    Returns:
        The model, in float32, its weights drawn by torch's generator.

    >>> from qkv.training import train_tokenizer
    >>> model = new_translator(train_tokenizer(["the cat", "le chat"] * 9, 300), Settings(size="tiny"))
    >>> model.config.hidden_size, model.config.encoder_layers
    (64, 2)
    """
    from ..models import Translator, TranslatorConfig

    config = TranslatorConfig(
        vocab_size=len(tokenizer),
        **of_size(settings.size),
        dropout=settings.dropout,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.bos_token_id,
    )
    return Translator(config)
