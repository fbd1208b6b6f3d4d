"""Normalisation, and where it stands beside the residual connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from .._typing import Float
from ..errors import ArgumentError

NormName: TypeAlias = Literal["layer", "rms"]
NormPlace: TypeAlias = Literal["before", "after"]


class RMSNorm(nn.Module):
    r"""Divides by the root mean square; no mean is taken away, and there is no bias:

    .. math:: y = \frac{x}{\sqrt{\mathrm{mean}(x^2) + \epsilon}} \odot g

    The mean is taken in float32. Zhang and Sennrich, "Root Mean Square Layer Normalization" (NeurIPS 2019).

    Args:
        dim: of x.
        eps: keeps a vector of zeros from being divided by 0.

    >>> import torch
    >>> RMSNorm(2)(torch.tensor([3.0, 3.0])).detach().round(decimals=3)
    tensor([1., 1.])
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """x ``(*batch, dim)``, each vector for itself."""
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(x.dtype) * self.weight


def norm_of(name: NormName, dim: int) -> nn.Module:
    """``"layer"``: Ba et al., "Layer Normalization" (2016), as torch has it; ``"rms"``: `RMSNorm`."""
    if name not in ("layer", "rms"):
        raise ArgumentError(f'norm: expected "layer" or "rms", got {name!r}')
    return nn.LayerNorm(dim) if name == "layer" else RMSNorm(dim)


class Residual(nn.Module):
    r"""A residual connection around a part of a layer, with its norm before the part or after the sum:

    .. math:: \text{after: } \mathrm{norm}(x + f(x)) \qquad\qquad \text{before: } x + f(\mathrm{norm}(x))

    "after" is the paper's; "before" trains without a warm-up and is what most models since GPT-2 do, with one more norm
    at the end of the stack. Xiong et al., "On Layer Normalization in the Transformer Architecture" (ICML 2020).

    Args:
        dim: of x.
        norm: ``"layer"`` or ``"rms"``.
        place: ``"after"`` or ``"before"``.
        dropout: of f's result, while training.

    Raises:
        ArgumentError: norm or place are another.

    >>> import torch
    >>> x = torch.tensor([[3.0, 1.0]])
    >>> Residual(2)(x, lambda x: x * 2)  # norm([9, 3])
    tensor([[ 1.0000, -1.0000]], grad_fn=<NativeLayerNormBackward0>)
    """

    def __init__(self, dim: int, norm: NormName = "layer", place: NormPlace = "after", dropout: float = 0.0) -> None:
        super().__init__()
        if place not in ("before", "after"):
            raise ArgumentError(f'place (norm_place of a layer): expected "before" or "after", got {place!r}')
        self.place = place
        self.norm = norm_of(norm, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*batch dim"], part: Callable[[Tensor], Tensor]) -> Float[Tensor, "*batch dim"]:
        """x and `part` of it, joined."""
        if self.place == "before":
            joined: Tensor = x + self.dropout(part(self.norm(x)))
        else:
            joined = self.norm(x + self.dropout(part(x)))
        return joined

    def extra_repr(self) -> str:
        return f"norm {self.place}"
