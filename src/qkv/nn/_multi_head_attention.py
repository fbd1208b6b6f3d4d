"""Attention with several heads, from inputs to output: the part that everything else is made of."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .._typing import Bool, Float
from ..attention import Bias, Mask, Observation, observe, weights
from ..attention._weights import Selection
from ..errors import ArgumentError
from ._attended import attended
from ._from_torch import rename_when_loading, split_projections
from ._rotary import Rotary


class Extends(Protocol):
    """What keeps keys and values between steps: `KeyValueCache`, or a view of somebody else's cache."""

    def __len__(self) -> int: ...

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]: ...

    def reorder(self, rows: Tensor) -> None: ...


class KeysValues(NamedTuple):
    """A source as an attention reads it, by head: computed once by `MultiHeadAttention.read`, used at every step."""

    key: Float[Tensor, "batch key_heads keys head_dim"]
    value: Float[Tensor, "batch key_heads keys head_dim"]


class MultiHeadAttention(nn.Module):
    r"""Scaled dot-product attention in h subspaces at once:

    .. math:: \mathrm{MultiHead}(X, Y) = \mathrm{Concat}(\mathrm{head}_1, \ldots, \mathrm{head}_h) W^O, \qquad
              \mathrm{head}_i = \mathrm{attend}(X W^Q_i, Y W^K_i, Y W^V_i)

    with Y = X in self-attention, and Y what is read in cross-attention. Vaswani et al., "Attention Is All You Need"
    (NeurIPS 2017), section 3.2.2. Grouped heads: Ainslie et al., "GQA" (EMNLP 2023).

    The state dict of a `torch.nn.MultiheadAttention` of the same sizes loads as it is.

    Args:
        dim: of the queries' inputs and of the output; their ``embed_dim``.
        heads: query heads; their ``num_heads``.
        key_heads: key and value heads, which divide `heads`; None is as many.
        head_dim: of each head; None is dim / heads.
        source_dim: of what is read, for cross-attention; None is dim; their ``kdim`` and ``vdim``.
        bias: whether the four projections have one.
        dropout: of the weights, while training.
        rotary: turns queries and keys by their positions.

    Raises:
        ArgumentError: heads do not divide dim (without head_dim), or key_heads do not divide heads.

    >>> import torch
    >>> import qkv
    >>> attention = MultiHeadAttention(dim=16, heads=4)
    >>> x = torch.randn(2, 5, 16)
    >>> attention(x, mask=qkv.Causal()).shape
    torch.Size([2, 5, 16])
    >>> output, seen = attention.observe(x, mask=qkv.Causal(), entropy=True)
    >>> seen.entropy.shape
    torch.Size([2, 4, 5])
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        key_heads: int | None = None,
        head_dim: int | None = None,
        source_dim: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        rotary: Rotary | None = None,
    ) -> None:
        super().__init__()
        key_heads = key_heads or heads
        if head_dim is None and dim % heads:
            raise ArgumentError(f"heads: expected a number that divides dim {dim}, got {heads}; or give head_dim")
        if heads % key_heads:
            raise ArgumentError(f"key_heads: expected a number that divides heads {heads}, got {key_heads}")
        self.heads, self.key_heads, self.head_dim = heads, key_heads, head_dim or dim // heads
        self.dropout = dropout
        self.rotary = rotary
        self.query = nn.Linear(dim, heads * self.head_dim, bias)
        self.key = nn.Linear(source_dim or dim, key_heads * self.head_dim, bias)
        self.value = nn.Linear(source_dim or dim, key_heads * self.head_dim, bias)
        self.output = nn.Linear(heads * self.head_dim, dim, bias)
        for projection in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)
            if bias:
                nn.init.zeros_(projection.bias)
        rename_when_loading(self, split_projections)

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        source: Float[Tensor, "batch keys source_dim"] | KeysValues | None = None,
        *,
        mask: Mask | Bool[Tensor, ...] | None = None,
        bias: Bias | Float[Tensor, ...] | None = None,
        cache: Extends | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Attend from x to source, or to x itself.

        Args:
            x: ``(batch, N, dim)``.
            source: ``(batch, M, source_dim)``, or what `read` made of it; None is x: self-attention.
            mask, bias: as in `qkv.attend`, with the scores ``(batch, heads, N, M)``; M counts what the cache holds.
            cache: keeps this call's keys and values behind those of earlier calls, which are attended to as well.

        Returns:
            ``(batch, N, dim)``. A query that may attend to nothing yields the output projection's bias.

        Raises:
            ArgumentError: source, mask or bias do not fit x; the message names it.
        """
        query, key, value = self.project(x, source, cache)
        output = attended(
            query,
            key,
            value,
            mask=mask,
            bias=bias,
            dropout=self.dropout if self.training else 0.0,
            kind="self" if source is None else "cross",
            cached=cache is not None,
        )
        return self._joined(output)

    def observe(
        self,
        x: Float[Tensor, "batch queries dim"],
        source: Float[Tensor, "batch keys source_dim"] | KeysValues | None = None,
        *,
        mask: Mask | Bool[Tensor, ...] | None = None,
        bias: Bias | Float[Tensor, ...] | None = None,
        cache: Extends | None = None,
        **statistics: Any,
    ) -> tuple[Float[Tensor, "batch queries dim"], Observation]:
        """`forward`, to the same bits where there is no dropout, and what `qkv.observe` saw on the way.

        Args:
            statistics: as in `qkv.observe`: ``entropy=True``, ``top_k=8``, ...

        Raises:
            ArgumentError: something does not fit x, or a statistic is not known; the message names it.
        """
        query, key, value = self.project(x, source, cache)
        seen = observe(query, key, value, mask=mask, bias=bias, **statistics)
        return self._joined(seen.output), seen

    def weights(
        self,
        x: Float[Tensor, "batch queries dim"],
        source: Float[Tensor, "batch keys source_dim"] | KeysValues | None = None,
        *,
        rows: Selection = None,
        columns: Selection = None,
        mask: Mask | Bool[Tensor, ...] | None = None,
        bias: Bias | Float[Tensor, ...] | None = None,
    ) -> Float[Tensor, "batch heads *window"]:
        """The exact weights of some queries on some keys, of all on all by default. To look at: without derivatives.

        Args:
            rows, columns: queries and keys, as in `qkv.weights`: a slice, an index, or an array or list of them.
            source, mask, bias: as in `forward`. There is no cache, which looking would extend: for the weights of a
                step, give `qkv.weights` the query and the keys of `project`, under `torch.no_grad`.

        Returns:
            ``(batch, heads, rows, columns)``; an index drops its axis.

        Raises:
            ArgumentError: something does not fit x; the message names it.
        """
        with torch.no_grad():
            query, key, _ = self.project(x, source)
            found: Tensor = weights(query, key, rows=rows, columns=columns, mask=mask, bias=bias)
        return found

    def project(
        self,
        x: Float[Tensor, "batch queries dim"],
        source: Float[Tensor, "batch keys source_dim"] | KeysValues | None = None,
        cache: Extends | None = None,
    ) -> tuple[
        Float[Tensor, "batch heads queries head_dim"],
        Float[Tensor, "batch key_heads keys head_dim"],
        Float[Tensor, "batch key_heads keys head_dim"],
    ]:
        """Queries, keys and values by head, turned by their positions and with those of the cache."""
        query = self._split(self.query(x), self.heads)
        first = 0 if cache is None else len(cache)
        key, value = source if isinstance(source, KeysValues) else self.read(x if source is None else source, first)
        if self.rotary is not None:
            query = self.rotary(query, torch.arange(first, first + x.shape[1], device=x.device))
        if cache is not None:
            key, value = cache.extend(key, value)
        return query, key, value

    def read(self, source: Float[Tensor, "batch keys source_dim"], first: int = 0) -> KeysValues:
        """Keys and values of a source whose positions begin at `first`."""
        key, value = (self._split(part(source), self.key_heads) for part in (self.key, self.value))
        if self.rotary is not None:
            key = self.rotary(key, torch.arange(first, first + source.shape[1], device=source.device))
        return KeysValues(key, value)

    def _split(self, projected: Tensor, heads: int) -> Tensor:
        return projected.view(*projected.shape[:-1], heads, self.head_dim).transpose(1, 2)

    def _joined(self, heads: Tensor) -> Tensor:
        result: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return result

    def extra_repr(self) -> str:
        shared = f", key_heads={self.key_heads}" if self.key_heads != self.heads else ""
        return f"heads={self.heads}{shared}, head_dim={self.head_dim}"
