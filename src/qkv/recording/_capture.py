"""`capture`: attention out of any running torch model, which computes what it always did."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn

from ..adapters._listening import LISTENERS
from ..errors import ArgumentError, CaptureError
from ..trace import Sequence as Text
from ..trace import SideName, Token, Trace, Writer
from ._active import Session
from ._functions import seeing
from ._growing import Growing, StoredArrays
from ._hooks import hooked
from ._interface import switched
from ._model import describe
from ._reading import Reading
from ._recorder import Recorder
from ._storage import STORAGES, Storage
from ._tokens import Reader


class Capture:
    """A running capture; `qkv.capture` makes it. Enter it with ``with``; `trace` is what it has seen."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        layers: Sequence[int] | None,
        heads: Sequence[int] | None,
        keep: Literal["qkv", "statistics"],
        to: str | Path | None,
        storage: Storage,
        name: str | None,
        title: str | None,
    ) -> None:
        self._model = model
        self._reader = Reader(tokenizer)
        self._info = describe(model, name=name, title=title)
        self._layers = None if layers is None else list(layers)
        self._writer: Writer | None = None
        self._described: dict[int, dict[SideName, int]] = {}
        self._to = to
        self._recorder = Recorder(
            model, layers=layers, heads=heads, keep=keep, storage=storage, on_record=self._write if to else None
        )
        self._undo = ExitStack()
        self._trace: Trace | None = None
        self._entered = self._running = False

    def __enter__(self) -> Capture:
        if self._entered:
            raise CaptureError("this capture was used before: call qkv.capture(model) again for another")
        self._entered = True
        session = Session(self._recorder)
        with ExitStack() as undo:
            if self._to is not None:
                self._writer = Writer(Path(self._to), self._info)
            undo.enter_context(hooked(session, self._model))
            undo.enter_context(switched(self._model))
            undo.enter_context(seeing())
            LISTENERS.append(session)
            undo.callback(LISTENERS.remove, session)
            self._running = True
            undo.callback(setattr, self, "_running", False)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()
        if self._recorder.current is not None:
            self._recorder.end(failed=True)
        if self._writer is not None:
            self._finish_writing(self._writer, complete=error is None)
        if error is None:
            self._check_seen()

    @property
    def trace(self) -> Trace:
        """What has been captured so far; what was complete stays here when the model fails.

        Raises:
            CaptureError: nothing was seen.
        """
        if self._trace is not None:
            return self._trace
        if not self._recorder.calls:
            raise CaptureError("nothing has been captured: call the model inside the with block")
        trace = Trace(self._info, [text for reading in self._recorder.readings for text in self._texts(reading)])
        if not self._running:
            self._trace = trace
        return trace

    def _texts(self, reading: Reading) -> list[Text]:
        texts = []
        for index in range(reading.batch):
            sides = self._sides(reading, index)
            records = [records[index] for records in reading.records.values() if records is not None]
            texts.append(Text(sides, [record.freeze() for record in records if record.steps]))
        return texts

    def _sides(self, reading: Reading, index: int) -> dict[SideName, list[Token]]:
        return {side: self._reader.tokens(*spans[index].shown()) for side, spans in reading.spans.items()}

    def _write(self, reading: Reading, records: list[Growing]) -> None:
        """A layer has been seen: its prompt goes to disk at once, tokens written after it when the capture ends."""
        assert self._writer is not None
        written = False
        turn = self._recorder.current
        for index, record in enumerate(records):
            if turn is not None and [step.turn for step in record.steps] == [turn.turn]:  # not again while others go on
                self._describe(self._writer, reading, index)
                tensors = self._writer.write(record.sequence, record.freeze())
                record.steps[0].arrays = StoredArrays(tensors, tuple(record.steps[0].arrays))
                written = True
        if written:
            self._writer.save_index(complete=False)

    def _describe(self, writer: Writer, reading: Reading, index: int) -> None:
        """Note a text's tokens, where there are other ones than at the last layer."""
        sequence = reading.first + index
        lengths = {side: len(spans[index].valid) for side, spans in reading.spans.items()}
        if self._described.get(sequence) != lengths:
            writer.describe(sequence, self._sides(reading, index))
            self._described[sequence] = lengths

    def _finish_writing(self, writer: Writer, *, complete: bool) -> None:
        for reading in self._recorder.readings:
            for index in range(reading.batch):
                self._describe(writer, reading, index)
                for records in reading.records.values():
                    if records is not None and len(records[index].steps) > 1:
                        writer.write(records[index].sequence, records[index].freeze())
        self._trace = writer.close(complete=complete)

    def _check_seen(self) -> None:
        if not self._recorder.calls:
            raise CaptureError(
                f"no attention was seen in {type(self._model).__name__}. Either the model was not called inside the "
                "with block, or it writes softmax(QK^T)V out by hand, as DeBERTa, BLOOM and other older models do, "
                "instead of calling PyTorch's scaled_dot_product_attention or transformers' attention interface. With "
                "transformers 4, so do T5, and BERT that is loaded as 'eager' or asked for output_attentions. Such "
                "a model may return its weights itself: output_attentions=True with attn_implementation='eager'"
            )
        missing = [layer for layer in self._layers or () if layer not in self._recorder.seen_layers]
        if missing:
            there = ", ".join(map(str, sorted(self._recorder.seen_layers)))
            raise CaptureError(f"layers: expected layers that the model has ({there}), got {missing}")


