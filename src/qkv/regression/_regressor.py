"""`NadarayaWatson`: regression by attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array

from ._answer import Floats
from ._base import Base
from ._pieces import is_scattered, pieces_of
from ._summary import Moments


class NadarayaWatson(RegressorMixin, Base):
    r"""Kernel regression: the mean of the training targets, weighted by how near their rows are.

    .. math:: \hat y(x) = \frac{\sum_j w_j K(u_j) y_j}{\sum_j w_j K(u_j)}, \qquad
              u_j = \Big\| \frac{x - x_j}{h} \Big\|

    with a bandwidth h for each feature. With the Gaussian kernel this is scaled dot-product attention of the query x
    over the keys :math:`x_j` and values :math:`y_j` with a bias for each key, and runs on the kernel of `qkv.attend`
    in O(n) memory.

    Nadaraya, "On estimating regression" (1964); Watson, "Smooth regression analysis" (1964).

    Args:
        kernel: "gaussian", "laplacian", "epanechnikov", "boxcar", "triangular" or "cosine", functions of u. The last
            four are 0 beyond u = 1: rows out of reach are not looked at.
        bandwidth: "loo" minimises the squared error of leave-one-out predictions, jointly for all features; "scott" and
            "silverman" are rules of thumb; or a positive number, or one for each feature, in the units of X.
        metric: "euclidean", "manhattan" or "chebyshev", the norm.

    Attributes:
        bandwidth_: ``(n_features,)``, chosen by `fit`, or at the first question after `partial_fit`.
        loo_score_: R² of the leave-one-out predictions, where "loo" chose the bandwidth (on the rows it was chosen on).
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    A query that no kernel reaches, however far it is, gets the mean of the targets of its nearest rows, never 0 / 0.
    For the Gaussian kernel that is the limit of the formula.

    X is float64, or float32 where it is given so, which is faster; scores that float32 or the dot products cannot tell
    to within 2e-4 are computed again in float64 or from differences of coordinates, query by query. Missing and
    infinite values are refused, as is sparse data.

    >>> import numpy as np
    >>> from qkv.regression import NadarayaWatson
    >>> x = np.linspace(0, 6, 200)[:, None]
    >>> y = np.sin(x[:, 0])
    >>> model = NadarayaWatson(bandwidth=0.1).fit(x, y)
    >>> model.predict([[1.0], [2.0], [1e9]]).round(2)
    array([ 0.84,  0.9 , -0.28])
    >>> model.attention([[1.0]], top_k=3).indices
    array([[33, 34, 32]])
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NadarayaWatson:
        """Take the training data, and choose the bandwidth.

        Data beyond memory is left where it is: `fit` reads it once, piece by piece, keeps a sample of 100,000 rows for
        as long as it chooses the bandwidth, and every question goes to the pieces, whose answers are merged.

        Args:
            X: ``(n, n_features)``: an array, or a pandas or polars frame. Or a Dask array or frame, or the path of a
                Parquet file, a folder of them, or a pattern ("rows/*.parquet").
            y: ``(n,)``, or ``(n, n_outputs)``. With Parquet the name of a column, or a list of names; with Dask that
                or an array or frame that is cut like X.
            sample_weight: ``(n,)``, not negative; None is 1 for all. A row of weight 2 counts as two rows. With Parquet
                and Dask as y.

        Raises:
            ValueError: for data that is not numbers, or does not fit together (`ArgumentError` is one).
            DependencyError: where Dask or pyarrow is needed and missing.
        """
        if is_scattered(X):
            self._take(pieces_of(X, y, sample_weight))
        else:
            self._data = [self._read(X, y, sample_weight, first=True, multi_output=True, y_numeric=True)]
            self._fitted = None
        self._settle()
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> NadarayaWatson:
        """Take more training data, in memory; the bandwidth is chosen at the next question, from all that came."""
        came = self._more(X)
        rows = self._read(X, y, sample_weight, first=not came, multi_output=True, y_numeric=True)
        if came and rows.y.shape[1:] != came[0].y.shape[1:]:
            raise ValueError(f"y has {rows.y.shape[1:] or 'no'} outputs, expected {came[0].y.shape[1:] or 'one'}")
        self._data, self._fitted = [*came, rows], None
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The weighted means of the targets.

        Args:
            X: ``(N, n_features)``.
            return_std: also give the weighted standard deviation of the targets around that mean: how much the rows
                that a prediction rests on differ.

        Returns:
            ``(N,)`` or ``(N, n_outputs)`` float64, or a pair of them.
        """
        fitted = self._settle()
        scaled: Scaled = fitted.frame.encode  # type: ignore[assignment]
        told = self._ask(X, with_squares if return_std else None).mean
        mean = told[:, : len(scaled.scale)]
        found = mean * scaled.scale + scaled.offset
        if not return_std:
            return self._shaped(found)
        std = np.sqrt(np.maximum(told[:, len(scaled.scale) :] - mean**2, 0)) * scaled.scale
        return self._shaped(found), self._shaped(std)

    @property
    def loo_score_(self) -> float:
        """R² of the leave-one-out predictions, the mean of the outputs' own."""
        if not hasattr(self, "_data") or (error := self._settle().error) is None:
            raise AttributeError('loo_score_ comes with bandwidth="loo" and fit')
        return float(1 - error / self._settle().keys.width)

    def _columns(self) -> Callable[[Any], Floats]:
        return as_columns

    def _encoding(self, targets: Moments) -> Scaled:
        return Scaled(targets.mean, np.where(targets.deviation > 0, targets.deviation, 1.0))

    def _shaped(self, found: Floats) -> Floats:
        flat = self._data[0].y.ndim == 1 if isinstance(self._data, list) else self._data.flat
        return found[:, 0] if flat else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


@dataclass(frozen=True)
class Scaled:
    """The targets as values, each output at mean 0 and deviation 1."""

    offset: Floats
    scale: Floats

    def __call__(self, y: Floats) -> Floats:
        return np.asarray((y - self.offset) / self.scale)


def as_columns(y: Any) -> Floats:
    """Targets as ``(n, outputs)`` finite numbers."""
    y = check_array(y, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="y")
    return np.asarray(y.reshape(len(y), -1) if y.ndim > 1 else y[:, None])


def with_squares(values: Floats) -> Floats:
    return np.concatenate([values, values**2], axis=1)
