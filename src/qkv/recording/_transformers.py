"""Hugging Face's models: an attention function and a mask function of our own, chosen in the model's configuration.

Both are registered under one name. A name that the mask interface lacks gets no mask at all, and the model is
silently wrong; one with "sdpa", "flash" or "flex_attention" in it is taken for one of those.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..attention import weights
from ..errors import CaptureError
from ._active import deliver, suspended, watching
from ._call import AttentionCall, on_cpu, split_mask

NAME = "qkv_capture"


def install(model: nn.Module) -> Callable[[], None]:
    """Send the model's attention our way; returns what puts its configuration back."""
    transformers = sys.modules.get("transformers")
    if transformers is None:
        return lambda: None
    before = [(config, config._attn_implementation_internal) for config in _configurations(model)]
    if before:
        _register()
    for config, _ in before:
        config._attn_implementation_internal = NAME

    def restore() -> None:
        for config, implementation in before:
            config._attn_implementation_internal = implementation

    return restore


def _configurations(model: nn.Module) -> list[Any]:
    """Every configuration, the submodels' too, of modules that ask the attention interface."""
    found: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        source = sys.modules.get(type(module).__module__)
        if hasattr(config, "_attn_implementation_internal") and hasattr(source, "ALL_ATTENTION_FUNCTIONS"):
            found[id(config)] = config
    return list(found.values())


def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, attention_function)
    AttentionMaskInterface.register(NAME, mask_function)


def mask_function(*args: Any, **kwargs: Any) -> Tensor | None:
    """Booleans, and None where a causal flag or nothing says the same: what transformers makes for its ``sdpa``."""
    from transformers.masking_utils import sdpa_mask

    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


def attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """What the attention interface calls for every attention of the model."""
    if kwargs.get("cache") is not None:
        raise CaptureError("attention over a paged cache (continuous batching) cannot be captured: use generate().")
    own = getattr(sys.modules.get(type(module).__module__), "eager_attention_forward", None)
    decodes = bool(is_causal if is_causal is not None else getattr(module, "is_causal", False))
    causal = decodes and attention_mask is None and query.shape[2] > 1
    allowed, bias = split_mask(attention_mask)
    position_bias = kwargs.get("position_bias")
    if position_bias is not None:
        bias = position_bias if bias is None else bias + position_bias
    watches = [watch for watch in watching() if watch.knows(module)]
    sink = next((kwargs[name] for name in ("s_aux", "sinks") if kwargs.get(name) is not None), None)
    call = AttentionCall(
        query,
        key,
        value,
        _scale(module, query, scaling),
        allowed=allowed,
        causal=causal and (query.shape[2] == key.shape[2]),
        bias=bias,
        softcap=kwargs.get("softcap"),
        sink=None if sink is None else sink.detach().reshape(-1),
        window=_window(module, kwargs),
        kind="cross" if watches and watches[-1].reads_other() else None,
        decodes=decodes,
    )

    def original() -> Tensor:
        """The model's own eager attention, with its gradient and its dropout."""
        if own is None:
            raise CaptureError(
                f"{type(module).__name__} has no eager attention to compute gradients or dropout with: "
                "run it under torch.no_grad() and in evaluation mode while it is captured."
            )
        mask = attention_mask
        if causal:
            mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
        if mask is not None and mask.dtype == torch.bool:
            lowest = torch.finfo(query.dtype).min
            mask = torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(~mask, lowest)
        output: Tensor = own(module, query, key, value, mask, dropout=dropout, scaling=scaling, **kwargs)[0]
        return output.transpose(1, 2)

    needs_own = call.needs_gradient() or (dropout > 0 and module.training)
    output = deliver(watches, call, original if needs_own else None, module)
    wanted = kwargs.get("output_attentions") or getattr(getattr(module, "config", None), "output_attentions", False)
    wanted = wanted or any(watch.returns_weights for watch in watches)
    return output.transpose(1, 2).contiguous(), _weights(call) if wanted else None


def _scale(module: nn.Module, query: Tensor, scaling: float | None) -> float:
    """Never assumed: T5's is 1, Gemma 2's is its own, and older GPT-2 code keeps its own in the module."""
    if scaling is not None:
        return float(scaling)
    scale = float(query.shape[-1]) ** -0.5 if getattr(module, "scale_attn_weights", True) else 1.0
    if getattr(module, "scale_attn_by_inverse_layer_idx", False):
        scale /= int(getattr(module, "layer_idx", 0) or 0) + 1
    return scale


def _window(module: nn.Module, kwargs: dict[str, Any]) -> int | None:
    window = kwargs.get("sliding_window", getattr(module, "sliding_window", None))
    return window if isinstance(window, int) and not isinstance(window, bool) and window > 0 else None


def _weights(call: AttentionCall) -> Tensor:
    """All weights, for a caller that asked the model for them."""
    with suspended(), torch.no_grad():
        found: Tensor = weights(
            on_cpu(call.query),
            on_cpu(call.key),
            mask=call.mask(),
            bias=on_cpu(call.bias),
            scale=call.scale,
            softcap=call.softcap,
            sink=on_cpu(call.sink),
        )
    return found.to(call.query.device, call.query.dtype)
