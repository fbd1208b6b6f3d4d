"""A trace: everything that was captured of a model while it read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from ..errors import ArgumentError, TraceError
from ._attention import Attention
from ._text import Candidate, ModelInfo, SideName, Token


@dataclass(eq=False, repr=False)
class Sequence:
    """One text (or pair of texts) that was read: an entry of a batch, or a call of its own.

    Attributes:
        sides: the tokens of each text, ``{"input": [...]}``, and ``"target"`` where a decoder reads an encoder.
            Padding is not among them, neither here nor in the attentions.
        attentions: its layers, in the order in which they ran.
        predictions: the likeliest next tokens after each position of the decoder's text, likeliest first; None where
            they were not kept.
    """

    sides: dict[SideName, list[Token]] = field(default_factory=dict)
    attentions: list[Attention] = field(default_factory=list)
    predictions: list[list[Candidate]] | None = None

    def text(self, side: SideName = "input") -> str:
        """The running text of a side, special tokens included."""
        return "".join((" " if t.space else "") + t.text for t in self.sides.get(side, [])).strip()

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(tokens)} {side} tokens" for side, tokens in self.sides.items())
        return f"<Sequence {self.text()[:40]!r}: {counts}, {len(self.attentions)} attentions>"


@dataclass(eq=False, repr=False)
class Trace:
    """What a model's attention did while it read, in memory or on disk.

    Attributes:
        model: the model that it was taken from.
        sequences: the texts that were read, in order: entries of a batch and separate calls are kept apart.
        complete: False for a trace from disk whose capture was cut off; its complete layers are all here.
        path: the folder that it was opened from, or None.

    A trace of one text needs no index: `tokens`, `attentions` and `predictions` speak of the first sequence, and the
    methods take ``sequence=0``.
    """

    model: ModelInfo
    sequences: list[Sequence] = field(default_factory=list)
    complete: bool = True
    path: Path | None = None

    @property
    def tokens(self) -> list[str]:
        """Readable tokens of the first sequence's ``input`` side."""
        return [token.text for token in self._sequence(0).sides.get("input", [])] if self.sequences else []

    @property
    def attentions(self) -> list[Attention]:
        """The records of the first sequence (``trace.sequences[i].attentions`` for another)."""
        return self._sequence(0).attentions if self.sequences else []

    @property
    def predictions(self) -> list[list[Candidate]] | None:
        """The likeliest next tokens after each position of the first sequence, or None."""
        return self._sequence(0).predictions if self.sequences else None

    def attention(
        self,
        layer: int,
        kind: Literal["self", "cross"] = "self",
        part: Literal["encoder", "decoder"] | None = None,
        sequence: int = 0,
    ) -> Attention:
        """The record of one layer.

        Arguments:
            layer: index of the layer in its stack.
            kind: "self", or "cross" where a decoder reads an encoder.
            part: "encoder" or "decoder"; None takes the one there is, and the encoder where there are both.
            sequence: which text.

        Raises:
            TraceError: this layer was not captured.
            ArgumentError: there is no such sequence.
        """
        of_kind = [r for r in self._sequence(sequence).attentions if r.kind == kind and part in (None, r.part)]
        if part is None:  # layer 5 of a decoder of 6 is not looked for in an encoder of 4
            parts = {record.part for record in of_kind}
            of_kind = [r for r in of_kind if r.part == ("encoder" if "encoder" in parts else "decoder")]
        for record in of_kind:
            if record.layer == layer:
                return record
        there = ", ".join(str(record.layer) for record in of_kind) or "none of this kind"
        what = f"{part or ''} {kind}-attention".strip()
        raise TraceError(f"layer {layer} of {what} is not in this trace; it holds layers {there}")

    def weights(
        self,
        layer: int,
        head: int | None = None,
        rows: Any = None,
        columns: Any = None,
        kind: Literal["self", "cross"] = "self",
        part: Literal["encoder", "decoder"] | None = None,
        sequence: int = 0,
    ) -> NDArray[Any]:
        """Exact attention weights of one layer, any window of them; see `Attention.weights` and `attention`."""
        return self.attention(layer, kind, part, sequence).weights(head, rows, columns)

    def observe(
        self,
        layer: int,
        head: int | None = None,
        *,
        kind: Literal["self", "cross"] = "self",
        part: Literal["encoder", "decoder"] | None = None,
        sequence: int = 0,
        **statistics: Any,
    ) -> Any:
        """The statistics of `qkv.observe` for one layer; see `Attention.observe` and `attention`."""
        return self.attention(layer, kind, part, sequence).observe(head, **statistics)

    def save(self, path: str | Path) -> Path:
        """Write the trace as a folder ``NAME.qkv`` (the ending is added where it is missing); returns its path.

        Raises:
            TraceError: something that is not a trace already stands there, or it cannot be written.
        """
        from ._store import save

        return save(self, Path(path))

    def look(self, **options: Any) -> Any:
        """Open the page on this trace; options as in `qkv.explorer.open_page`."""
        from ..explorer import open_page

        return open_page(self, **options)

    def _sequence(self, index: int) -> Sequence:
        if not -len(self.sequences) <= index < len(self.sequences):
            raise ArgumentError(f"sequence: expected an index below {len(self.sequences)}, got {index}")
        return self.sequences[index]

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self.sequences)

    def __repr__(self) -> str:
        stacks = Counter(record.stack for record in self.attentions)
        parts = [f"{count} {stack} layers" for stack, count in stacks.items()]
        texts = f"{len(self.sequences)} texts" if len(self.sequences) != 1 else f"{len(self.tokens)} tokens"
        state = "" if self.complete else ", cut off"
        return f"<Trace of {self.model.title}: {', '.join([texts, *parts])}{state}>"
