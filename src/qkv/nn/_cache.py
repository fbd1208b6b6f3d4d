"""Keys and values of what was read already, so that each new token costs one row of attention."""

from __future__ import annotations

from torch import Tensor

from .._typing import Float, Int


class KeyValueCache:
    """The keys and values of one attention so far; grows by doubling, so that appending does not copy every time.

    >>> import torch
    >>> cache = KeyValueCache()
    >>> step = torch.ones(1, 2, 1, 4)  # (batch, heads, length, head_dim)
    >>> keys, values = cache.extend(step, step)
    >>> keys, values = cache.extend(step, step)
    >>> keys.shape, len(cache)
    (torch.Size([1, 2, 2, 4]), 2)
    """

    def __init__(self) -> None:
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(
        self, keys: Float[Tensor, "batch heads new head_dim"], values: Float[Tensor, "batch heads new value_dim"]
    ) -> tuple[Float[Tensor, "batch heads length head_dim"], Float[Tensor, "batch heads length value_dim"]]:
        """Append along the length, and return all there is; what was returned before stays as it was."""
        length = self._length + keys.shape[-2]
        self._keys = _grown(self._keys, keys, self._length, length)
        self._values = _grown(self._values, values, self._length, length)
        self._length = length
        return self._keys[..., :length, :], self._values[..., :length, :]

    def reorder(self, rows: Int[Tensor, " batch"]) -> None:
        """Continue with these rows of the batch, as beam search asks after each step."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys[rows], self._values[rows]


def _grown(held: Tensor | None, new: Tensor, at: int, length: int) -> Tensor:
    if held is None or held.shape[-2] < length:
        room = new.new_empty((*new.shape[:-2], max(length, 2 * at), new.shape[-1]))
        if held is not None:
            room[..., :at, :] = held[..., :at, :]
        held = room
    held[..., at:length, :] = new
    return held
