"""The compiled kernel against the NumPy backend in float64, and what its results must not depend on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from native_problems import BY_QUERY, STATISTICS, Problem, problems, simple, stored

from qkv.attention._arrays import widen
from qkv.attention._backends import Outputs
from qkv.attention._backends import _native as native

# The run-time type checker draws from `random` when a strategy makes a `Plan`; nothing here depends on it.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def largest_score(problem: Problem) -> float:
    """What a score can be in size, which is what its rounding is relative to."""
    query, key = (np.abs(widen(array, problem.dtype).astype("float64")) for array in (problem.query, problem.key))
    size = 1 + np.sqrt((query**2).sum(-1).max() * (key**2).sum(-1).max()) * abs(problem.plan.scale)
    for name, values, *_ in problem.plan.bias:
        furthest = sum(problem.query.shape[2:3] + problem.key.shape[2:3]) if name == "alibi" else 1
        size += np.abs(values[np.isfinite(values)]).max(initial=0) * furthest
    return float(size)


def check(problem: Problem) -> None:
    seen, expected = problem.computed(), problem.expected()
    unit = 2.0 ** (-53 if problem.dtype == "float64" else -24)
    rounding = 16 * unit * largest_score(problem)
    size = {"output": np.abs(expected.output).max(initial=1), "distance": 1 + sum(problem.query.shape) + 600}
    size |= {"received": problem.query.shape[2], "block_map": min(problem.query.shape[2], problem.block[0])}
    size |= {"lse": 4, "max_score": 4, "entropy": 1 + np.log(problem.key.shape[2])}
    # The output is rounded; bfloat16 weights are too, where the processor multiplies pairs of them.
    largest_value = np.abs(widen(problem.value, problem.dtype)).max(initial=1)
    last_place = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(problem.dtype, 0) * largest_value
    for name in ("output", *STATISTICS):
        found, wanted = getattr(seen, name), getattr(expected, name)
        if found is None:
            continue
        found = widen(found, problem.dtype) if name == "output" else found
        finite = np.isfinite(wanted)
        np.testing.assert_array_equal(found[~finite], wanted[~finite], err_msg=name)
        worst = np.abs(found[finite].astype("float64") - wanted[finite]).max(initial=0)
        allowed = rounding * size.get(name, 1) + (last_place if name == "output" else 0)
        assert worst <= allowed, f"{name}: off by {worst:.3g}, allowed {allowed:.3g}"
    if problem.plain:
        return
    assert seen.top_indices is not None
    assert expected.top_indices is not None
    np.testing.assert_array_equal(seen.top_indices >= 0, expected.top_indices >= 0)


@given(problems(("float32",)))
def test_float32_against_float64(problem: Problem) -> None:
    check(problem)


@given(problems(("float16", "bfloat16", "float64")))
def test_other_dtypes_against_float64(problem: Problem) -> None:
    check(problem)


@pytest.mark.parametrize("isa", [name for name in native.isas() if name != native.isa()])
def test_other_instruction_sets(isa: str) -> None:
    """The tests against float64, in a process that is told to use another kernel."""
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "against_float64 or isolated", __file__],
        env={**os.environ, "QKV_ISA": isa, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout[-3000:]


SHORT = ("output", "lse", "max_score")


def rising(dtype: Any, size: float) -> Problem:
    """Scores that rise from key to key, in every other query `size` times as fast."""
    problem = simple(1, 2, 64, 1500, dim=8)
    problem.key += np.linspace(0, 3, 1500, dtype="float32")[:, None]
    problem.query = np.abs(problem.query)
    problem.query[:, :, ::2] *= size
    arrays = (stored(array, dtype) for array in (problem.query, problem.key, problem.value))
    return Problem(*arrays, problem.plan, dtype, plain=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("size", [1, 6, 40])
def test_rising_scores_against_float64(dtype: Any, size: float) -> None:
    check(rising(dtype, size))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [1, 6, 40, np.inf, np.nan])
def test_the_short_way_is_isolated(dtype: Any, size: float) -> None:
    """What a neighbour's scores do, and what else is observed, changes no bit."""
    whole = rising(dtype, size)
    together = whole.computed()
    for row in (0, 1, 31, 32, 44):
        apart = replace(whole, query=whole.query[:, :, row : row + 20], plan=whole.plan.rows(row, row + 20))
        same_bits(
            together,
            apart.computed(),
            SHORT,
            lambda array, row=row: array[:, :, row : row + 20] if array.shape[2] > 20 else array,
        )
    same_bits(together, replace(whole, plain=False).computed(), SHORT)


