"""From attention calls, in the order in which a model makes them, to records of texts.

A forward pass of the model reads new texts, or goes on with those of an earlier pass through a cache. Which of the
two it is, is seen in the first attention: with more keys than queries there was something before.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..adapters._call import AttentionCall
from ..attention import Observation
from ..errors import ArgumentError, CaptureError
from ..trace import SideName
from ._excerpt import BLOCKS, Excerpt, statistics_of, wanted
from ._growing import Growing, Step
from ._masking import reach
from ._place import CROSS, first_number, part_of, reads_two_texts
from ._reading import Ending, Notes, Reading
from ._storage import Storage, stored


@dataclass(eq=False)
class Pass:
    """One forward pass: an outermost call of the model, or of a part of it."""

    turn: int
    notes: Notes = field(default_factory=Notes)
    counts: Counter[str] = field(default_factory=Counter)
    readings: list[Reading] = field(default_factory=list)
    goes_on: bool = False
    """It was given the encoder's output of the pass before."""
    generates: bool = False
    """It runs inside generate(), after the prompt."""


class Recorder:
    """Everything that one `capture` has seen."""

    def __init__(
        self,
        model: nn.Module,
        *,
        layers: Sequence[int] | None,
        heads: Sequence[int] | None,
        keep: Literal["qkv", "statistics"],
        storage: Storage,
        on_record: Callable[[Reading, list[Growing]], None] | None = None,
    ) -> None:
        self.model = model
        self.layers = None if layers is None else set(layers)
        self.heads = None if heads is None else tuple(heads)
        self.keep = keep
        self.storage = storage
        self.on_record = on_record
        self.two_sided = reads_two_texts(model)
        self.readings: list[Reading] = []
        self.calls = 0
        self.seen_layers: set[int] = set()
        self.ending = Ending()
        self.thread = threading.get_ident()
        self.current: Pass | None = None
        self._last: Pass | None = None
        self._turns = 0
        self._texts = 0
        self._parts: dict[tuple[str, int], Literal["encoder", "decoder"]] = {}
        self._layers: dict[tuple[str, str], dict[tuple[str, int], int]] = {}

    # Passes

    def begin(self, *, generates: bool = False) -> Pass:
        """A forward pass starts."""
        self._turns += 1
        self.current = Pass(self._turns, generates=generates)
        return self.current

    def end(self, *, failed: bool) -> None:
        """The forward pass is over; one that failed leaves no half-read token behind."""
        done, self.current = self.current, None
        if done is None:
            return
        if failed:
            for reading in done.readings:
                reading.take_back(done.turn)
        elif done.readings:
            self._last = done

    # Calls

    def expect(self, path: str, call: AttentionCall) -> Expected | None:
        """Which texts an attention that is about to be computed belongs to, and what is to be known of it."""
        turn = self.current
        if turn is None:
            return None
        self.calls += 1
        name = (path, turn.counts[path])
        turn.counts[path] += 1
        kind = self._kind(path, name, call)
        part = self._part(name, kind, call)
        target = self.two_sided or kind == "cross"
        query_side: SideName = "target" if target and (kind == "cross" or part == "decoder") else "input"
        key_side: SideName = "input" if kind == "cross" else query_side
        layer = self._layer(kind, part, name)
        self.seen_layers.add(layer)
        reading, fresh = self._reading(turn, name, kind, query_side, call)
        self._advance(reading, turn, kind, query_side, call)
        new = call.query.shape[2] if kind == "self" and not fresh else call.key.shape[2]
        if kind == "self" and call.cached:
            reading.tails[name] = call.key[:, :, -1].detach().clone()
        if self.layers is not None and layer not in self.layers:
            reading.records.setdefault(name, None)
            return None
        if name not in reading.records:
            reading.records[name] = [
                self._new(path, kind, part, layer, query_side, key_side, call, reading.first + index)
                for index in range(reading.batch)
            ]
        records = reading.records[name] or []
        statistics: dict[str, Any] = {}
        if self.keep == "statistics" and not reading.is_padded(query_side, key_side):
            statistics = wanted(records[0].block if not records[0].steps else 1)
        return Expected(self, reading, records, turn, call, new, statistics)

    def keep_call(self, expected: Expected, seen: Observation) -> None:
        """Keep one attention, once it is computed."""
        for index, record in enumerate(expected.records):
            self._add(expected, index, record, seen)
        if self.on_record is not None:
            self.on_record(expected.reading, expected.records)

    def _kind(self, path: str, name: tuple[str, int], call: AttentionCall) -> Literal["self", "cross"]:
        if call.kind is not None:
            return call.kind
        if CROSS.search(path):
            return "cross"
        if call.decodes:  # more keys than queries are a cache, seen or not
            return "self"
        queries, keys = call.query.shape[2], call.key.shape[2]
        known = any(name in reading.records for reading in self._earlier())
        return "self" if queries == keys or (queries < keys and known) else "cross"

    def _part(self, name: tuple[str, int], kind: str, call: AttentionCall) -> Literal["encoder", "decoder"]:
        """Decided when a module is first seen: a single token says nothing of a mask."""
        if name not in self._parts:
            named = "decoder" if kind == "cross" else part_of(self.model, name[0]) if self.two_sided else None
            self._parts[name] = named or ("decoder" if call.reads_causally() else "encoder")
        return self._parts[name]

    def _layer(self, kind: str, part: str, name: tuple[str, int]) -> int:
        """The number in its path; where another attention of its stack has that already, the next that is free."""
        numbers = self._layers.setdefault((kind, part), {})
        if name not in numbers:
            wanted = first_number(name[0])
            numbers[name] = wanted if wanted not in numbers.values() else max(numbers.values()) + 1
        return numbers[name]

    # Which text it is

    def _earlier(self) -> list[Reading]:
        return self._last.readings if self._last is not None else []

    def _reading(
        self, turn: Pass, name: tuple[str, int], kind: str, query_side: SideName, call: AttentionCall
    ) -> tuple[Reading, bool]:
        """The texts that a call belongs to, and whether its keys are all new."""
        batch, queries, keys = call.query.shape[0], call.query.shape[2], call.key.shape[2]
        if kind == "self" and call.cached and keys > queries:
            return self._continued(turn, name, query_side, call), False
        for reading in reversed(turn.readings):
            if reading.batch != batch:
                continue
            if kind == "self":
                known = reading.length(query_side)
                fits = known is None or (reading.turns[query_side] == (turn.turn, 0) and known == queries)
                fits = fits and name not in reading.records
            else:
                known = reading.length("input")
                grown = reading.turns.get(query_side, (turn.turn, 0))
                added = queries if query_side not in reading.spans else (reading.length(query_side) or 0) - grown[1]
                fits = grown[0] == turn.turn and added == queries and known in (None, keys)
            if fits:
                return reading, True
        return self._new_reading(turn, name, kind, call), True

    def _continued(self, turn: Pass, name: tuple[str, int], side: SideName, call: AttentionCall) -> Reading:
        """The texts of an earlier pass whose cache this call reads."""
        queries, keys = call.query.shape[2], call.key.shape[2]
        for reading in [*turn.readings, *self._earlier()]:
            past = reading.before(side, turn.turn)
            if reading.batch != call.query.shape[0] or name not in reading.tails or past < keys - queries:
                continue
            if not torch.equal(reading.tails[name], call.key[:, :, -queries - 1].detach()):
                raise CaptureError(
                    f"{name[0]}: the keys in the cache are not those of the step before. Beam search, speculative "
                    "decoding and several texts written by turns reorder or replace caches, and cannot be captured: "
                    "use num_beams=1 (greedy or sampled), one text at a time."
                )
            if reading not in turn.readings:
                turn.readings.append(reading)
            return reading
        raise CaptureError(
            f"{name[0]}: {keys} keys for {queries} queries, and the {keys - queries} keys before them were not seen. "
            "Start the capture before the prompt is read, and use the default (dynamic) cache: static caches, prefix "
            "tuning and caches filled elsewhere hold keys that nothing here computed."
        )

    def _new_reading(self, turn: Pass, name: tuple[str, int], kind: str, call: AttentionCall) -> Reading:
        batch, keys = call.query.shape[0], call.key.shape[2]
        if turn.goes_on:  # the encoder ran before: in generate(), or by hand
            for reading in self._earlier():
                side = reading.length("input")
                if reading.batch == batch and side is not None and "target" not in reading.spans:
                    turn.readings.append(reading)
                    return reading
                if kind == "cross" and reading.batch == batch and side == keys and name in reading.records:
                    continue
        reading = Reading(first=self._texts, batch=batch)
        self._texts += batch
        self.readings.append(reading)
        turn.readings.append(reading)
        return reading

    def _advance(self, reading: Reading, turn: Pass, kind: str, query_side: SideName, call: AttentionCall) -> None:
        queries, keys = call.query.shape[2], call.key.shape[2]
        generated = reading.length(query_side) is not None and (
            turn.generates or (queries == 1 and reading.before(query_side, turn.turn) > 0)
        )
        options = {"notes": turn.notes, "end": self.ending}
        if kind == "self":
            reading.advance(
                query_side,
                turn.turn,
                queries,
                padding=call.padding,
                generated=generated,
                **options,  # type: ignore[arg-type]
            )
            return
        reading.advance(query_side, turn.turn, queries, padding=None, generated=generated, **options)  # type: ignore[arg-type]
        if reading.length("input") is None:
            reading.advance("input", turn.turn, keys, padding=call.padding, generated=False, **options)  # type: ignore[arg-type]

    # What is kept

    def _new(
        self,
        path: str,
        kind: Literal["self", "cross"],
        part: Literal["encoder", "decoder"],
        layer: int,
        query_side: SideName,
        key_side: SideName,
        call: AttentionCall,
        sequence: int,
    ) -> Growing:
        count = call.query.shape[1]
        heads = self.heads if self.heads is not None else tuple(range(count))
        if any(head >= count or head < 0 for head in heads):
            raise ArgumentError(f"heads: {path} has {count} heads (0 to {count - 1}), got {list(heads)}")
        longest = max(call.query.shape[2], call.key.shape[2])
        return Growing(
            path=path,
            kind=kind,
            part=part,
            layer=layer,
            heads=heads,
            head_count=count,
            scale=call.scale,
            softcap=call.softcap,
            query_side=query_side,
            key_side=key_side,
            sequence=sequence,
            causal=kind == "self" and part == "decoder",
            window=call.window,
            sink=None if call.sink is None else stored(call.sink.float()[list(heads)]),
            block=-(-longest // BLOCKS),
        )

    def _add(self, expected: Expected, index: int, record: Growing, seen: Observation) -> None:
        """Add what one call says about one text, without its padding."""
        reading, call = expected.reading, expected.call
        queries, keys = call.query.shape[2], call.key.shape[2]
        rows = np.flatnonzero(reading.spans[record.query_side][index].valid[-queries:])
        if len(rows) == 0:
            return
        valid_keys = reading.spans[record.key_side][index].valid
        columns = np.flatnonzero(valid_keys[-keys:])
        text = Excerpt(call, index, list(record.heads), rows, columns, int(valid_keys.sum()))
        if self.keep == "statistics":
            found = text.of(seen) if expected.statistics else text.observe(record.block if not record.steps else 1)
            arrays = statistics_of(found, text.first_key, record.block, first_step=not record.steps)
        else:
            arrays = {"query": stored(text.query, self.storage)}
            if record.kind == "self" or not record.steps:
                fresh = columns[columns >= keys - expected.new]
                arrays["key"] = stored(text.among_keys(call.key, fresh), self.storage)
                arrays["value"] = stored(text.among_keys(call.value, fresh), self.storage)
            arrays["lse"] = stored(text.among_queries(seen.lse))
        start, stop = text.runs
        record.steps.append(
            Step(
                turn=expected.turn.turn,
                arrays=arrays,
                reach=reach(start, stop, len(columns), text.total, allowed=text.allowed),
                bias=text.bias,
                first_key=text.first_key,
            )
        )


@dataclass(eq=False)
class Expected:
    """An attention that is about to be computed, for some texts; a `Note`."""

    recorder: Recorder
    reading: Reading
    records: list[Growing]
    turn: Pass
    call: AttentionCall
    new: int
    """How many of its keys were not there before."""
    statistics: dict[str, Any]
    """What is to be found in the model's own computation: everything, or nothing where padding would be counted in."""

    def keep(self, seen: Observation) -> None:
        """Take what was computed."""
        self.recorder.keep_call(self, seen)
