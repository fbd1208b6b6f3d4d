"""Positions that are added to embeddings: the paper's sinusoids, and learned vectors."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .._typing import Float
from ..errors import ArgumentError

First: TypeAlias = int | Tensor
"""The position of the first column: a number, or one for each row of a batch ``(batch,)``. Below 0 is padding on the
left, which stands at 0 and which nobody reads."""


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
    r"""Adds `sinusoids` to embeddings; has no parameters, and no longest text: the table grows as it is asked to:

    .. math:: y_p = x_p + \mathrm{PE}_p

    Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), section 3.5.

    Args:
        dim: of the embeddings.
        length: of the table to begin with.

    >>> import torch
    >>> SinusoidalPositions(4)(torch.zeros(1, 2, 4))[0, 0]
    tensor([0., 1., 0., 1.])
    """

    def __init__(self, dim: int, length: int = 512) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("table", sinusoids(length, dim), persistent=False)

    table: Tensor

    def compute(self, length: int | None = None) -> None:
        """Compute the table anew, for a length: whoever makes modules without their numbers calls it afterwards."""
        self.table = sinusoids(length or len(self.table), self.dim).to(self.table)

    def forward(self, x: Float[Tensor, "*batch length dim"], first: First = 0) -> Float[Tensor, "*batch length dim"]:
        """x ``(*batch, length, dim)`` with the positions ``first, first + 1, ...`` added."""
        rows, last = _rows(first, x.shape[-2])
        if last > len(self.table):
            self.compute(2 ** math.ceil(math.log2(last)))
        return x + self.table[rows].to(x.dtype)


class LearnedPositions(nn.Module):
    r"""Adds a learned vector for each position, as BERT and GPT-2 do; longer texts than `length` are an error:

    .. math:: y_p = x_p + W_p

    Gehring et al., "Convolutional Sequence to Sequence Learning" (ICML 2017).

    Args:
        dim: of the embeddings.
        length: the longest text.

    >>> import torch
    >>> LearnedPositions(4, length=8)(torch.zeros(1, 2, 4)).shape
    torch.Size([1, 2, 4])
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Float[Tensor, "*batch length dim"], first: First = 0) -> Float[Tensor, "*batch length dim"]:
        """x ``(*batch, length, dim)`` with the positions ``first, first + 1, ...`` added.

        Raises:
            ArgumentError: there are more positions than the table has.
        """
        rows, last = _rows(first, x.shape[-2])
        if last > len(self.weight):
            raise ArgumentError(
                f"x: expected at most {len(self.weight)} positions, got {last}; make LearnedPositions(..., length=) "
                f"longer, or use SinusoidalPositions or Rotary"
            )
        return x + self.weight[rows]


def _rows(first: First, length: int) -> tuple[slice | Tensor, int]:
    """Which rows of a table the positions are, and how many rows that takes."""
    if isinstance(first, int):
        return slice(first, first + length), first + length
    place = (first[:, None] + torch.arange(length, device=first.device)).clamp(min=0)
    return place, int(place.max()) + 1 if place.numel() else 0
