"""transformers' rules about two positions, read as runs of keys, so that no pair of positions is asked about.

A rule is a function of its library: causal, a window, a chunk, a packed text, or several of these that must all hold.
Which one it is, and with which numbers, stands in its name and in what it encloses. A rule of any other origin is not
known here; whoever has one asks it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Run: TypeAlias = tuple[Integers, Integers]
"""Bounds of the keys that each query may read, broadcast to ``(B, N)``: from one on and up to another."""

FIRST, LAST = np.int64(-(2**40)), np.int64(2**40)
"""Beyond every position: no bound."""


def run_of(rule: Callable[..., Any], place: Integers) -> Run | None:
    """What queries at the positions `place`, ``(1, N)``, may read by a rule, in positions; None for unknown rules."""
    none = np.full_like(place, FIRST), np.full_like(place, LAST)
    name, held = _name(rule), _held(rule)
    match name:
        case "causal_mask_function":
            return none[0], place + 1
        case "bidirectional_mask_function":
            return none
        case "sliding_window_overlay":
            return place - held["sliding_window"] + 1, none[1]
        case "sliding_window_bidirectional_overlay":
            return place - held["sliding_window"], place + held["sliding_window"] + 1
        case "chunked_overlay":
            size, padding = int(held["chunk_size"]), _integers(held["left_padding"])[:, None]
            start = (place - padding) // size * size + padding
            return start, start + size
        case "packed_sequence_mask_function":
            return _text_of(_integers(held["packed_sequence_mask"]), place)
        case "and_masks":
            return _all_of(held["mask_functions"], place)
    return None


def _all_of(rules: tuple[Callable[..., Any], ...], place: Integers) -> Run | None:
    start, stop = np.full_like(place, FIRST), np.full_like(place, LAST)
    for rule in rules:
        moved = _name(rule) == "remap_positions_for_packed_sequence"
        found = _in_its_text(rule, rules, place) if moved else run_of(rule, place)
        if found is None:
            return None
        start, stop = np.maximum(start, found[0]), np.minimum(stop, found[1])
    return start, stop


def _text_of(texts: Integers, place: Integers) -> Run | None:
    """The run of keys with a query's own number in `texts`, ``(B, length)``; numbers grow along a row."""
    if texts.ndim != 2 or not _within(place, texts) or bool((np.diff(texts) < 0).any()):
        return None
    rows = [np.searchsorted(row, row[place[0]], side=side) for side in ("left", "right") for row in texts]
    start, stop = np.array(rows, np.int64).reshape(2, len(texts), -1)
    return start, stop


def _in_its_text(rule: Callable[..., Any], rules: tuple[Callable[..., Any], ...], place: Integers) -> Run | None:
    """A rule about positions counted from the start of a packed text, beside the rule that texts stay apart."""
    held = _held(rule)
    positions = _integers(held["position_ids"])
    texts = [
        _integers(_held(other)["packed_sequence_mask"])
        for other in rules
        if _name(other) == "packed_sequence_mask_function"
    ]
    if not texts or positions.shape != texts[0].shape or not _within(place, positions):
        return None
    if not bool(((np.diff(positions) == 1) | (np.diff(texts[0]) != 0)).all()):
        return None
    starts, stops = [], []
    for text, row in enumerate(positions):
        counted = row[place[0]]
        found = run_of(held["mask_function"], counted[None])
        if found is None:
            return None
        start, stop = (np.broadcast_to(bound, (len(positions), len(counted)))[text] for bound in found)
        starts.append(start + place[0] - counted)
        stops.append(stop + place[0] - counted)
    return np.array(starts), np.array(stops)


def _name(rule: Callable[..., Any]) -> str:
    """The function of transformers that a rule is, or that made it."""
    known = getattr(rule, "__module__", "") == "transformers.masking_utils"
    return rule.__qualname__.partition(".")[0] if known else ""


def _held(rule: Callable[..., Any]) -> dict[str, Any]:
    """What a rule encloses, by name."""
    cells = getattr(rule, "__closure__", None) or ()
    names = rule.__code__.co_freevars if cells else ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}


def _within(place: Integers, rows: Integers) -> bool:
    return bool((place >= 0).all() and (place < rows.shape[1]).all())


def _integers(tensor: Any) -> Integers:
    numbers: Integers = tensor.cpu().numpy().astype(np.int64)
    return numbers
