"""The backward pass, against PyTorch's automatic differentiation of the definition, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_problems import Problem, double, problems, simple, stored

from qkv.attention._arrays import widen
from qkv.attention._backends import Gradients, Outputs
from qkv.attention._backends import _numpy as forward
from qkv.attention._backends._numpy_gradients import backward
from qkv.attention._dropout import kept, philox
from qkv.attention._plan import Plan
from qkv.attention._window import window_mask
from qkv.errors import ArgumentError

torch = pytest.importorskip("torch")


def as_float64(problem: Problem) -> Problem:
    arrays = [np.asarray(array, np.float64) for array in (problem.query, problem.key, problem.value)]
    return Problem(*arrays, double(problem.plan), "float64")


def wanted(problem: Problem) -> Gradients:
    """Allocated, and full of what must be overwritten."""

    def fresh(array: np.ndarray) -> np.ndarray:
        return np.full([1 if stride == 0 else n for n, stride in zip(array.shape, array.strides, strict=True)], 7.0)

    plan = problem.plan
    bias = tuple(np.full(t[1].shape, 7.0) if t[0] != "array" else fresh(t[1]) for t in plan.bias)
    sink = None if plan.sink is None else np.full(plan.sink.shape, 7.0)
    arrays = (np.full(array.shape, 7.0) for array in (problem.query, problem.key, problem.value))
    return Gradients(*arrays, bias, sink)


def computed(problem: Problem, grad_output: np.ndarray, grad_lse: np.ndarray) -> Gradients:
    outputs = Outputs(np.empty((*problem.query.shape[:3], problem.value.shape[3])), np.empty(problem.query.shape[:3]))
    arrays = (problem.query, problem.key, problem.value)
    forward.attend(*arrays, problem.plan, outputs, dtype="float64")
    found = wanted(problem)
    backward(*arrays, outputs.output, outputs.lse, grad_output, grad_lse, problem.plan, found, dtype="float64")
    return found


def differentiated(problem: Problem, grad_output: np.ndarray, grad_lse: np.ndarray) -> list[np.ndarray]:
    """Gradients of query, key, value, each bias and the sink, by automatic differentiation of the definition."""
    plan = problem.plan
    bias = [torch.tensor(term[1].copy() if term[0] != "array" else unbroadcast(term[1])) for term in plan.bias]
    sink = [] if plan.sink is None else [torch.tensor(plan.sink)]
    leaves = [torch.tensor(array.copy()) for array in (problem.query, problem.key, problem.value)] + bias + sink
    for leaf in leaves:
        leaf.requires_grad_()
    output, lse = define(problem, *leaves[:3], leaves[3 : 3 + len(bias)], leaves[3 + len(bias) :])
    reached = torch.isfinite(lse)
    loss = (output * torch.tensor(grad_output)).sum() + (lse * torch.tensor(grad_lse))[reached].sum()
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [np.zeros(leaf.shape) if g is None else g.numpy() for g, leaf in zip(found, leaves, strict=True)]


def unbroadcast(array: np.ndarray) -> np.ndarray:
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)].copy()


def define(problem: Problem, query: Any, key: Any, value: Any, bias: list[Any], sink: list[Any]) -> tuple[Any, Any]:
    plan = problem.plan
    batch, heads, queries, _ = query.shape
    group, rows, columns = heads // key.shape[1], np.arange(queries), np.arange(key.shape[2])
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = plan.scale * query @ key.transpose(-1, -2)
    if plan.softcap:
        scores = plan.softcap * torch.tanh(scores / plan.softcap)
    for term, values in zip(plan.bias, bias, strict=True):
        if term[0] == "array":
            scores = scores + values
            continue
        step = columns - rows[:, None] - term[2]
        if term[0] == "alibi":
            scores = scores - values[:, None, None] * torch.tensor(np.abs(step))
        else:
            reach = values.shape[1] // 2
            scores = scores + values[:, torch.tensor(np.clip(step, -reach, reach) + reach)]
    allowed = torch.tensor(np.broadcast_to(window_mask(plan, rows, columns), scores.shape).copy())
    allowed &= scores > -torch.inf
    scores = scores.masked_fill(~allowed, -torch.inf)
    extra = sink[0][:, None, None].expand(batch, heads, queries, 1) if sink else scores[..., :0]
    everything = torch.cat([scores, extra], -1)
    some = (everything > -torch.inf).any(-1)
    lse = torch.full(some.shape, -torch.inf, dtype=torch.float64)
    lse[some] = torch.logsumexp(everything[some], -1)
    weights = torch.exp(torch.where(allowed, scores, 0) - torch.where(some, lse, 0)[..., None])
    weights = torch.where(allowed, weights, 0)
    if plan.dropout:
        stays = torch.tensor(kept(plan.dropout, plan.seed, batch, heads, rows, columns))
        weights = torch.where(stays, weights / (1 - plan.dropout), 0)
    return weights @ value, lse


@given(problems(("float64",)), st.sampled_from([0.0, 0.0, 0.3]))
def test_numpy_against_automatic_differentiation(problem: Problem, dropout: float) -> None:
    problem = as_float64(problem)
    problem.plan = replace(problem.plan, dropout=dropout, seed=2**40 + 3)
    rng = np.random.default_rng(0)
    grad_output = rng.normal(size=(*problem.query.shape[:3], problem.value.shape[3]))
    grad_lse = rng.normal(size=problem.query.shape[:3])
    found = computed(problem, grad_output, grad_lse)
    gradients = [found.query, found.key, found.value, *found.bias, *([] if found.sink is None else [found.sink])]
    for got, expected in zip(gradients, differentiated(problem, grad_output, grad_lse), strict=True):
        assert got is not None
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9 * max(1.0, np.abs(expected).max(initial=0)))


def test_finite_differences() -> None:
    problem = simple(1, 2, 5, 6, 4, causal=True, dtype="float64", softcap=3.0)
    rng = np.random.default_rng(1)
    grad_output, grad_lse = rng.normal(size=(1, 2, 5, 4)), rng.normal(size=(1, 2, 5))

    def loss() -> float:
        outputs = Outputs(np.empty((1, 2, 5, 4)), np.empty((1, 2, 5)))
        forward.attend(problem.query, problem.key, problem.value, problem.plan, outputs, dtype="float64")
        return float((outputs.output * grad_output).sum() + (outputs.lse * grad_lse).sum())

    found = computed(problem, grad_output, grad_lse)
    for array, gradient in ((problem.query, found.query), (problem.key, found.key), (problem.value, found.value)):
        place, step = (0, 1, 3, 2), 1e-6
        before = array[place]
        array[place] = before + step
        above = loss()
        array[place] = before - step
        below = loss()
        array[place] = before
        assert (above - below) / (2 * step) == pytest.approx(gradient[place], rel=1e-6)


def test_what_is_masked_has_no_part_in_gradients() -> None:
    problem = simple(1, 1, 4, 6, 3, dtype="float64")
    stop = np.array([[3, 0, 3, 2]], np.int32)  # nobody sees key 3 or later, query 1 sees nothing
    problem.plan = replace(problem.plan, stop=stop, start=np.zeros_like(stop))
    plain = computed(problem, np.ones((1, 1, 4, 3)), np.ones((1, 1, 4)))
    problem.key[:, :, 3:] = np.nan
    problem.value[:, :, 4:] = np.inf
    poisoned = computed(problem, np.ones((1, 1, 4, 3)), np.ones((1, 1, 4)))
    for name in ("query", "key", "value"):
        np.testing.assert_allclose(getattr(poisoned, name), getattr(plain, name), atol=1e-12)
    assert not plain.key[:, :, 3:].any()
    assert not plain.query[:, :, 1].any()


def test_philox_is_philox() -> None:
    """Known answers of the generator's authors: Random123, kat_vectors."""

    def words(*counter: int, key: int) -> list[int]:
        return [int(word[0]) for word in philox(tuple(np.array([w], np.uint64) for w in counter), key)]

    assert words(0, 0, 0, 0, key=0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    full = 0xFFFFFFFF
    assert words(full, full, full, full, key=2**64 - 1) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert words(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, key=0x299F31D0A4093822) == [
        0xD16CFE09,
        0x94FDCCEB,
        0x5001E420,
        0x24126EA1,
    ]


@pytest.mark.parametrize("causal", [False, True])
def test_native_dropout_keeps_what_numpy_keeps(causal: bool) -> None:
    rng = np.random.default_rng(0)
    plain = simple(2, 4, 70, 150, 8, causal=causal)
    plain.value = np.broadcast_to(np.eye(150, dtype=np.float32), (2, 4, 150, 150)).copy()
    dropped = replace(plain, plan=replace(plain.plan, dropout=0.25, seed=int(rng.integers(2**63))), sums=False)
    stays = kept(0.25, dropped.plan.seed, 2, 4, np.arange(70), np.arange(150))
    without, found = plain.computed(), dropped.computed()
    expected = np.where(stays, without.output / np.float32(0.75), 0)
    np.testing.assert_allclose(found.output, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.lse, without.lse)
    assert 0.74 < stays.mean() < 0.76


def test_dropout_of_bfloat16() -> None:
    """Where weights are rounded, and stored by pairs, those that stay are as without dropout."""
    for start in (0, 1):
        plain = replace(simple(1, 2, 40, 150, 8, dtype="bfloat16"), sums=False)
        plain.plan = replace(plain.plan, start=np.full((1, 40), start, np.int32))
        plain.value = np.ascontiguousarray(stored(np.broadcast_to(np.eye(150), (1, 2, 150, 150)), "bfloat16"))
        dropped = replace(plain, plan=replace(plain.plan, dropout=0.25, seed=7))
        stays = kept(0.25, 7, 1, 2, np.arange(40), np.arange(150))
        without, found = (np.asarray(widen(p.computed().output, "bfloat16")) for p in (plain, dropped))
        np.testing.assert_allclose(found, np.where(stays, without / 0.75, 0), rtol=0.01)


def test_dropout_in_the_array_api() -> None:
    import qkv

    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(3, 50, 8)).astype(np.float32) for _ in range(3))
    one, same, other = (qkv.attend(query, key, value, dropout=0.5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(*(qkv.attend(query, key, value, dropout=0.5) for _ in range(2)))
    np.testing.assert_array_equal(qkv.attend(query, key, value, dropout=0.0), qkv.attend(query, key, value))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "dropout: expected a probability from 0 to below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout: expected a probability"),
        ({"dropout": 0.1, "seed": -1}, r"seed: expected a whole number from 0 to 2\*\*64 - 1, got -1"),
    ],
)
def test_messages_of_dropout(options: dict[str, Any], message: str) -> None:
    import qkv

    x = np.eye(2)
    with pytest.raises(ArgumentError, match=message):
        qkv.attend(x, x, x, **options)


def test_pieces_have_no_dropout() -> None:
    row = np.zeros((1, 2), np.int32)
    with pytest.raises(AssertionError):
        Plan(row, row, dropout=0.1).rows(0, 1)
