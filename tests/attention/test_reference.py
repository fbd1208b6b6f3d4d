"""The reference itself: against PyTorch's functions in float64, and against arithmetic done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from qkv import ALiBi, ArgumentError, Causal, KeyBias, Window
from qkv.attention import reference

RNG = np.random.default_rng(7)
QUERY, KEY, VALUE = RNG.normal(size=(2, 6, 5, 4)), RNG.normal(size=(2, 3, 7, 4)), RNG.normal(size=(2, 3, 7, 2))


def torch_attention(**options: Any) -> np.ndarray:
    arrays = [torch.from_numpy(array) for array in (QUERY, KEY, VALUE)]
    return scaled_dot_product_attention(*arrays, enable_gqa=True, **options).numpy()


def test_it_is_scaled_dot_product_attention() -> None:
    np.testing.assert_allclose(reference.attend(QUERY, KEY, VALUE).output, torch_attention(), atol=1e-14)
    scaled = reference.attend(QUERY, KEY, VALUE, scale=0.3)
    np.testing.assert_allclose(scaled.output, torch_attention(scale=0.3), atol=1e-14)
    top_left = reference.attend(QUERY, KEY, VALUE, mask=Causal(align="top-left"))
    np.testing.assert_allclose(top_left.output, torch_attention(is_causal=True), atol=1e-14)
    bias = RNG.normal(size=(6, 5, 7))
    biased = reference.attend(QUERY, KEY, VALUE, bias=bias)
    np.testing.assert_allclose(biased.output, torch_attention(attn_mask=torch.from_numpy(bias)), atol=1e-14)


def test_every_step_follows_from_the_one_before() -> None:
    steps = reference.attend(
        QUERY, KEY, VALUE, mask=Window(3, 0), bias=ALiBi.geometric(6), scale=0.7, softcap=2, sink=np.arange(6.0)
    )
    np.testing.assert_allclose(steps.scores[1, 4], QUERY[1, 4] @ KEY[1, 2].T)
    np.testing.assert_allclose(steps.scaled, 0.7 * steps.scores)
    np.testing.assert_allclose(steps.capped, 2 * np.tanh(steps.scaled / 2))
    distance = np.abs(np.arange(5)[:, None] + 2 - np.arange(7))
    np.testing.assert_allclose((steps.biased - steps.capped)[0, 5], -distance * ALiBi.geometric(6).slopes[5])
    allowed = (np.arange(7) <= np.arange(5)[:, None] + 2) & (np.arange(7) >= np.arange(5)[:, None] - 1)
    np.testing.assert_array_equal(np.isfinite(steps.masked), np.broadcast_to(allowed, steps.masked.shape))
    exp = np.where(allowed, np.exp(steps.biased), 0)
    sums = exp.sum(-1, keepdims=True) + np.exp(np.arange(6.0))[:, None, None]
    np.testing.assert_allclose(steps.weights, exp / sums)
    np.testing.assert_allclose(steps.output[1, 4], steps.weights[1, 4] @ VALUE[1, 2])


def test_apple() -> None:
    """The article's example: apple = 0.3 orange + 0.4 apple + 0.15 and + 0.15 an, for any four words' values."""
    weights = np.array([0.3, 0.4, 0.15, 0.15])
    value = RNG.normal(size=(1, 4, 8))
    steps = reference.attend(np.ones((1, 1, 1)), np.log(weights)[None, :, None], value, score="dot")
    np.testing.assert_allclose(steps.weights[0, 0], weights)
    orange, apple, and_, an = value[0]
    np.testing.assert_allclose(steps.output[0, 0], 0.3 * orange + 0.4 * apple + 0.15 * and_ + 0.15 * an)


def test_the_gaussian_score_is_nadaraya_watson() -> None:
    query, key, value = RNG.normal(size=(1, 5, 3)), RNG.normal(size=(1, 9, 3)), RNG.normal(size=(1, 9, 1))
    width = 0.6
    kernel = np.exp(-((query[:, :, None] - key[:, None]) ** 2).sum(-1) / (2 * width**2))
    expected = kernel / kernel.sum(-1, keepdims=True)
    steps = reference.attend(query, key, value, score="gaussian", scale=1 / width**2)
    np.testing.assert_allclose(steps.weights, expected)
    np.testing.assert_allclose(steps.output, expected @ value)
    np.testing.assert_allclose(reference.attend(query, key, value, score="gaussian").scores, kernel**width**2)
    # and it is dot-product attention with a bias for each key
    as_attention = reference.attend(
        query, key, value, scale=1 / width**2, bias=KeyBias(-(key**2).sum(-1) / (2 * width**2))
    )
    np.testing.assert_allclose(as_attention.weights, expected)


def test_far_keys_keep_their_order_under_the_gaussian() -> None:
    """Where the kernel underflows, its logarithm does not."""
    query, key = np.zeros((1, 1, 1)), np.array([[[100.0], [101.0]]])
    steps = reference.attend(query, key, key, score="gaussian")
    assert (steps.scores == 0).all()
    np.testing.assert_allclose(steps.weights, [[[1, 0]]], atol=1e-40)


def test_score_functions() -> None:
    cosine = reference.attend(QUERY, KEY, VALUE, score="cosine").scores
    expected = torch.nn.functional.cosine_similarity(
        torch.from_numpy(QUERY)[..., :, None, :], torch.from_numpy(np.repeat(KEY, 2, axis=1))[..., None, :, :], dim=-1
    )
    np.testing.assert_allclose(cosine, expected)
    dot = reference.attend(QUERY, KEY, VALUE, score="dot")
    np.testing.assert_array_equal(dot.scores, dot.scaled)

    w_q, w_k, v = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=3)

    def additive(query: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Bahdanau's score."""
        return np.tanh((query @ w_q)[..., :, None, :] + (key @ w_k)[..., None, :, :]) @ v

    steps = reference.attend(QUERY, KEY, VALUE, score=additive)
    assert steps.scores.shape == (2, 6, 5, 7)
    np.testing.assert_allclose(steps.scores[1, 5, 2, 3], np.tanh(QUERY[1, 5, 2] @ w_q + KEY[1, 2, 3] @ w_k) @ v)
    np.testing.assert_allclose(steps.weights.sum(-1), 1)


