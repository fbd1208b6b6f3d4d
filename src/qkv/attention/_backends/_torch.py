"""Attention by chunks of rows in torch operations: on any device, and differentiable any number of times.

It never holds more than a bounded number of scores, and recomputes them where derivatives need them, so that memory is
O(n) in second derivatives too. It serves tensors on a GPU, and second derivatives everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .._dropout import kept
from .._plan import Plan
from . import DType, Outputs

BLOCK = 1 << 22
"""How many scores are held at a time."""

Inputs: TypeAlias = dict[str, Tensor]
"""What is differentiated with respect to: `query`, `key`, `value`, and where they are tensors of their own rather than
the plan's arrays, `sink` and `bias0`, `bias1`, ... in the shapes of `Gradients`."""


def attend(query: Tensor, key: Tensor, value: Tensor, plan: Plan, outputs: Outputs, *, dtype: DType) -> None:
    """See `Backend`; arrays are tensors, of one device."""
    with exactly(query.device):
        _attend(query, key, value, plan, outputs)


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """No autocast: what is computed in is ours to say."""
    if device.type == "meta":
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield


def _attend(query: Tensor, key: Tensor, value: Tensor, plan: Plan, outputs: Outputs) -> None:
    for sums in (outputs.received, outputs.block_map):
        if sums is not None:
            sums.fill_(0)
    inputs = {"query": query, "key": key, "value": value}
    finite = bool(value.isfinite().all())
    without_dropout = replace(plan, dropout=0.0)
    for first, last in chunks(query, key):
        rows = slice(first, last)
        scores = _scores(rows_of(inputs, plan, first, last), without_dropout.rows(first, last))
        factor = _factor(plan, query, key.shape[2], first, last)
        output, lse = _reduce(scores, value.nan_to_num(0, 0, 0), _sink(inputs, plan, scores), factor)
        if not finite:
            output += _infinities(scores, lse, value)
        outputs.output[:, :, rows] = output
        if outputs.lse is not None:
            outputs.lse[:, :, rows] = lse
        _observe(scores, lse, plan, outputs, rows)


def gradients(inputs: Inputs, plan: Plan, grad_output: Tensor, grad_lse: Tensor) -> Inputs:
    """First derivatives, see `Backward`: float32 (float64 for float64), which chunks are added up in."""
    real = torch.float64 if grad_output.dtype == torch.float64 else torch.float32
    inputs = {name: tensor.detach().to(real) for name, tensor in inputs.items()}
    everything = inputs | {"grad_output": grad_output.to(real), "grad_lse": grad_lse.to(real)}

    def of(first: int, last: int) -> tuple[Inputs, Pull]:
        rows = rows_of(everything, plan, first, last)
        back = rows["grad_output"], rows["grad_lse"]
        piece = replace(plan, dropout=0.0).rows(first, last)
        factor = _factor(plan, inputs["query"], inputs["key"].shape[2], first, last)
        varied = {name: rows[name] for name in inputs}
        return varied, lambda varied: _pulled(varied, {}, piece, back, factor)

    with exactly(grad_output.device):
        return _gathered(inputs, of)


def second_gradients(
    inputs: Inputs,
    plan: Plan,
    grad_output: Tensor,
    grad_lse: Tensor,
    cotangents: Inputs,
) -> Inputs:
    """The gradients of ``sum(gradients(...)[name] * cotangents[name])``, that is of some directions of the gradients,
    with respect to `inputs`, `grad_output` and `grad_lse`."""
    everything = inputs | {"grad_output": grad_output, "grad_lse": grad_lse}

    def of(first: int, last: int) -> tuple[Inputs, Pull]:
        rows = rows_of(everything, plan, first, last)
        piece = replace(plan, dropout=0.0).rows(first, last)
        factor = _factor(plan, everything["query"], everything["key"].shape[2], first, last)
        onto = rows_of(cotangents, plan, first, last)

        def first_order(varied: Inputs) -> Inputs:
            given = dict(varied)
            back = given.pop("grad_output"), given.pop("grad_lse")
            of_these = {name: given.pop(name) for name in onto}
            return _pulled(of_these, given, piece, back, factor)

        def second_order(varied: Inputs) -> Inputs:
            pull = torch.func.vjp(first_order, varied)[1]
            (found,) = pull(onto)
            return dict(found)

        return rows, second_order

    with exactly(grad_output.device):
        return _gathered(everything, of)


