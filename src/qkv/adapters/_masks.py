"""Hugging Face's mask interface: from a rule about two positions to runs of keys, without an N x M mask.

transformers describes a mask as a function of indices, to be asked about every query and key, and padding besides.
Causal masks, windows, chunks, padding and packed texts all let a query read one run of keys. The two commonest rules
are known here; any other is asked some rows at a time, so that memory stays O(N + M).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from transformers import masking_utils

from ._runs import Runs, RunsTensor

ASKED = 1 << 22
"""How many pairs of a query and a key a rule is asked about at a time."""

_EVERYTHING = getattr(masking_utils, "bidirectional_mask_function", None)  # since transformers 5


def runs_mask(**asked: Any) -> Tensor | None:
    """What transformers calls, by keywords alone, to make a mask for attention under our name.

    Arguments are those of its own `sdpa_mask` (5.x: `q_length` and `q_offset`; 4.57: `cache_position`).

    Returns:
        None where the caller allows that and the module's being causal, or not, says everything; else a `RunsTensor`;
        else booleans ``(B, 1, N, M)``.
    """
    causal_may_go = asked.pop("allow_is_causal_skip", True)
    everything_may_go = asked.pop("allow_is_bidirectional_skip", False)
    asked.update(allow_is_causal_skip=False, allow_is_bidirectional_skip=False)
    place = asked.get("cache_position")
    queries = asked["q_length"] if place is None else len(place)
    keys = asked["kv_length"]
    runs = _known(asked, queries, keys)
    if runs is None:
        runs = _found(asked, queries, keys)
    if runs is None:
        return masking_utils.sdpa_mask(**asked)
    if causal_may_go and (runs.is_causal(keys) or (queries == 1 and runs.everything(keys))):
        return None
    if everything_may_go and runs.everything(keys):
        return None
    device = asked.get("device", "cpu") if place is None else place.device
    return RunsTensor(runs, asked["batch_size"], keys, device)


def _known(asked: dict[str, Any], queries: int, keys: int) -> Runs | None:
    """Causal or everything, and padding at the ends; None for any other rule."""
    rule = asked["mask_function"]
    if rule is not masking_utils.causal_mask_function and (_EVERYTHING is None or rule is not _EVERYTHING):
        return None
    start, stop = np.zeros((1, queries), np.int64), np.full((1, queries), keys)
    if rule is masking_utils.causal_mask_function:
        place = asked.get("cache_position")
        positions = np.arange(queries) + int(asked["q_offset"]) if place is None else place.cpu().numpy()
        stop = np.clip(positions - int(asked["kv_offset"]) + 1, 0, keys)[None]
    runs = Runs(start, stop)
    padding = asked.get("attention_mask")
    if padding is None:
        return runs
    first = int(asked["kv_offset"])
    there = np.zeros((len(padding), keys), np.bool_)
    seen = padding[:, first : first + keys].cpu().numpy()
    there[:, : seen.shape[1]] = seen
    valid = Runs.found_in(there[:, None])
    return None if valid is None else runs if valid.everything(keys) else runs & valid


def _found(asked: dict[str, Any], queries: int, keys: int) -> Runs | None:
    """The runs that a rule comes to, asked about some queries at a time; None where it leaves gaps."""
    rows = max(1, ASKED // max(asked["batch_size"] * keys, 1))
    place = asked.get("cache_position")
    parts: list[Runs] = []
    for first in range(0, queries, rows):
        some = min(rows, queries - first)
        here = (
            {"q_length": some, "q_offset": asked["q_offset"] + first}
            if place is None
            else {"cache_position": place[first : first + some]}
        )
        some_rows: Any = masking_utils.sdpa_mask(**{**asked, **here})
        part = Runs.found_in(some_rows[:, 0].cpu().numpy())
        if part is None:
            return None
        parts.append(part)
    return Runs(*(np.concatenate([getattr(part, end) for part in parts], 1) for end in ("start", "stop")))
