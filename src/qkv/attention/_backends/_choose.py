"""Which backend computes."""

from __future__ import annotations

from .._plan import DType
from .._prepare import Problem
from . import Backend, Outputs, _numpy

try:
    from ._native import attend as _native
except ImportError:
    _native = _numpy.attend


def run(problem: Problem, outputs: Outputs, *, dtype: DType | None = None) -> None:
    """Fill `outputs`."""
    empty = 0 in problem.query.shape or problem.key.shape[2] == 0
    backend: Backend = _numpy.attend if empty else _native
    backend(problem.query, problem.key, problem.value, problem.plan, outputs, dtype=dtype or problem.dtype)
