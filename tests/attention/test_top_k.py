"""The largest weights of long rows, by the compiled kernel: against sorting, with ties, rising scores and NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qkv

KEYS = 700  # several blocks: the first sets the bars, and the later ones are weighed in registers
DTYPES = [np.float32, np.float64, np.float16]


def integers(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def sorted_keys(scores: Any, k: int) -> Any:
    """The keys of the k largest scores, ties to the lowest."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


@pytest.mark.parametrize("k", [1, 7, 8, 9, 24, 128, 129, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_go_to_the_lowest_key(k: int, dtype: Any) -> None:
    query, key = integers(1, 2, 50, 6).astype(dtype), integers(2, 2, KEYS, 6).astype(dtype)  # scores are whole numbers
    found = qkv.observe(query, key, key, top_k=k, scale=1.0)
    scores = (query @ key.swapaxes(1, 2)).astype(np.float64)
    np.testing.assert_array_equal(found.top_k.indices, sorted_keys(scores, k))
    top = np.take_along_axis(scores, found.top_k.indices, -1)
    np.testing.assert_allclose(found.top_k.weights, np.exp(top - found.lse[..., None]), rtol=2e-5)


@pytest.mark.parametrize("window", [KEYS, 200])
@pytest.mark.parametrize("rising", [0.0, 0.5, -0.5])
def test_scores_that_rise_or_fall(rising: float, window: int) -> None:
    """Rising, every key enters, and what weights are relative to keeps moving; falling, none does after the first."""
    key = (integers(3, KEYS, 1) + rising * np.arange(KEYS)[:, None]).astype(np.float32)
    query = np.ones((40, 1), np.float32)
    found = qkv.observe(query, key, key, top_k=8, scale=1.0, mask=qkv.Causal() & qkv.Window(window, 0)).top_k.indices
    behind = np.arange(40)[:, None] + KEYS - 40 - np.arange(KEYS)[None, :]
    scores = np.where((behind >= 0) & (behind <= window), query @ key.T, -np.inf)
    np.testing.assert_array_equal(found, sorted_keys(scores, 8))


def test_statistics_do_not_depend_on_what_else_is_asked() -> None:
    """But for `received`, whose sums are cut where the rows of a map end."""
    rng = np.random.default_rng(4)
    query, key, value = (rng.standard_normal((2, size, 16)).astype(np.float32) for size in (70, KEYS, KEYS))
    asked: dict[str, Any] = {"entropy": True, "max_score": True, "top_k": 8, "block_map": 48, "distance": True}
    everything = qkv.observe(query, key, value, received=True, **asked)
    for name, how in asked.items():
        alone = getattr(qkv.observe(query, key, value, **{name: how}), name)
        np.testing.assert_array_equal(np.array(alone), np.array(getattr(everything, name)), name)


def test_a_nan_comes_after_all_numbers() -> None:
    query, key = np.ones((40, 1), np.float32), np.full((KEYS, 1), -np.inf, np.float32)
    key[[3, 300, 650]] = [[1], [5], [3]]
    query[7], key[600] = np.nan, 2
    found = qkv.observe(query, key, np.ones((KEYS, 1), np.float32), top_k=5, scale=1.0).top_k.indices
    assert found[6].tolist() == [300, 650, 600, 3, -1]
    assert found[7].tolist() == [0, 1, 2, 3, 4]  # all NaN
    assert found[8].tolist() == [300, 650, 600, 3, -1]
