"""PyTorch's own attention functions: `scaled_dot_product_attention` and `multi_head_attention_forward`.

A function mode sees both from outside. It is switched off inside what it handles, so the inner call of
`multi_head_attention_forward` is reached by replacing the function it calls, for as long as it runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..adapters._call import AttentionCall
from ..adapters._listening import computed, listeners
from ..adapters._lowering import lowered
from ..adapters._runs import Runs

_SDPA = F.scaled_dot_product_attention
_MHA = F.multi_head_attention_forward
_MHA_SIGNATURE = inspect.signature(_MHA)


class Seeing(TorchFunctionMode):
    """Computes attention functions with our kernel, and records them, while a captured model runs."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _SDPA and listeners():
            return _scaled_dot_product_attention(*args, **kwargs)
        if func is _MHA and listeners():
            return _multi_head_attention_forward(*args, **kwargs)
        return func(*args, **kwargs)


def _scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    padding: Tensor | None = None,
    cached: bool = True,
    seen: Callable[[AttentionCall, Tensor], None] | None = None,
) -> Tensor:
    """PyTorch's signature; the last three are what `multi_head_attention_forward` knows beside it."""
    leading: tuple[int, ...] = query.shape[:-2]
    batches: tuple[int, ...] = torch.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3])  # type: ignore[no-untyped-call]
    if query.ndim > 3:
        leading = (*batches, query.shape[-3])
        query, key, value = (tensor.expand(*batches, *tensor.shape[-3:]) for tensor in (query, key, value))
    if attn_mask is not None:
        attn_mask = attn_mask[(None,) * (query.ndim - attn_mask.ndim)]
        if query.ndim > 4:
            attn_mask = attn_mask.expand(*batches, *attn_mask.shape[-3:])
    query, key, value = (_four_axes(tensor) for tensor in (query, key, value))
    mask = lowered(None if attn_mask is None else _four_axes(attn_mask))
    runs = None if mask.runs is None else mask.runs.for_queries(query.shape[2])
    if is_causal:
        causal = Runs.causal(query.shape[2], key.shape[2])
        runs = causal if runs is None else runs & causal
    call = AttentionCall(
        query,
        key,
        value,
        scale=scale if scale is not None else query.shape[-1] ** -0.5,
        runs=runs,
        allowed=mask.allowed,
        bias=mask.bias,
        dropout=dropout_p,
        decodes=True if is_causal else None,
        padding=padding,
        cached=cached,
    )
    output, lse = computed(call)
    if seen is not None:
        seen(call, lse)
    return output.reshape(*leading, *output.shape[-2:])


def _multi_head_attention_forward(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """The original, over our attention; where weights are wanted they are recomputed from what it was given."""
    given = _MHA_SIGNATURE.bind(*args, **kwargs)
    given.apply_defaults()
    options = given.arguments
    wanted, average = options["need_weights"], options["average_attn_weights"]
    if wanted:  # then PyTorch writes softmax(QK^T)V out by hand, and takes no hint for the mask
        options["need_weights"], options["is_causal"] = False, False
    padding = options["key_padding_mask"]
    if padding is not None:
        blocked = padding if padding.dtype == torch.bool else padding != 0
        padding = ~(blocked if blocked.ndim == 2 else blocked[None])
    calls: list[tuple[AttentionCall, Tensor]] = []

    def inner(*inputs: Any, **named: Any) -> Tensor:
        return _scaled_dot_product_attention(
            *inputs, **named, padding=padding, cached=False, seen=lambda call, lse: calls.append((call, lse))
        )

    with _replaced(inner):
        output, weights = _MHA(*given.args, **given.kwargs)
    if wanted:
        call, lse = calls[-1]
        weights = call.weights(lse)
        weights = weights.mean(1) if average else weights
        if options["query"].ndim == 2:
            weights = weights.squeeze(0)
    return output, weights


@contextmanager
def _replaced(function: Callable[..., Tensor]) -> Iterator[None]:
    """`scaled_dot_product_attention` as `multi_head_attention_forward` finds it."""
    before = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = function
    try:
        yield
    finally:
        F.scaled_dot_product_attention = before


@contextmanager
def seeing() -> Iterator[None]:
    """While it lasts, PyTorch's attention functions are seen; fused fast paths that skip them are off."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with Seeing():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _four_axes(tensor: Tensor) -> Tensor:
    """``(batch, heads, length, dim)`` of what PyTorch takes with any leading axes; three are a batch of one head."""
    if tensor.ndim == 4:
        return tensor
    if tensor.ndim == 3:
        return tensor[:, None]
    if tensor.ndim == 2:
        return tensor[None, None]
    return tensor.flatten(0, -4)
