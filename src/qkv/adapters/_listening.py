"""Who looks on while a model computes attention, and the one way in which an attention reaches them.

Every path into a model hands what it sees to `computed`. Listeners say what they want to know before it is computed,
so that one pass of the kernel serves the model and all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ..attention import Observation
from ._call import AttentionCall


class Note(Protocol):
    """What a listener makes of one attention."""

    statistics: dict[str, Any]
    """What `qkv.observe` is to find beside output and lse, as its arguments say it; none is ``{}``."""

    def keep(self, seen: Observation) -> None:
        """Take what was computed."""


class Listener(Protocol):
    """Somebody who wants to see what a model computes."""

    def listens(self) -> bool:
        """Whether to what this thread runs now."""

    def expect(self, call: AttentionCall) -> Note | None:
        """An attention is about to be computed; None where it does not matter. May raise what forbids it."""


LISTENERS: list[Listener] = []
"""Innermost last."""

_state = threading.local()


def listeners() -> list[Listener]:
    """Those who listen now; none while our own code computes, or autograd runs a module again to save memory."""
    if not LISTENERS or getattr(_state, "suspended", False) or in_backward():
        return []
    return [listener for listener in LISTENERS if listener.listens()]


def in_backward() -> bool:
    """Whether autograd runs a module again (checkpointing): what it does has been seen before."""
    return bool(torch._C._current_graph_task_id() != -1)


def computed(call: AttentionCall) -> tuple[Tensor, Tensor]:
    """Compute an attention, and let every listener take note; returns output ``(B, H, N, Dv)`` and logsumexp."""
    present = listeners()
    with _suspended():
        notes = [note for listener in present if (note := listener.expect(call)) is not None]
        wanted: dict[str, Any] = {}
        for note in notes:
            wanted.update(note.statistics)
        seen = call.observe(**wanted)
        for note in notes:
            differs = any(wanted[name] != value for name, value in note.statistics.items())
            with torch.no_grad():
                note.keep(call.observe(**note.statistics) if differs else seen)
        return seen.output, seen.lse


@contextmanager
def _suspended() -> Iterator[None]:
    """Attention that runs meanwhile is ours, and is not seen."""
    before = getattr(_state, "suspended", False)
    _state.suspended = True
    try:
        yield
    finally:
        _state.suspended = before
