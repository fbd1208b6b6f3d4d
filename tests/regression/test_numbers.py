"""Predictions against an exact sum: every kernel, from tiny bandwidths to huge ones, near and far."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from exact import KERNELS, LOG_KERNELS, weights
from hypothesis import given
from hypothesis import strategies as st

from qkv.regression import NadarayaWatson, NadarayaWatsonClassifier

WIDTHS = [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e3]


def data(n: int = 300, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, np.sin(2 * x[:, 0]) + x[:, 1] + rng.normal(size=n) / 10


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_gaussian_is_exact_at_every_bandwidth(width: float, offset: float) -> None:
    x, y = data()
    x = np.float64(x + offset)
    # At the data, between two neighbours (where a tiny kernel's weights hang on every digit), and outside.
    query = np.concatenate([x[:20], x[:20] + width / 3, (x[:20] + x[20:40]) / 2, x[:5] + 3, x[:5] * 10])
    expected = weights(query, x, width) @ y
    model = NadarayaWatson(bandwidth=width).fit(x, y)
    np.testing.assert_allclose(model.predict(query), expected.astype(float), atol=2e-8)
    alone = np.concatenate([model.predict(row[None]) for row in query])
    np.testing.assert_allclose(alone, model.predict(query), rtol=1e-11, atol=1e-13)  # whatever rows it is asked with


@pytest.mark.parametrize("width", WIDTHS)
def test_float32_is_near(width: float) -> None:
    x, y = data()
    x = x.astype(np.float32)
    query = np.concatenate([x[:20], x[:20] + np.float32(width / 3), x[:5] * 10])
    model = NadarayaWatson(bandwidth=width).fit(x, y)
    expected = weights(query, x, width) @ y
    # Coordinates in bandwidths are rounded to float32 once, which nothing can undo: of |u|² an ulp.
    slack = 1e-4 + np.abs(x / width).max() * 6e-8
    np.testing.assert_allclose(model.predict(query), expected.astype(float), atol=min(slack, 0.3))


def test_what_is_uneven() -> None:
    """Outliers among the keys, and bandwidths of different sizes."""
    x, y = data()
    x[7] = [1e12, -1e9, 3.0]
    x[:, 2] *= 1e5
    width = np.array([0.3, 0.4, 1e5])
    expected = weights(x[:50], x, width) @ y
    np.testing.assert_allclose(
        NadarayaWatson(bandwidth=width).fit(x, y).predict(x[:50]), expected.astype(float), atol=1e-7
    )


def test_far_queries_get_their_nearest_rows() -> None:
    x = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    y = np.array([1.0, 2.0, 4.0, 8.0])
    far = np.array([[1e3, 0], [1e12, 0], [-1e9, -1e9], [0, 1e200], [1.7e308, 0], [-1.7e308, -1.7e308]])
    for kernel in (*LOG_KERNELS, *KERNELS):
        for dtype in (np.float64, np.float32):
            query = far[:3].astype(dtype) if dtype == np.float32 else far
            found = NadarayaWatson(kernel, bandwidth=0.1).fit(x.astype(dtype), y).predict(query)
            np.testing.assert_allclose(found[:1], 3, rtol=1e-4, err_msg=kernel)
            assert np.isfinite(found).all()
            assert ((found >= 1) & (found <= 8)).all()
    found = NadarayaWatson(bandwidth=0.1).fit(x, y).predict(far)
    np.testing.assert_allclose(found, [3, 3, 1, 8, 3, 1])


@pytest.mark.parametrize(
    ("kernel", "metric"), list(itertools.product([*LOG_KERNELS, *KERNELS], ["euclidean", "manhattan", "chebyshev"]))
)
def test_every_kernel_and_metric(kernel: str, metric: str) -> None:
    x, y = data()
    mass = np.random.default_rng(1).integers(0, 4, len(x)).astype(float)
    query = np.concatenate([x[:30] * 1.01, x[:4] * 100])
    for width in (0.05, 0.5, 5.0):
        model = NadarayaWatson(kernel, bandwidth=width, metric=metric).fit(x, y, mass)
        w = weights(query, x, width, kernel, metric, mass)
        mean = w @ y
        found, std = model.predict(query, return_std=True)
        np.testing.assert_allclose(found, mean.astype(float), atol=1e-7)
        expected_std = np.sqrt((w * (y - mean[:, None]) ** 2).sum(1)).astype(float)
        np.testing.assert_allclose(std, expected_std, atol=2e-5)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.where(w > 0, w * np.log(w), 0).sum(1)
        np.testing.assert_allclose(model.effective_neighbours(query), np.exp(entropy).astype(float), rtol=1e-6)
        seen = model.attention(query, top_k=4)
        best = -np.sort(-w, axis=1)[:, :4]
        np.testing.assert_allclose(seen.weights, best.astype(float), atol=1e-7)
        chosen = np.where(seen.indices < 0, 0, np.take_along_axis(w, np.maximum(seen.indices, 0), 1))
        np.testing.assert_allclose(chosen.astype(float), seen.weights, atol=1e-7)
        assert not (mass[seen.indices[seen.indices >= 0]] == 0).any()


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 40),
    d=st.integers(1, 6),
    log_width=st.floats(-4, 3),
    log_size=st.floats(-6, 6),
    outputs=st.integers(1, 3),
)
def test_any_data(seed: int, n: int, d: int, log_width: float, log_size: float, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    size = 10**log_size
    x, y = rng.normal(size=(n, d)) * size, rng.normal(size=(n, outputs))
    query = rng.normal(size=(10, d)) * size * 3
    width = 10**log_width * size
    mass = np.exp(rng.normal(size=n) * 3)
    expected = weights(query, x, width, sample_weight=mass) @ y
    found = NadarayaWatson(bandwidth=width).fit(x, y, mass).predict(query)
    np.testing.assert_allclose(found, expected.astype(float), atol=1e-7)


def test_probabilities() -> None:
    x, y = data()
    labels = np.array(["low", "middle", "high"])[np.digitize(y, [-0.5, 0.5])]
    model = NadarayaWatsonClassifier(bandwidth=0.3).fit(x, labels)
    w = weights(x, x, 0.3)
    expected = np.stack([w[:, labels == name].sum(1) for name in model.classes_], axis=1)
    np.testing.assert_allclose(model.predict_proba(x), expected.astype(float), atol=1e-8)
    np.testing.assert_allclose(model.predict_proba(x).sum(1), 1)
    assert (model.predict(x) == model.classes_[expected.argmax(1)]).all()
