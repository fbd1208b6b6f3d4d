"""A language model: a decoder without a source, which says what comes next."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from .._typing import Int
from ..errors import ArgumentError
from ..nn import Decoder, LayerCache, LearnedPositions, Rotary, SinusoidalPositions
from ._base import QkvModel
from ._cache import OwnKeys, checked_cache
from ._embedding import Embedding
from ._language_model_config import LanguageModelConfig
from ._loss import cross_entropy
from ._padding import padding
from ._weights import gathered


class LanguageModel(QkvModel, GenerationMixin):  # type: ignore[no-untyped-call]
    r"""Every token from those before it, with one embedding E for input and output:

    .. math:: p(x_{t+1} \mid x_{\le t}) = \mathrm{softmax}(\mathrm{decoder}(x_{\le t})_t\, E^\top)

    Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2, 2019); Touvron et al., "LLaMA" (2023).

    Args:
        config: the sizes.

    >>> import torch
    >>> sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> model = LanguageModel(LanguageModelConfig(vocab_size=100, **sizes)).eval()
    >>> text = torch.randint(3, 100, (2, 7))
    >>> model(text, labels=text).logits.shape
    torch.Size([2, 7, 100])
    >>> model.generate(text, max_new_tokens=4, min_new_tokens=4, do_sample=False).shape
    torch.Size([2, 11])
    """

    config_class = LanguageModelConfig
    base_model_prefix = ""
    _no_split_modules = ["DecoderLayer"]  # noqa: RUF012  # a list to transformers

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__(config)
        dim, heads = config.hidden_size, config.num_attention_heads
        self.embedding = Embedding(config.vocab_size, dim)
        self.positions: LearnedPositions | SinusoidalPositions | None = None
        if config.positions == "learned":
            self.positions = LearnedPositions(dim, config.max_position_embeddings)
        elif config.positions == "sinusoidal":
            self.positions = SinusoidalPositions(dim)
        elif config.positions != "rotary":
            raise ArgumentError(f'positions: expected "rotary", "learned" or "sinusoidal", got {config.positions!r}')
        self.dropout = nn.Dropout(config.dropout)
        self.decoder = Decoder(
            config.num_hidden_layers,
            dim,
            heads,
            config.intermediate_size,
            cross=False,
            activation=config.activation,
            norm=config.norm,
            norm_place="before",
            dropout=config.dropout,
            key_heads=config.num_key_value_heads,
            bias=config.bias,
            rotary=Rotary(dim // heads, config.rope_theta) if config.positions == "rotary" else None,
        )
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of input and output."""
        return self.embedding.table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another table in its place."""
        assert isinstance(value, nn.Embedding)
        self.embedding.table = value

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Int[Tensor, "batch length"] | None = None,
        past_key_values: Any = None,
        labels: Int[Tensor, "batch length"] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Scores for the next token, after each token.

        Args:
            input_ids: ``(batch, N)``; with a cache that holds tokens already, only those that follow.
            attention_mask: 1 for tokens, 0 for padding, on either side; with what the cache holds.
            past_key_values: a `DynamicCache` to continue and extend.
            labels: `input_ids` again, -100 for what does not count: the loss compares each with what comes before it.
            use_cache: whether to return a cache; None is as the configuration says, and never beside labels.
            output_attentions: whether to return the weights of every layer, detached.
            logits_to_keep: scores of the last so many tokens alone; 0 for all.
            return_dict: False for a tuple.
            num_items_in_batch: what the loss is divided by: the labels of all parts of a batch.

        Returns:
            ``logits (batch, N, vocab_size)``, ``loss``, ``past_key_values``, ``attentions``.

        Raises:
            ArgumentError: something does not fit; the message names it.
        """
        if past_key_values is None and labels is None and (self.config.use_cache if use_cache is None else use_cache):
            past_key_values = DynamicCache()
        cache = checked_cache(past_key_values)
        past = 0 if cache is None else int(cache.get_seq_length())
        seen = padding(attention_mask, "attention_mask", input_ids.shape[0], input_ids.shape[1], past)
        x = self.embedding(input_ids)
        if self.positions is not None:
            x = self.positions(x, seen.first)
        count = len(self.decoder.layers)
        held = None if cache is None else [LayerCache(own=OwnKeys(cache, layer)) for layer in range(count)]
        with gathered(self._returns_weights(output_attentions)) as weights:
            hidden = self.decoder(self.dropout(x), mask=seen.mask, cache=held)
        logits = self.embedding.scores(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        loss = None
        if labels is not None:
            loss = cross_entropy(logits[:, :-1], labels[:, 1:], num_items_in_batch)
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            attentions=weights.of("self"),
        )
        return output if return_dict or return_dict is None else output.to_tuple()
