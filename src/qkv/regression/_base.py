"""What the regressor and the classifier share: the data, its bandwidths, and the keys that queries attend to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..errors import ArgumentError
from ._answer import Answer, Floats, Ints
from ._bandwidth import RULES, leave_one_out, rule
from ._gaussian import gaussian
from ._kernels import KERNELS, NORMS
from ._keys import Frame, Held, by_differences
from ._pieces import Pieces, Rows, is_scattered, name_of, query_blocks
from ._scattered import Scattered
from ._summary import Moments, Summary


class Attention(NamedTuple):
    """The training rows behind each prediction.

    Attributes:
        indices: ``(N, top_k)`` rows of the training data, heaviest first; -1 where there are fewer.
        weights: ``(N, top_k)``, their weights, 0 where there are fewer. All weights of a prediction add up to 1.
    """

    indices: Ints
    weights: Floats


@dataclass(frozen=True)
class Fitted:
    """What a fitted model is asked: keys, their frame, and the mean squared leave-one-out error of the values."""

    frame: Frame
    keys: Held | Scattered
    error: float | None


NARROWEST = {"float32": 1e15, "float64": 1e50}
"""The spread over the narrowest bandwidth that is told apart from 0: the nearest row alone answers long before."""


class Base(BaseEstimator, ABC):
    """Fitting, and asking; `_columns` and `_encoding` turn targets into columns of values."""

    _data: list[Rows] | Pieces
    """What came: an entry a call, or pieces that lie elsewhere."""
    _fitted: Fitted | None

    def __init__(self, kernel: str = "gaussian", *, bandwidth: Any = "loo", metric: str = "euclidean") -> None:
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.metric = metric

    @abstractmethod
    def _columns(self) -> Callable[[Any], Floats]:
        """A function that turns targets as they come into ``(n, targets)`` float64 numbers."""

    @abstractmethod
    def _encoding(self, targets: Moments) -> Callable[[Floats], Floats]:
        """A function that turns those into ``(n, values)`` float64 columns on one scale."""

    def _read(self, x: Any, y: Any, sample_weight: Any, *, first: bool, **checks: Any) -> Rows:
        self._check_parameters()
        x, y = validate_data(self, x, y, dtype=[np.float64, np.float32], reset=first, **checks)
        weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        return Rows(x, y, weight).within_limits()

    def _take(self, pieces: Pieces) -> None:
        """Take data that lies in pieces."""
        self._check_parameters()
        self.n_features_in_ = pieces.features
        if pieces.names is not None:
            self.feature_names_in_ = np.array(pieces.names, object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self._data, self._fitted = pieces, None

    def _more(self, x: Any) -> list[Rows]:
        """What came before, for `partial_fit`, whose data is in memory."""
        if is_scattered(x):
            raise ArgumentError(
                f"X: partial_fit expects data in memory, got {name_of(x)}; give it to fit, all pieces in one"
            )
        came = getattr(self, "_data", [])
        if not isinstance(came, list):
            raise ArgumentError("partial_fit: the data given to fit lies in pieces; give all pieces to fit, in one")
        return came

    def _check_parameters(self) -> None:
        if not isinstance(self.kernel, str) or self.kernel not in KERNELS:
            raise ArgumentError(f"kernel: expected one of {', '.join(KERNELS)}, got {self.kernel!r}")
        if not isinstance(self.metric, str) or self.metric not in NORMS:
            raise ArgumentError(f"metric: expected one of {', '.join(NORMS)}, got {self.metric!r}")
        if isinstance(self.bandwidth, str) and self.bandwidth not in ("loo", *RULES):
            raise ArgumentError(
                f'bandwidth: expected a positive number, one for each feature, "loo", "scott" or "silverman", '
                f"got {self.bandwidth!r}"
            )

    def _settle(self) -> Fitted:
        """Keys and bandwidths; made at the first question after data came."""
        check_is_fitted(self)
        if self._fitted is None:
            self._fitted = self._fit()
        return self._fitted

    def _fit(self) -> Fitted:
        columns = self._columns()
        if isinstance(self._data, list):
            dtype = np.result_type(*(rows.x.dtype for rows in self._data))
            x, weight = (_joined([getattr(rows, name) for rows in self._data]) for name in ("x", "weight"))
            x, y = x.astype(dtype, copy=False), columns(_joined([rows.y for rows in self._data]))
            summary = Summary.of(x, y, weight)
        else:
            summary = self._data.summary(columns)
        if not summary.rows:
            raise ArgumentError("sample_weight: expected at least one positive weight, got zeros alone")
        sample, encode = summary.sample, self._encoding(summary.targets)
        centre = _centre(sample.x.astype(summary.dtype, copy=False))
        bandwidth, error = self._choose(summary, sample.x.astype(summary.dtype, copy=False) - centre, encode(sample.y))
        weights = summary.rows, summary.lightest, summary.heaviest
        frame = Frame(centre, bandwidth, self.kernel, self.metric, encode, *weights)
        if isinstance(self._data, list):
            return Fitted(frame, frame.hold(x, y, weight), error)
        return Fitted(frame, Scattered(self._data, frame, columns, summary.lengths, len(summary.targets.mean)), error)

    def _choose(self, summary: Summary, x: Floats, values: Floats) -> tuple[Floats, float | None]:
        """The bandwidth of each feature, and the leave-one-out error where that chose it; x is the sample's."""
        spread = summary.features.spread(summary.dtype)
        if isinstance(self.bandwidth, str):
            if self.bandwidth == "loo":
                total, weight = summary.distinct, summary.sample.weight
                return leave_one_out(x, values, weight, total=total, kernel=self.kernel, metric=self.metric)
            return rule(self.bandwidth, spread, summary.effective), None
        least = spread / NARROWEST[np.dtype(summary.dtype).name]
        return np.maximum(check_bandwidth(self.bandwidth, x.shape[1]), least), None

    def _ask(
        self, x: Any, tell: Callable[[Floats], Floats] | None = None, *, top_k: int = 0, entropy: bool = False
    ) -> Answer:
        """What the keys say to queries, of their values or what `tell` makes of them."""
        check_is_fitted(self)
        if is_scattered(x):
            blocks = query_blocks(x, list(getattr(self, "feature_names_in_", ())), self.n_features_in_)
            return Answer.joined([self._ask(block, tell, top_k=top_k, entropy=entropy) for block in blocks])
        x = validate_data(self, x, dtype=[np.float64, np.float32], reset=False)
        fitted = self._settle()
        frame, keys = fitted.frame, fitted.keys if tell is None else fitted.keys.telling(tell)
        if (self.kernel, self.metric) == ("gaussian", "euclidean"):
            return gaussian(frame.place(x), keys, top_k=top_k, entropy=entropy)
        return by_differences(frame.place(x), keys, top_k=top_k)

    @property
    def bandwidth_(self) -> Floats:
        """``(d,)``, the bandwidth of each feature; after `partial_fit` chosen when it is first needed."""
        if not hasattr(self, "_data"):
            raise AttributeError("bandwidth_ comes with fit")
        return self._settle().frame.bandwidth

    def effective_neighbours(self, X: Any) -> Floats:
        """How many training rows each prediction rests on: exp of its weights' entropy, from 1 to n.

        Args:
            X: ``(N, d)``.

        Returns:
            ``(N,)``.
        """
        return np.asarray(np.exp(self._ask(X, no_values, entropy=True).entropy))

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
        answer = self._ask(X, no_values, top_k=int(top_k))
        return Attention(answer.indices, answer.weights)


def no_values(values: Floats) -> Floats:
    """Where the weights alone are asked for: one column, for attention needs one."""
    return np.zeros((len(values), 1))


def check_bandwidth(bandwidth: Any, features: int) -> Floats:
    """A bandwidth for each feature: positive, finite numbers."""
    try:
        if np.asarray(bandwidth).dtype.kind == "b":
            raise TypeError
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
