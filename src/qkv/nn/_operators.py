"""Attention as two operators of torch, `qkv::attention` and `qkv::attention_backward`: what compilers see.

Operators take tensors and numbers alone, so the plan is made inside; that of a shape is remembered. Second derivatives
are torch operations, by chunks of rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..attention._arrays import usable, view
from ..attention._backends import Gradients, Outputs, _torch
from ..attention._backends._choose import run, run_backward
from ..attention._plan import BiasTerm, MaskStep, Plan
from ..attention._prepare import Problem
from ..attention._scores import ScoreShape

library = torch.library.Library("qkv", "DEF")  # type: ignore[no-untyped-call]
library.define(  # type: ignore[no-untyped-call]
    "attention(Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? bias, Tensor? seed, bool causal, "
    "float scale, float dropout) -> (Tensor output, Tensor lse)"
)
library.define(  # type: ignore[no-untyped-call]
    "attention_backward(Tensor grad_output, Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? bias, "
    "Tensor? seed, Tensor output, Tensor lse, bool causal, float scale, float dropout) -> "
    "(Tensor query, Tensor key, Tensor value, Tensor bias)"
)


@lru_cache(maxsize=256)
def _bounds(queries: int, keys: int, causal: bool) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    start, stop = np.zeros((1, queries), np.int32), np.full((1, queries), keys, np.int32)
    if causal:  # PyTorch's: query i stands at key i
        stop[0] = np.minimum(np.arange(1, queries + 1), keys)
    return start, stop


def plan_of(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    seed: Tensor | None,
    causal: bool,
    scale: float,
    dropout: float,
) -> Plan:
    """The plan of one call; `mask` and `bias` have four axes, of size 1 where they are broadcast."""
    batch, heads, queries, _ = query.shape
    shape, keys = (batch, heads, queries, key.shape[2]), key.shape[2]
    residual: tuple[MaskStep, ...] = ()
    if mask is not None:
        residual = (("array", np.broadcast_to(mask.numpy(), shape)),)
    terms: tuple[BiasTerm, ...] = ()
    if bias is not None:
        real = torch.float64 if query.dtype == torch.float64 else torch.float32
        terms = (("array", np.broadcast_to(bias.detach().to(real).numpy(), shape)),)
    start, stop = _bounds(queries, keys, causal)
    drawn = 0 if seed is None else int(seed)
    return Plan(start, stop, residual, terms, scale, dropout=dropout, seed=drawn)


def _array(tensor: Tensor) -> Any:
    return usable(view(tensor, "tensor", gradients=True).data)


def _problem(query: Tensor, key: Tensor, value: Tensor, plan: Plan) -> Problem:
    batch, heads, queries, _ = query.shape
    shape = ScoreShape((batch,), heads, queries, key.shape[2])
    like = view(query, "query", gradients=True)
    return Problem(usable(like.data), _array(key), _array(value), like, (batch, heads), shape, plan)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    seed: Tensor | None,
    causal: bool,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """On the CPU, by the kernel."""
    plan = plan_of(query, key, mask, bias, seed, causal, scale, dropout)
    output, lse = _like_outputs(query, value)
    run(_problem(query, key, value, plan), Outputs(_array(output), lse.numpy()))
    return output, lse


def attention_backward(
    grad_output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    seed: Tensor | None,
    output: Tensor,
    lse: Tensor,
    causal: bool,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and bias; the last has no elements where there is none."""
    plan = plan_of(query, key, mask, bias, seed, causal, scale, dropout)
    found = [torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in (query, key, value)]
    of_bias = torch.empty((0,) if bias is None else bias.shape, dtype=lse.dtype)
    run_backward(
        _problem(query, key, value, plan),
        _array(output),
        lse.contiguous().numpy(),  # vmap hands on one for all items
        _array(grad_output),
        None,
        Gradients(_array(found[0]), _array(found[1]), _array(found[2]), () if bias is None else (of_bias.numpy(),)),
    )
    return found[0], found[1], found[2], of_bias if bias is None else of_bias.to(bias.dtype)


