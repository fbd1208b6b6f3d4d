"""The compiled kernels of attention; see `qkv.attention._backends._native`, which calls them from a plan."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

compiler: str

def attend(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    output: NDArray[Any],
    *,
    dtype: str,
    scale: float,
    softcap: float,
    sink: NDArray[Any] | None,
    start: NDArray[Any],
    stop: NDArray[Any],
    residual: Sequence[tuple[Any, ...]],
    bias: Sequence[tuple[Any, ...]],
    offset: int,
    dropout: float,
    seed: int,
    lse: NDArray[Any] | None,
    entropy: NDArray[Any] | None,
    max_score: NDArray[Any] | None,
    distance: NDArray[Any] | None,
    top_indices: NDArray[Any] | None,
    top_weights: NDArray[Any] | None,
    received: NDArray[Any] | None,
    block_map: NDArray[Any] | None,
    block_rows: int,
    block_columns: int,
    threads: int,
    compute: bool = True,
) -> dict[str, Any] | None: ...
def backward(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    output: NDArray[Any],
    lse: NDArray[Any],
    grad_output: NDArray[Any],
    grad_lse: NDArray[Any] | None,
    *,
    dtype: str,
    scale: float,
    softcap: float,
    sink: NDArray[Any] | None,
    start: NDArray[Any],
    stop: NDArray[Any],
    residual: Sequence[tuple[Any, ...]],
    bias: Sequence[tuple[Any, ...]],
    offset: int,
    dropout: float,
    seed: int,
    grad_query: NDArray[Any],
    grad_key: NDArray[Any],
    grad_value: NDArray[Any],
    grad_bias: Sequence[NDArray[Any] | None],
    grad_sink: NDArray[Any] | None,
    threads: int,
) -> None: ...
def multiply_most(dtype: str, rounds: int) -> float: ...
def isa() -> str: ...
def isas() -> list[str]: ...
