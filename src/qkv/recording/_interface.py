"""Hugging Face's attention interface: one attention and one mask function, registered under one name.

A name that the mask registry lacks gets no mask at all and outputs go silently wrong, so both are registered. Models
are switched by their configurations, and put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import CaptureError
from ._active import computed
from ._call import AttentionCall, split_mask

NAME = "qkv_capture"
"""Not to contain "sdpa", "flash" or "flex_attention", for which transformers looks inside the name."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    sinks: Tensor | None = None,
    output_attentions: bool = False,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """What transformers calls instead of its own attention; returns ``(batch, length, heads, dim)`` and the weights."""
    if dropout:
        raise CaptureError(
            "the model is in training mode and drops attention weights at random, which cannot be captured: "
            "call model.eval() first"
        )
    if others.get("cu_seq_lens_q") is not None or others.get("cache") is not None:
        raise CaptureError("packed sequences and paged caches cannot be captured: run one padded batch at a time")
    queries, keys = query.shape[2], key.shape[2]
    if attention_mask is not None:
        attention_mask = attention_mask[..., :keys]
    allowed, bias = split_mask(attention_mask)
    if position_bias is not None:
        more_allowed, more_bias = split_mask(position_bias[..., -queries:, :keys])
        allowed = more_allowed if allowed is None else allowed if more_allowed is None else allowed & more_allowed
        bias = more_bias if bias is None else bias if more_bias is None else bias + more_bias
    decodes = bool(is_causal) or bool(getattr(module, "is_causal", True))  # GPT-2 denies it for a single token
    causal = is_causal if is_causal is not None else decodes
    call = AttentionCall(
        query,
        key,
        value,
        scale=scaling if scaling is not None else query.shape[-1] ** -0.5,
        allowed=allowed,
        causal=causal and attention_mask is None and queries > 1,
        bias=bias,
        softcap=softcap,
        sink=s_aux if s_aux is not None else sinks,
        window=sliding_window,
        cached=decodes,
        decodes=True if decodes and (is_causal or hasattr(module, "is_causal")) else None,
    )
    output, lse = computed(call)
    return output.transpose(1, 2).contiguous(), call.weights(lse) if output_attentions else None


@contextmanager
def switched(model: nn.Module) -> Iterator[None]:
    """While it lasts, every part of `model` that goes through the interface calls `attention`."""
    try:
        from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
        from transformers.masking_utils import sdpa_mask
    except ImportError:
        yield
        return
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    configs: dict[int, Any] = {}
    for part in model.modules():
        if isinstance(part, PreTrainedModel) and _goes_through_interface(part):
            for module in part.modules():
                _collect(getattr(module, "config", None), configs)
    before = [(config, config._attn_implementation_internal) for config in configs.values()]
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME
        yield
    finally:
        for config, name in before:
            config._attn_implementation_internal = name


def _goes_through_interface(model: Any) -> bool:
    """Whether a model class dispatches its attention by name (transformers asks its source the same)."""
    can_set = getattr(type(model), "_can_set_attn_implementation", None)
    return bool(can_set()) if can_set is not None else bool(getattr(model, "_supports_attention_backend", False))


def _collect(config: Any, found: dict[int, Any]) -> None:
    """A configuration and those inside it."""
    if id(config) in found or not hasattr(config, "_attn_implementation_internal"):
        return
    found[id(config)] = config
    for name in getattr(config, "sub_configs", {}):
        _collect(getattr(config, name, None), found)
