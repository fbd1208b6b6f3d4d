"""The loss that training lowers: cross-entropy with some of each label's weight spread over the whole vocabulary.

Logits are the largest array of a step by far. A few rows at a time, their loss and gradient are computed while they lie
in the processor's cache, so that no second array of their size is written in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

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
        apply: Any = _SummedLoss.apply
        total: torch.Tensor = apply(outputs.logits.flatten(0, 1), labels.flatten(), self._smoothing)
        return total / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


class _SummedLoss(torch.autograd.Function):
    """Σ_t [lse_t - (1 - ε) x_t[y_t] - ε mean_v x_t[v]]; its gradient is softmax(x_t) - (1 - ε) onehot(y_t) - ε/V."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
        rows = 64 if logits.device.type == "cpu" else 4096
        gradient = torch.empty_like(logits)
        total = logits.new_zeros((), dtype=torch.float64)
        there = (labels != IGNORED)[:, None]
        known = labels.clamp(min=0)[:, None]
        for start in range(0, len(logits), rows):
            part = slice(start, start + rows)
            x = logits[part] if logits.dtype == torch.float64 else logits[part].float()
            highest = x.amax(1, keepdim=True)
            share = (x - highest).exp_()
            whole = share.sum(1, keepdim=True)
            loss = (
                whole.log() + highest - (1 - smoothing) * x.gather(1, known[part]) - smoothing * x.mean(1, keepdim=True)
            )
            total += torch.where(there[part], loss, 0.0).sum(dtype=torch.float64)
            share.div_(whole).sub_(smoothing / x.shape[1])
            share.scatter_add_(1, known[part], torch.full_like(loss, smoothing - 1))
            gradient[part] = share.mul_(there[part])
        ctx.save_for_backward(gradient)
        return total.to(torch.promote_types(logits.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None
