"""The Transformer: an encoder, and a decoder that reads it."""

from __future__ import annotations

from torch import Tensor, nn

from .._typing import Bool, Float
from ..attention import Mask
from ._decoder import Decoder, LayerCache
from ._encoder import Encoder
from ._feed_forward import Activation
from ._norms import NormName, NormPlace


class Transformer(nn.Module):
    r"""Figure 1 of Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), between the embeddings and the softmax:

    .. math:: \mathrm{Transformer}(x, y) = \mathrm{Decoder}(y, \mathrm{Encoder}(x))

    The state dict of a `torch.nn.Transformer` of the same sizes loads as it is (made with ``final_norm=True``, for
    PyTorch's always ends in norms).

    Args:
        dim, heads, hidden: of every layer.
        encoder_layers, decoder_layers: how many.
        activation, norm, norm_place, final_norm, dropout, key_heads, bias: as in `Encoder`.

    Raises:
        ArgumentError: as `EncoderLayer`.

    >>> import torch
    >>> import qkv
    >>> model = Transformer(dim=16, heads=4, encoder_layers=2, decoder_layers=2)
    >>> source, target = torch.randn(2, 7, 16), torch.randn(2, 5, 16)
    >>> model(source, target, source_mask=qkv.Padding([7, 4])).shape
    torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        dim: int = 512,
        heads: int = 8,
        hidden: int | None = None,
        *,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        activation: Activation = "relu",
        norm: NormName = "layer",
        norm_place: NormPlace = "after",
        final_norm: bool | None = None,
        dropout: float = 0.1,
        key_heads: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            encoder_layers,
            dim,
            heads,
            hidden,
            activation=activation,
            norm=norm,
            norm_place=norm_place,
            final_norm=final_norm,
            dropout=dropout,
            key_heads=key_heads,
            bias=bias,
        )
        self.decoder = Decoder(
            decoder_layers,
            dim,
            heads,
            hidden,
            activation=activation,
            norm=norm,
            norm_place=norm_place,
            final_norm=final_norm,
            dropout=dropout,
            key_heads=key_heads,
            bias=bias,
        )

    def forward(
        self,
        source: Float[Tensor, "batch source dim"],
        target: Float[Tensor, "batch target dim"],
        *,
        source_mask: Mask | Bool[Tensor, ...] | None = None,
        target_mask: Mask | Bool[Tensor, ...] | None = None,
        cache: list[LayerCache] | None = None,
    ) -> Float[Tensor, "batch target dim"]:
        """What the decoder makes of target ``(batch, N, dim)``, having read source ``(batch, M, dim)``.

        Args:
            source_mask: the source's padding: of the encoder's self-attention and of cross-attention.
            target_mask: beside causality, which is always there.
            cache: of `Decoder.new_cache`, to go on where an earlier call stopped. The encoder runs in every call: for
                steps, call `encoder` once and then `decoder`.

        Raises:
            ArgumentError: a mask does not fit; the message names it.
        """
        memory = self.encoder(source, mask=source_mask)
        result: Tensor = self.decoder(target, memory, mask=target_mask, source_mask=source_mask, cache=cache)
        return result
