"""Whether contenders computed the same: a fast wrong answer is no result."""

from __future__ import annotations

from typing import Any

import numpy
import torch

from .problem import Problem, exact, exact_gradients

_SLACK = {"float64": 1e-14, "float32": 2e-7, "float16": 1e-4, "bfloat16": 1e-3}
_ROWS = 64


class Disagreement(AssertionError):
    """Ours lies further from float64 than PyTorch's does."""


def check(problem: Problem, found: Any, others: dict[str, Any]) -> dict[str, float]:
    """The relative error of each against float64.

    Forward passes are compared on up to 64 queries from first to last, of every head; gradients on one head.

    Raises:
        Disagreement: ours exceeds PyTorch's own error by more than a rounding.
    """
    if problem.case.observed:
        return _check_statistics(problem, found, others)
    if problem.case.direction == "forward":
        rows = torch.linspace(0, problem.case.queries - 1, min(_ROWS, problem.case.queries)).long()
        expected = [exact(problem, rows)]

        def part(result: Any) -> list[torch.Tensor]:
            return [result[0][:, rows]]
    else:
        expected = exact_gradients(problem)

        def part(result: Any) -> list[torch.Tensor]:
            return [gradient[:1, :1] for gradient in result]

    errors = {"qkv": error(part(found), expected)}
    errors |= {name: error(part(other), expected) for name, other in others.items()}
    bars = [value for name, value in errors.items() if name != "qkv"] or [0.0]
    judge(problem, errors["qkv"], max(bars))
    return errors


def off(problem: Problem, name: str, result: Any, bar: float) -> float | None:
    """The error of a library outside PyTorch where that is ten times PyTorch's; forward passes alone."""
    if name == "jax":
        result = torch.as_tensor(numpy.asarray(result.astype("float32"))).transpose(1, 2)
    rows = torch.linspace(0, problem.case.queries - 1, min(_ROWS, problem.case.queries)).long()
    found = error([torch.as_tensor(result)[0][:, rows]], [exact(problem, rows)])
    return None if found <= 10 * (bar + _SLACK[problem.case.dtype]) else found


def judge(problem: Problem, ours: float, bar: float) -> None:
    """Raises where ours is worse than theirs by more than a rounding (NaN is)."""
    if not ours <= 1.1 * bar + _SLACK[problem.case.dtype]:
        raise Disagreement(f"{problem.case.id}: our error is {ours:.2e}, PyTorch's {bar:.2e}")


def error(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest relative L2 error of a few arrays."""
    pairs = zip(found, expected, strict=True)
    return max(float((one.detach().double() - other).norm() / other.norm()) for one, other in pairs)


def _check_statistics(problem: Problem, seen: Any, others: dict[str, Any]) -> dict[str, float]:
    """Against what was made by hand where that runs in this row, else the output alone."""
    if "eager" not in others:
        rows = torch.linspace(0, problem.case.queries - 1, _ROWS).long()
        found = {"qkv": error([seen.output[0][:, rows]], [exact(problem, rows)])}
        judge(problem, found["qkv"], 5e-7)
        return found
    errors = {}
    for name, expected in others["eager"].items():
        ours = seen.top_k.weights if name == "top_k" else getattr(seen, name)
        errors[name] = error([torch.as_tensor(ours)[0]], [expected.double()])
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= 1e-5:
        raise Disagreement(f"{problem.case.id}: {worst} differs from PyTorch's by {errors[worst]:.2e}")
    return {"qkv": errors[worst]}
