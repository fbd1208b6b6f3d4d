"""From sentence pairs to the tensors of one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..models._loss import IGNORED as IGNORED
from ._encoded import Ids


class Collate:
    """Pads sentence pairs into what an encoder-decoder of Hugging Face's takes.

    Gives ``input_ids`` and ``attention_mask`` ``(batch, source)``; ``labels`` ``(batch, target)``, -100 where there is
    padding; and ``decoder_input_ids``, the labels moved right by one behind the start token, with their mask.

    Args:
        pad: the id that fills the ends.
        start: the id that the decoder starts with.
    """

    def __init__(self, pad: int, start: int) -> None:
        self._pad, self._start = pad, start

    def __call__(self, rows: Sequence[tuple[Ids, Ids]]) -> dict[str, torch.Tensor | bool]:
        sources = _padded([source for source, _ in rows], self._pad)
        labels = _padded([target for _, target in rows], IGNORED)
        there = _mask([len(source) for source, _ in rows], sources.shape[1])
        shifted = labels.roll(1, dims=1).masked_fill(labels.roll(1, dims=1) == IGNORED, self._pad)
        shifted[:, 0] = self._start
        return {
            "input_ids": sources,
            "attention_mask": there,
            "decoder_input_ids": shifted,
            "decoder_attention_mask": _mask([len(target) for _, target in rows], labels.shape[1]),
            "labels": labels,
            "use_cache": False,
        }


def _padded(rows: Sequence[Ids], filler: int) -> torch.Tensor:
    width = max(1, *(len(row) for row in rows)) if rows else 1
    whole = torch.full((len(rows), width), filler, dtype=torch.int64)
    for index, row in enumerate(rows):
        whole[index, : len(row)] = torch.as_tensor(row.astype("int64"))
    return whole


def _mask(lengths: Sequence[int], width: int) -> torch.Tensor:
    """1 where a token is; a row without any keeps its first position, as many models answer NaN to none at all."""
    return (torch.arange(width) < torch.tensor(lengths).clamp(min=1)[:, None]).long()
