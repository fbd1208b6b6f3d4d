"""Attention by chunks of rows in torch operations against the NumPy backend; on a GPU too where there is one."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from native_problems import STATISTICS, Problem, problems

from qkv.attention._backends import Outputs, _chunks, _torch
from qkv.attention._plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def tensor(array: np.ndarray, device: str = "cpu") -> torch.Tensor:
    array = np.array(array)
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(array).to(device)


def check(problem: Problem, device: str) -> None:
    held: dict[str, Any] = {field.name: getattr(problem.outputs(), field.name) for field in fields(Outputs)}
    outputs = Outputs(
        **{name: tensor(held, device) if isinstance(held, np.ndarray) else held for name, held in held.items()}
    )
    arrays = (tensor(array, device) for array in (problem.query, problem.key, problem.value))
    _torch.attend(*arrays, problem.plan, outputs, dtype=problem.dtype)
    expected = problem.expected()
    loose = {"bfloat16": 1e-2, "float16": 2e-3}.get(problem.dtype, 2e-4)
    for name in ("output", *STATISTICS):
        found: Any = getattr(outputs, name)
        if found is None:
            continue
        wanted = getattr(expected, name)
        allowed = loose if name == "output" else 2e-4
        np.testing.assert_allclose(found.cpu().double().numpy(), wanted, allowed, 2 * allowed, err_msg=name)
    found = outputs.top_indices
    if found is not None:
        np.testing.assert_array_equal(found.cpu().numpy() >= 0, expected.top_indices >= 0)


@given(problems(("float32", "float64", "bfloat16", "float16")))
def test_against_numpy(problem: Problem) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_chunks, "BLOCK", 200)
        check(problem, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@given(problems(("float32", "float64", "bfloat16", "float16")))
def test_on_a_gpu(problem: Problem) -> None:
    check(problem, "cuda")


def everything(queries: int, keys: int) -> Plan:
    return Plan(np.zeros((1, queries), np.int32), np.full((1, queries), keys, np.int32))


def window(queries: int, width: int) -> Plan:
    stop = np.arange(1, queries + 1, dtype=np.int32)[None]
    return Plan(np.maximum(stop - np.int32(width), 0), stop)


def test_memory_grows_with_the_length_alone() -> None:
    """The rows held at a time shrink as keys grow."""
    for keys in (1000, 100_000):
        query, key = torch.empty(1, 2, 50_000, 1), torch.empty(1, 1, keys, 1)
        pieces = [rows for rows, _ in _chunks.chunks(query, key, everything(50_000, keys))]
        assert pieces[0].start == 0
        assert pieces[-1].stop == 50_000
        assert all(before.stop == after.start for before, after in pairwise(pieces))
        assert max(rows.stop - rows.start for rows in pieces) * 2 * keys <= _chunks.BLOCK


def test_what_lies_outside_a_window_is_not_computed() -> None:
    """Nor are there many more pieces than it takes."""
    x = torch.empty(1, 8, 100_000, 1)
    pieces = list(_chunks.chunks(x, x, window(100_000, 256)))
    pairs = [(rows.stop - rows.start) * (keys.stop - keys.start) for rows, keys in pieces]
    assert max(pairs) * 8 <= _chunks.BLOCK
    assert sum(pairs) <= 2 * 1.1 * 256 * 100_000
    assert len(pieces) <= 800
    assert all(keys.start <= max(rows.start - 255, 0) and keys.stop == rows.stop for rows, keys in pieces)


def test_queries_that_may_attend_to_nothing_take_one_piece() -> None:
    x, nothing = torch.empty(1, 8, 100_000, 1), np.zeros((1, 100_000), np.int32)
    assert list(_chunks.chunks(x, x, Plan(nothing, nothing))) == [(slice(0, 100_000), slice(0, 0))]
