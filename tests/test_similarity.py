"""The four measures: the numbers of the articles, PyTorch's answers, and what bad input gets."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from qkv import ArgumentError
from qkv.similarity import cosine, dot, gaussian, scaled_dot

MEASURES = [dot, scaled_dot, cosine, gaussian]


def test_the_numbers_of_the_articles() -> None:
    assert dot([1, 4], [0, 3]) == 12
    assert round(scaled_dot([1, 4], [0, 3]), 2) == 8.49
    assert round(cosine([1, 0], [1, 1]), 2) == 0.71
    assert round(cosine([0, 3], [2, 2]), 2) == 0.71
    assert gaussian([1, 4], [1, 4]) == 1
    assert gaussian([0], [2], bandwidth=2) == pytest.approx(np.exp(-0.5))


@pytest.mark.parametrize("measure", MEASURES)
def test_two_vectors_give_a_number_and_sets_give_every_pair(measure: Any) -> None:
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 4, 5))
    pairs = measure(query, key)
    assert pairs.shape == (2, 3, 4)
    one = measure(query[1, 2], key[1, 3])
    assert type(one) is float
    assert one == pytest.approx(pairs[1, 2, 3])
    np.testing.assert_allclose(measure(query[1, 2], key[1]), pairs[1, 2])
    np.testing.assert_allclose(measure(query[1], key[1, 3]), pairs[1, :, 3])
    np.testing.assert_allclose(measure(query[1].tolist(), key[1].tolist()), pairs[1])
    np.testing.assert_allclose(measure(query[1], key), measure(query[1][None].repeat(2, 0), key))


def test_they_are_those_of_pytorch() -> None:
    query, key = torch.randn(6, 5), torch.randn(7, 5)
    torch.testing.assert_close(dot(query, key), query @ key.T)
    torch.testing.assert_close(cosine(query, key), torch.cosine_similarity(query[:, None], key[None], dim=-1))
    torch.testing.assert_close(gaussian(query, key, bandwidth=0.7), torch.exp(-(torch.cdist(query, key) ** 2) / 0.98))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("measure", MEASURES)
def test_dtypes_are_kept(measure: Any, dtype: Any) -> None:
    x = (np.arange(6).reshape(3, 2) / 4).astype(dtype)
    found = measure(x, x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(float), measure(x.astype(float), x.astype(float)), rtol=0.01)
    assert measure(torch.ones(3, 2).bfloat16(), torch.ones(3, 2).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("measure", MEASURES)
def test_integers_and_lists_go_with_everything(measure: Any) -> None:
    assert measure(np.array([[1, 2]]), np.array([[3, 4]])).dtype == np.float64
    assert measure([[1, 2]], torch.ones(3, 2)).shape == torch.Size([1, 3])
    assert isinstance(measure([[1, 2]], torch.ones(3, 2)), torch.Tensor)
    assert measure(np.array([[1, 2]]), np.ones((3, 2), np.float32)).dtype == np.float32


def test_a_vector_without_length_has_no_angle() -> None:
    assert cosine([0, 0], [1, 1]) == 0


def test_near_and_extreme_vectors_keep_their_digits() -> None:
    assert cosine([1e-200, 0], [1e200, 1e200]) == pytest.approx(0.5**0.5)
    assert gaussian([1e8], [1e8 + 0.5]) == pytest.approx(np.exp(-0.125))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dot([1, 2], [1, 2, 3]), "key: expected 2 dimensions like the query, got shape (3,)"),
        (lambda: dot(1.0, [1]), "query: expected a vector (d,) or vectors (.., length, d), got the number 1.0"),
        (lambda: dot(["a"], [1]), "query: expected real numbers, got ['a']"),
        (lambda: dot([[1, 2], [1]], [1]), "query: expected vectors of one length, got [[1, 2], [1]]"),
        (lambda: dot([1j], [1]), "query: expected real numbers, got [1j]"),
        (
            lambda: dot(np.ones((2, 3, 4)), np.ones((3, 3, 4))),
            "key: expected leading axes like the query's (2, 3, 4), got shape (3, 3, 4)",
        ),
        (
            lambda: dot(np.ones(3), torch.ones(3)),
            "key: expected float64 in numpy like the query, got float32 in torch",
        ),
        (
            lambda: dot(np.ones(3), np.ones(3, np.float32)),
            "key: expected float64 in numpy like the query, got float32 in numpy",
        ),
        (lambda: gaussian([1], [1], bandwidth=0), "bandwidth: expected a positive number, got 0"),
        (lambda: gaussian([1], [1], bandwidth=float("nan")), "bandwidth: expected a positive number, got nan"),
    ],
)
def test_messages(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == message
