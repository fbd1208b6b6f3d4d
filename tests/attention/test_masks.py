"""Masks: what they mean, how they combine and print, and that their intervals say the same as their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import masks
from hypothesis import given
from hypothesis import strategies as st

from qkv import ArgumentError, ArrayMask, Causal, Documents, ExceptSelf, Padding, Window
from qkv.attention._mask import Mask, as_mask
from qkv.attention._prepare import make_plan
from qkv.attention._scores import ScoreShape
from qkv.attention._window import window_mask


def lowered(mask: Mask, shape: ScoreShape) -> tuple[np.ndarray, Any]:
    """The plan's mask written out, and the plan."""
    plan = make_plan(shape, 1, "float32", mask=mask)
    rows, columns = np.arange(shape.queries), np.arange(shape.keys)
    return np.broadcast_to(window_mask(plan, rows, columns), shape.flat), plan


@st.composite
def problems(draw: st.DrawFn) -> tuple[Any, tuple[Any, ...]]:
    batch = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    sizes = draw(st.integers(1, 3)), draw(st.integers(0, 9)), draw(st.integers(0, 9))
    return draw(masks(batch, *sizes)), (batch, *sizes)


@given(problems())
def test_lowering_is_the_definition(problem: tuple[Any, tuple[Any, ...]]) -> None:
    mask, shape = as_mask(problem[0]), ScoreShape(*problem[1])
    found, plan = lowered(mask, shape)
    expected = np.broadcast_to(mask._matrix(shape), shape.full).reshape(shape.flat)
    np.testing.assert_array_equal(found, expected, err_msg=repr(mask))
    for bound in (plan.start, plan.stop):
        assert bound.dtype == np.int32
        assert bound.flags.c_contiguous
        assert bound.shape in {(1, shape.queries), (shape.batches, shape.queries)}
    assert (plan.start >= 0).all()
    assert (plan.start <= plan.stop).all()
    assert (plan.stop <= shape.keys).all()


@given(problems(), st.data())
def test_pieces_of_a_plan_are_windows_of_it(problem: tuple[Any, tuple[Any, ...]], data: st.DataObject) -> None:
    mask, shape = problem[0], ScoreShape(*problem[1])
    whole, plan = lowered(as_mask(mask), shape)
    top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, shape.queries)] * 2)))
    left, right = sorted(data.draw(st.tuples(*[st.integers(0, shape.keys)] * 2)))
    piece = plan.rows(top, bottom).columns(left, right)
    found = window_mask(piece, np.arange(bottom - top), np.arange(right - left))
    expected = whole[:, :, top:bottom, left:right]
    np.testing.assert_array_equal(np.broadcast_to(found, expected.shape), expected)


@pytest.mark.parametrize(
    "mask",
    [
        Causal(),
        Causal(align="top-left"),
        Window(2, 1),
        Window(None, 1),
        Padding([3, 0]),
        Padding([3, 5], side="left"),
        Documents([1, 1, 4, 4, 4, 9]),
        Documents(np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 2, 2, 2]])),
        Causal() & Window(2, 0) & Padding([4, 6]) & Documents([0, 0, 0, 1, 1, 1]),
        Causal() | Window(0, 2),
        ~Causal(),
        ~(Causal() & Padding([0, 0])),
        Window(5, 0) | Window(0, 5),
    ],
    ids=repr,
)
def test_runs_of_keys_need_no_program(mask: Mask) -> None:
    """Where a query's keys are neighbours, the bounds say everything, exactly."""
    shape = ScoreShape((2,), 1, 6, 6)
    found, plan = lowered(mask, shape)
    assert plan.residual == ()
    np.testing.assert_array_equal(plan.stop - plan.start, found.sum(-1)[: len(plan.start), 0])


