"""Tensors that our kernel does not read, on a GPU or any other device of torch's. Imported when one arrives.

The output comes from PyTorch's own exact fused function wherever that can say the same; all else, and every statistic,
from `_backends._torch`, by chunks of rows in O(n) memory. Which of the two it is, is decided here and nowhere else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ._autograd import Frame, learning, with_history
from ._backends import Outputs, _torch
from ._backends._chunks import BLOCK
from ._explain import explained_by_torch, log_call, logs_calls
from ._observation import Request
from ._prepare import Problem


def computed(problem: Problem, request: Request, *given: Any) -> dict[str, Any]:
    """What was asked for, by name, of query, key, value, sink and bias as the caller gave them.

    It is differentiable where the caller's tensors ask for that.
    """
    if logs_calls():
        log_call(explain(problem, request, request.allocate(problem, output=problem.dtype)[1]))
    mask = _as_pytorch_says(problem)
    if mask is None:
        return _by_rows(problem, request, *given)
    query, key, value, sink, bias = given
    output = _fused(problem, mask, query, key, value)
    if request.is_plain:
        return {"output": output}
    seen = replace(problem, value=problem.value[..., :0])
    found = _by_rows(seen, request, query, key, value[..., :0], sink, bias)
    return {**found, "output": output}


def _by_rows(problem: Problem, request: Request, *given: Any) -> dict[str, Any]:
    tensors = learning(problem, *given)
    if tensors is None:
        return request.found_in(problem)
    return with_history(lambda: request.found_in(problem, lse=True), problem, tensors)


def explain(problem: Problem, request: Request, outputs: Outputs) -> dict[str, str]:
    """Which path `computed` would take, as rows of a table."""
    mask = _as_pytorch_says(problem)
    chunks = f"rows of scores in torch operations, at most {BLOCK:,} scores at a time"
    if mask is not None:
        said = "is_causal=True" if "is_causal" in mask else "a mask of keys" if mask else "no mask"
        path = f"output: torch.nn.functional.scaled_dot_product_attention, {said}"
        path = path if request.is_plain else f"{path}; statistics: {chunks}"
    else:
        path = chunks
    return explained_by_torch(problem, outputs, path)


def _as_pytorch_says(problem: Problem) -> dict[str, Any] | None:
    """The mask in the words of PyTorch's function; None where it cannot say the same, or not in O(n) memory."""
    plan, (queries, keys) = problem.plan, problem.shape.flat[2:]
    beyond = plan.softcap or plan.sink is not None or plan.dropout or plan.bias or plan.residual
    if beyond or 0 in problem.query.shape or 0 in problem.value.shape or keys == 0:
        return None
    mask: dict[str, Any] | None = None
    start, stop = plan.start, plan.stop
    if not start.any() and bool((stop == keys).all()):
        mask = {}
    elif queries == keys and not start.any() and bool((stop == np.arange(1, keys + 1)).all()):
        mask = {"is_causal": True}
    elif bool((start == start[:, :1]).all() and (stop == stop[:, :1]).all() and (start < stop).all()):
        among = torch.arange(keys, device=problem.query.device)
        first, last = (torch.from_numpy(bound[:, :1].copy()).to(problem.query.device) for bound in (start, stop))
        mask = {"attn_mask": ((first <= among) & (among < last))[:, None, None]}
    if mask is not None and problem.query.device.type == "cuda" and not _has_kernel(problem, mask):
        return None
    return mask


def _has_kernel(problem: Problem, mask: dict[str, Any]) -> bool:
    """Whether a GPU has a fused kernel for this; else PyTorch would write all scores down."""
    key, value = (_for_each_head(problem, tensor) for tensor in (problem.key, problem.value))
    grouped = key.shape[1] != problem.shape.heads
    causal = mask.get("is_causal", False)
    asked = torch.backends.cuda.SDPAParams(problem.query, key, value, mask.get("attn_mask"), 0.0, causal, grouped)
    return torch.backends.cuda.can_use_flash_attention(asked) or torch.backends.cuda.can_use_efficient_attention(asked)


def _fused(problem: Problem, mask: dict[str, Any], *tensors: Tensor) -> Tensor:
    frame = Frame(problem.plan, problem.shape, problem.leading)
    query, key, value = (frame.flat(tensor) for tensor in tensors)
    key, value = _for_each_head(problem, key), _for_each_head(problem, value)
    grouped = key.shape[1] != query.shape[1]
    with _torch.exactly(query.device):
        output = scaled_dot_product_attention(query, key, value, scale=problem.plan.scale, enable_gqa=grouped, **mask)
    return output.reshape(*problem.leading, *output.shape[-2:])


def _for_each_head(problem: Problem, tensor: Tensor) -> Tensor:
    """Keys or values for every query head, where the GPU's kernels for float32 know no groups of heads."""
    groups = problem.shape.heads // tensor.shape[1]
    if groups == 1 or tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor
    return tensor.repeat_interleave(groups, 1)