def _like_outputs(query: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    real = torch.float64 if query.dtype == torch.float64 else torch.float32
    output = torch.empty((*query.shape[:3], value.shape[3]), dtype=query.dtype, device=query.device)
    return output, torch.empty(query.shape[:3], dtype=real, device=query.device)


library.impl("attention", attention, "CPU")  # type: ignore[no-untyped-call]
library.impl("attention_backward", attention_backward, "CPU")  # type: ignore[no-untyped-call]


@torch.library.register_fake("qkv::attention", lib=library)  # type: ignore[untyped-decorator]
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _like_outputs(query, value)


@torch.library.register_fake("qkv::attention_backward", lib=library)  # type: ignore[untyped-decorator]
def _(
    grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None, *_: Any
) -> tuple[Tensor, ...]:
    fresh = [torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in (query, key, value)]
    return (*fresh, query.new_empty(0) if bias is None else torch.empty(bias.shape, dtype=bias.dtype))


class Attention(torch.autograd.Function):
    """`qkv::attention` with its derivatives: cheaper to call than the operator's own, which is for compilers."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        return torch.ops.qkv.attention(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        _keep(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, _: Tensor) -> Any:
        return _back(ctx, grad_output, _)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return _mapped(Attention.apply, info, in_dims, inputs, 0)


class AttentionBackward(torch.autograd.Function):
    """`qkv::attention_backward` with its derivatives."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        return torch.ops.qkv.attention_backward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.numbers = inputs[9:]
        ctx.save_for_backward(*inputs[:7])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        return _back_twice(ctx, *cotangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return _mapped(AttentionBackward.apply, info, in_dims, inputs, 1)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.numbers = inputs[6:]
    ctx.save_for_backward(*inputs[:6], *output)


def _back(ctx: Any, grad_output: Tensor, _: Tensor) -> tuple[Any, ...]:
    query, key, value, mask, bias, seed, output, lse = ctx.saved_tensors
    # Nobody goes on from here where gradients are not recorded: the operator alone takes half the time.
    operator = AttentionBackward.apply if torch.is_grad_enabled() else torch.ops.qkv.attention_backward
    found = operator(grad_output, query, key, value, mask, bias, seed, output, lse, *ctx.numbers)  # type: ignore[no-untyped-call]
    return (*found[:3], None, None if bias is None else found[3], None, None, None, None)


def _back_twice(ctx: Any, *cotangents: Tensor) -> tuple[Any, ...]:
    grad_output, query, key, value, mask, bias, seed = ctx.saved_tensors
    causal, scale, dropout = ctx.numbers
    plan = plan_of(query, key, mask, bias, seed, causal, scale, dropout)
    inputs = {"query": query, "key": key, "value": value} | ({} if bias is None else {"bias0": bias})
    onto = dict(zip(inputs, cotangents, strict=False))
    real = torch.float64 if query.dtype == torch.float64 else torch.float32
    grad_lse = torch.zeros(query.shape[:3], dtype=real)
    found = _torch.second_gradients(inputs, plan, grad_output, grad_lse, onto)
    names = ("grad_output", "query", "key", "value", "", "bias0")
    return (*(found.get(name) for name in names), *(None,) * 6)


def _mapped(function: Any, info: Any, in_dims: tuple[Any, ...], inputs: tuple[Any, ...], first: int) -> Any:
    """One call for all items, the mapped axis merged into the batch; `first` is the place of the query.

    What dropout draws follows from the place in the batch: there each item is a call of its own.
    """
    query, mask, seed = inputs[first], inputs[first + 3], inputs[first + 5]
    if seed is not None:
        return _one_by_one(function, info, in_dims, inputs)
    items, batch = info.batch_size, (query if in_dims[first] is None else query.select(in_dims[first], 0)).shape[0]

    def merged(x: Any, dim: int | None) -> Any:
        if not isinstance(x, Tensor) or (x is mask and dim is None and x.shape[0] == 1):
            return x
        x = x[None] if dim is None else x.movedim(dim, 0)
        return x.expand(items, batch, *x.shape[2:]).reshape(items * batch, *x.shape[2:])

    found = function(*(merged(x, dim) for x, dim in zip(inputs, in_dims, strict=True)))
    outputs = [x.reshape(items, batch, *x.shape[1:]) if x.ndim > 1 else x for x in found]
    if len(found) == 4 and (bias := inputs[first + 4]) is not None:
        shared = (bias if in_dims[first + 4] is None else bias.select(in_dims[first + 4], 0)).shape[0] < batch
        outputs[3] = outputs[3].sum(1, keepdim=True) if shared else outputs[3]
    return tuple(outputs), tuple(0 if x.ndim > 1 else None for x in outputs)


def _one_by_one(function: Any, info: Any, in_dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> Any:
    """One call for each item: what is drawn and what is broadcast stay as they are."""
    results = []
    for item in range(info.batch_size):
        one = [x if dim is None else x.select(dim, item) for x, dim in zip(inputs, in_dims, strict=True)]
        results.append(function(*one))
    return tuple(torch.stack(part) for part in zip(*results, strict=True)), (0,) * len(results[0])


torch.library.register_autograd("qkv::attention", _back, setup_context=_keep, lib=library)
torch.library.register_autograd(
    "qkv::attention_backward", _back_twice, setup_context=AttentionBackward.setup_context, lib=library
)
torch.library.register_vmap(
    "qkv::attention",
    lambda info, dims, *inputs: _mapped(torch.ops.qkv.attention, info, dims, inputs, 0),
    lib=library,
)
torch.library.register_vmap(
    "qkv::attention_backward",
    lambda info, dims, *inputs: _mapped(torch.ops.qkv.attention_backward, info, dims, inputs, 1),
    lib=library,
)
