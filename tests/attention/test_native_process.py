"""The kernel as a guest in a process: forked workers, Python's threads, the environment, arrays that do not fit."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from native_problems import simple

from qkv.attention import _native as module
from qkv.attention._backends import _native as native
from qkv.errors import KernelError

SLOW = 200  # problems of this many queries and more use several threads


@pytest.fixture(autouse=True)
def _several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_THREADS", "3")


def fingerprint(seed: int = 0) -> bytes:
    problem = simple(2, 4, SLOW, 300, causal=True, seed=seed)
    problem.top_k = 0
    return hashlib.sha256(problem.computed().output.tobytes()).digest()


def _report(queue: Any, deeper: bool) -> None:
    queue.put(fingerprint())
    if deeper:
        _fork(queue, deeper=False)


def _fork(queue: Any, *, deeper: bool) -> None:
    child = multiprocessing.get_context("fork").Process(target=_report, args=(queue, deeper))
    child.start()
    child.join(20)
    code = child.exitcode
    child.kill()
    assert code == 0, f"a forked worker hung or crashed: {code}"


def test_forked_workers_and_their_children() -> None:
    """The pool of the parent is running when it forks; the child has none of its threads."""
    expected = fingerprint()
    queue = multiprocessing.get_context("fork").SimpleQueue()
    for _ in range(3):
        _fork(queue, deeper=True)
        assert queue.get() == expected
        assert queue.get() == expected
    assert fingerprint() == expected


def test_fork_while_another_thread_computes() -> None:
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            fingerprint()

    other = threading.Thread(target=work)
    other.start()
    try:
        queue = multiprocessing.get_context("fork").SimpleQueue()
        for _ in range(5):
            _fork(queue, deeper=False)
            assert queue.get() == fingerprint()
    finally:
        done.set()
        other.join()


class _Stream(torch.utils.data.IterableDataset[bytes]):
    def __iter__(self) -> Iterator[bytes]:
        yield fingerprint()


def test_data_loader_workers() -> None:
    expected = fingerprint()
    loader = torch.utils.data.DataLoader(_Stream(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert list(loader) == [expected, expected]


def _spawned(queue: Any) -> None:
    queue.put(fingerprint())


def test_spawned_workers() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=_spawned, args=(queue,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == fingerprint()


def test_calls_from_many_python_threads() -> None:
    expected = [fingerprint(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as workers:
        for _ in range(5):
            assert list(workers.map(fingerprint, range(8))) == expected


def test_the_gil_is_released() -> None:
    """Another Python thread counts on while the kernel works."""
    problem = simple(1, 8, 1500, 1500, dim=64)
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0.0005)

    other = threading.Thread(target=count)
    other.start()
    before = counted
    problem.computed()
    during = counted - before
    done.set()
    other.join()
    assert during > 5


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def test_a_sub_interpreter_is_refused() -> None:
    """With an ImportError that says why, and the main interpreter goes on."""
    load = f"""
        import sys
        sys.path[:] = {sys.path!r}
        from importlib.util import module_from_spec, spec_from_file_location
        try:
            spec = spec_from_file_location("qkv.attention._native", {module.__file__!r})
            spec.loader.exec_module(module_from_spec(spec))
        except ImportError as error:
            print("refused:", error, flush=True)
    """
    code = f"""
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        {{before}}
        other = interpreters.create()
        interpreters.run_string(other, {textwrap.dedent(load)!r})
        interpreters.destroy(other)
        from qkv.attention import _native
        print(_native.isas()[0])
    """
    for before in ("", "from qkv.attention import _native"):
        told = run(textwrap.dedent(code).replace("{before}", before))
        assert told.returncode == 0, told.stderr
        refused, alive = told.stdout.splitlines()
        assert refused.startswith("refused: ")
        assert "interpreter" in refused
        if sys.version_info < (3, 12):
            assert "expected the main interpreter of the process, got a sub-interpreter; use threads" in refused
        assert alive == "baseline"


CALL = "import numpy as np, qkv; a = np.ones((2, 3, 4), 'float32'); print(qkv.attend(a, a, a).sum())"


def test_an_instruction_set_that_is_not_there() -> None:
    told = run(CALL, QKV_ISA="avx9000")
    assert told.returncode != 0
    assert "qkv.errors.KernelError: QKV_ISA: expected one of the instruction sets that this machine runs (baseline" in (
        told.stderr
    )
    assert "got 'avx9000'; unset it to have the widest chosen" in told.stderr


@pytest.mark.parametrize("isa", native.isas())
def test_an_instruction_set_by_name(isa: str) -> None:
    told = run(f"{CALL}; from qkv.attention._backends import _native; print(_native.isa())", QKV_ISA=isa)
    assert told.stdout.split() == ["24.0", isa], told.stderr


def test_the_widest_is_chosen() -> None:
    told = run("from qkv.attention._backends import _native; print(_native.isa())", QKV_ISA="")
    assert told.stdout.strip() == native.isas()[-1]


@pytest.mark.parametrize("value", ["0", "-2", "many"])
def test_threads_that_make_no_sense(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_THREADS", value)
    with pytest.raises(KernelError, match=f"QKV_THREADS: expected a whole number from 1 on, got '{value}'; unset it"):
        simple().computed()


def test_more_threads_than_any_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_THREADS", "9" * 20)
    assert np.isfinite(simple().computed().output).all()


def test_threads_default_to_the_cores_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QKV_THREADS")
    assert native.threads() == len(os.sched_getaffinity(0))
    assert native.threads() >= 1


def arguments(**changed: Any) -> dict[str, Any]:
    """A call of the module that is right, but for what is changed."""
    array = np.ones((1, 2, 5, 4), "float32")
    names = ("sink", "lse", "entropy", "max_score", "distance", "top_indices", "top_weights", "received", "block_map")
    given: dict[str, Any] = dict.fromkeys(names)
    given.update(query=array, key=array, value=array, output=array.copy(), dtype="float32", scale=1.0, softcap=0.0)
    given.update(start=np.zeros((1, 5), "int32"), stop=np.full((1, 5), 5, "int32"), residual=(), bias=(), offset=0)
    given.update(dropout=0.0, seed=0)
    return {**given, "block_rows": 1, "block_columns": 1, "threads": 1, **changed}


WIDE = np.ones((1, 2, 5, 8), "float32")
WRONG = {
    "dtype": {"dtype": "int8"},
    "query": {"query": np.ones((1, 2, 5, 4))},
    "key": {"key": np.ones((1, 2, 5, 3), "float32")},
    "key ": {"key": WIDE[..., ::2]},
    "value": {"value": np.ones((1, 2, 4, 4), "float32")},
    "output": {"output": np.ones((1, 2, 4, 4), "float32")},
    "start": {"start": np.zeros((1, 4), "int32")},
    "stop": {"stop": np.zeros((1, 5), "int64")},
    "sink": {"sink": np.ones(3, "float32")},
    "lse": {"lse": np.ones((1, 2, 4), "float32")},
    "received": {"received": np.ones((1, 2, 5))},
    "block_map": {"block_map": np.ones((1, 2, 4, 5), "float32")},
    "top_indices": {"top_indices": np.ones((1, 2, 5, 1), "int64")},
    "residual": {"residual": [("and",)]},
    "residual ": {"residual": [("array", np.ones((1, 2, 5, 4), "uint8"))]},
    "residual  ": {"residual": [("equal", np.ones((1, 5), "int32"), np.ones((1, 4), "int32"))]},
    "bias": {"bias": [("alibi", np.ones(3, "float32"), 0)]},
    "bias ": {"bias": [("relative", np.ones((2, 4), "float32"), 0)]},
    "bias  ": {"bias": [("array", np.ones((1, 2, 5, 5)))]},
    "threads": {"threads": 0},
}


def test_the_module_takes_what_fits() -> None:
    assert module.attend(**arguments()) is None
    given = arguments()
    told = module.attend(**given, compute=False)
    assert told is not None
    assert told["threads"] == 1
    assert told["isa"] == module.isa()
    assert (given["output"] == 1).all()


@pytest.mark.parametrize("name", WRONG)
def test_the_module_reads_nothing_out_of_bounds(name: str) -> None:
    """Were Python's validation ever wrong, an error and not a crash."""
    with pytest.raises(ValueError, match=f"^{name.strip()}: expected "):
        module.attend(**arguments(**WRONG[name]))


