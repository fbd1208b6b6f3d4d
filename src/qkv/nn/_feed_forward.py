"""The part of a layer that treats every position alike."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn import functional

from .._typing import Float
from ..errors import ArgumentError

Activation: TypeAlias = Literal["relu", "gelu", "swiglu"]


class FeedForward(nn.Module):
    r"""Two linear maps with something bent between them, the same at every position:

    .. math:: \mathrm{FFN}(x) = W_2\, \phi(W_1 x + b_1) + b_2
              \qquad \text{or, swiglu: } W_2 (\mathrm{silu}(W_g x) \odot W_1 x)

    relu is the paper's (Vaswani et al., 2017, section 3.3), gelu BERT's and GPT's (Hendrycks and Gimpel, 2016), swiglu
    Llama's (Shazeer, "GLU Variants Improve Transformer", 2020), which has no biases there.

    Args:
        dim: of x and of the result.
        hidden: between the two; None is 4 dim, and 8/3 dim for swiglu, whose third matrix makes up for it.
        activation: ``"relu"``, ``"gelu"`` or ``"swiglu"``.
        bias: whether the maps have one.
        dropout: between the two, while training.

    Raises:
        ArgumentError: the activation is another.

    >>> import torch
    >>> FeedForward(8)(torch.zeros(2, 3, 8)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        dim: int,
        hidden: int | None = None,
        *,
        activation: Activation = "relu",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if activation not in ("relu", "gelu", "swiglu"):
            raise ArgumentError(f'activation: expected "relu", "gelu" or "swiglu", got {activation!r}')
        self.activation = activation
        hidden = hidden or (8 * dim // 3 if activation == "swiglu" else 4 * dim)
        self.up = nn.Linear(dim, hidden, bias)
        self.gate = nn.Linear(dim, hidden, bias) if activation == "swiglu" else None
        self.down = nn.Linear(hidden, dim, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """x ``(*batch, dim)``, each position for itself."""
        hidden = activated(self.activation, self.up(x), None if self.gate is None else self.gate(x))
        result: Tensor = self.down(self.dropout(hidden))
        return result

    def extra_repr(self) -> str:
        return self.activation


def activated(
    activation: Activation, hidden: Float[Tensor, "*batch hidden"], gate: Float[Tensor, "*batch hidden"] | None
) -> Float[Tensor, "*batch hidden"]:
    """What stands between the two maps; swiglu has a gate."""
    if gate is not None:
        return functional.silu(gate) * hidden
    return functional.relu(hidden) if activation == "relu" else functional.gelu(hidden)
