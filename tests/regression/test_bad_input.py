"""Input that will not do gets scikit-learn's errors or ours, in words; extremes that will do get right answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from qkv import ArgumentError
from qkv.regression import NadarayaWatson, NadarayaWatsonClassifier, lookup
from qkv.regression._pairs import Neighbours

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 2))
Y = X[:, 0].copy()
LABELS = (Y > 0).astype(int)
Model = type[NadarayaWatson] | type[NadarayaWatsonClassifier]
MODELS = pytest.mark.parametrize("model", [NadarayaWatson, NadarayaWatsonClassifier])


@pytest.fixture(autouse=True)
def _strict() -> Any:
    """A warning of NumPy's is a number that went wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def targets(model: Model) -> Any:
    return LABELS if model is NadarayaWatsonClassifier else Y


def put(value: float) -> Any:
    x = X.copy()
    x[3, 1] = value
    return x


@MODELS
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (put(np.nan), ValueError, "Input X contains NaN"),
        (put(np.inf), ValueError, "Input X contains infinity or a value too large"),
        (put(1e200), ArgumentError, r"X: expected numbers up to 1e\+140, got 1e\+200: give it in a larger unit"),
        (csr_matrix(X), TypeError, "Sparse data was passed for X, but dense data is required"),
        (np.array([["a", "b"]] * 20), ValueError, "could not convert string to float"),
        (X + 1j, ValueError, "Complex data not supported"),
        (X[:, 0], ValueError, "Expected 2D array, got 1D array instead"),
        (X[:, :, None], ValueError, "Found array with dim 3"),
        (X[:0], ValueError, "Found array with 0 sample"),
        (X[:, :0], ValueError, "Found array with 0 feature"),
        (X[:5], ValueError, "inconsistent numbers of samples"),
        ([[1, 2], [3]], ValueError, "inhomogeneous shape"),
        (None, ValueError, "Expected 2D array, got scalar array instead"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_features(model: Model, x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model().fit(x, targets(model))


@MODELS
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bandwidth": 0}, "bandwidth: expected positive, finite numbers, got 0"),
        ({"bandwidth": -1}, "bandwidth: expected positive, finite numbers, got -1"),
        ({"bandwidth": np.nan}, "bandwidth: expected positive, finite numbers, got nan"),
        ({"bandwidth": [1, 0]}, r"bandwidth: expected positive, finite numbers, got \[1, 0\]"),
        ({"bandwidth": [1, 2, 3]}, r"one for each of 2 features, got shape \(3,\)"),
        ({"bandwidth": "wide"}, 'bandwidth: expected a positive number, .* "scott" or "silverman", got .wide.'),
        ({"bandwidth": True}, "bandwidth: expected a positive number or one for each feature, got True"),
        ({"bandwidth": 1j}, "bandwidth: expected a positive number or one for each feature, got 1j"),
        ({"kernel": "square"}, "kernel: expected one of gaussian, .* got 'square'"),
        ({"kernel": ["gaussian"]}, "kernel: expected one of gaussian"),
        ({"metric": "cosine"}, "metric: expected one of euclidean, manhattan, chebyshev, got 'cosine'"),
        ({"metric": []}, "metric: expected one of euclidean"),
    ],
)
def test_settings(model: Model, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        model(**settings).fit(X, targets(model))


@MODELS
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(20), "at least one non-zero|at least one positive"),
        (-np.ones(20), "Negative values in data passed to `sample_weight`"),
        (np.full(20, np.nan), "Input sample_weight contains NaN"),
        (np.ones(3), r"sample_weight.shape == \(3,\), expected \(20,\)"),
        (np.full(20, 1e308), r"sample_weight: expected 0 or numbers from 1e-50 to 1e\+50, got weights from 1e\+308"),
        (np.full(20, 5e-324), "sample_weight: expected 0 or numbers from 1e-50"),
    ],
)
def test_weights(model: Model, weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model().fit(X, targets(model), sample_weight=weight)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.where(Y > 1, np.nan, Y), "Input y contains NaN"),
        (np.where(Y > 1, np.inf, Y), "Input y contains infinity"),
        (Y * 1e200, r"y: expected numbers up to 1e\+140"),
        (np.array(["a", "b"] * 10), "could not convert string to float"),
        (Y[:5], "inconsistent numbers of samples"),
        (None, "requires y to be passed"),
    ],
)
def test_targets(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NadarayaWatson().fit(X, y)
    if y is None or y.dtype.kind == "f":
        with pytest.raises(ValueError, match=message):
            NadarayaWatson(bandwidth=1).partial_fit(X, y)


@MODELS
def test_questions(model: Model) -> None:
    fitted = model(bandwidth=1.0).fit(X, targets(model))
    asks: list[Callable[[Any], Any]] = [fitted.predict, fitted.attention, fitted.effective_neighbours]
    for ask in asks:
        for x, message in (
            (X[:, :1], "X has 1 features, but NadarayaWatson.* is expecting 2 features"),
            (put(np.nan), "Input X contains NaN"),
            (X[:0], "Found array with 0 sample"),
            (X[0], "Expected 2D array, got 1D"),
        ):
            with pytest.raises(ValueError, match=message):
                ask(x)
        with pytest.raises(TypeError, match="Sparse data was passed for X"):
            ask(csr_matrix(X))
    for top_k in (0, -1, 1.5, True, None, "3"):
        with pytest.raises(ArgumentError, match="top_k: expected a whole number from 1 on, got"):
            fitted.attention(X, top_k=top_k)


@MODELS
@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "epanechnikov", "boxcar"])
def test_extremes_that_will_do(model: Model, kernel: str) -> None:
    y = targets(model)
    mean = np.mean(y) if model is NadarayaWatson else np.argmax(np.bincount(y))
    for constant in (np.ones((20, 2)), np.full((20, 2), 1e139), np.zeros((20, 2))):
        np.testing.assert_allclose(model(kernel).fit(constant, y).predict(constant[:1]), mean)
    assert model(kernel).fit(X[:1], y[:1]).predict(X[:3]) == pytest.approx(y[0])
    for x in (X > 0, (X * 10).astype(int), X.astype(np.float16), X.tolist(), X * 1e-300, (X * 1e37).astype(np.float32)):
        assert np.isfinite(model(kernel).fit(x, y).predict(x)).all()
    for width in (1e-300, 5e-324, 1e-30):  # the nearest row alone answers
        np.testing.assert_allclose(model(kernel, bandwidth=width).fit(X, y).predict(X), y, rtol=1e-14)
    far = model(kernel, bandwidth=0.1).fit(X, y)
    assert np.isfinite(far.predict([[1.7e308, -1.7e308]])).all()
    if kernel != "laplacian":  # whose weights have other limits
        nearest = np.argmin(((X - [50, -50]) ** 2).sum(1))
        np.testing.assert_allclose(far.predict([[50, -50]]), y[nearest], rtol=1e-14)


