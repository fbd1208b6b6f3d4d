"""Gradients of `attend` and `observe` for torch tensors. Imported when a tensor arrives, never before.

The forward pass is the one that everybody gets. Kept for the backward pass are the inputs, the output, the logsumexp
and the plan, so memory stays O(n). Second derivatives recompute rows of scores, see `_backends._torch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ._arrays import empty, view
from ._backends import Gradients, _torch
from ._backends._choose import run_backward
from ._backends._chunks import Inputs
from ._biases import Bias
from ._explain import called, log_call, logs_calls
from ._plan import BiasTerm, Plan
from ._prepare import Problem, flatten
from ._scores import ScoreShape

Tensors: TypeAlias = tuple[Tensor | None, ...]
"""query, key, value, sink, and a leaf for each term of the bias."""


def learning(
    problem: Problem, query: Tensor, key: Tensor, value: Tensor, sink: Tensor | None, bias: Bias | None
) -> Tensors | None:
    """The tensors that autograd may want gradients of; None where it is not watching."""
    if not torch.is_grad_enabled():
        return None
    leaves = () if bias is None else tuple(bias._leaves(problem.shape))
    tensors: Tensors = (query, key, value, sink, *leaves)
    return tensors if any(tensor is not None and tensor.requires_grad for tensor in tensors) else None


def with_history(compute: Callable[[], dict[str, Any]], problem: Problem, tensors: Tensors) -> dict[str, Any]:
    """What `compute` finds; its `output` and `lse` know where they come from. Statistics have no history."""
    found: dict[str, Any] = {}

    def forward() -> tuple[Tensor, Tensor]:
        found.update(compute())
        return found["output"], found["lse"]

    frame = Frame(problem.plan, problem.shape, problem.leading)
    found["output"], found["lse"] = _apply(_Attention, forward, frame, *tensors)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What of a `Problem` is kept: everything but the arrays, which autograd keeps, and may drop and make anew."""

    plan: Plan
    shape: ScoreShape
    leading: tuple[int, ...]

    def problem(self, *tensors: Tensor | None) -> Problem:
        """Of query, key and value."""
        views = [view(tensor, "tensor", gradients=True, devices=True) for tensor in tensors]
        query, key, value = (flatten(seen.data, self.shape.batches) for seen in views)
        return Problem(query, key, value, views[0], self.leading, self.shape, self.plan)

    def rows(self, tensor: Tensor) -> Any:
        """A number for each query as a backend reads it: ``(batch, heads, N)``."""
        return view(tensor.contiguous(), "tensor", gradients=True, devices=True).data.reshape(*self.shape.flat[:3])

    def array(self, tensor: Tensor | None) -> Any:
        """``(*leading, length, dim)`` as a backend reads it."""
        return flatten(view(tensor, "tensor", gradients=True, devices=True).data, self.shape.batches)

    def flat(self, tensor: Tensor) -> Tensor:
        """The same as a tensor that autograd sees."""
        heads = tensor.shape[-3] if len(self.leading) > 0 else 1
        return tensor.reshape(self.shape.batches, heads, *tensor.shape[-2:])

    def inputs(self, tensors: Tensors) -> Inputs:
        """By the names that `_backends._torch` knows."""
        return {
            name: self.flat(tensor) if name in ("query", "key", "value") else tensor
            for name, tensor in zip(names_of(tensors), tensors, strict=True)
            if tensor is not None
        }


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    return function.apply(*arguments)  # type: ignore[no-untyped-call]


