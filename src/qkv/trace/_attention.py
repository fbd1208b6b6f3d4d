"""One attention of one layer, as it ran over one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..attention import observe, weights
from ..errors import ArgumentError, TraceError
from ._statistics import kept_statistics
from ._structure import BiasStructure, MaskStructure
from ._tensors import Tensors
from ._text import SideName

STATISTICS = ("entropy", "max_score", "received", "distance", "block_map")
"""Statistics that are one array each; `top_k` is two."""


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """What one attention layer did: its queries, keys and values, and enough to recompute any weight exactly.

    With ``score_ij = softcap(scale * query_i . key_j) + bias_ij`` over the keys that the mask allows::

        weight_ij = exp(score_ij - lse_i)

    Arrays are NumPy arrays in the dtype that they were stored in (bfloat16 is widened to float32, which is exact), read
    from disk when first touched. H captured heads, G key heads, N queries, M keys; query heads share a key head in
    equal groups.

    Attributes:
        path: the module in the model, "encoder.layer.3.attention.self".
        kind: "self", or "cross" where a decoder reads an encoder.
        part: "encoder" or "decoder": the part of the model that it belongs to. A causal model is a decoder.
        layer: index of the layer in its stack.
        heads: the captured query heads, by their index in the model.
        head_count: query heads of the layer, captured or not.
        scale: factor of the dot products.
        softcap: c of ``c * tanh(score / c)``, or None.
        query_side, key_side: which text the queries and the keys stand for.
        sequence: index of the text in `Trace.sequences`.
    """

    path: str
    kind: Literal["self", "cross"]
    part: Literal["encoder", "decoder"]
    layer: int
    heads: tuple[int, ...]
    head_count: int
    scale: float
    softcap: float | None
    query_side: SideName
    key_side: SideName
    tensors: Tensors
    mask_structure: MaskStructure = field(default_factory=MaskStructure)
    bias_structure: BiasStructure = field(default_factory=BiasStructure)
    sequence: int = 0

    @property
    def stack(self) -> Literal["encoder", "decoder", "cross"]:
        """The run of layers of one kind that it belongs to."""
        return "cross" if self.kind == "cross" else self.part

    @property
    def causal(self) -> bool:
        """No query reads a key after its own position."""
        return self.mask_structure.causal

    @property
    def query(self) -> NDArray[Any]:
        """``(H, N, head_dim)``, after rotary embedding."""
        return self._tensor("query")

    @property
    def key(self) -> NDArray[Any]:
        """``(G, M, head_dim)``, after rotary embedding."""
        return self._tensor("key")

    @property
    def value(self) -> NDArray[Any]:
        """``(G, M, value_dim)``"""
        return self._tensor("value")

    @property
    def lse(self) -> NDArray[Any]:
        """``(H, N)``: natural logarithm of the sum of exp(score) over the keys that may be read, and the sink."""
        return self._tensor("lse")

    @property
    def sink(self) -> NDArray[Any] | None:
        """``(H,)``: a logit per head that joins the denominator only, or None."""
        return self.tensors.get("sink")

    @property
    def mask(self) -> Any:
        """A mask for `qkv.attend` over ``(H, N, M)``, or None where every key may be read."""
        return self.mask_structure.build()

    @property
    def bias(self) -> Any:
        """A bias for `qkv.attend` over ``(H, N, M)``, or None."""
        return self.bias_structure.build(len(self.heads))

    @property
    def queries(self) -> int:
        """N"""
        return self.tensors.shape("lse")[1]

    @property
    def keys(self) -> int:
        """M"""
        return self.tensors.shape("key" if "key" in self.tensors else "received")[1]

    @property
    def key_heads(self) -> int:
        """G: key heads that are kept; the captured query heads share them in equal groups."""
        return self.tensors.shape("key")[0] if "key" in self.tensors else len(self.heads)

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of the statistics that were kept, beside `lse`."""
        kept = [name for name in STATISTICS if name in self.tensors]
        return (*kept, "top_k") if "top_k_indices" in self.tensors else tuple(kept)

    def position(self, head: int) -> int:
        """Where a head of the model stands on the head axis of the arrays."""
        if head in self.heads:
            return self.heads.index(head)
        if 0 <= head < self.head_count:
            raise TraceError(
                f"head {head} of layer {self.layer} was not captured: the trace holds heads {_listed(self.heads)}. "
                "Capture again with heads=None for all of them."
            )
        raise ArgumentError(
            f"head: expected an index below {self.head_count} (layer {self.layer} has so many heads), got {head}"
        )

    def weights(self, head: int | None = None, rows: Any = None, columns: Any = None) -> NDArray[Any]:
        """Exact attention weights, any window of them: computed from queries and keys in float64.

        Arguments:
            head: index of the head in the model; None for all captured heads.
            rows: queries, as in `qkv.weights`; None for all.
            columns: keys, as in `qkv.weights`; None for all.

        Returns:
            ``(rows, columns)`` for one head, else ``(H, rows, columns)``; float32 (float64 where float64 was stored).

        Raises:
            TraceError: the trace keeps statistics only, or not this head.
            ArgumentError: the layer has no such head.
        """
        heads = [self.position(head)] if head is not None else list(range(len(self.heads)))
        query, key, _, rest = self._selected(heads)
        dtype = np.float64 if query.dtype == np.float64 else np.float32
        # In float64, and normalised by the very same scores: the kept lse is rounded to float32, and where scores are
        # large that alone costs more (1e-5 at 40) than all the rounding of the model's own softmax.
        if rest["sink"] is not None:
            rest["sink"] = rest["sink"].astype(np.float64)
        exact = weights(query.astype(np.float64), key.astype(np.float64), rows=rows, columns=columns, **rest)
        found: NDArray[Any] = exact.astype(dtype, copy=False)
        return found[0] if head is not None else found

    def observe(self, head: int | None = None, **statistics: Any) -> Any:
        """The statistics of `qkv.observe`, computed from what was captured.

        Arguments:
            head: index of the head in the model; None for all captured heads.
            statistics: what to observe, as in `qkv.observe`: ``entropy``, ``max_score``, ``top_k``, ``received``,
                ``block_map``, ``distance``.

        Returns:
            What `qkv.observe` returns; the head axis stays, with one entry for one head. A trace that keeps statistics
            only gives the kept ones, and no output.

        Raises:
            TraceError: the trace keeps statistics only, and not this one or not this head.
            ArgumentError: the layer has no such head.
        """
        heads = [self.position(head)] if head is not None else list(range(len(self.heads)))
        if "query" not in self.tensors:
            return kept_statistics(self, heads, **statistics)
        query, key, value, rest = self._selected(heads)
        return observe(query, key, value, **rest, **statistics)

    def _selected(self, heads: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Query, key, value and the other arguments of `qkv.attend` for some of the heads."""
        self._need("query")
        group = len(self.heads) // self.key_heads
        everything = len(heads) == len(self.heads)
        shared = list(range(self.key_heads)) if everything else [head // group for head in heads]
        query = self.tensors.select("query", heads)
        key, value = self.tensors.select("key", shared), self.tensors.select("value", shared)
        sink = self.sink
        return (
            query,
            key,
            value,
            {
                "mask": self.mask_structure.select(heads).build(),
                "bias": self.bias_structure.select(heads).build(len(heads)),
                "scale": self.scale,
                "softcap": self.softcap,
                "sink": None if sink is None else sink[list(heads)],
            },
        )

    def _need(self, name: str) -> None:
        if name not in self.tensors:
            kept = ", ".join(("lse", *self.statistics))
            raise TraceError(
                f"layer {self.layer} ({self.path}) has no {name}: this trace keeps statistics only ({kept}). "
                'Capture again with keep="qkv".'
            )

    def _tensor(self, name: str) -> NDArray[Any]:
        self._need(name)
        return self.tensors[name]

    def __repr__(self) -> str:
        shown = f"{len(self.heads)} heads" if len(self.heads) == self.head_count else f"heads {_listed(self.heads)}"
        return f"<Attention {self.stack} layer {self.layer}: {shown}, {self.queries} queries x {self.keys} keys>"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
