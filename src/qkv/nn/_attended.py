"""The one place where a layer of ours attends: by the kernel, seen by whoever looks on."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from .._typing import Bool, Float
from ..adapters._call import AttentionCall
from ..adapters._listening import computed, listeners
from ..adapters._runs import Runs
from ..attention import ArrayMask, Bias, Causal, Mask, Observation, attend, observe
from ..attention._biases import as_bias
from ..attention._bounds import Bounds
from ..attention._compiling import left_to_python
from ..attention._mask import _Pair, as_mask
from ..attention._scores import ScoreShape


@left_to_python
def attended(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    mask: Mask | Bool[Tensor, ...] | None,
    bias: Bias | Float[Tensor, ...] | None,
    dropout: float,
    kind: Literal["self", "cross"],
    cached: bool,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """`qkv.attend`, to the same bits whether or not a capture is running; on a GPU, PyTorch's exact attention.

    What dropout drops is drawn from torch's generator: the same again behind the same ``torch.manual_seed``.
    """
    if listeners():
        return computed(_LayerCall.of(query, key, value, mask, bias, dropout, kind, cached))[0]
    if query.device.type != "cpu":
        return _elsewhere(query, key, value, mask, bias, dropout)
    output: Tensor = attend(query, key, value, mask=mask, bias=bias, dropout=dropout, seed=_seed(dropout))
    return output


def _seed(dropout: float) -> int | None:
    return int(torch.randint(2**63 - 1, ())) if dropout else None


class _LayerCall(AttentionCall):
    """A call that knows its mask and bias as the layer said them, and so computes what the layer would."""

    arguments: dict[str, Any]

    @classmethod
    def of(
        cls,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask | Tensor | None,
        bias: Bias | Tensor | None,
        dropout: float,
        kind: Literal["self", "cross"],
        cached: bool,
    ) -> _LayerCall:
        """What `attended` is asked, for those who look on."""
        batch, heads, queries, _ = query.shape
        shape = ScoreShape((batch,), heads, queries, key.shape[2])
        said = None if mask is None else as_mask(mask)
        bounds = Bounds.everything(queries, shape.keys) if said is None else said._bounds(shape)
        call = cls(
            query,
            key,
            value,
            scale=query.shape[-1] ** -0.5,
            runs=None if said is None else Runs(bounds.start, bounds.stop),
            allowed=torch.from_numpy(_four_axes(said._matrix(shape))) if said is not None and bounds.program else None,
            bias=None
            if bias is None
            else torch.from_numpy(_four_axes(as_bias(bias)._matrix(shape))).to(query.device, torch.float32),
            dropout=dropout,
            kind=kind,
            cached=cached,
            decodes=_is_causal(said),
        )
        call.arguments = {"mask": mask, "bias": bias}
        return call

    def observe(self, **statistics: Any) -> Observation:
        """As the layer computes it; statistics say nothing of dropout."""
        if self.query.device.type != "cpu":
            return super().observe(**statistics)
        seen = observe(self.query, self.key, self.value, **self.arguments, **statistics)
        if self.dropout:
            drops: dict[str, Any] = {"dropout": self.dropout, "seed": _seed(self.dropout)}
            seen.output = attend(self.query, self.key, self.value, **self.arguments, **drops)
        return seen


def _is_causal(mask: Mask | None) -> bool | None:
    """Whether no query reads what comes after it: by what the mask is made of; None where an array hides it."""
    if isinstance(mask, Causal):
        return True
    if isinstance(mask, _Pair):
        parts = _is_causal(mask.left), _is_causal(mask.right)
        return True if True in parts else None if None in parts else False
    return None if isinstance(mask, ArrayMask) else False


def _four_axes(dense: Any) -> Any:
    return dense[(None,) * (4 - dense.ndim)].copy()


def _elsewhere(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask | Tensor | None, bias: Bias | Tensor | None, dropout: float
) -> Tensor:
    """By PyTorch, with mask and bias as one array; a row that may attend to nothing is 0, as everywhere else."""
    shape = ScoreShape((query.shape[0],), query.shape[1], query.shape[2], key.shape[2])
    allowed = added = None
    if isinstance(mask, Tensor):
        allowed = mask
    elif mask is not None:
        allowed = torch.from_numpy(_four_axes(mask._matrix(shape))).to(query.device)
    if isinstance(bias, Tensor):
        added = bias
    elif bias is not None:
        added = torch.from_numpy(_four_axes(bias._matrix(shape))).to(query.device, query.dtype)
    whole = allowed
    if added is not None:
        whole = added if allowed is None else added.masked_fill(~allowed, -torch.inf)
    grouped = query.shape[1] != key.shape[1]
    output = functional.scaled_dot_product_attention(query, key, value, whole, dropout, enable_gqa=grouped)
    if allowed is None:
        return output
    return output.masked_fill(~allowed.any(-1, keepdim=True), 0.0)
