"""Leave-one-out: its error and gradient are exact, and what it chooses is better than a rule of thumb."""

from __future__ import annotations

import numpy as np
import pytest
from exact import weights
from sklearn.datasets import load_diabetes, load_iris

from qkv.regression import NadarayaWatson, NadarayaWatsonClassifier
from qkv.regression._bandwidth import error_and_gradient, plain_error, rule


def data(n: int = 120, d: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    values = np.stack([np.sin(3 * x[:, 0]), x[:, 1] ** 2 + rng.normal(size=n) / 5], axis=1)
    return x, values, np.exp(rng.normal(size=n))


@pytest.mark.parametrize("width", [0.001, 0.3, 20.0])
def test_the_error_is_that_of_each_row_without_itself(width: float) -> None:
    x, values, mass = data()
    mean = weights(x, x, width, sample_weight=mass, except_self=True) @ values
    expected = np.average(((mean - values) ** 2).sum(1), weights=mass)
    assert error_and_gradient(x, values, mass, np.full(3, width))[0] == pytest.approx(float(expected), rel=1e-6)
    for kernel in ("gaussian", "laplacian", "epanechnikov"):
        mean = weights(x, x, width, kernel, sample_weight=mass, except_self=True) @ values
        expected = np.average(((mean - values) ** 2).sum(1), weights=mass)
        assert plain_error(x, values, mass, np.full(3, width), kernel) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cells", [1 << 24, 1])
def test_the_gradient(dtype: type, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkv.regression._bandwidth.CELLS", cells)  # all features at once, or one by one
    x, values, mass = data()
    width = np.array([0.3, 0.5, 2.0])
    gradient = error_and_gradient(x.astype(dtype), values, mass, width)[1]
    step = 1e-5
    for feature in range(3):
        up, down = (np.exp(np.log(width) + sign * step * np.eye(3)[feature]) for sign in (1, -1))
        slope = (error_and_gradient(x, values, mass, up)[0] - error_and_gradient(x, values, mass, down)[0]) / (2 * step)
        assert gradient[feature] == pytest.approx(slope, rel=1e-5 if dtype == np.float64 else 1e-3)


def test_a_feature_that_says_nothing_gets_a_wide_kernel() -> None:
    x, _, _ = data(600)
    model = NadarayaWatson().fit(x, np.sin(3 * x[:, 0]))
    assert model.bandwidth_[1:].min() > 10 * model.bandwidth_[0]
    assert model.loo_score_ > 0.98


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "epanechnikov", "boxcar", "triangular", "cosine"])
def test_better_than_a_rule_of_thumb(kernel: str) -> None:
    X, y = load_diabetes(return_X_y=True)
    train, test = np.s_[:300], np.s_[300:]
    chosen = NadarayaWatson(kernel).fit(X[train], y[train])
    ruled = NadarayaWatson(kernel, bandwidth="silverman").fit(X[train], y[train])
    assert chosen.score(X[test], y[test]) > max(0.35, ruled.score(X[test], y[test]))
    assert 0.3 < chosen.loo_score_ < 0.6


def test_classes() -> None:
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:100], order[100:]
    assert NadarayaWatsonClassifier().fit(X[train], y[train]).score(X[test], y[test]) > 0.9


def test_more_rows_than_the_first_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage on a sample and one on all find what all at once find."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, size=(1500, 2))
    y = np.sin(2 * x[:, 0]) + rng.normal(size=1500) / 5
    at_once = NadarayaWatson().fit(x, y)
    monkeypatch.setattr("qkv.regression._bandwidth.STAGES", ((300, 300, 60), (900, 400, 10), (1500, 500, 5)))
    staged = NadarayaWatson().fit(x, y)
    assert staged.bandwidth_[0] == pytest.approx(at_once.bandwidth_[0], rel=0.35)
    assert staged.loo_score_ == pytest.approx(at_once.loo_score_, abs=0.01)


def test_rules_of_thumb() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2)) * [1, 100]
    scott = rule("scott", x.std(0), 500)
    np.testing.assert_allclose(scott, x.std(0) * 500 ** (-1 / 6))
    np.testing.assert_allclose(rule("silverman", x.std(0), 500), scott)  # the same in two dimensions
    np.testing.assert_allclose(NadarayaWatson(bandwidth="scott").fit(x, x[:, 0]).bandwidth_, scott)
    np.testing.assert_allclose(rule("silverman", x[:, :1].std(0), 500), x[:, :1].std(0) * (500 * 0.75) ** (-1 / 5))


def test_seasons_are_found() -> None:
    """A short wave on a long trend has two widths of least error nearby; the narrow one is the better by far."""
    x = np.sort(np.random.default_rng(0).uniform(0, 40, 2200))
    model = NadarayaWatson().fit(x[:, None], x + 3 * np.sin(2 * np.pi * x))
    assert model.bandwidth_[0] < 0.1
    assert model.loo_score_ > 0.999
