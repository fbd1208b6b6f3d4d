"""A trace goes to disk and comes back: the same numbers, by memory map, without torch and without pickle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qkv
from qkv.errors import TraceError
from qkv.trace import Attention, BiasStructure, MaskStructure, ModelInfo, Sequence, Token, Trace
from qkv.trace._arrays import AXES
from qkv.trace._tensors import Raw, Tensors, raw
from random_trace import Shape, record, tokens, trace

random = np.random.default_rng(0)
SHAPE = Shape()
H, N, M = SHAPE.heads, SHAPE.queries, SHAPE.keys

MASKS = {
    "none": MaskStructure(),
    "causal": MaskStructure(causal=True),
    "window": MaskStructure(window=(3, None)),
    "both": MaskStructure(causal=True, window=(2, 0)),
    "keys": MaskStructure(keys=np.arange(M) != 4),
    "array": MaskStructure(array=random.random((1, N, M)) < 0.7),
    "heads": MaskStructure(causal=True, array=random.random((H, N, M)) < 0.7),
}
BIASES = {
    "none": BiasStructure(),
    "table": BiasStructure(table=random.normal(size=(H, 9)).astype(np.float32)),
    "shared table": BiasStructure(table=random.normal(size=(1, 2 * M - 1)).astype(np.float32)),
    "array": BiasStructure(array=random.normal(size=(1, N, M)).astype(np.float32)),
    "both": BiasStructure(
        random.normal(size=(H, 5)).astype(np.float32), random.normal(size=(H, N, M)).astype(np.float32)
    ),
}


def as_bfloat16(original: Attention) -> Attention:
    """The record with queries, keys and values cut to bfloat16."""
    stored = {name: original.tensors.raw(name) for name in original.tensors}
    for name in ("query", "key", "value"):
        bits = np.ascontiguousarray(stored[name].data).view(np.uint32)
        stored[name] = Raw("BF16", (bits >> np.uint32(16)).astype(np.uint16))
    return with_tensors(original, Tensors(stored))


def with_tensors(original: Attention, tensors: Tensors) -> Attention:
    fields = {**original.__dict__, "tensors": tensors}
    return Attention(**fields)


def statistics_only() -> Attention:
    """A record without Q, K and V."""
    made = record()
    seen = made.observe(entropy=True, max_score=True, top_k=3, received=True, distance=True, block_map=(4, 4))
    names = ("lse", "entropy", "max_score", "received", "distance", "block_map")
    stored = {name: raw(np.asarray(getattr(seen, name))) for name in names}
    stored |= {"top_k_indices": raw(seen.top_k.indices), "top_k_weights": raw(seen.top_k.weights)}
    return with_tensors(made, Tensors(stored))


def same(back: Trace, original: Trace) -> None:
    """Everything that a trace says, bit by bit."""
    assert back.model == original.model
    assert back.complete == original.complete
    assert len(back.sequences) == len(original.sequences)
    for ours, theirs in zip(back.sequences, original.sequences, strict=True):
        assert ours.sides == theirs.sides
        assert ours.predictions == theirs.predictions
        assert len(ours.attentions) == len(theirs.attentions)
        for mine, kept in zip(ours.attentions, theirs.attentions, strict=True):
            same_record(mine, kept)


def same_record(mine: Attention, given: Attention) -> None:
    plain = ("path", "kind", "part", "layer", "heads", "head_count", "scale", "softcap", "query_side", "key_side")
    for name in (*plain, "queries", "keys", "key_heads", "statistics", "causal"):
        assert getattr(mine, name) == getattr(given, name), name
    for name in given.tensors:
        ours, theirs = mine.tensors.raw(name), given.tensors.raw(name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours.data, theirs.data)
    assert mine.mask_structure.window == given.mask_structure.window
    for structure, names in (("mask_structure", ("keys", "array")), ("bias_structure", ("table", "array"))):
        for name in names:
            a, b = getattr(getattr(mine, structure), name), getattr(getattr(given, structure), name)
            assert (a is None) == (b is None)
            if b is not None:
                np.testing.assert_array_equal(a, b)
    if "query" in given.tensors:
        np.testing.assert_array_equal(mine.weights(), given.weights())
        np.testing.assert_array_equal(mine.weights(given.heads[-1]), given.weights(given.heads[-1]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype_comes_back_bit_by_bit(tmp_path: Path, dtype: str) -> None:
    made = [record(dtype="float32" if dtype == "bfloat16" else dtype, layer=layer) for layer in range(2)]
    original = trace([as_bfloat16(one) for one in made] if dtype == "bfloat16" else made)
    back = qkv.open_trace(original.save(tmp_path / "a.qkv"))
    same(back, original)
    assert back.attentions[0].query.dtype == np.dtype("float32" if dtype == "bfloat16" else dtype)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("mask", MASKS)
def test_masks_and_biases_come_back(tmp_path: Path, mask: str, bias: str) -> None:
    original = trace([record(mask=MASKS[mask], bias=BIASES[bias], sink=True, softcap=4.0)])
    same(qkv.open_trace(original.save(tmp_path / "a.qkv")), original)


def test_statistics_come_back(tmp_path: Path) -> None:
    original = trace([statistics_only()])
    back = qkv.open_trace(original.save(tmp_path / "a.qkv"))
    same(back, original)
    seen, kept = (one.observe(0, entropy=True, top_k=2, received=True) for one in (back, original))
    np.testing.assert_array_equal(seen.entropy, kept.entropy)
    np.testing.assert_array_equal(seen.top_k.indices, kept.top_k.indices)
    with pytest.raises(TraceError, match="this trace keeps statistics only"):
        back.weights(0, 0)


def test_two_sides_several_texts_predictions_and_chosen_heads(tmp_path: Path) -> None:
    cross = Shape(queries=7, keys=11)
    original = trace(
        [
            record(layer=0, heads=(1, 2, 5, 7)),
            record(Shape(queries=7, keys=7), kind="self", part="decoder-target", mask=MaskStructure(causal=True)),
            record(cross, kind="cross", part="decoder"),
        ],
        kind="encoder-decoder",
    )
    other = trace([record(seed=5)], predictions=True)
    original.sequences += other.sequences
    back = qkv.open_trace(original.save(tmp_path / "a.qkv"))
    same(back, original)
    assert [one.sequence for text in back for one in text.attentions] == [0, 0, 0, 1]
    assert back.weights(0, 7, kind="self", part="encoder").shape == (11, 11)
    assert back.weights(0, 0, kind="cross").shape == (7, 11)


def test_texts_are_numbered_anew(tmp_path: Path) -> None:
    """A trace made of one text of another is a trace."""
    many = trace([record()])
    many.sequences += trace([record(seed=1)]).sequences
    opened = qkv.open_trace(many.save(tmp_path / "many.qkv"))
    one = qkv.open_trace(Trace(opened.model, opened.sequences[1:]).save(tmp_path / "one.qkv"))
    np.testing.assert_array_equal(one.weights(0), many.weights(0, sequence=1))


def test_two_layers_of_one_number_are_two_files(tmp_path: Path) -> None:
    twins = [record(seed=seed) for seed in range(3)]
    twins = [Attention(**{**one.__dict__, "path": f"tower.{at}"}) for at, one in enumerate(twins)]
    same(qkv.open_trace(trace(twins).save(tmp_path / "a.qkv")), trace(twins))


def test_a_cut_off_trace_stays_cut_off(tmp_path: Path) -> None:
    original = trace([record()])
    original.complete = False
    assert qkv.open_trace(original.save(tmp_path / "a.qkv")).complete is False


def test_an_empty_trace_comes_back(tmp_path: Path) -> None:
    back = qkv.open_trace(Trace(ModelInfo("m", "M", "encoder")).save(tmp_path / "a.qkv"))
    assert back.sequences == []
    assert back.tokens == []


@given(
    shape=st.builds(
        Shape,
        queries=st.integers(1, 9),
        keys=st.integers(1, 9),
        heads=st.just(4),
        key_heads=st.sampled_from([1, 2, 4]),
        dim=st.integers(1, 7),
        value_dim=st.integers(1, 7),
    ),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    causal=st.booleans(),
    sink=st.booleans(),
    softcap=st.none() | st.floats(0.5, 50),
    texts=st.lists(st.text(), min_size=9, max_size=9),
)
def test_any_trace_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    shape: Shape,
    dtype: str,
    causal: bool,
    sink: bool,
    softcap: float | None,
    texts: list[str],
) -> None:
    made = record(shape, dtype=dtype, sink=sink, softcap=softcap, mask=MaskStructure(causal=causal), kind="cross")
    original = trace([made])
    original.sequences[0].sides["input"] = [Token(at, text) for at, text in enumerate(texts)]
    same(qkv.open_trace(original.save(tmp_path_factory.mktemp("any") / "a.qkv")), original)


def test_arrays_are_aligned_and_as_the_format_says(tmp_path: Path) -> None:
    """Odd sizes of narrow dtypes move nothing out of place, and the reference reader agrees."""
    safetensors = pytest.importorskip("safetensors.numpy")
    shape = Shape(queries=3, keys=5, heads=1, key_heads=1, dim=1, value_dim=1)
    mask = MaskStructure(keys=np.ones(5, bool))
    original = trace([record(shape, dtype="float16", mask=mask, kind="cross")])
    back = qkv.open_trace(original.save(tmp_path / "a.qkv"))
    theirs = safetensors.load_file(next((tmp_path / "a.qkv").glob("*.safetensors")))
    assert set(theirs) == {"query", "key", "value", "lse", "mask_keys"}
    for name, array in theirs.items():
        ours = back.attentions[0].tensors.raw(name).data
        np.testing.assert_array_equal(ours, array)
        assert ours.flags.aligned
        assert is_mapped(ours), f"{name} had to be copied"


def is_mapped(array: Any) -> bool:
    """Whether an array is a view of a file."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def test_every_array_that_a_layer_may_hold_is_tested_here() -> None:
    kept = set(statistics_only().tensors) | {"query", "key", "value", "sink"}
    assert set(AXES) == kept | {"mask_keys", "mask_array", "bias_table", "bias_array"}


