"""The loss that training lowers: cross-entropy with some of each label's weight spread over the whole vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from ._collate import IGNORED


class SmoothedLoss:
    """-Σ_t [(1 - ε) log p(y_t) + ε/V Σ_v log p(v)] / n, over n labels.

    Label smoothing: Szegedy et al., 2016; ε = 0.1 in Vaswani et al., 2017.

    Args:
        smoothing: ε.
    """

    def __init__(self, smoothing: float) -> None:
        self._smoothing = smoothing

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """The sum over this batch's labels, over ``num_items_in_batch``: the labels of the whole update."""
        logits = outputs.logits.flatten(0, 1).float()
        total = cross_entropy(
            logits, labels.flatten(), ignore_index=IGNORED, label_smoothing=self._smoothing, reduction="sum"
        )
        return total / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
