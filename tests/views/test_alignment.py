"""Words are aligned by what is read while they are written, pieces put together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qkv.views.alignment import alignment


def tokens(*pieces: tuple[str, int]) -> Any:
    return [
        {"text": text, "space": True, "special": word < 0, "generated": False, "word": word} for text, word in pieces
    ]


SOURCE = tokens(("the", 0), ("sta", 1), ("tion", 1), (".", 2), ("</s>", -1))
WRITTEN = tokens(("<s>", -1), ("la", 0), ("ga", 1), ("re", 1), (".", 2))
FIRST = [  # each row says where the token after it came from
    [0.6, 0.1, 0.1, 0.0, 0.2],
    [0.1, 0.3, 0.3, 0.0, 0.3],
    [0.4, 0.2, 0.3, 0.0, 0.1],
    [0.0, 0.0, 0.0, 0.9, 0.1],
    [0.0, 0.0, 0.0, 0.0, 1.0],
]


def layers(*weights: list[list[float]]) -> Any:
    records = {
        layer: SimpleNamespace(weights=lambda head, each=each: np.array(each, np.float32))
        for layer, each in enumerate(weights)
    }
    return SimpleNamespace(records=records, heads=(0, 1))


def test_each_word_comes_from_what_is_read_while_it_is_written() -> None:
    found = alignment(layers(FIRST), WRITTEN, SOURCE)
    assert [(one.written, one.read) for one in found] == [("la", "the"), ("gare", "station")]
    assert [one.weight for one in found] == pytest.approx([0.6, 0.55])


def test_layers_are_averaged() -> None:
    flat = [[0.2] * 5] * 5
    found = alignment(layers(FIRST, flat), WRITTEN, SOURCE)
    assert found[0].weight == pytest.approx(0.4)


def test_nothing_to_align() -> None:
    assert alignment(layers(FIRST), tokens(("<s>", -1)), SOURCE) == []
    assert alignment(layers(FIRST), WRITTEN, tokens((".", 0))) == []