# Opening


def test_opening_reads_no_array(tmp_path: Path) -> None:
    """With every byte of the arrays destroyed, opening succeeds, and the first look at one fails."""
    structures = {"mask": MASKS["heads"], "bias": BIASES["both"]}
    path = trace([record(sink=True, **structures), record(layer=1)]).save(tmp_path / "a.qkv")
    for file in path.glob("*.safetensors"):
        content = file.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        file.write_bytes(content[:start] + bytes(byte ^ 0xFF for byte in content[start:]))
    opened = qkv.open_trace(path)
    assert opened.attentions[0].queries == N
    assert repr(opened.attentions[0])
    for read in (
        lambda: opened.attentions[0].query,
        lambda: opened.attentions[0].sink,
        lambda: opened.attentions[0].mask,
        lambda: opened.attentions[0].bias,
        lambda: opened.weights(1, 0),
        lambda: opened.observe(1, entropy=True),
    ):
        with pytest.raises(TraceError, match="is not what was written: its checksum is another"):
            read()


def test_opening_gigabytes_takes_no_time(tmp_path: Path) -> None:
    """More than a gigabyte in four layers of holes: opening looks at none of it."""
    layers = [record(layer=layer) for layer in range(4)]
    path = trace(layers).save(tmp_path / "a.qkv")
    index = json.loads((path / "trace.json").read_text())
    words = 20_000
    index["texts"][0]["sides"]["input"] = [vars_of(token) for token in tokens(words)]
    for name, what in index["attentions"].items():
        sizes = {"query": [4, words, 1024], "key": [2, words, 1024], "value": [2, words, 256], "lse": [4, words]}
        header, place = {}, 0
        for array, shape in sizes.items():
            size = 4 * int(np.prod(shape))
            header[array] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
            place += size
        text = json.dumps(header).encode()
        with (path / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + place)
        what["size"] = 8 + len(text) + place
    (path / "trace.json").write_text(json.dumps(index))
    assert sum(file.stat().st_size for file in path.iterdir()) > 1 << 30
    started = time.perf_counter()
    opened = qkv.open_trace(path)
    assert time.perf_counter() - started < 2
    assert opened.attentions[3].keys == words