@pytest.mark.usefixtures("unchecked")
def test_messages() -> None:
    with pytest.raises(ArgumentError) as caught:
        reference.attend(QUERY, KEY, VALUE, score="angle")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "score: expected 'dot', 'scaled_dot', 'cosine', 'gaussian' or a function of query and key, got 'angle'"
    )
    with pytest.raises(ArgumentError) as caught:
        reference.attend(QUERY, KEY, VALUE, score=lambda query, key: query)
    assert str(caught.value) == "score: expected a function that returns shape (2, 6, 5, 7), got (2, 6, 5, 4)"


def test_statistics_by_hand() -> None:
    weights = np.array([[[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]])
    np.testing.assert_allclose(reference.entropy(weights), [[np.log(2), 0.25 * np.log(4) + 0.75 * np.log(4 / 3)]])
    np.testing.assert_allclose(reference.distance(weights), [[0.5, 0.25]])
    np.testing.assert_allclose(reference.distance(weights, "top-left"), [[0.5, 0.75]])
    np.testing.assert_allclose(reference.block_map(weights, 2, 2), [[[1.25, 0.75]]])
    steps = reference.attend(np.ones((1, 1, 1)), np.array([[[1.0], [2.0], [2.0]]]), np.ones((1, 3, 1)))
    indices, tops = reference.top_k(steps, 4)
    np.testing.assert_array_equal(indices, [[[1, 2, 0, -1]]])
    np.testing.assert_allclose(tops[0, 0, :3], steps.weights[0, 0, [1, 2, 0]])
    assert tops[0, 0, 3] == 0


def test_empty_rows_weigh_nothing() -> None:
    steps = reference.attend(QUERY, KEY, VALUE, mask=np.zeros((5, 7), bool))
    assert not steps.weights.any()
    assert not steps.output.any()
    assert reference.attend(QUERY, KEY[:, :, :0], VALUE[:, :, :0]).output.shape == (2, 6, 5, 2)


def test_what_is_masked_is_not_read() -> None:
    value = VALUE.copy()
    value[:, :, 3:] = np.nan
    clean = reference.attend(QUERY, KEY, VALUE, mask=np.arange(7) < 3)
    np.testing.assert_allclose(reference.attend(QUERY, KEY, value, mask=np.arange(7) < 3).output, clean.output)
