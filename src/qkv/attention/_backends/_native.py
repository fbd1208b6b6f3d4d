"""The compiled backend: hands a plan to `qkv.attention._native` and says which kernel and how many threads it uses.

`QKV_THREADS` sets the number of threads, 1024 at most (otherwise the cores that this process may use), `QKV_ISA` the
instruction set (otherwise the widest that the machine runs). Results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import KernelError
from .. import _native
from .._explain import explained, log_call, logs_calls
from .._plan import MaskStep, Plan
from . import DType, Outputs

MOST_THREADS = 1024


def attend(
    query: NDArray[Any], key: NDArray[Any], value: NDArray[Any], plan: Plan, outputs: Outputs, *, dtype: DType
) -> None:
    """See `Backend`.

    Raises:
        KernelError: where `QKV_ISA` or `QKV_THREADS` ask for what this machine has not.
    """
    _call(query, key, value, plan, outputs, dtype=dtype)
    if logs_calls():
        log_call(explain(query, key, value, plan, outputs, dtype=dtype))


def explain(
    query: NDArray[Any], key: NDArray[Any], value: NDArray[Any], plan: Plan, outputs: Outputs, *, dtype: DType
) -> dict[str, str]:
    """Which path the same call would take; nothing is read but shapes, and nothing is filled."""
    told = _call(query, key, value, plan, outputs, dtype=dtype, compute=False) or {}
    return explained(query, key, value, plan, outputs, dtype=dtype, told=told)


def _call(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    plan: Plan,
    outputs: Outputs,
    *,
    dtype: DType,
    compute: bool = True,
) -> dict[str, Any] | None:
    isa()
    rows, columns = outputs.block
    return _native.attend(
        query,
        key,
        value,
        outputs.output,
        dtype=dtype,
        scale=plan.scale,
        softcap=plan.softcap,
        sink=plan.sink,
        start=plan.start,
        stop=plan.stop,
        residual=[as_taken(step) for step in plan.residual] if plan.residual else (),
        bias=plan.bias,
        offset=plan.offset,
        dropout=plan.dropout,
        seed=plan.seed,
        lse=outputs.lse,
        entropy=outputs.entropy,
        max_score=outputs.max_score,
        distance=outputs.distance,
        top_indices=outputs.top_indices,
        top_weights=outputs.top_weights,
        received=outputs.received,
        block_map=outputs.block_map,
        block_rows=rows,
        block_columns=columns,
        threads=threads(),
        compute=compute,
    )


def as_taken(step: MaskStep) -> tuple[Any, ...]:
    """As the module takes it: booleans as bytes, which every version of NumPy lends out."""
    if step[0] == "array":
        return "array", step[1].view(np.uint8)
    return step


def isa() -> str:
    """The instruction set whose kernel is in use, ``"avx512"`` say.

    Raises:
        KernelError: where `QKV_ISA` names one that is unknown or that this machine does not run.
    """
    try:
        return _native.isa()
    except RuntimeError as error:
        raise KernelError(str(error)) from None


def isas() -> list[str]:
    """The instruction sets that this machine runs, the plainest first."""
    return _native.isas()


def compiler() -> str:
    """What compiled the kernels."""
    return _native.compiler


def threads() -> int:
    """How many threads a call uses: `QKV_THREADS`, or the cores that this process may run on.

    Raises:
        KernelError: where `QKV_THREADS` is not a number from 1 on.
    """
    wanted = os.environ.get("QKV_THREADS")
    if wanted:
        try:
            count = int(wanted)
        except ValueError:
            count = 0
        if count < 1:
            raise KernelError(f"QKV_THREADS: expected a whole number from 1 on, got {wanted!r}; unset it for all cores")
        return min(count, MOST_THREADS)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
