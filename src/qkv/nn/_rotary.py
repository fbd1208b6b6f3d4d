"""Rotary position embedding: queries and keys are turned by their positions, so that a product knows the distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._typing import Float, Int
from ..errors import ArgumentError


class Rotary(nn.Module):
    r"""Turns each pair of numbers of a head by an angle that grows with the position:

    .. math:: (x_a, x_b) \mapsto (x_a \cos p\theta_d - x_b \sin p\theta_d,\; x_b \cos p\theta_d + x_a \sin p\theta_d),
              \qquad \theta_d = \mathrm{base}^{-2d / \mathrm{head\_dim}}

    with the pair (a, b) = (d, d + head_dim/2), as in Hugging Face's Llama. Applied to queries and keys alike,
    :math:`q_i \cdot k_j` depends on the positions through i - j alone. It has no parameters.

    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).

    Args:
        head_dim: even.
        base: larger turns slower, and reaches further.

    Raises:
        ArgumentError: `head_dim` is odd.

    >>> import torch
    >>> x = torch.tensor([[[1.0, 0.0]]])
    >>> Rotary(2)(x, torch.tensor([0]))
    tensor([[[1., 0.]]])
    """

    def __init__(self, head_dim: int, base: float = 10000.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise ArgumentError(f"head_dim: expected an even number, got {head_dim}; rotary turns pairs")
        self.head_dim, self.base = head_dim, base
        self.register_buffer("rate", self._rate(), persistent=False)

    rate: Tensor

    def compute(self) -> None:
        """Compute the rates anew: whoever makes modules without their numbers calls it afterwards."""
        self.rate = self._rate().to(self.rate)

    def _rate(self) -> Tensor:
        return (self.base ** (-torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)).float()

    def forward(
        self, x: Float[Tensor, "*leading length head_dim"], positions: Int[Tensor, " length"]
    ) -> Float[Tensor, "*leading length head_dim"]:
        """Turn x ``(*batch, heads, length, head_dim)`` by its positions ``(length,)``."""
        angle = positions[..., None].float() * self.rate  # in float32: bfloat16 has no digits for far positions
        cos, sin = (torch.cat([turn, turn], -1).to(x.dtype) for turn in (angle.cos(), angle.sin()))
        half = self.head_dim // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def extra_repr(self) -> str:
        return f"{self.head_dim}, base={self.base:g}"
