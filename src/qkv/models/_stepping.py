"""A `Translator`'s decoder one token at a time, as fast as we can: what `Translator.translate` runs on.

It computes what `Target` computes, with less around it: one projection for query, key and value; the source's keys and
values once, shared by all beams of a text; room for all tokens from the start; the kernel called without asking again
what cannot have changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .._typing import Float, Int
from ..attention import Mask
from ..attention._arrays import View, usable, view
from ..attention._backends import Outputs
from ..attention._backends._choose import run
from ..attention._plan import Plan
from ..attention._prepare import Problem
from ..attention._scores import ScoreShape
from ..nn import DecoderLayer, MultiHeadAttention, Residual


class Stepper:
    """Some texts being written, each with as many rows as it has beams.

    Args:
        decoder: a `Target`.
        embedding: the `Embedding`.
        source: what the encoder made of the texts ``(texts, M, dim)``.
        mask: of the source's padding.
        beams: rows of each text; text b has the rows ``b * beams`` and following.
        longest: how many tokens there is room for.
    """

    def __init__(
        self,
        decoder: Any,
        embedding: Any,
        source: Float[Tensor, "texts source dim"],
        mask: Mask | None,
        beams: int,
        longest: int,
    ) -> None:
        texts, keys, dim = source.shape
        self._embedding, self._norm, self._beams = embedding, decoder.stack.norm, beams
        self._positions = decoder.positions(source.new_zeros(longest, dim))
        bounds = None if mask is None else mask._bounds(ScoreShape((texts,), 1, 1, keys))
        self._start = np.zeros((texts, 1), np.int32) if bounds is None else np.broadcast_to(bounds.start, (texts, 1))
        self._stop = np.full((texts, 1), keys, np.int32) if bounds is None else np.broadcast_to(bounds.stop, (texts, 1))
        self._layers = [_Layer(layer, source) for layer in decoder.stack.layers]
        attention: MultiHeadAttention = decoder.stack.layers[0].attention
        shape = 2 * len(self._layers), texts * beams, attention.key_heads, longest, attention.head_dim
        self._own, self._other = source.new_empty(shape), source.new_empty(shape if beams > 1 else 0)
        self._length = 0
        self._plan_of_source()

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows tokens"]:
        """Scores of what follows each row's newest token."""
        x = self._embedding(tokens) + self._positions[self._length]
        self._length += 1
        everything = _plan(np.zeros((1, 1), np.int32), np.full((1, 1), self._length, np.int32), self._scale)
        for index, layer in enumerate(self._layers):
            own = self._own[2 * index : 2 * index + 2, :, :, : self._length]
            x = layer.step(x, own, everything, self._cross, self._beams)
        if self._norm is not None:
            x = self._norm(x)
        scores: Tensor = self._embedding.scores(x)
        return scores

    def keep(self, rows: Int[Tensor, " kept"], texts: Int[Tensor, " left"] | None = None) -> None:
        """Go on with these rows, and, where some texts are done, with these texts.

        Args:
            rows: those whose tokens the new rows continue.
            texts: those that are left; None for all.
        """
        read = self._own[:, :, :, : self._length]
        if self._other.numel():
            self._own, self._other = self._other[:, : len(rows)], self._own
            torch.index_select(read, 1, rows, out=self._own[:, :, :, : self._length])
        else:
            self._own = self._own[:, rows]
        if texts is not None:
            for layer in self._layers:
                layer.source = layer.source[:, texts]
            self._start, self._stop = self._start[texts.numpy()], self._stop[texts.numpy()]
            self._plan_of_source()

    def _plan_of_source(self) -> None:
        self._scale = self._layers[0].head_dim ** -0.5
        rows = len(self._start), self._beams
        start, stop = (np.ascontiguousarray(np.broadcast_to(each, rows)) for each in (self._start, self._stop))
        self._cross = _plan(start, stop, self._scale)


class _Layer:
    """One decoder layer's weights as a step uses them, and the source as it reads it ``(2, texts, heads, M, dim)``."""

    def __init__(self, layer: DecoderLayer, source: Tensor) -> None:
        assert layer.cross_attention is not None
        assert layer.around_cross_attention is not None
        self._around = layer.around_attention, layer.around_cross_attention, layer.around_feed_forward
        self._own, self._cross, self._feed_forward = layer.attention, layer.cross_attention, layer.feed_forward
        parts = self._own.query, self._own.key, self._own.value
        self._weight = torch.cat([part.weight for part in parts])
        self._bias = None if self._own.query.bias is None else torch.cat([part.bias for part in parts])
        self.head_dim = self._own.head_dim
        self.source = torch.stack(self._cross.read(source))

    def step(self, x: Tensor, own: Tensor, everything: Plan, source: Plan, beams: int) -> Tensor:
        """x ``(rows, dim)`` of the newest tokens, whose keys and values become the last of `own`."""
        rows, heads, dim = len(x), self._own.heads, self.head_dim

        def attention(inner: Tensor) -> Tensor:
            projected = functional.linear(inner, self._weight, self._bias).view(rows, -1, dim)
            own[:, :, :, -1] = projected[:, heads:].view(rows, 2, -1, dim).transpose(0, 1)
            query = projected[:, :heads, None]
            return self._own.output(_attended(query, own, everything).view(rows, heads * dim))  # type: ignore[no-any-return]

        def cross_attention(inner: Tensor) -> Tensor:
            query = self._cross.query(inner).view(-1, beams, heads, dim).transpose(1, 2)
            found = _attended(query, self.source, source).transpose(1, 2)
            return self._cross.output(found.reshape(rows, heads * dim))  # type: ignore[no-any-return]

        parts = attention, cross_attention, self._feed_forward
        for around, part in zip(self._around, parts, strict=True):
            x = _joined(around, x, part)
        return x


def _joined(around: Residual, x: Tensor, part: Any) -> Tensor:
    result: Tensor = x + part(around.norm(x)) if around.place == "before" else around.norm(x + part(x))
    return result


def _plan(start: NDArray[np.int32], stop: NDArray[np.int32], scale: float) -> Plan:
    return Plan(start, stop, (), (), scale)


def _attended(query: Tensor, keys_values: Tensor, plan: Plan) -> Tensor:
    """Output ``(batch, heads, N, dim)`` of what `keys_values` ``(2, batch, heads, M, dim)`` holds."""
    output = torch.empty(query.shape, dtype=query.dtype)
    batch, heads, queries, _ = query.shape
    asked, held = view(query, "query", gradients=True), view(keys_values, "keys", gradients=True).data
    shape = ScoreShape((batch,), heads, queries, held.shape[3])
    problem = Problem(usable(asked.data), usable(held[0]), usable(held[1]), asked, (batch, heads), shape, plan)
    into: View = view(output, "output", gradients=True)
    run(problem, Outputs(into.data, None))
    return output
