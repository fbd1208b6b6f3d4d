"""The captures that are running, and the one way in which an attention reaches them.

Every path into a model asks `owners` whether anybody looks at the module that runs now, and hands what it sees to
`computed`. Captures may be nested: each gets its own records of the one computation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ._call import AttentionCall
from ._recorder import Recorder


class Frame(NamedTuple):
    """A module that runs: its path, and whether it was given another text to read (cross-attention)."""

    path: str
    reads_other: bool


class Session:
    """A capture while it runs: its recorder, and the modules that are running, innermost last."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.frames: list[Frame] = []


RUNNING: list[Session] = []
"""Innermost capture last."""

_state = threading.local()


def in_backward() -> bool:
    """Whether autograd runs a module again to save memory (checkpointing): what it does has been seen before."""
    return bool(torch._C._current_graph_task_id() != -1)


def owners() -> list[Session]:
    """The captures inside whose model this thread is running; none while our own code computes."""
    if getattr(_state, "suspended", False) or in_backward():
        return []
    thread = threading.get_ident()
    return [session for session in RUNNING if session.frames and session.recorder.thread == thread]


def computed(call: AttentionCall) -> tuple[Tensor, Tensor]:
    """Compute an attention, and let every capture keep it; returns output ``(B, H, N, Dv)`` and logsumexp.

    The kernel computes it. Where autograd is watching, the output comes from PyTorch's own operations instead, so that
    the gradient is the model's.
    """
    sessions = owners()
    with _suspended():
        output, lse = call.compute()
        with torch.no_grad():
            for session in sessions:
                path, reads_other = session.frames[-1]
                if reads_other:
                    call.kind = "cross"
                session.recorder.record(path, call, lse)
        return (call.differentiable() if call.needs_gradient() else output), lse


@contextmanager
def _suspended() -> Iterator[None]:
    """Attention that runs meanwhile is ours, and is not seen."""
    before = getattr(_state, "suspended", False)
    _state.suspended = True
    try:
        yield
    finally:
        _state.suspended = before
