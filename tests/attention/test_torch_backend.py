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

from qkv.attention._backends import Outputs, _torch

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
        patch.setattr(_torch, "BLOCK", 200)
        check(problem, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@given(problems(("float32", "float64", "bfloat16", "float16")))
def test_on_a_gpu(problem: Problem) -> None:
    check(problem, "cuda")


def test_memory_grows_with_the_length_alone() -> None:
    """The rows held at a time shrink as keys grow."""
    for keys in (1000, 100_000):
        query, key = torch.empty(1, 2, 50_000, 1), torch.empty(1, 1, keys, 1)
        pieces = list(_torch.chunks(query, key))
        assert pieces[0][0] == 0
        assert pieces[-1][1] == 50_000
        assert all(before[1] == after[0] for before, after in pairwise(pieces))
        assert max(last - first for first, last in pieces) * 2 * keys <= _torch.BLOCK
