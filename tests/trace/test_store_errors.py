"""A trace that is missing, cut, damaged or hostile: always a `TraceError` that says what and where."""

from __future__ import annotations

import copy
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import qkv
from qkv.errors import QkvError, TraceError
from qkv.trace import MaskStructure, Trace
from random_trace import record, trace

KEYS = np.arange(11) != 4


def small() -> Trace:
    """Two layers, a mask with an array, predictions."""
    mask = MaskStructure(causal=True, window=(4, 0), keys=KEYS)
    return trace([record(mask=mask, sink=True, softcap=3.0), record(layer=1)], predictions=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small().save(tmp_path / "a.qkv")


def layer_file(folder: Path, layer: int = 0) -> Path:
    return folder / f"text-000-encoder-00{layer}.safetensors"


def change_index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    index = json.loads((folder / "trace.json").read_text())
    change(index)
    (folder / "trace.json").write_text(json.dumps(index))


def change_header(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the header of the first layer's file; the index is told its new size, as an attacker would."""
    file = layer_file(folder)
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    replace_file(folder, len(text).to_bytes(8, "little") + text + content[8 + length :])


def replace_file(folder: Path, content: bytes) -> None:
    layer_file(folder).write_bytes(content)
    change_index(folder, lambda index: index["attentions"][layer_file(folder).name].update(size=len(content)))


# What is not there, or is something else


def test_no_such_path(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.qkv is no trace: there is none; expected a folder that qkv capture"):
        qkv.open_trace(tmp_path / "none.qkv")


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"is no trace: it holds no trace\.json"):
        qkv.open_trace(tmp_path)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.qkv").write_text("{}")
    with pytest.raises(TraceError, match=r"a\.qkv is no trace: it is a file; expected a folder"):
        qkv.open_trace(tmp_path / "a.qkv")


@pytest.mark.parametrize("content", ['{"format": "other"}', "[]", "3", '{"name": "package"}', "null"])
def test_another_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "trace.json").write_text(content)
    with pytest.raises(TraceError, match=r"is no trace: its trace\.json was written by something else"):
        qkv.open_trace(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"1" * 10_000 + b"}", b"\x00"])
def test_an_index_that_is_no_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trace.json").write_bytes(content)
    with pytest.raises(TraceError, match=r"trace\.json cannot be read|written by something else"):
        qkv.open_trace(tmp_path)


@pytest.mark.parametrize("version", [2, 99, "1", None, True, 0, -1, 1.0])
def test_another_version(folder: Path, version: Any) -> None:
    change_index(folder, lambda index: index.update(version=version))
    with pytest.raises(
        TraceError, match=f"was written in format {version!r}, and this qkv reads format 1 .*update qkv"
    ):
        qkv.open_trace(folder)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trace.json")
    with pytest.raises(TraceError, match=r"holds no trace\.json"):
        qkv.open_trace(tmp_path)


# Files of layers


def test_a_missing_layer(folder: Path) -> None:
    layer_file(folder, 1).unlink()
    with pytest.raises(TraceError, match=r"encoder-001\.safetensors cannot be read: No such file .*restore it"):
        qkv.open_trace(folder)


def test_a_truncated_layer(folder: Path) -> None:
    content = layer_file(folder).read_bytes()
    layer_file(folder).write_bytes(content[:-5])
    with pytest.raises(TraceError, match=rf"is truncated or was changed: expected {len(content)} bytes, got"):
        qkv.open_trace(folder)


def test_tampered_bytes(folder: Path) -> None:
    content = bytearray(layer_file(folder).read_bytes())
    content[-20] ^= 1
    layer_file(folder).write_bytes(content)
    opened = qkv.open_trace(folder)
    opened.weights(1, 0)
    for _ in range(2):  # and again: one refusal does not make it believed
        with pytest.raises(TraceError, match="is not what was written: its checksum is another"):
            opened.weights(0, 0)


def test_a_layer_that_is_gone_when_it_is_read(folder: Path) -> None:
    opened = qkv.open_trace(folder)
    opened.weights(1, 0)
    shutil.rmtree(folder)
    for layer in (0, 1):
        with pytest.raises(TraceError, match=r"cannot be read: .*No such file"):
            opened.weights(layer, 0)


