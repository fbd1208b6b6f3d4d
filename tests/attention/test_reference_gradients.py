"""The reference's gradients against differences of the reference itself, and every fast path against them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import Case, cases, float64, magnitude, to_torch
from hypothesis import given
from hypothesis import strategies as st

import qkv
from qkv import ALiBi, Causal, KeyBias, RelativeBias
from qkv.attention import ArrayBias, reference
from qkv.attention._dropout import kept
from qkv.attention._scores import ScoreShape

# The run-time type checker draws from `random` when a strategy makes a dataclass; nothing here depends on it.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def test_against_differences() -> None:
    """Along random directions, of query, key, value, bias and sink at once, with everything that can be asked for."""
    rng = np.random.default_rng(0)
    shapes = {"query": (2, 4, 5, 3), "key": (2, 2, 6, 3), "value": (2, 2, 6, 2), "bias": (2, 4, 5, 6), "sink": (4,)}
    at = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    onto, onto_lse = rng.normal(size=(2, 4, 5, 2)), rng.normal(size=(2, 4, 5))
    factor = (rng.random((2, 4, 5, 6)) < 0.7) / 0.7
    options: dict[str, Any] = {"mask": Causal(), "softcap": 2.0, "scale": 0.9}

    def loss(step: float, way: dict[str, np.ndarray]) -> float:
        steps = reference.attend(**{name: at[name] + step * way[name] for name in at}, **options)
        value = np.repeat(at["value"] + step * way["value"], 2, axis=1)
        output = reference.weigh(factor * steps.weights, steps.masked, value)
        lse = reference.logsumexp(steps.masked, at["sink"] + step * way["sink"])
        return float((onto * output).sum() + (onto_lse * lse).sum())

    found = reference.gradients(**at, grad_output=onto, grad_lse=onto_lse, factor=factor, **options)
    for name in (*shapes, None):
        way = {n: rng.normal(size=shape) * (name in (n, None)) for n, shape in shapes.items()}
        expected = (loss(1e-5, way) - loss(-1e-5, way)) / 2e-5
        slope = sum(float((getattr(found, n) * way[n]).sum()) for n in shapes)
        assert slope == pytest.approx(expected, rel=1e-8), name


def test_by_hand() -> None:
    """One query, two keys: what one weight gains the other loses, in proportion to both."""
    found = reference.gradients(np.ones((1, 1, 1)), np.zeros((1, 2, 1)), np.array([[[1.0], [3.0]]]), np.ones((1, 1, 1)))
    np.testing.assert_allclose(found.bias, [[[-0.5, 0.5]]])
    np.testing.assert_allclose(found.value, [[[0.5], [0.5]]])
    np.testing.assert_allclose(found.key, [[[-0.5], [0.5]]])
    np.testing.assert_array_equal(found.query, 0)
    assert found.sink is None


Biases = dict[str, Callable[[Any], Any]]


@dataclass
class Training:
    """A case, the numbers that its biases are made from and how, the loss's derivatives, and how much is dropped."""

    case: Case
    numbers: dict[str, np.ndarray]
    biases: Biases
    grad_output: np.ndarray
    grad_lse: np.ndarray
    dropout: float


@st.composite
def trainings(draw: st.DrawFn, *, poisoned: bool = False) -> Training:
    """Any call, in lengths to either side of the kernel's tiles of queries and blocks of keys, with learned biases."""
    case = draw(cases(largest=100))
    case.options.pop("bias", None)
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    *leading, queries, _ = case.query.shape
    leading = leading or [1]
    keys, heads = case.key.shape[-2], leading[-1]
    align = draw(st.sampled_from(["bottom-right", "top-left"]))
    shape = tuple(draw(st.sampled_from([1, size])) for size in (*leading, queries, keys))
    choice: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
        "slopes": ((heads,), lambda numbers: ALiBi(numbers, align)),
        "table": ((heads, 2 * draw(st.integers(0, 40)) + 1), lambda numbers: RelativeBias(numbers, align)),
        "per_key": ((heads, keys), KeyBias),
        "array": (shape, ArrayBias),
    }
    names = draw(st.lists(st.sampled_from(list(choice)), unique=True, max_size=2))
    numbers = {name: rng.random(choice[name][0]) / (8 if name == "slopes" else 1) for name in names}
    grad_output = rng.normal(size=(*case.query.shape[:-1], case.value.shape[-1]))
    if poisoned:
        case.options["scale"] = 0.05  # no weight is so small that it is 0, which keeps NaN out
        for array in (case.query, case.key, case.value, grad_output):
            if array.size and array.flags.writeable and draw(st.booleans()):
                array.reshape(-1, *array.shape[-2:])[0, rng.integers(array.shape[-2])] = np.nan
    biases = {name: choice[name][1] for name in names}
    dropout = draw(st.sampled_from([0.0, 0.0, 0.3]))
    return Training(case, numbers, biases, grad_output, rng.normal(size=case.query.shape[:-1]), dropout)


def summed(biases: Biases, numbers: dict[str, Any]) -> Any:
    return functools.reduce(operator.add, [biases[name](numbers[name]) for name in biases]) if biases else None


ROUNDINGS = {"float64": 2.0**-48, "float32": 2.0**-19, "float16": 2.0**-8, "bfloat16": 2.0**-5}
SMALLEST = {"float64": 1e-300, "float32": 1e-30, "float16": 2.0**-24, "bfloat16": 1e-30}


