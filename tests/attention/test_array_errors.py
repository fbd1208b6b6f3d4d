"""What bad input gets: a message that names the argument, what was expected, what came, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import qkv

X = np.zeros((4, 6, 8), np.float32)
T = torch.zeros(4, 6, 8)


def with_heads(count: int) -> np.ndarray:
    return np.zeros((count, 7, 8), np.float32)


CASES: list[tuple[dict[str, Any], str]] = [
    # what is no array
    (
        {"query": [[1.0]]},
        "query: expected a NumPy array or a torch tensor, got list; convert it with "
        "numpy.asarray(..., dtype=numpy.float32)",
    ),
    ({"key": 3.0}, "key: expected a NumPy array or a torch tensor, got float"),
    ({"value": None}, "value: expected a NumPy array or a torch tensor, got NoneType"),
    (
        {"query": np.ma.masked_array(X)},
        "query: expected a plain array, got a numpy.ma.MaskedArray, whose mask would be lost; pass its .data and say "
        "what may be attended with mask=",
    ),
    # frameworks, devices, dtypes
    ({"key": T}, "key: expected a NumPy array like the query, got a torch tensor"),
    ({"query": T}, "key: expected a torch tensor like the query, got a NumPy array"),
    (
        {"query": T.to_sparse()},
        "query: expected a dense tensor, got layout torch.sparse_coo; convert it with .to_dense()",
    ),
    (
        {"query": X.astype(int)},
        "query: expected float16, bfloat16, float32 or float64, got int64; convert it, to float32 say",
    ),
    (
        {"value": X.astype(complex)},
        "value: expected float16, bfloat16, float32 or float64, got complex128; convert it, to float32 say",
    ),
    (
        {"key": X.astype(np.float16)},
        "key: expected float32 like the query, got float16; dtypes are not mixed, convert one",
    ),
    # shapes
    (
        {"query": X[0, 0]},
        "query: expected (length, head_dim), (heads, length, head_dim) or (batch, heads, length, head_dim), "
        "got shape (8,)",
    ),
    ({"key": X[0]}, "key: expected 3 axes like the query (4, 6, 8), got shape (6, 8)"),
    (
        {"query": X[None].repeat(2, 0), "key": X[None], "value": X[None]},
        "key: expected the batch axes (2,) of the query, got shape (1, 4, 6, 8)",
    ),
    ({"key": X[..., :5]}, "key: expected the query's head_dim 8, got shape (4, 6, 5)"),
    ({"value": X[:, :5]}, "value: expected one for each of 6 keys, got shape (4, 5, 8)"),
    ({"value": X[:2]}, "value: expected the key's 4 heads, got shape (2, 6, 8)"),
    (
        {"key": with_heads(3), "value": with_heads(3)},
        "key: expected a number of heads that divides the query's 4, got 3 in shape (3, 7, 8); "
        "axes are (batch, heads, length, head_dim): transpose (batch, length, heads, head_dim)",
    ),
    (
        {"query": X[..., :0], "key": X[..., :0]},
        "query: expected a head_dim of at least 1, got shape (4, 6, 0)",
    ),
    # masks
    (
        {"mask": np.zeros((6, 6), np.float32)},
        "mask: expected booleans, True where a query may attend, got float32; "
        "give additive masks (0 and -inf) as bias=",
    ),
    (
        {"mask": np.zeros((5, 6), bool)},
        "mask: expected what broadcasts to (batch, heads, N, M) = (4, 6, 6), got shape (5, 6)",
    ),
    ({"mask": torch.ones(6, 6).bool()}, "mask: expected a NumPy array like the query, got a torch tensor"),
    (
        {"mask": qkv.Causal() & torch.ones(6, 6).bool()},
        "mask: expected a NumPy array like the query, got a torch tensor",
    ),
    ({"mask": "causal"}, "mask: expected a mask (Causal(), Padding(lengths), ...) or a boolean array, got 'causal'"),
    (
        {"mask": qkv.Causal},
        f"mask: expected a mask (Causal(), Padding(lengths), ...) or a boolean array, got {qkv.Causal!r}",
    ),
    ({"mask": qkv.Padding(7)}, "Padding lengths: expected 0 to 6 (the number of keys), got 7 to 7"),
    # biases, scale, softcap, sink
    (
        {"bias": np.ones((6, 6), bool)},
        "bias: expected floats, which are added to the scores, got bool; give boolean masks as mask=",
    ),
    ({"bias": np.ones((6, 6), int)}, "bias: expected floats, which are added to the scores, got int64"),
    (
        {"bias": np.ones((3, 6, 6))},
        "bias: expected what broadcasts to (batch, heads, N, M) = (4, 6, 6), got shape (3, 6, 6)",
    ),
    ({"bias": torch.ones(6, 6)}, "bias: expected a NumPy array like the query, got a torch tensor"),
    ({"bias": qkv.ALiBi([1, 2])}, "ALiBi slopes: expected one for each of 4 query heads, got shape (2,)"),
    ({"scale": float("nan")}, "scale: expected a finite number, or None for 1/sqrt(head_dim), got nan"),
    ({"scale": np.inf}, "scale: expected a finite number, or None for 1/sqrt(head_dim), got inf"),
    ({"scale": "1"}, "scale: expected a finite number, or None for 1/sqrt(head_dim), got '1'"),
    ({"scale": True}, "scale: expected a finite number, or None for 1/sqrt(head_dim), got True"),
    ({"softcap": 0.0}, "softcap: expected a positive number, or None for no cap, got 0.0"),
    ({"softcap": -2}, "softcap: expected a positive number, or None for no cap, got -2"),
    ({"softcap": np.ones(3)}, "softcap: expected a positive number, or None for no cap, got float64 of shape (3,)"),
    (
        {"sink": np.zeros(2, np.float32)},
        "sink: expected floats of shape (4,), one for each query head, got float32 of shape (2,)",
    ),
    ({"sink": torch.zeros(4)}, "sink: expected a NumPy array like the query, got a torch tensor"),
    (
        {"sink": np.zeros(4, int)},
        "sink: expected floats of shape (4,), one for each query head, got int64 of shape (4,)",
    ),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("function", [qkv.attend, qkv.observe, qkv.steps])
@pytest.mark.parametrize(("change", "message"), CASES, ids=[message[:50] for _, message in CASES])
def test_messages(function: Any, change: dict[str, Any], message: str) -> None:
    arguments = {"query": X, "key": X, "value": X} | change
    with pytest.raises(qkv.ArgumentError) as caught:
        function(**arguments)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, qkv.QkvError)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": -1}, "top_k: expected an integer of at least 0, got -1"),
        ({"top_k": 1.5}, "top_k: expected an integer of at least 0, got 1.5"),
        ({"top_k": True}, "top_k: expected an integer of at least 0, got True"),
        (
            {"block_map": -1},
            'block_map: expected a block size, a pair (queries, keys), "auto", or 0 for none, got -1',
        ),
        (
            {"block_map": "big"},
            "block_map: expected a block size, a pair (queries, keys), \"auto\", or 0 for none, got 'big'",
        ),
        ({"block_map": (64, 0)}, "block_map: expected an integer of at least 1, got 0"),
        ({"distance": "left"}, "distance: expected 'bottom-right' or 'top-left', got 'left'"),
    ],
)
def test_statistics(options: dict[str, Any], message: str) -> None:
    with pytest.raises(qkv.ArgumentError) as caught:
        qkv.observe(X, X, X, **options)
    assert str(caught.value) == message


NO_GRADIENTS = (
    "{}: no gradients come from here, and this tensor requires them (qkv.attend and qkv.observe give them to query, "
    "key, value, bias and sink); pass it with .detach(), or call under torch.no_grad()"
)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: qkv.weights(T.clone().requires_grad_(), T), "query"),
        (lambda: qkv.steps(T, T, T, sink=torch.nn.Parameter(torch.zeros(4))), "sink"),
        (lambda: qkv.steps(T, T, T, bias=qkv.KeyBias(torch.nn.Parameter(torch.zeros(6)))), "bias"),
        (lambda: qkv.weights(T, T, bias=qkv.ALiBi(torch.nn.Parameter(torch.ones(4)))), "bias"),
        (lambda: qkv.Partial.of(T, T, T.clone().requires_grad_()), "value"),
        (lambda: qkv.merge(qkv.Partial.of(T, T, T), sink=torch.nn.Parameter(torch.zeros(4))), "sink"),
        (lambda: qkv.attend(T, T, T, scale=torch.nn.Parameter(torch.ones(()))), "scale"),
        (lambda: qkv.weights(T, T, lse=torch.zeros(4, 6, requires_grad=True)), "lse"),
    ],
)
def test_tensors_that_require_gradients_are_not_cut_off_silently(call: Any, name: str) -> None:
    with pytest.raises(qkv.ArgumentError) as caught:
        call()
    assert str(caught.value) == NO_GRADIENTS.format(name)
    with torch.no_grad():
        call()
