"""The compiled backward pass, called from a plan. The forward pass is in `_native`."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from .. import _native
from .._plan import Plan
from . import DType, Gradients
from ._native import as_taken, isa, threads


def backward(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    output: NDArray[Any],
    lse: NDArray[Any],
    grad_output: NDArray[Any],
    grad_lse: NDArray[Any] | None,
    plan: Plan,
    gradients: Gradients,
    *,
    dtype: DType,
) -> None:
    """See `Backward`."""
    isa()
    bias = gradients.bias or (None,) * len(plan.bias)
    for total in bias:
        if total is not None:
            total[...] = 0
    _native.backward(
        query,
        key,
        value,
        output,
        lse,
        grad_output,
        grad_lse,
        dtype=dtype,
        scale=plan.scale,
        softcap=plan.softcap,
        sink=plan.sink,
        start=plan.start,
        stop=plan.stop,
        residual=[as_taken(step) for step in plan.residual],
        bias=plan.bias,
        offset=plan.offset,
        dropout=plan.dropout,
        seed=plan.seed,
        grad_query=gradients.query,
        grad_key=gradients.key,
        grad_value=gradients.value,
        grad_bias=bias,
        grad_sink=gradients.sink,
        threads=threads(),
    )