def vars_of(token: Token) -> dict[str, Any]:
    return {name: getattr(token, name) for name in Token.__slots__}


def test_arrays_are_memory_maps_that_hold_no_file_open(tmp_path: Path) -> None:
    path = trace([record(layer=layer) for layer in range(40)]).save(tmp_path / "a.qkv")
    opened = qkv.open_trace(path)
    assert is_mapped(opened.attentions[0].query)
    assert not opened.attentions[0].query.flags.writeable
    before = len(os.listdir("/dev/fd"))
    for layer in range(40):
        opened.weights(layer, 0)
    assert len(os.listdir("/dev/fd")) < before + 5


def test_the_checksum_is_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    taken = []
    real = hashlib.sha256
    path = trace([record()]).save(tmp_path / "a.qkv")
    monkeypatch.setattr(hashlib, "sha256", lambda *args: taken.append(1) or real(*args))
    opened = qkv.open_trace(path)
    assert not taken
    opened.weights(0, 0)
    opened.weights(0, 1)
    assert len(taken) == 1


def test_opening_needs_neither_torch_nor_pickle(tmp_path: Path) -> None:
    path = trace([as_bfloat16(record(mask=MASKS["keys"]))]).save(tmp_path / "a.qkv")
    code = (
        "import sys, qkv; t = qkv.open_trace(sys.argv[1]); t.weights(0, 0); t.observe(0, entropy=True);"
        "print([name for name in ('torch', 'transformers', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    sources = Path(qkv.trace.__file__).parent.glob("*.py")
    assert not [source.name for source in sources if "import pickle" in source.read_text()]


def test_the_ending_may_be_left_out(tmp_path: Path) -> None:
    assert trace([record()]).save(tmp_path / "reading") == tmp_path / "reading.qkv"
    assert qkv.open_trace(tmp_path / "reading").path == tmp_path / "reading.qkv"


def test_saving_leaves_nothing_beside_the_trace(tmp_path: Path) -> None:
    trace([record()]).save(tmp_path / "deep" / "a.qkv")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.qkv"]
    assert sorted(file.name for file in (tmp_path / "deep" / "a.qkv").iterdir()) == [
        "text-000-encoder-000.safetensors",
        "trace.json",
    ]


def test_a_trace_that_could_not_be_read_is_not_saved(tmp_path: Path) -> None:
    wrong = Trace(ModelInfo("m", "M", "encoder"), [Sequence({}, [record()])])
    with pytest.raises(TraceError, match="cannot be 'input'"):
        wrong.save(tmp_path / "a.qkv")
    assert list(tmp_path.iterdir()) == []


def test_half_a_character_does_not_stop_saving(tmp_path: Path) -> None:
    original = trace([record()])
    original.sequences[0].sides["input"][3] = Token(3, "\ud83d")
    assert qkv.open_trace(original.save(tmp_path / "a.qkv")).tokens[3] == "?"
