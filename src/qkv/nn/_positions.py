"""Positions that are added to embeddings: the paper's sinusoids, and learned vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .._typing import Float
from ..errors import ArgumentError


def sinusoids(length: int, dim: int) -> Float[Tensor, "length dim"]:
    r"""The paper's fixed positions, float32 ``(length, dim)``:

    .. math:: \mathrm{PE}_{p, 2i} = \sin(p / 10000^{2i / d}), \qquad \mathrm{PE}_{p, 2i+1} = \cos(p / 10000^{2i / d})

    Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), section 3.5.

    >>> sinusoids(2, 4)[0]
    tensor([0., 1., 0., 1.])
    """
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(10000.0) / dim))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
    table = torch.empty(length, dim, dtype=torch.float64)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()[:, : dim // 2]
    return table.float()


class SinusoidalPositions(nn.Module):
    """Adds `sinusoids` to embeddings; has no parameters, and no longest text: the table grows as it is asked to.

    >>> import torch
    >>> SinusoidalPositions(4)(torch.zeros(1, 2, 4))[0, 0]
    tensor([0., 1., 0., 1.])
    """

    def __init__(self, dim: int, length: int = 512) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("table", sinusoids(length, dim), persistent=False)

    table: Tensor

    def forward(self, x: Float[Tensor, "*batch length dim"], first: int = 0) -> Float[Tensor, "*batch length dim"]:
        """x ``(*batch, length, dim)`` with the positions ``first, first + 1, ...`` added."""
        last = first + x.shape[-2]
        if last > len(self.table):
            self.table = sinusoids(2 ** math.ceil(math.log2(last)), self.dim).to(self.table)
        return x + self.table[first:last].to(x.dtype)


class LearnedPositions(nn.Module):
    """Adds a learned vector for each position, as BERT and GPT-2 do; longer texts than `length` are an error.

    Gehring et al., "Convolutional Sequence to Sequence Learning" (ICML 2017).

    >>> import torch
    >>> LearnedPositions(4, length=8)(torch.zeros(1, 2, 4)).shape
    torch.Size([1, 2, 4])
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Float[Tensor, "*batch length dim"], first: int = 0) -> Float[Tensor, "*batch length dim"]:
        """x ``(*batch, length, dim)`` with the positions ``first, first + 1, ...`` added."""
        last = first + x.shape[-2]
        if last > len(self.weight):
            raise ArgumentError(
                f"x: expected at most {len(self.weight)} positions, got {last}; make LearnedPositions(..., length=) "
                f"longer, or use SinusoidalPositions or Rotary"
            )
        return x + self.weight[first:last]
