"""Hugging Face's mask interface: from a rule about two positions to runs of keys, without an N x M mask.

transformers describes a mask as a function of indices, to be asked about every query and key, and padding besides.
Causal masks, windows, chunks, padding and packed texts all let a query read one run of keys. Its own rules are known
(`_rules`) and cost O(N + M); a model's own is asked some rows at a time, so that memory stays O(N + M).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from transformers import masking_utils

from ._rules import run_of
from ._runs import Runs, RunsTensor

ASKED = 1 << 22
"""How many pairs of a query and a key a rule is asked about at a time."""


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
    """What transformers' own rules come to, and padding at the ends; None for any other rule."""
    place, first = asked.get("cache_position"), int(asked["kv_offset"])
    positions = np.arange(queries) + int(asked["q_offset"]) if place is None else place.cpu().numpy().astype(np.int64)
    found = run_of(asked["mask_function"], positions[None])
    if found is None:
        return None
    start, stop = (np.clip(bound - first, 0, keys) for bound in np.broadcast_arrays(*found))
    runs = Runs(start, np.maximum(start, stop))
    padding = asked.get("attention_mask")
    if padding is None:
        return runs
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
