"""What the module is handed lies between pages that nobody may touch: a step out of bounds ends a process."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from native_problems import Problem, problems, simple

from qkv.attention._backends import Outputs
from qkv.attention._backends import _native as native

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def guarded(array: np.ndarray, *, at_end: bool) -> np.ndarray:
    """The same array, strides and all, in memory that ends (or begins) where a forbidden page does."""
    size, page = array.itemsize, mmap.PAGESIZE
    spans = [(length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)]
    low = sum(span for span in spans if span < 0)
    count = sum(span for span in spans if span > 0) - low + size if array.size else 0
    room = -(-count // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for forbidden in (address, address + page + room):
        assert _libc.mprotect(forbidden, page, 0) == 0
    start = page + (room - count if at_end else 0)
    copy: np.ndarray = np.ndarray(array.shape, array.dtype, memory, start - low, array.strides)
    if 0 in array.strides:
        ctypes.memmove(address + start, array.__array_interface__["data"][0] + low, count)
    else:
        copy[...] = array
    return copy


def compute_guarded(problem: Problem, *, at_end: bool) -> Outputs:
    """Everything that is read or written, in guarded memory."""

    def moved(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return guarded(value, at_end=at_end)
        return tuple(map(moved, value)) if isinstance(value, tuple) else value

    plan = problem.plan
    plan = replace(
        plan,
        **{name: moved(getattr(plan, name)) for name in ("start", "stop", "residual", "bias", "sink")},
    )
    outputs = problem.outputs()
    for name in Outputs.__slots__:
        if isinstance(getattr(outputs, name), np.ndarray):
            setattr(outputs, name, moved(getattr(outputs, name)))
    arrays = (moved(array) for array in (problem.query, problem.key, problem.value))
    native.attend(*arrays, plan, outputs, dtype=problem.dtype)
    return outputs


@settings(max_examples=40)
@given(problems(("float32", "bfloat16", "float16", "float64")))
def compare(problem: Problem) -> None:
    plain = problem.computed()
    for at_end in (False, True):
        seen = compute_guarded(problem, at_end=at_end)
        for name in Outputs.__slots__:
            expected = getattr(plain, name)
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(getattr(seen, name), expected, err_msg=name)


def exit_code(work: Callable[..., Any], *arguments: Any) -> int | None:
    """Of a process that does this work; negative is the signal that ended it."""

    def run() -> None:
        faulthandler.disable()  # a crash is an answer here
        work(*arguments)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(300)
    code = child.exitcode
    child.kill()
    return code


def test_nothing_is_touched_out_of_bounds() -> None:
    assert exit_code(compare) == 0


def _read(array: np.ndarray, element: int) -> None:
    ctypes.string_at(array.ctypes.data + element * array.itemsize, 1)


def test_the_guard_pages_guard() -> None:
    array = simple().query
    for at_end, element in ((False, -1), (True, array.size)):
        assert exit_code(_read, guarded(array, at_end=at_end), element) == -signal.SIGSEGV
        assert exit_code(_read, guarded(array, at_end=at_end), 0) == 0
