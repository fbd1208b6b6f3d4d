"""The captures that are running: what each is told of the modules that run, and of the attention that they compute.

Captures may be nested: each gets its own records of the one computation.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..adapters._call import AttentionCall
from ..adapters._listening import Note
from ..errors import CaptureError
from ._recorder import Recorder


class Frame(NamedTuple):
    """A module that runs: its path, and whether it was given another text to read (cross-attention)."""

    path: str
    reads_other: bool


class Session:
    """A capture while it runs: its recorder, and the modules that are running, innermost last; a `Listener`."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.frames: list[Frame] = []

    def listens(self) -> bool:
        """Whether its model runs in this thread."""
        return bool(self.frames) and self.recorder.thread == threading.get_ident()

    def expect(self, call: AttentionCall) -> Note | None:
        """Where the attention belongs, and what is to be known of it.

        Raises:
            CaptureError: for what cannot be captured.
        """
        if call.dropout:
            raise CaptureError(
                "the model is in training mode and drops attention weights at random, which cannot be captured: "
                "call model.eval() first"
            )
        if call.packed:
            raise CaptureError("packed sequences cannot be captured: run one padded batch at a time")
        path, reads_other = self.frames[-1]
        if reads_other:
            call.kind = "cross"
        return self.recorder.expect(path, call)
