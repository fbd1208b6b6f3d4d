"""`attend` and `observe` against the reference: any shape, mask, bias, dtype, layout, and both frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import Case, assert_close, cases, dtype_name, float64, magnitude, reference_steps, slack, to_torch
from hypothesis import given
from hypothesis import strategies as st

import qkv
from qkv.attention import reference

EVERYTHING = {"entropy": True, "max_score": True, "top_k": 3, "received": True, "distance": True}


def torch_error(case: Case, steps: Any) -> float:
    """What PyTorch's own arithmetic, in the dtype of the query, is off by on this very problem."""
    from qkv.attention._arrays import view, widen

    def tensor(array: Any) -> torch.Tensor:
        seen = view(array, "array")
        lifted = torch.from_numpy(np.array(widen(seen.data, seen.dtype), dtype="float64")).to(dtype)
        return lifted[None] if lifted.ndim == 2 else lifted

    dtype = getattr(torch, view(case.query, "query").dtype)
    query, key, value = (tensor(array) for array in (case.query, case.key, case.value))
    key, value = (array.repeat_interleave(query.shape[-3] // array.shape[-3], -3) for array in (key, value))
    scores = query @ key.transpose(-1, -2) * (steps.scaled[steps.scores != 0] / steps.scores[steps.scores != 0]).mean()
    scores = scores + torch.from_numpy(np.where(np.isfinite(steps.masked), steps.masked - steps.scaled, -np.inf)).to(
        dtype
    )
    extra = torch.from_numpy(float64(case.options.get("sink", np.full(scores.shape[-3], -np.inf)))).to(dtype)
    extra = extra[:, None, None].expand(*scores.shape[:-1], 1)
    weights = torch.softmax(torch.cat([scores, extra], -1), -1)[..., :-1].nan_to_num(0)
    return float(np.abs((weights @ value).double().numpy() - steps.output).max(initial=0))


def check_output(case: Case, steps: Any, output: Any) -> None:
    """No further off than PyTorch's own arithmetic in that dtype, but for a few roundings of the last place."""
    name = dtype_name(case.query)
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}[name]
    largest = np.abs(float64(case.value)).max(initial=0)
    rounding = largest * (2 * unit + slack(case, steps) * (1 if unit < 1e-4 else 2))
    theirs = torch_error(case, steps) if steps.scores.any() else 0.0
    expected = steps.output.reshape(tuple(output.shape))
    assert_close(output, expected, theirs + rounding, "output")


def check_statistics(case: Case, steps: Any, seen: qkv.Observation, block: tuple[int, int]) -> None:
    tolerance = slack(case, steps)
    leading = tuple(seen.lse.shape[:-1])
    queries, keys = steps.weights.shape[-2:]
    lse = reference.logsumexp(steps.masked, case.options.get("sink"))
    real = "float64" if dtype_name(case.query) == "float64" else "float32"
    wide = queries + keys + 1

    def shaped(array: np.ndarray, axes: int = 1) -> np.ndarray:
        return array.reshape(leading + array.shape[-axes:])

    assert_close(seen.lse, shaped(lse), tolerance, "lse")
    assert_close(seen.entropy, shaped(reference.entropy(steps.weights)), tolerance * magnitude(case, steps), "entropy")
    assert_close(seen.max_score, shaped(steps.masked.max(-1, initial=-np.inf)), tolerance, "max_score")
    assert_close(seen.distance, shaped(reference.distance(steps.weights)), tolerance * wide, "distance")
    assert_close(seen.received, shaped(steps.weights.sum(-2)), tolerance * wide, "received")
    assert_close(seen.block_map, shaped(reference.block_map(steps.weights, *block), 2), tolerance * wide, "block_map")
    for name in ("lse", "entropy", "max_score", "distance", "received", "block_map"):
        assert dtype_name(getattr(seen, name)) == real

    indices, weights = seen.top_k
    _, best = reference.top_k(steps, 3)
    assert_close(weights, shaped(best, 2), tolerance, "top_k.weights")
    assert dtype_name(indices) == "int64"
    named = np.asarray(indices).reshape(*steps.masked.shape[:-1], 3)
    ordered = np.sort(named, -1)
    assert not ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)).any(), "a key is named twice"
    np.testing.assert_array_equal((named >= 0).sum(-1), np.minimum((steps.masked > -np.inf).sum(-1), 3))
    if keys:
        at = np.take_along_axis(steps.weights, np.maximum(named, 0), -1)
        assert_close(np.where(named >= 0, at, 0), best, tolerance, "weights of the keys named")


