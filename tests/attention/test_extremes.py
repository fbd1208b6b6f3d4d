"""Numbers at the edge of what a dtype holds, and requests far larger than the problem."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import qkv

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # of the reference


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["array", "key", "relative"])
@pytest.mark.parametrize("length", [5, 200])
def test_a_bias_of_minus_infinity_masks_whatever_the_score(kind: str, poison: float, length: int) -> None:
    query, key, value = random(2, length, 4), random(2, length, 4), random(2, length, 3)
    row = np.zeros(length, np.float32)
    row[-1] = -np.inf
    bias: Any = {"array": row, "key": qkv.KeyBias(row)}.get(kind)
    keys = slice(0, length - 1)
    if kind == "relative":  # nothing later than the query: the last key is seen by the last query alone
        bias, keys = qkv.RelativeBias([[0, 0, -np.inf]] * 2), slice(0, length)
    spoilt = key.copy(), value.copy()
    for array in spoilt:
        array[:, -1] = poison
    rows = slice(0, length - 1)
    expected = qkv.observe(query, key, value, bias=bias, entropy=True, received=True)
    seen = qkv.observe(query, *spoilt, bias=bias, entropy=True, received=True)
    for name in ("output", "lse", "entropy"):
        np.testing.assert_array_equal(getattr(seen, name)[:, rows], getattr(expected, name)[:, rows], err_msg=name)
    found = qkv.weights(query, spoilt[0], bias=bias)[:, rows, keys]
    np.testing.assert_array_equal(found, qkv.weights(query, key, bias=bias)[:, rows, keys])
    steps = qkv.steps(query, *spoilt, bias=bias)
    assert np.isfinite(steps.output[:, rows]).all()
    np.testing.assert_allclose(steps.output[:, rows], seen.output[:, rows], atol=1e-5)


@pytest.mark.parametrize("size", [1e2, 1e6, 1e30])
@pytest.mark.parametrize("sink", [False, True])
def test_entropy_keeps_its_digits_however_large_the_scores(size: float, sink: bool) -> None:
    query, key = np.full((1, 1), size, np.float32), np.ones((4, 1), np.float32)
    logits = np.array([size], np.float32) if sink else None
    seen = qkv.observe(query, key, key, scale=1, sink=logits, entropy=True)
    assert seen.entropy == pytest.approx(0.8 * np.log(5) if sink else np.log(4), rel=1e-6)


@pytest.mark.parametrize("size", [1e39, 1e300])
def test_finite_biases_stay_finite_in_float32(size: float) -> None:
    x = random(1, 3, 4)
    bias = np.array([[0, 0, 0], [0, -size, -np.inf], [-size, -size, -size]])
    weights = qkv.weights(x, x, bias=bias)
    np.testing.assert_array_equal(weights[0, 1], [1, 0, 0])
    np.testing.assert_allclose(weights[0, 2], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(qkv.attend(x, x, x, bias=bias)[0, 2], x[0].mean(0), rtol=1e-6)
    assert qkv.observe(x, x, x, sink=np.array([size])).output == pytest.approx(0)


def test_requests_larger_than_the_problem() -> None:
    x = random(1, 6, 4)
    seen = qkv.observe(x, x, x, top_k=100_000, block_map=2**70)
    assert (seen.top_k.indices[..., 6:] == -1).all()
    np.testing.assert_allclose(seen.block_map, [[[6]]], rtol=1e-6)
    assert qkv.observe(x, x, x, block_map=(1, 2**70)).block_map.shape == (1, 6, 1)


def test_what_only_looks_like_an_array_of_two_axes() -> None:
    x = random(3, 4)
    matrix = x.view(np.matrix)
    found = qkv.attend(matrix, matrix, matrix)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, qkv.attend(x, x, x))


LEARNED: list[tuple[str, Any]] = [
    ("scale", lambda number: qkv.attend(*[torch.ones(2, 3)] * 3, scale=number)),
    ("softcap", lambda number: qkv.attend(*[torch.ones(2, 3)] * 3, softcap=number)),
    ("bandwidth", lambda number: qkv.similarity.gaussian([1], [2], bandwidth=number)),
]


@pytest.mark.parametrize(("name", "call"), LEARNED, ids=[name for name, _ in LEARNED])
def test_learned_numbers_are_not_cut_off_silently(name: str, call: Any) -> None:
    number = torch.nn.Parameter(torch.tensor(0.5))
    with pytest.raises(qkv.ArgumentError, match=f"^{name}: no gradients come from here"):
        call(number)
    with torch.no_grad():
        call(number)


X = np.zeros((4, 6, 8), np.float32)
T = torch.zeros(4, 6, 8)
ENDLESS = np.broadcast_to(np.zeros((1, 2), np.float32), (2**31, 2))
MESSAGES: list[tuple[Any, str]] = [
    (
        lambda: qkv.attend(ENDLESS[:1], ENDLESS, ENDLESS),
        "key: expected a length of at most 2147483647, got 2147483648",
    ),
    (
        lambda: qkv.Partial.of(ENDLESS[:1], ENDLESS[:1], ENDLESS[:1], total=2**31),
        "key: expected a length of at most 2147483647, got 2147483648",
    ),
    (
        lambda: qkv.attend(X, X, X, softcap=1e40),
        "softcap: expected a positive number, or None for no cap, got 1e+40, which float32 cannot hold",
    ),
    (
        lambda: qkv.attend(X, X, X, softcap=1e-300),
        "softcap: expected a positive number, or None for no cap, got 1e-300, which float32 cannot hold",
    ),
    (
        lambda: qkv.attend(X, X, X, scale=1e300),
        "scale: expected a finite number, or None for 1/sqrt(head_dim), got 1e+300, which float32 cannot hold",
    ),
    (
        lambda: qkv.attend(X, X, X, scale=10**400),
        "scale: expected a finite number, or None for 1/sqrt(head_dim), got " + repr(10**400)[:57] + "...",
    ),
    (
        lambda: qkv.attend(X, X, X, scale=np.True_),
        "scale: expected a finite number, or None for 1/sqrt(head_dim), got np.True_",
    ),
    (
        lambda: qkv.similarity.gaussian([1], [2], bandwidth="wide"),
        "bandwidth: expected a positive number, got 'wide'",
    ),
    (lambda: qkv.similarity.gaussian([1], [2], bandwidth=None), "bandwidth: expected a positive number, got None"),
    (
        lambda: qkv.attend(X, X, X, mask=[[True], [True, False]]),
        "mask: expected booleans in rows of one length, got [[True], [True, False]]",
    ),
    (lambda: qkv.Padding([[1], [2, 3]]), "Padding lengths: expected integers, got [[1], [2, 3]]"),
    (
        lambda: qkv.weights(X, X, rows=["a"]),
        "rows: expected a slice, an index or an array of indices, got ['a']",
    ),
    (
        lambda: qkv.weights(X, X, rows=[1.5]),
        "rows: expected indices into 6; arrays used as indices must be of integer (or boolean) type",
    ),
    (
        lambda: qkv.weights(X, X, rows=[[0], [1, 2]]),
        "rows: expected a slice, an index or an array of indices, got [[0], [1, 2]]",
    ),
    (
        lambda: qkv.attend(T.to(torch.float8_e4m3fn), T, T),
        "query: expected float16, bfloat16, float32 or float64, got float8_e4m3fn; convert it, to float32 say",
    ),
    (
        lambda: qkv.attend(X.astype(ml_dtypes.float8_e4m3fn), X, X),
        "query: expected float16, bfloat16, float32 or float64, got float8_e4m3fn; convert it, to float32 say",
    ),
    (
        lambda: qkv.attend(torch.nested.nested_tensor([T[0], T[1]]), T, T),
        "query: expected a dense tensor, got a nested one; pad it with torch.nested.to_padded_tensor and mask with "
        "qkv.Padding(lengths)",
    ),
    (
        lambda: qkv.attend(torch.quantize_per_tensor(T, 0.1, 0, torch.qint8), T, T),
        "query: expected a dense tensor, got a quantized one; convert it with .dequantize()",
    ),
    (
        lambda: torch.vmap(lambda x: qkv.attend(x, x, x))(T),
        "query: expected a tensor whose memory can be read, got one inside a transform of torch (vmap, grad, compile) "
        "or without memory; call qkv outside of it, leading axes are batch axes",
    ),
    (
        lambda: torch.func.jvp(lambda x: qkv.attend(x, x, x), (T,), (T,)),
        "query: no forward-mode derivatives (torch.func.jvp, jacfwd) come from here; use those of reverse mode: "
        "torch.func.vjp, jacrev",
    ),
    (
        lambda: qkv.RelativeBias.t5(np.zeros((32, 4)), max_distance=8),
        "RelativeBias.t5 max_distance: expected an integer of at least 9, got 8",
    ),
    (lambda: qkv.ALiBi.geometric(2.5), "ALiBi.geometric heads: expected an integer of at least 1, got 2.5"),
    (
        lambda: qkv.Partial.of(X, X, X).block_map(X, X, 0),
        'block_map: expected a block size, a pair (queries, keys), or "auto", got 0',
    ),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:.*(nested tensors|quantiz|deprecated):UserWarning")
@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message[:60] for _, message in MESSAGES])
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(qkv.ArgumentError) as caught:
        call()
    assert str(caught.value) == message


def test_lists_of_booleans_choose_as_arrays_do() -> None:
    x = random(1, 4, 3)
    chosen = [True, False, True, False]
    np.testing.assert_array_equal(qkv.weights(x, x, rows=chosen), qkv.weights(x, x, rows=[0, 2]))


@pytest.mark.parametrize("shape", [(0, 4), (0, 3, 4), (2, 0, 4)])
def test_steps_from_inputs_of_length_zero(shape: tuple[int, ...]) -> None:
    eye = np.eye(4)
    found = qkv.steps_from_inputs(np.ones(shape), eye, eye, eye, heads=2, w_o=np.ones((4, 5)))
    assert found.concatenated.shape == shape
    assert found.projected.shape == (*shape[:-1], 5)
