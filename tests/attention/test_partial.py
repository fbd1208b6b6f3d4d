"""Cut the keys anywhere, merge in any order: the same attention."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import Case, assert_close, cases, dtype_name, float64, magnitude, reference_steps, slack, to_torch
from hypothesis import given
from hypothesis import strategies as st

import qkv
from qkv import Partial, merge
from qkv.attention import reference

STATISTICS = {"entropy": True, "max_score": True, "top_k": 3, "distance": True}


def cut(keys: int, data: st.DataObject) -> list[tuple[int, int]]:
    """Pieces of so many keys, empty ones too, in any order."""
    edges = sorted(data.draw(st.lists(st.integers(0, keys), max_size=4)))
    return data.draw(st.permutations(list(zip([0, *edges], [*edges, keys], strict=True))))


def check(case: Case, pieces: list[tuple[int, int]]) -> None:
    sink, options = case.options.get("sink"), {k: v for k, v in case.options.items() if k != "sink"}
    steps = reference_steps(case)
    queries, keys = steps.weights.shape[-2:]
    parts = [
        Partial.of(
            case.query, case.key[..., a:b, :], case.value[..., a:b, :], first=a, total=keys, **options, **STATISTICS
        )
        for a, b in pieces
    ]
    middle = len(parts) // 2
    halves = [merge(*half) for half in (parts[:middle], parts[middle:]) if half]
    whole = merge(*halves, sink=sink)

    tolerance, leading = 3 * slack(case, steps), tuple(case.query.shape[:-1])
    largest = 1 + np.abs(float64(case.value)).max(initial=0)
    half = 2.0**-7 * largest if dtype_name(case.query) in ("float16", "bfloat16") else 0
    assert_close(whole.output, steps.output.reshape(tuple(whole.output.shape)), tolerance * largest + half, "output")
    assert_close(whole.lse, reference.logsumexp(steps.masked, sink).reshape(leading), tolerance, "lse")
    entropy = reference.entropy(steps.weights).reshape(leading)
    assert_close(whole.entropy, entropy, tolerance * magnitude(case, steps), "entropy")
    assert_close(whole.max_score, steps.masked.max(-1, initial=-np.inf).reshape(leading), tolerance, "max_score")
    distance = reference.distance(steps.weights).reshape(leading)
    assert_close(whole.distance, distance, tolerance * (queries + keys + 1), "distance")
    _, best = reference.top_k(steps, 3)
    assert_close(whole.top_k.weights, best.reshape(*leading, 3), tolerance, "top_k.weights")
    named = np.asarray(whole.top_k.indices).reshape(*steps.weights.shape[:-1], 3)
    np.testing.assert_array_equal((named >= 0).sum(-1), np.minimum((steps.masked > -np.inf).sum(-1), 3))
    if keys:
        at = np.where(named >= 0, np.take_along_axis(steps.weights, np.maximum(named, 0), -1), 0)
        assert_close(at, best, tolerance, "weights of the keys named")
    for a, b in pieces if sink is None else ():
        piece = case.query, case.key[..., a:b, :]
        received = whole.received(*piece, first=a, total=keys, **options)
        expected = steps.weights[..., a:b]
        shape = case.query.shape[:-2]
        assert_close(received, expected.sum(-2).reshape(*shape, b - a), tolerance * (queries + 1), "received")
        block_map = whole.block_map(*piece, (2, 3), first=a, total=keys, **options)
        blocks = reference.block_map(expected, 2, 3)
        assert_close(block_map, blocks.reshape(*shape, *blocks.shape[-2:]), tolerance * 6, "block_map")


@given(cases(), st.data())
def test_numpy(case: Case, data: st.DataObject) -> None:
    check(case, cut(case.key.shape[-2], data))


@given(cases(), st.sampled_from([None, "bfloat16"]), st.data())
def test_torch(case: Case, dtype: str | None, data: st.DataObject) -> None:
    check(to_torch(case, dtype), cut(case.key.shape[-2], data))


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_a_long_text_in_pieces() -> None:
    query, key, value = random(2, 300, 16), random(2, 1000, 16), random(2, 1000, 8)
    options = {"mask": qkv.Causal() & qkv.Window(700, None), "bias": qkv.ALiBi([0.01, 0.1]), "softcap": 20.0}
    seen = qkv.observe(query, key, value, **options, **STATISTICS, received=True)
    edges = [0, 10, 11, 300, 640, 1000]
    pieces = list(pairwise(edges))
    whole = merge(
        *(
            Partial.of(query, key[:, a:b], value[:, a:b], first=a, total=1000, **options, **STATISTICS)
            for a, b in pieces
        )
    )
    np.testing.assert_allclose(whole.output, seen.output, atol=1e-5)
    np.testing.assert_allclose(whole.lse, seen.lse, atol=1e-5)
    np.testing.assert_allclose(whole.entropy, seen.entropy, atol=1e-4)
    np.testing.assert_array_equal(whole.top_k.indices, seen.top_k.indices)
    received = [whole.received(query, key[:, a:b], first=a, total=1000, **options) for a, b in pieces]
    np.testing.assert_allclose(np.concatenate(received, -1), seen.received, atol=1e-4)


def test_pieces_without_a_mask_need_no_place() -> None:
    query, key, value = random(4, 8), random(20, 8), random(20, 8)
    whole = merge(Partial.of(query, key[12:], value[12:]), Partial.of(query, key[:12], value[:12]))
    np.testing.assert_allclose(whole.output, qkv.attend(query, key, value), atol=1e-6)


def test_no_keys_change_nothing() -> None:
    query, key, value = random(2, 4, 8), random(2, 20, 8), random(2, 20, 8)
    part = Partial.of(query, key, value, **STATISTICS, total=20)
    nothing = Partial.of(query, key[:, :0], value[:, :0], first=20, total=20, **STATISTICS)
    assert (nothing.lse == -np.inf).all()
    whole = merge(nothing, part, nothing)
    for name in ("output", "lse", "entropy", "max_score", "distance"):
        np.testing.assert_allclose(getattr(whole, name), getattr(part, name), rtol=1e-6)
    np.testing.assert_array_equal(whole.top_k.indices, part.top_k.indices)
    assert (merge(nothing, nothing).output == 0).all()


def test_order_makes_no_difference() -> None:
    query, key, value = random(4, 8), random(30, 8), random(30, 8)
    parts = [Partial.of(query, key[a : a + 10], value[a : a + 10], first=a, total=30, top_k=5) for a in (0, 10, 20)]
    one, other = merge(*parts), merge(parts[2], merge(parts[1], parts[0]))
    np.testing.assert_allclose(one.output, other.output, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(one.top_k.indices, other.top_k.indices)


def test_16_bit_pieces_lose_nothing() -> None:
    x = torch.from_numpy(random(2, 40, 8)).bfloat16()
    part = Partial.of(x, x, x)
    assert part.output.dtype == torch.float32
    torch.testing.assert_close(part.output.bfloat16(), qkv.attend(x, x, x))


def test_pieces_travel() -> None:
    x = random(5, 4)
    part = Partial.of(x, x, x, top_k=2)
    again = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(again.output, part.output)
    np.testing.assert_array_equal(again.top_k.indices, part.top_k.indices)
    assert repr(again) == repr(part)
    assert repr(part).splitlines() == [
        "Partial",
        "  output     float32 of shape (5, 4)",
        "  lse        float32 of shape (5,)",
        "  top_k      indices int64 of shape (5, 2), weights float32 of shape (5, 2)",
    ]
    assert repr(merge(part, sink=np.zeros(1, np.float32))).startswith("Partial, with a sink")


X = random(5, 4)
SINK = np.zeros(1, np.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: merge(), "partials: expected at least one Partial to merge, got none"),
        (lambda: merge([1]), "partials[0]: expected a Partial, got list"),
        (
            lambda: merge(merge(Partial.of(X, X, X), sink=SINK), Partial.of(X, X, X)),
            "partials[0]: a sink is merged in already; give it once, in the last merge",
        ),
        (
            lambda: merge(Partial.of(X, X, X), Partial.of(X[:2], X, X)),
            "partials[1]: expected the queries and statistics of the first,\n"
            "Partial\n  output     float32 of shape (5, 4)\n  lse        float32 of shape (5,)\ngot\n"
            "Partial\n  output     float32 of shape (2, 4)\n  lse        float32 of shape (2,)",
        ),
        (
            lambda: Partial.of(X, X[:2], X[:2], mask=qkv.Causal()),
            "total: expected the number of keys in all, got None; masks, biases and distance are those of the whole",
        ),
        (
            lambda: Partial.of(X, X[:2], X[:2], first=4, total=5),
            "first: expected a piece within 5 keys, got keys 4 to 5",
        ),
        (lambda: Partial.of(X, X, X, first=-1), "first: expected an integer of at least 0, got -1"),
        (
            lambda: merge(Partial.of(X, X, X), sink=np.zeros(2, np.float32)),
            "sink: expected floats of shape (1,), one for each query head, got float32 of shape (2,)",
        ),
    ],
)
def test_messages(make: Any, message: str) -> None:
    with pytest.raises(qkv.ArgumentError) as caught:
        make()
    assert str(caught.value) == message