Pull: TypeAlias = Callable[[Inputs], Inputs]
"""From what is differentiated with respect to, to its gradients."""


def _gathered(inputs: Inputs, of: Callable[[int, int], tuple[Inputs, Pull]]) -> Inputs:
    """Gradients chunk by chunk: side by side where a tensor has a row for each query, added up elsewhere."""
    pieces: dict[str, list[Tensor]] = {name: [] for name in inputs}
    for first, last in chunks(inputs["query"], inputs["key"]):
        rows, pull = of(first, last)
        for name, gradient in pull(rows).items():
            if pieces[name] and rows[name] is inputs[name]:
                pieces[name] = [pieces[name][0] + gradient]
            else:
                pieces[name].append(gradient)
    return {
        name: torch.cat(found, 2) if len(found) > 1 else found[0] if found else torch.zeros_like(inputs[name])
        for name, found in pieces.items()
    }


def _pulled(
    varied: Inputs, fixed: Inputs, plan: Plan, cotangents: tuple[Tensor, Tensor], factor: Tensor | None
) -> Inputs:
    """The gradients of `varied`, while `fixed` stays."""

    def forward(these: Inputs) -> tuple[Tensor, Tensor]:
        given = {**fixed, **these}
        scores = _scores(given, plan)
        output, lse = _reduce(scores, given["value"], _sink(given, plan, scores), factor)
        return output.to(cotangents[0].dtype), lse

    pull = torch.func.vjp(forward, varied)[1]
    (found,) = pull(cotangents)
    return dict(found)


