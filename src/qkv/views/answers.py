"""Every question of the contract, answered for one text of a trace.

The views are pure functions; this remembers what is asked again: the survey of each layer, which gives the figures, the
marginals and the small maps of all its heads in one pass. Rows, pairs and windows are computed when they are asked for.
Safe to ask from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qkv.errors import ArgumentError, TraceError
from qkv.trace import Sequence, Trace

from .alignment import alignment
from .contract import (
    Alignment,
    Derivation,
    Embedded,
    Head,
    Overview,
    Pair,
    Predictions,
    Row,
    StackName,
    Thumbnails,
    Window,
)
from .derivation import derivation
from .embedded import embedded_layer, embedded_size, embedded_thumbnails
from .head import head as head_view
from .induction import InductionScores
from .overview import Surveys, head_figures, overview
from .pair import pair
from .predictions import predictions
from .row import row
from .stacks import Layers, layer_of, stack_of, stacks
from .survey import Survey, survey
from .thumbnails import thumbnails
from .window import window

Values = NDArray[np.float32]


class Answers:
    """What the fronts ask.

    Args:
        trace: what was captured.
        sequence: index of the text to show.
        layer, head: open on the most telling pair of this layer or head; the others can still be asked for.
        only_layers, only_heads: show nothing else.
        induction: scores from a probe, where one was run.

    Raises:
        TraceError: the trace has no such layer or head, or holds no attention at all.
        ArgumentError: the trace has no such text.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        sequence: int = 0,
        layer: int | None = None,
        head: int | None = None,
        only_layers: Collection[int] | None = None,
        only_heads: Collection[int] | None = None,
        induction: InductionScores | None = None,
    ) -> None:
        if not trace.sequences:
            raise TraceError("the trace is empty: no text was read while it was captured")
        if not 0 <= sequence < len(trace.sequences):
            raise ArgumentError(f"sequence: the trace holds texts 0 to {len(trace.sequences) - 1}, got {sequence}")
        self.trace = trace
        self.sequence: Sequence = trace.sequences[sequence]
        self.sequence_index = sequence
        self.stacks: dict[StackName, Layers] = stacks(self.sequence, only_layers, only_heads)
        self.layer, self.head_index, self.induction = layer, head, induction
        if layer is not None or head is not None:  # say so now where there is none, not when the page asks
            stacks(self.sequence, None if layer is None else [layer], None if head is None else [head])
        self._surveys: dict[tuple[StackName, int], Survey] = {}
        self._lock = threading.RLock()

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Survey every layer; ``progress`` is called with how many of how many are done."""
        layers = [(name, layer) for name, stack in self.stacks.items() for layer in stack.records]
        for done, (name, layer) in enumerate(layers):
            if progress:
                progress(done, len(layers))
            self._survey(name, layer)
        if progress:
            progress(len(layers), len(layers))

    def only(self, layers: Collection[int] | None, heads: Collection[int] | None) -> Answers:
        """Return answers that show nothing but these layers and heads, and know all that these know."""
        chosen = Answers(
            self.trace,
            sequence=self.sequence_index,
            layer=self.layer,
            head=self.head_index,
            only_layers=layers,
            only_heads=heads,
            induction=self.induction,
        )
        chosen._surveys = self._surveys  # of whole layers, whatever is shown of them
        return chosen

    def overview(self) -> Overview:
        """Return what the page opens on."""
        return self._overview

    def thumbnails(self, stack: str, layer: int | None = None) -> tuple[Thumbnails, Values]:
        """Return the small maps of a stack, or of one of its layers."""
        layers = stack_of(self.stacks, stack)
        wanted = list(layers.records) if layer is None else [layer_of(self.stacks, stack, layer).layer]
        parts = [
            (self._survey(layers.name, one), [layers.records[one].position(head) for head in layers.heads])
            for one in wanted
        ]
        return thumbnails(layers.name, parts)

    def head(self, stack: str, layer: int, head: int) -> Head:
        """Return the marginals of one head."""
        record = layer_of(self.stacks, stack, layer)
        record.position(head)  # an unknown head is an error before the layer is surveyed
        layers = stack_of(self.stacks, stack)
        surveyed = self._survey(layers.name, layer)
        return head_view(record, surveyed, head, head_figures(self._surveys, layers, layer, head, self.induction))

    def row(self, stack: str, layer: int, head: int, query: int) -> Row:
        """Return what one query reads."""
        return row(layer_of(self.stacks, stack, layer), head, query)

    def pair(self, stack: str, layer: int, head: int, query: int, key: int) -> Pair:
        """Return why one query reads one key."""
        return pair(layer_of(self.stacks, stack, layer), head, query, key)

    def window(
        self, stack: str, layer: int, head: int, rows: tuple[int, int], columns: tuple[int, int], side: int = 512
    ) -> tuple[Window, Values]:
        """Return a rectangle of one head's map."""
        return window(layer_of(self.stacks, stack, layer), head, rows, columns, side)

    def derivation(self, stack: str, layer: int) -> Derivation:
        """Return the stations of one layer, with shapes."""
        return derivation(self.trace.model, layer_of(self.stacks, stack, layer))

    def predictions(self, position: int) -> Predictions:
        """Return the likeliest next tokens after one position."""
        return predictions(self.sequence, position)

    def alignment(self, rows: tuple[int, int] | None = None) -> Alignment:
        """Return the words that written ones came from, by every layer and head of the trace, whatever is shown."""
        stack_of(self.stacks, "cross")  # where none is shown, nothing is aligned
        return alignment(stacks(self.sequence)["cross"], rows)

    def embedded(self) -> Embedded:
        """Return all of it at once, for a self-contained page."""
        return Embedded(
            overview=self.overview(),
            thumbnails=[embedded_thumbnails(*self.thumbnails(name)) for name in self.stacks],
            derivations=[
                self.derivation(name, layer) for name, stack in self.stacks.items() for layer in stack.records
            ],
            predictions=[self.predictions(position) for position in range(len(self.sequence.predictions or []))],
            alignment=self.alignment() if "cross" in self.stacks else None,
            layers={
                name: [
                    embedded_layer(record, self._survey(name, layer), stack.heads)
                    for layer, record in stack.records.items()
                ]
                for name, stack in self.stacks.items()
            },
        )

    def embedded_size(self) -> int:
        """Return about how many bytes ``embedded()`` takes as text, without computing it."""
        return embedded_size(self.stacks)

    @property
    def heads(self) -> int:
        """How many heads are shown."""
        return sum(len(stack.records) * len(stack.heads) for stack in self.stacks.values())

    @property
    def surveys(self) -> Surveys:
        """The survey of every layer."""
        self.prepare()
        return self._surveys

    @cached_property
    def _overview(self) -> Overview:
        return overview(
            self.trace.model, self.sequence, self.stacks, self.surveys, self.induction, self.layer, self.head_index
        )

    def _survey(self, stack: StackName, layer: int) -> Survey:
        with self._lock:  # the kernel takes every core, so one at a time is as fast as several
            key = (stack, layer)
            if key not in self._surveys:
                layers = self.stacks[stack]
                self._surveys[key] = survey(layers.records[layer], layers.query_tokens, layers.key_tokens)
            return self._surveys[key]

    def __repr__(self) -> str:
        return f"Answers({self.trace!r}, sequence={self.sequence_index})"
