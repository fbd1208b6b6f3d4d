"""Hugging Face's attention masks, 1 for a token and 0 for padding, in qkv's words."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._typing import Int
from ..attention import ArrayMask, Mask, Padding
from ..errors import ArgumentError


class PaddingMask(NamedTuple):
    """What a mask of padding says.

    Attributes:
        mask: of the keys; None where there is no padding, an `ArrayMask` where a row's tokens have gaps between them.
        first: the position of the first column, one for each row where there is padding on the left.
    """

    mask: Mask | None
    first: int | Tensor


def padding(
    attention_mask: Int[Tensor, "batch length"] | None, name: str, batch: int, length: int, past: int = 0
) -> PaddingMask:
    """Take a mask of `past` earlier columns and `length` new ones apart.

    Raises:
        ArgumentError: it has another shape.
    """
    if attention_mask is None:
        return PaddingMask(None, past)
    if tuple(attention_mask.shape) != (batch, past + length):
        raise ArgumentError(
            f"{name}: expected shape {(batch, past + length)}, 1 for tokens and 0 for padding, one for each token "
            f"{'and what the cache holds' if past else 'of the text'}, got {tuple(attention_mask.shape)}"
        )
    there = attention_mask.detach().cpu() != 0
    if bool(there.all()):
        return PaddingMask(None, past)
    lengths, column = there.sum(1), torch.arange(past + length)
    if torch.equal(there, column < lengths[:, None]):
        return PaddingMask(Padding(lengths), past)
    before = there.int().argmax(1)  # padding on the left moves the text, and a text does not know where it stands
    moved = (past - before).to(attention_mask.device)
    if torch.equal(there, column >= before[:, None]):
        return PaddingMask(Padding(lengths, side="left"), moved)
    stop = before + lengths
    if torch.equal(there, (column >= before[:, None]) & (column < stop[:, None])):
        return PaddingMask(Padding(past + length - before, side="left") & Padding(stop), moved)
    return PaddingMask(ArrayMask(there[:, None, None]), moved)
