"""The decoder: every position reads those before it, and all of a source."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from .._typing import Bool, Float, Int
from ..attention import Bias, Causal, Mask
from ..errors import ArgumentError
from ._cache import KeyValueCache
from ._feed_forward import Activation, FeedForward
from ._from_torch import LAYER, LAYER_WITH_SOURCE, rename_layer, rename_when_loading
from ._multi_head_attention import Extends, KeysValues, MultiHeadAttention
from ._norms import NormName, NormPlace, Residual, norm_of
from ._rotary import Rotary


@dataclass
class LayerCache:
    """What one decoder layer keeps between steps: its own keys and values, and those of the source."""

    own: Extends = field(default_factory=KeyValueCache)
    source: KeysValues | None = None

    def reorder(self, rows: Int[Tensor, " batch"]) -> None:
        """Continue with these rows of the batch, as beam search asks after each step."""
        self.own.reorder(rows)
        if self.source is not None:
            self.source = KeysValues(self.source.key[rows], self.source.value[rows])


class DecoderLayer(nn.Module):
    r"""Causal self-attention, cross-attention, then a feed-forward part, each within a residual connection and a norm:

    .. math:: a &= \mathrm{norm}(x + \mathrm{MultiHead}_{j \le i}(x, x)) \\
              b &= \mathrm{norm}(a + \mathrm{MultiHead}(a, s)) \\
              z &= \mathrm{norm}(b + \mathrm{FFN}(b))

    with the source s, or, with ``norm_place="before"``, x + f(norm(x)) for each part f, see `Residual`.

    The right half of figure 1 of Vaswani et al., "Attention Is All You Need" (NeurIPS 2017); without a source, a layer
    of a language model. The state dict of a `torch.nn.TransformerDecoderLayer` of the same sizes loads as it is.

    Args:
        cross: whether there is a source to read.
        source_dim: of the source, None is dim; the rest are those of `EncoderLayer`.

    Raises:
        ArgumentError: as `EncoderLayer`.

    >>> import torch
    >>> layer = DecoderLayer(16, heads=4)
    >>> layer(torch.randn(2, 5, 16), torch.randn(2, 7, 16)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int | None = None,
        *,
        cross: bool = True,
        source_dim: int | None = None,
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
        self.around_attention = Residual(dim, norm, norm_place, dropout)
        self.cross_attention = (
            MultiHeadAttention(dim, heads, key_heads=key_heads, source_dim=source_dim, bias=bias, dropout=dropout)
            if cross
            else None
        )
        self.around_cross_attention = Residual(dim, norm, norm_place, dropout) if cross else None
        self.feed_forward = FeedForward(dim, hidden, activation=activation, bias=bias, dropout=dropout)
        self.around_feed_forward = Residual(dim, norm, norm_place, dropout)
        rename_when_loading(self, rename_layer(LAYER_WITH_SOURCE if cross else LAYER))

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        source: Float[Tensor, "batch source source_dim"] | None = None,
        *,
        mask: Mask | Bool[Tensor, ...] | None = None,
        bias: Bias | Float[Tensor, ...] | None = None,
        source_mask: Mask | Bool[Tensor, ...] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """x ``(batch, length, dim)`` after it has read what came before it, and the source.

        Args:
            source: ``(batch, source length, source_dim)``; with a cache, it may be left out after the first step.
            mask, bias: of self-attention, beside causality, which is always there.
            source_mask: of cross-attention: the source's padding.
            cache: of earlier positions; x then holds only those that are new.

        Raises:
            ArgumentError: there is no source, given now or kept by the cache, though the layer reads one; or mask or
                bias do not fit. The message names it.
        """
        causal = Causal() if mask is None else Causal() & mask
        own = None if cache is None else cache.own
        x = self.around_attention(x, lambda inner: self.attention(inner, mask=causal, bias=bias, cache=own))
        if self.cross_attention is not None and self.around_cross_attention is not None:
            read = self._source(self.cross_attention, source, cache)
            cross = self.cross_attention
            x = self.around_cross_attention(x, lambda inner: cross(inner, read, mask=source_mask))
        result: Tensor = self.around_feed_forward(x, self.feed_forward)
        return result

    def _source(self, cross: MultiHeadAttention, source: Tensor | None, cache: LayerCache | None) -> KeysValues:
        """The source's keys and values; with a cache, computed at the first step alone."""
        if cache is not None and cache.source is not None:
            return cache.source
        if source is None:
            raise ArgumentError(
                "source: expected what the decoder reads, got None; make it with cross=False to have none"
            )
        read = cross.read(source)
        if cache is not None:
            cache.source = read
        return read


class Decoder(nn.Module):
    r"""A stack of `DecoderLayer` s; with norms before the parts, one more norm at the end:

    .. math:: x_l = \mathrm{layer}_l(x_{l-1}, s), \quad l = 1, \ldots, L, \qquad
              \mathrm{Decoder}(x_0, s) = x_L \;\text{ or }\; \mathrm{norm}(x_L)

    The state dict of a `torch.nn.TransformerDecoder` of the same sizes loads as it is. Step by step, with a list of
    `LayerCache` s, it gives what it gives at once, within rounding.

    Args:
        layers: how many; the rest are those of `DecoderLayer`.
        final_norm: None is as the place of the norms asks for.

    Raises:
        ArgumentError: as `EncoderLayer`.

    >>> import torch
    >>> decoder = Decoder(2, dim=16, heads=4)
    >>> decoder(torch.randn(2, 5, 16), torch.randn(2, 7, 16)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        layers: int,
        dim: int,
        heads: int,
        hidden: int | None = None,
        *,
        cross: bool = True,
        source_dim: int | None = None,
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
            DecoderLayer(
                dim,
                heads,
                hidden,
                cross=cross,
                source_dim=source_dim,
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

    def new_cache(self) -> list[LayerCache]:
        """An empty cache for each layer."""
        return [LayerCache() for _ in self.layers]

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        source: Float[Tensor, "batch source source_dim"] | None = None,
        *,
        mask: Mask | Bool[Tensor, ...] | None = None,
        bias: Bias | Float[Tensor, ...] | None = None,
        source_mask: Mask | Bool[Tensor, ...] | None = None,
        cache: list[LayerCache] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """x ``(batch, length, dim)`` through every layer; arguments and errors are those of `DecoderLayer`.

        Args:
            cache: of `new_cache`, one for each layer.
        """
        caches = [None] * len(self.layers) if cache is None else cache
        for layer, held in zip(self.layers, caches, strict=True):
            x = layer(x, source, mask=mask, bias=bias, source_mask=source_mask, cache=held)
        result: Tensor = x if self.norm is None else self.norm(x)
        return result
