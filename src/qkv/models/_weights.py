"""`output_attentions=True`: exact weights, gathered by looking on, so that the computation stays the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor

from ..adapters._call import AttentionCall
from ..adapters._listening import LISTENERS
from ..attention import Observation


class GatheredWeights:
    """Listens to the attentions of a forward pass, and makes their weights ``(batch, heads, N, M)``, layer by layer."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._thread = threading.get_ident()
        self._found: list[tuple[str | None, Tensor]] = []

    def of(self, kind: Literal["self", "cross"]) -> tuple[Tensor, ...] | None:
        """Those of one kind, detached, in the order of the layers; None where nobody asked."""
        return tuple(weights for each, weights in self._found if each == kind) if self._wanted else None

    def listens(self) -> bool:
        """To the thread that asked alone."""
        return threading.get_ident() == self._thread

    def expect(self, call: AttentionCall) -> _Weights:
        """Every attention matters."""
        return _Weights(call, self._found)


class _Weights:
    statistics: dict[str, Any]

    def __init__(self, call: AttentionCall, found: list[tuple[str | None, Tensor]]) -> None:
        self.statistics = {}
        self._call, self._found = call, found

    def keep(self, seen: Observation) -> None:
        """Weights are exp(score - lse), recomputed."""
        self._found.append((self._call.kind, self._call.weights(seen.lse)))


@contextmanager
def gathered(wanted: bool) -> Iterator[GatheredWeights]:
    """Gather while it lasts, if that is wanted."""
    gathering = GatheredWeights(wanted)
    if not wanted:
        yield gathering
        return
    LISTENERS.append(gathering)
    try:
        yield gathering
    finally:
        LISTENERS.remove(gathering)
