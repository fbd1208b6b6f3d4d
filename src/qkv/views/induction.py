"""The induction score: does a head find what followed last time?

On a probe of random tokens repeated once, nothing but the repetition predicts the next token. An induction head,
reading from a token of the second half, looks at the token that came after the same token in the first half; its score
is the mean weight there (Olsson et al., "In-context Learning and Induction Heads", 2022).
"""

from __future__ import annotations

import numpy as np

from qkv.trace import Sequence

from .contract import StackName
from .stacks import stacks

InductionScores = dict[tuple[StackName, int, int], float]
"""By stack, layer and head."""


def induction_scores(probe: Sequence, period: int, start: int = 0) -> InductionScores:
    """Return the score of every head that reads its own text.

    Args:
        probe: the trace of ``period`` random tokens twice over.
        period: R, the length of one round.
        start: tokens before the first round ([CLS], <s>).
    """
    scores: InductionScores = {}
    for name, layers in stacks(probe).items():
        for layer, record in layers.records.items():
            if record.kind != "self":
                continue
            window = record.weights(
                rows=slice(start + period, start + 2 * period), columns=slice(start, start + period + 1)
            )
            # Row r of the window is the second occurrence of token r; column r + 1 is what followed the first.
            rounds = np.arange(period)
            means = window[:, rounds, rounds + 1].mean(axis=1)
            scores |= {(name, layer, head): float(means[record.position(head)]) for head in layers.heads}
    return scores
