r"""Attention as the textbook writes it: the specification that every fast path is tested against.

Everything is float64, every n x n array is made, every mask is written out by its definition. For one query :math:`q_i`

.. math:: s_{ij} = \mathrm{score}(q_i, k_j), \qquad w_{ij} = \frac{\exp s_{ij}}{\sum_l \exp s_{il}}, \qquad
          o_i = \sum_j w_{ij} v_j.

A query looks for what is like it among the keys, and takes of each value as much as its key was like it. With the
Gaussian kernel for a score this is the regression of Nadaraya ("On Estimating Regression", 1964) and Watson ("Smooth
Regression Analysis", 1964); with a small network, that of Bahdanau, Cho and Bengio ("Neural Machine Translation by
Jointly Learning to Align and Translate", ICLR 2015); with the dot product divided by :math:`\sqrt{d}`, that of Vaswani
et al. ("Attention Is All You Need", NeurIPS 2017).

That the sum over keys can be cut in pieces and merged (`lse` and `output` of two pieces give those of both) is from
Milakov and Gimelshein ("Online normalizer calculation for softmax", 2018) and Dao et al. ("FlashAttention", NeurIPS
2022). Query heads that share keys and values: Ainslie et al. ("GQA", EMNLP 2023). The cap on scores: Gemma Team ("Gemma
2", 2024). Sinks: Xiao et al. ("Efficient Streaming Language Models with Attention Sinks", ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._typing import Array, Float
from ..errors import ArgumentError
from ._biases import Bias, as_bias
from ._mask import Mask, as_mask
from ._measures import Floats, pairwise_cosine, pairwise_dot, pairwise_squared_distance
from ._scores import Align, ScoreShape

Score: TypeAlias = Literal["dot", "scaled_dot", "cosine", "gaussian"] | Callable[[Floats, Floats], Floats]
"""How like queries are to keys: a name, or a function from ``(.., N, d)`` and ``(.., M, d)`` to ``(.., N, M)``."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Every array between query, key, value and output; leading axes are the query's.

    Attributes:
        scores: ``(.., N, M)``, the score function's values.
        scaled: times the scale (for the Gaussian kernel its logarithm, so that exp gives the kernel again).
        capped: through the softcap.
        biased: with the bias added.
        masked: -inf where a query may not attend.
        weights: softmax over the last axis; rows sum to 1, to less with a sink, to 0 where there is nothing to see.
        output: ``(.., N, value_dim)``, the weighted sums of values.
    """

    scores: Any
    scaled: Any
    capped: Any
    biased: Any
    masked: Any
    weights: Any
    output: Any

    def __repr__(self) -> str:
        shapes = ((name, tuple(value.shape)) for name, value in vars(self).items() if value is not None)
        return "\n".join([type(self).__name__, *(f"  {name:<12} {shape}" for name, shape in shapes)])


def attend(
    query: Float[np.ndarray, "*batch heads queries dim"],
    key: Float[np.ndarray, "*batch key_heads keys dim_of_keys"],
    value: Float[np.ndarray, "*batch key_heads keys value_dim"],
    *,
    mask: Mask | Array | None = None,
    bias: Bias | Array | None = None,
    scale: float | int | None = None,
    softcap: float | int | None = None,
    sink: Array | None = None,
    score: Score = "scaled_dot",
) -> Steps:
    """Attention, step by step, in float64; arguments as in `qkv.attend`, and the score function.

    >>> x = np.eye(2)[None]
    >>> attend(x, x, x, score="dot").weights.round(2)
    array([[[0.73, 0.27],
            [0.27, 0.73]]])
    """
    query, key, value = (np.asarray(array).astype(np.float64) for array in (query, key, value))
    group = query.shape[-3] // max(key.shape[-3], 1)
    key, value = np.repeat(key, group, axis=-3), np.repeat(value, group, axis=-3)
    shape = ScoreShape(query.shape[:-3], query.shape[-3], query.shape[-2], key.shape[-2])

    scores, logits = score_function(score)(query, key)
    scaled = logits * (default_scale(score, query.shape[-1]) if scale is None else scale)
    capped = scaled if softcap is None else softcap * np.tanh(scaled / softcap)
    biased = capped if bias is None else add_bias(capped, as_bias(bias)._matrix(shape))
    allowed = True if mask is None else as_mask(mask)._matrix(shape)
    masked = np.where(allowed, biased, -np.inf)
    lse = logsumexp(masked, sink)
    with np.errstate(invalid="ignore"):
        weights = np.where(masked == -np.inf, 0, np.exp(masked - lse[..., None]))
    return Steps(scores, scaled, capped, biased, masked, weights, weigh(weights, masked, value))


@dataclass(frozen=True, eq=False)
class Gradients:
    """Derivatives of a loss, in the shapes of what they are taken by.

    Attributes:
        query: ``(.., heads, N, dim)``.
        key: ``(.., key_heads, M, dim)``, summed over the query heads that share it.
        value: ``(.., key_heads, M, value_dim)``, likewise.
        bias: ``(.., heads, N, M)``, by what is added to each score; what a bias is made from gets sums of these.
        sink: ``(heads,)``; None without sinks.
    """

    query: Floats
    key: Floats
    value: Floats
    bias: Floats
    sink: Floats | None


def gradients(
    query: Float[np.ndarray, "*batch heads queries dim"],
    key: Float[np.ndarray, "*batch key_heads keys dim"],
    value: Float[np.ndarray, "*batch key_heads keys value_dim"],
    grad_output: Float[np.ndarray, "*batch heads queries value_dim"],
    grad_lse: Float[np.ndarray, "*batch heads queries"] | None = None,
    *,
    mask: Mask | Array | None = None,
    bias: Bias | Array | None = None,
    scale: float | int | None = None,
    softcap: float | int | None = None,
    sink: Array | None = None,
    factor: Floats | None = None,
) -> Gradients:
    r"""The backward pass of scaled dot-product attention, step by step, in float64.

    Of the loss :math:`L = \sum_i \langle dO_i, o_i \rangle + \sum_i dl_i\, \mathrm{lse}_i` with
    :math:`o_i = \sum_j f_{ij} w_{ij} v_j`, where dropout multiplies by :math:`f_{ij}`, 0 or :math:`1/(1-p)`:

    .. math:: dV_j = \sum_i f_{ij} w_{ij}\, dO_i, \qquad
              dS_{ij} = w_{ij} (f_{ij} \langle dO_i, v_j \rangle - \delta_i), \qquad
              \delta_i = \langle dO_i, o_i \rangle - dl_i

    (Dao et al., "FlashAttention", NeurIPS 2022, appendix B.2). From dS, the bias's gradient, those of the scores before
    follow: a softcap multiplies by :math:`1 - \tanh^2`, and with :math:`dA`, that times the scale,
    :math:`dQ_i = \sum_j dA_{ij} k_j` and :math:`dK_j = \sum_i dA_{ij} q_i`. A sink is a score whose value is 0:
    it gets :math:`-\sum_i e^{\mathrm{sink} - \mathrm{lse}_i} \delta_i`. A pair that is masked has no part in anything.

    Args:
        query, key, value, mask, bias, scale, softcap, sink: as in `attend`.
        grad_output: the loss's derivatives by the output.
        grad_lse: and by the logsumexp of each query; None is 0.
        factor: ``(.., N, M)``, what dropout multiplies each weight by; None is 1.

    >>> x = np.eye(2)[None]
    >>> gradients(x, x, x, x, scale=1).value.round(2)
    array([[[0.73, 0.27],
            [0.27, 0.73]]])
    """
    steps = attend(query, key, value, mask=mask, bias=bias, scale=scale, softcap=softcap, sink=sink)
    query, key, value, given = (np.asarray(array).astype(np.float64) for array in (query, key, value, grad_output))
    key_heads = key.shape[-3]
    group = query.shape[-3] // max(key_heads, 1)
    key, value = np.repeat(key, group, axis=-3), np.repeat(value, group, axis=-3)
    factor = np.ones(steps.weights.shape) if factor is None else np.broadcast_to(factor, steps.weights.shape)
    masked, kept = steps.masked, np.where(factor == 0, -np.inf, steps.masked)
    lse = logsumexp(masked, sink)

    def to_key_heads(each: Floats) -> Floats:
        split = each.reshape(*each.shape[:-3], key_heads, group, *each.shape[-2:])
        total: Floats = split.sum(-3)
        return total

    with np.errstate(invalid="ignore", over="ignore"):
        used = np.where(kept == -np.inf, 0, factor * steps.weights)
        output = weigh(used, kept, value)
        grad_value = weigh(_turned(used), _turned(kept), given)
        grad_weights = np.where(kept == -np.inf, 0, factor * (given @ _turned(value)))
        delta = (given * output).sum(-1) - (0 if grad_lse is None else np.asarray(grad_lse, np.float64))
        grad_biased = np.where(masked == -np.inf, 0, steps.weights * (grad_weights - delta[..., None]))
        slope = 1 if softcap is None else 1 - np.square(steps.capped / softcap)
        grad_scaled = np.where(masked == -np.inf, 0, grad_biased * slope)
        grad_scores = grad_scaled * (default_scale("scaled_dot", query.shape[-1]) if scale is None else scale)
        grad_query = weigh(grad_scores, masked, key)
        grad_key = weigh(_turned(grad_scores), _turned(masked), query)
        grad_sink = None
        if sink is not None:
            pull = np.exp(np.asarray(sink, np.float64)[:, None] - lse) * delta
            by_query = np.where(lse == -np.inf, 0, -pull)
            grad_sink = by_query.sum((*range(by_query.ndim - 2), -1))
    return Gradients(grad_query, to_key_heads(grad_key), to_key_heads(grad_value), grad_biased, grad_sink)


def _turned(matrices: Floats) -> Floats:
    turned: Floats = matrices.swapaxes(-1, -2)
    return turned


def add_bias(scores: Floats, bias: Floats) -> Floats:
    """Scores and a bias; one of -inf counts as masked, whatever the score: NaN and infinity too."""
    with np.errstate(invalid="ignore"):
        return np.where(bias == -np.inf, -np.inf, scores + bias)


def logsumexp(masked: Floats, sink: Array | None = None) -> Floats:
    """log sum_j exp s_ij, where a sink is one more score of each head; -inf over nothing."""
    if sink is not None:
        extra = np.broadcast_to(np.asarray(sink, np.float64)[:, None, None], (*masked.shape[:-1], 1))
        masked = np.concatenate([masked, extra], axis=-1)
    highest = masked.max(-1, initial=-np.inf)
    highest = np.where(np.isfinite(highest), highest, 0)
    with np.errstate(divide="ignore", over="ignore"):
        total: Floats = highest + np.log(np.exp(masked - highest[..., None]).sum(-1))
    return total


def weigh(weights: Floats, masked: Floats, value: Floats) -> Floats:
    """sum_j w_ij v_j over the keys that i may attend to; the others do not exist, whatever their values hold."""
    if np.isfinite(value).all():
        product: Floats = weights @ value
        return product
    product = np.where((masked == -np.inf)[..., None], 0, weights[..., None] * value[..., None, :, :])
    total: Floats = product.sum(-2)
    return total


def entropy(weights: Floats) -> Floats:
    """-sum_j w_ij log w_ij, in nats."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms: Floats = np.where(weights == 0, 0, weights * np.log(weights))
    total: Floats = 0.0 - terms.sum(-1)
    return total