@given(cases(), st.integers(1, 4), st.integers(1, 4))
def test_numpy(case: Case, rows: int, columns: int) -> None:
    steps = reference_steps(case)
    arrays = case.query, case.key, case.value
    check_output(case, steps, qkv.attend(*arrays, **case.options))
    seen = qkv.observe(*arrays, **case.options, **EVERYTHING, block_map=(rows, columns))
    check_output(case, steps, seen.output)
    check_statistics(case, steps, seen, (rows, columns))
    assert type(seen.output) is np.ndarray
    assert seen.output.dtype == case.query.dtype.newbyteorder("=")


@given(cases(dtypes=("float16", "bfloat16")))
def test_numpy_in_16_bits(case: Case) -> None:
    steps = reference_steps(case)
    seen = qkv.observe(case.query, case.key, case.value, **case.options, **EVERYTHING, block_map=2)
    assert seen.output.dtype == case.query.dtype.newbyteorder("=")
    check_output(case, steps, seen.output)
    check_statistics(case, steps, seen, (2, 2))


@given(cases(), st.sampled_from([None, "float16", "bfloat16"]))
def test_torch(case: Case, dtype: str | None) -> None:
    case = to_torch(case, dtype)
    steps = reference_steps(case)
    seen = qkv.observe(case.query, case.key, case.value, **case.options, **EVERYTHING, block_map=3)
    assert isinstance(seen.output, torch.Tensor)
    assert seen.output.dtype == case.query.dtype
    check_output(case, steps, seen.output)
    check_statistics(case, steps, seen, (3, 3))


