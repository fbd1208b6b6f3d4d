"""Views against dense NumPy in float64, for every kind of layer that a trace can hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conforms import check
from qkv.errors import ArgumentError, TraceError
from qkv.trace import Attention, BiasStructure, MaskStructure
from qkv.trace._tensors import Tensors, raw
from qkv.views import contract
from qkv.views.answers import Answers
from qkv.views.pair import pair
from qkv.views.row import row
from qkv.views.survey import survey
from qkv.views.top_links import top_links
from qkv.views.window import window
from random_trace import Dense, Shape, dense, record, tokens, trace

random = np.random.default_rng(7)
HOLES = random.random((4, 11, 11)) < 0.7
HOLES[:, 4] = False  # a query that may read nothing
RELATIVE = random.normal(size=(4, 7)).astype(np.float32)
ARRAY = random.normal(size=(1, 11, 11)).astype(np.float32)
FORBIDDING = np.where(random.random((4, 11, 11)) < 0.2, -np.inf, 0.5).astype(np.float32)

LAYERS = {
    "plain": record(),
    "causal": record(part="decoder", mask=MaskStructure(causal=True)),
    "window": record(part="decoder", mask=MaskStructure(causal=True, window=(3, None))),
    "both-sided window": record(mask=MaskStructure(window=(2, 1))),
    "padding": record(mask=MaskStructure(keys=np.arange(11) < 8)),
    "holes": record(mask=MaskStructure(array=HOLES)),
    "softcap": record(softcap=2.0),
    "sink": record(sink=True),
    "relative": record(bias=BiasStructure(table=RELATIVE)),
    "array": record(bias=BiasStructure(array=ARRAY)),
    "forbidding": record(bias=BiasStructure(array=FORBIDDING)),
    "everything": record(
        part="decoder",
        softcap=3.0,
        sink=True,
        mask=MaskStructure(causal=True, keys=np.arange(11) != 2),
        bias=BiasStructure(RELATIVE, ARRAY),
    ),
    "cache": record(Shape(queries=5), part="decoder", mask=MaskStructure(causal=True)),
    "cross": record(Shape(queries=7, keys=12), kind="cross", part="decoder"),
    "long": record(Shape(queries=700, keys=700), part="decoder", mask=MaskStructure(causal=True)),
    "one": record(Shape(queries=1, keys=1)),
    "float16": record(dtype="float16"),
    "float64": record(dtype="float64", part="decoder", mask=MaskStructure(causal=True)),
    "some heads": record(heads=(3, 5, 8, 9)),
}


@pytest.fixture(params=LAYERS, ids=str)
def layer(request: pytest.FixtureRequest) -> Attention:
    return LAYERS[request.param]


@pytest.fixture
def truth(layer: Attention) -> Dense:
    return dense(layer)


def own_keys(layer: Attention) -> np.ndarray:
    return np.arange(layer.queries) + layer.keys - layer.queries


def test_survey(layer: Attention, truth: Dense) -> None:
    found = survey(layer, tokens(layer.queries), tokens(layer.keys))
    positive = np.where(truth.weights > 0, truth.weights, 1)
    np.testing.assert_allclose(found.entropy, -(truth.weights * np.log2(positive)).sum(-1), atol=2e-5)
    np.testing.assert_allclose(found.received, truth.weights.sum(1), rtol=1e-4, atol=1e-5)
    rounding = 2e-3 if layer.value.dtype == np.float16 else 1e-4  # an output has the dtype of its query
    np.testing.assert_allclose(found.output_norm, np.linalg.norm(truth.output, axis=-1), rtol=rounding, atol=1e-5)
    reading = truth.allowed.any(-1)
    own = own_keys(layer)
    distance = np.abs(own[:, None] - np.arange(layer.keys))
    for head, figures in enumerate(found.figures):
        weights, reads = truth.weights[head], reading[head]
        assert figures["first"] == pytest.approx(weights[reads, 0].mean(), abs=1e-5)
        assert figures["induction"] is None
        if layer.kind == "cross":
            assert (figures["previous"], figures["next"], figures["distance"]) == (0, 0, 0)
            continue
        assert figures["distance"] == pytest.approx((weights * distance).sum(-1)[reads].mean(), rel=1e-4, abs=1e-5)
        for name, step in (("previous", -1), ("next", 1)):
            rows = [i for i in range(layer.queries) if reads[i] and 0 <= own[i] + step < layer.keys]
            wanted = np.mean([weights[i, own[i] + step] for i in rows]) if rows else 0.0
            assert figures[name] == pytest.approx(wanted, abs=1e-5)  # type: ignore[literal-required]


def test_thumbnails(layer: Attention, truth: Dense) -> None:
    found = survey(layer, [], []).thumbnails
    assert max(found.shape[1:]) <= 32
    np.testing.assert_allclose(found, blocks(truth.weights, found.shape), rtol=1e-4, atol=1e-6)


def blocks(weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Means over each block's rows of the weight on its columns, cell by cell."""
    size = math.ceil(max(weights.shape[1:]) / 32) if shape[-1] <= 32 else 1
    wanted = np.zeros(shape)
    for down in range(shape[1]):
        for across in range(shape[2]):
            cell = weights[:, down * size : (down + 1) * size, across * size : (across + 1) * size]
            wanted[:, down, across] = cell.sum((1, 2)) / cell.shape[1]
    return wanted


