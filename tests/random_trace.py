"""Traces of random numbers, and what dense NumPy in float64 says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkv.trace import Attention, BiasStructure, Candidate, MaskStructure, ModelInfo, Sequence, Token, Trace
from qkv.trace._tensors import Tensors, raw

WORDS = "the quick brown fox jumps over a lazy dog while seven old wizards box with jugs of quartz".split()  # noqa: SIM905


@dataclass
class Shape:
    """One layer's numbers."""

    queries: int = 11
    keys: int = 11
    heads: int = 4
    key_heads: int = 2
    dim: int = 6
    value_dim: int = 5


def record(
    shape: Shape | None = None,
    *,
    seed: int = 0,
    layer: int = 0,
    kind: str = "self",
    part: str = "encoder",
    heads: tuple[int, ...] | None = None,
    softcap: float | None = None,
    sink: bool = False,
    mask: MaskStructure | None = None,
    bias: BiasStructure | None = None,
    spread: float = 1.5,
    dtype: str = "float32",
) -> Attention:
    """A layer of random queries, keys and values; its lse is the dense one."""
    shape = shape or Shape()
    random = np.random.default_rng(seed + 1000 * layer)

    def normal(*size: int) -> NDArray[np.float32]:
        return random.normal(size=size).astype(np.float32)

    tensors: dict[str, Any] = {
        "query": spread * normal(shape.heads, shape.queries, shape.dim),
        "key": normal(shape.key_heads, shape.keys, shape.dim),
        "value": normal(shape.key_heads, shape.keys, shape.value_dim),
        "lse": np.zeros((shape.heads, shape.queries), np.float32),
    }
    tensors = {name: array if name == "lse" else array.astype(dtype) for name, array in tensors.items()}
    if sink:
        tensors["sink"] = normal(shape.heads)
    target = "target" if kind == "cross" or part == "decoder-target" else "input"

    def build() -> Attention:
        return Attention(
            path=f"layers.{layer}.{kind}",
            kind=kind,  # type: ignore[arg-type]
            part="decoder" if part == "decoder-target" else part,  # type: ignore[arg-type]
            layer=layer,
            heads=heads or tuple(range(shape.heads)),
            head_count=max(heads or (0,)) + 1 if heads else shape.heads,
            scale=shape.dim**-0.5,
            softcap=softcap,
            query_side=target,  # type: ignore[arg-type]
            key_side="input" if kind == "cross" else target,  # type: ignore[arg-type]
            tensors=Tensors({name: raw(array) for name, array in tensors.items()}),
            mask_structure=mask or MaskStructure(),
            bias_structure=bias or BiasStructure(),
        )

    tensors["lse"] = dense(build()).lse.astype(np.float32)
    return build()


@dataclass
class Dense:
    """Everything of a layer, n x n, in float64."""

    capped: NDArray[np.float64]
    bias: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    lse: NDArray[np.float64]
    weights: NDArray[np.float64]
    output: NDArray[np.float64]


def dense(record: Attention) -> Dense:
    """The definition, written down again: no function of qkv is called."""
    group = len(record.heads) // record.key.shape[0]
    query, key, value = (
        record.query.astype(float),
        record.key.astype(float).repeat(group, 0),
        record.value.astype(float).repeat(group, 0),
    )
    scores = np.einsum("hid,hjd->hij", query, key) * record.scale
    if record.softcap is not None:
        scores = record.softcap * np.tanh(scores / record.softcap)
    heads, queries, keys = scores.shape
    ahead = np.arange(keys)[None, :] - (np.arange(queries)[:, None] + keys - queries)
    bias, structure = np.zeros_like(scores), record.bias_structure
    if structure.table is not None:
        reach = structure.table.shape[1] // 2
        bias = bias + structure.table[:, np.clip(ahead, -reach, reach) + reach]
    if structure.array is not None:
        bias = bias + structure.array
    allowed, mask = np.ones((heads, queries, keys), bool), record.mask_structure
    if mask.causal:
        allowed &= ahead <= 0
    if mask.window is not None:
        left, right = mask.window
        allowed &= (-ahead <= (keys if left is None else left)) & (ahead <= (keys if right is None else right))
    if mask.keys is not None:
        allowed &= mask.keys
    if mask.array is not None:
        allowed &= mask.array
    allowed &= bias > -np.inf
    total = np.where(allowed, scores + np.where(allowed, bias, 0), -np.inf)
    terms = (
        total
        if record.sink is None
        else np.concatenate([total, np.broadcast_to(record.sink[:, None, None], (heads, queries, 1))], 2)
    )
    with np.errstate(divide="ignore"):
        lse = np.log(np.exp(terms).sum(-1))
    weights = np.where(allowed, np.exp(np.where(allowed, total, 0) - np.where(np.isfinite(lse), lse, 0)[..., None]), 0)
    return Dense(scores, bias, allowed, lse, weights, weights @ value)


def tokens(count: int, *, special_ends: bool = False) -> list[Token]:
    """Words, each a token; [CLS] and [SEP] around them where ``special_ends``."""
    found = [Token(at, WORDS[at % len(WORDS)], space=at > 0, word=at) for at in range(count)]
    if special_ends and count > 1:
        found[0], found[-1] = Token(0, "[CLS]", special=True), Token(1, "[SEP]", space=True, special=True)
    return found


def trace(records: list[Attention], *, predictions: bool = False, kind: str = "encoder", norm: str = "after") -> Trace:
    """A trace of one text."""
    sides: dict[Any, list[Token]] = {}
    for one in records:
        sides.setdefault(one.key_side, tokens(one.keys, special_ends=True))
        sides.setdefault(one.query_side, tokens(one.queries))
    guesses = [[Candidate(1, "fox", True, 0.5), Candidate(2, "es", False, 0.25)] for _ in range(records[0].queries)]
    sequence = Sequence(dict(sorted(sides.items())), records, guesses if predictions else None)
    model = ModelInfo("random", "Random", kind, 24, len(records), 4, 96, norm)  # type: ignore[arg-type]
    return Trace(model, [sequence])