VECTORS = RNG.normal(size=(5, 3))
NUMBERS = np.arange(5.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": [np.nan, 0, 0]}, "query: expected finite numbers, got NaN or infinity"),
        ({"keys": VECTORS * np.inf}, "keys: expected finite numbers"),
        ({"values": [1, 2, 3, 4, np.nan]}, "values: expected finite numbers"),
        ({"keys": csr_matrix(VECTORS)}, r"keys: expected a dense array, got a sparse one: give keys.toarray\(\)"),
        ({"keys": VECTORS.astype(str)}, "keys: expected real numbers, got <U"),
        ({"keys": VECTORS + 1j}, "keys: expected real numbers, got complex128"),
        ({"keys": [[1, 2], [3]]}, "keys: expected vectors of one length"),
        ({"keys": VECTORS[:0], "values": []}, r"at least one key, got shape \(0, 3\)"),
        ({"query": [1, 2]}, r"query: expected \(3,\) or \(queries, 3\) like the keys, got shape \(2,\)"),
        ({"values": NUMBERS[:3]}, r"values: expected one for each of 5 keys, got shape \(3,\)"),
        ({"values": 1.0}, "values: expected one for each of 5 keys"),
        ({"temperature": 0}, "temperature: expected a positive number, got 0"),
        ({"temperature": np.inf}, "temperature: expected a positive number, got inf"),
        ({"temperature": True}, "temperature: expected a positive number, got True"),
        ({"temperature": 5e-324}, "temperature: expected a number whose inverse float64 can hold"),
        ({"keys": VECTORS.astype(np.float32), "temperature": 1e-40}, "whose inverse float32 can hold"),
        ({"top_k": 0}, "top_k: expected an integer of at least 1, got 0"),
        ({"query": VECTORS[0] * 1e300, "keys": VECTORS * 1e300}, "query, keys: expected products .* to length 1"),
        ({"query": VECTORS[0] * 1e200, "keys": VECTORS.astype(np.float32)}, "query: expected numbers that float32"),
        ({"values": NUMBERS * 1e100, "keys": VECTORS.astype(np.float32)}, "values: expected numbers that float32"),
    ],
)
def test_lookups(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lookup(**{"query": VECTORS[0], "keys": VECTORS, "values": NUMBERS, **changed})


def test_lookups_that_will_do() -> None:
    assert lookup(VECTORS[:0], VECTORS, NUMBERS, top_k=2).weights.shape == (0, 2)
    assert lookup(VECTORS[0], VECTORS > 0, NUMBERS > 1).value == pytest.approx(
        lookup(VECTORS[0], (VECTORS > 0).astype(float), (NUMBERS > 1).astype(float)).value
    )
    assert lookup(VECTORS[0], VECTORS, NUMBERS, temperature=1e-300).value == 0
    assert lookup(VECTORS[0], VECTORS, NUMBERS, temperature=1e300).value == pytest.approx(2)
    assert lookup(VECTORS[0], VECTORS, NUMBERS * 1e307).value > 1e306


@pytest.mark.parametrize("kernel", ["epanechnikov", "boxcar", "triangular", "cosine"])
def test_keys_out_of_reach_cost_nothing(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of a query and a key that are looked at, with a thousand keys about and ever more beyond reach."""
    visited: list[int] = []
    scores = Neighbours._scores

    def counting(self: Neighbours, query: Any, line: Any, columns: Any, nearest: Any) -> Any:
        visited.append(len(columns))
        return scores(self, query, line, columns, nearest)

    monkeypatch.setattr(Neighbours, "_scores", counting)
    rng = np.random.default_rng(1)
    near, queries = rng.uniform(size=(1_000, 2)), rng.uniform(size=(50, 2))
    costs = []
    for beyond in (0, 1_000, 10_000, 100_000):
        x = np.concatenate([near, rng.uniform(2, 100, size=(beyond, 2))])
        model = NadarayaWatson(kernel, bandwidth=0.1).fit(x, x[:, 0])
        visited.clear()
        model.predict(queries)
        costs.append(sum(visited))
    assert len(set(costs)) == 1
    assert costs[0] < 50 * 1_000 * np.pi * 0.1**2 * 1.1
