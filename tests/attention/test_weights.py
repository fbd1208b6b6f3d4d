"""Windows of the weights: the same numbers as the whole array's, whichever rows and columns are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import Case, assert_close, cases, reference_steps, slack, to_torch
from hypothesis import given
from hypothesis import strategies as st

import qkv


@st.composite
def selections(draw: st.DrawFn, length: int) -> Any:
    """What NumPy takes for one axis."""
    kinds = ["none", "slice", "list", "array"] + ["int"] * (length > 0)
    index = st.integers(-length, length - 1)
    match draw(st.sampled_from(kinds)):
        case "slice":
            ends = st.none() | st.integers(-length - 1, length + 1)
            return slice(draw(ends), draw(ends), draw(st.sampled_from([None, 1, 2, -1, -3])))
        case "int":
            return draw(index)
        case "list":
            return draw(st.lists(index, max_size=5)) if length else []
        case "array" if length:
            return np.array(draw(st.lists(index, min_size=1, max_size=5)))
    return None


def take(array: np.ndarray, selection: Any, axis: int) -> np.ndarray:
    """NumPy's own indexing along one axis; `axis` counts from the end of the full array."""
    if axis == -1:
        return array[..., _index(selection)]
    return array[..., _index(selection), :]


def _index(selection: Any) -> Any:
    if selection is None:
        return slice(None)
    return np.asarray(selection, int) if isinstance(selection, list) else selection


@given(cases(dtypes=("float32", "float64", "float16")), st.data(), st.booleans())
def test_any_window(case: Case, data: st.DataObject, recomputed: bool) -> None:
    steps = reference_steps(case)
    queries, keys = steps.weights.shape[-2:]
    rows, columns = data.draw(selections(queries)), data.draw(selections(keys))
    lse = None if recomputed else qkv.observe(case.query, case.key, case.value, **case.options).lse
    found = qkv.weights(case.query, case.key, lse=lse, rows=rows, columns=columns, **case.options)
    expected = steps.weights.reshape((*case.query.shape[:-2], queries, keys))
    expected = take(take(expected, rows, -2), columns, -1)
    assert found.shape == expected.shape
    assert found.dtype == (np.float64 if case.query.dtype.name == "float64" else np.float32)
    assert_close(found, expected, slack(case, steps), "weights")


@given(cases())
def test_torch(case: Case) -> None:
    case = to_torch(case)
    steps = reference_steps(case)
    seen = qkv.observe(case.query, case.key, case.value, **case.options)
    found = qkv.weights(case.query, case.key, lse=seen.lse, rows=slice(0, 3), **case.options)
    assert isinstance(found, torch.Tensor)
    expected = steps.weights.reshape((*case.query.shape[:-1], steps.weights.shape[-1]))[..., :3, :]
    assert_close(found, expected, slack(case, steps), "weights")


def test_tensors_of_indices() -> None:
    x = torch.randn(2, 6, 4)
    whole = qkv.weights(x, x)
    torch.testing.assert_close(qkv.weights(x, x, rows=torch.tensor([4, 1]), columns=range(2)), whole[:, [4, 1], :2])
    keep = torch.arange(6) > 3
    torch.testing.assert_close(qkv.weights(x, x, columns=keep), whole[..., keep])


def test_rows_alone_are_computed() -> None:
    """A window at the end of a long text is cheap: the whole array would take 40 GB."""
    x = np.random.default_rng(0).normal(size=(100_000, 8)).astype(np.float32)
    row = qkv.weights(x, x, rows=-1, mask=qkv.Causal())
    assert row.shape == (100_000,)
    assert abs(row.sum(dtype=np.float64) - 1) < 1e-5
    window = qkv.weights(x, x, rows=[99_999, 50_000], columns=slice(-3, None), mask=qkv.Causal())
    np.testing.assert_allclose(window[0], row[-3:], rtol=1e-5)
    np.testing.assert_array_equal(window[1], 0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rows": 6},
            "rows: expected indices into 6; index 6 is out of bounds for axis 0 with size 6",
        ),
        ({"columns": "all"}, "columns: expected a slice, an index or an array of indices, got 'all'"),
        ({"rows": np.zeros((2, 2), int)}, "rows: expected a slice, an index or 1-D indices, got shape (2, 2)"),
        (
            {"lse": np.zeros(6, np.float32)},
            "lse: expected float32 or float64 of shape (2, 6), got float32 of shape (6,)",
        ),
        (
            {"lse": torch.zeros(2, 6)},
            "lse: expected an array of numpy like the query, got torch",
        ),
    ],
)
def test_messages(options: dict[str, Any], message: str) -> None:
    x = np.zeros((2, 6, 4), np.float32)
    with pytest.raises(qkv.ArgumentError) as caught:
        qkv.weights(x, x, **options)
    assert str(caught.value) == message
