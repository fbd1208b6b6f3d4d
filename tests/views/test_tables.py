"""Tables say what the views say."""

from __future__ import annotations

import numpy as np
import pytest

from qkv.views.answers import Answers
from qkv.views.tables import HeadRow, LinkRow, head_rows, link_rows
from random_trace import dense, record, trace

LAYERS = [record(layer=0), record(layer=1)]
ANSWERS = Answers(trace(LAYERS))


def test_head_rows() -> None:
    rows = list(head_rows(ANSWERS))
    assert [(row["layer"], row["head"]) for row in rows] == [(layer, head) for layer in (0, 1) for head in range(4)]
    for row in rows:
        assert row.keys() == HeadRow.__annotations__.keys()
        weights = dense(LAYERS[row["layer"]]).weights[row["head"]]
        assert row["first"] == pytest.approx(weights[:, 0].mean(), abs=1e-5)
        received = weights.sum(0)
        assert row["received_most"] == received.argmax()
        assert row["received_most_share"] == pytest.approx(received.max() / 11, rel=1e-4)
        assert row["received_most_token"] == ANSWERS.sequence.sides["input"][received.argmax()].text


def test_link_rows() -> None:
    rows = list(link_rows(ANSWERS, 3))
    assert len(rows) == 2 * 4 * 3
    for row in rows:
        assert row.keys() == LinkRow.__annotations__.keys()
        weights = dense(LAYERS[row["layer"]]).weights[row["head"]]
        assert row["weight"] == pytest.approx(weights[row["query"], row["key"]], rel=1e-4)
        assert row["weight"] >= np.sort(weights, axis=None)[-3] * 0.9999