def test_read_only_outputs_are_refused() -> None:
    output = np.ones((1, 2, 5, 4), "float32")
    output.flags.writeable = False
    with pytest.raises(TypeError):
        module.attend(**arguments(output=output))


def test_the_stub_is_there_and_names_what_the_module_has() -> None:
    stub = Path(native.__file__).parents[1] / "_native.pyi"
    assert stub.exists()
    text = stub.read_text()
    public = {name for name in dir(module) if not name.startswith("_")}
    assert public == {"attend", "backward", "compiler", "isa", "isas", "multiply_most"}
    for name in public - {"compiler"}:
        assert f"def {name}(" in text
    signature = (module.attend.__doc__ or "").partition("->")[0]
    for argument in arguments():
        assert f"{argument}: " in text
        assert f"{argument}: " in signature


@pytest.mark.parametrize("statistics", ["", "received=True"])
def test_ctrl_c_ends_a_long_call(statistics: str) -> None:
    code = f"""
        import os, signal, threading, time
        import numpy as np, qkv
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us without it
        x = np.ones((64, 16384, 64), np.float32)
        small = x[:1, :64]
        qkv.attend(small, small, small)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.thread_time()  # of the processor: others may keep it busy
        try:
            qkv.observe(x, x, x, {statistics})
        except KeyboardInterrupt:
            assert time.thread_time() - began < 10
            assert np.allclose(qkv.attend(small, small, small), 1)
            print("ended")
    """
    told = run(textwrap.dedent(code))
    assert told.stdout == "ended\n", told.stderr


@pytest.mark.parametrize(("heads", "length"), [(16, 16384), (1, 65536)])
def test_ctrl_c_ends_a_long_backward_pass(heads: int, length: int) -> None:
    """Of many heads, of which a task takes a whole one, and of one, which is cut; and the process computes on."""
    code = f"""
        import os, signal, sys, threading, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import numpy as np
        from native_problems import simple
        from test_native_gradients import allocated, native
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us without it

        def gradients(heads, length):
            problem = simple(1, heads, length, length, 64)
            output, lse = np.ones_like(problem.query), np.ones(problem.query.shape[:3], "float32")
            arrays = problem.query, problem.key, problem.value, output, lse, output, None
            found = allocated(problem, "float32")
            return lambda: native(*arrays, problem.plan, found, dtype="float32") or found.query.tobytes()

        small, long = gradients(2, 300), gradients({heads}, {length})
        expected = small()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.thread_time()  # of the processor: others may keep it busy
        try:
            long()
        except KeyboardInterrupt:
            assert time.thread_time() - began < 3
            assert small() == expected
            print("ended")
    """
    told = run(textwrap.dedent(code))
    assert told.stdout == "ended\n", told.stderr
