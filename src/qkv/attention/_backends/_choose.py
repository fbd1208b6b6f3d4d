"""Which backend computes: the compiled one, except for what has no elements."""

from __future__ import annotations

from typing import Any

from ...errors import KernelError
from .._plan import DType
from .._prepare import Problem
from . import Backend, Outputs, _numpy

native: Backend
explain_native: Any
try:
    from ._native import attend as native
    from ._native import explain as explain_native
except ImportError as missing:
    reason = str(missing)

    def native(*arguments: Any, **options: Any) -> None:
        raise KernelError(f"the compiled kernel is not there ({reason}); build and install qkv with: pip install .")

    explain_native = native


def run(problem: Problem, outputs: Outputs, *, dtype: DType | None = None) -> None:
    """Fill `outputs`."""
    backend: Backend = _numpy.attend if _is_empty(problem) else native
    backend(problem.query, problem.key, problem.value, problem.plan, outputs, dtype=dtype or problem.dtype)


def explain(problem: Problem, outputs: Outputs) -> dict[str, str]:
    """Which path `run` would take, as rows of a table."""
    if _is_empty(problem):
        return {"path": "the NumPy backend: there is nothing to compute"}
    found: dict[str, str] = explain_native(
        problem.query, problem.key, problem.value, problem.plan, outputs, dtype=problem.dtype
    )
    return found


def _is_empty(problem: Problem) -> bool:
    return 0 in problem.query.shape or problem.key.shape[2] == 0
