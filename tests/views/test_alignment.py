"""Words are aligned by what is read while they are written, pieces put together, a few rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conforms import check
from qkv.errors import ArgumentError, TraceError
from qkv.trace import Sequence, Token, Trace
from qkv.views import alignment as module
from qkv.views.alignment import alignment
from qkv.views.answers import Answers
from qkv.views.contract import Alignment
from random_trace import MaskStructure, Shape, dense, record, trace


def tokens(*pieces: tuple[str, int]) -> list[Token]:
    return [Token(0, text, special=word < 0, word=word) for text, word in pieces]


SOURCE = tokens(("the", 0), ("sta", 1), ("tion", 1), (".", 2), ("</s>", -1))
WRITTEN = tokens(("<s>", -1), ("la", 0), ("ga", 1), ("re", 1), (".", 2))
FIRST = [  # each row says where the token after it came from
    [0.6, 0.1, 0.1, 0.0, 0.2],
    [0.1, 0.3, 0.3, 0.0, 0.3],
    [0.4, 0.2, 0.3, 0.0, 0.1],
    [0.0, 0.0, 0.0, 0.9, 0.1],
    [0.0, 0.0, 0.0, 0.0, 1.0],
]


class Record:
    """A layer whose weights are written down; it tells how many rows were asked for at once."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.rows = np.array(rows, np.float32)
        self.queries, self.keys = self.rows.shape
        self.asked: list[int] = []

    def weights(self, head: int, rows: slice) -> Any:
        self.asked.append(len(self.rows[rows]))
        return self.rows[rows]


class Cross:
    def __init__(self, *layers: list[list[float]], written: list[Token] = WRITTEN, read: list[Token] = SOURCE) -> None:
        self.records = {layer: Record(rows) for layer, rows in enumerate(layers)}
        self.first, self.heads = self.records[0], (0, 1)
        self.query_tokens, self.key_tokens = written, read


def aligned(cross: Any, rows: tuple[int, int] | None = None) -> list[tuple[str, str, float]]:
    def text(pieces: list[Token]) -> str:
        return "".join(piece.text for piece in pieces)

    return [
        (
            text(cross.query_tokens[one["start"] : one["stop"]]),
            text(cross.key_tokens[one["read_start"] : one["read_stop"]]),
            pytest.approx(one["weight"], abs=1e-6),
        )
        for one in alignment(cross, rows)["words"]
    ]


def test_each_word_comes_from_what_is_read_while_it_is_written() -> None:
    assert aligned(Cross(FIRST)) == [("la", "the", 0.6), ("gare", "station", 0.55)]


def test_layers_are_averaged() -> None:
    assert aligned(Cross(FIRST, [[0.2] * 5] * 5))[0] == ("la", "the", 0.4)


def test_the_last_word_may_have_been_written_unread() -> None:
    written = [*WRITTEN[:4], *tokens(("x", 2), ("y", 3))]
    rows = [*FIRST[:3], [0.1, 0.0, 0.0, 0.8, 0.1]]
    assert aligned(Cross(rows, written=written)) == [("la", "the", 0.6), ("gare", "station", 0.55), ("x", "the", 0.1)]


def test_a_word_that_reads_no_word_is_left_out() -> None:
    written = tokens(("<s>", -1), ("a", 0), ("b", 1), ("c", 2), ("d", 3))
    assert [one[0] for one in aligned(Cross(FIRST, written=written))] == ["a", "b", "c"]


def test_nothing_to_align() -> None:
    assert aligned(Cross(FIRST, written=tokens(("<s>", -1)))) == []
    assert aligned(Cross(FIRST, written=tokens(("first", 0)))) == []
    assert aligned(Cross(FIRST, read=tokens((".", 0)))) == []
    assert aligned(Cross(FIRST, read=[])) == []  # a sound


@pytest.mark.parametrize(
    ("rows", "words"), [((0, 2), ["la"]), ((2, 3), ["gare"]), ((3, 5), []), ((1, 5), ["la", "gare"])]
)
def test_words_that_begin_in_some_rows(rows: tuple[int, int], words: list[str]) -> None:
    everything = aligned(Cross(FIRST))
    assert aligned(Cross(FIRST), rows) == [one for one in everything if one[0] in words]


@pytest.mark.parametrize("rows", [(0, 6), (3, 3), (4, 2), (-1, 2)])
def test_rows_that_are_none(rows: tuple[int, int]) -> None:
    with pytest.raises(ArgumentError, match=rf"rows: expected start < stop within 0 and 5, got {rows[0]}:{rows[1]}"):
        alignment(Cross(FIRST), rows)  # type: ignore[arg-type]


def test_few_rows_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    words = 40
    written = tokens(("<s>", -1), *((f"w{at // 2}", at // 2) for at in range(words)))
    source = tokens(*((f"s{at}", at) for at in range(words)))
    weights = np.random.default_rng(3).random((words + 1, words)).tolist()
    whole = aligned(Cross(weights, written=written, read=source))
    monkeypatch.setattr(module, "_CELLS", 10 * words)
    cross = Cross(weights, written=written, read=source)
    assert aligned(cross) == whole
    assert len(whole) == words // 2
    assert max(cross.first.asked) == 10


@pytest.fixture(scope="module")
def translation() -> Trace:
    """Random numbers under real words: a target of pieces, and an input that ends in a mark."""
    source, target, cross = (Shape(queries=n, keys=m) for n, m in ((5, 5), (5, 5), (5, 5)))
    records = [
        record(source),
        record(target, part="decoder-target", mask=MaskStructure(causal=True)),
        *(record(cross, layer=layer, kind="cross", part="decoder-target") for layer in range(2)),
    ]
    return Trace(trace(records).model, [Sequence({"input": SOURCE, "target": WRITTEN}, records)])


def test_it_is_the_mean_of_all_layers_and_heads(translation: Trace) -> None:
    mean = np.mean([dense(one).weights for one in translation.attentions if one.kind == "cross"], axis=(0, 1))
    found = Answers(translation).alignment()
    check(found, Alignment)
    assert [(one["start"], one["stop"]) for one in found["words"]] == [(1, 2), (2, 4)]
    for one, rows in zip(found["words"], (mean[0:1], mean[1:3]), strict=True):
        shares = {(0, 1): rows[:, 0].mean(), (1, 3): rows[:, 1:3].sum(1).mean()}
        best = max(shares, key=lambda place: shares[place])
        assert (one["read_start"], one["read_stop"]) == best
        assert one["weight"] == pytest.approx(shares[best], abs=1e-6)


def test_it_stays_so_whatever_is_shown(translation: Trace) -> None:
    everything = Answers(translation)
    one_head = everything.only([1], [2])
    assert one_head.alignment() == everything.alignment() == one_head.embedded()["alignment"]
    assert everything.alignment((2, 4))["words"] == everything.alignment()["words"][1:]


def test_without_cross_attention_there_is_none() -> None:
    alone = Answers(trace([record()]))
    assert alone.embedded()["alignment"] is None
    with pytest.raises(TraceError, match="stack 'cross' is not in this trace"):
        alone.alignment()
