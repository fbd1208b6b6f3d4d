"""Kernel regression as it is written down: one sum a query, in higher precision, from differences of coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np

KERNELS = {
    "epanechnikov": lambda u: np.maximum(1 - u * u, 0),
    "boxcar": lambda u: (u <= 1).astype(u.dtype),
    "triangular": lambda u: np.maximum(1 - u, 0),
    "cosine": lambda u: np.where(u < 1, np.cos(np.pi / 2 * u), 0),
}
LOG_KERNELS = {"gaussian": lambda u: -u * u / 2, "laplacian": lambda u: -u}
NORMS = {
    "euclidean": lambda a: np.sqrt((a * a).sum(-1)),
    "manhattan": lambda a: np.abs(a).sum(-1),
    "chebyshev": lambda a: np.abs(a).max(-1),
}


def weights(
    query: Any,
    key: Any,
    bandwidth: Any,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    sample_weight: Any = None,
    except_self: bool = False,
) -> Any:
    """``(N, M)`` weights in extended precision; the nearest keys' where a kernel reaches nobody."""
    query, key = np.asarray(query, np.longdouble), np.asarray(key, np.longdouble)
    mass = np.ones(len(key)) if sample_weight is None else np.asarray(sample_weight)
    found = np.zeros((len(query), len(key)), np.longdouble)
    for i, row in enumerate(query):
        u = NORMS[metric]((row - key) / bandwidth)
        allowed = mass > 0
        if except_self:
            allowed = allowed & (np.arange(len(key)) != i)
        if not allowed.any():
            continue
        if kernel in LOG_KERNELS:
            score = np.where(allowed, LOG_KERNELS[kernel](u), -np.inf)
            raw = np.exp(score - score.max()) * mass
        else:
            raw = KERNELS[kernel](u) * mass * allowed
            if raw.sum() == 0:
                raw = (u == u[allowed].min()) * mass * allowed
        found[i] = raw / raw.sum()
    return found
