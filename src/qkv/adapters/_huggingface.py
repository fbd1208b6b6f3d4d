"""Hugging Face's attention interface: one attention and one mask function, registered under one name.

A name that the mask registry lacks gets no mask at all and outputs go silently wrong, so both are registered.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..attention._compiling import left_to_python
from ..errors import ArgumentError, DependencyError
from ._call import AttentionCall
from ._listening import computed
from ._lowering import lowered
from ._runs import Runs

NAME = "qkv"
"""Not to contain "sdpa", "flash" or "flex_attention", for which transformers looks inside the name."""


def register() -> None:
    """Make ``attn_implementation="qkv"`` available to Hugging Face models.

    Attention is then computed by qkv's kernel: causal and sliding masks, padding and caches as bounds, of which no
    N x M array is made; soft caps, attention sinks, position biases and grouped heads in the same pass.
    ``output_attentions=True`` returns exact weights. Calling it again changes nothing.

    Raises:
        DependencyError: transformers 4.57 or newer is not installed.

    >>> import qkv, torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> qkv.register()
    >>> small = LlamaConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    >>> model = LlamaForCausalLM._from_config(small, attn_implementation="qkv").eval()
    >>> model(input_ids=torch.tensor([[3, 1, 4, 1, 5]]), output_attentions=True).attentions[0].shape
    torch.Size([1, 2, 5, 5])
    """
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
    except ImportError as missing:
        raise DependencyError(
            f"register: expected transformers 4.57 or newer ({missing}); install it with: pip install 'qkv[hf]'"
        ) from None
    from ._masks import runs_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, runs_mask)


@left_to_python
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
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """What transformers calls instead of its own attention; returns ``(batch, length, heads, dim)`` and the weights."""
    if others.get("cache") is not None:
        raise ArgumentError(
            "cache: expected none, got a paged one; continuous batching keeps keys in pages, which qkv does not read: "
            'use attn_implementation="sdpa" there'
        )
    if torch.is_autocast_enabled(query.device.type):
        query, key, value = (each.to(torch.get_autocast_dtype(query.device.type)) for each in (query, key, value))
    queries, keys = query.shape[2], key.shape[2]
    mask = lowered(
        attention_mask if attention_mask is None or attention_mask.shape[-1] <= keys else attention_mask[..., :keys]
    )
    allowed, bias = mask.allowed, mask.bias
    runs = None if mask.runs is None else mask.runs.for_queries(queries)
    decodes = bool(is_causal) or bool(getattr(module, "is_causal", True))  # GPT-2 denies it for a single token
    causal = is_causal if is_causal is not None else decodes
    if causal and attention_mask is None and queries > 1:
        runs = Runs.causal(queries, keys)
    if cu_seq_lens_q is not None:
        packed = _packed(cu_seq_lens_q, cu_seq_lens_q if cu_seq_lens_k is None else cu_seq_lens_k)
        runs = packed if runs is None else runs & packed
    if position_bias is not None:
        fits = position_bias.shape[-2:] == (queries, keys)
        more = lowered(position_bias if fits else position_bias[..., -queries:, :keys])
        bias = more.bias if bias is None else bias if more.bias is None else bias + more.bias
        allowed = more.allowed if allowed is None else allowed if more.allowed is None else allowed & more.allowed
        if more.runs is not None:
            runs = more.runs.for_queries(queries) if runs is None else runs & more.runs.for_queries(queries)
    call = AttentionCall(
        query,
        key,
        value,
        scale=scaling if scaling is not None else query.shape[-1] ** -0.5,
        runs=runs,
        allowed=allowed,
        bias=bias,
        softcap=softcap,
        sink=s_aux if s_aux is not None else sinks,
        dropout=dropout,
        window=sliding_window,
        cached=decodes,
        packed=cu_seq_lens_q is not None,
        decodes=True if decodes and (is_causal or hasattr(module, "is_causal")) else None,
    )
    output, lse = computed(call)
    wanted = output_attentions or _weights_are_collected()
    return output.transpose(1, 2).contiguous(), call.weights(lse) if wanted else None


def _weights_are_collected() -> bool:
    """Whether transformers 5 collects attention weights by hooks: half of its models do not say so in the call."""
    collecting = sys.modules.get("transformers.utils.output_capturing")
    collector = getattr(collecting, "_active_collector", None)
    return collector is not None and any("attentions" in name for name in collector.get() or ())


def _packed(query_ends: Tensor, key_ends: Tensor) -> Runs:
    """Each query reads the text that it lies in: cumulative lengths ``(texts + 1,)``, from 0 on."""
    queries, keys = query_ends.cpu().numpy(), key_ends.cpu().numpy()
    lengths = np.diff(queries)
    return Runs(np.repeat(keys[:-1], lengths)[None], np.repeat(keys[1:], lengths)[None])