def test_bounds_hold_whatever_a_program_says() -> None:
    """A program remains for what has holes, inside the bounds of the rest."""
    _, plan = lowered(Causal() & ExceptSelf() & np.ones((6, 6), bool), ScoreShape((), 1, 6, 6))
    assert [step[0] for step in plan.residual] == ["interval", "not", "array", "and"]
    np.testing.assert_array_equal(plan.stop[0], [1, 2, 3, 4, 5, 6])
    _, plan = lowered(Documents([0, 1, 0, 2]), ScoreShape((), 1, 4, 4))
    assert [step[0] for step in plan.residual] == ["equal"]
    np.testing.assert_array_equal(plan.start[0], [0, 1, 0, 3])
    np.testing.assert_array_equal(plan.stop[0], [3, 2, 3, 4])


def test_broadcast_arrays_are_views() -> None:
    array = np.ones((2, 1, 1, 5), bool)
    _, plan = lowered(as_mask(array), ScoreShape((2,), 3, 4, 5))
    [(_, values)] = plan.residual
    assert np.shares_memory(values, array)
    assert values.shape == (2, 3, 4, 5)
    assert values.strides[1:3] == (0, 0)


def test_position() -> None:
    """The last query stands at the last key, or the first at the first."""
    np.testing.assert_array_equal(Causal().matrix(2, 4), np.tri(2, 4, 2, dtype=bool))
    np.testing.assert_array_equal(Causal(align="top-left").matrix(2, 4), np.tri(2, 4, dtype=bool))
    np.testing.assert_array_equal(Causal().matrix(4, 2), np.tri(4, 2, -2, dtype=bool))
    np.testing.assert_array_equal(Window(0, 0).matrix(2, 3), [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(Window(0, 0, align="top-left").matrix(2, 3), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(ExceptSelf().matrix(2, 3), [[1, 0, 1], [1, 1, 0]])


def test_windows_are_inclusive() -> None:
    np.testing.assert_array_equal(Window(1, 1).matrix(4), np.tri(4, k=1) * np.tri(4, k=1).T == 1)
    np.testing.assert_array_equal(Window(None, 0).matrix(4), Causal().matrix(4))
    assert Window(None, None).matrix(3).all()
    assert Window(10**30, 10**30).matrix(3).all()
    assert lowered(Window(10**30, 10**30), ScoreShape((), 1, 3, 3))[0].all()


def test_combinations_with_arrays_on_either_side() -> None:
    eye = np.eye(3, dtype=bool)
    for combined in (Causal() & eye, eye & Causal(), Causal() & torch.eye(3).bool(), torch.eye(3).bool() & Causal()):
        assert isinstance(combined, Mask)
        np.testing.assert_array_equal(combined.matrix(3), eye)
    for combined in (
        ~Causal() | eye,
        eye | ~Causal(),
        ~Causal() | torch.eye(3).bool(),
        torch.eye(3).bool() | ~Causal(),
    ):
        assert isinstance(combined, Mask)
        np.testing.assert_array_equal(combined.matrix(3), np.tri(3).T == 1)


def test_batches_and_heads() -> None:
    lengths = np.array([[1, 2, 3]])
    assert Padding(lengths).matrix(2, 4, batch=(1, 3)).shape == (1, 3, 1, 2, 4)
    assert Padding(2).matrix(2, 4).sum() == 4
    assert Padding([2]).matrix(2, 4, batch=(5,)).shape == (2, 4)
    head = np.array([True, False])[:, None, None]
    np.testing.assert_array_equal((Causal() & head).matrix(2, heads=2), [[[1, 0], [1, 1]], [[0, 0], [0, 0]]])


SIMPLE = [
    Causal(),
    Causal(align="top-left"),
    Window(3, None),
    Window(None, 2, align="top-left"),
    ExceptSelf(),
    ExceptSelf(align="top-left"),
    Padding([3, 5]),
    Padding(3),
    Padding([[1], [2]], side="left"),
    Documents([0, 0, 1]),
    Documents([0, 1], [0, 0, 1]),
    ArrayMask([[True, False]]),
    Causal() & Window(3, 0) | ~Padding([3, 5]),
    ~(Causal() | Window(1, 1)) & Documents([1, 2]),
    Causal() & (Window(1, 1) & ExceptSelf()),
    Causal() | (Window(1, 1) | ExceptSelf()),
    Causal() & (Window(1, 1) | ExceptSelf()),
    ~~Causal(),
]


@pytest.mark.parametrize("mask", SIMPLE, ids=repr)
def test_repr_can_be_typed_in_again(mask: Mask) -> None:
    again = eval(repr(mask))
    assert again == mask
    assert repr(again) == repr(mask)
    assert all(again != other for other in SIMPLE if other is not mask)


def test_long_reprs_are_short() -> None:
    assert repr(Documents(np.zeros((4, 100), int))) == "Documents(<int64 of shape (4, 100)>)"
    assert repr(as_mask(np.ones((9, 9), bool))) == "ArrayMask(<bool of shape (9, 9)>)"


def test_python_words_do_not_drop_a_mask() -> None:
    with pytest.raises(ArgumentError, match=r"combine masks with &, \| and ~"):
        Causal() and Window(1, 0)
    with pytest.raises(ArgumentError, match="would drop one of them"):
        not Causal()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Causal(align="left"), "align: expected 'bottom-right' or 'top-left', got 'left'"),
        (lambda: Window(-1, 0), "Window left: expected 0 or more keys, or None for unlimited, got -1"),
        (lambda: Window(0, 1.5), "Window right: expected 0 or more keys, or None for unlimited, got 1.5"),
        (lambda: Window(True, 0), "Window left: expected 0 or more keys, or None for unlimited, got True"),
        (lambda: Padding([1.5]), "Padding lengths: expected integers, got [1.5]"),
        (lambda: Padding(3, side="top"), "Padding side: expected 'right' or 'left', got 'top'"),
        (lambda: Padding(9).matrix(1, 4), "Padding lengths: expected 0 to 4 (the number of keys), got 9 to 9"),
        (lambda: Padding([-1, 2]).matrix(1, 4), "Padding lengths: expected 0 to 4 (the number of keys), got -1 to 2"),
        (
            lambda: Padding([1, 2]).matrix(1, 4, batch=(3,)),
            "Padding lengths: expected one for each sequence, batch axes (3,), got shape (2,)",
        ),
        (lambda: Documents(["a"]), "Documents query_ids: expected integers, got ['a']"),
        (
            lambda: Documents([0, 0]).matrix(2, 3),
            "Documents key_ids: expected shape (3,), got (2,); give key_ids too where queries and keys differ",
        ),
        (
            lambda: Documents([0, 0, 1]).matrix(2, 2, batch=(4,)),
            "Documents query_ids: expected shape (2,) or (4, 2), got (3,)",
        ),
        (
            lambda: Causal() & "array",
            "mask: expected a mask (Causal(), Padding(lengths), ...) or a boolean array, got 'array'",
        ),
        (
            lambda: Causal() & np.ones(3),
            "mask: expected booleans, True where a query may attend, got float64; "
            "give additive masks (0 and -inf) as bias=",
        ),
        (
            lambda: Causal() & torch.ones(3, dtype=torch.int32),
            "mask: expected booleans, True where a query may attend, got int32; convert it with != 0",
        ),
        (
            lambda: (Causal() & np.ones((3, 3), bool)).matrix(2, 3),
            "mask: expected what broadcasts to (batch, heads, N, M) = (1, 2, 3), got shape (3, 3)",
        ),
    ],
)
def test_messages(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == message


def test_runs_that_do_not_touch_keep_what_lies_between_them_out() -> None:
    mask = Window(0, 0) | Padding(1)
    found, plan = lowered(mask, ScoreShape((), 1, 5, 5))
    assert [step[0] for step in plan.residual] == ["interval", "interval", "or"]
    np.testing.assert_array_equal(found[0, 0], (np.eye(5) == 1) | (np.arange(5) < 1))