def test_row(layer: Attention, truth: Dense) -> None:
    for at, head in enumerate(layer.heads):
        for query in range(0, layer.queries, max(1, layer.queries // 5)):
            found, weights = row(layer, head, query), truth.weights[at, query]
            check(found, contract.Row)
            np.testing.assert_allclose(found["weights"], weights, rtol=1e-4, atol=1e-6)
            positive = weights[weights > 0]
            assert found["entropy"] == pytest.approx(-(positive * np.log2(positive)).sum(), abs=1e-4)
            strongest = sorted(weights[weights > 0], reverse=True)[:12]
            assert [link["weight"] for link in found["links"]] == pytest.approx(strongest, rel=1e-4)
            values = layer.value[at // (len(layer.heads) // layer.key_heads)]
            for link in found["links"]:
                assert link["weight"] == pytest.approx(weights[link["key"]], rel=1e-4)
                assert link["value_norm"] == pytest.approx(np.linalg.norm(values[link["key"]].astype(float)), rel=1e-5)


def test_pair(layer: Attention, truth: Dense) -> None:
    keys = range(0, layer.keys, max(1, layer.keys // 6))
    for at, head in enumerate(layer.heads):
        for query in range(0, layer.queries, max(1, layer.queries // 3)):
            for key in keys:
                found = pair(layer, head, query, key)
                check(found, contract.Pair)
                where = (at, query, key)
                assert found["dot"] == pytest.approx(sum(found["product"]))
                assert found["scaled"] == pytest.approx(found["dot"] * layer.scale)
                assert found["capped"] == pytest.approx(truth.capped[where], abs=1e-5)
                assert found["masked"] == (not truth.allowed[where])
                assert found["weight"] == pytest.approx(truth.weights[where], rel=1e-4, abs=1e-7)
                assert found["output_norm"] == pytest.approx(
                    np.linalg.norm(truth.output[at, query]), rel=1e-4, abs=1e-6
                )
                if np.isfinite(truth.lse[at, query]):
                    assert found["lse"] == pytest.approx(truth.lse[at, query], rel=1e-5, abs=1e-5)
                else:
                    assert found["lse"] is None
                if not found["masked"]:
                    assert found["bias"] == pytest.approx(truth.bias[where], abs=1e-6)
                    assert found["lse"] is not None
                    assert math.exp(found["score"] - found["lse"]) == pytest.approx(found["weight"], rel=1e-4)


@pytest.mark.parametrize("side", [1, 3, 4, 512])
def test_window(layer: Attention, truth: Dense, side: int) -> None:
    queries, keys = layer.queries, layer.keys
    ranges = {
        ((0, queries), (0, keys)),
        ((queries // 3, queries), (0, (keys + 1) // 2)),
        ((0, (queries + 1) // 2), (keys // 2, keys)),  # in a causal layer nearly all of it is masked
        ((queries // 4, (3 * queries + 3) // 4), (keys // 3, (2 * keys + 2) // 3)),
    }
    for rows, columns in ranges:
        for at, head in enumerate(layer.heads):
            header, values = window(layer, head, rows, columns, side)
            check(header, contract.Window)
            assert values.dtype == np.float32
            assert values.shape == (header["height"], header["width"])
            assert max(values.shape) <= side
            part, block = truth.weights[at, slice(*rows), slice(*columns)], header["block"]
            for down, across in np.ndindex(*values.shape):
                cell = part[down * block : (down + 1) * block, across * block : (across + 1) * block]
                if side < 512 or (down + across) % 97 == 0:
                    assert values[down, across] == pytest.approx(cell.sum() / cell.shape[0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 3), (0, 5), 9), "rows: expected start < stop within 0 and 11, got 3:3"),
        (((0, 12), (0, 5), 9), "rows: expected start < stop within 0 and 11, got 0:12"),
        (((0, 5), (-1, 5), 9), "columns: expected start < stop within 0 and 11, got -1:5"),
        (((0, 5), (0, 5), 0), "side: expected a number of cells from 1 to 2048, got 0"),
        (((0, 5), (0, 5), 4096), "side: expected a number of cells from 1 to 2048, got 4096"),
    ],
)
def test_a_window_beyond_the_map(arguments: tuple, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        window(LAYERS["plain"], 0, *arguments)


def test_positions_beyond_the_text() -> None:
    with pytest.raises(ArgumentError, match="query: expected an index from 0 to 10, got 11"):
        row(LAYERS["plain"], 0, 11)
    with pytest.raises(ArgumentError, match="key: expected an index from 0 to 10, got -1"):
        pair(LAYERS["plain"], 0, 0, -1)


def test_top_links(layer: Attention, truth: Dense) -> None:
    for at, head in enumerate(layer.heads):
        found = top_links(layer, head, tokens(layer.queries), tokens(layer.keys), 5, words_only=False)
        wanted = np.sort(truth.weights[at], axis=None)[::-1][:5]
        assert [link.weight for link in found] == pytest.approx([w for w in wanted if w > 0], rel=1e-4)
        for link in found:
            assert truth.weights[at, link.query, link.key] == pytest.approx(link.weight, rel=1e-4)


def test_top_links_between_words_leave_out_what_heads_rest_on() -> None:
    layer = LAYERS["causal"]
    named = tokens(11, special_ends=True)
    found = top_links(layer, 0, named, named, 200)
    assert found
    assert all(link.query != link.key and link.key not in (0, 10) and link.query not in (0, 10) for link in found)


ANSWERS = {
    "encoder": Answers(trace([record(layer=0), record(layer=1), record(layer=2)])),
    "decoder": Answers(
        trace(
            [record(layer=layer, part="decoder", mask=MaskStructure(causal=True)) for layer in (0, 1)], predictions=True
        )
    ),
    "encoder-decoder": Answers(
        trace(
            [
                record(Shape(12, 12), layer=0),
                record(Shape(7, 7), layer=0, part="decoder-target", mask=MaskStructure(causal=True)),
                record(Shape(7, 12), layer=0, kind="cross", part="decoder"),
            ],
            kind="encoder-decoder",
        )
    ),
    "one token": Answers(trace([record(Shape(1, 1))])),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_keeps_the_contract(name: str) -> None:
    answers = ANSWERS[name]
    overview = answers.overview()
    check(overview, contract.Overview)
    opening = overview["opening"]
    head = (opening["stack"], opening["layer"], opening["head"])
    check(answers.head(*head), contract.Head)
    check(answers.row(*head, opening["query"]), contract.Row)
    check(answers.pair(*head, opening["query"], opening["key"]), contract.Pair)
    for stack in overview["stacks"]:
        header, values = answers.thumbnails(stack["name"])
        check(header, contract.Thumbnails)
        assert values.shape == (header["layers"], header["heads"], header["height"], header["width"])
        one, part = answers.thumbnails(stack["name"], stack["layers"][-1])
        assert one["layers"] == 1
        np.testing.assert_array_equal(part[0], values[-1])
        for layer in stack["layers"]:
            check(answers.derivation(stack["name"], layer), contract.Derivation)
    if overview["predicts"]:
        check(answers.predictions(0), contract.Predictions)
    check(answers.embedded(), contract.Embedded)


def test_a_decoder_that_reads_an_encoder_has_three_stacks_and_two_sides() -> None:
    overview = ANSWERS["encoder-decoder"].overview()
    assert [stack["name"] for stack in overview["stacks"]] == ["encoder", "decoder", "cross"]
    assert [side["name"] for side in overview["sides"]] == ["input", "target"]
    cross = overview["stacks"][2]
    assert (cross["query_side"], cross["key_side"]) == ("target", "input")


def test_derivations_have_the_stations_of_their_model() -> None:
    plain = [step["name"] for step in ANSWERS["encoder"].derivation("encoder", 0)["steps"]]
    assert plain == ["input", "qkv", "scores", "scale", "mask", "softmax", "value", "concat", "output", "norm", "ffn"]
    full = trace([LAYERS["everything"]], norm="before", kind="decoder")
    steps = {step["name"]: step["shape"] for step in Answers(full).derivation("decoder", 0)["steps"]}
    assert list(steps)[:3] == ["input", "norm", "qkv"]
    assert steps["softcap"] == "3"
    assert steps["bias"] == steps["mask"] == steps["softmax"] == "11 × 11"
    assert steps["scale"] == "d = 6"
    assert steps["concat"] == "11 × 20"
    assert steps["ffn"] == "24 → 96 → 24"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a: a.head("decoder", 0, 0), "stack 'decoder' is not in this trace; it holds encoder"),
        (lambda a: a.head("encoder", 9, 0), "layer 9 of the encoder is not in this trace; it holds layers 0, 1, 2"),
        (lambda a: a.thumbnails("encoder", 9), "layer 9 of the encoder is not in this trace; it holds layers 0, 1, 2"),
        (lambda a: a.head("encoder", 0, 4), "head: expected an index below 4"),
        (lambda a: a.predictions(0), "this trace holds no predictions"),
    ],
)
def test_what_is_not_there(ask, message: str) -> None:
    with pytest.raises((ArgumentError, TraceError), match=message):
        ask(ANSWERS["encoder"])


def test_statistics_alone_cannot_be_looked_at() -> None:
    layer = LAYERS["plain"]
    kept = Tensors({name: raw(layer.lse) for name in ("lse", "received")})
    bare = Attention(**{**vars(layer), "tensors": kept})
    with pytest.raises(TraceError, match="statistics only"):
        Answers(trace([bare])).overview()


def test_only_some_heads() -> None:
    overview = Answers(trace([record(layer=0), record(layer=1)]), only_layers=[1], only_heads=[0, 2]).overview()
    (stack,) = overview["stacks"]
    assert (stack["layers"], stack["heads"], len(stack["figures"][0])) == ([1], [0, 2], 2)
    assert (overview["opening"]["layer"], overview["opening"]["head"]) in {(1, 0), (1, 2)}
    with pytest.raises(TraceError, match=r"layer 7 is not in this trace; it holds encoder layer 0, heads 0 to 3"):
        Answers(trace([record(layer=0)]), only_layers=[7])


def test_opening_on_a_chosen_head() -> None:
    answers = Answers(trace([record(layer=0), record(layer=1)]), layer=1, head=3)
    opening = answers.overview()["opening"]
    assert (opening["layer"], opening["head"]) == (1, 3)
    assert len(answers.overview()["stacks"][0]["heads"]) == 4
    with pytest.raises(TraceError, match=r"head 12 is not in this trace; it holds encoder layer 0, heads 0 to 3"):
        Answers(trace([record()]), head=12)
