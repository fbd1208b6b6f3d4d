"""A soft dictionary: exact over all keys, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from qkv import ArgumentError
from qkv.regression import lookup


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_against_the_sum(dtype: type, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    keys, query = (rng.normal(size=shape).astype(dtype) for shape in ((5000, 16), (7, 16)))
    values = rng.normal(size=(5000, 3))
    score = query.astype(float) @ keys.astype(float).T / 0.5
    weights = np.exp(score - score.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    found = lookup(query, keys, values, top_k=4, temperature=0.5)
    order = np.argsort(-weights, axis=1)[:, :4]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.weights, np.take_along_axis(weights, order, 1), atol=tolerance)
    np.testing.assert_allclose(found.value, weights @ values, atol=tolerance)
    assert found.value.dtype == dtype
    one = lookup(query[0], keys, values[:, 0], top_k=4, temperature=0.5)
    assert one.value.shape == ()
    np.testing.assert_allclose(one.value, found.value[0, 0], atol=tolerance)
    np.testing.assert_array_equal(one.indices, found.indices[0])


def test_limits() -> None:
    keys = np.eye(4)
    values = np.array([1, 2, 3, 10])
    assert lookup(keys[3], keys, values, temperature=1e-3).value == 10  # a dictionary
    assert lookup(keys[3], keys, values, temperature=1e9).value == pytest.approx(4)  # the mean of all
    few = lookup(keys[3], keys, values, top_k=6)
    assert few.indices[4:].tolist() == [-1, -1]
    assert few.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0}, "temperature: expected a positive number, got 0"),
        ({"temperature": float("nan")}, "temperature: expected a positive number"),
        ({"top_k": 0}, "top_k: expected"),
        ({"keys": np.zeros((0, 2))}, "keys: expected .* at least one key"),
        ({"keys": np.zeros(2)}, "keys: expected"),
        ({"keys": [[1, 2], [3]]}, "keys: expected vectors of one length"),
        ({"query": [1.0, 2.0, 3.0]}, r"query: expected \(2,\) or \(queries, 2\) like the keys, got shape \(3,\)"),
        ({"query": [np.nan, 2.0]}, "query: expected finite numbers"),
        ({"values": [1, 2, 3]}, "values: expected one for each of 2 keys"),
        ({"values": ["games", "math"]}, "values: expected real numbers"),
    ],
)
def test_errors(change: dict[str, object], message: str) -> None:
    arguments = {"query": [1.0, 0.0], "keys": np.eye(2), "values": [1.0, 2.0], "top_k": 1, "temperature": 1.0, **change}
    with pytest.raises(ArgumentError, match=message):
        lookup(**arguments)
