"""`read`: a text goes through a model, and comes out as a trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..errors import ArgumentError, ModelError
from ..trace import Candidate, SideName, Trace
from ..trace._store import save_texts
from ._capture import capture
from ._tokens import Reader

if TYPE_CHECKING:
    from ..pretrained import Pretrained

CHUNK = 256
"""Positions whose next-token probabilities are held at a time: the vocabulary is wide, and a text may be long."""


def read(
    pretrained: Pretrained,
    text: str,
    pair: str | None = None,
    *,
    target: str | None = None,
    generate: int = 0,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    keep: Literal["qkv", "statistics"] = "qkv",
    to: str | Path | None = None,
    predictions: int = 8,
) -> Trace:
    """Let a model read a text, and capture its attention.

    Args:
        pretrained: what `qkv.pretrained.load` returns.
        text: what to read.
        pair: a second text, for encoders that read pairs.
        target: what an encoder-decoder is to write; where it is not given, it writes what it would.
        generate: how many tokens a decoder is to write after the text (for an encoder-decoder: at most).
        layers, heads, keep, to: as in `qkv.capture`.
        predictions: how many of the likeliest next tokens to keep at each position of a decoder; 0 for none.

    Raises:
        ArgumentError: an option that this kind of model does not have.
        ModelError: the text is longer than the model reads.
    """
    _check(pretrained, pair, target, generate)
    if predictions < 0:
        raise ArgumentError(f"predictions: expected 0 or more, got {predictions}")
    model: Any = pretrained.model
    tokenizer = pretrained.text_tokenizer()
    # verbose=False: a text that is too long gets one message, from _check_length.
    texts = (text,) if pair is None else (text, pair)
    inputs = dict(tokenizer(*texts, return_tensors="pt", verbose=False))
    if pretrained.kind != "encoder":  # GPT-2 takes token types for tokens, others refuse them
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
    length = inputs["input_ids"].shape[1]
    if length == 0:
        raise ArgumentError("text: expected a text with at least one token, got none")
    _check_length(pretrained, "text", length + (generate if pretrained.kind == "decoder" else 0), length, generate)
    written: Tensor | None = None
    with torch.no_grad():
        if pretrained.kind == "encoder-decoder":
            inputs["decoder_input_ids"] = _target_ids(pretrained, inputs, target, generate)
        elif generate:
            written = model.generate(**inputs, max_new_tokens=generate, do_sample=False)
            inputs = {"input_ids": written, "attention_mask": torch.ones_like(written)}
        options: dict[str, Any] = {"layers": layers, "heads": heads, "keep": keep, "to": to}
        with capture(model, tokenizer, **options, name=pretrained.name, title=pretrained.title) as captured:
            hidden = _hidden_states(model, pretrained.kind, inputs)
        trace = captured.trace
        sequence = trace.sequences[0]
        if pretrained.kind != "encoder":
            side: SideName = "target" if pretrained.kind == "encoder-decoder" else "input"
            first = length if side == "input" else 1 if target is None else len(sequence.sides[side])
            sequence.sides[side] = Reader(tokenizer).tokens(
                [token.id for token in sequence.sides[side]],
                [place >= first for place in range(len(sequence.sides[side]))],
            )
            if predictions and model.get_output_embeddings() is not None:
                sequence.predictions = _predictions(model, Reader(tokenizer), hidden, predictions)
    if to is not None:
        save_texts(trace)
    return trace


def _check(pretrained: Pretrained, pair: str | None, target: str | None, generate: int) -> None:
    what = f"{pretrained.title} is a model of kind {pretrained.kind!r}"
    if pair is not None and pretrained.kind != "encoder":
        raise ArgumentError(f"pair: expected one text, got two; {what}, and only encoders read pairs; give one")
    if target is not None and pretrained.kind != "encoder-decoder":
        raise ArgumentError(f"target: expected none, got {target!r}; {what}, and only encoder-decoders write one")
    if generate and pretrained.kind == "encoder":
        raise ArgumentError(
            f"generate: expected 0, got {generate}; {what}, which writes nothing; choose a decoder (--model smollm2)"
        )
    if generate < 0:
        raise ArgumentError(f"generate: expected 0 or more tokens, got {generate}")


def _check_length(pretrained: Pretrained, name: str, needed: int, length: int, generate: int = 0) -> None:
    longest = pretrained.maximum_length
    if longest is not None and needed > longest:
        more = f" and {generate} more are to be written" if generate else ""
        raise ModelError(
            f"{name}: {pretrained.title} reads at most {longest} tokens at once, and this text has {length}{more}; "
            "shorten it, or choose a model that reads more (--model smollm2 reads 8192)"
        )


def _target_ids(pretrained: Pretrained, inputs: dict[str, Tensor], target: str | None, generate: int) -> Tensor:
    """What the decoder reads: its start token and the target, given or written by the model itself."""
    model: Any = pretrained.model
    if target is None:
        longest = {"max_new_tokens": generate} if generate else {"max_new_tokens": 128}
        ids: Tensor = model.generate(**inputs, **longest, do_sample=False, num_beams=1)
        return ids[:, :-1] if ids.shape[1] > 2 else ids
    labels = pretrained.text_tokenizer()(text_target=target, return_tensors="pt", verbose=False)["input_ids"]
    _check_length(pretrained, "target", labels.shape[1] + 1, labels.shape[1])
    start = model.generation_config.decoder_start_token_id
    start = model.config.decoder_start_token_id if start is None else start
    return torch.cat([torch.full((1, 1), start, dtype=labels.dtype), labels], 1)


def _hidden_states(model: Any, kind: str, inputs: dict[str, Tensor]) -> Tensor | None:
    """Run the model without its head, whose logits over a whole text would not fit in memory."""
    body = model.base_model
    if kind == "encoder" or body is model:
        model(**inputs)
        return None
    hidden: Tensor = body(**inputs, use_cache=False).last_hidden_state
    return hidden


def _predictions(model: Any, reader: Reader, hidden: Tensor | None, count: int) -> list[list[Candidate]] | None:
    """The likeliest next tokens after each position, some positions at a time."""
    if hidden is None:
        return None
    head, config = model.get_output_embeddings(), model.config
    cap = getattr(config.get_text_config(decoder=True), "final_logit_softcapping", None)
    bias = getattr(model, "final_logits_bias", None)
    factor = getattr(model, "model_dim", 0) ** -0.5 if getattr(config, "scale_decoder_outputs", False) else 1.0
    found: list[list[Candidate]] = []
    for part in torch.split(hidden[0] * factor, CHUNK):
        logits = head(part).float()
        logits = logits if bias is None else logits + bias
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        best = torch.softmax(logits, -1).topk(min(count, logits.shape[-1]))
        for ids, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            found.append([reader.candidate(token, p) for token, p in zip(ids, probabilities, strict=True)])
    return found
