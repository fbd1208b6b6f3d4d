"""The captures that are running, innermost last, and the one way in which an attention reaches them.

Every path into a model asks `watching` whether anybody looks at the module that runs now, and hands the call to
`deliver`. Captures may be nested: each gets its own records of the one computation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ._call import AttentionCall

if TYPE_CHECKING:
    from ._hooks import Watch

ACTIVE: list[Watch] = []
_state = threading.local()


def watching() -> list[Watch]:
    """The captures inside whose model the current thread is running attention now."""
    if getattr(_state, "suspended", False) or torch._C._current_graph_task_id() != -1:  # recomputed for a gradient
        return []
    thread = threading.get_ident()
    return [watch for watch in ACTIVE if watch.recorder.thread == thread and watch.inside]


@contextmanager
def suspended() -> Iterator[None]:
    """Attention that runs here is ours, or has been seen already."""
    before = getattr(_state, "suspended", False)
    _state.suspended = True
    try:
        yield
    finally:
        _state.suspended = before


def deliver(
    watches: list[Watch], call: AttentionCall, original: Callable[[], Tensor] | None, module: nn.Module | None = None
) -> Tensor:
    """Compute an attention, let every capture keep it, and return the output ``(B, H, N, Dv)``.

    Arguments:
        original: the model's own code, for a gradient or dropout; None computes with our kernel alone.
        module: the module that calls; None is the innermost one that runs.
    """
    with suspended():
        output, lse = call.compute()
        with torch.no_grad():
            for watch in watches:
                watch.recorder.record(watch.path(module), call, lse)
        return output if original is None else original()
