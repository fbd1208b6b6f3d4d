"""One attention, as a running model asks for it, and how it is computed.

Every path into a model (Hugging Face's interface, PyTorch's functions) describes what it sees as an `AttentionCall`;
nothing behind it knows where a call came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..attention import Observation, observed, weights
from ._runs import Runs


@dataclass(eq=False)
class AttentionCall:
    """What one attention is given.

    Attributes:
        query: ``(B, H, N, D)``.
        key: ``(B, G, M, D)``, G divides H.
        value: ``(B, G, M, Dv)``.
        scale: factor of the dot products.
        runs: the run of keys that each query may read; None for all.
        allowed: bool, broadcasts to ``(B, H, N, M)``, True may be read, beside what `runs` says.
        bias: float, broadcasts to ``(B, H, N, M)``, added to the scores.
        softcap: c of ``c * tanh(score / c)``.
        sink: ``(H,)`` logits that join the denominator only.
        dropout: probability with which a weight is dropped.
        window: how many keys a query reads at most, itself included, where the model says so.
        kind: "self" or "cross" where that is known.
        cached: keys may come from a cache of earlier calls.
        packed: several texts lie in one row.
        decodes: whether the module says that it is causal (a decoder's), where it says so.
        padding: bool ``(B, M)``, True for keys that are no padding, where the call itself says so.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    runs: Runs | None = None
    allowed: Tensor | None = None
    bias: Tensor | None = None
    softcap: float | None = None
    sink: Tensor | None = None
    dropout: float = 0.0
    window: int | None = None
    kind: Literal["self", "cross"] | None = None
    cached: bool = True
    packed: bool = False
    decodes: bool | None = None
    padding: Tensor | None = None

    def reads_causally(self) -> bool:
        """Whether no query reads a later key: by the module's word, else by the mask itself."""
        if self.decodes is not None:
            return self.decodes
        queries, keys = self.query.shape[2], self.key.shape[2]
        if self.runs is not None and (Runs.causal(queries, keys).stop >= self.runs.stop).all():
            return True
        if self.allowed is None or queries != keys or queries < 2:
            return False
        return not bool(torch.triu(self.allowed.detach(), 1).any())

    def observe(self, **statistics: Any) -> Observation:
        """Output ``(B, H, N, Dv)``, logsumexp ``(B, H, N)``, and the statistics that `qkv.observe` is asked for.

        Output and logsumexp are differentiable where autograd is watching; dropout, drawn from torch's generator, is
        in the output alone.
        """
        seed = int(torch.randint(2**63 - 1, ())) if self.dropout else None
        asked = {**self._options(), **statistics, "dropout": self.dropout, "seed": seed}
        return observed(self.query, self.key, self.value, **asked)

    def weights(self, lse: Tensor) -> Tensor:
        """All weights ``(B, H, N, M)`` in the query's dtype, for a caller that asked its model for them."""
        with torch.no_grad():
            found: Tensor = weights(self.query, self.key, lse=lse, **self._options())
        return found.to(self.query.dtype)

    def mask(self) -> Any:
        """The mask for `qkv.attend`."""
        if self.runs is None or self.allowed is None:
            return self.allowed if self.runs is None else self.runs
        return self.runs & self.allowed

    def _options(self) -> dict[str, Any]:
        return {
            "mask": self.mask(),
            "bias": self.bias,
            "scale": self.scale,
            "softcap": self.softcap,
            "sink": self.sink,
        }
