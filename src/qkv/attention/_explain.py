"""Which path a call takes, in words: for `qkv info --explain`, and for the log while calls are made.

``QKV_LOG=1`` in the environment prints a line for each call to stderr; a program of its own mind sets the level of the
logger "qkv" to DEBUG instead. What the compiled kernel chose is what it reports itself; nothing here guesses.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._backends import Outputs
from ._plan import DType, Plan

if TYPE_CHECKING:
    from ._prepare import Problem

log = logging.getLogger("qkv")

_STATISTICS = {
    "lse": "lse",
    "entropy": "entropy",
    "max_score": "max_score",
    "distance": "distance",
    "top_indices": "top_k",
}
_KEPT = ("received", "block_map")
_MASKS = {"interval": "intervals", "equal": "documents", "array": "an array of booleans"}
_BIASES = {"alibi": "ALiBi slopes", "relative": "a table of distances", "array": "an array"}


def log_calls() -> None:
    """Print calls where the environment asks for it."""
    if os.environ.get("QKV_LOG", "0") not in ("", "0") and not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("qkv: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)


def explained(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    plan: Plan,
    outputs: Outputs,
    *,
    dtype: DType,
    told: Mapping[str, Any],
) -> dict[str, str]:
    """Rows of a table: what, and how.

    Arguments:
        told: what the kernel says that it chose.
    """
    return {
        "call": f"{dtype}, query {query.shape}, key {key.shape}, value {value.shape}",
        "kernel": f"{told['isa']}, computing in {told['arithmetic']}, {_count(told['threads'], 'thread')} "
        f"for {_count(told['tasks'], 'task')}",
        "path": told["path"],
        "keys": _keys(plan, key.shape[2]),
        "mask": _read(plan),
        "bias": _added(plan),
        "statistics": _statistics(outputs, told),
    }


def explained_by_torch(problem: Problem, outputs: Outputs, path: str) -> dict[str, str]:
    """The same of a call that torch computes, on a device of its own."""
    return {
        "call": called(problem),
        "kernel": f"PyTorch on {problem.like.device}",
        "path": path,
        "mask": _read(problem.plan),
        "bias": _added(problem.plan),
        "statistics": _asked(outputs),
    }


def called(problem: Problem) -> str:
    """What was asked, in a line."""
    query, key, value = (tuple(array.shape) for array in (problem.query, problem.key, problem.value))
    return f"{problem.dtype}, query {query}, key {key}, value {value}"


def logs_calls() -> bool:
    """Whether anybody wants to know: an explanation takes longer than a short call."""
    return log.isEnabledFor(logging.DEBUG)


def log_call(rows: Mapping[str, str]) -> None:
    """One line of the log."""
    log.debug(
        "%s",
        "; ".join(text if name in ("call", "kernel", "path") else f"{name}: {text}" for name, text in rows.items()),
    )


def _keys(plan: Plan, keys: int) -> str:
    """How many of the pairs of a query and a key are visited."""
    pairs = plan.start.size * keys
    inside = int((plan.stop.astype(np.int64) - plan.start).sum())
    if inside == pairs:
        return "all visited"
    return f"{100 * inside / pairs:.1f}% within bounds, the others are skipped"


def _read(plan: Plan) -> str:
    kinds = list(dict.fromkeys(_MASKS[step[0]] for step in plan.residual if step[0] in _MASKS))
    return f"{' and '.join(kinds)} read block by block" if kinds else "none read: bounds say everything"


def _added(plan: Plan) -> str:
    return " + ".join(_BIASES[term[0]] for term in plan.bias) or "none"


def _asked(outputs: Outputs) -> str:
    names = {**_STATISTICS, **{name: name for name in _KEPT}}
    return ", ".join(text for name, text in names.items() if getattr(outputs, name) is not None) or "none"


def _statistics(outputs: Outputs, told: Mapping[str, Any]) -> str:
    if outputs.received is None and outputs.block_map is None:
        return _asked(outputs)
    return f"{_asked(outputs)}; the last keep a strip of {told['kept_bytes'] / 2**20:.1f} MiB a thread"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
