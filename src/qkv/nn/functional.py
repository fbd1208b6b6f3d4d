"""`scaled_dot_product_attention`: PyTorch's signature and semantics, our kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..attention._arrays import refuse_tangents
from ..errors import ArgumentError
from ._operators import Attention


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    r"""What `torch.nn.functional.scaled_dot_product_attention` computes, in O(n) memory:

    .. math:: \mathrm{softmax}(\mathrm{scale} \; q k^\top + \mathrm{mask}) \; v

    It goes where that goes: autograd (twice), autocast, ``torch.compile``, ``torch.func``, checkpointing. A row that
    may attend to nothing gives 0, never NaN. Tensors on a GPU are handed to PyTorch's own function.

    Args:
        query: ``(..., heads, N, head_dim)``.
        key: ``(..., heads, M, head_dim)``; leading axes broadcast.
        value: ``(..., heads, M, value_dim)``.
        attn_mask: broadcasts to ``(..., heads, N, M)``: booleans, True may attend, or floats that are added to the
            scores and may require gradients.
        dropout_p: the probability that a weight becomes 0; the seed is drawn from torch's generator.
        is_causal: query i sees the keys ``j <= i``, whatever the lengths: PyTorch's alignment, top-left.
        scale: None is 1/sqrt(head_dim).
        enable_gqa: whether query heads may be a multiple of key heads.

    Raises:
        ArgumentError: where PyTorch raises; the message names the argument.

    >>> query = torch.ones(1, 1, 2, 4)
    >>> scaled_dot_product_attention(query, query, torch.tensor([[[[1.0], [3.0]]]]), is_causal=True).flatten()
    tensor([1., 2.])
    """
    _check_tensors(query=query, key=key, value=value, attn_mask=attn_mask)
    if query.device.type not in ("cpu", "meta"):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if torch.is_autocast_enabled("cpu"):
        query, key, value, attn_mask = _autocast(query, key, value, attn_mask)
    _check(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    if query.ndim == 2:
        query, key, value = query[None], key[None], value[None]
        lifted = scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale)
        return lifted[0] if lifted.ndim == 3 and (attn_mask is None or attn_mask.ndim < 3) else lifted
    mask_lead = torch.Size(()) if attn_mask is None else attn_mask.shape[:-2]
    four: list[Tensor] | None = None
    if attn_mask is None and _fit(query, key, value, enable_gqa):  # the usual case takes as long as the rest together
        lead, heads, key_heads = query.shape[:1], query.shape[1], key.shape[1]
        four = [query, key, value]
    elif enable_gqa:
        lead = _broadcast(query=query.shape[:-3], key=key.shape[:-3], value=value.shape[:-3], attn_mask=mask_lead[:-1])
        heads, key_heads = query.shape[-3], key.shape[-3]
        if value.shape[-3] != key_heads:
            key, value = (x.repeat_interleave(heads // x.shape[-3], -3) for x in (key, value))
            key_heads = heads
    else:
        whole = _broadcast(query=query.shape[:-2], key=key.shape[:-2], value=value.shape[:-2], attn_mask=mask_lead)
        lead, heads, key_heads = whole[:-1], whole[-1], whole[-1]
    four = four or [
        x.expand(*lead, count, *x.shape[-2:]).reshape(math.prod(lead), count, *x.shape[-2:])
        for x, count in ((query, heads), (key, key_heads), (value, key_heads))
    ]
    mask = bias = None
    if attn_mask is not None:
        shaped = attn_mask.reshape((1,) * (len(lead) + 3 - attn_mask.ndim) + tuple(attn_mask.shape))
        if any(size != 1 for size in shaped.shape[:-3]):
            shaped = shaped.expand(*lead, *shaped.shape[-3:])
        shaped = shaped.reshape(math.prod(shaped.shape[:-3]), *shaped.shape[-3:])
        if attn_mask.dtype == torch.bool:
            mask = shaped
        else:
            bias = shaped.contiguous() if shaped.requires_grad else shaped
    seed = torch.randint(2**63 - 1, (), dtype=torch.int64) if dropout_p else None
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    numbers = (bool(is_causal), factor, float(dropout_p))
    learns = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (*four, bias))
    operator = Attention.apply if learns and not torch.compiler.is_compiling() else torch.ops.qkv.attention
    output, _ = operator(*four, mask, bias, seed, *numbers)  # type: ignore[no-untyped-call]
    result: Tensor = output.reshape(*lead, heads, *output.shape[-2:])
    return result


def _broadcast(**leading: torch.Size) -> torch.Size:
    """What leading axes come to together."""
    whole = torch.Size(())
    for name, axes in leading.items():
        known = zip(reversed(axes), reversed(whole), strict=False)
        if any(size != other and size != 1 and other != 1 for size, other in known):
            raise ArgumentError(
                f"{name}: expected leading axes that broadcast to {tuple(whole)}, got {tuple(axes)}; "
                "fewer heads of keys take enable_gqa=True"
            )
        whole = torch.broadcast_shapes(whole, axes)  # type: ignore[no-untyped-call]
    return whole


def _fit(query: Tensor, key: Tensor, value: Tensor, grouped: bool) -> bool:
    """Whether arrays are what the operator takes already: four axes, nothing to broadcast."""
    if query.ndim != 4 or query.shape[0] != key.shape[0] or key.shape[:2] != value.shape[:2]:
        return False
    return query.shape[1] == key.shape[1] or grouped


def _autocast(*tensors: Tensor | None) -> list[Tensor]:
    """Cast as PyTorch does for its own function: what is float, and not float64."""
    dtype = torch.get_autocast_dtype("cpu")
    return [
        x if x is None or not x.is_floating_point() or x.dtype == torch.float64 else x.to(dtype)  # type: ignore[misc]
        for x in tensors
    ]


def _check_tensors(**given: object) -> None:
    """Tensors, which know no forward derivatives here: they would be zero without a word."""
    for name, x in given.items():
        if x is None and name == "attn_mask":
            continue
        if not isinstance(x, Tensor):
            raise ArgumentError(f"{name}: expected a torch tensor, got {type(x).__name__}")
        if not torch.compiler.is_compiling():
            refuse_tangents(x, name)


def _check(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, causal: bool, grouped: bool
) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.ndim < 2 or (x.ndim != query.ndim and min(x.ndim, query.ndim) < 3):
            raise ArgumentError(f"{name}: expected at least 2 axes (..., length, dim), got shape {tuple(x.shape)}")
        if x.dtype != query.dtype or not x.is_floating_point():
            raise ArgumentError(f"{name}: expected the query's floating dtype {query.dtype}, got {x.dtype}")
        if x.device != query.device:
            raise ArgumentError(f"{name}: expected a tensor on {query.device} like the query, got one on {x.device}")
    if query.shape[-1] < 1:
        raise ArgumentError(f"query: expected a head_dim of at least 1, got shape {tuple(query.shape)}")
    if query.shape[-1] != key.shape[-1]:
        raise ArgumentError(f"key: expected the query's head_dim {query.shape[-1]}, got shape {tuple(key.shape)}")
    if key.shape[-2] != value.shape[-2]:
        raise ArgumentError(f"value: expected one for each of {key.shape[-2]} keys, got shape {tuple(value.shape)}")
    if not 0 <= dropout < 1:
        raise ArgumentError(f"dropout_p: expected a probability from 0 to below 1, got {dropout}")
    if mask is not None and causal:
        raise ArgumentError("attn_mask: expected None with is_causal=True; write the causal mask into attn_mask")
    if grouped:
        for name, x in (("key", key), ("value", value)):
            if query.ndim < 3 or not x.shape[-3] or query.shape[-3] % x.shape[-3]:
                raise ArgumentError(
                    f"{name}: expected a number of heads that divides the query's with enable_gqa, got shapes "
                    f"{tuple(query.shape)} and {tuple(x.shape)}"
                )
    if mask is not None:
        _check_mask(mask, query, key, grouped)


def _check_mask(mask: Tensor, query: Tensor, key: Tensor, grouped: bool) -> None:
    if mask.dtype not in (torch.bool, torch.float32, query.dtype):
        kinds = " or ".join(sorted({"torch.float32", str(query.dtype)}))
        raise ArgumentError(f"attn_mask: expected torch.bool, {kinds}, got {mask.dtype}")
    if mask.device != query.device:
        raise ArgumentError(f"attn_mask: expected a tensor on {query.device} like the query, got one on {mask.device}")
    whole = (*query.shape[-3:-2],) * grouped + (query.shape[-2], key.shape[-2])
    fits = zip(reversed(mask.shape), reversed(whole), strict=False)
    if any(size != 1 and size != other for size, other in fits):
        heads = "heads, " * grouped
        raise ArgumentError(
            f"attn_mask: expected what broadcasts to (..., {heads}N, M) = (..., {', '.join(map(str, whole))}), "
            f"got shape {tuple(mask.shape)}"
        )
