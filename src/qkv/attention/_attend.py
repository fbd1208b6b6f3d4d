"""`attend` and `observe`: exact softmax attention, and what a fused kernel usually throws away."""

from __future__ import annotations

from typing import SupportsFloat

from .._typing import Array
from ._biases import Bias, as_bias
from ._compiling import left_to_python
from ._compute import computed, observed
from ._mask import Mask
from ._observation import Observation, Request
from ._prepare import prepare
from ._scores import Align

_OUTPUT = Request(lse=False)


@left_to_python
def attend(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Mask | Array | None = None,
    bias: Bias | Array | None = None,
    scale: SupportsFloat | None = None,
    softcap: SupportsFloat | None = None,
    sink: Array | None = None,
    dropout: SupportsFloat = 0.0,
    seed: int | None = None,
) -> Array:
    r"""Exact softmax attention, in O(n) memory.

    .. math:: \mathrm{output}_i = \sum_j w_{ij} v_j, \qquad
              w_{ij} = \frac{\exp s_{ij}}{\sum_l \exp s_{il}}, \qquad
              s_{ij} = \mathrm{softcap}(\mathrm{scale} \; q_i \cdot k_j) + \mathrm{bias}_{ij}

    with the sums over the keys that the mask allows. A query that may attend to nothing yields 0, never NaN.

    Vaswani et al., "Attention Is All You Need" (NeurIPS 2017); computed block by block as in Milakov and Gimelshein,
    "Online normalizer calculation for softmax" (2018), and Dao et al., "FlashAttention" (NeurIPS 2022).

    Args:
        query: ``(*batch, heads, N, head_dim)``; 2-D is one head, 3-D is heads (not batch). float16, bfloat16, float32
            or float64; a NumPy array, a torch tensor, or a JAX array on the CPU (outside of jit and grad).
        key: ``(*batch, key_heads, M, head_dim)``; `key_heads` divides `heads` (grouped-query attention).
        value: ``(*batch, key_heads, M, value_dim)``.
        mask: who may attend: `Causal`, `Window`, `Padding`, `Documents`, `ExceptSelf`, their combinations with ``&``,
            ``|``, ``~``, or a boolean array that broadcasts to ``(*batch, heads, N, M)``. True may attend.
        bias: added to the scores: `ALiBi`, `RelativeBias`, `KeyBias`, their sums, or a float array that broadcasts to
            ``(*batch, heads, N, M)``; -inf counts as masked.
        scale: factor of the dot products; None is 1/sqrt(head_dim).
        softcap: c in ``c * tanh(score / c)``, before the bias; None is no cap.
        sink: ``(heads,)`` logits that join the denominator only: weights then sum to less than 1.
        dropout: probability that a weight becomes 0, the others being divided by 1 - dropout (Srivastava et al.,
            "Dropout", JMLR 2014). Whether one does follows from the seed and from its place (batch item, head, query,
            key) alone: the same on every machine, whatever the number of threads.
        seed: of dropout, ``0 <= seed < 2**64``; None is a new one each time.

    Returns:
        ``(*batch, heads, N, value_dim)`` in the query's dtype and framework. Torch tensors that require gradients get
        them, twice if need be: query, key, value, sink, and the tensors in a bias.

    Raises:
        ArgumentError: for what does not fit together; the message names the argument.

    >>> import numpy as np
    >>> import qkv
    >>> query = np.array([[1.0, 0.0]])
    >>> key = np.array([[4.0, 0.0], [0.0, 4.0]])
    >>> value = np.array([[10.0], [20.0]])
    >>> qkv.attend(query, key, value).round(2)
    array([[10.56]])
    >>> qkv.attend(query, key, value, mask=np.array([False, True]))
    array([[20.]])
    """
    bias = None if bias is None else as_bias(bias)
    problem = prepare(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        scale=scale,
        softcap=softcap,
        sink=sink,
        dropout=dropout,
        seed=seed,
        gradients=True,
        devices=True,
    )
    return computed(problem, _OUTPUT, query, key, value, sink, bias)["output"]


@left_to_python
def observe(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Mask | Array | None = None,
    bias: Bias | Array | None = None,
    scale: SupportsFloat | None = None,
    softcap: SupportsFloat | None = None,
    sink: Array | None = None,
    entropy: bool = False,
    max_score: bool = False,
    top_k: int = 0,
    received: bool = False,
    block_map: int | tuple[int, int] | str = 0,
    distance: bool | Align = False,
) -> Observation:
    r"""`attend`, and in the same pass the statistics that are asked for; exact, and still in O(n) memory.

    Arguments up to `sink` are those of `attend`. With w the weights, s the scores after bias, p the query's position:

    Args:
        entropy: :math:`-\sum_j w_{ij} \log w_{ij}` in nats, over keys (a sink's own term is not one).
        max_score: :math:`\max_j s_{ij}`.
        top_k: how many of the heaviest keys to name for each query.
        received: :math:`\sum_i w_{ij}`, the weight that each key receives.
        block_map: sums of weights over blocks: a block size, a pair (queries, keys), or "auto" for at most 512 blocks
            a side.
        distance: :math:`\sum_j w_{ij} |p_i - j|`, in tokens; True counts ``p = i + M - N``, "top-left" ``p = i``.

    Returns:
        An `Observation`: `output`, `lse`, and each statistic asked for. `output` and `lse` are differentiable as in
        `attend`; statistics are not: they come detached.

    Raises:
        ArgumentError: for what does not fit together; the message names the argument.

    >>> import numpy as np
    >>> import qkv
    >>> x = np.eye(3, dtype=np.float32) * 4
    >>> seen = qkv.observe(x, x, x, mask=qkv.Causal(), entropy=True, top_k=2)
    >>> seen
    Observation
      output     float32 of shape (3, 3)
      lse        float32 of shape (3,)
      entropy    float32 of shape (3,)
      top_k      indices int64 of shape (3, 2), weights float32 of shape (3, 2)
    >>> seen.top_k.indices
    array([[ 0, -1],
           [ 1,  0],
           [ 2,  0]])
    """
    return observed(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        scale=scale,
        softcap=softcap,
        sink=sink,
        entropy=entropy,
        max_score=max_score,
        top_k=top_k,
        received=received,
        block_map=block_map,
        distance=distance,
    )
