"""What a trace says of the model that it was taken from, out of its configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..trace import ModelInfo
from ._place import reads_two_texts

_AFTER = ("bert", "albert", "electra", "distilbert", "roberta", "xlm-roberta", "mpnet", "bart", "marian", "openai-gpt")
"""Model types that normalise after the residual sum, as the paper does; nearly all others do before attention."""


def describe(model: nn.Module, *, name: str | None = None, title: str | None = None) -> ModelInfo:
    """The model's name, kind and sizes; what it does not say is 0 or None."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config

    def size(*names: str) -> Any:
        return next((value for each in names if (value := getattr(text, each, None)) is not None), None)

    architecture = type(model).__name__
    called = name or getattr(config, "name_or_path", "") or architecture
    hidden = size("hidden_size", "d_model", "n_embd") or 0
    inner = size("intermediate_size", "decoder_ffn_dim", "d_ff", "n_inner")
    if inner is None and getattr(text, "model_type", "") == "gpt2":
        inner = 4 * hidden
    parameter = next(model.parameters(), None)
    return ModelInfo(
        name=called,
        title=title or called.rstrip("/").rsplit("/", 1)[-1],
        kind="encoder-decoder" if reads_two_texts(model) else "decoder" if _is_causal(model, text) else "encoder",
        hidden_size=hidden,
        layers=size("num_hidden_layers", "decoder_layers", "n_layer", "num_layers") or 0,
        heads=size("num_attention_heads", "decoder_attention_heads", "n_head", "num_heads") or 0,
        intermediate_size=inner,
        norm=None if config is None else "after" if getattr(text, "model_type", "") in _AFTER else "before",
        architecture=architecture,
        dtype="" if parameter is None else str(parameter.dtype).removeprefix("torch."),
    )


def _is_causal(model: nn.Module, config: Any) -> bool:
    if config is None:
        return False
    if getattr(config, "is_decoder", False):
        return True
    flags = [module.is_causal for module in model.modules() if isinstance(getattr(module, "is_causal", None), bool)]
    return bool(flags) and all(flags)
