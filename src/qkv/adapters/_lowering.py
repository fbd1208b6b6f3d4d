"""What models pass as masks and biases, in the kernel's words: runs of keys, booleans, and a bias.

The same tensor comes to every layer of a model: what it came to is remembered for as long as it lives.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ._runs import Runs, RunsTensor

MASKED = -30_000.0
"""An additive mask below this says "no": float16's lowest number and every model's own constant are lower still."""
REMEMBERED = 4
"""Full and sliding masks and a position bias, of one model at a time."""


@dataclass(frozen=True, eq=False)
class Lowered:
    """A mask as a model passed it; None where there is nothing to say.

    Attributes:
        runs: which keys each query may read; one row may stand for all queries.
        allowed: bool, broadcasts to ``(B, H, N, M)``: what runs cannot say.
        bias: float, broadcasts to ``(B, H, N, M)``, added to the scores.
    """

    runs: Runs | None = None
    allowed: Tensor | None = None
    bias: Tensor | None = None


_remembered: list[tuple[weakref.ref[Tensor], int, Lowered, bool]] = []
"""Masks, their versions, and what they came to; a mask that is its own `allowed` is not held by it."""


def lowered(mask: Tensor | None) -> Lowered:
    """Take a mask apart: boolean (True may be read), additive (0 and very low numbers), a bias, or both in one."""
    if mask is None:
        return Lowered()
    if isinstance(mask, RunsTensor):
        if mask.runs is not None:
            return Lowered(runs=mask.runs)
        mask = mask.touched()
    if mask.is_inference() or mask.requires_grad:  # no telling whether it is what it was
        return _lower(mask)
    for known, version, found, itself in _remembered:
        if known() is mask and version == mask._version:
            return replace(found, allowed=mask) if itself else found
    found = _lower(mask)
    itself = found.allowed is mask
    _remembered.insert(0, (weakref.ref(mask), mask._version, replace(found, allowed=None) if itself else found, itself))
    _remembered[:] = [each for each in _remembered if each[0]() is not None][:REMEMBERED]
    return found


def _lower(mask: Tensor) -> Lowered:
    bias = None
    allowed = mask if mask.dtype == torch.bool else mask.bool()
    if mask.is_floating_point():
        allowed = mask.detach() > MASKED
        bias = torch.where(allowed, mask, torch.zeros((), dtype=mask.dtype, device=mask.device))
        if not (mask.requires_grad or bool(bias.any())):  # a bias that is learned may start as zero
            bias = None
    if bool(allowed.all()):
        return Lowered(bias=bias)
    four = allowed[(None,) * (4 - allowed.ndim)]
    runs = Runs.found_in(four[:, 0].cpu().numpy()) if four.shape[1] == 1 else None
    return Lowered(runs, None if runs is not None else allowed, bias)
