"""The loss of a model that names tokens or classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from .._typing import Float, Int

IGNORED = -100
"""The label of what has none; Hugging Face's and PyTorch's number."""


def cross_entropy(
    logits: Float[Tensor, "*batch classes"],
    labels: Int[Tensor, "*batch"],
    num_items_in_batch: Tensor | int | None = None,
) -> Float[Tensor, ""]:
    r"""The mean of :math:`-\log p(\mathrm{label})` over all labels that are not -100, in float32.

    Args:
        logits: ``(*batch, classes)``.
        labels: ``(*batch,)``.
        num_items_in_batch: the labels of the whole update, of which this may be a part: what is divided by. Summed over
            its parts, the loss is then that of the whole, however it is cut. None counts the labels given here.

    >>> import torch
    >>> cross_entropy(torch.zeros(3, 8), torch.tensor([1, 2, -100])).exp().round()
    tensor(8.)
    """
    total = functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten().to(logits.device), ignore_index=IGNORED, reduction="sum"
    )
    count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    if isinstance(count, Tensor):
        count = count.to(total.device)
    return total / count
