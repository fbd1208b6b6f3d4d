"""A `Translator`'s decoder one token at a time, as fast as we can: what `Translator.translate` runs on.

It computes what `Target` computes, with less around it: one projection for query, key and value; the source's keys and
values once, shared by all beams of a text; room for all tokens from the start; the kernel called without asking again
what cannot have changed; and what may come next found by the kernel too, for that is attention to the vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .._typing import Float, Int
from ..attention import Mask
from ..attention._backends import Outputs
from ..attention._backends._choose import native
from ..attention._plan import Plan
from ..attention._scores import ScoreShape
from ..errors import ModelError
from ..nn import DecoderLayer, MultiHeadAttention
from ..nn._feed_forward import activated

FEW = 8
"""Rows up to which a matrix is multiplied from the left, see `_linear`."""


class Stepper:
    """Some texts being written, each with as many rows as it has beams.

    Args:
        decoder: a `Target`.
        embedding: the `Embedding`.
        source: what the encoder made of the texts ``(texts, M, dim)``.
        mask: of the source's padding, which leaves one run of tokens of each text.
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
        self._vocabulary = bare(embedding.table.weight.detach())[None, None]
        self._positions = decoder.positions(source.new_zeros(longest, dim))
        bounds = None if mask is None else mask._bounds(ScoreShape((texts,), 1, 1, keys))
        assert bounds is None or not bounds.program, f"{mask} has gaps"
        self._start = np.zeros((texts, 1), np.int32) if bounds is None else np.broadcast_to(bounds.start, (texts, 1))
        self._stop = np.full((texts, 1), keys, np.int32) if bounds is None else np.broadcast_to(bounds.stop, (texts, 1))
        self._layers = [_Layer(layer, source) for layer in decoder.stack.layers]
        attention: MultiHeadAttention = decoder.stack.layers[0].attention
        shape = 2 * len(self._layers), texts * beams, attention.key_heads, longest, attention.head_dim
        self._own = source.new_empty(shape)
        self._length = 0
        self._refresh_views()

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
        """Read each row's newest token: the vectors that say what follows."""
        x = self._embedding(tokens) + self._positions[self._length]
        self._length += 1
        everything = _plan(np.zeros((1, 1), np.int32), np.full((1, 1), self._length, np.int32), self._scale)
        for layer, own, held in zip(self._layers, _pairs(self._own), self._held, strict=True):
            x = layer.step(x, own[:, :, :, self._length - 1], held[:, :, :, : self._length], everything, self._cross)
        result: Tensor = x if self._norm is None else self._norm(x)
        return result

    def likeliest(
        self, hidden: Float[Tensor, "rows dim"], count: int
    ) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
        r"""The logarithms of the probabilities of each row's likeliest next tokens, and these tokens, the first first:

        .. math:: p(t \mid h) = \exp(E_t \cdot h) / \sum_u \exp(E_u \cdot h)

        That is h's attention to the embeddings E as keys: neither scores nor probabilities of all tokens are written.

        Raises:
            ModelError: where scores are not numbers.
        """
        keys, rows = self._vocabulary, len(hidden)
        real = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        tokens, weights = torch.empty(rows, count, dtype=torch.long), torch.empty(rows, count, dtype=real)
        plan = _plan(np.zeros((1, rows), np.int32), np.full((1, rows), keys.shape[2], np.int32), 1.0)
        found = {"top_indices": tokens.numpy()[None, None], "top_weights": weights.numpy()[None, None]}
        # The backend needs values as well: the first few numbers of each key, which it has at hand.
        _attended(hidden[None, None], (keys, keys[..., :16]), plan, **found)
        if not bool((weights[:, 0] > 0).all()):
            raise ModelError("translate: the model's scores are not numbers: its weights are broken (NaN or infinite)")
        return weights.log_(), tokens

    def replace(self, rows: list[int], sources: list[int]) -> None:
        """Have rows forget what they wrote and go on from other ones, none of which is replaced itself."""
        for row, source in zip(rows, sources, strict=True):
            self._own[:, row, :, : self._length] = self._own[:, source, :, : self._length]

    def keep(self, texts: list[int]) -> None:
        """Go on with these texts alone, in this order: each stands where it stood, or where one stood that is done."""
        beams, left = self._beams, len(texts)
        for place, text in enumerate(texts):
            if place != text:
                for beam in range(beams):
                    self.replace([place * beams + beam], [text * beams + beam])
                for layer in self._layers:
                    layer.source[:, place] = layer.source[:, text]
        self._own = self._own[:, : left * beams]
        for layer in self._layers:
            layer.source = layer.source[:, :left]
        self._start, self._stop = self._start[texts], self._stop[texts]
        self._refresh_views()

    def _refresh_views(self) -> None:
        """What a step needs of the texts that are left, as NumPy sees it."""
        self._scale = self._layers[0].head_dim ** -0.5
        self._held = [bare(own) for own in _pairs(self._own)]
        for layer in self._layers:
            layer.held = bare(layer.source)
        rows = len(self._start), self._beams
        start, stop = (np.ascontiguousarray(np.broadcast_to(each, rows)) for each in (self._start, self._stop))
        self._cross = _plan(start, stop, self._scale)


