"""The contenders: each turns a problem into a function of nothing that computes it once and returns its result.

`prepare` does everything that is no computation: compiling, changing the layout to the library's own, building a graph.
A library that is not installed, or does not compute this problem, raises `Unavailable` with the reason.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch

import qkv

from .observing import observe_by_hand
from .problem import Problem

Work = Callable[[], Any]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Unavailable(Exception):
    """Why a library does not take part."""


def prepare(name: str, problem: Problem, threads: int) -> Work:
    """A contender, ready to be called; rotating over the problem's sets of arrays.

    Raises:
        Unavailable: with the reason.
    """
    match name:
        case "jax":
            return _rotate([_jax(problem, arrays) for arrays in problem.sets])
        case "onnx":
            return _onnx(problem, threads)
        case "qkv" if problem.case.observed:
            return _rotate([_observe(problem, arrays) for arrays in problem.sets])
        case "eager" if problem.case.observed:
            return _rotate([_by_hand(problem, arrays) for arrays in problem.sets])
    attention = {"qkv": _own, "plain": _plain, "sdpa": _sdpa, "eager": _eager, "flex": _flex}[name](problem)
    return _rotate([_passes(attention, problem, arrays) for arrays in problem.sets])


def _rotate(works: Sequence[Work]) -> Work:
    if len(works) == 1:
        return works[0]
    turns = itertools.cycle(works)
    return lambda: next(turns)()


def _passes(attention: Attention, problem: Problem, arrays: Sequence[torch.Tensor]) -> Work:
    """Forward, backward alone, or both."""
    query, key, value, gradient = arrays
    if problem.case.direction == "forward":
        return lambda: attention(query, key, value)
    leaves = [array.detach().clone().requires_grad_() for array in (query, key, value)]
    if problem.case.direction == "both":
        return lambda: torch.autograd.grad(attention(*leaves), leaves, gradient)
    output = attention(*leaves)
    return lambda: torch.autograd.grad(output, leaves, gradient, retain_graph=True)


def _own(problem: Problem) -> Attention:
    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = qkv.attend(
            query, key, value, mask=problem.mask, bias=problem.own_bias, softcap=problem.softcap
        )
        return found

    return attention


def _plain(problem: Problem) -> Attention:
    """Ours with nothing read: the mask stays where it is bounds."""
    mask = None if problem.case.mask == "array" else problem.mask
    return lambda query, key, value: qkv.attend(query, key, value, mask=mask)


def _observe(problem: Problem, arrays: Sequence[torch.Tensor]) -> Work:
    query, key, value, _ = arrays
    return lambda: qkv.observe(query, key, value, mask=problem.mask, **problem.case.observed)


def _by_hand(problem: Problem, arrays: Sequence[torch.Tensor]) -> Work:
    query, key, value, _ = arrays
    return lambda: observe_by_hand(query[0], key[0], value[0], problem.scale, causal=problem.case.mask == "causal")


def _sdpa(problem: Problem) -> Attention:
    if problem.softcap:
        raise Unavailable("takes no softcap")
    mask = problem.allowed if problem.bias is None else problem.bias
    causal = problem.case.mask == "causal"

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal, enable_gqa=problem.grouped
        )

    return attention


def _eager(problem: Problem) -> Attention:
    """Scores, softmax, product: what is written where no fused attention is used."""
    forbidden = None if problem.allowed is None else ~problem.allowed
    if problem.case.mask == "causal":
        forbidden = torch.ones(problem.case.queries, problem.case.keys, dtype=torch.bool).triu(1)
    group = problem.case.heads // problem.case.key_heads

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if group > 1:
            key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        score = query @ key.mT * problem.scale
        if problem.softcap:
            score = problem.softcap * torch.tanh(score / problem.softcap)
        if problem.bias is not None:
            score = score + problem.bias
        if forbidden is not None:
            score = score.masked_fill(forbidden, -torch.inf)
        return torch.softmax(score, -1) @ value

    return attention


def _flex(problem: Problem) -> Attention:
    if problem.case.direction != "forward":
        raise Unavailable("computes no gradients on CPUs")
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    case, allowed, ids, slopes, bias = problem.case, problem.allowed, problem.ids, problem.slopes, problem.bias
    masks: dict[str, Callable[..., Any]] = {
        "causal": lambda b, h, i, j: j <= i,
        "window": lambda b, h, i, j: (j <= i) & (j >= i - 256),
        "documents": lambda b, h, i, j: ids[i] == ids[j],  # type: ignore[index]
        "array": lambda b, h, i, j: allowed[i, j],  # type: ignore[index]
    }
    scores: dict[str, Callable[..., Any]] = {
        "bias": lambda s, b, h, i, j: s + bias[i, j],  # type: ignore[index]
        "alibi": lambda s, b, h, i, j: s - slopes[h] * (i - j).abs(),  # type: ignore[index]
        "softcap": lambda s, b, h, i, j: 30.0 * torch.tanh(s / 30.0),
    }
    block_mask = None
    if case.mask in masks:
        block_mask = create_block_mask(masks[case.mask], None, None, case.queries, case.keys, device="cpu")
    torch._dynamo.reset()
    compiled: Any = torch.compile(flex_attention)

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = compiled(
                query, key, value, scores.get(case.score), block_mask, enable_gqa=problem.grouped
            )
        return found

    return attention


def _jax(problem: Problem, arrays: Sequence[torch.Tensor]) -> Work:
    """In its own layout, ``(batch, length, heads, head_dim)``; compiled beforehand."""
    if problem.softcap:
        raise Unavailable("takes no softcap")
    if problem.case.direction == "backward":
        raise Unavailable("its backward pass is compiled with its forward pass")
    if problem.case.dtype == "float64":
        raise Unavailable("takes no float64 unless all of JAX is set to it")
    jax = _module("jax")
    numbers = _module("jax.numpy")

    def move(array: torch.Tensor) -> Any:
        moved = numbers.asarray(array.transpose(1, 2).contiguous().float().numpy())
        return moved.astype(getattr(numbers, problem.case.dtype))

    bias = None if problem.bias is None else numbers.asarray(problem.bias.float().numpy())
    bias = bias[None] if bias is not None and bias.ndim == 3 else None if bias is None else bias[None, None]
    mask = None if problem.allowed is None else numbers.asarray(problem.allowed.numpy())[None, None]

    def attention(query: Any, key: Any, value: Any) -> Any:
        causal = problem.case.mask == "causal"
        return jax.nn.dot_product_attention(query, key, value, bias, mask, is_causal=causal)

    def gradients(query: Any, key: Any, value: Any, gradient: Any) -> Any:
        return jax.vjp(attention, query, key, value)[1](gradient)

    forward = problem.case.direction == "forward"
    moved = [move(array) for array in (arrays[:3] if forward else arrays)]
    compiled = jax.jit(attention if forward else gradients).lower(*moved).compile()
    return lambda: jax.block_until_ready(compiled(*moved))


def _onnx(problem: Problem, threads: int) -> Work:
    """The Attention operator of opset 23."""
    case = problem.case
    if case.direction != "forward":
        raise Unavailable("inference only")
    kinds = {"float32": 1, "float16": 10, "float64": 11}
    if case.dtype not in kinds:
        raise Unavailable(f"no {case.dtype} attention on CPUs")
    runtime, onnx = _module("onnxruntime"), _module("onnx")
    helper, kind = onnx.helper, kinds[case.dtype]
    mask = problem.allowed if problem.bias is None else problem.bias
    inputs = [dict(zip(("query", "key", "value"), (a.numpy() for a in arrays[:3]))) for arrays in problem.sets]  # noqa: B905
    declared = [helper.make_tensor_value_info(name, kind, array.shape) for name, array in inputs[0].items()]
    if mask is not None:
        full = mask.numpy()
        for feed in inputs:
            feed["mask"] = full
        declared.append(helper.make_tensor_value_info("mask", 9 if full.dtype == bool else kind, full.shape))
    node = helper.make_node(
        "Attention", list(inputs[0]), ["output"], is_causal=int(case.mask == "causal"), softcap=problem.softcap or 0.0
    )
    graph = helper.make_graph([node], "attention", declared, [helper.make_tensor_value_info("output", kind, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return _rotate([lambda feed=feed: session.run(None, feed)[0] for feed in inputs])  # type: ignore[misc]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable("not installed") from error
