"""The Transformer of the paper, from tokens of one language to tokens of another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from .._typing import Float, Int
from ..attention import ArrayMask
from ..errors import ArgumentError
from ..nn import Decoder, Encoder, SinusoidalPositions
from ._base import QkvModel
from ._cache import DecoderKeys, checked_cache
from ._embedding import Embedding
from ._loss import IGNORED, cross_entropy
from ._padding import padding
from ._search import beam_search, greedy
from ._stepping import Stepper
from ._translator_config import TranslatorConfig
from ._weights import gathered

TOGETHER = 8
"""Texts that `Translator.translate` reads at once."""


class Source(nn.Module):
    """The encoder's side: tokens, positions, `qkv.nn.Encoder`. It holds the embedding that the target's side shares."""

    main_input_name = "input_ids"

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        self.positions = SinusoidalPositions(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.stack = Encoder(config.encoder_layers, **_layers(config))

    def forward(
        self,
        input_ids: Int[Tensor, "batch source"],
        attention_mask: Int[Tensor, "batch source"] | None = None,
        output_attentions: bool | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """What the decoder reads: ``last_hidden_state (batch, source, hidden_size)``."""
        seen = padding(attention_mask, "attention_mask", input_ids.shape[0], input_ids.shape[1])
        x = self.dropout(self.positions(self.embedding(input_ids), seen.first))
        with gathered(bool(output_attentions)) as weights:
            hidden = self.stack(x, mask=seen.mask)
        return BaseModelOutput(last_hidden_state=hidden, attentions=weights.of("self"))


class Target(nn.Module):
    """The decoder's side: positions and `qkv.nn.Decoder`."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.positions = SinusoidalPositions(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.stack = Decoder(config.decoder_layers, **_layers(config))

    def forward(
        self,
        embedded: Float[Tensor, "batch target hidden"],
        source: Float[Tensor, "batch source hidden"],
        *,
        attention_mask: Int[Tensor, "batch target"] | None = None,
        source_mask: Int[Tensor, "batch source"] | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> Float[Tensor, "batch target hidden"]:
        """Vectors from which the next tokens are read off."""
        past = 0 if cache is None else int(cache.get_seq_length())
        seen = padding(attention_mask, "decoder_attention_mask", embedded.shape[0], embedded.shape[1], past)
        of_source = padding(source_mask, "attention_mask", source.shape[0], source.shape[1])
        held = None if cache is None else [DecoderKeys(cache, layer) for layer in range(len(self.stack.layers))]
        x = self.dropout(self.positions(embedded, seen.first))
        result: Tensor = self.stack(x, source, mask=seen.mask, source_mask=of_source.mask, cache=held)
        return result


class Translator(QkvModel, GenerationMixin):  # type: ignore[no-untyped-call]
    r"""An encoder reads a text, a decoder writes another, token by token:

    .. math:: p(y_t \mid y_{<t}, x) = \mathrm{softmax}(\mathrm{decoder}(y_{<t}, \mathrm{encoder}(x))_t\, E^\top)

    Vaswani et al., "Attention Is All You Need" (NeurIPS 2017). One embedding E serves source, target and output.
    ``generate()``, ``save_pretrained`` and Hugging Face's trainer work as with any of their models.

    Args:
        config: the sizes.

    >>> import torch
    >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "encoder_layers": 2, "decoder_layers": 2}
    >>> model = Translator(TranslatorConfig(vocab_size=100, num_attention_heads=4, **sizes))
    >>> source, target = torch.randint(3, 100, (2, 7)), torch.randint(3, 100, (2, 5))
    >>> output = model(input_ids=source, labels=target)
    >>> output.logits.shape, output.loss.shape
    (torch.Size([2, 5, 100]), torch.Size([]))
    >>> model.eval().generate(source, max_new_tokens=4, num_beams=2).shape[0]
    2
    """

    config_class = TranslatorConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]  # noqa: RUF012  # a list to transformers

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__(config)
        self.encoder = Source(config)
        self.decoder = Target(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of source, target and output."""
        return self.encoder.embedding.table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another table in its place."""
        assert isinstance(value, nn.Embedding)
        self.encoder.embedding.table = value

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """What reads the source."""
        return self.encoder

    def get_decoder(self) -> nn.Module:
        """What writes the target."""
        return self.decoder

    def prepare_decoder_input_ids_from_labels(self, labels: Int[Tensor, "batch target"]) -> Int[Tensor, "batch target"]:
        """Labels moved right by one, behind the token that a translation begins with; -100 becomes padding."""
        moved = labels.roll(1, 1)
        moved[:, 0] = self.config.decoder_start_token_id
        return moved.masked_fill(moved == IGNORED, self.config.pad_token_id)

    def forward(
        self,
        input_ids: Int[Tensor, "batch source"] | None = None,
        attention_mask: Int[Tensor, "batch source"] | None = None,
        decoder_input_ids: Int[Tensor, "batch target"] | None = None,
        decoder_attention_mask: Int[Tensor, "batch target"] | None = None,
        encoder_outputs: Any = None,
        past_key_values: EncoderDecoderCache | None = None,
        labels: Int[Tensor, "batch target"] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput | tuple[Any, ...]:
        """Scores for the next token, after each token of the target.

        Args:
            input_ids: the source ``(batch, M)``; not needed beside `encoder_outputs`.
            attention_mask: 1 for its tokens, 0 for padding, on either side.
            decoder_input_ids: what is written so far ``(batch, N)``; None takes it from `labels`. With a cache that
                holds tokens already, only those that follow.
            decoder_attention_mask: of the target, with what the cache holds.
            encoder_outputs: of an earlier call; its first element is read.
            past_key_values: an `EncoderDecoderCache` to continue and extend.
            labels: the tokens that should be written ``(batch, N)``, -100 for those that do not count.
            use_cache: whether to return a cache; None is as the configuration says, and never beside labels.
            output_attentions: whether to return the weights of every attention, detached.
            return_dict: False for a tuple.
            num_items_in_batch: what the loss is divided by: the labels of all parts of a batch.

        Returns:
            ``logits (batch, N, vocab_size)``, ``loss``, ``past_key_values``, ``encoder_last_hidden_state``, and
            ``encoder_attentions``, ``decoder_attentions``, ``cross_attentions``: for each layer
            ``(batch, heads, N, M)``. A tuple of those that are there without `return_dict`.

        Raises:
            ArgumentError: something is missing or does not fit; the message names it.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise ArgumentError(
                    "decoder_input_ids: expected the target so far, or labels to take it from, got none"
                )
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        wanted = self._returns_weights(output_attentions)
        if encoder_outputs is None:
            if input_ids is None:
                raise ArgumentError("input_ids: expected the source, or encoder_outputs of an earlier call, got none")
            encoder_outputs = self.encoder(input_ids, attention_mask, output_attentions=wanted)
        source = encoder_outputs[0]
        if past_key_values is None and labels is None and (self.config.use_cache if use_cache is None else use_cache):
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        with gathered(wanted) as weights:
            hidden = self.decoder(
                self.encoder.embedding(decoder_input_ids),
                source,
                attention_mask=decoder_attention_mask,
                source_mask=attention_mask,
                cache=checked_cache(past_key_values),
            )
        logits = self.encoder.embedding.scores(hidden)
        output = Seq2SeqLMOutput(
            loss=None if labels is None else cross_entropy(logits, labels, num_items_in_batch),
            logits=logits,
            past_key_values=past_key_values,
            decoder_attentions=weights.of("self"),
            cross_attentions=weights.of("cross"),
            encoder_last_hidden_state=source,
            encoder_attentions=getattr(encoder_outputs, "attentions", None),
        )
        return output if return_dict or return_dict is None else output.to_tuple()

    @torch.no_grad()
    def translate(
        self,
        input_ids: Int[Tensor, "batch source"],
        attention_mask: Int[Tensor, "batch source"] | None = None,
        *,
        beams: int = 1,
        max_new_tokens: int = 128,
        length_penalty: float = 1.0,
    ) -> Int[Tensor, "batch target"]:
        """Write translations: what ``generate(num_beams=beams, do_sample=False)`` writes, with less around it on a CPU.

        Texts that are done cost no more, and beams share what they read. It goes through a decoder of its own, which
        no capture sees, and knows none of ``generate()``'s other options. Where a mask has gaps between a text's
        tokens, and on a GPU, it is ``generate()`` that writes.

        Args:
            input_ids: the source ``(batch, M)``.
            attention_mask: 1 for its tokens, 0 for padding, on either side.
            beams: 1 takes the likeliest token at each step; more search for the likeliest text.
            max_new_tokens: where a translation ends at last.
            length_penalty: the power of the length that a text's score is divided by; larger ones favour longer texts.

        Returns:
            ``(batch, 1 + N)`` tokens: the start token, the translation with its end, and padding.

        Raises:
            ArgumentError: a number is out of range, the mask has another shape, or the model is being trained.
            ModelError: the scores are not numbers; ``generate()`` itself does not look.

        >>> sizes = {"hidden_size": 32, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 4}
        >>> model = Translator(TranslatorConfig(vocab_size=100, **sizes)).eval()
        >>> model.translate(torch.tensor([[7, 8, 9, 2]]), beams=4, max_new_tokens=5).shape[0]
        1
        """
        for name, number in (("beams", beams), ("max_new_tokens", max_new_tokens)):
            if number < 1:
                raise ArgumentError(f"{name}: expected 1 or more, got {number}")
        if 2 * beams > self.config.vocab_size:
            raise ArgumentError(
                f"beams: expected at most {self.config.vocab_size // 2}, half of the tokens there are, got {beams}"
            )
        if self.training:
            raise ArgumentError("translate: expected a model that is not being trained; call .eval() first")
        start, end, pad = (getattr(self.config, f"{name}_token_id") for name in ("decoder_start", "eos", "pad"))
        texts, keys = input_ids.shape
        mask = padding(attention_mask, "attention_mask", texts, keys).mask
        if input_ids.device.type != "cpu" or isinstance(mask, ArrayMask):  # a step reads one run of tokens of each text
            found: Tensor = self.generate(  # type: ignore[assignment, misc]
                input_ids,
                attention_mask=attention_mask,
                do_sample=False,
                num_beams=beams,
                max_new_tokens=max_new_tokens,
                length_penalty=length_penalty,
            )
            return found
        with torch.inference_mode():
            source = self._read(input_ids, attention_mask)
            stepper = Stepper(self.decoder, self.encoder.embedding, source, mask, beams, max_new_tokens)
            if beams == 1:
                written = greedy(stepper, texts, start, end, max_new_tokens)
            else:
                written = beam_search(stepper, texts, start, end, max_new_tokens, beams, length_penalty)
        width = max(map(len, written), default=0)
        return torch.tensor([[start, *text, *[pad] * (width - len(text))] for text in written])

    def _read(self, ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """What the encoder makes of the texts; a few of like length at a time, so that little padding is computed.

        A mask has no gaps.
        """
        texts, width = ids.shape
        if attention_mask is None or texts <= TOGETHER or bool((attention_mask[:, 0] == 0).any()):
            whole: Tensor = self.encoder(ids, attention_mask)[0]
            return whole
        lengths = (attention_mask != 0).sum(1)
        found = self.get_input_embeddings().weight.new_zeros(texts, width, self.config.hidden_size)
        order = lengths.argsort(descending=True)
        for first in range(0, texts, TOGETHER):
            rows = order[first : first + TOGETHER]
            longest = int(lengths[rows[0]])
            found[rows, :longest] = self.encoder(ids[rows, :longest], attention_mask[rows, :longest])[0]
        return found


def _layers(config: TranslatorConfig) -> dict[str, Any]:
    """What both stacks are made with."""
    return {
        "dim": config.hidden_size,
        "heads": config.num_attention_heads,
        "hidden": config.intermediate_size,
        "activation": config.activation,
        "norm": config.norm,
        "norm_place": config.norm_place,
        "dropout": config.dropout,
        "bias": config.bias,
    }
