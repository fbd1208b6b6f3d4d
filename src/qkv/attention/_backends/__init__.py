"""What stands behind the public functions: one signature, `Backend`, and the choice between those who fill it.

The public layer has validated everything. A backend gets NumPy views (of torch tensors too: same memory), computes
in float32 (float64 for float64), fills what was allocated for it, and returns nothing. Backends never import each
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from .._plan import DType as DType
from .._plan import Plan

Buffer: TypeAlias = Any
"""A NumPy array; a tensor on the device of the inputs where `_torch` computes."""


@dataclass(slots=True)
class Outputs:
    """What a backend fills; None is not asked for. C-contiguous and uninitialised.

    `real` is float32 (float64 for float64 inputs).

    Attributes:
        output: ``(batch, heads, N, value_dim)`` in the query's dtype (uint16 view for bfloat16), or float32 for 16-bit
            inputs where the caller goes on adding to it.
        lse: real ``(batch, heads, N)``, natural log, the sink included; -inf for an empty row without a sink.
        entropy: real ``(batch, heads, N)``, nats, over keys; 0 for an empty row.
        max_score: real ``(batch, heads, N)``, after bias; -inf for an empty row.
        distance: real ``(batch, heads, N)``, sum of weight * |i + plan.offset - j|.
        top_indices: int64 ``(batch, heads, N, k)``, descending weight, ties to the lowest index, padded with -1.
        top_weights: real, the shape of `top_indices`, padded with 0.
        received: real ``(batch, heads, M)``, sum of weights over queries.
        block_map: real ``(batch, heads, ceil(N / rows), ceil(M / columns))``, sums of weights over blocks.
        block: ``(rows, columns)`` of a block of `block_map`.
    """

    output: Buffer
    lse: Buffer | None = None
    entropy: Buffer | None = None
    max_score: Buffer | None = None
    distance: Buffer | None = None
    top_indices: Buffer | None = None
    top_weights: Buffer | None = None
    received: Buffer | None = None
    block_map: Buffer | None = None
    block: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Gradients:
    """What a backward pass fills; None is not wanted. C-contiguous and uninitialised.

    Attributes:
        query, key, value: of the shapes and in the dtype of the arrays (uint16 views for bfloat16).
        bias: one for each bias term of the plan, real: slopes ``(heads,)``, table ``(heads, 2 R + 1)``; of an array,
            its shape with size 1 where it is broadcast (where its stride is 0).
        sink: real ``(heads,)``.
    """

    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    bias: tuple[NDArray[Any] | None, ...] = ()
    sink: NDArray[Any] | None = None


class Backward(Protocol):
    r"""Fills `gradients` of a loss L, given those of the output and, where it was used, of lse.

    With :math:`w = \exp(s - \mathrm{lse})`,
    :math:`\delta_i = \sum_d \partial o_{id}\, o_{id} - \partial \mathrm{lse}_i`
    and :math:`\bar w_{ij} = \sum_d \partial o_{id}\, v_{jd}` (with dropout, times what multiplied the weight)

    .. math:: \partial v_j = \sum_i w_{ij}\, \partial o_i, \qquad
              \partial s_{ij} = w_{ij} (\bar w_{ij} - \delta_i), \qquad
              \partial \mathrm{sink} = -\sum_i e^{\mathrm{sink} - \mathrm{lse}_i}\, \delta_i

    and from :math:`\partial s` by the chain rule through bias, softcap and scale. Dao, "FlashAttention-2" (2023).

    `output` and `lse` are what the forward pass gave; `grad_output` is ``(batch, heads, N, value_dim)`` in the arrays'
    dtype, `grad_lse` real ``(batch, heads, N)`` or None. As in `Backend`, what a query may not attend to does not reach
    it, nor does the query reach it: rows without keys have gradients of zero.
    """

    def __call__(
        self,
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
    ) -> None: ...


class Backend(Protocol):
    """Fills `outputs` from query ``(batch, heads, N, dim)``, key ``(batch, key_heads, M, dim)`` and value
    ``(batch, key_heads, M, value_dim)``.

    Strides are any multiple of the item size (zero and negative ones too) except that the last axis is contiguous;
    data is aligned to the item, in native byte order, possibly read-only. batch, heads, N, M, dim are at least 1;
    value_dim may be 0 (statistics alone). ``heads`` is a multiple of ``key_heads``: query head h reads key head
    ``h // (heads // key_heads)``.

    What a query may not attend to must not reach it, NaN and infinities included: a masked key or value that is NaN
    leaves the row as it would be without it, and NaN in one query stays in its row.
    """

    def __call__(
        self,
        query: NDArray[Any],
        key: NDArray[Any],
        value: NDArray[Any],
        plan: Plan,
        outputs: Outputs,
        *,
        dtype: DType,
    ) -> None: ...