def set_entry(name: str, **values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda header: header[name].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_entry("key", data_offsets=[0, 1 << 40]), "does not lie at bytes 0 to"),
        (set_entry("key", data_offsets=[-8, 520]), "at bytes -8 to 520 is none"),
        (set_entry("key", data_offsets=[528, 0]), "does not lie at bytes"),
        (set_entry("key", data_offsets=[0]), "is no safetensors file"),
        (set_entry("key", data_offsets="ab"), "is no safetensors file"),
        (set_entry("key", data_offsets=[0.0, 528.0]), "is none"),
        (set_entry("key", shape=[1 << 62, 1 << 62, 0]), "does not lie|has shape"),
        (set_entry("key", shape=[-2, -11, 6]), "is none"),
        (set_entry("key", shape=[float("nan")]), "is none"),
        (set_entry("key", shape=[True, 11, 12]), "is none"),
        (set_entry("key", shape="abc"), "is none"),
        (set_entry("key", shape=None), "is no safetensors file"),
        (set_entry("key", dtype="F8_E4M3"), "dtype 'F8_E4M3' is none that a trace holds"),
        (set_entry("key", dtype=["F32"]), "is none that a trace holds"),
        (set_entry("key", dtype="I32"), "key has dtype I32, expected F16 or BF16 or F32 or F64"),
        (set_entry("mask_keys", dtype="F16", shape=[5]), "is no safetensors file|mask_keys has dtype"),
        (set_entry("query", shape=[4, 66]), r"query has shape \(4, 66\), expected \(H, N, D\)"),
        (set_entry("query", shape=[4, 6, 11]), "has shape"),
        (set_entry("query", shape=[2, 22, 6]), "query has shape"),
        (set_entry("value", shape=[1, 22, 5]), "value has shape"),
        (set_entry("lse", shape=[11, 4]), "has shape"),
        (lambda header: header.pop("lse"), "lse of the layer cannot be missing"),
        (lambda header: header.pop("value"), "value of the layer cannot be missing"),
        (lambda header: [header.pop(name) for name in ("query", "key", "value")], "cannot be missing"),
        (lambda header: header.update(other=header["sink"]), "an array named 'other' is none that a layer has"),
        (lambda header: header.update(entropy=header["sink"]), "entropy has shape"),
        (lambda header: header.update(lse=3), "is no safetensors file"),
        (lambda header: header.clear(), "lse, query, key, value of the layer cannot be missing"),
    ],
)
def test_a_tampered_header(folder: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    change_header(folder, change)
    with pytest.raises(TraceError, match=message):
        qkv.open_trace(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 8,
        (1 << 40).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"\xff\xff",
        (90_000).to_bytes(8, "little") + b"[" * 90_000,
        (4).to_bytes(8, "little") + b"null",
    ],
)
def test_a_file_that_is_no_safetensors_file(folder: Path, content: bytes) -> None:
    replace_file(folder, content)
    with pytest.raises(TraceError, match=r"is no safetensors file|is no layer of a trace"):
        qkv.open_trace(folder)


@pytest.mark.parametrize(
    "name",
    ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "x.safetensors\n", "x.pkl", "é.safetensors", "\0"],
)
def test_names_that_lead_elsewhere(folder: Path, name: str) -> None:
    change_index(folder, lambda index: index["attentions"].update({name: next(iter(index["attentions"].values()))}))
    with pytest.raises(TraceError, match=r"names the file .* which is none of a trace's: it was tampered with"):
        qkv.open_trace(folder)


# trace.json