def same_bits(left: Outputs, right: Outputs, names: tuple[str, ...], pick: Callable[[Any], Any] = lambda x: x) -> None:
    for name in names:
        first, second = np.asarray(pick(getattr(left, name))), np.asarray(pick(getattr(right, name)))
        assert first.tobytes() == second.tobytes(), name


DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@DTYPES
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries", [333, 1500])
def test_threads_change_no_bit(dtype: Any, queries: int, causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = simple(2, 3, queries, 421, causal=causal, dtype=dtype)
    results = []
    for threads in ("1", "2", "3", "7"):
        monkeypatch.setenv("QKV_THREADS", threads)
        results.append(problem.computed())
        problem.sums = False
        same_bits(results[0], problem.computed(), BY_QUERY)
        problem.sums = True
    for other in results[1:]:
        same_bits(results[0], other, (*BY_QUERY, "received", "block_map"))


@DTYPES
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize(("rows", "taken"), [((0, 31, 32, 60), 40), ((0, 1), 1)], ids=["many", "few"])
def test_neighbours_and_batch_position_isolated(
    dtype: Any, window: int | None, rows: tuple[int, ...], taken: int
) -> None:
    """With other neighbours, and in another place of a batch, a query's results are the same to the last bit.

    Few queries are computed another way than many; neither way depends on how few or many there are.
    """
    count = rows[-1] + taken
    whole = simple(3, 2, count, 1300, dtype=dtype)
    if window:  # neighbours then begin at other keys, even and odd ones
        row = np.arange(count, dtype=np.int32)[None]
        whole.plan = replace(whole.plan, start=row * 12 + row % 3, stop=row * 12 + row % 5 + window)
    together = whole.computed()
    for row in rows:
        some = slice(row, row + taken)
        apart = replace(
            whole, query=whole.query[1:2, :, some], key=whole.key[1:2], value=whole.value[1:2], block=(1, 7)
        )
        apart.plan = whole.plan.rows(row, row + taken)
        seen = apart.computed()
        for name in BY_QUERY:
            assert getattr(together, name)[1:2, :, some].tobytes() == getattr(seen, name).tobytes(), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_and_batch_change_no_bit_of_few_queries(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few queries, whose keys are shared out: in parts that do not depend on who is there to take them."""
    problem = simple(3, 2, 2, 5000, causal=True, dtype=dtype)
    names = (*BY_QUERY, "received", "block_map")
    alone = replace(problem, query=problem.query[2:], key=problem.key[2:], value=problem.value[2:])
    results = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("QKV_THREADS", threads)
        results.append(problem.computed())
        same_bits(results[0], results[-1], names)
        same_bits(results[0], alone.computed(), names, lambda array: array[-1:].copy())
    check(problem)


def test_few_queries_with_everything_against_float64() -> None:
    """Several pieces, each mask and bias, all statistics, in every dtype."""
    rng = np.random.default_rng(5)
    dtypes: tuple[Any, ...] = ("float16", "bfloat16", "float32", "float64")
    for dtype in dtypes:
        real = "float64" if dtype == "float64" else "float32"
        problem = simple(2, 4, 1, 2500, dtype=dtype)
        problem.key, problem.value = problem.key[:, :2], problem.value[:, :2]
        scores = (2, 4, 1, 2500)
        ids = [rng.integers(0, 2, size=(2, n)).astype(np.int32) for n in (1, 2500)]
        problem.plan = replace(
            problem.plan,
            start=np.array([[3], [1100]], np.int32),
            stop=np.array([[2400], [2500]], np.int32),
            residual=(("array", rng.random(scores) < 0.7), ("equal", *ids), ("or",)),
            bias=(
                ("alibi", rng.random(4).astype(real) * 0.01, 2499),
                ("relative", rng.normal(size=(4, 301)).astype(real), 2499),
                ("array", np.where(rng.random(scores) < 0.1, -np.inf, rng.normal(size=scores)).astype(real)),
            ),
            softcap=5.0,
            sink=rng.normal(size=4).astype(real),
            offset=2499,
        )
        check(problem)


@DTYPES
@pytest.mark.parametrize("poison", [0.0, 1e30, np.inf, np.nan])
def test_the_future_changes_no_bit_of_the_past(dtype: Any, poison: float) -> None:
    problem = simple(1, 2, 200, 200, causal=True, dtype=dtype)
    before = problem.computed()
    for changed in (120, 129, 199):
        other = simple(1, 2, 200, 200, causal=True, dtype=dtype)
        for array in (other.query, other.key, other.value):
            array[:, :, changed:] = stored(np.array(poison), dtype)
        same_bits(before, other.computed(), BY_QUERY, lambda array, changed=changed: array[:, :, :changed].copy())


def test_grouped_heads_are_heads_that_share_keys() -> None:
    problem = simple(2, 6, 37, 150, causal=True)
    problem.key, problem.value = problem.key[:, :2], problem.value[:, :2]
    repeated = replace(problem, key=problem.key.repeat(3, 1), value=problem.value.repeat(3, 1))
    problem.sums = repeated.sums = False
    same_bits(problem.computed(), repeated.computed(), BY_QUERY)


@DTYPES
def test_nan_is_isolated_to_its_row(dtype: Any) -> None:
    clean, broken = simple(1, 1, 70, 200, dtype=dtype), simple(1, 1, 70, 200, dtype=dtype)
    broken.query[0, 0, 33, 2] = stored(np.array(np.nan), dtype)
    clean.sums = broken.sums = False
    others = np.arange(70) != 33
    before, after = clean.computed(), broken.computed()
    same_bits(before, after, BY_QUERY, lambda array: array[:, :, others])
    for name in ("output", "lse", "entropy", "max_score", "distance"):
        found = widen(getattr(after, name), dtype) if name == "output" else getattr(after, name)
        assert np.isnan(found[0, 0, 33]).all(), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities_and_empty_rows_are_isolated(dtype: Any) -> None:
    problem = simple(1, 2, 40, 140, dtype=dtype)
    start, stop = problem.plan.start.copy(), problem.plan.stop.copy()
    start[0, 7] = stop[0, 7] = 50
    values = np.zeros((1, 2, 40, 140), dtype)
    values[0, 0, 3] = -np.inf  # a bias that masks a whole row
    values[0, 0, 4, 1:] = -np.inf  # all but one key
    sink = np.array([1.5, -np.inf], dtype)
    problem.plan = replace(problem.plan, start=start, stop=stop, bias=(("array", values),), sink=sink)
    seen = problem.computed()
    check(problem)
    for head, row in ((0, 3), (0, 7), (1, 7)):
        assert (seen.output[0, head, row] == 0).all()
        assert seen.entropy is not None
        assert seen.entropy[0, head, row] == 0
        assert seen.lse[0, head, row] == sink[head]
        assert seen.max_score is not None
        assert seen.max_score[0, head, row] == -np.inf


@DTYPES
def test_masked_values_are_never_read_into_a_row_isolated(dtype: Any) -> None:
    """NaN and infinities among masked keys and values, in the middle of a block that others may see."""
    problem, poisoned = simple(1, 2, 50, 200, dtype=dtype), simple(1, 2, 50, 200, dtype=dtype)
    allowed = np.ones((1, 1, 50, 200), bool)
    allowed[..., 20:25, 61:70] = False
    for one in (problem, poisoned):
        one.plan = replace(one.plan, residual=(("array", np.broadcast_to(allowed, (1, 2, 50, 200))),))
        one.sums = False
    nan, inf = stored(np.array([np.nan, np.inf]), dtype)
    poisoned.key[:, :, 61:70] = nan
    poisoned.value[:, :, 61:65], poisoned.value[:, :, 65:70] = nan, inf
    same_bits(problem.computed(), poisoned.computed(), BY_QUERY, lambda array: array[:, :, 20:25].copy())


def ramp(size: int, step: float) -> np.ndarray:
    return np.arange(size, dtype="float32") * step


@pytest.mark.parametrize(
    "scores",
    [ramp(3000, 0.1), ramp(3000, -0.1), ramp(3000, 10), np.zeros(3000, "float32"), ramp(3000, 0.05) % 3 * 40 - 60],
    ids=["rising", "falling", "steep", "ties", "spread"],
)
def test_adversarial_scores(scores: np.ndarray) -> None:
    """Maxima that move with every key, ties everywhere, a spread of 100 and more: as near to float64 as PyTorch."""
    problem = simple(1, 1, 33, 3000, dim=8)
    values = np.broadcast_to(scores, (1, 1, 33, 3000))
    problem.plan = replace(problem.plan, bias=(("array", values),))
    seen, expected = problem.computed(), problem.expected()
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(torch.from_numpy(a) for a in (problem.query, problem.key, problem.value)), torch.from_numpy(values.copy())
    )
    size = np.linalg.norm(expected.output)
    error = np.linalg.norm(seen.output - expected.output) / size
    assert error <= 1.1 * np.linalg.norm(theirs.numpy() - expected.output) / size + 2e-7
    check_top = simple(1, 1, 33, 3000, dim=8, scale=0.0)
    check_top.plan = replace(check_top.plan, bias=(("array", values),))
    np.testing.assert_array_equal(check_top.computed().top_indices, check_top.expected().top_indices)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("spread", [1, 20])
def test_error_is_at_most_pytorchs(dtype: Any, spread: float) -> None:
    problem = simple(1, 4, 256, 700, dim=64)
    kind = getattr(torch, dtype)
    tensors = [torch.from_numpy(a).to(kind) for a in (problem.query * spread, problem.key, problem.value)]
    bare = [t.view(torch.uint16).numpy() if dtype == "bfloat16" else t.numpy() for t in tensors]
    problem = replace(problem, query=bare[0], key=bare[1], value=bare[2], dtype=dtype, sums=False)
    exact = torch.nn.functional.scaled_dot_product_attention(*(t.double() for t in tensors)).numpy()
    theirs = torch.nn.functional.scaled_dot_product_attention(*tensors).double().numpy()
    ours = widen(problem.computed().output, dtype)
    assert np.linalg.norm(ours - exact) <= 1.1 * np.linalg.norm(theirs - exact)


def test_memory_is_linear() -> None:
    """20,000 x 20,000 scores would be 1.6 GB; the kernel and its statistics take a few megabytes."""
    code = (
        "import sys, resource; sys.path.insert(0, sys.argv[1]); from native_problems import simple\n"
        "problem = simple(1, 1, 20000, 20000, dim=4, causal=True)\n"
        "problem.block = (200, 200)\n"
        "problem.outputs(); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "problem.computed(); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    environment = {**os.environ, "QKV_THREADS": "2"}
    command = [sys.executable, "-c", code, os.path.dirname(__file__)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(told.stdout) < 60_000  # kilobytes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("block", [(64, 64), (40, 1)])
def test_memory_of_a_thread_is_bounded(dtype: str, block: tuple[int, int]) -> None:
    """With 131,072 keys, several heads and every statistic: 32 MiB beyond inputs and outputs."""
    code = (
        "import sys, resource; sys.path.insert(0, sys.argv[1]); from native_problems import simple\n"
        f"problem = simple(1, 6, 40, 131072, dim=4, dtype={dtype!r}); problem.block = {block}\n"
        "held = [problem.outputs() for _ in range(2)]; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "held = held[:1]; problem.computed(); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, os.path.dirname(__file__)]
    environment = {**os.environ, "QKV_THREADS": "1"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(told.stdout) < 32 * 1024  # kilobytes
