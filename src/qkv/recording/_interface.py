"""Hugging Face models are switched to our attention while they are captured, by their configurations, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..adapters import register
from ..adapters._huggingface import NAME


@contextmanager
def switched(model: nn.Module) -> Iterator[None]:
    """While it lasts, every part of `model` that goes through the interface calls our attention."""
    try:
        from transformers import PreTrainedModel
    except ImportError:
        yield
        return
    register()
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
