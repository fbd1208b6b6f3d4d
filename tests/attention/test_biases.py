"""Biases: what they mean, how they add up and print, and that the plan says the same as their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import biases
from hypothesis import given
from hypothesis import strategies as st

from qkv import ALiBi, ArgumentError, Bias, KeyBias, RelativeBias
from qkv.attention._biases import as_bias
from qkv.attention._prepare import make_plan
from qkv.attention._scores import ScoreShape
from qkv.attention._window import window_scores


@given(st.data())
def test_lowering_is_the_definition(data: st.DataObject) -> None:
    batch = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    sizes = st.integers(1, 9)
    shape = ScoreShape(batch, data.draw(st.integers(1, 3)), data.draw(sizes), data.draw(sizes))
    bias = as_bias(data.draw(biases(batch, shape.heads, shape.queries, shape.keys)))
    plan = make_plan(shape, 1, "float64", bias=bias, scale=0)
    rows, columns = np.arange(shape.queries), np.arange(shape.keys)
    zeros = np.zeros((shape.batches, shape.heads, 1, 1))
    found = window_scores(
        np.repeat(zeros, shape.queries, axis=2), np.repeat(zeros, shape.keys, axis=2), plan, rows, columns
    )
    expected = np.broadcast_to(bias._matrix(shape), shape.full).reshape(shape.flat)
    np.testing.assert_allclose(found, expected, rtol=1e-15)

    top, left = data.draw(st.integers(0, shape.queries)), data.draw(st.integers(0, shape.keys))
    piece = plan.rows(top, shape.queries).columns(left, shape.keys)
    counts = shape.queries - top, shape.keys - left
    found = window_scores(
        np.repeat(zeros, counts[0], axis=2), np.repeat(zeros, counts[1], axis=2), piece, *map(np.arange, counts)
    )
    np.testing.assert_allclose(found, expected[:, :, top:, left:], rtol=1e-15)


def test_alibi() -> None:
    np.testing.assert_array_equal(ALiBi([1, 0.5]).matrix(1, 3, heads=2), [[[-2, -1, 0]], [[-1, -0.5, 0]]])
    np.testing.assert_array_equal(ALiBi(1, align="top-left").matrix(1, 3)[0], [[0, -1, -2]])
    # the slopes that the paper's authors use for 8 and for 12 heads
    np.testing.assert_allclose(ALiBi.geometric(8).slopes, [2.0**-k for k in range(1, 9)])
    expected = [*[2.0**-k for k in range(1, 9)], *[2.0 ** -(k + 0.5) for k in range(4)]]
    np.testing.assert_allclose(ALiBi.geometric(12).slopes, expected)


def test_relative_bias() -> None:
    table = RelativeBias([[-2, -1, 0, 1, 2]])
    np.testing.assert_array_equal(table.matrix(1, 5)[0], [[-2, -2, -2, -1, 0]])
    np.testing.assert_array_equal(table.matrix(4, 4)[0, 0], [0, 1, 2, 2])


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (16, 40), (8, 20)])
def test_t5_buckets_are_those_of_hugging_face(bidirectional: bool, buckets: int, max_distance: int) -> None:
    transformers = pytest.importorskip("transformers.models.t5.modeling_t5")
    table = np.random.default_rng(0).normal(size=(buckets, 3))
    bias = RelativeBias.t5(table, bidirectional=bidirectional, max_distance=max_distance)
    step = torch.arange(400)[None] - torch.arange(400)[:, None]
    bucket = transformers.T5Attention._relative_position_bucket(step, bidirectional, buckets, max_distance).numpy()
    np.testing.assert_array_equal(bias.matrix(400, heads=3), np.moveaxis(table[bucket], -1, 0))


def test_key_bias() -> None:
    np.testing.assert_array_equal(KeyBias([1, 2]).matrix(2), [[1, 2], [1, 2]])
    assert KeyBias(np.zeros((3, 1, 5))).matrix(2, 5, heads=4, batch=(3,)).shape == (3, 1, 2, 5)
    assert KeyBias(torch.zeros(5).half()).matrix(2, 5).shape == (2, 5)


def test_sums_with_arrays_on_either_side() -> None:
    array = np.arange(4.0).reshape(2, 2)
    tensor = torch.from_numpy(array)
    for total in (KeyBias([1, 1]) + array, array + KeyBias([1, 1]), KeyBias([1, 1]) + tensor, tensor + KeyBias([1, 1])):
        assert isinstance(total, Bias)
        np.testing.assert_array_equal(total.matrix(2), array + 1)
    assert (ALiBi(1) + KeyBias([1, 1]) + array).matrix(2).shape == (1, 2, 2)


def test_repr() -> None:
    for bias in (ALiBi([0.5]), ALiBi([0.5], align="top-left"), RelativeBias([[0.0, 1.0, 2.0]]), KeyBias([1.0, 2.0])):
        assert repr(eval(repr(bias))) == repr(bias)
    assert repr(ALiBi([0.5]) + np.zeros((9, 9))) == "ALiBi([0.5]) + ArrayBias(<float64 of shape (9, 9)>)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ALiBi([[1.0]]), "ALiBi slopes: expected one for each head, (heads,), got shape (1, 1)"),
        (lambda: ALiBi([-1.0]), "ALiBi slopes: expected finite positive numbers, got [-1.0]"),
        (lambda: ALiBi(["a"]), "ALiBi slopes: expected real numbers, got ['a']"),
        (
            lambda: ALiBi([1, 2]).matrix(2, heads=3),
            "ALiBi slopes: expected one for each of 3 query heads, got shape (2,)",
        ),
        (lambda: ALiBi.geometric(0), "ALiBi.geometric heads: expected an integer of at least 1, got 0"),
        (
            lambda: RelativeBias([[1, 2]]),
            "RelativeBias table: expected (heads, 2R + 1), an odd number of columns, got shape (1, 2)",
        ),
        (
            lambda: RelativeBias([[1, 2, 3]]).matrix(2, heads=2),
            "RelativeBias table: expected a row for each of 2 query heads, got 1 rows",
        ),
        (lambda: RelativeBias.t5([1, 2]), "RelativeBias.t5 table: expected (buckets, heads), got shape (2,)"),
        (
            lambda: KeyBias(1.0),
            "KeyBias: expected one number for each key, what broadcasts to (batch, heads, M), got ()",
        ),
        (
            lambda: KeyBias([1, 2]).matrix(3),
            "KeyBias: expected what broadcasts to (batch, heads, M) = (1, 3), got shape (2,)",
        ),
        (
            lambda: ALiBi(1) + 1,
            "bias: expected a bias (ALiBi(slopes), KeyBias(values), ...) or an array, got 1",
        ),
        (
            lambda: ALiBi(1) + np.ones(3, bool),
            "bias: expected floats, which are added to the scores, got bool; give boolean masks as mask=",
        ),
        (
            lambda: (ALiBi(1) + np.ones((3, 2))).matrix(2),
            "bias: expected what broadcasts to (batch, heads, N, M) = (1, 2, 2), got shape (3, 2)",
        ),
    ],
)
def test_messages(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == message
