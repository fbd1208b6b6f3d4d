"""Gradients of torch tensors against plain float64, over random masks, biases, dtypes, heads and lengths.

How exact a bias's gradient can be depends on what is summed in it, not on the sum: a slope of ALiBi adds the gradients
of all scores, each times a distance, and most of it may cancel. Its error is therefore measured against the sum of
absolute values. PyTorch's own slopes, by `scaled_dot_product_attention` with the bias written out, are no closer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import qkv

LOOSE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
MASKS = ("none", "causal", "top-left", "window", "padding", "documents", "but self", "array", "array and causal")
BIASES = ("alibi", "relative", "keys", "dense", "per head", "blocked")


def made_mask(kind: str, batch: int, queries: int, keys: int) -> Any:
    allowed = torch.rand(batch, 1, queries, keys) > 0.4
    match kind:
        case "causal":
            return qkv.Causal()
        case "top-left":
            return qkv.Causal(align="top-left")
        case "window":
            return qkv.Window(2, 1)
        case "padding":
            return qkv.Padding(torch.randint(0, keys + 1, (batch,)), side="left") & qkv.Causal()
        case "documents":
            return qkv.Documents(torch.randint(0, 2, (queries,)), torch.randint(0, 2, (keys,)))
        case "but self":
            return ~qkv.Window(0, 0)
        case "array":
            return allowed
        case "array and causal":
            return qkv.Causal() | allowed
    return None


def made_bias(
    kinds: list[str], dtype: torch.dtype, batch: int, heads: int, queries: int, keys: int
) -> tuple[Any, list[Tensor], Any]:
    """A bias, what in it is learned, and the same written out in float64 from those."""
    total, learned, dense = None, [], []
    place = torch.arange(queries)[:, None] + keys - queries
    step = torch.arange(keys) - place
    for kind in kinds:
        term: Any
        if kind == "alibi":
            leaf = torch.rand(heads).requires_grad_()
            term = qkv.ALiBi(leaf)
            dense.append(lambda leaf: -leaf[:, None, None] * step.abs())
        elif kind == "relative":
            leaf = torch.randn(heads, 5).requires_grad_()
            term = qkv.RelativeBias(leaf)
            dense.append(lambda leaf: leaf[:, step.clamp(-2, 2) + 2])
        elif kind == "keys":
            leaf = torch.randn(batch, 1, keys).requires_grad_()
            term = qkv.KeyBias(leaf)
            dense.append(lambda leaf: leaf[..., None, :])
        else:
            shape = {"dense": (batch, heads, queries, keys), "per head": (heads, queries, 1)}.get(kind, (queries, keys))
            leaf = torch.randn(shape, dtype=dtype)
            if kind == "blocked":
                leaf[torch.rand(shape) > 0.7] = -torch.inf
            term = leaf.requires_grad_()
            dense.append(lambda leaf: leaf)
        learned.append(leaf)
        total = term if total is None else total + term
    return total, learned, lambda leaves: sum(f(leaf) for f, leaf in zip(dense, leaves, strict=True))


def plain(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, bias: Any, softcap: float | None, sink: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention and its weights as they are written down; rows that may attend to nothing are 0."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.mT / query.shape[-1] ** 0.5
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    seen = allowed
    if isinstance(bias, Tensor):
        seen = allowed & (bias > -torch.inf)
        scores = scores + bias.masked_fill(bias == -torch.inf, 0)
    scores = scores.masked_fill(~seen, -1e300)
    logits = scores if sink is None else torch.cat([scores, sink[:, None, None].expand(*scores.shape[:-1], 1)], -1)
    weights = torch.softmax(logits, -1)[..., : key.shape[2]]
    weights = weights.masked_fill(~seen, 0)
    return weights @ value, weights


@pytest.mark.parametrize("way", ["kernel", "torch"])
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(list(LOOSE)),
    sizes=st.tuples(*(st.integers(1, most) for most in (2, 3, 3, 40, 70, 20, 9))),
    mask=st.sampled_from(MASKS),
    biases=st.lists(st.sampled_from(BIASES), max_size=2, unique=True),
    softcap=st.sampled_from([None, 2.5]),
    with_sink=st.booleans(),
)
def test_gradients(
    way: str,
    seed: int,
    dtype: torch.dtype,
    sizes: tuple[int, ...],
    mask: str,
    biases: list[str],
    softcap: float | None,
    with_sink: bool,
) -> None:
    torch.manual_seed(seed)
    batch, groups, share, queries, keys, dim, value_dim = sizes
    heads = groups * share
    shapes = (batch, heads, queries, dim), (batch, groups, keys, dim), (batch, groups, keys, value_dim)
    arrays = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    rule = made_mask(mask, batch, queries, keys)
    bias, learned, written = made_bias(biases, torch.promote_types(dtype, torch.float32), batch, heads, queries, keys)
    sink = torch.randn(heads).requires_grad_() if with_sink else None
    leaves = [*arrays, *learned, *([] if sink is None else [sink])]
    with pytest.MonkeyPatch.context() as patch:
        if way == "torch":
            patch.setattr("qkv.attention._arrays.kernel_reads", lambda tensor: False)
            patch.setattr("qkv.attention._backends._chunks.BLOCK", 500)
        output = qkv.attend(*arrays, mask=rule, bias=bias, softcap=softcap, sink=sink)
        weight = torch.randn(output.shape).to(dtype)
        found = torch.autograd.grad(output, leaves, weight)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    dense = np.ones((queries, keys), bool)
    if isinstance(rule, Tensor):
        dense = rule.numpy()
    elif rule is not None:
        dense = rule.matrix(queries, keys, heads=heads, batch=(batch,))
    allowed = torch.from_numpy(np.array(np.broadcast_to(dense, (batch, heads, queries, keys))))
    added = torch.zeros(batch, heads, queries, keys, dtype=torch.float64, requires_grad=True)
    summed = written(wide[3 : 3 + len(learned)]).expand(batch, heads, queries, keys) if learned else added
    want_output, weights = plain(*wide[:3], allowed, summed + added, softcap, wide[-1] if with_sink else None)
    want = torch.autograd.grad(want_output, [*wide, added], weight.double(), retain_graph=True)
    parts = [0.1 * torch.ones_like(leaf) for leaf in wide]  # what each gradient is a sum of, without signs
    if learned:
        unsigned = torch.autograd.grad(summed, wide[3 : 3 + len(learned)], want[-1].abs() + weights.detach())
        parts[3 : 3 + len(learned)] = unsigned
    parts.insert(0, torch.full_like(output, 0.1))
    for one, other, part in zip((output.detach(), *found), (want_output.detach(), *want[:-1]), parts, strict=True):
        assert one.isfinite().all()
        error = float((one.double() - other).norm())
        assert error <= max(LOOSE[dtype], LOOSE[one.dtype]) * (float(other.norm()) + float(part.double().norm()))
