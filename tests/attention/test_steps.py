"""`steps` and `steps_from_inputs`: the worked numbers of the articles, and agreement with `attend`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import Case, assert_close, cases, reference_steps, slack, to_torch
from hypothesis import given

import qkv
from qkv.attention import reference

NAMES = ("scores", "scaled", "capped", "biased", "masked", "weights", "output")


@given(cases())
def test_steps_end_where_attend_does(case: Case) -> None:
    for problem in (case, to_torch(case)):
        arrays = problem.query, problem.key, problem.value
        s = qkv.steps(*arrays, **problem.options)
        kind, leading = type(problem.query), tuple(problem.query.shape[:-1])
        assert all(type(getattr(s, name)) is kind for name in NAMES)
        assert tuple(s.weights.shape) == (*leading, problem.key.shape[-2])
        assert tuple(s.output.shape) == (*leading, problem.value.shape[-1])
        largest = 1 + np.abs(np.asarray(problem.value)).max(initial=0)
        tolerance = slack(case, reference_steps(case)) * largest
        assert_close(qkv.attend(*arrays, **problem.options), np.asarray(s.output, np.float64), tolerance, "output")
        whole = qkv.weights(*arrays[:2], **problem.options)
        assert_close(whole, np.asarray(s.weights, np.float64), tolerance, "weights")


def test_the_article_in_one_call() -> None:
    """[1, 4] . [0, 3] = 12, and 12 / sqrt(2) = 8.49."""
    s = qkv.steps(np.array([[1.0, 4.0]]), np.array([[0.0, 3.0]]), np.array([[1.0]]))
    assert s.scores == 12
    assert s.scaled.round(2) == 8.49
    assert s.weights == 1


def test_self_attention_of_four_words_in_two_dimensions() -> None:
    """The article's 1 x 4 x 2 input through three linear maps, softmax over the last axis; and PyTorch's answer."""
    torch.manual_seed(0)
    x = torch.randn(1, 4, 2)
    maps = [torch.nn.Linear(2, 2, bias=False) for _ in range(3)]
    with torch.no_grad():
        query, key, value = (linear(x) for linear in maps)
        weights = torch.softmax(query @ key.transpose(-1, -2) / 2**0.5, dim=-1)
        s = qkv.steps_from_inputs(x, *(linear.weight.T for linear in maps))
    torch.testing.assert_close(s.query[:, 0], query)
    torch.testing.assert_close(s.key[:, 0], key)
    torch.testing.assert_close(s.value[:, 0], value)
    torch.testing.assert_close(s.weights[:, 0], weights)
    torch.testing.assert_close(s.weights.sum(-1), torch.ones(1, 1, 4))
    torch.testing.assert_close(s.concatenated, weights @ value)
    assert s.projected is None
    assert s.x is x


@pytest.mark.parametrize("causal", [False, True])
def test_many_heads_are_those_of_pytorch(causal: bool) -> None:
    torch.manual_seed(1)
    module = torch.nn.MultiheadAttention(12, 3, bias=False, batch_first=True, dtype=torch.float64)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    blocked = torch.ones(5, 5).triu(1).bool() if causal else None
    with torch.no_grad():
        expected, weights = module(x, x, x, attn_mask=blocked, average_attn_weights=False)
        w_q, w_k, w_v = (part.T for part in module.in_proj_weight.chunk(3))
        options = {"mask": qkv.Causal()} if causal else {}
        s = qkv.steps_from_inputs(x, w_q, w_k, w_v, heads=3, w_o=module.out_proj.weight.T, **options)
    torch.testing.assert_close(s.projected, expected)
    torch.testing.assert_close(s.weights, weights)
    assert s.heads.shape == (2, 3, 5, 4)
    assert s.concatenated.shape == (2, 5, 12)
    torch.testing.assert_close(s.concatenated[:, :, 4:8], s.heads[:, 1])


def test_grouped_heads_and_another_value_dim() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 6))
    s = qkv.steps_from_inputs(x, rng.normal(size=(6, 8)), rng.normal(size=(6, 4)), rng.normal(size=(6, 6)), heads=4)
    assert s.query.shape == (4, 5, 2)
    assert s.key.shape == (2, 5, 2)
    assert s.value.shape == (2, 5, 3)
    assert s.concatenated.shape == (5, 12)
    np.testing.assert_allclose(s.output, qkv.attend(s.query, s.key, s.value))


@pytest.mark.parametrize("score", ["dot", "scaled_dot", "cosine", "gaussian", lambda q, k: q @ k.swapaxes(-1, -2) * 2])
def test_score_functions_in_both_frameworks(score: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 5, 3)).astype(np.float32) for _ in range(3)]
    expected = reference.attend(*arrays, score=score)
    found = qkv.steps(*arrays, score=score)
    in_torch = qkv.steps(*map(torch.from_numpy, arrays), score=score)
    for name in NAMES:
        assert getattr(found, name).dtype == np.float32
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)
        np.testing.assert_array_equal(getattr(in_torch, name).numpy(), getattr(found, name))


def test_queries_and_keys_of_different_dimensions() -> None:
    """Additive attention compares what has not the same dimensions."""
    s = qkv.steps(
        np.ones((3, 2)),
        np.ones((4, 5)),
        np.ones((4, 1)),
        score=lambda q, k: q.sum(-1)[..., None] + k.sum(-1)[..., None, :],
    )
    np.testing.assert_array_equal(s.scores, np.full((3, 4), 7.0))


def test_the_output_has_the_dtype_of_the_query() -> None:
    x = torch.randn(3, 4).bfloat16()
    s = qkv.steps(x, x, x)
    assert s.output.dtype == torch.bfloat16
    assert s.weights.dtype == torch.float32


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones(6)}, "x: expected (length, input_dim) or (batch, length, input_dim), got shape (6,)"),
        ({"x": [[1.0]]}, "x: expected a NumPy array or a torch tensor, got list; "
         "convert it with numpy.asarray(..., dtype=numpy.float32)"),
        ({"w_k": np.ones((6, 4), np.float32)}, "w_k: expected floats of one dtype and framework, "
         "like x (float64, numpy), got float32, numpy"),
        ({"w_q": np.ones(6)}, "w_q: expected a matrix (input_dim, output_dim), got shape (6,)"),
        ({"w_v": np.ones((4, 6))}, "w_v: expected 6 rows, x's last axis, got shape (4, 6); "
         "torch's Linear.weight has to be transposed"),
        ({"heads": 3}, "heads: expected a number that divides w_q's 4 columns, got 3"),
        ({"heads": 0}, "heads: expected an integer of at least 1, got 0"),
        ({"heads": 2.0}, "heads: expected an integer of at least 1, got 2.0"),
        ({"w_k": np.ones((6, 3))}, "w_k: expected columns for heads of 2, as many as w_q's 2 or a divisor of that, "
         "got float64 of shape (6, 3)"),
        ({"w_v": np.ones((6, 5))}, "w_v: expected columns for 2 heads, got float64 of shape (6, 5)"),
        ({"w_o": np.ones((6, 5))}, "w_o: expected 4 rows (heads * value_dim), got shape (6, 5)"),
    ],
)  # fmt: skip
def test_messages(change: dict[str, Any], message: str) -> None:
    square = np.ones((6, 4))
    arguments = {"x": np.ones((5, 6)), "w_q": square, "w_k": square, "w_v": square, "heads": 2} | change
    with pytest.raises(qkv.ArgumentError) as caught:
        qkv.steps_from_inputs(**arguments)
    assert str(caught.value) == message
