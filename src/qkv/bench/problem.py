"""A row's arrays, made before any clock starts, and its mask and scores in the words of qkv and of PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

import qkv

from .cases import DOCUMENT, WINDOW, Case
from .machine import last_level_cache

SOFTCAP = 30.0


@dataclass
class Problem:
    """What every contender computes.

    Attributes:
        sets: query, key, value, and the gradient of the output; one set unless the row rotates.
        allowed: boolean ``(N, M)``, or None where everything is allowed or the mask is causal.
        bias: ``(heads, N, M)`` or ``(N, M)`` in the arrays' dtype, or None.
        mask, own_bias, slopes: the same as qkv takes them.
    """

    case: Case
    sets: list[tuple[torch.Tensor, ...]]
    allowed: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    mask: Any = None
    own_bias: Any = None
    slopes: torch.Tensor | None = None
    softcap: float | None = None
    ids: torch.Tensor | None = None
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        self.scale = 1 / math.sqrt(self.case.dim)

    @property
    def grouped(self) -> bool:
        return self.case.heads != self.case.key_heads


def make(case: Case) -> Problem:
    """The same numbers in every run."""
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, case.dtype)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    long = (case.batch, case.heads, case.queries, case.dim)
    short = (case.batch, case.key_heads, case.keys, case.dim)
    count = 1
    if case.rotate:
        count = max(2, math.ceil(4 * last_level_cache() / (2 * math.prod(short) * dtype.itemsize)))
    problem = Problem(case, [(random(*long), random(*short), random(*short), random(*long)) for _ in range(count)])
    _set_mask(problem, generator)
    _set_score(problem, random)
    return problem


def _set_mask(problem: Problem, generator: torch.Generator) -> None:
    case = problem.case
    row, column = torch.arange(case.queries)[:, None], torch.arange(case.keys)
    match case.mask:
        case "causal":
            problem.mask = qkv.Causal()
        case "window":
            problem.mask = qkv.Window(WINDOW, 0)
            problem.allowed = (column <= row) & (column >= row - WINDOW)
        case "documents":
            problem.ids = torch.arange(case.queries) // DOCUMENT
            problem.mask = qkv.Documents(problem.ids.numpy())
            problem.allowed = problem.ids[:, None] == problem.ids
        case "array":
            problem.allowed = torch.rand(case.queries, case.keys, generator=generator) < 0.5
            problem.mask = problem.allowed


def _set_score(problem: Problem, random: Any) -> None:
    case = problem.case
    match case.score:
        case "bias":
            problem.bias = problem.own_bias = random(case.queries, case.keys)
        case "alibi":
            problem.slopes = 2.0 ** -torch.arange(1, case.heads + 1)
            distance = (torch.arange(case.queries)[:, None] - torch.arange(case.keys)).abs()
            problem.bias = (-problem.slopes[:, None, None] * distance).to(random(1).dtype)
            problem.own_bias = qkv.ALiBi(problem.slopes.numpy())
        case "softcap":
            problem.softcap = SOFTCAP


def exact(problem: Problem, rows: torch.Tensor) -> torch.Tensor:
    """The output of some queries of the first batch entry, in float64, straight from the definition."""
    case = problem.case
    query, key, value = (array[0].double() for array in problem.sets[0][:3])
    group = case.heads // case.key_heads
    key, value = (array.repeat_interleave(group, 0) for array in (key, value))
    score = query[:, rows] @ key.mT * problem.scale
    if problem.softcap:
        score = problem.softcap * torch.tanh(score / problem.softcap)
    if problem.slopes is not None:
        distance = (rows[:, None] - torch.arange(case.keys)).abs()
        score = score - problem.slopes.double()[:, None, None] * distance
    elif problem.bias is not None:
        score = score + problem.bias.double()[..., rows, :]
    if case.mask == "causal":
        score = score.masked_fill(torch.arange(case.keys) > rows[:, None] + case.keys - case.queries, -torch.inf)
    if problem.allowed is not None:
        score = score.masked_fill(~problem.allowed[rows], -torch.inf)
    return torch.softmax(score, -1) @ value


def exact_gradients(problem: Problem) -> list[torch.Tensor]:
    """Of the first head of the first batch entry (its keys and values are shared with no other head), in float64."""
    arrays = [array[:1, :1].double() for array in problem.sets[0]]
    leaves = [array.requires_grad_() for array in arrays[:3]]
    query, key, value = leaves
    causal = problem.case.mask == "causal"
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    return list(torch.autograd.grad(output, leaves, arrays[3]))