def top_k(steps: Steps, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Indices and weights of the k heaviest keys, ties to the lowest index, padded with -1 and 0."""
    order = np.argsort(-steps.masked, axis=-1, kind="stable")[..., :k]
    found = np.take_along_axis(steps.masked, order, -1) > -np.inf
    pad = [(0, 0)] * (order.ndim - 1) + [(0, k - order.shape[-1])]
    indices = np.pad(np.where(found, order, -1), pad, constant_values=-1)
    return indices, np.pad(np.take_along_axis(steps.weights, order, -1), pad)


def block_map(weights: Floats, rows: int, columns: int) -> Floats:
    """Sums of weights over blocks of `rows` queries and `columns` keys; the last ones may be smaller."""
    *leading, queries, keys = weights.shape
    padding = [(0, 0)] * len(leading) + [(0, -queries % rows), (0, -keys % columns)]
    padded = np.pad(weights, padding)
    blocks = padded.reshape(*leading, -(-queries // rows), rows, -(-keys // columns), columns)
    total: Floats = blocks.sum((-3, -1))
    return total


def distance(weights: Floats, align: Align = "bottom-right") -> Floats:
    """sum_j w_ij |p - j|, p the query's position: how far it looks."""
    queries, keys = weights.shape[-2:]
    positions = ScoreShape((), 1, queries, keys).positions(align)
    total: Floats = (weights * np.abs(positions[:, None] - np.arange(keys))).sum(-1)
    return total


def score_function(score: Score) -> Callable[[Floats, Floats], tuple[Floats, Floats]]:
    """From query and key to the scores and the logits, which differ for the Gaussian kernel only."""
    if callable(score):

        def by_function(query: Floats, key: Floats) -> tuple[Floats, Floats]:
            scores = np.asarray(score(query, key), dtype=np.float64)
            expected = (*query.shape[:-1], key.shape[-2])
            if scores.shape != expected:
                raise ArgumentError(f"score: expected a function that returns shape {expected}, got {scores.shape}")
            return scores, scores

        return by_function

    def by_name(query: Floats, key: Floats) -> tuple[Floats, Floats]:
        if score == "gaussian":
            logits = -0.5 * pairwise_squared_distance(query, key)
            return np.exp(logits), logits
        scores = pairwise_cosine(query, key) if score == "cosine" else pairwise_dot(query, key)
        return scores, scores

    if score not in ("dot", "scaled_dot", "cosine", "gaussian"):
        raise ArgumentError(
            f"score: expected 'dot', 'scaled_dot', 'cosine', 'gaussian' or a function of query and key, got {score!r}"
        )
    return by_name


def default_scale(score: Score, dim: int) -> float:
    """1/sqrt(dim) for the scaled dot product, otherwise 1."""
    return 1 / np.sqrt(dim) if score == "scaled_dot" else 1.0
