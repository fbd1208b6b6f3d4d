"""Texts through a translator: in batches of like length, in the order they came in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ModelError
from ._tokenizer import tagged, target_languages

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENS = 2048
"""Of the source in one batch, padding counted and beams not."""


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    to: str | None = None,
    beams: int = 4,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Translate each text, as one sentence.

    Args:
        model: an encoder-decoder of ours or of Hugging Face's.
        tokenizer: the model's.
        texts: in the source language.
        to: the target language; None where the model has one only. A tokenizer of `qkv train` names what its model
            writes; where one names nothing, any language is taken, and says nothing to the model.
        beams: hypotheses kept at each step; 1 takes the likeliest token each time.
        report: called with how many texts are done, and how many there are.

    Returns:
        A translation for each text, in their order; "" for a text that is empty.

    Raises:
        ArgumentError: for a language that the model does not write, as far as its tokenizer says, or less than one
            beam.
        ModelError: where the model does not translate (it has no decoder beside its encoder).

    Here by a model that nobody trained, so that its words mean nothing yet:

    >>> from qkv.training import Settings, new_translator, train_tokenizer
    >>> tokenizer = train_tokenizer(["the cat", "le chat"] * 9, 300, target_languages=["fr"])
    >>> model = new_translator(tokenizer, Settings(size="tiny")).eval()
    >>> found = translate(model, tokenizer, ["the cat", ""], to="fr", beams=1)
    >>> len(found), found[1]
    (2, '')
    """
    import torch

    if not model.config.is_encoder_decoder:
        raise ModelError(f"model {type(model).__name__} does not translate: it is no encoder-decoder")
    if beams < 1:
        raise ArgumentError(f"beams: expected 1 or more, got {beams}")
    write = _writer(model, beams)
    encoded = tokenizer(tagged(tokenizer, texts, language(tokenizer, to)))["input_ids"]
    answers = [""] * len(texts)
    done = 0
    for rows in _batches([len(ids) for ids in encoded]):
        inputs = tokenizer.pad({"input_ids": [encoded[row] for row in rows]}, return_tensors="pt").to(model.device)
        longest = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            most = 3 * longest + 10  # far more than a translation takes, so that nothing runs on for ever
            written = write(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=most)
        for row, text in zip(rows, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
            answers[row] = text if texts[row].strip() else ""
        done += len(rows)
        report(done, len(texts))
    return answers


def language(tokenizer: PreTrainedTokenizerBase, to: str | None) -> str:
    """The language that is meant, checked against what the tokenizer names, if it does; "" where neither says."""
    known = target_languages(tokenizer)
    if to is None:
        if len(known) > 1:
            raise ArgumentError(f"to: this model translates into {', '.join(known)}: say which")
        return known[0] if known else ""
    if known and to not in known:
        raise ArgumentError(f"to: expected {' or '.join(known)}, which this model translates into, got {to!r}")
    return to


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Rows by length, the longest first, so that what is too large for memory is known at once."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > TOKENS:
            batches.append([])
        batches[-1].append(row)
    return batches


def _writer(model: PreTrainedModel, beams: int) -> Callable[..., Any]:
    """Our own model's way, which writes the same faster; ``generate()`` for all others."""
    from ..models import Translator

    if isinstance(model, Translator):
        return partial(model.translate, beams=beams)
    # A length that a model's configuration carries gives way to ours.
    limits = {"max_length": None} if model.generation_config.max_length is not None else {}
    generate: Any = model.generate
    return partial(generate, num_beams=beams, do_sample=False, **limits)
