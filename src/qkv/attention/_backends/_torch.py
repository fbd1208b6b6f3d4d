"""Attention by chunks of rows in torch operations: on any device, and differentiable any number of times.

It never holds more than a bounded number of scores, and recomputes them where derivatives need them, so that memory is
O(n) in second derivatives too. It serves tensors on a GPU, and second derivatives everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .._dropout import kept
from .._plan import MaskStep, Plan
from . import DType, Outputs
from ._chunks import Inputs, chunks, keys_of, piece_of, rows_of


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
    for rows, keys in chunks(query, key, plan):
        seen = keys_of(rows_of(inputs, plan, rows), plan, keys)
        scores = _scores(seen, piece_of(plan, rows, keys))
        factor = _factor(plan, query, rows, keys)
        output, lse = _reduce(scores, seen["value"].nan_to_num(0, 0, 0), _sink(inputs, plan, scores), factor)
        if not finite:
            output += _infinities(scores, lse, seen["value"])
        outputs.output[:, :, rows] = output
        if outputs.lse is not None:
            outputs.lse[:, :, rows] = lse
        _observe(scores, lse, plan, outputs, rows, keys)


def gradients(inputs: Inputs, plan: Plan, grad_output: Tensor, grad_lse: Tensor) -> Inputs:
    """First derivatives, see `Backward`: float32 (float64 for float64), which chunks are added up in."""
    real = torch.float64 if grad_output.dtype == torch.float64 else torch.float32
    inputs = {name: tensor.detach().to(real) for name, tensor in inputs.items()}
    everything = inputs | {"grad_output": grad_output.to(real), "grad_lse": grad_lse.to(real)}

    def of(rows: slice, keys: slice) -> tuple[Inputs, Pull]:
        here = rows_of(everything, plan, rows)
        back = here["grad_output"], here["grad_lse"]
        pull = _puller(plan, inputs["query"], rows, keys)
        return {name: here[name] for name in inputs}, lambda varied: pull(varied, {}, back)

    with exactly(grad_output.device):
        return _gathered(inputs, plan, of)


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

    def of(rows: slice, keys: slice) -> tuple[Inputs, Pull]:
        pull_once = _puller(plan, inputs["query"], rows, keys)
        onto = rows_of(cotangents, plan, rows)

        def first_order(varied: Inputs) -> Inputs:
            given = dict(varied)
            back = given.pop("grad_output"), given.pop("grad_lse")
            of_these = {name: given.pop(name) for name in onto}
            return pull_once(of_these, given, back)

        def second_order(varied: Inputs) -> Inputs:
            pull = torch.func.vjp(first_order, varied)[1]
            (found,) = pull(onto)
            return dict(found)

        return rows_of(everything, plan, rows), second_order

    with exactly(grad_output.device):
        return _gathered(everything, plan, of)


Pull: TypeAlias = Callable[[Inputs], Inputs]
"""From what is differentiated with respect to, to its gradients."""


def _gathered(inputs: Inputs, plan: Plan, of: Callable[[slice, slice], tuple[Inputs, Pull]]) -> Inputs:
    """Gradients chunk by chunk: side by side where a tensor has a row for each query, added up elsewhere."""
    pieces: dict[str, list[Tensor]] = {name: [] for name in inputs}
    for rows, keys in chunks(inputs["query"], inputs["key"], plan):
        here, pull = of(rows, keys)
        for name, gradient in pull(here).items():
            if pieces[name] and here[name] is inputs[name]:
                pieces[name] = [pieces[name][0] + gradient]
            else:
                pieces[name].append(gradient)
    return {
        name: torch.cat(found, 2) if len(found) > 1 else found[0] if found else torch.zeros_like(inputs[name])
        for name, found in pieces.items()
    }


def _puller(
    plan: Plan, like: Tensor, rows: slice, keys: slice
) -> Callable[[Inputs, Inputs, tuple[Tensor, Tensor]], Inputs]:
    """How some rows give the gradients of what is varied while others stay, from those of output and logsumexp."""
    piece, factor = piece_of(plan, rows, keys), _factor(plan, like, rows, keys)

    def pulled(varied: Inputs, fixed: Inputs, cotangents: tuple[Tensor, Tensor]) -> Inputs:
        def forward(these: Inputs) -> tuple[Tensor, Tensor]:
            given = keys_of({**fixed, **these}, plan, keys)
            scores = _scores(given, piece)
            output, lse = _reduce(scores, given["value"], _sink(given, piece, scores), factor)
            return output.to(cotangents[0].dtype), lse

        pull = torch.func.vjp(forward, varied)[1]
        (found,) = pull(cotangents)
        return dict(found)

    return pulled


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
    mask: Tensor = plan.allowed(lambda step: _pushed(step, column, device))
    return mask


def _pushed(step: MaskStep, column: Tensor, device: torch.device) -> Tensor:
    match step:
        case ("interval", start, stop):
            first, last = (_on(device, bound)[:, None, :, None] for bound in (start, stop))
            return (first <= column) & (column < last)
        case ("equal", query_ids, key_ids):
            return _on(device, query_ids)[:, None, :, None] == _on(device, key_ids)[:, None, None, :]
        case ("array", values):
            return _on(device, values)
    raise AssertionError(step)


def _sink(inputs: Inputs, plan: Plan, scores: Tensor) -> Tensor | None:
    if "sink" in inputs:
        return inputs["sink"].to(scores.dtype)
    return None if plan.sink is None else _on(scores.device, plan.sink).to(scores.dtype)


def _factor(plan: Plan, like: Tensor, rows: slice, keys: slice) -> Tensor | None:
    """What dropout multiplies some weights by: 0, or 1 / (1 - dropout); None without dropout."""
    if not plan.dropout:
        return None
    (batch, heads), queries = like.shape[:2], np.arange(rows.start, rows.stop)
    stays = kept(plan.dropout, plan.seed, batch, heads, queries, np.arange(keys.start, keys.stop))
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


def _observe(scores: Tensor, lse: Tensor, plan: Plan, outputs: Outputs, rows: slice, keys: slice) -> None:
    masked, width = scores == -torch.inf, scores.shape[-1]
    weights = torch.exp(scores - lse[..., None]).masked_fill(masked, 0)
    place, column = (torch.arange(some.start, some.stop, device=scores.device) for some in (rows, keys))
    if outputs.max_score is not None:
        outputs.max_score[:, :, rows] = scores.amax(-1) if width else -torch.inf
    if outputs.entropy is not None:
        outputs.entropy[:, :, rows] = (weights * (lse[..., None] - scores)).masked_fill(masked, 0).sum(-1)
    if outputs.distance is not None:
        apart = (place[:, None] + plan.offset - column).abs()
        outputs.distance[:, :, rows] = (weights * apart).sum(-1)
    if outputs.top_indices is not None and outputs.top_weights is not None:
        ranked = min(outputs.top_indices.shape[-1], width)
        order = torch.sort(scores, dim=-1, descending=True, stable=True).indices[..., :ranked]
        found = scores.gather(-1, order) != -torch.inf
        outputs.top_indices[:, :, rows] = -1
        outputs.top_weights[:, :, rows] = 0
        outputs.top_indices[:, :, rows, :ranked] = torch.where(found, order + keys.start, -1)
        outputs.top_weights[:, :, rows, :ranked] = weights.gather(-1, order).masked_fill(~found, 0)
    if outputs.received is not None:
        outputs.received[:, :, keys] += weights.sum(-2)
    if outputs.block_map is not None:
        tall, wide = outputs.block
        block = column // wide
        across = torch.zeros(
            *weights.shape[:-1], outputs.block_map.shape[-1], dtype=weights.dtype, device=weights.device
        ).index_add_(-1, block, weights)
        outputs.block_map.index_add_(2, place // tall, across)
