"""What `attend` and `observe` share, and other rooms ask for: from arguments to output, logsumexp and statistics."""

from __future__ import annotations

from typing import Any

from .._typing import Array
from ._backends._choose import explain
from ._biases import Bias, as_bias
from ._observation import STATISTICS, Observation, Request
from ._prepare import Problem, prepare


def observed(query: Array, key: Array, value: Array, *, bias: Bias | Array | None, **options: Any) -> Observation:
    """What `observe` finds, with the dropout of `attend`, of which logsumexp and statistics know nothing.

    `mask`, `scale`, `softcap` and `sink` are given always; `dropout`, `seed` and statistics where they are wanted.
    """
    request = Request(**{name: options.pop(name) for name in list(options) if name in STATISTICS})
    bias = None if bias is None else as_bias(bias)
    problem = prepare(query, key, value, bias=bias, **options, align=request.align, gradients=True, devices=True)
    return Observation(**computed(problem, request, query, key, value, options["sink"], bias))


def computed(
    problem: Problem,
    request: Request,
    query: Array,
    key: Array,
    value: Array,
    sink: Array | None,
    bias: Bias | None,
) -> dict[str, Any]:
    """What was asked for, by name; differentiable where the caller's tensors ask for that."""
    if problem.like.framework == "torch":
        from ._autograd import learning, with_history

        if problem.like.by_torch:
            from . import _device

            return _device.computed(problem, request, query, key, value, sink, bias)
        tensors = learning(problem, query, key, value, sink, bias)
        if tensors is not None:
            return with_history(lambda: request.found_in(problem, lse=True), problem, tensors)
    return request.found_in(problem)


def explained(query: Array, key: Array, value: Array, **options: Any) -> dict[str, str]:
    """Which path `observe` would take with the same arguments, as rows of a table; nothing is computed.

    >>> import numpy as np
    >>> import qkv
    >>> x = np.zeros((8, 1000, 64), np.float32)
    >>> explained(x, x, x, mask=qkv.Causal())["keys"]
    '50.0% within bounds, the others are skipped'
    """
    asked = {name: options.pop(name) for name in list(options) if name in STATISTICS}
    request = Request(**asked)
    plain = {"mask": None, "bias": None, "scale": None, "softcap": None, "sink": None}
    problem = prepare(query, key, value, **{**plain, **options}, align=request.align, devices=True)
    _, outputs = request.allocate(problem, output=problem.dtype)
    if problem.like.by_torch:
        from . import _device

        return _device.explain(problem, request, outputs)
    return explain(problem, outputs)