def capture(
    model: nn.Module,
    tokenizer: Any = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    keep: Literal["qkv", "statistics"] = "qkv",
    to: str | Path | None = None,
    *,
    dtype: Storage = "model",
    name: str | None = None,
    title: str | None = None,
) -> Capture:
    r"""Capture the attention of a running model: queries, keys, values and logsumexp of every layer.

    From these any weight is recomputed exactly, :math:`w_{ij} = \exp(s_{ij} - \mathrm{lse}_i)`, so nothing N x M is
    kept. While the ``with`` block lasts, attention is computed by qkv's kernel; the model's outputs stay what they
    were, and on leaving, by an exception too, the model is as it was. Seen are Hugging Face models that go through the
    attention interface, and whatever calls PyTorch's `scaled_dot_product_attention` or `multi_head_attention_forward`.

    Texts are kept apart: every entry of a batch and every call is a sequence of its own, without its padding; what
    ``generate()`` writes is added to its prompt.

    Args:
        model: any torch module, on any device.
        tokenizer: makes the trace's tokens readable; without it they are numbers.
        layers: indices of the layers to keep; None for all.
        heads: indices of the query heads to keep; None for all.
        keep: "qkv", or "statistics" for lse, entropy, max_score, received, distance, the top 8 and a block map alone.
        to: a folder ``NAME.qkv`` to write while the model runs, layer by layer.
        dtype: what queries, keys and values are stored in: "model", "float32", "float16" or "bfloat16".
        name, title: what the trace calls the model; taken from the model where they are not given.

    Returns:
        A context manager; ``.trace`` is the `qkv.trace.Trace`.

    Raises:
        ArgumentError: for arguments that no model could take.
        CaptureError: on leaving, where no attention was seen; while running, for beams, dropout and other threads.
        TraceError: something that is not a trace stands where `to` points.

    >>> import torch, qkv
    >>> layer = torch.nn.TransformerEncoderLayer(16, 2, dropout=0, batch_first=True).eval()
    >>> with qkv.capture(layer) as capture:
    ...     _ = layer(torch.randn(1, 5, 16))
    >>> capture.trace.weights(layer=0, head=1).shape
    (5, 5)
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise CaptureError(
            "model: TorchScript modules run outside Python and cannot be captured; use the original model"
        )
    if any("_orig_mod" in module._modules for module in model.modules()):
        raise CaptureError("model: what torch.compile made cannot be captured; use the original model (._orig_mod)")
    if keep not in ("qkv", "statistics"):
        raise ArgumentError(f'keep: expected "qkv" or "statistics", got {keep!r}')
    if dtype not in STORAGES:
        raise ArgumentError(f"dtype: expected {', '.join(map(repr, STORAGES))}, got {dtype!r}")
    for argument, chosen in (("layers", layers), ("heads", heads)):
        if chosen is not None and (
            not isinstance(chosen, Sequence | range)
            or not chosen
            or not all(isinstance(i, int) and i >= 0 for i in chosen)
        ):
            raise ArgumentError(
                f"{argument}: expected None for all, or a list of indices such as [0, 3], got {chosen!r}"
            )
    return Capture(model, tokenizer, layers, heads, keep, to, dtype, name, title)
