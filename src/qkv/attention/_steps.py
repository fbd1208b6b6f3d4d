"""`steps` and `steps_from_inputs`: every array on the way from the inputs to the output, to look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from .._typing import Array
from ..errors import ArgumentError
from . import reference
from ._arrays import FLOATS, View, check_count, describe, give, real, view, widen
from ._biases import Bias
from ._compiling import left_to_python
from ._mask import Mask
from ._plan import Plan
from ._prepare import Problem, prepare
from .reference import Score, Steps


@dataclass(frozen=True, eq=False, repr=False)
class StepsFromInputs(Steps):
    """`Steps`, and what comes before and after them in multi-head attention.

    Attributes:
        x: ``(*batch, N, input_dim)``, what came in.
        query: ``(*batch, heads, N, head_dim)``, ``x @ w_q`` split into heads.
        key: ``(*batch, key_heads, N, head_dim)``.
        value: ``(*batch, key_heads, N, value_dim)``.
        heads: ``(*batch, heads, N, value_dim)``, the output of each head (the same as `output`).
        concatenated: ``(*batch, N, heads * value_dim)``, the heads side by side.
        projected: ``concatenated @ w_o``, or None where no `w_o` was given.
    """

    x: Any
    query: Any
    key: Any
    value: Any
    heads: Any
    concatenated: Any
    projected: Any


@left_to_python
def steps(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Mask | Array | None = None,
    bias: Bias | Array | None = None,
    scale: SupportsFloat | None = None,
    softcap: SupportsFloat | None = None,
    sink: Array | None = None,
    score: Score = "scaled_dot",
) -> Steps:
    r"""Attention with everything between the inputs and the output kept: small inputs, to be looked at.

    .. math:: \mathrm{scores} \to \mathrm{scaled} \to \mathrm{capped} \to \mathrm{biased} \to \mathrm{masked}
              \to \mathrm{weights} \to \mathrm{output}

    Args:
        query, key, value, mask, bias, softcap, sink: as in `qkv.attend`.
        scale: factor of the scores; None is 1/sqrt(head_dim) for "scaled_dot" and 1 for the others.
        score: "scaled_dot" and "dot" (they differ in the default scale alone), "cosine", "gaussian", or a function of
            float64 NumPy arrays ``(.., heads, N, d)`` and ``(.., heads, M, d)`` that returns ``(.., heads, N, M)``
            (additive attention, say). The Gaussian kernel's value ``exp(-|q - k|^2 / 2)`` is a weight already, so
            `scaled` holds its logarithm and the softmax normalises the kernel: Nadaraya-Watson. With a bandwidth h
            that is ``scale=1 / h**2``.

    Returns:
        `Steps`, in the framework of the query; computed in float64 and given in float32 (float64 for float64), the
        output in the query's dtype.

    Raises:
        ArgumentError: for what does not fit together; the message names the argument.

    >>> import numpy as np
    >>> import qkv
    >>> s = qkv.steps(np.array([[1.0, 4.0]]), np.array([[0.0, 3.0], [2.0, 1.0]]), np.eye(2))
    >>> s.scores
    array([[12.,  6.]])
    >>> s.scaled.round(2)
    array([[8.49, 4.24]])
    >>> s.weights.round(3)
    array([[0.986, 0.014]])
    """
    problem = prepare(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        scale=scale,
        softcap=softcap,
        sink=sink,
        same_dim=not callable(score),
    )
    arrays = (
        widen(data, problem.dtype).reshape(*problem.shape.batch, *data.shape[1:])
        for data in (problem.query, problem.key, problem.value)
    )
    return _in_framework(_reference(arrays, problem.plan, mask, bias, scale, score), problem)


@left_to_python
def steps_from_inputs(
    x: Array,
    w_q: Array,
    w_k: Array,
    w_v: Array,
    heads: int = 1,
    w_o: Array | None = None,
    *,
    mask: Mask | Array | None = None,
    bias: Bias | Array | None = None,
    scale: SupportsFloat | None = None,
    softcap: SupportsFloat | None = None,
    sink: Array | None = None,
    score: Score = "scaled_dot",
) -> StepsFromInputs:
    r"""Multi-head self-attention from the inputs on: :math:`Q = x W_Q, K = x W_K, V = x W_V`, then `steps`.

    Args:
        x: ``(*batch, N, input_dim)``.
        w_q: ``(input_dim, heads * head_dim)``; torch's ``Linear.weight`` is the transpose.
        w_k: ``(input_dim, key_heads * head_dim)``.
        w_v: ``(input_dim, key_heads * value_dim)``.
        heads: number of query heads, h in the paper; ``head_dim`` is its d_k.
        w_o: ``(heads * value_dim, output_dim)``, or None to stop at the concatenated heads.
        mask, bias, scale, softcap, sink, score: as in `steps`.

    Returns:
        `StepsFromInputs`.

    Raises:
        ArgumentError: for what does not fit together; the message names the argument.

    >>> import numpy as np
    >>> import qkv
    >>> x = np.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
    >>> s = qkv.steps_from_inputs(x, np.eye(2), np.eye(2), np.eye(2))
    >>> s
    StepsFromInputs
      scores       (1, 1, 4, 4)
      scaled       (1, 1, 4, 4)
      capped       (1, 1, 4, 4)
      biased       (1, 1, 4, 4)
      masked       (1, 1, 4, 4)
      weights      (1, 1, 4, 4)
      output       (1, 1, 4, 2)
      x            (1, 4, 2)
      query        (1, 1, 4, 2)
      key          (1, 1, 4, 2)
      value        (1, 1, 4, 2)
      heads        (1, 1, 4, 2)
      concatenated (1, 4, 2)
    >>> s.weights[0, 0].sum(-1)
    array([1., 1., 1., 1.])
    """
    arrays = {"x": x, "w_q": w_q, "w_k": w_k, "w_v": w_v} | ({} if w_o is None else {"w_o": w_o})
    seen = {name: view(array, name) for name, array in arrays.items()}
    like, given = seen["x"], {name: _wide(array) for name, array in seen.items()}
    head_count = check_count(heads, "heads", 1)
    key_heads = _check_projections(seen, head_count)
    query = _split(given["x"] @ given["w_q"], head_count)
    key = _split(given["x"] @ given["w_k"], key_heads)
    value = _split(given["x"] @ given["w_v"], key_heads)

    projections = (give(array, like.dtype, like) for array in (query, key, value))
    problem = prepare(*projections, mask=mask, bias=bias, scale=scale, softcap=softcap, sink=sink)
    found = _reference((query, key, value), problem.plan, mask, bias, scale, score)
    concatenated = found.output.swapaxes(-2, -3).reshape(*given["x"].shape[:-1], head_count * value.shape[-1])
    if "w_o" in given and given["w_o"].shape[0] != concatenated.shape[-1]:
        raise ArgumentError(
            f"w_o: expected {concatenated.shape[-1]} rows (heads * value_dim), got shape {given['w_o'].shape}"
        )
    projected = concatenated @ given["w_o"] if "w_o" in given else None
    rest = {"query": query, "key": key, "value": value, "concatenated": concatenated, "projected": projected}
    told = vars(_in_framework(found, problem))
    wide = real(like.dtype)
    return StepsFromInputs(
        **told,
        x=x,
        heads=told["output"],
        **{name: None if array is None else give(array, wide, like) for name, array in rest.items()},
    )


def _reference(
    arrays: Iterable[NDArray[Any]],
    plan: Plan,
    mask: Mask | Array | None,
    bias: Bias | Array | None,
    scale: SupportsFloat | None,
    score: Score,
) -> Steps:
    """The reference with checked arguments; without a scale it takes the default of the score function."""
    return reference.attend(
        *arrays,
        mask=mask,
        bias=bias,
        scale=None if scale is None else plan.scale,
        softcap=plan.softcap or None,
        sink=plan.sink,
        score=score,
    )


def _in_framework(found: Steps, problem: Problem) -> Steps:
    """Every array for the caller: their framework, their axes."""
    told = {}
    for field in fields(found):
        values = getattr(found, field.name)
        shaped = values.reshape(*problem.leading, *values.shape[-2:])
        told[field.name] = give(shaped, problem.dtype if field.name == "output" else problem.real, problem.like)
    return Steps(**told)


def _wide(seen: View) -> NDArray[np.float64]:
    wide: NDArray[np.float64] = widen(seen.data, seen.dtype).astype(np.float64) if seen.dtype in FLOATS else seen.data
    return wide


def _split(projected: NDArray[np.float64], heads: int) -> NDArray[np.float64]:
    """``(*batch, N, heads * dim)`` to ``(*batch, heads, N, dim)``."""
    *batch, length, width = projected.shape
    return np.ascontiguousarray(projected.reshape(*batch, length, heads, width // heads).swapaxes(-2, -3))


def _check_projections(seen: dict[str, View], heads: int) -> int:
    """Raise where inputs and projections do not fit; returns the number of key heads."""
    x = seen["x"]
    if x.data.ndim < 2:
        raise ArgumentError(f"x: expected (length, input_dim) or (batch, length, input_dim), got shape {x.data.shape}")
    for name, array in seen.items():
        if array.dtype not in FLOATS or (array.dtype, array.framework) != (x.dtype, x.framework):
            raise ArgumentError(
                f"{name}: expected floats of one dtype and framework, like x ({x.dtype}, {x.framework}), "
                f"got {array.dtype}, {array.framework}"
            )
        if name != "x" and array.data.ndim != 2:
            raise ArgumentError(f"{name}: expected a matrix (input_dim, output_dim), got shape {array.data.shape}")
    for name in ("w_q", "w_k", "w_v"):
        if seen[name].data.shape[0] != x.data.shape[-1]:
            raise ArgumentError(
                f"{name}: expected {x.data.shape[-1]} rows, x's last axis, got shape {seen[name].data.shape}; "
                "torch's Linear.weight has to be transposed"
            )
    width = seen["w_q"].data.shape[1]
    if width == 0 or width % heads:
        raise ArgumentError(f"heads: expected a number that divides w_q's {width} columns, got {heads}")
    key_heads: int
    key_heads, rest = divmod(seen["w_k"].data.shape[1], width // heads)
    if rest or key_heads == 0 or heads % key_heads:
        raise ArgumentError(
            f"w_k: expected columns for heads of {width // heads}, as many as w_q's {heads} or a divisor of that, "
            f"got {describe(seen['w_k'].data)}"
        )
    if seen["w_v"].data.shape[1] % key_heads:
        raise ArgumentError(f"w_v: expected columns for {key_heads} heads, got {describe(seen['w_v'].data)}")
    return key_heads
