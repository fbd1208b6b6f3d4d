"""Hugging Face's caches, as our layers read them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import ArgumentError
from ..nn import KeysValues, LayerCache


class OwnKeys:
    """One layer's keys and values in a cache of transformers, as `qkv.nn` extends them."""

    def __init__(self, cache: Any, layer: int) -> None:
        self._cache, self._layer = cache, layer

    def __len__(self) -> int:
        return int(self._cache.get_seq_length(self._layer))

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append, and return all there is."""
        extended: tuple[Tensor, Tensor] = self._cache.update(keys, values, self._layer)
        return extended

    def reorder(self, rows: Tensor) -> None:
        """Transformers reorders its cache itself, all layers at once."""
        self._cache.reorder_cache(rows)


class DecoderKeys(LayerCache):
    """One decoder layer's part of an `EncoderDecoderCache`: its own keys, and those of the source."""

    def __init__(self, cache: Any, layer: int) -> None:
        self._cache, self._layer = cache, layer
        self.own = OwnKeys(cache.self_attention_cache, layer)

    @property
    def source(self) -> KeysValues | None:
        """The source's keys and values, once they are known."""
        if not self._cache.is_updated.get(self._layer):
            return None
        held = self._cache.cross_attention_cache.layers[self._layer]
        return KeysValues(held.keys, held.values)

    @source.setter
    def source(self, read: KeysValues | None) -> None:
        assert read is not None
        self._cache.cross_attention_cache.update(read.key, read.value, self._layer)
        self._cache.is_updated[self._layer] = True


def checked_cache(cache: Any) -> Any:
    """The cache, if it holds what was read and nothing else.

    Raises:
        ArgumentError: it is of a fixed size, whose empty places would be read.
    """
    if getattr(cache, "is_compileable", False):
        raise ArgumentError(
            f"past_key_values: expected a cache that grows, got {type(cache).__name__}; leave cache_implementation away"
        )
    return cache
