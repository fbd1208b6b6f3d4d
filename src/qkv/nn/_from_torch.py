"""State dicts of PyTorch's own modules, renamed as they are loaded into ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import nn

Hook: TypeAlias = Callable[..., None]

LAYER = {
    "self_attn": "attention",
    "linear1": "feed_forward.up",
    "linear2": "feed_forward.down",
    "norm1": "around_attention.norm",
    "norm2": "around_feed_forward.norm",
}
"""The parts of a layer without a source: PyTorch's names, and ours."""
LAYER_WITH_SOURCE = LAYER | {
    "multihead_attn": "cross_attention",
    "norm2": "around_cross_attention.norm",
    "norm3": "around_feed_forward.norm",
}


def split_projections(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Of a `torch.nn.MultiheadAttention`: one matrix for queries, keys and values where their inputs are as wide."""
    for kind in ("weight", "bias"):
        stacked = state.pop(f"{prefix}in_proj_{kind}", None)
        if stacked is not None:
            for name, part in zip(("query", "key", "value"), stacked.chunk(3), strict=True):
                state[f"{prefix}{name}.{kind}"] = part
        for old, new in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            rename(state, f"{prefix}{old}_{kind}", f"{prefix}{new}.{kind}")
        rename(state, f"{prefix}out_proj.{kind}", f"{prefix}output.{kind}")


def rename_when_loading(module: nn.Module, hook: Hook) -> None:
    """Have the state dict pass through `hook` before the module reads its entries."""
    module.register_load_state_dict_pre_hook(hook)  # type: ignore[no-untyped-call]


def rename_layer(names: dict[str, str]) -> Hook:
    """A hook that renames the parts of a layer: ``{"self_attn": "attention", ...}``."""

    def hook(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for old, new in names.items():
            for key in [key for key in state if key.startswith(f"{prefix}{old}.")]:
                rename(state, key, f"{prefix}{new}.{key.removeprefix(f'{prefix}{old}.')}")

    return hook


def rename(state: dict[str, Any], old: str, new: str) -> None:
    """Move one entry, if it is there."""
    if old in state:
        state[new] = state.pop(old)