BAD = {
    "sequence": [-1, 1, 1 << 40, True, "0", None, 0.0],
    "heads": [[], [-1], [0, 1, 2, 4], [0, 0, 1, 2], [True, 1, 2, 3], "0123", None, 3, [[0], 1, 2, 3], [0, 1, 2]],
    "head_count": [0, -4, 3, 1 << 40, None, "4", 4.0],
    "layer": [-1, 1 << 40, "0", None, 0.5],
    "scale": [float("nan"), float("inf"), "1", None, True, 10**400],
    "softcap": [float("nan"), 0, -1.0, "1", False, float("inf")],
    "kind": ["other", None, [], {}],
    "part": ["other", None, []],
    "path": [None, 3, ["a"]],
    "query_side": ["target", "other", None, [], {}],
    "key_side": ["target", 3],
    "size": [-1, None, "3", 1e6, True],
    "sha256": [None, "x", "A" * 64, 3],
    "mask": [
        None,
        [],
        {},
        {"causal": 1, "window": None},
        {"causal": True, "window": 3},
        {"causal": True, "window": "ab"},
        {"causal": True, "window": [1]},
        {"causal": True, "window": [-1, 0]},
        {"causal": True, "window": [1.5, 0]},
        {"causal": True, "window": [1 << 40, 0]},
        {"causal": True, "window": [float("nan"), None]},
    ],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_a_layer_that_makes_no_sense(folder: Path, field: str, value: Any) -> None:
    change_index(folder, lambda index: index["attentions"][layer_file(folder).name].update({field: value}))
    with pytest.raises(TraceError, match=r"trace\.json is damaged|is no layer of a trace|is truncated"):
        qkv.open_trace(folder)


def test_more_queries_than_tokens(folder: Path) -> None:
    change_index(folder, lambda index: index["texts"][0]["sides"]["input"].pop())
    change_index(folder, lambda index: index["texts"][0].update(predictions=None))
    with pytest.raises(TraceError, match=r"trace\.json is damaged \(ValueError: the 11 tokens' side cannot be 'input'"):
        qkv.open_trace(folder)


def use(opened: Trace) -> None:
    """Everything that can be asked of a trace; whatever refuses says so in our own words."""
    repr(opened)
    assert len(opened.tokens) == (len(opened.sequences[0].sides.get("input", [])) if opened.sequences else 0)
    json.dumps([token.text for token in (opened.sequences[0].sides.get("input", []) if opened.sequences else [])])
    for sequence in opened:
        sequence.text().encode()
        for after in sequence.predictions or []:
            " ".join(one.text for one in after).encode()
        for one in sequence.attentions:
            repr(one)
            try:
                one.weights(one.heads[0])
                one.observe(entropy=True, received=True)
            except QkvError:
                continue


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value in a tree of JSON."""
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in below for place in nodes(value, (*path, key)))]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = small().save(tmp_path_factory.mktemp("template") / "a.qkv")
    return path, json.loads((path / "trace.json").read_text())


@settings(max_examples=400)
@given(data=st.data(), how=st.sampled_from(["replace", "remove", "repeat", "swap"]))
def test_any_change_of_the_index(template: tuple[Path, dict[str, Any]], data: st.DataObject, how: str) -> None:
    """Another value, or none, or one that stands elsewhere: a `TraceError`, or a trace that can be used."""
    path, original = template
    index = copy.deepcopy(original)
    layers = [place for place in nodes(index) if len(place) < 4 or place[0] == "attentions"]
    place = data.draw(st.sampled_from(layers if data.draw(st.booleans()) else nodes(index)))
    value = data.draw(json_values) if how == "replace" else copy.deepcopy(at(index, data.draw(st.sampled_from(layers))))
    if not place:
        index = value
    else:
        parent = at(index, place[:-1])
        if how == "remove":
            del parent[place[-1]]
        elif how == "repeat" and isinstance(parent, list):
            parent.append(parent[place[-1]])
        else:
            parent[place[-1]] = value
    (path / "trace.json").write_text(json.dumps(index))
    try:
        opened = qkv.open_trace(path)
    except TraceError:
        return
    use(opened)


def at(tree: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        tree = tree[step]
    return tree


@settings(max_examples=200)
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: ('{"a":' + text).encode()))
@example(b'{"format":"qkv-trace","version":1}')
def test_any_bytes_for_an_index(template: tuple[Path, dict[str, Any]], content: bytes) -> None:
    path, _ = template
    (path / "trace.json").write_bytes(content)
    with pytest.raises(TraceError):
        qkv.open_trace(path)


@settings(max_examples=200)
@given(data=st.data())
def test_any_byte_of_a_header(template: tuple[Path, dict[str, Any]], data: st.DataObject) -> None:
    """A byte of the header changed: refused at opening, or by the checksum when it is read."""
    path, original = template
    (path / "trace.json").write_text(json.dumps(original))
    file = layer_file(path)
    content = bytearray(file.read_bytes())
    length = int.from_bytes(content[:8], "little")
    place = data.draw(st.integers(0, 8 + length - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    changed = bytearray(content)
    changed[place] = value
    try:
        file.write_bytes(changed)
        with pytest.raises(TraceError):
            qkv.open_trace(path).weights(0, 0)
    finally:
        file.write_bytes(content)


def test_kept_keys_out_of_range(tmp_path: Path) -> None:
    """Statistics that point beyond the text, under a right checksum, are refused where they are read."""
    from test_store import statistics_only

    made = statistics_only()
    made.tensors["top_k_indices"][0, 0, 0] = 11
    opened = qkv.open_trace(trace([made]).save(tmp_path / "a.qkv"))
    with pytest.raises(TraceError, match="top_k_indices of layer 0 points outside its 11 keys"):
        opened.observe(0, top_k=1)


# Saving


def test_saving_over_a_trace(folder: Path) -> None:
    with pytest.raises(TraceError, match=r"a\.qkv is taken by a trace, which would be lost; remove it, or choose"):
        small().save(folder)
    assert len(qkv.open_trace(folder).attentions) == 2


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text("mine"), lambda path: (path / "deep").mkdir(parents=True)]
)
def test_saving_over_something_else(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "a.qkv")
    with pytest.raises(TraceError, match=r"a\.qkv is taken by something that is not a trace"):
        small().save(tmp_path / "a.qkv")


def test_saving_into_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "a.qkv").mkdir()
    assert len(qkv.open_trace(small().save(tmp_path / "a.qkv")).attentions) == 2


def test_saving_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match=r"file/a\.qkv cannot be written: (Not a directory|File exists)"):
        small().save(tmp_path / "file" / "a.qkv")


def test_saving_without_rights_or_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the system refuses comes as a `TraceError` with its reason, and leaves nothing behind."""
    from qkv.trace import _store

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_store, "write", full)
    with pytest.raises(
        TraceError, match=r"safetensors cannot be written: No space left on device; choose another place"
    ):
        small().save(tmp_path / "a.qkv")
    assert list(tmp_path.iterdir()) == []


def test_saving_an_array_of_no_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", denied)
    with pytest.raises(TraceError, match=r"a\.qkv cannot be written: Permission denied"):
        small().save(tmp_path / "a.qkv")


def test_a_trace_may_be_read_by_others(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o644 for file in folder.iterdir())


def test_asking_for_what_is_not_there(folder: Path) -> None:
    opened = qkv.open_trace(folder)
    with pytest.raises(TraceError, match="layer 7 of self-attention is not in this trace; it holds layers 0, 1"):
        opened.weights(7, 0)