class _Layer:
    """One decoder layer's weights as a step uses them, and the source as it reads it ``(2, texts, heads, M, dim)``."""

    held: NDArray[Any]

    def __init__(self, layer: DecoderLayer, source: Tensor) -> None:
        assert layer.cross_attention is not None
        assert layer.around_cross_attention is not None
        own, cross, feed = layer.attention, layer.cross_attention, layer.feed_forward
        around = layer.around_attention, layer.around_cross_attention, layer.around_feed_forward
        self._before = around[0].place == "before"
        self._norms = [each.norm.forward for each in around]
        parts = own.query, own.key, own.value
        bias = None if own.query.bias is None else torch.cat([part.bias for part in parts])
        self._projection = torch.cat([part.weight for part in parts]), bias
        self._output, self._query, self._cross_output = map(_weights, (own.output, cross.query, cross.output))
        self._up, self._down, self._activation = _weights(feed.up), _weights(feed.down), feed.activation
        self._gate = None if feed.gate is None else _weights(feed.gate)
        self.heads, self.head_dim = own.heads, own.head_dim
        self.source = torch.stack(cross.read(source))

    def step(self, x: Tensor, newest: Tensor, own: NDArray[Any], everything: Plan, source: Plan) -> Tensor:
        """x ``(rows, dim)`` of the newest tokens, whose keys and values go to `newest`, the last of `own`."""
        rows, heads, dim = len(x), self.heads, self.head_dim
        texts = self.source.shape[1]

        def attention(inner: Tensor) -> Tensor:
            projected = _linear(inner, *self._projection).view(rows, -1, dim)
            newest.copy_(projected[:, heads:].view(rows, 2, -1, dim).transpose(0, 1))
            found = _attended(projected[:, :heads, None], own, everything)
            return _linear(found.view(rows, heads * dim), *self._output)

        def cross_attention(inner: Tensor) -> Tensor:
            query = _linear(inner, *self._query).view(texts, -1, heads, dim).transpose(1, 2)
            found = _attended(query, self.held, source).transpose(1, 2)
            return _linear(found.reshape(rows, heads * dim), *self._cross_output)

        def feed_forward(inner: Tensor) -> Tensor:
            gate = None if self._gate is None else _linear(inner, *self._gate)
            return _linear(activated(self._activation, _linear(inner, *self._up), gate), *self._down)

        for norm, part in zip(self._norms, (attention, cross_attention, feed_forward), strict=True):
            x = x + part(norm(x)) if self._before else norm(x + part(x))
        return x


def bare(tensor: Tensor) -> NDArray[Any]:
    """The tensor's memory as backends read it: bfloat16 as the 16-bit numbers it looks like."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    found: NDArray[Any] = tensor.numpy()
    return found


_NAMES = {getattr(torch, name): name for name in ("float16", "bfloat16", "float32", "float64")}


def _pairs(own: Tensor) -> list[Tensor]:
    """Of each layer: keys and values."""
    return [own[first : first + 2] for first in range(0, len(own), 2)]


def _weights(linear: nn.Linear) -> tuple[Tensor, Tensor | None]:
    return linear.weight, linear.bias


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x W^T + b``, as W times x for few rows.

    MKL reads a matrix that is not in the cache at 8 GB/s where it stands on the right, or meets one row alone, and at
    13 to 15 GB/s on the left of two to eight columns; one row is therefore multiplied twice.
    """
    rows = len(x)
    if rows > (FEW if weight.shape[0] >= weight.shape[1] else 2):
        return functional.linear(x, weight, bias)
    product = torch.mm(weight, (x if rows > 1 else torch.cat([x, x])).t()).t()[:rows]
    return (product if bias is None else product + bias).contiguous()


def _plan(start: NDArray[np.int32], stop: NDArray[np.int32], scale: float) -> Plan:
    return Plan(start, stop, (), (), scale)


def _attended(query: Tensor, held: Any, plan: Plan, **found: Any) -> Tensor:
    """Output ``(batch, heads, N, dim)`` of held keys and values ``(batch, heads, M, dim)``, and what else is found."""
    key, value = held
    output = query.new_empty((*query.shape[:3], value.shape[3]))
    if key.shape[2] == 0:
        return output.zero_()
    dtype: Any = _NAMES[query.dtype]
    native(bare(query), key, value, plan, Outputs(bare(output), **found), dtype=dtype)
    return output
