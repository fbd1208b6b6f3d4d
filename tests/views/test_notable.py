"""Heads with a habit are found, the plainest first."""

from __future__ import annotations

import numpy as np

from qkv.trace import Attention, MaskStructure, Sequence
from qkv.trace._tensors import Tensors, raw
from qkv.views.answers import Answers
from qkv.views.contract import HeadFigures
from qkv.views.induction import induction_scores
from qkv.views.notable import notable, resting
from random_trace import Shape, record, tokens, trace


def overview_of(figures: list[HeadFigures]) -> dict:
    overview = Answers(trace([record(Shape(heads=len(figures), key_heads=1))])).overview()
    overview["stacks"][0]["figures"] = [figures]
    return overview  # type: ignore[return-value]


def figures(**known: float) -> HeadFigures:
    return HeadFigures(**{**dict.fromkeys(HeadFigures.__annotations__, 0.0), "induction": None, **known})  # type: ignore


def test_habits() -> None:
    overview = overview_of(
        [
            figures(previous=0.6, first=0.2),
            figures(previous=0.99),
            figures(next=0.51),
            figures(first=0.8, previous=0.49),
            figures(induction=0.31),
            figures(induction=0.92, first=0.50),
        ]
    )
    found = notable(overview)  # type: ignore[arg-type]
    assert [(one.habit, one.head, one.weight) for one in found] == [
        ("induction", 5, 0.92),
        ("induction", 4, 0.31),
        ("previous", 1, 0.99),
        ("previous", 0, 0.6),
        ("next", 2, 0.51),
    ]
    assert [one.head for one in notable(overview, most=1)] == [5, 1, 2]  # type: ignore[arg-type]
    assert resting(overview) == (1, 6)  # type: ignore[arg-type]


def repeating(start: int, period: int) -> Attention:
    """One head that reads, with nearly all of its weight, what followed last time, and one that reads itself."""
    count = start + 2 * period
    codes = np.eye(count, dtype=np.float32) * 12
    target = np.arange(count)
    target[start + period :] = np.arange(start + 1, start + period + 1)
    query = np.stack([codes[target], codes])
    layer = record(Shape(count, count, 2, 1, count, 3), part="decoder", mask=MaskStructure(causal=True))
    tensors = {"query": query, "key": codes[None], "value": layer.value, "lse": layer.lse}
    scores = np.where(np.tri(count, dtype=bool), query @ codes.T * layer.scale, -np.inf)
    tensors["lse"] = np.log(np.exp(scores).sum(-1)).astype(np.float32)
    return Attention(**{**vars(layer), "tensors": Tensors({name: raw(one) for name, one in tensors.items()})})


def test_induction_scores() -> None:
    for start, period in ((0, 8), (2, 5)):
        layer = repeating(start, period)
        probe = Sequence({"input": tokens(start + 2 * period)}, [layer])
        scores = induction_scores(probe, period, start)
        assert scores["decoder", 0, 0] > 0.95
        assert scores["decoder", 0, 1] < 0.05
        answers = Answers(trace([layer]), induction=scores)
        assert answers.overview()["stacks"][0]["figures"][0][0]["induction"] == scores["decoder", 0, 0]
        assert answers.head("decoder", 0, 1)["figures"]["induction"] == scores["decoder", 0, 1]