@pytest.mark.parametrize("sizes", [(1, 300, 300, 64, 64), (5, 1, 700, 80, 96), (2, 257, 129, 33, 7)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("mask", [None, qkv.Causal(), qkv.Window(40, 3), qkv.ExceptSelf()], ids=repr)
def test_longer_than_a_block(sizes: tuple[int, ...], dtype: str, mask: Any) -> None:
    heads, queries, keys, dim, value_dim = sizes
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(getattr(torch, dtype))

    options = {} if mask is None else {"mask": mask}
    case = Case(random(heads, queries, dim), random(1, keys, dim), random(1, keys, value_dim), options)
    steps = reference_steps(case)
    seen = qkv.observe(case.query, case.key, case.value, **options, **EVERYTHING, block_map=64)
    check_output(case, steps, seen.output)
    check_statistics(case, steps, seen, (64, 64))


def random(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def test_empty_rows_are_zero_and_never_nan() -> None:
    x = random(2, 6, 4)
    nothing = np.ones((6, 6), bool)
    nothing[[1, 4]] = False
    for options in ({"mask": nothing}, {"bias": np.where(nothing, 0, -np.inf)}):
        seen = qkv.observe(x, x, x, **options, **EVERYTHING)
        for row in (1, 4):
            assert (seen.output[:, row] == 0).all()
            assert (seen.lse[:, row] == -np.inf).all()
            assert (seen.max_score[:, row] == -np.inf).all()
            assert (seen.entropy[:, row] == 0).all()
            assert (seen.distance[:, row] == 0).all()
            assert (seen.top_k.indices[:, row] == -1).all()
            assert (seen.top_k.weights[:, row] == 0).all()
        assert (qkv.weights(x, x, rows=[1, 4], **options) == 0).all()
        np.testing.assert_allclose(seen.received.sum(-1), 4, rtol=1e-5)
        seen = qkv.observe(x, x, x, **options, sink=np.array([0.5, 2], np.float32), max_score=True)
        np.testing.assert_array_equal(seen.lse[:, 1], np.array([0.5, 2], np.float32))
        assert (seen.max_score[:, 1] == -np.inf).all()
        assert (seen.output[:, 1] == 0).all()


@pytest.mark.parametrize("zero", ["batch", "heads", "queries", "keys", "value_dim"])
def test_axes_of_length_zero(zero: str) -> None:
    sizes = {"batch": 2, "heads": 3, "queries": 4, "keys": 5, "value_dim": 6} | {zero: 0}
    leading = sizes["batch"], sizes["heads"]
    query, key = random(*leading, sizes["queries"], 4), random(*leading, sizes["keys"], 4)
    value = random(*leading, sizes["keys"], sizes["value_dim"])
    sink = np.ones(sizes["heads"], np.float32)
    for options in ({}, {"mask": qkv.Causal()}, {"sink": sink}):
        seen = qkv.observe(query, key, value, **options, **EVERYTHING, block_map="auto")
        assert seen.output.shape == (*leading, sizes["queries"], sizes["value_dim"])
        assert seen.lse.shape == (*leading, sizes["queries"])
        assert seen.received.shape == (*leading, sizes["keys"])
        assert seen.top_k.indices.shape == (*leading, sizes["queries"], 3)
        assert not np.isnan(seen.lse).any()
        assert qkv.weights(query, key, **options).shape == (*leading, sizes["queries"], sizes["keys"])
    if zero == "keys":
        assert (seen.output == 0).all()
        assert (seen.lse == 1).all()


def test_one_query_and_one_key() -> None:
    one = random(1, 4)
    seen = qkv.observe(one, one, one, **EVERYTHING)
    np.testing.assert_array_equal(seen.output, one)
    assert seen.entropy == 0
    assert seen.top_k.indices.tolist() == [[0, -1, -1]]


def test_ties_go_to_the_lowest_index() -> None:
    query, key = np.ones((40, 4), np.float32), np.ones((300, 4), np.float32)
    key[7] = 2
    found = qkv.observe(query, key, key, top_k=5).top_k.indices
    np.testing.assert_array_equal(found, np.broadcast_to([7, 0, 1, 2, 3], (40, 5)))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_nan_stays_in_its_row(poison: float) -> None:
    query, key = random(2, 40, 8), random(2, 40, 8)
    clean = qkv.attend(query, key, key)
    query[1, 3] = poison
    dirty = qkv.observe(query, key, key, entropy=True)
    assert np.isnan(dirty.output[1, 3]).any()
    assert np.isnan(dirty.lse[1, 3])
    others = np.ones((2, 40), bool)
    others[1, 3] = False
    np.testing.assert_array_equal(dirty.output[others], clean[others])


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize(
    "mask", [qkv.Causal(), qkv.Padding(30), qkv.Causal() & ~qkv.ArrayMask((np.arange(40) >= 30).tolist())], ids=repr
)
def test_what_is_masked_is_not_read(mask: Any, poison: float) -> None:
    query, key, value = random(2, 40, 8), random(2, 40, 8), random(2, 40, 5)
    clean = qkv.observe(query, key, value, mask=mask, **EVERYTHING)
    key[:, 30:], value[:, 30:] = poison, poison
    dirty = qkv.observe(query, key, value, mask=mask, **EVERYTHING)
    np.testing.assert_allclose(dirty.output[:, :30], clean.output[:, :30], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dirty.lse[:, :30], clean.lse[:, :30], rtol=1e-6)
    np.testing.assert_array_equal(dirty.top_k.indices[:, :30], clean.top_k.indices[:, :30])


def test_the_future_changes_no_bit_of_the_past() -> None:
    query, key, value = random(2, 70, 16), random(2, 70, 16), random(2, 70, 16)
    before = qkv.attend(query, key, value, mask=qkv.Causal())
    for array in (query, key, value):
        array[:, 50:] *= 30
    np.testing.assert_array_equal(qkv.attend(query, key, value, mask=qkv.Causal())[:, :50], before[:, :50])


def test_large_scores_do_not_overflow() -> None:
    x = random(1, 50, 8) * 1e4
    seen = qkv.observe(x, x, x, entropy=True)
    assert np.isfinite(seen.output).all()
    assert np.isfinite(seen.lse).all()
    np.testing.assert_allclose(qkv.attend(x, x, x, mask=np.eye(50, dtype=bool)), x)


def test_arguments_are_left_alone() -> None:
    arrays = random(2, 9, 4), random(2, 9, 4), random(2, 9, 4)
    copies = [array.copy() for array in arrays]
    seen = qkv.observe(*arrays, mask=qkv.Causal(), **EVERYTHING)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.shares_memory(array, seen.output)


def test_several_batch_axes_are_one() -> None:
    query, key, value = random(2, 3, 4, 5, 6), random(2, 3, 2, 7, 6), random(2, 3, 2, 7, 3)
    lengths = np.arange(2, 8).reshape(2, 3)
    seen = qkv.observe(query, key, value, mask=qkv.Padding(lengths), received=True)
    assert seen.output.shape == (2, 3, 4, 5, 3)
    for i in range(2):
        for j in range(3):
            alone = qkv.observe(
                query[i, j], key[i, j], value[i, j], mask=qkv.Padding(int(lengths[i, j])), received=True
            )
            np.testing.assert_allclose(seen.output[i, j], alone.output, rtol=1e-6)
            np.testing.assert_allclose(seen.received[i, j], alone.received, rtol=1e-6)


def test_distance_counts_from_where_it_is_told() -> None:
    query, key = random(3, 4), random(5, 4)
    weights = qkv.weights(query, key)
    for align, positions in (("bottom-right", [2, 3, 4]), ("top-left", [0, 1, 2])):
        expected = (weights * np.abs(np.array(positions)[:, None] - np.arange(5))).sum(-1)
        np.testing.assert_allclose(qkv.observe(query, key, key, distance=align).distance, expected, rtol=1e-5)


def test_block_map_in_all_its_forms() -> None:
    x = random(2, 1100, 4)
    weights = qkv.weights(x, x).astype(np.float64)
    assert qkv.observe(x, x, x, block_map="auto").block_map.shape == (2, 367, 367)
    for block, pair in ((100, (100, 100)), ((64, 500), (64, 500)), ((1100, 1), (1100, 1))):
        found = qkv.observe(x, x, x, block_map=block).block_map
        np.testing.assert_allclose(found, reference.block_map(weights, *pair), rtol=1e-4)


def test_more_heaviest_keys_than_keys() -> None:
    x = random(3, 4)
    top = qkv.observe(x, x, x, top_k=70).top_k
    assert top.indices.shape == top.weights.shape == (3, 70)
    np.testing.assert_array_equal(top.indices[:, 3:], -1)
    np.testing.assert_array_equal(top.weights[:, 3:], 0)
    np.testing.assert_allclose(top.weights.sum(-1), 1, rtol=1e-6)


def test_what_was_not_observed_says_how_to_ask() -> None:
    x = random(3, 4)
    seen = qkv.observe(x, x, x)
    with pytest.raises(AttributeError, match=r"entropy was not observed; ask for it: qkv.observe\(..., entropy=True\)"):
        _ = seen.entropy
    with pytest.raises(AttributeError, match=r"top_k was not observed; ask for it: qkv.observe\(..., top_k=8\)"):
        _ = seen.top_k
    with pytest.raises(AttributeError, match="an Observation has no 'logsumexp'; it has output, lse"):
        _ = seen.logsumexp
    assert not hasattr(seen, "received")


def test_backends_get_what_they_can_walk() -> None:
    """A view where the strides allow one; a copy of fields, of what is not aligned, of another byte order."""
    from qkv.attention._arrays import usable

    x = random(6, 8)
    records = np.zeros(6, dtype=[("flag", np.int8), ("numbers", np.float32, 8)])
    records["numbers"] = x
    for odd in (records["numbers"], x.astype(">f4"), np.repeat(x, 2, axis=1)[:, ::2]):
        data = usable(odd)
        assert not np.shares_memory(data, odd)
        assert data.flags.aligned
        assert data.dtype.isnative
        assert data.strides == (32, 4)
        np.testing.assert_array_equal(qkv.attend(odd, odd, odd), qkv.attend(x, x, x))
    for plain in (x, x[::-2], np.broadcast_to(x[:1], (6, 8)), x[:, 2:5]):
        assert usable(plain) is plain


def test_remembered_plans_are_those_of_their_own_arguments() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    masks = (None, qkv.Causal(), qkv.Causal("top-left"), qkv.Window(1, 0), qkv.ExceptSelf(), ~qkv.ExceptSelf())
    for _ in range(2):  # made, and remembered
        for mask in masks:
            for scale in (None, 0.25):
                for key in (x, x[:, :3]):
                    found = qkv.attend(x, key, key, mask=mask, scale=scale)
                    dense = None if mask is None else mask.matrix(6, key.shape[1])
                    np.testing.assert_allclose(found, qkv.attend(x, key, key, mask=dense, scale=scale), atol=1e-6)
        for name, wrong in (("dropout", False), ("scale", True), ("softcap", 0)):
            with pytest.raises(qkv.errors.ArgumentError, match=f"{name}: "):
                qkv.attend(x, x, x, **{name: wrong})  # type: ignore[arg-type]
        with pytest.raises(qkv.errors.ArgumentError, match="key: expected the query's head_dim"):
            qkv.attend(x, x[..., :2], x)