def chunks(query: Tensor, key: Tensor) -> Iterator[tuple[int, int]]:
    """Runs of queries whose scores are held at a time."""
    batch, heads, queries = query.shape[:3]
    step = max(1, BLOCK // max(1, batch * heads * key.shape[2]))
    for first in range(0, queries, step):
        yield first, min(first + step, queries)


def rows_of(inputs: Inputs, plan: Plan, first: int, last: int) -> Inputs:
    """The inputs of some queries alone; what all queries share is the tensor itself."""
    queries = plan.start.shape[1]

    def cut(name: str, tensor: Tensor) -> Tensor:
        by_row = name in ("query", "grad_output", "grad_lse") or (
            name.startswith("bias") and plan.bias[int(name[4:])][0] == "array" and tensor.shape[2] > 1
        )
        return tensor[:, :, first:last] if by_row and (first, last) != (0, queries) else tensor

    return {name: cut(name, tensor) for name, tensor in inputs.items()}


def _scores(inputs: Inputs, plan: Plan) -> Tensor:
    """Scores after softcap, bias and mask, ``(batch, heads, rows, M)``; -inf where a query may not attend."""
    real = torch.float64 if inputs["query"].dtype == torch.float64 else torch.float32
    query, key = inputs["query"].to(real), inputs["key"].to(real)
    batch, heads, rows, dim = query.shape
    keys, device = key.shape[2], query.device
    place, column = torch.arange(rows, device=device)[:, None], torch.arange(keys, device=device)
    bias = _bias(inputs, plan, real, device)
    allowed = _allowed(plan, column, device)
    for term, values in zip(plan.bias, bias, strict=True):
        if term[0] == "array":
            allowed = allowed & (values.detach() != -torch.inf)
    key = _without_unseen(key, ~allowed.expand(batch, heads, rows, keys))
    grouped = query.reshape(batch, key.shape[1], heads // max(key.shape[1], 1), rows, dim)
    scores = (grouped @ key[:, :, None].transpose(-1, -2)).reshape(batch, heads, rows, keys) * plan.scale
    if plan.softcap:
        scores = plan.softcap * torch.tanh(scores / plan.softcap)
    for term, values in zip(plan.bias, bias, strict=True):
        match term:
            case ("alibi", _, offset):
                scores = scores - values[:, None, None] * (place + offset - column).abs().to(real)
            case ("relative", _, offset):
                reach = values.shape[1] // 2
                scores = scores + values[:, (column - place - offset).clamp(-reach, reach) + reach]
            case _:
                scores = scores + values
    return scores.masked_fill(~allowed, -torch.inf)


def _bias(inputs: Inputs, plan: Plan, real: torch.dtype, device: torch.device) -> list[Tensor]:
    """The numbers of each term, from `inputs` where they are tensors of their own."""
    given = (inputs.get(f"bias{index}") for index in range(len(plan.bias)))
    return [
        (_on(device, term[1]) if values is None else values).to(device, real)
        for term, values in zip(plan.bias, given, strict=True)
    ]


def _on(device: torch.device, array: Any) -> Tensor:
    """An array of the plan, some rows of it, as a tensor."""
    if isinstance(array, Tensor):
        return array.to(device)
    if array.flags.writeable and min(array.strides, default=0) >= 0:
        return torch.from_numpy(array).to(device)
    distinct = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)
    return torch.from_numpy(array[distinct].copy()).to(device).expand(array.shape)


def _without_unseen(keys_or_values: Tensor, masked: Tensor) -> Tensor:
    """Zeros for the keys, or values, that none of these queries may see, NaN or not."""
    batch, _, rows, keys = masked.shape
    groups = keys_or_values.shape[1]
    unseen = masked.reshape(batch, groups, masked.shape[1] // max(groups, 1) * rows, keys).all(-2)
    return keys_or_values.masked_fill(unseen[..., None], 0)


def _allowed(plan: Plan, column: Tensor, device: torch.device) -> Tensor:
    """Where a query may attend: broadcasts to ``(batch, heads, rows, M)``."""

    def inside(start: Any, stop: Any) -> Tensor:
        return (_on(device, start)[:, None, :, None] <= column) & (column < _on(device, stop)[:, None, :, None])

    stack = [inside(plan.start, plan.stop)]
    for step in plan.residual:
        match step:
            case ("interval", start, stop):
                stack.append(inside(start, stop))
            case ("equal", query_ids, key_ids):
                stack.append(_on(device, query_ids)[:, None, :, None] == _on(device, key_ids)[:, None, None, :])
            case ("array", values):
                stack.append(_on(device, values))
            case ("not",):
                stack.append(~stack.pop())
            case ("and",):
                stack.append(stack.pop() & stack.pop())
            case ("or",):
                stack.append(stack.pop() | stack.pop())
    return stack[0] & stack[1] if len(stack) > 1 else stack[0]


def _sink(inputs: Inputs, plan: Plan, scores: Tensor) -> Tensor | None:
    if "sink" in inputs:
        return inputs["sink"].to(scores.dtype)
    return None if plan.sink is None else _on(scores.device, plan.sink).to(scores.dtype)


def _factor(plan: Plan, like: Tensor, keys: int, first: int, last: int) -> Tensor | None:
    """What dropout multiplies the weights of some rows by: 0, or 1 / (1 - dropout); None without dropout."""
    if not plan.dropout:
        return None
    batch, heads = like.shape[:2]
    stays = kept(plan.dropout, plan.seed, batch, heads, np.arange(first, last), np.arange(keys))
    return torch.from_numpy(stays).to(like.device) / (1 - plan.dropout)


def _reduce(scores: Tensor, value: Tensor, sink: Tensor | None, factor: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output and logsumexp of some rows, whose derivatives are 0, not NaN, where a row is empty."""
    if not scores.shape[-1]:
        scores = torch.nn.functional.pad(scores, (0, 1), value=-torch.inf)
        value = torch.nn.functional.pad(value, (0, 0, 0, 1))
    with torch.no_grad():
        highest = scores.detach().amax(-1, keepdim=True)
        if sink is not None:
            highest = torch.maximum(highest, sink.detach()[:, None, None])
        highest = torch.where(highest.isfinite(), highest, torch.zeros_like(highest))
    masked = scores == -torch.inf
    exponentials = torch.exp(scores - highest).masked_fill(masked, 0)
    total = exponentials.sum(-1, keepdim=True)
    if sink is not None:
        total = total + torch.exp(sink[:, None, None] - highest)
    empty = total == 0
    total = total.masked_fill(empty, 1)
    lse = (highest + torch.log(total)).masked_fill(empty, -torch.inf).squeeze(-1)
    weights = exponentials / total
    if factor is not None:
        weights = weights * factor.to(weights.dtype)
    return _weighted(weights, masked, value), lse


def _weighted(weights: Tensor, masked: Tensor, value: Tensor) -> Tensor:
    """Weighted sums of values, ``(batch, heads, rows, value_dim)``."""
    batch, heads, rows, keys = weights.shape
    value = _without_unseen(value.to(weights.dtype), masked)
    grouped = weights.reshape(batch, value.shape[1], heads // max(value.shape[1], 1), rows, keys)
    return (grouped @ value[:, :, None]).reshape(batch, heads, rows, value.shape[3])


def _infinities(scores: Tensor, lse: Tensor, value: Tensor) -> Tensor:
    """What values that are no numbers add to the rows that may see them: 0, an infinity, or NaN."""
    seen = scores != -torch.inf
    weighs = seen & (torch.exp(scores - lse[..., None]) > 0)
    counted = seen.to(scores.dtype), weighs.to(scores.dtype), (seen & ~weighs).to(scores.dtype)
    nothing = torch.zeros_like(seen)
    nan = _weighted(counted[0], nothing, value.isnan()) + _weighted(counted[2], nothing, value.isinf()) > 0
    added = torch.where(nan, torch.nan, 0.0)
    for infinity in (torch.inf, -torch.inf):
        added = added + torch.where(_weighted(counted[1], nothing, value == infinity) > 0, infinity, 0.0)
    return added


def _observe(scores: Tensor, lse: Tensor, plan: Plan, outputs: Outputs, rows: slice) -> None:
    masked, keys = scores == -torch.inf, scores.shape[-1]
    weights = torch.exp(scores - lse[..., None]).masked_fill(masked, 0)
    place = torch.arange(rows.start, rows.stop, device=scores.device)
    if outputs.max_score is not None:
        outputs.max_score[:, :, rows] = scores.amax(-1) if keys else -torch.inf
    if outputs.entropy is not None:
        outputs.entropy[:, :, rows] = (weights * (lse[..., None] - scores)).masked_fill(masked, 0).sum(-1)
    if outputs.distance is not None:
        apart = (place[:, None] + plan.offset - torch.arange(keys, device=scores.device)).abs()
        outputs.distance[:, :, rows] = (weights * apart).sum(-1)
    if outputs.top_indices is not None and outputs.top_weights is not None:
        width = min(outputs.top_indices.shape[-1], keys)
        order = torch.sort(scores, dim=-1, descending=True, stable=True).indices[..., :width]
        found = scores.gather(-1, order) != -torch.inf
        outputs.top_indices[:, :, rows] = -1
        outputs.top_weights[:, :, rows] = 0
        outputs.top_indices[:, :, rows, :width] = torch.where(found, order, -1)
        outputs.top_weights[:, :, rows, :width] = weights.gather(-1, order).masked_fill(~found, 0)
    if outputs.received is not None:
        outputs.received += weights.sum(-2)
    if outputs.block_map is not None:
        tall, wide = outputs.block
        block = torch.arange(keys, device=scores.device) // wide
        across = torch.zeros(
            *weights.shape[:-1], outputs.block_map.shape[-1], dtype=weights.dtype, device=weights.device
        ).index_add_(-1, block, weights)
        outputs.block_map.index_add_(2, place // tall, across)
