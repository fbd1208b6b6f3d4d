"""A masked language model: an encoder that fills in what is missing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig
from transformers.modeling_outputs import MaskedLMOutput

from .._typing import Int
from ..nn import Encoder, LearnedPositions
from ..nn._norms import NormPlace
from ._base import QkvModel
from ._embedding import Embedding
from ._loss import cross_entropy
from ._padding import padding
from ._weights import gathered


class MaskedLanguageModelConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """How a `MaskedLanguageModel` is made; BERT's small sizes unless something else is said.

    Args:
        vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads: sizes.
        max_position_embeddings: the longest text.
        norm_place: ``"after"`` the parts of a layer, as BERT does, or ``"before"`` them.
        dropout: while training.
    """

    model_type = "qkv-masked-language-model"

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 512,
        intermediate_size: int = 2048,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 8,
        max_position_embeddings: int = 512,
        norm_place: NormPlace = "after",
        dropout: float = 0.1,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.norm_place = norm_place
        self.dropout = dropout
        others.setdefault("pad_token_id", 0)
        super().__init__(**others)


class MaskedLanguageModel(QkvModel):  # type: ignore[no-untyped-call]
    r"""Every token from all others; the loss counts those that were hidden from it:

    .. math:: p(x_t \mid \tilde x) = \mathrm{softmax}(\mathrm{LN}(\mathrm{gelu}(W h_t))\, E^\top + b), \qquad
              h = \mathrm{encoder}(\tilde x)

    Devlin et al., "BERT" (NAACL 2019), without its second kind of segment.

    Args:
        config: the sizes.

    >>> sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> model = MaskedLanguageModel(MaskedLanguageModelConfig(vocab_size=100, **sizes))
    >>> model(torch.randint(3, 100, (2, 7))).logits.shape
    torch.Size([2, 7, 100])
    """

    config_class = MaskedLanguageModelConfig
    base_model_prefix = ""
    _no_split_modules = ["EncoderLayer"]  # noqa: RUF012  # a list to transformers

    def __init__(self, config: MaskedLanguageModelConfig) -> None:
        super().__init__(config)
        dim = config.hidden_size
        self.embedding = Embedding(config.vocab_size, dim)
        self.positions = LearnedPositions(dim, config.max_position_embeddings)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(
            config.num_hidden_layers,
            dim,
            config.num_attention_heads,
            config.intermediate_size,
            activation="gelu",
            norm_place=config.norm_place,
            dropout=config.dropout,
        )
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of input and output."""
        return self.embedding.table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another table in its place; the bias is cut to its tokens, or gets a 0 for each that is new."""
        assert isinstance(value, nn.Embedding)
        self.embedding.table = value
        bias = self.output_bias
        resized = functional.pad(bias.detach(), (0, len(value.weight) - len(bias)))
        self.output_bias = nn.Parameter(resized, bias.requires_grad)

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Int[Tensor, "batch length"] | None = None,
        labels: Int[Tensor, "batch length"] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> MaskedLMOutput | tuple[Any, ...]:
        """Scores for every place of a text.

        Args:
            input_ids: ``(batch, N)``.
            attention_mask: 1 for tokens, 0 for padding, on either side.
            labels: what was hidden ``(batch, N)``, -100 elsewhere.
            output_attentions: whether to return the weights of every layer, detached.
            return_dict: False for a tuple.
            num_items_in_batch: what the loss is divided by: the labels of all parts of a batch.

        Returns:
            ``logits (batch, N, vocab_size)``, ``loss``, ``attentions``.

        Raises:
            ArgumentError: the mask has another shape, or the text is too long.
        """
        seen = padding(attention_mask, "attention_mask", input_ids.shape[0], input_ids.shape[1])
        x = self.dropout(self.norm(self.positions(self.embedding(input_ids), seen.first)))
        with gathered(self._returns_weights(output_attentions)) as weights:
            hidden = self.encoder(x, mask=seen.mask)
        logits = self.embedding.scores(self.head(hidden)) + self.output_bias
        output = MaskedLMOutput(
            loss=None if labels is None else cross_entropy(logits, labels, num_items_in_batch),
            logits=logits,
            attentions=weights.of("self"),
        )
        return output if return_dict or return_dict is None else output.to_tuple()
