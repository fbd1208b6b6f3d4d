"""A trace on disk: ``NAME.qkv/`` with ``trace.json`` and one safetensors file for each layer of each text.

Every file takes its place by renaming, and ``trace.json`` names a layer only after its file stands there: whatever cuts
a capture off, the layers named in it are all there and whole. Never pickle.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._replacing import replacing
from ..errors import ArgumentError, TraceError
from . import _index
from ._arrays import STRUCTURES
from ._attention import Attention
from ._index import Predictions, Sides
from ._safetensors import StoredTensors, write
from ._tensors import Raw, raw
from ._text import ModelInfo
from ._trace import Sequence, Trace


class Writer:
    """Writes a trace while it is being captured: `describe` a text, `write` its layers, `save_index`, at last `close`.

    Entries of ``trace.json`` are kept as text: what was said once is not put into words again for every layer.
    """

    def __init__(self, path: Path, model: ModelInfo) -> None:
        self.path = with_ending(path)
        _check_free(self.path)
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._model = model
        self._texts: dict[int, str] = {}
        self._records: dict[str, str] = {}
        self._files: dict[tuple[int, str, int, str], str] = {}
        self._outdated: list[str] = []

    def describe(self, sequence: int, sides: Sides, predictions: Predictions = None) -> None:
        """Note the tokens of a text, and what may follow each."""
        self._texts[sequence] = _json(_index.describe_text(sides, predictions))

    def write(self, sequence: int, record: Attention) -> StoredTensors:
        """Write one layer of one text, under a new name where it was written before; returns its arrays on disk.

        The index does not know of it before `save_index`; until then what it was stays as it was.
        """
        layer = (sequence, record.stack, record.layer, record.path)
        stem = f"text-{sequence:03}-{record.stack}-{record.layer:03}"
        name, count = f"{stem}.safetensors", 0
        while name in self._records:
            count += 1
            name = f"{stem}-{count}.safetensors"
        with _writing(self.path / name):
            info = write(self.path / name, _arrays(record))
        if layer in self._files:
            self._outdated.append(self._files[layer])
        self._files[layer] = name
        self._records[name] = _json(_index.describe_record(record, sequence, info))
        return StoredTensors(self.path, info, trusted=True)

    def save_index(self, *, complete: bool) -> None:
        """Write ``trace.json``, and remove what it names no more."""
        for name in self._outdated:
            del self._records[name]
        empty = _json(_index.describe_text({}, None))
        texts = [self._texts.get(number, empty) for number in range(max(self._texts, default=-1) + 1)]
        records = [f"{_json(name)}:{entry}" for name, entry in self._records.items()]
        _write_index(
            self.path,
            {
                "format": _json(_index.FORMAT),
                "version": _json(_index.VERSION),
                "complete": _json(complete),
                "model": _json(asdict(self._model)),
                "texts": f"[{','.join(texts)}]",
                "attentions": "{" + ",\n".join(records) + "}",
            },
        )
        while self._outdated:
            (self.path / self._outdated.pop()).unlink(missing_ok=True)

    def close(self, *, complete: bool) -> Trace:
        """The last word on the trace; returns it as it is read from disk."""
        self.save_index(complete=complete)
        return open_trace(self.path)


def save(trace: Trace, path: Path) -> Path:
    """Write a trace that is in memory; it appears whole or not at all."""
    path = with_ending(path)
    _check_free(path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".part.qkv"))
        try:
            writer = Writer(temporary, trace.model)
            for number, sequence in enumerate(trace.sequences):
                writer.describe(number, sequence.sides, sequence.predictions)
                for record in sequence.attentions:
                    writer.write(number, record)
            writer.close(complete=trace.complete)  # opened again: nothing is saved that could not be read
            temporary.chmod(0o755)
            os.rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return path


def save_texts(trace: Trace) -> None:
    """Write tokens and predictions of a trace on disk again, after they have been told more exactly."""
    assert trace.path is not None
    texts = [_index.describe_text(sequence.sides, sequence.predictions) for sequence in trace.sequences]
    index = {**_index.read_index(trace.path), "texts": texts}
    _write_index(trace.path, {name: _json(what) for name, what in index.items()})


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
    index = _index.read_index(path)
    try:
        texts: list[Sequence] = [_index.text(what) for what in index["texts"]]
        for name, what in index["attentions"].items():
            record = _index.record(path, name, what, texts)
            texts[record.sequence].attentions.append(record)
        if type(index["complete"]) is not bool:
            raise ValueError(f"complete cannot be {index['complete']!r}")
        return Trace(_index.model(index["model"]), texts, complete=index["complete"], path=path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TraceError(
            f"{path / 'trace.json'} is damaged ({type(error).__name__}: {error}); restore it, or capture again"
        ) from error


def with_ending(path: Path) -> Path:
    """``NAME.qkv``"""
    return path if path.suffix == ".qkv" else path.with_name(path.name + ".qkv")


def _check_free(path: Path) -> None:
    with _writing(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            what = "a trace" if (path / "trace.json").exists() else "something that is not a trace"
            raise TraceError(f"{path} is taken by {what}, which would be lost; remove it, or choose another name")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say which path it was that could not be written, and why: no rights, no space."""
    try:
        yield
    except OSError as error:
        raise TraceError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error
    except ArgumentError as error:
        raise TraceError(str(error)) from error


def _write_index(folder: Path, entries: dict[str, str]) -> None:
    text = "{" + ",\n".join(f"{_json(name)}:{entry}" for name, entry in entries.items()) + "}\n"
    with _writing(folder / "trace.json"), replacing(folder / "trace.json") as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))


def _json(what: Any) -> str:
    return json.dumps(what, ensure_ascii=False, separators=(",", ":"))


def _arrays(record: Attention) -> dict[str, Raw]:
    arrays = {name: record.tensors.raw(name) for name in record.tensors if name not in STRUCTURES}
    mask, bias = record.mask_structure, record.bias_structure
    parts = dict(zip(STRUCTURES, (mask.keys, mask.array, bias.table, bias.array), strict=True))
    return arrays | {name: raw(array) for name, array in parts.items() if array is not None}