def check(training: Training, dtype: str) -> None:
    """Every number within some roundings of what its sum would be were nothing to cancel; NaN where NaN is met."""
    case = to_torch(training.case, dtype)
    real = torch.float64 if dtype == "float64" else torch.float32
    arrays = [array.requires_grad_() for array in (case.query, case.key, case.value)]
    numbers = {name: torch.tensor(array).to(real).requires_grad_() for name, array in training.numbers.items()}
    onto, onto_lse = torch.tensor(training.grad_output).to(arrays[0].dtype), torch.tensor(training.grad_lse).to(real)
    options = dict(case.options)
    sinks = [options.pop("sink").to(real).detach().requires_grad_()] if "sink" in options else []
    more = {"sink": sinks[0]} if sinks else {}
    bias, dropout = summed(training.biases, numbers), training.dropout
    leaves = [*arrays, *sinks, *numbers.values()]
    if dropout:
        output = qkv.attend(*arrays, **options, **more, bias=bias, dropout=dropout, seed=7)
        onto_lse = torch.zeros_like(onto_lse)
        gradients = torch.autograd.grad(output, leaves, onto)
    else:
        seen = qkv.observe(*arrays, **options, **more, bias=bias)
        gradients = torch.autograd.grad((seen.output, seen.lse), leaves, (onto, onto_lse))
    found = [float64(gradient) for gradient in gradients]

    query, key, value, given = (float64(array.detach()) for array in (*arrays, onto))
    given_lse = float64(onto_lse)
    if query.ndim == 2:
        query, key, value, given, given_lse = (array[None] for array in (query, key, value, given, given_lse))
    options["bias"] = summed(training.biases, {name: float64(leaf.detach()) for name, leaf in numbers.items()})
    options["sink"] = float64(sinks[0].detach()) if sinks else None
    shape = ScoreShape(query.shape[:-3], *query.shape[-3:-1], key.shape[-2])
    places = np.arange(shape.queries), np.arange(shape.keys)
    stays = kept(dropout, 7, math.prod(shape.batch), shape.heads, *places).reshape(shape.full)
    factor = stays / (1 - dropout)
    true = reference.gradients(query, key, value, given, given_lse, **options, factor=factor)
    size = without_signs(query, key, value, given, given_lse, options, factor)
    steps = reference.attend(*(np.nan_to_num(array) for array in (query, key, value)), **options)
    allowed = ROUNDINGS[dtype] * magnitude(Case(query, key, value, {}), steps)
    for name, got in zip(("query", "key", "value"), found, strict=False):
        wanted = getattr(true, name)
        close(name, got.reshape(wanted.shape), wanted, allowed * getattr(size, name) + SMALLEST[dtype])
    if sinks:
        close("sink", found[3], true.sink, allowed * size.sink + SMALLEST[dtype])
    for name, got in zip(numbers, found[3 + len(sinks) :], strict=True):
        # A bias is linear in its numbers: compared is the slope along numbers of its kind.
        way = np.random.default_rng(0).random(got.shape)
        along = np.broadcast_to(training.biases[name](way)._matrix(shape), shape.full)
        close(
            name,
            (got * way).sum(),
            (true.bias * along).sum(),
            allowed * (size.bias * np.abs(along)).sum() + SMALLEST[dtype],
        )


def without_signs(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    given: np.ndarray,
    given_lse: np.ndarray,
    options: dict[str, Any],
    factor: np.ndarray,
) -> reference.Gradients:
    """What the gradients would be, were all that is summed positive. NaN counts as nothing."""
    steps = reference.attend(query, key, value, **options)
    lse = np.nan_to_num(reference.logsumexp(steps.masked, options["sink"]), nan=0, neginf=0)
    weights = np.nan_to_num(steps.weights)
    query, key, value, given = (np.abs(np.nan_to_num(array)) for array in (query, key, value, given))
    group = query.shape[-3] // max(key.shape[-3], 1)
    wide_key, wide_value = (np.repeat(array, group, axis=-3) for array in (key, value))
    delta = (given * (factor * weights @ wide_value)).sum(-1) + np.abs(given_lse)
    scores = weights * (factor * (given @ wide_value.swapaxes(-1, -2)) + delta[..., None])
    scale = abs(options.get("scale", query.shape[-1] ** -0.5))

    def over_queries(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        each = weights.swapaxes(-1, -2) @ rows
        total: np.ndarray = each.reshape(*each.shape[:-3], key.shape[-3], group, *each.shape[-2:]).sum(-3)
        return total

    by_value = over_queries(factor * weights, given)
    sink = None
    if options["sink"] is not None:
        sink = (np.exp(options["sink"][:, None] - lse) * delta).sum((*range(delta.ndim - 2), -1))
    return reference.Gradients(scale * scores @ wide_key, scale * over_queries(scores, query), by_value, scores, sink)


def close(name: str, found: Any, true: Any, allowed: Any) -> None:
    finite = np.isfinite(true)
    np.testing.assert_array_equal(np.isfinite(found), finite, err_msg=name)
    wrong = np.where(finite, np.abs(found - true), 0)
    np.testing.assert_array_less(wrong, np.broadcast_to(allowed, wrong.shape), err_msg=name)


@given(trainings(), st.sampled_from(["float32", "float64", "float16", "bfloat16"]))
def test_gradients_of_tensors(training: Training, dtype: str) -> None:
    check(training, dtype)


@given(trainings(poisoned=True), st.sampled_from(["float32", "bfloat16"]))
def test_nan_is_where_it_is_met(training: Training, dtype: str) -> None:
    """A row of NaN in any array: in the gradients of what it meets through weights, and in no others."""
    check(training, dtype)
