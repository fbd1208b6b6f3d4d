"""A whole run: rows handed to processes of one number of threads each, and what a library's crash leaves standing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import ArgumentError, DependencyError, KernelError
from .cases import Case, choose
from .machine import processors
from .results import Fact, Result

MIB = 2**20


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        rows: a pattern of `Case.id`.
        threads: numbers of threads, each measured by itself; none is one and all processors.
        quick: short problems only.
        seconds: about as long each row's principal contenders run.
        source: a checkout, whose clean build is timed; None times none.
    """

    rows: str = ""
    threads: tuple[int, ...] = ()
    quick: bool = False
    seconds: float = 2.0
    source: Path | None = None


Told = Callable[[Result], None]


def run(options: Options, told: Told = lambda result: None) -> tuple[list[Result], list[Fact]]:
    """Measure, and tell each row as it is found.

    Raises:
        ArgumentError: no row has such a name, or there are not so many processors.
        DependencyError: PyTorch is missing.
        KernelError: results disagree with PyTorch's.
    """
    cases = choose(options.rows, quick=options.quick)
    if not cases:
        raise ArgumentError(f"--rows {options.rows!r} names no row; `qkv bench --list` shows their names")
    there = len(processors())
    for threads in options.threads:
        if not 1 <= threads <= there:
            raise ArgumentError(f"--threads {threads}: this process may use {there} processors; ask for 1 to {there}")
    _need_torch()
    threads_list = options.threads or tuple(sorted({1, there}))
    seconds = 0.1 if options.quick else options.seconds
    results: list[Result] = []
    for threads in threads_list:
        chosen = cases if threads == max(threads_list) else [case for case in cases if case.group != "over N"]
        for result in _measured(chosen, threads, seconds):
            told(result)
            results.append(result)
    whole = not options.rows
    facts = [*scaling(results), *linearity(results), *bandwidth(results)]
    if whole and not options.quick:
        facts += [*memory_facts(max(threads_list)), *build_facts(options.source)]
    return results, facts


def _measured(cases: Iterable[Case], threads: int, seconds: float) -> Iterator[Result]:
    """Rows of one environment share a process, which is started anew where a library took it down."""
    worker: subprocess.Popen[str] | None = None
    running: dict[str, str] | None = None
    try:
        for case in cases:
            skip: dict[str, str] = {}
            while True:
                if worker is None or running != dict(case.environment):
                    _end(worker)
                    worker, running = _start(threads, seconds, dict(case.environment)), dict(case.environment)
                result, culprit = _ask(worker, case, skip, threads)
                if result is not None:
                    yield result
                    break
                worker.wait()
                worker = None
                if culprit == "qkv" or culprit in skip:
                    raise KernelError(f"{case.id}: the process that measured it died")
                if not culprit:  # one row is lost, not all rows before it
                    died = "the process died while results were compared: was there memory enough?"
                    yield Result(case, threads, missing={**skip, "qkv": died})
                    break
                skip[culprit] = "crashed"
    finally:
        _end(worker)


def _start(threads: int, seconds: float, environment: dict[str, str]) -> subprocess.Popen[str]:
    own = {"QKV_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-m", "qkv.bench.worker", str(threads), str(seconds)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("QKV_BENCH_DEBUG") else subprocess.DEVNULL,
        text=True,
        env={**os.environ, **own, **quiet, **environment},
    )


def _ask(worker: subprocess.Popen[str], case: Case, skip: dict[str, str], threads: int) -> tuple[Result | None, str]:
    """The row's result; or None, and who ran last, where the process ended."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    running = ""
    try:
        worker.stdin.write(json.dumps({"case": asdict(case), "skip": skip}) + "\n")
        worker.stdin.flush()
        for line in worker.stdout:
            kind, _, text = line.rstrip("\n").partition(" ")
            match kind:
                case "run":
                    running = text
                case "failed":
                    raise KernelError(f"with {threads} threads, {text}")
                case "result":
                    return Result.from_json(text), ""
    except BrokenPipeError:
        pass
    return None, running


def _end(worker: subprocess.Popen[str] | None) -> None:
    if worker is None:
        return
    if worker.stdin:
        worker.stdin.close()
    try:
        worker.wait(timeout=5)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def scaling(results: list[Result]) -> Iterator[Fact]:
    """Ours with one thread over ours with two, of the long plain forward rows."""
    found = {(result.threads, result.case.id): result.seconds.get("qkv") for result in results}
    for result in results:
        case, alone = result.case, found.get((1, result.case.id))
        if result.threads == 2 and case.group == "forward" and case.queries == 4096 and alone:
            yield Fact(f"one to two threads: {case.name}", alone / result.seconds["qkv"], 1.85, "times", least=True)


def linearity(results: list[Result]) -> Iterator[Fact]:
    """A window's time at twice the length."""
    windows = [r for r in results if r.case.mask == "window" and r.case.dtype == "float32" and "qkv" in r.seconds]
    by_length = {(r.threads, r.case.queries): r.seconds["qkv"] for r in windows}
    for threads, length in sorted(by_length):
        longer = by_length.get((threads, 2 * length))
        if longer and length == 8192:
            ratio = longer / by_length[threads, length]
            yield Fact(f"window, N={2 * length} over N={length}, {threads} threads", ratio, 2.1, "times")


def bandwidth(results: list[Result]) -> Iterator[Fact]:
    """How much of what the machine can read is read where reading is all there is to do."""
    for result in results:
        if result.case.rotate and result.share is not None:
            threads = f"{result.threads} thread{'s' * (result.threads > 1)}"
            name = f"read bandwidth, {result.case.dtype} decoding, {threads}"
            yield Fact(name, 100 * result.share, 85.0, "%", least=True, note=result.note)


def memory_facts(threads: int) -> Iterator[Fact]:
    """Ours over N, and PyTorch's for the figure, which makes no claim on it."""
    from .memory import peak

    for who, lengths in (
        ("qkv", (1024, 8192, 32768, 131072)),
        ("observe", (1024, 8192, 32768, 131072)),
        ("sdpa", (1024, 8192, 32768)),
        ("eager", (1024, 4096, 8192)),
    ):
        for length in lengths:
            found = peak(who, length, threads)
            each = None if found is None else max(found, 0.0) / threads / MIB
            yield Fact(f"memory a thread: {who}, N={length}", each, 32.0, "MiB")


def build_facts(source: Path | None) -> Iterator[Fact]:
    """The kernel's size, and how long a clean build of it takes."""
    from ..attention import _native

    yield Fact("the compiled kernel", Path(str(_native.__file__)).stat().st_size / 1e6, 10.0, "MB")
    if source is None or not (source / "CMakeLists.txt").is_file() or not shutil.which("cmake", path=_path()):
        return
    with tempfile.TemporaryDirectory() as folder:
        configure = ["cmake", "-S", str(source), "-B", folder, f"-DPython_EXECUTABLE={sys.executable}"]
        environment = {**os.environ, "PATH": _path()}
        options = {"capture_output": True, "env": environment, "check": True}
        start = time.perf_counter()
        try:
            subprocess.run(configure, **options)  # type: ignore[call-overload]
            subprocess.run(["cmake", "--build", folder, "-j", "2"], **options)  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            return
        yield Fact("clean build of the kernel, two jobs", (time.perf_counter() - start) / 60, 5.0, "minutes")


def _path() -> str:
    """Programs beside this Python first: the build's own CMake."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _need_torch() -> None:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise DependencyError("qkv bench compares with PyTorch: pip install 'qkv[torch]'")
