"""What the page opens on: strong, far, and not what every query reads."""

from __future__ import annotations

import numpy as np
import pytest

from qkv.trace import Attention, MaskStructure, Token
from qkv.views.opening import Telling, most_telling, opening
from random_trace import Shape, record, tokens

N = 12


def telling(
    weights: np.ndarray, words: list[Token] | None = None, *, causal: bool = False, kind: str = "self"
) -> Telling:
    """The most telling pair of one head with these weights."""
    part = "decoder" if causal or kind == "cross" else "encoder"
    shape = Shape(*weights.shape, heads=1, key_heads=1)
    layer: Attention = record(shape, kind=kind, part=part, mask=MaskStructure(causal=causal))
    order = np.argsort(-weights, axis=1, kind="stable")[:, :8]
    strongest = np.take_along_axis(weights, order, 1)
    indices = np.where(strongest > 0, order, -1)
    words = words or tokens(weights.shape[1])
    (found,) = most_telling(
        layer, indices[None], strongest[None].astype(np.float32), weights.sum(0)[None], tokens(len(weights)), words
    )
    return found


def resting(on: int = 0, weight: float = 0.9) -> np.ndarray:
    """Every query rests on one key, and a little on itself."""
    weights = np.eye(N) * (1 - weight)
    weights[:, on] += weight
    return weights


def test_a_far_strong_link_beats_a_sink() -> None:
    weights = resting()
    weights[9] = 0
    weights[9, [3, 0, 9]] = 0.5, 0.4, 0.1
    assert telling(weights)[1:] == (9, 3)


def test_farther_is_more_telling_and_stronger_is() -> None:
    weights = np.eye(N)
    weights[9], weights[4] = 0, 0
    weights[9, [2, 9]] = weights[4, [2, 4]] = 0.6, 0.4
    assert telling(weights)[1:] == (9, 2)
    weights[9, [2, 9]] = 0.3, 0.7
    assert telling(weights)[1:] == (4, 2)


@pytest.mark.parametrize("beside", [9, 8, 10])
def test_itself_and_its_neighbours_tell_little(beside: int) -> None:
    weights = np.eye(N) * 0.0
    weights[9, beside] = 0.75
    weights[9, 2] = 0.25
    assert telling(weights)[1:] == (9, 2)


@pytest.mark.parametrize(
    "dull",
    [
        Token(0, "[SEP]", special=True),
        Token(0, ",", word=5),
        Token(0, "dull", word=9),  # the same word as the query's
        Token(0, "Fox", word=5),  # the same text, but for its case
    ],
    ids=["special", "mark", "same word", "repetition"],
)
def test_what_tells_little(dull: Token) -> None:
    words = [Token(at, f"w{at}", word=at) for at in range(N)]
    words[9] = Token(9, "fox", word=9)
    words[5] = dull
    weights = np.zeros((N, N))
    weights[9, 5], weights[9, 6] = 0.7, 0.3
    assert telling(weights, words)[1:] == (9, 6)
    words[5] = Token(5, "else", word=5)
    assert telling(weights, words)[1:] == (9, 5)


def test_the_first_token_of_a_causal_model_is_a_sink_even_unmarked() -> None:
    weights = np.tril(np.full((N, N), 1e-6))
    weights[9, 0], weights[9, 4] = 0.8, 0.2
    assert telling(weights, causal=True)[1:] == (9, 4)
    assert telling(weights)[1:] == (9, 0)


def test_a_late_key_of_a_causal_model_is_compared_with_the_queries_that_can_read_it() -> None:
    # Both queries that come after key 9 read it: that is its habit, though its sum over all queries is small.
    weights = np.zeros((N, N))
    weights[11, 9] = weights[10, 9] = 0.6
    weights[7, 3] = 0.3
    assert telling(weights, causal=True)[1:] == (7, 3)


def test_where_two_texts_meet_distance_says_nothing() -> None:
    weights = np.zeros((6, 9))
    weights[3, 3], weights[1, 8] = 0.6, 0.5
    assert telling(weights, kind="cross")[1:] == (3, 3)


@pytest.mark.parametrize("size", [1, 2])
def test_a_text_that_offers_nothing_still_opens(size: int) -> None:
    found = telling(np.full((size, size), 1 / size))
    assert found.score > 0
    assert 0 <= found.query < size
    assert 0 <= found.key < size


def test_a_head_that_reads_nothing_opens_on_its_corner() -> None:
    assert telling(np.zeros((4, 4)))[1:] == (0, 0)


def test_opening_is_the_best_of_all_heads() -> None:
    heads = [
        ("encoder", 0, 0, Telling(0.5, 1, 2)),
        ("encoder", 3, 1, Telling(2.0, 10, 2)),
        ("cross", 0, 5, Telling(1.0, 0, 0)),
    ]
    assert opening(heads) == {"stack": "encoder", "layer": 3, "head": 1, "query": 10, "key": 2}  # type: ignore[arg-type]