class _Attention(torch.autograd.Function):
    """From query, key, value, sink and the leaves of the bias to output and logsumexp."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[[], tuple[Tensor, Tensor]], frame: Frame, *tensors: Tensor | None) -> Any:
        output, lse = compute()
        ctx.frame = frame
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output, lse, *tensors)
        return output, lse

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_lse: Tensor | None) -> Any:
        if grad_output is None and grad_lse is None:
            return (None,) * len(ctx.needs_input_grad)
        output, lse, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # somebody goes on to second derivatives
            return None, None, *_apply(_Backward, ctx.frame, wanted, grad_output, grad_lse, output, lse, *tensors)
        return None, None, *gradients(ctx.frame, wanted, grad_output, grad_lse, output, lse, tensors)


class _Backward(torch.autograd.Function):
    """From the gradients of output and logsumexp to those of query, key, value, sink and leaves; None if not wanted."""

    @staticmethod
    def forward(
        ctx: Any,
        frame: Frame,
        wanted: tuple[bool, ...],
        grad_output: Tensor | None,
        grad_lse: Tensor | None,
        output: Tensor,
        lse: Tensor,
        *tensors: Tensor | None,
    ) -> Any:
        ctx.frame = frame
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad_output, grad_lse, output, lse, *tensors)
        return tuple(gradients(frame, wanted, grad_output, grad_lse, output, lse, tensors))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        frame: Frame = ctx.frame
        if all(cotangent is None for cotangent in cotangents):
            return (None,) * len(ctx.needs_input_grad)
        grad_output, grad_lse, output, lse, *tensors = ctx.saved_tensors
        inputs = frame.inputs((*tensors,))
        onto = frame.inputs(cotangents)
        grad_output = frame.flat(torch.zeros_like(output) if grad_output is None else grad_output)
        grad_lse = (torch.zeros_like(lse) if grad_lse is None else grad_lse).reshape(grad_output.shape[:3])
        found = _torch.second_gradients(inputs, frame.plan, grad_output, grad_lse, onto)
        names = ("grad_output", "grad_lse", None, None, *names_of(tensors))
        return None, None, *_as_given(found, names, ctx.saved_tensors, ctx.needs_input_grad[2:])


def names_of(tensors: Sequence[object]) -> tuple[str, ...]:
    """query, key, value, sink and so many leaves, by the names that `_backends._torch` knows."""
    return "query", "key", "value", "sink", *(f"bias{index}" for index in range(len(tensors) - 4))


def _as_given(
    found: Inputs, names: Sequence[str | None], given: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients by name, in the shapes of what was given; None for what nobody asks for."""
    return [
        found[name].reshape(tensor.shape) if want and name is not None and tensor is not None else None
        for name, tensor, want in zip(names, given, wanted, strict=True)
    ]


def gradients(
    frame: Frame,
    wanted: tuple[bool, ...],
    grad_output: Tensor | None,
    grad_lse: Tensor | None,
    output: Tensor,
    lse: Tensor,
    tensors: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """First derivatives, by the backend that fits; None for what is not wanted."""
    if grad_output is None:
        grad_output = torch.zeros_like(output)
    problem = frame.problem(*tensors[:3])
    if problem.like.by_torch:
        if logs_calls():
            log_call({"call": f"gradients: {called(problem)}", "path": "rows of scores in torch operations"})
        on_device = _on_device(frame, grad_output, grad_lse, lse, (*tensors,))
        return [gradient if want else None for gradient, want in zip(on_device, wanted, strict=True)]
    plan, real = problem.plan, problem.real
    found: list[Tensor | None] = []

    def room(shape: Sequence[int], dtype: str, want: bool = True) -> Any:
        """An uninitialised gradient as a backend fills it; None where nobody wants it."""
        result, data = empty(tuple(shape), dtype, problem.like) if want else (None, None)
        found.append(result)
        return data

    into = Gradients(
        query=room(problem.query.shape, problem.dtype),
        key=room(problem.key.shape, problem.dtype),
        value=room(problem.value.shape, problem.dtype),
        sink=room((problem.shape.heads,), real, want=wanted[3] and plan.sink is not None),
    )
    into.bias = tuple(room(_own_shape(term), real, want) for term, want in zip(plan.bias, wanted[4:], strict=True))
    run_backward(
        problem,
        frame.array(output),
        frame.rows(lse),
        frame.array(grad_output),
        None if grad_lse is None else frame.rows(grad_lse),
        into,
    )
    return [
        _as_leaf(gradient, tensor) if want and gradient is not None and tensor is not None else None
        for gradient, tensor, want in zip(found, tensors, wanted, strict=True)
    ]


def _as_leaf(gradient: Tensor, tensor: Tensor) -> Tensor:
    """In the shape and dtype of what was given; zeros where there are no scores, whose axes tell nothing."""
    if gradient.numel() != tensor.numel():
        return torch.zeros_like(tensor)
    return gradient.view(tensor.shape).to(tensor.dtype)


def _on_device(
    frame: Frame, grad_output: Tensor, grad_lse: Tensor | None, lse: Tensor, tensors: Tensors
) -> list[Tensor | None]:
    """First derivatives in torch operations, of whatever may have any."""
    if grad_output.device.type == "meta":
        return [None if tensor is None else torch.empty_like(tensor) for tensor in tensors]
    back = frame.flat(grad_output), (torch.zeros_like(lse) if grad_lse is None else grad_lse)
    found = _torch.gradients(frame.inputs(tensors), frame.plan, back[0], back[1].reshape(back[0].shape[:3]))
    return [
        None if tensor is None else found[name].reshape(tensor.shape).to(tensor.dtype)
        for name, tensor in zip(names_of(tensors), tensors, strict=True)
    ]


def _own_shape(term: BiasTerm) -> tuple[int, ...]:
    """The shape of a term's numbers, size 1 where an array is broadcast."""
    values = term[1]
    if term[0] != "array":
        return tuple(values.shape)
    return tuple(1 if stride == 0 else size for size, stride in zip(values.shape, values.strides, strict=True))
