"""The encoder: every position reads every other, layer after layer."""

from __future__ import annotations

from torch import Tensor, nn

from .._typing import Bool, Float
from ..attention import Bias, Mask
from ._feed_forward import Activation, FeedForward
from ._from_torch import LAYER, rename_layer, rename_when_loading
from ._multi_head_attention import MultiHeadAttention
from ._norms import NormName, NormPlace, Residual, norm_of
from ._rotary import Rotary


class EncoderLayer(nn.Module):
    r"""Self-attention, then a feed-forward part, each within a residual connection and a norm:

    .. math:: y = \mathrm{norm}(x + \mathrm{MultiHead}(x, x)), \qquad z = \mathrm{norm}(y + \mathrm{FFN}(y))

    or, with ``norm_place="before"``, x + f(norm(x)) for each part f, see `Residual`.

    The left half of figure 1 of Vaswani et al., "Attention Is All You Need" (NeurIPS 2017). The state dict of a
    `torch.nn.TransformerEncoderLayer` of the same sizes loads as it is.

    Args:
        dim, heads: of `MultiHeadAttention`; their ``d_model`` and ``nhead``.
        hidden, activation: of `FeedForward`; their ``dim_feedforward``.
        norm, norm_place: of `Residual`; their ``norm_first`` is ``norm_place="before"``.
        dropout: of weights, of the hidden part and of both results, while training.
        key_heads, bias, rotary: of `MultiHeadAttention`.

    Raises:
        ArgumentError: heads do not divide dim, or key_heads heads; a name is not known. The message names it.

    >>> import torch
    >>> EncoderLayer(16, heads=4)(torch.randn(2, 5, 16)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int | None = None,
        *,
        activation: Activation = "relu",
        norm: NormName = "layer",
        norm_place: NormPlace = "after",
        dropout: float = 0.1,
        key_heads: int | None = None,
        bias: bool = True,
        rotary: Rotary | None = None,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads, key_heads=key_heads, bias=bias, dropout=dropout, rotary=rotary)
        self.feed_forward = FeedForward(dim, hidden, activation=activation, bias=bias, dropout=dropout)
        self.around_attention = Residual(dim, norm, norm_place, dropout)
        self.around_feed_forward = Residual(dim, norm, norm_place, dropout)
        rename_when_loading(self, rename_layer(LAYER))

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        mask: Mask | Bool[Tensor, ...] | None = None,
        bias: Bias | Float[Tensor, ...] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """x ``(batch, length, dim)`` after it has read itself; mask and bias as in `qkv.attend`.

        Raises:
            ArgumentError: mask or bias do not fit x; the message names it.
        """
        x = self.around_attention(x, lambda inner: self.attention(inner, mask=mask, bias=bias))
        result: Tensor = self.around_feed_forward(x, self.feed_forward)
        return result


class Encoder(nn.Module):
    r"""A stack of `EncoderLayer` s; with norms before the parts, one more norm at the end:

    .. math:: x_l = \mathrm{layer}_l(x_{l-1}), \quad l = 1, \ldots, L, \qquad
              \mathrm{Encoder}(x_0) = x_L \;\text{ or }\; \mathrm{norm}(x_L)

    The state dict of a `torch.nn.TransformerEncoder` of the same sizes loads as it is.

    Args:
        layers: how many; the rest are those of `EncoderLayer`.
        final_norm: None is as the place of the norms asks for.

    Raises:
        ArgumentError: as `EncoderLayer`.

    >>> import torch
    >>> import qkv
    >>> encoder = Encoder(2, dim=16, heads=4)
    >>> encoder(torch.randn(2, 5, 16), mask=qkv.Padding([5, 3])).shape
    torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        layers: int,
        dim: int,
        heads: int,
        hidden: int | None = None,
        *,
        activation: Activation = "relu",
        norm: NormName = "layer",
        norm_place: NormPlace = "after",
        final_norm: bool | None = None,
        dropout: float = 0.1,
        key_heads: int | None = None,
        bias: bool = True,
        rotary: Rotary | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(
                dim,
                heads,
                hidden,
                activation=activation,
                norm=norm,
                norm_place=norm_place,
                dropout=dropout,
                key_heads=key_heads,
                bias=bias,
                rotary=rotary,
            )
            for _ in range(layers)
        )
        ends = norm_place == "before" if final_norm is None else final_norm
        self.norm = norm_of(norm, dim) if ends else None

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        mask: Mask | Bool[Tensor, ...] | None = None,
        bias: Bias | Float[Tensor, ...] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """x ``(batch, length, dim)`` through every layer; mask and bias, as in `qkv.attend`, in each.

        Raises:
            ArgumentError: mask or bias do not fit x; the message names it.
        """
        for layer in self.layers:
            x = layer(x, mask=mask, bias=bias)
        result: Tensor = x if self.norm is None else self.norm(x)
        return result
