"""Tokens as vectors: the one table that source, target and output share."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from .._typing import Float, Int


class Embedding(nn.Module):
    r"""Looks tokens up, and turns vectors back into scores for tokens with the same table:

    .. math:: \mathrm{embed}(t) = \sqrt{d}\, E_t, \qquad \mathrm{scores}(h) = h E^\top, \qquad E_{ij} \sim N(0, 0.02^2)

    The factor makes an embedding about as large as the positions that are added to it, while the table stays so small
    that a new model's scores are nearly 0: its loss is ln(tokens). Press and Wolf, "Using the
    Output Embedding to Improve Language Models" (EACL 2017); Vaswani et al., "Attention Is All You Need" (NeurIPS
    2017), section 3.4.

    Args:
        tokens: how many there are.
        dim: of a vector.
        scaled: whether embeddings are multiplied by sqrt(dim).

    >>> import torch
    >>> embedding = Embedding(10, 4)
    >>> embedding.scores(embedding(torch.tensor([[3, 1]]))).shape
    torch.Size([1, 2, 10])
    """

    def __init__(self, tokens: int, dim: int, *, scaled: bool = True) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, dim)
        self.factor = math.sqrt(dim) if scaled else 1.0

    def forward(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length dim"]:
        """ids ``(batch, length)`` as vectors ``(batch, length, dim)``."""
        found: Tensor = self.table(ids)
        return found * self.factor

    def scores(self, hidden: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length tokens"]:
        """The logits of every token, for each of the vectors."""
        return functional.linear(hidden, self.table.weight)
