"""Sentence pairs as token ids on disk: encoded once, read by memory map, so that a run takes no memory for its text.

A folder holds, for the source and for the target, one flat array of ids and the offsets where each sentence starts.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ._tokenizer import tagged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ids = NDArray[np.integer]
CHUNK = 4096
NOTHING = -1
"""The row that has no tokens on either side, for a share of an update that got no sentence."""


class EncodedPairs:
    """Pairs of id arrays, by row; each ends in the end-of-sentence token.

    ``lengths`` is int32 ``(rows, 2)``: tokens of source and target.
    """

    def __init__(self, folder: Path) -> None:
        self._ids = [np.load(folder / f"{side}.npy", mmap_mode="r") for side in ("source", "target")]
        self._offsets = [np.load(folder / f"{side}-offsets.npy") for side in ("source", "target")]
        self.lengths = np.stack([np.diff(offsets) for offsets in self._offsets], axis=1).astype(np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> tuple[Ids, Ids]:
        if row == NOTHING:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        source, target = (
            ids[offsets[row] : offsets[row + 1]] for ids, offsets in zip(self._ids, self._offsets, strict=True)
        )
        return source, target


def encode(
    texts: Sequence[tuple[Sequence[tuple[str, str]], str]],
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    longest: int = 128,
) -> None:
    """Encode pairs into a new folder, which is complete or absent.

    Args:
        texts: pairs and their target language; the rows follow one another.
        longest: tokens on a side; pairs with more are left out.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    parts = [part for pairs, language in texts for part in _encoded(pairs, language, tokenizer, longest)]
    for side, name in enumerate(("source", "target")):
        lengths = np.concatenate([np.zeros(1, np.int64), *(part[side][0] for part in parts)])
        np.save(temporary / f"{name}-offsets.npy", np.cumsum(lengths))
        np.save(temporary / f"{name}.npy", np.concatenate([np.empty(0, np.uint16), *(part[side][1] for part in parts)]))
    temporary.replace(folder)


def digest(*parts: str) -> str:
    """A short name for what an encoding was made from."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _encoded(
    pairs: Sequence[tuple[str, str]], language: str, tokenizer: PreTrainedTokenizerFast, longest: int
) -> Iterator[list[tuple[Ids, Ids]]]:
    """For each chunk of the pairs, source and target: how long each sentence is, and the ids of all."""
    small = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        sources = tokenizer(tagged(tokenizer, [source for source, _ in part], language))["input_ids"]
        targets = tokenizer([target for _, target in part])["input_ids"]
        rows = [row for row in zip(sources, targets, strict=True) if max(map(len, row)) <= longest]
        yield [
            (
                np.array([len(row[side]) for row in rows], np.int64),
                np.array([token for row in rows for token in row[side]], small),
            )
            for side in range(2)
        ]
