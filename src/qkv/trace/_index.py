"""``trace.json``: what stands in it. Every value that is read is checked before it is believed.

The functions that read raise ValueError, KeyError, TypeError or AttributeError where something is not as it was
written; `open_trace` turns these into one kind of `TraceError`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import TraceError
from . import _arrays
from ._attention import Attention
from ._safetensors import FileInfo, StoredTensors
from ._structure import StoredBias, StoredMask
from ._text import Candidate, ModelInfo, SideName, Token
from ._trace import Sequence

FORMAT = "qkv-trace"
VERSION = 1
MOST = 1 << 20
"""More heads or layers than this has no model: such a number was tampered with."""

Sides: TypeAlias = Mapping[SideName, list[Token]]
Predictions: TypeAlias = list[list[Candidate]] | None

_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+\.safetensors", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOKEN = {"id": int, "text": str, "space": bool, "special": bool, "generated": bool, "word": int}
_CANDIDATE = {"id": int, "text": str, "space": bool, "probability": float}


def read_index(folder: Path) -> dict[str, Any]:
    """``trace.json`` as it stands there, in a format that this version knows."""
    file = folder / "trace.json"
    if not file.is_file():
        what = "it holds no trace.json" if folder.is_dir() else "it is a file" if folder.exists() else "there is none"
        raise TraceError(f"{folder} is no trace: {what}; expected a folder that qkv capture or trace.save wrote")
    try:
        text = file.read_text(encoding="utf-8")
        index = json.loads(text)
        if "\\ud" in text.lower():  # half a character, written as an escape, is none that can be shown
            json.dumps(index, ensure_ascii=False).encode()
    except OSError as error:
        raise TraceError(f"{file} cannot be read: {error.strerror}; restore it, or capture again") from error
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{file} cannot be read: {error}; restore it, or capture again") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise TraceError(f"{folder} is no trace: its trace.json was written by something else")
    version = index.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise TraceError(
            f"{folder} was written in format {version!r}, and this qkv reads format {VERSION} and older: update qkv"
        )
    return index


def describe_text(sides: Sides, predictions: Predictions) -> dict[str, Any]:
    """The entry of a text."""
    return {
        "sides": {side: [asdict(token) for token in tokens] for side, tokens in sides.items()},
        "predictions": None if predictions is None else [[asdict(one) for one in after] for after in predictions],
    }


def describe_record(record: Attention, sequence: int, info: FileInfo) -> dict[str, Any]:
    """The entry of a layer."""
    mask = record.mask_structure
    return {
        "path": record.path,
        "kind": record.kind,
        "part": record.part,
        "layer": record.layer,
        "heads": list(record.heads),
        "head_count": record.head_count,
        "scale": record.scale,
        "softcap": record.softcap,
        "query_side": record.query_side,
        "key_side": record.key_side,
        "sequence": sequence,
        "mask": {"causal": mask.causal, "window": mask.window},
        "size": info.size,
        "sha256": info.sha256,
    }


def model(what: dict[str, Any]) -> ModelInfo:
    """The model of an index."""
    info = ModelInfo(**what)
    for name in ("name", "title", "architecture", "dtype"):
        _expect(type(getattr(info, name)) is str, f"model.{name}", what.get(name))
    for name in ("hidden_size", "layers", "heads", "intermediate_size"):
        number = getattr(info, name)
        limit = 1 << 31 if name.endswith("size") else MOST
        _expect(_is_count(number, limit) or (number is None and name == "intermediate_size"), f"model.{name}", number)
    _expect(info.kind in ("encoder", "decoder", "encoder-decoder"), "model.kind", info.kind)
    _expect(info.norm in ("before", "after", None), "model.norm", info.norm)
    return info


def text(what: dict[str, Any]) -> Sequence:
    """A text of an index, without its layers."""
    sides, predictions = what["sides"], what["predictions"]
    _expect(type(sides) is dict and set(sides) <= {"input", "target"}, "sides", sides)
    found: dict[SideName, list[Token]] = {}
    for side, tokens in sides.items():
        _expect(type(tokens) is list, side, tokens)
        found[side] = [_token(token) for token in tokens]
    if predictions is None:
        return Sequence(found)
    last = found.get("target", found.get("input", []))
    _expect(type(predictions) is list and len(predictions) == len(last), "predictions", predictions)
    _expect(all(type(after) is list for after in predictions), "predictions", predictions)
    return Sequence(found, predictions=[[_candidate(one) for one in after] for after in predictions])


def record(folder: Path, name: str, what: dict[str, Any], texts: list[Sequence], *, trusted: bool = False) -> Attention:
    """A layer of an index, its arrays still on disk. `trusted`: this process has just written them."""
    if not _FILE_NAME.fullmatch(name):
        raise TraceError(
            f"{folder / 'trace.json'} names the file {name!r}, which is none of a trace's: it was tampered with"
        )
    heads, head_count, scale, softcap = what["heads"], what["head_count"], what["scale"], what["softcap"]
    _expect(type(what["path"]) is str, "path", what["path"])
    _expect(what["kind"] in ("self", "cross"), "kind", what["kind"])
    _expect(what["part"] in ("encoder", "decoder"), "part", what["part"])
    _expect(_is_count(what["layer"], MOST), "layer", what["layer"])
    _expect(_is_count(head_count, MOST), "head_count", head_count)
    _expect(type(heads) is list and bool(heads) and all(_is_count(head, head_count) for head in heads), "heads", heads)
    _expect(len(set(heads)) == len(heads), "heads", heads)
    _expect(_is_finite(scale), "scale", scale)
    _expect(softcap is None or (_is_finite(softcap) and softcap > 0), "softcap", softcap)
    _expect(_is_count(what["sequence"], len(texts)), "sequence", what["sequence"])
    window, causal = what["mask"]["window"], what["mask"]["causal"]
    _expect(type(causal) is bool, "mask.causal", causal)
    if window is not None:
        _expect(type(window) is list and len(window) == 2, "mask.window", window)
        _expect(all(end is None or _is_count(end, 1 << 31) for end in window), "mask.window", window)
    _expect(_is_count(what["size"], 1 << 62), "size", what["size"])
    _expect(type(what["sha256"]) is str and bool(_SHA256.fullmatch(what["sha256"])), "sha256", what["sha256"])
    tensors = StoredTensors(folder, FileInfo(name, what["size"], what["sha256"]), trusted=trusted)
    try:
        queries, keys = _arrays.check(tensors.entries, len(heads))
    except ValueError as error:
        raise TraceError(f"{folder / name} is no layer of a trace: {error}; restore it, or capture again") from error
    sides = texts[what["sequence"]].sides
    for side, length in ((what["query_side"], queries), (what["key_side"], keys)):
        _expect(type(side) is str and side in sides and length <= len(sides[side]), f"the {length} tokens' side", side)
    return Attention(
        path=what["path"],
        kind=what["kind"],
        part=what["part"],
        layer=what["layer"],
        heads=tuple(heads),
        head_count=head_count,
        scale=scale,
        softcap=softcap,
        query_side=what["query_side"],
        key_side=what["key_side"],
        tensors=tensors,
        mask_structure=StoredMask(causal, None if window is None else (window[0], window[1]), tensors),
        bias_structure=StoredBias(tensors),
        sequence=what["sequence"],
    )


def _token(what: dict[str, Any]) -> Token:
    _expect({name: type(value) for name, value in what.items()} == _TOKEN, "a token", what)
    return Token(**what)


def _candidate(what: dict[str, Any]) -> Candidate:
    _expect({name: type(value) for name, value in what.items()} == _CANDIDATE, "a prediction", what)
    return Candidate(**what)


def _is_count(value: Any, limit: int) -> bool:
    return type(value) is int and 0 <= value < limit


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _expect(holds: bool, what: str, value: Any) -> None:
    if not holds:
        shown = repr(value)
        raise ValueError(f"{what} cannot be {shown if len(shown) < 60 else shown[:57] + '...'}")
