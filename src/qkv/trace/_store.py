"""A trace on disk: ``NAME.qkv/`` with ``trace.json`` and one safetensors file for each layer of each text.

``trace.json`` is rewritten whenever a layer is complete, and every file takes its place by renaming: whatever cuts a
capture off, the layers named in it are all there and whole. Never pickle.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from .._replacing import replacing
from ..errors import TraceError
from ._attention import Attention
from ._safetensors import FileInfo, StoredTensors, write
from ._structure import BiasStructure, MaskStructure
from ._tensors import Raw, raw
from ._text import Candidate, ModelInfo, SideName, Token
from ._trace import Sequence, Trace

FORMAT = "qkv-trace"
VERSION = 1
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+\.safetensors")
Sides: TypeAlias = Mapping[SideName, list[Token]]
Predictions: TypeAlias = list[list[Candidate]] | None
_STRUCTURES = ("mask_keys", "mask_array", "bias_table", "bias_array")


class Writer:
    """Writes a trace while it is being captured."""

    def __init__(self, path: Path, model: ModelInfo) -> None:
        self.path = with_ending(path)
        _check_free(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TraceError(f"{self.path} cannot be written: {error.strerror}") from error
        self._model = model
        self._texts: dict[int, dict[str, Any]] = {}
        self._records: dict[str, dict[str, Any]] = {}

    def describe(self, sequence: int, sides: Sides, predictions: Predictions = None) -> None:
        """Note the tokens of a text, and what may follow each."""
        self._texts[sequence] = _described(sides, predictions)

    def write(self, sequence: int, sides: Sides, record: Attention) -> Attention:
        """Write one layer of one text; returns it as it is read from there."""
        self.describe(sequence, sides)
        name = f"text-{sequence:03}-{record.stack}-{record.layer:03}.safetensors"
        taken = {what["path"]: file for file, what in self._records.items() if file.startswith(name[:-12])}
        if record.path not in taken and taken:
            name = name.replace(".safetensors", f"-{len(taken)}.safetensors")
        name = taken.get(record.path, name)
        info = write(self.path / name, _arrays(record))
        self._records[name] = {**_fields(record), "size": info.size, "sha256": info.sha256}
        self.save_index(complete=False)
        return _record(self.path, name, self._records[name])

    def save_index(self, *, complete: bool) -> None:
        """Write ``trace.json``."""
        index = {
            "format": FORMAT,
            "version": VERSION,
            "complete": complete,
            "model": asdict(self._model),
            "texts": [self._texts[number] for number in sorted(self._texts)],
            "attentions": self._records,
        }
        _write_index(self.path, index)

    def close(self, *, complete: bool) -> Trace:
        """The last word on the trace; returns it as it is read from disk."""
        self.save_index(complete=complete)
        return open_trace(self.path)


def save(trace: Trace, path: Path) -> Path:
    """Write a trace that is in memory; it appears whole or not at all."""
    path = with_ending(path)
    _check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".part.qkv"))
    except OSError as error:
        raise TraceError(f"{path} cannot be written: {error.strerror}") from error
    try:
        writer = Writer(temporary, trace.model)
        for number, sequence in enumerate(trace.sequences):
            for record in sequence.attentions:
                writer.write(number, sequence.sides, record)
            writer.describe(number, sequence.sides, sequence.predictions)
        writer.save_index(complete=trace.complete)
        temporary.chmod(0o755)
        os.rename(temporary, path)
    except OSError as error:
        raise TraceError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def save_texts(trace: Trace) -> None:
    """Write tokens and predictions of a trace on disk again, after they have been told more exactly."""
    assert trace.path is not None
    index = _index(trace.path)
    index["texts"] = [_described(sequence.sides, sequence.predictions) for sequence in trace.sequences]
    _write_index(trace.path, index)


def open_trace(path: str | Path) -> Trace:
    """Open a trace from disk: sizes are checked now, checksums when a layer is first read.

    Arrays are mapped into memory, so that opening gigabytes takes no time. A capture that was cut off opens too, with
    the layers that were complete; `Trace.complete` is False then.

    Arguments:
        path: the folder ``NAME.qkv``.

    Raises:
        TraceError: there is no trace, or it is truncated, damaged, or written by a newer version.
    """
    path = Path(path)
    if not path.exists() and with_ending(path).exists():
        path = with_ending(path)
    index = _index(path)
    try:
        texts = [_text(what) for what in index["texts"]]
        for name, what in index["attentions"].items():
            record = _record(path, name, what)
            texts[record.sequence].attentions.append(record)
        return Trace(ModelInfo(**index["model"]), texts, complete=bool(index["complete"]), path=path)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise TraceError(
            f"{path / 'trace.json'} is damaged ({type(error).__name__}: {error}); restore it, or capture again"
        ) from error


def with_ending(path: Path) -> Path:
    """``NAME.qkv``"""
    return path if path.suffix == ".qkv" else path.with_name(path.name + ".qkv")


def _check_free(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "a trace" if (path / "trace.json").exists() else "something that is not a trace"
        raise TraceError(f"{path} is taken by {what}, which would be lost; remove it, or choose another name")


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    with replacing(folder / "trace.json") as temporary:
        temporary.write_text(json.dumps(index, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _described(sides: Sides, predictions: Predictions) -> dict[str, Any]:
    return {
        "sides": {side: [asdict(token) for token in tokens] for side, tokens in sides.items()},
        "predictions": None if predictions is None else [[asdict(one) for one in after] for after in predictions],
    }


def _index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads((path / "trace.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "there is no such folder" if not path.exists() else "it holds no trace.json"
        raise TraceError(
            f"{path} is no trace: {what}; expected a folder that qkv capture or trace.save wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise TraceError(f"{path / 'trace.json'} cannot be read: {error}; restore it, or capture again") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise TraceError(f"{path} is no trace: its trace.json was written by something else")
    version = index.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise TraceError(
            f"{path} was written in format {version!r}, and this qkv reads format {VERSION} and older: update qkv"
        )
    return index


def _text(what: dict[str, Any]) -> Sequence:
    predictions = what["predictions"]
    return Sequence(
        {side: [Token(**token) for token in tokens] for side, tokens in what["sides"].items()},
        predictions=None if predictions is None else [[Candidate(**one) for one in after] for after in predictions],
    )


def _arrays(record: Attention) -> dict[str, Raw]:
    arrays = {name: record.tensors.raw(name) for name in record.tensors if name not in _STRUCTURES}
    mask, bias = record.mask_structure, record.bias_structure
    parts = dict(zip(_STRUCTURES, (mask.keys, mask.array, bias.table, bias.array), strict=True))
    return arrays | {name: raw(array) for name, array in parts.items() if array is not None}


def _fields(record: Attention) -> dict[str, Any]:
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
        "sequence": record.sequence,
        "mask": {"causal": mask.causal, "window": mask.window},
    }


def _record(folder: Path, name: str, what: dict[str, Any]) -> Attention:
    if not _FILE_NAME.fullmatch(name):
        raise TraceError(
            f"{folder / 'trace.json'} names the file {name!r}, which is none of a trace's: it was tampered with"
        )
    fields = {key: value for key, value in what.items() if key not in ("size", "sha256", "mask")}
    tensors = StoredTensors(folder, FileInfo(name, int(what["size"]), what["sha256"]))
    keys, array, table, added = (tensors.get(part) for part in _STRUCTURES)
    window = what["mask"]["window"]
    fields["heads"] = tuple(fields["heads"])
    return Attention(
        **fields,
        tensors=tensors,
        mask_structure=MaskStructure(bool(what["mask"]["causal"]), window and (window[0], window[1]), keys, array),
        bias_structure=BiasStructure(table, added),
    )
