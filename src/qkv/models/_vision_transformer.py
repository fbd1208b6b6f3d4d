"""A vision transformer: an encoder that reads an image as a text of patches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import ImageClassifierOutput

from .._typing import Float, Int
from ..errors import ArgumentError
from ..nn import Encoder, LearnedPositions
from ._base import QkvModel
from ._loss import cross_entropy
from ._weights import gathered


class VisionTransformerConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """How a `VisionTransformer` is made; for small images unless something else is said.

    Args:
        image_size, patch_size: in pixels, of square images; the second divides the first.
        num_channels: of the images.
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads: sizes.
        dropout: while training.
        others: ``num_labels``, the number of classes, among what every configuration has.
    """

    model_type = "qkv-vision-transformer"

    def __init__(
        self,
        image_size: int = 28,
        patch_size: int = 4,
        num_channels: int = 1,
        hidden_size: int = 64,
        intermediate_size: int = 256,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        dropout: float = 0.0,
        **others: Any,
    ) -> None:
        self.image_size = image_size
        self.patch_size = patch_size
        self.num_channels = num_channels
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.dropout = dropout
        super().__init__(**others)


class Patches(nn.Module):
    """An image as vectors, one for each patch, behind one that stands for the whole: ``(batch, 1 + patches, dim)``."""

    def __init__(self, channels: int, patch: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, dim, patch, patch)
        self.whole = nn.Parameter(torch.zeros(dim))

    def forward(self, pixel_values: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch length dim"]:
        patches = self.projection(pixel_values).flatten(2).transpose(1, 2)
        return torch.cat([self.whole.expand(len(patches), 1, -1), patches], 1)


class VisionTransformer(QkvModel):  # type: ignore[no-untyped-call]
    r"""Which class an image shows, from what the encoder makes of the vector that stands for the whole:

    .. math:: p(c \mid \mathrm{image}) = \mathrm{softmax}(W\, \mathrm{encoder}([g; P_1; \ldots; P_n])_0 + b)

    Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021).

    Args:
        config: the sizes.

    >>> model = VisionTransformer(VisionTransformerConfig(image_size=8, patch_size=4, num_labels=10))
    >>> model(torch.randn(2, 1, 8, 8)).logits.shape
    torch.Size([2, 10])
    """

    config_class = VisionTransformerConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    _no_split_modules = ["EncoderLayer"]  # noqa: RUF012  # a list to transformers

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__(config)
        if config.image_size % config.patch_size:
            raise ArgumentError(
                f"patch_size: expected a number that divides image_size {config.image_size}, got {config.patch_size}"
            )
        dim, patches = config.hidden_size, (config.image_size // config.patch_size) ** 2
        self.patches = Patches(config.num_channels, config.patch_size, dim)
        self.positions = LearnedPositions(dim, 1 + patches)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(
            config.num_hidden_layers,
            dim,
            config.num_attention_heads,
            config.intermediate_size,
            activation="gelu",
            norm_place="before",
            dropout=config.dropout,
        )
        self.head = nn.Linear(dim, int(config.num_labels or 0))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, " batch"] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> ImageClassifierOutput | tuple[Any, ...]:
        """Scores of every class.

        Args:
            pixel_values: images ``(batch, num_channels, image_size, image_size)``.
            labels: the classes that they show ``(batch,)``.
            output_attentions: whether to return the weights of every layer, detached.
            return_dict: False for a tuple.
            num_items_in_batch: what the loss is divided by: the images of all parts of a batch.

        Returns:
            ``logits (batch, num_labels)``, ``loss``, ``attentions`` of ``(batch, heads, 1 + patches, 1 + patches)``.

        Raises:
            ArgumentError: images of another size.
        """
        size = self.config.image_size
        if tuple(pixel_values.shape[1:]) != (self.config.num_channels, size, size):
            raise ArgumentError(
                f"pixel_values: expected shape (batch, {self.config.num_channels}, {size}, {size}), "
                f"got {tuple(pixel_values.shape)}"
            )
        x = self.dropout(self.positions(self.patches(pixel_values)))
        with gathered(self._returns_weights(output_attentions)) as weights:
            hidden = self.encoder(x)
        logits = self.head(hidden[:, 0])
        output = ImageClassifierOutput(
            loss=None if labels is None else cross_entropy(logits, labels, num_items_in_batch),
            logits=logits,
            attentions=weights.of("self"),
        )
        return output if return_dict or return_dict is None else output.to_tuple()
