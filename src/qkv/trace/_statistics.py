"""Statistics that were kept when the model ran, in the form in which `qkv.observe` gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..errors import TraceError

if TYPE_CHECKING:
    from ._attention import Attention


@dataclass(frozen=True, eq=False)
class KeptTopK:
    """The k largest weights of each query: both ``(H, N, k)``, descending."""

    indices: NDArray[Any]
    weights: NDArray[Any]


@dataclass(frozen=True, eq=False)
class KeptStatistics:
    """Like the result of `qkv.observe`; ``output`` is always None, because no values were kept."""

    lse: NDArray[Any]
    output: None = None
    entropy: NDArray[Any] | None = None
    max_score: NDArray[Any] | None = None
    received: NDArray[Any] | None = None
    distance: NDArray[Any] | None = None
    block_map: NDArray[Any] | None = None
    top_k: KeptTopK | None = None


def kept_statistics(record: Attention, heads: Sequence[int], **wanted: Any) -> KeptStatistics:
    """Those of the kept statistics that are wanted, for some of the heads (positions on the head axis)."""
    rows = list(heads)
    found: dict[str, Any] = {}
    for name, choice in wanted.items():
        if not choice:
            continue
        if name not in record.statistics:
            raise TraceError(
                f"{name} was not kept: this trace holds statistics only "
                f'({", ".join(("lse", *record.statistics))}). Capture again with keep="qkv" to compute any other.'
            )
        if name == "top_k":
            indices, weights = record.tensors["top_k_indices"], record.tensors["top_k_weights"]
            if choice > indices.shape[-1]:
                raise TraceError(
                    f"top_k: this trace keeps the {indices.shape[-1]} largest weights of a query, {choice} were asked "
                    'for. Capture again with keep="qkv".'
                )
            if indices.size and not -1 <= indices.min() <= indices.max() < record.keys:
                raise TraceError(
                    f"top_k_indices of layer {record.layer} points outside its {record.keys} keys: the trace was "
                    "tampered with; capture again"
                )
            found[name] = KeptTopK(indices[rows, :, :choice], weights[rows, :, :choice])
        else:
            found[name] = record.tensors[name][rows]
    return KeptStatistics(lse=record.lse[rows], **found)
