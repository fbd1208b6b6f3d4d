"""The clock: contenders of a row take turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from . import agreement
from .cases import Case
from .machine import Multiplying, Reading
from .peers import Unavailable, Work, prepare
from .problem import Problem, make
from .results import Result

_PAUSE = 0.02  # seconds: threads of the library before spin on for milliseconds, and then sleep
_LONG = 0.05  # seconds: from here on neither warm caches nor the clock's ticks matter
_ENOUGH = 0.01  # seconds that a timed stretch lasts at least
_SLOW = 0.5  # seconds: whoever takes longer, and is no judge, is timed once
_ROUNDS = (3, 15)  # of ours and the judges: at least, at most
_OTHERS = 2  # rounds of everybody else


def measure(
    case: Case, threads: int, seconds: float, *, skip: dict[str, str] | None = None, clock: Any = None
) -> Result:
    """One row: set up, agreement, then rounds for about as many seconds.

    Arguments:
        skip: contenders that take no part, with the reason.
        clock: called with the name of the contender that is about to run, for whoever watches.

    Raises:
        Disagreement: results differ.
    """
    tell: Callable[[str], None] = clock or (lambda name: None)
    result = Result(case, threads, missing=dict(skip or {}))
    problem = make(case)
    works: dict[str, Work] = {}
    first: dict[str, Any] = {}
    rough: dict[str, float] = {}
    for name in case.contenders:
        if name in result.missing:
            continue
        tell(name)
        try:
            works[name] = prepare(name, problem, threads)
            first[name] = works[name]()
            rough[name] = _time(works[name], 1)
        except Exception as error:  # a library may fail in any way of its own: then it has no time
            result.missing[name] = _reason(error)
            works.pop(name, None)
            if name == "qkv":
                return result
    tell("")
    torch_made: dict[str, Any] = {name: first[name] for name in ("sdpa", "eager") if name in first}
    if not torch_made and not case.observed:  # nobody to race against, but somebody to agree with
        torch_made.update(_agreeing(problem, threads))
    result.errors = agreement.check(problem, first["qkv"], torch_made)
    for name in [name for name in first if name in ("flex", "jax", "onnx") and case.direction == "forward"]:
        far = agreement.off(problem, name, first[name], max(result.errors.values()))
        if far is not None:
            result.missing[name] = f"its result is off by {far:.0e}"
            del works[name]
    first.clear()
    limit = Reading(threads) if case.rotate else Multiplying(threads, case.dtype)
    times, speeds = _rounds(case, works, rough, seconds, limit, tell)
    result.seconds = {name: min(found) for name, found in times.items()}
    for name, found in times.items():
        if name != "qkv":
            result.ratios[name] = statistics.median(b / a for a, b in zip(times["qkv"], found, strict=False))
    work = sum(array.numel() * array.itemsize for array in problem.sets[0][1:3]) if case.rotate else case.operations
    speed, most = work / result.seconds["qkv"], max(speeds)
    result.share = speed / most
    if case.rotate:
        result.note = f"reads {speed / 1e9:.1f} GB/s of the machine's {most / 1e9:.1f}"
    return result


def _agreeing(problem: Problem, threads: int) -> dict[str, Any]:
    """What PyTorch makes of it, without the n x n matrix where there is a way without."""
    try:
        return {"sdpa": prepare("sdpa", problem, threads)()}
    except Unavailable:
        return {"eager": prepare("eager", problem, threads)()}


def _rounds(
    case: Case,
    works: dict[str, Work],
    rough: dict[str, float],
    seconds: float,
    limit: Callable[[], float],
    tell: Callable[[str], None],
) -> tuple[dict[str, list[float]], list[float]]:
    """Times of each contender, round by round, and what the machine could do in between."""
    principal = [name for name in works if name == "qkv" or name in case.judges]
    once = {name for name in works if name not in principal and rough[name] > _SLOW}
    lasting = sum(
        _PAUSE + (rough[name] if rough[name] > _LONG else 2 * max(rough[name], _ENOUGH)) for name in principal
    )
    fewest, most = _ROUNDS
    rounds = max(fewest, min(most, int(seconds / lasting)))
    times: dict[str, list[float]] = {name: [] for name in works}
    speeds: list[float] = []
    for turn in range(rounds):
        for name, work in works.items():
            if name in once:
                if not turn:
                    times[name].append(rough[name])
            elif name in principal or turn < _OTHERS:
                tell(name)
                times[name].append(_timed(work, rough[name]))
        tell("")
        time.sleep(_PAUSE)
        speeds.append(limit())
    return times, speeds


def _timed(work: Work, rough: float) -> float:
    """Seconds of one call, once the other libraries' threads sleep; short ones repeated until the clock is sure."""
    time.sleep(_PAUSE)
    if rough > _LONG:
        return _time(work, 1)
    count = max(1, round(_ENOUGH / rough))
    work()
    return _time(work, count)


def _time(work: Work, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - start) / count


def _reason(error: Exception) -> str:
    """Short enough for a note under the table."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if isinstance(error, Unavailable) else f"{type(error).__name__}: {text}"[:160]
