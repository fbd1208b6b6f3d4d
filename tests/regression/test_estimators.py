"""scikit-learn's habits: its own checks, frames, pieces, weights, and its errors."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from qkv import ArgumentError
from qkv.regression import NadarayaWatson, NadarayaWatsonClassifier

NEEDS_A_SETTING = {"check_array_api_input"}  # SCIPY_ARRAY_API, which we do not claim to support


@pytest.mark.parametrize(
    "model",
    [
        NadarayaWatson(),
        NadarayaWatsonClassifier(),
        NadarayaWatson("epanechnikov"),
        NadarayaWatsonClassifier("laplacian", bandwidth="scott", metric="manhattan"),
    ],
    ids=str,
)
def test_scikit_learns_own_checks(model: NadarayaWatson | NadarayaWatsonClassifier) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(model, on_fail=None)
    missed = [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"]
    assert [name for name, _ in missed if name not in NEEDS_A_SETTING] == []
    assert len(results) > 40


def test_frames_in(request: pytest.FixtureRequest) -> None:
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    model = NadarayaWatson(bandwidth=0.05).fit(X, y)
    assert list(model.feature_names_in_) == list(X.columns)
    expected = NadarayaWatson(bandwidth=0.05).fit(X.to_numpy(), y.to_numpy()).predict(X.to_numpy())
    np.testing.assert_array_equal(model.predict(X), expected)
    polar = NadarayaWatson(bandwidth=0.05).fit(pl.DataFrame(X.to_dict("list")), pl.Series(y.to_list()))
    assert list(polar.feature_names_in_) == list(X.columns)
    np.testing.assert_array_equal(polar.predict(pl.DataFrame(X.to_dict("list"))), expected)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X.rename(columns={"bmi": "weight"}))


def test_pieces_make_the_whole() -> None:
    X, y = load_diabetes(return_X_y=True)
    whole = NadarayaWatson().fit(X, y)
    pieces = NadarayaWatson()
    for rows in np.array_split(np.arange(len(X)), 3):
        pieces.partial_fit(X[rows], y[rows])
    assert pieces._fitted is None  # nothing is chosen before it is asked for
    np.testing.assert_array_equal(pieces.predict(X), whole.predict(X))
    np.testing.assert_array_equal(pieces.bandwidth_, whole.bandwidth_)
    with pytest.raises(ValueError, match="y has"):
        pieces.partial_fit(X, np.stack([y, y], 1))
    with pytest.raises(ValueError, match="expecting 10 features"):
        pieces.partial_fit(X[:, :4], y)


def test_pieces_of_classes() -> None:
    X, y = load_iris(return_X_y=True)
    pieces = NadarayaWatsonClassifier(bandwidth=0.3)
    with pytest.raises(ValueError, match="classes must be passed"):
        pieces.partial_fit(X[:50], y[:50])
    for start in (0, 50, 100):
        pieces.partial_fit(X[start : start + 50], y[start : start + 50], classes=[0, 1, 2])
    whole = NadarayaWatsonClassifier(bandwidth=0.3).fit(X, y)
    np.testing.assert_array_equal(pieces.predict_proba(X), whole.predict_proba(X))
    with pytest.raises(ValueError, match="not among the classes"):
        pieces.partial_fit(X[:3], [0, 1, 9])
    with pytest.raises(ValueError, match="not the same"):
        pieces.partial_fit(X[:3], [0, 1, 1], classes=[0, 1])


def test_weights_are_repetitions() -> None:
    X, y = load_diabetes(return_X_y=True)
    mass = np.random.default_rng(0).integers(0, 3, len(X))
    weighted = NadarayaWatson().fit(X, y, mass)
    repeated = NadarayaWatson().fit(np.repeat(X, mass, 0), np.repeat(y, mass))
    np.testing.assert_allclose(weighted.bandwidth_, repeated.bandwidth_, rtol=1e-3)
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-3)


def test_several_outputs() -> None:
    X, y = load_diabetes(return_X_y=True)
    both = NadarayaWatson(bandwidth=0.05).fit(X, np.stack([y, -1000 * y], 1))
    one = NadarayaWatson(bandwidth=0.05).fit(X, y).predict(X)
    np.testing.assert_allclose(both.predict(X), np.stack([one, -1000 * one], 1))
    mean, std = both.predict(X, return_std=True)
    assert mean.shape == std.shape == (len(X), 2)
    assert NadarayaWatson(bandwidth=0.05).fit(X, y[:, None]).predict(X).shape == (len(X), 1)


def test_in_pipelines_and_searches() -> None:
    X, y = load_diabetes(return_X_y=True)
    chain = make_pipeline(StandardScaler(), NadarayaWatson(bandwidth=1.0))
    assert cross_val_score(chain, X, y, cv=3).mean() > 0.35
    search = GridSearchCV(chain, {"nadarayawatson__kernel": ["gaussian", "epanechnikov"]}, cv=2).fit(X, y)
    copy = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(copy.predict(X), search.predict(X))
    assert clone(chain[-1]).get_params() == {"kernel": "gaussian", "bandwidth": 1.0, "metric": "euclidean"}


X0, Y0 = np.array([[0.0, 1.0], [1.0, 5.0], [2.0, 2.0]]), np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "round"}, "kernel: expected one of gaussian, laplacian, .*, got 'round'"),
        ({"metric": "cosine"}, "metric: expected one of euclidean, manhattan, chebyshev, got 'cosine'"),
        ({"bandwidth": "wide"}, "bandwidth: expected a positive number, .*, got 'wide'"),
        ({"bandwidth": 0}, "bandwidth: expected positive, finite numbers, got 0"),
        ({"bandwidth": [1, np.nan]}, "bandwidth: expected positive, finite numbers"),
        ({"bandwidth": [1, 2, 3]}, r"bandwidth: expected one number or one for each of 2 features, got shape \(3,\)"),
        ({"bandwidth": [object()]}, "bandwidth: expected a positive number or one for each feature"),
    ],
)
def test_wrong_parameters(options: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        NadarayaWatson(**options).fit(X0, Y0)


def test_wrong_data() -> None:
    with pytest.raises(ValueError, match="Input X contains NaN"):
        NadarayaWatson().fit([[np.nan, 1], [1, 1]], [1, 2])
    with pytest.raises(ValueError, match="Input X contains infinity"):
        NadarayaWatson().fit([[np.inf, 1], [1, 1]], [1, 2])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        NadarayaWatson().fit(X0, [1, np.nan, 2])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        NadarayaWatson().fit(X0, [1, 2])
    with pytest.raises(TypeError, match="Sparse data was passed"):
        NadarayaWatson().fit(csr_matrix(X0), Y0)
    with pytest.raises(ValueError, match="Unknown label type"):
        NadarayaWatsonClassifier().fit(X0, [0.5, 1.2, 2.7])
    for model, y in ((NadarayaWatson(), Y0), (NadarayaWatsonClassifier(), [0, 1, 1])):
        with pytest.raises(ValueError, match=r"at least one (positive weight|non-zero number)"):
            model.fit(X0, y, np.zeros(3))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        NadarayaWatson().fit(X0, Y0, [1, -1, 1])
    with pytest.raises(NotFittedError):
        NadarayaWatson().predict(X0)
    model = NadarayaWatson(bandwidth=1.0).fit(X0, Y0)
    with pytest.raises(ValueError, match="X has 1 features, but NadarayaWatson is expecting 2"):
        model.predict([[1.0]])
    with pytest.raises(TypeError, match="Sparse data was passed"):
        model.predict(csr_matrix(X0))
    with pytest.raises(ArgumentError, match="top_k: expected a whole number from 1 on, got 0"):
        model.attention(X0, top_k=0)
    assert not hasattr(model, "loo_score_")
    assert not hasattr(NadarayaWatson(), "bandwidth_")


def test_small_and_constant_data() -> None:
    """One row, constant columns and constant targets are answered, not refused."""
    for kernel in ("gaussian", "laplacian", "boxcar"):
        assert NadarayaWatson(kernel).fit([[1.0, 2.0]], [5.0]).predict([[9.0, 9.0]]) == [5.0]
        two = NadarayaWatson(kernel).fit([[1.0, 2.0], [1.0, 3.0]], [5.0, 6.0])
        assert np.isfinite(two.predict([[9.0, 9.0]])).all()
        flat = NadarayaWatson(kernel).fit(np.ones((20, 2)), np.arange(20.0))
        np.testing.assert_allclose(flat.predict([[1.0, 1.0]]), 9.5)
        same = NadarayaWatson(kernel).fit(np.arange(20.0)[:, None], np.full(20, 7.0))
        np.testing.assert_allclose(same.predict([[3.3]]), 7)
    x = np.random.default_rng(0).normal(size=(60, 2))
    with_constant = np.concatenate([x, np.full((60, 1), 1e6)], axis=1)
    np.testing.assert_allclose(NadarayaWatson().fit(with_constant, x[:, 0]).bandwidth_[2], 60 ** (-1 / 7), rtol=1)
    assert NadarayaWatsonClassifier().fit(x, np.zeros(60)).predict_proba(x).tolist() == [[1.0]] * 60


def test_a_million_keys_reach_no_further_than_their_memory() -> None:
    """O(n): twenty thousand keys by five thousand queries take less than a hundredth of the matrix between them."""
    import tracemalloc

    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 16))
    model = NadarayaWatson(bandwidth=1.0).fit(x, x[:, 0])
    query = rng.normal(size=(5_000, 16))
    tracemalloc.start()
    model.predict(query)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 5_000 * 8 / 100
