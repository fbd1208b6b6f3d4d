"""What the regressor and the classifier share: the data, its bandwidths, and the keys that queries attend to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..errors import ArgumentError
from ._answer import Answer, Floats, Ints
from ._bandwidth import RULES, distinct, leave_one_out, rule
from ._gaussian import gaussian
from ._kernels import KERNELS, NORMS
from ._pairs import Neighbours


class Attention(NamedTuple):
    """The training rows behind each prediction.

    Attributes:
        indices: ``(N, top_k)`` rows of the training data, heaviest first; -1 where there are fewer.
        weights: ``(N, top_k)``, their weights, 0 where there are fewer. All weights of a prediction add up to 1.
    """

    indices: Ints
    weights: Floats


@dataclass
class Keys:
    """The training data as keys: in bandwidths from its centre, the targets on one scale."""

    centre: Floats
    bandwidth: Floats
    neighbours: Neighbours
    values: Floats
    log_weight: Floats | None
    rows: Ints | None
    """Which rows of the data they are, where some weigh nothing."""
    error: float | None
    """The mean squared leave-one-out error, on the scale of `values`."""

    def place(self, x: Floats) -> Floats:
        """Queries in bandwidths from the centre; what is beyond all numbers is brought back to the largest."""
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(np.nan_to_num((x - self.centre) / self.bandwidth.astype(x.dtype)))


class Base(BaseEstimator, ABC):
    """Fitting, and asking; `_encode` turns targets into columns of values."""

    _pieces: list[tuple[Floats, Any, Floats]]
    """What came, one entry a call: rows, targets, weights."""
    _keys: Keys | None

    def __init__(self, kernel: str = "gaussian", *, bandwidth: Any = "loo", metric: str = "euclidean") -> None:
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.metric = metric

    @abstractmethod
    def _encode(self, pieces: list[tuple[Floats, Any, Floats]]) -> Floats:
        """``(n, values)`` float64 columns on one scale."""

    def _read(self, x: Any, y: Any, sample_weight: Any, *, first: bool, **checks: Any) -> tuple[Floats, Any, Floats]:
        self._check_parameters()
        x, y = validate_data(self, x, y, dtype=[np.float64, np.float32], reset=first, **checks)
        weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        return x, y, weight

    def _check_parameters(self) -> None:
        if self.kernel not in KERNELS:
            raise ArgumentError(f"kernel: expected one of {', '.join(KERNELS)}, got {self.kernel!r}")
        if self.metric not in NORMS:
            raise ArgumentError(f"metric: expected one of {', '.join(NORMS)}, got {self.metric!r}")
        if isinstance(self.bandwidth, str) and self.bandwidth not in ("loo", *RULES):
            raise ArgumentError(
                f'bandwidth: expected a positive number, one for each feature, "loo", "scott" or "silverman", '
                f"got {self.bandwidth!r}"
            )

    def _settle(self) -> Keys:
        """The keys; made at the first question after data came."""
        check_is_fitted(self)
        if self._keys is None:
            self._keys = self._make_keys()
        return self._keys

    def _make_keys(self) -> Keys:
        dtype = np.result_type(*(piece[0].dtype for piece in self._pieces))
        x, weight = (_joined([piece[index] for piece in self._pieces]) for index in (0, 2))
        x, values = x.astype(dtype, copy=False), self._encode(self._pieces)
        rows = None if (weight > 0).all() else np.flatnonzero(weight)
        if rows is not None:
            if not len(rows):
                raise ArgumentError("sample_weight: expected at least one positive weight, got zeros alone")
            x, values, weight = x[rows], values[rows], weight[rows]
        weights = None if np.ptp(weight) == 0 else weight
        centre = _centre(x)
        bandwidth, error = self._choose(x - centre, values, weights)
        key = np.ascontiguousarray((x - centre) / bandwidth.astype(x.dtype))
        log_weight = None if weights is None else np.log(weights) - np.log(weights.max())
        near = Neighbours(key, self.kernel, self.metric)
        return Keys(centre, bandwidth, near, values, log_weight, rows, error)

    def _choose(self, x: Floats, values: Floats, weight: Floats | None) -> tuple[Floats, float | None]:
        """The bandwidth of each feature, and the leave-one-out error where that chose it."""
        if isinstance(self.bandwidth, str):
            if self.bandwidth == "loo":
                return leave_one_out(x, values, weight, kernel=self.kernel, metric=self.metric)
            return rule(self.bandwidth, *distinct(x, values, weight)[::2]), None
        return check_bandwidth(self.bandwidth, x.shape[1]), None

    def _ask(self, x: Any, values: Floats | None = None, *, top_k: int = 0, entropy: bool = False) -> Answer:
        """What the keys say to queries, by the path that fits the kernel."""
        check_is_fitted(self)
        x = validate_data(self, x, dtype=[np.float64, np.float32], reset=False)
        keys = self._settle()
        query = keys.place(x.astype(keys.neighbours.key.dtype, copy=False))
        values = keys.values if values is None else values
        if (self.kernel, self.metric) == ("gaussian", "euclidean"):
            return gaussian(
                query,
                keys.neighbours.key,
                values,
                keys.log_weight,
                top_k=top_k,
                entropy=entropy,
                neighbours=keys.neighbours,
            )
        return keys.neighbours.answer(query, values, keys.log_weight, top_k=top_k)

    @property
    def bandwidth_(self) -> Floats:
        """``(d,)``, the bandwidth of each feature; after `partial_fit` chosen when it is first needed."""
        if not hasattr(self, "_pieces"):
            raise AttributeError("bandwidth_ comes with fit")
        return self._settle().bandwidth

    def effective_neighbours(self, X: Any) -> Floats:
        """How many training rows each prediction rests on: exp of its weights' entropy, from 1 to n.

        Args:
            X: ``(N, d)``.

        Returns:
            ``(N,)``.
        """
        return np.asarray(np.exp(self._ask(X, np.zeros((len(self._settle().values), 1)), entropy=True).entropy))

    def attention(self, X: Any, top_k: int = 10) -> Attention:
        """Why this prediction: the training rows that weigh most in it.

        Args:
            X: ``(N, d)``.
            top_k: how many rows to name for each; at least 1.

        Returns:
            `Attention`, ``indices`` and ``weights``, both ``(N, top_k)``.
        """
        if not isinstance(top_k, int | np.integer) or isinstance(top_k, bool) or top_k < 1:
            raise ArgumentError(f"top_k: expected a whole number from 1 on, got {top_k!r}")
        keys = self._settle()
        answer = self._ask(X, np.zeros((len(keys.values), 1)), top_k=int(top_k))
        indices = answer.indices
        if keys.rows is not None:
            indices = np.where(indices < 0, np.int64(-1), keys.rows[indices])
        return Attention(indices, answer.weights)


def check_bandwidth(bandwidth: Any, features: int) -> Floats:
    """A bandwidth for each feature: positive, finite numbers."""
    try:
        widths = np.asarray(bandwidth, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"bandwidth: expected a positive number or one for each feature, got {bandwidth!r}"
        ) from None
    if widths.ndim > 1 or (widths.ndim == 1 and len(widths) != features):
        raise ArgumentError(
            f"bandwidth: expected one number or one for each of {features} features, got shape {widths.shape}"
        )
    if not (np.isfinite(widths).all() and (widths > 0).all()):
        raise ArgumentError(f"bandwidth: expected positive, finite numbers, got {bandwidth!r}")
    return np.array(np.broadcast_to(widths, features))


def _centre(x: Floats) -> Floats:
    """The median of each feature: an outlier must not cost the others their digits."""
    return np.asarray([np.median(column) for column in x.T], x.dtype)


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
