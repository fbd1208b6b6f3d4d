"""Positions that are added to scores: T5's learned table."""

from __future__ import annotations

import torch
from torch import nn

from ..attention import RelativeBias


class T5Positions(nn.Module):
    r"""A learned number for each head and each step from query to key; far steps share buckets:

    .. math:: s_{hij} = \frac{q_{hi} \cdot k_{hj}}{\sqrt{\mathrm{head\_dim}}} + W_{\mathrm{bucket}(j - p_i),\, h}

    where :math:`p_i` is the place of query i among the keys. (T5 itself leaves the root away.)

    Calling it gives the `qkv.RelativeBias` for ``bias=`` of an attention, in which the table is never spread out over
    n x n scores. Raffel et al., "Exploring the Limits of Transfer Learning" (T5, JMLR 2020). The weights are Hugging
    Face's ``relative_attention_bias.weight``. (`qkv.ALiBi.geometric` needs no module: it has nothing to learn.)

    Args:
        heads: query heads.
        buckets: rows of the table.
        bidirectional: True for an encoder, False for a decoder.
        max_distance: steps from here on share the last bucket.

    Raises:
        ArgumentError: when called: too few buckets, or a `max_distance` that they reach already.

    >>> T5Positions(heads=2)().matrix(4, heads=2).shape
    (2, 4, 4)
    """

    def __init__(self, heads: int, buckets: int = 32, *, bidirectional: bool = True, max_distance: int = 128) -> None:
        super().__init__()
        self.bidirectional, self.max_distance = bidirectional, max_distance
        self.weight = nn.Parameter(torch.empty(buckets, heads))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self) -> RelativeBias:
        """The bias as it is now."""
        return RelativeBias.t5(self.weight, bidirectional=self.bidirectional, max_distance=self.max_distance)
