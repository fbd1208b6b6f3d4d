"""One attention, as a running model asks for it, and how it is computed while it is captured.

Every path into a model (Hugging Face's interface, PyTorch's functions) describes what it sees as an `AttentionCall`;
nothing behind it knows where a call came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..attention import Causal, observe, weights
from ..trace import SideName as SideName

MASKED = -30_000.0
"""An additive mask below this says "no": float16's lowest number and every model's own constant are lower still."""


@dataclass(eq=False)
class AttentionCall:
    """What one attention is given.

    Attributes:
        query: ``(B, H, N, D)``.
        key: ``(B, G, M, D)``, G divides H.
        value: ``(B, G, M, Dv)``.
        scale: factor of the dot products.
        allowed: bool, broadcasts to ``(B, H, N, M)``, True may be read; None where `causal` says everything.
        causal: query i reads keys j <= i only (both counted from 0), beside what `allowed` says.
        bias: float, broadcasts to ``(B, H, N, M)``, added to the scores.
        softcap: c of ``c * tanh(score / c)``.
        sink: ``(H,)`` logits that join the denominator only.
        window: how many keys a query reads at most, itself included, where the model says so.
        kind: "self" or "cross" where that is known.
        cached: keys may come from a cache of earlier calls.
        decodes: whether the module says that it is causal (a decoder's), where it says so.
        padding: bool ``(B, M)``, True for keys that are no padding, where the call itself says so.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    allowed: Tensor | None = None
    causal: bool = False
    bias: Tensor | None = None
    softcap: float | None = None
    sink: Tensor | None = None
    window: int | None = None
    kind: Literal["self", "cross"] | None = None
    cached: bool = True
    decodes: bool | None = None
    padding: Tensor | None = None

    def reads_causally(self) -> bool:
        """Whether no query reads a later key: by the module's word, else by the mask itself."""
        if self.causal or self.decodes is not None:
            return self.causal or bool(self.decodes)
        queries, keys = self.query.shape[2], self.key.shape[2]
        if self.allowed is None or queries != keys or queries < 2:
            return False
        return not bool(torch.triu(self.allowed.detach(), 1).any())

    def compute(self) -> tuple[Tensor, Tensor]:
        """Output ``(B, H, N, Dv)`` and logsumexp ``(B, H, N)`` in float32 (float64 for float64), without a gradient."""
        with torch.no_grad():
            seen = observe(
                on_cpu(self.query),
                on_cpu(self.key),
                on_cpu(self.value),
                mask=self.mask(),
                bias=on_cpu(self.bias),
                scale=self.scale,
                softcap=self.softcap,
                sink=on_cpu(self.sink),
            )
        return seen.output.to(self.query.device), seen.lse

    def weights(self, lse: Tensor) -> Tensor:
        """All weights ``(B, H, N, M)`` in the query's dtype, for a caller that asked its model for them."""
        with torch.no_grad():
            found: Tensor = weights(
                on_cpu(self.query),
                on_cpu(self.key),
                lse=lse,
                mask=self.mask(),
                bias=on_cpu(self.bias),
                scale=self.scale,
                softcap=self.softcap,
                sink=on_cpu(self.sink),
            )
        return found.to(self.query.device, self.query.dtype)

    def differentiable(self) -> Tensor:
        """Output ``(B, H, N, Dv)`` by PyTorch's own operations, for a model that is trained meanwhile."""
        group = self.query.shape[1] // self.key.shape[1]
        key, value = self.key.repeat_interleave(group, 1), self.value.repeat_interleave(group, 1)
        scores = self.query @ key.transpose(-1, -2) * self.scale
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if self.bias is not None:
            scores = scores + self.bias
        allowed = self.allowed
        if self.causal:
            earlier = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            allowed = earlier if allowed is None else allowed & earlier
        if allowed is not None:
            scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        if self.sink is not None:
            sink = self.sink.to(scores.dtype).reshape(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
            scores = torch.cat([scores, sink], -1)
        found = torch.softmax(scores.float(), -1).to(value.dtype)[..., : key.shape[2]]
        return found @ value

    def mask(self) -> Any:
        """The mask for `qkv.attend`."""
        allowed = on_cpu(self.allowed)
        if not self.causal:
            return allowed
        causal = Causal(align="top-left")
        return causal if allowed is None else causal & allowed

    def needs_gradient(self) -> bool:
        """Autograd is watching: the model's own differentiable code has to compute the output."""
        inputs = (self.query, self.key, self.value, self.bias, self.sink)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)


def on_cpu(tensor: Tensor | None) -> Any:
    """The numbers alone, where the kernel reads them."""
    return None if tensor is None else tensor.detach().cpu()


def split_mask(mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """What a model passes as its mask, as (allowed, bias): additive masks hold both, and often only the first."""
    if mask is None:
        return None, None
    if mask.dtype == torch.bool:
        return mask, None
    if not mask.is_floating_point():
        return mask.bool(), None
    allowed = mask.detach() > MASKED
    bias = torch.where(allowed, mask, torch.zeros((), dtype=mask.dtype, device=mask.device))
    matters = mask.requires_grad or bool(bias.any())  # a bias that is learned may start as zero
    return (None if bool(allowed.all()) else allowed), (bias if matters else None)
