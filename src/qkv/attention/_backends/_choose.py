"""Which backend computes: the compiled one, except for what has no elements; torch's operations off the CPU."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ...errors import KernelError
from .._explain import called, log_call, logs_calls
from .._plan import DType
from .._prepare import Problem
from . import Backend, Backward, Gradients, Outputs, _numpy, _numpy_gradients

native: Backend
explain_native: Any
native_backward: Backward
try:
    from ._native import attend as native
    from ._native import explain as explain_native
    from ._native_gradients import backward as native_backward
except ImportError as missing:
    reason = str(missing)

    def native(*arguments: Any, **options: Any) -> None:
        raise KernelError(f"the compiled kernel is not there ({reason}); build and install qkv with: pip install .")

    explain_native = native_backward = native


def run(problem: Problem, outputs: Outputs, *, dtype: DType | None = None) -> None:
    """Fill `outputs`."""
    if problem.like.by_torch:
        from . import _torch

        if problem.like.device != "meta":
            _torch.attend(*_arrays(problem), problem.plan, outputs, dtype=dtype or problem.dtype)
        return
    if not _is_empty(problem):
        native(*_arrays(problem), problem.plan, outputs, dtype=dtype or problem.dtype)  # which logs what it chose
        return
    _numpy.attend(*_arrays(problem), problem.plan, outputs, dtype=dtype or problem.dtype)
    if logs_calls():
        log_call(explain(problem, outputs))


def explain(problem: Problem, outputs: Outputs) -> dict[str, str]:
    """Which path `run` would take, as rows of a table."""
    if _is_empty(problem):
        return {"call": called(problem), "path": "the NumPy backend: there is nothing to compute"}
    found: dict[str, str] = explain_native(*_arrays(problem), problem.plan, outputs, dtype=problem.dtype)
    return found


def run_backward(
    problem: Problem,
    output: NDArray[Any],
    lse: NDArray[Any],
    grad_output: NDArray[Any],
    grad_lse: NDArray[Any] | None,
    gradients: Gradients,
) -> None:
    """Fill `gradients` from what the forward pass gave and the gradients of that: see `Backward`."""
    empty = _is_empty(problem)
    backward: Backward = _numpy_gradients.backward if empty else native_backward
    backward(*_arrays(problem), output, lse, grad_output, grad_lse, problem.plan, gradients, dtype=problem.dtype)
    if logs_calls():
        path = "the NumPy backend: there is nothing to compute" if empty else "the compiled backward pass"
        log_call({"call": f"gradients: {called(problem)}", "path": path})


def _arrays(problem: Problem) -> tuple[Any, Any, Any]:
    return problem.query, problem.key, problem.value


def _is_empty(problem: Problem) -> bool:
    return 0 in problem.query.shape or problem.key.shape[2] == 0
