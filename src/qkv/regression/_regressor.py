"""`NadarayaWatson`: regression by attention."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from ._answer import Floats
from ._base import Base


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

        Args:
            X: ``(n, n_features)``: an array, or a pandas or polars frame.
            y: ``(n,)``, or ``(n, n_outputs)``.
            sample_weight: ``(n,)``, not negative; None is 1 for all. A row of weight 2 counts as two rows.
        """
        self._pieces, self._keys = (
            [self._read(X, y, sample_weight, first=True, multi_output=True, y_numeric=True)],
            None,
        )
        self._settle()
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> NadarayaWatson:
        """Take more training data; the bandwidth is chosen at the next question, from all that came."""
        first = not hasattr(self, "_pieces")
        piece = self._read(X, y, sample_weight, first=first, multi_output=True, y_numeric=True)
        if not first and piece[1].shape[1:] != self._pieces[0][1].shape[1:]:
            raise ValueError(
                f"y has {piece[1].shape[1:] or 'no'} outputs, expected {self._pieces[0][1].shape[1:] or 'one'}"
            )
        self._pieces, self._keys = [*([] if first else self._pieces), piece], None
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
        keys = self._settle()
        outputs = keys.values.shape[1]
        columns = np.concatenate([keys.values, keys.values**2], axis=1) if return_std else keys.values
        told = self._ask(X, columns).mean
        mean, scale = told[:, :outputs], self._scale
        found = mean * scale + self._offset
        if not return_std:
            return self._shaped(found)
        std = np.sqrt(np.maximum(told[:, outputs:] - mean**2, 0)) * scale
        return self._shaped(found), self._shaped(std)

    @property
    def loo_score_(self) -> float:
        """R² of the leave-one-out predictions, the mean of the outputs' own."""
        if not hasattr(self, "_pieces") or (error := self._settle().error) is None:
            raise AttributeError('loo_score_ comes with bandwidth="loo" and fit')
        return float(1 - error / self._settle().values.shape[1])

    def _encode(self, pieces: list[tuple[Floats, Any, Floats]]) -> Floats:
        """The targets, each output at mean 0 and deviation 1."""
        y = np.concatenate([piece[1] for piece in pieces]).astype(np.float64)
        mass = np.concatenate([piece[2] for piece in pieces])
        y = y[:, None] if y.ndim == 1 else y
        weight = mass if mass.any() else None
        self._offset = np.average(y, axis=0, weights=weight)
        deviation = np.sqrt(np.average((y - self._offset) ** 2, axis=0, weights=weight))
        self._scale = np.where(deviation > 0, deviation, 1.0)
        return np.asarray((y - self._offset) / self._scale)

    def _shaped(self, found: Floats) -> Floats:
        return found[:, 0] if self._pieces[0][1].ndim == 1 else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
