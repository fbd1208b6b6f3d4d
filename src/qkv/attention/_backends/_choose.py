"""Which backend computes: the compiled one, except for what has no elements."""

from __future__ import annotations

from typing import Any

from ...errors import KernelError
from .._plan import DType
from .._prepare import Problem
from . import Backend, Outputs, _numpy

native: Backend
try:
    from ._native import attend as native
except ImportError as missing:
    reason = str(missing)

    def native(*arguments: Any, **options: Any) -> None:
        raise KernelError(f"the compiled kernel is not there ({reason}); build and install qkv with: pip install .")


def run(problem: Problem, outputs: Outputs, *, dtype: DType | None = None) -> None:
    """Fill `outputs`."""
    empty = 0 in problem.query.shape or problem.key.shape[2] == 0
    backend: Backend = _numpy.attend if empty else native
    backend(problem.query, problem.key, problem.value, problem.plan, outputs, dtype=dtype or problem.dtype)
