"""The induction probe: a model reads random tokens twice over, and every head is scored on what it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    from qkv.pretrained import Pretrained
    from qkv.views.induction import InductionScores

PERIOD = 64
"""Random tokens in a round: enough to average over, few enough for the shortest model."""
_SEED = 0
_LEAST = 8


def probe(pretrained: Pretrained) -> InductionScores:
    """Return the induction score of every head of the model that reads its own text.

    The same tokens every time, so that scores can be compared. They are drawn from the whole vocabulary but for special
    ones, and nothing but their repetition says what comes next.

    Raises:
        ModelError: the model reads no text, or so little that nothing can be repeated in it.
    """
    import numpy as np
    import torch

    import qkv
    from qkv.views.induction import induction_scores

    tokenizer, model = pretrained.text_tokenizer(), pretrained.model
    period = PERIOD if pretrained.maximum_length is None else min(PERIOD, pretrained.maximum_length // 2)
    if period < _LEAST:
        raise ModelError(
            f"{pretrained.title} reads at most {pretrained.maximum_length} tokens: too few to measure induction "
            f"on {2 * _LEAST}; leave out --probe"
        )
    special = set(tokenizer.all_special_ids)
    vocabulary = min(len(tokenizer), int(getattr(model.config.get_text_config(), "vocab_size", len(tokenizer))))
    words = np.array([token for token in range(vocabulary) if token not in special])
    chosen = np.random.default_rng(_SEED).choice(words, size=period, replace=len(words) < period)
    ids = torch.from_numpy(np.tile(chosen, 2))[None]
    inputs = {"input_ids": ids}
    if pretrained.kind == "encoder-decoder":
        inputs["decoder_input_ids"] = ids
    with torch.inference_mode(), qkv.capture(model) as capture:
        model(**inputs)
    return induction_scores(capture.trace.sequences[0], period)
