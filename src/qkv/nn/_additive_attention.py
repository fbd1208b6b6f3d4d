"""Attention as it was first used for translation: a small network scores each pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._typing import Bool, Float
from ..attention import Mask


class AdditiveAttention(nn.Module):
    r"""Scores every query with every key by a network of one hidden layer:

    .. math:: s_{ij} = v^\top \tanh(W_q q_i + W_k k_j), \qquad o_i = \sum_j \mathrm{softmax}_j(s_{ij})\, v_j

    Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate" (ICLR 2015). A
    tanh for each pair is no dot product: this is PyTorch's own operations, n x m x hidden numbers, and slow.

    Args:
        query_dim, key_dim: of queries and keys.
        hidden: of the network.

    >>> import torch
    >>> attention = AdditiveAttention(query_dim=6, key_dim=4, hidden=8)
    >>> output, weights = attention(torch.randn(2, 3, 6), torch.randn(2, 5, 4), torch.randn(2, 5, 7))
    >>> output.shape, weights.shape
    (torch.Size([2, 3, 7]), torch.Size([2, 3, 5]))
    """

    def __init__(self, query_dim: int, key_dim: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, hidden, bias=False)
        self.key = nn.Linear(key_dim, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(
        self,
        query: Float[Tensor, "batch queries query_dim"],
        key: Float[Tensor, "batch keys key_dim"],
        value: Float[Tensor, "batch keys value_dim"],
        *,
        mask: Bool[Tensor, ...] | Mask | None = None,
    ) -> tuple[Float[Tensor, "batch queries value_dim"], Float[Tensor, "batch queries keys"]]:
        """Attend from queries to keys.

        Args:
            query, key, value: ``(batch, N, query_dim)``, ``(batch, M, key_dim)``, ``(batch, M, value_dim)``.
            mask: of `qkv`, or booleans that broadcast to ``(batch, N, M)``: True where a query may attend to a key.

        Returns:
            The outputs ``(batch, N, value_dim)`` and the weights ``(batch, N, M)``. A query that may attend to nothing
            yields 0.

        Raises:
            ArgumentError: a mask of `qkv` does not fit the queries and keys.
        """
        hidden = torch.tanh(self.query(query)[:, :, None] + self.key(key)[:, None])
        scores = self.score(hidden)[..., 0]
        if mask is not None:
            scores = scores.masked_fill(~(_dense(mask, scores) if isinstance(mask, Mask) else mask), -torch.inf)
        highest = scores.detach().amax(-1, keepdim=True).nan_to_num(neginf=0.0)
        weights = torch.exp(scores - highest)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        return weights @ value, weights


def _dense(mask: Mask, scores: Float[Tensor, "batch queries keys"]) -> Bool[Tensor, ...]:
    """The mask as an array beside the scores; there is one head, whose axis goes."""
    batch, queries, keys = scores.shape
    dense = torch.from_numpy(mask.matrix(queries, keys, batch=(batch,)).copy()).to(scores.device)
    return dense.expand(batch, 1, queries, keys)[:, 0]
