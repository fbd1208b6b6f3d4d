"""What `observe` returns, made by hand in PyTorch: the n x n matrix, its softmax, topk, entropy and sums."""

from __future__ import annotations

import torch

BLOCK = 64


def observe_by_hand(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, *, causal: bool
) -> dict[str, torch.Tensor]:
    """Of arrays ``(heads, length, head_dim)``; head by head, so that one matrix at a time is held."""
    parts = [_head(*arrays, scale, causal) for arrays in zip(query, key, value, strict=True)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def _head(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, causal: bool
) -> dict[str, torch.Tensor]:
    score = query @ key.mT * scale
    if causal:
        score.masked_fill_(torch.ones_like(score, dtype=torch.bool).triu(1), -torch.inf)
    weight = torch.softmax(score, -1)
    top = weight.topk(8)
    rows, columns = (-(-size // BLOCK) for size in weight.shape)
    padded = torch.nn.functional.pad(weight, (0, columns * BLOCK - weight.shape[1], 0, rows * BLOCK - weight.shape[0]))
    return {
        "output": weight @ value,
        "lse": torch.logsumexp(score, -1),
        "max_score": score.amax(-1),
        "entropy": -torch.xlogy(weight, weight).sum(-1),
        "top_k": top.values,
        "received": weight.sum(-2),
        "block_map": padded.view(rows, BLOCK, columns, BLOCK).sum((1, 3)),
    }
