"""`NadarayaWatsonClassifier`: classes by attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from ..errors import ArgumentError
from ._answer import Floats
from ._base import Base
from ._pieces import Rows, is_scattered, pieces_of
from ._summary import Moments


class NadarayaWatsonClassifier(ClassifierMixin, Base):
    r"""Kernel regression of class membership: each class's share of the weight around a query.

    .. math:: P(c \mid x) = \frac{\sum_{j: y_j = c} w_j K(u_j)}{\sum_j w_j K(u_j)}

    Parameters, kernels and far queries are those of `NadarayaWatson`; "loo" minimises the leave-one-out squared error
    of the probabilities (Brier's score).

    Attributes:
        classes_: the classes, sorted.
        bandwidth_: ``(n_features,)``.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    >>> from sklearn.datasets import load_iris
    >>> from qkv.regression import NadarayaWatsonClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = NadarayaWatsonClassifier(bandwidth=0.3).fit(X, y)
    >>> model.predict_proba(X[[0, 70]]).round(2)
    array([[1.  , 0.  , 0.  ],
           [0.  , 0.51, 0.49]])
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NadarayaWatsonClassifier:
        """Take the training data, and choose the bandwidth.

        Args:
            X, sample_weight: as in `NadarayaWatson.fit`, Dask and Parquet included.
            y: ``(n,)`` labels of any kind; with pieces as in `NadarayaWatson.fit`.
        """
        if is_scattered(X):
            pieces = pieces_of(X, y, sample_weight)
            if not pieces.flat:
                raise ArgumentError("y: expected one label for each row, got several columns")
            self._take(pieces)
            self.classes_ = pieces.labels()
            check_classification_targets(self.classes_)
        else:
            rows = self._read_labels(X, y, sample_weight, first=True)
            self.classes_ = np.unique(rows.y)
            if not rows.weight.any():
                raise ArgumentError("sample_weight: expected at least one positive weight, got zeros alone")
            self._data, self._fitted = [rows], None
        self._settle()
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> NadarayaWatsonClassifier:
        """Take more training data, in memory; the bandwidth is chosen at the next question, from all that came.

        Args:
            X, y, sample_weight: as in `fit`.
            classes: all labels that will ever come; needed in the first call, as everywhere in scikit-learn.
        """
        came = self._more(X)
        first = not came
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        known = np.unique(classes) if first else self.classes_
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"`classes={classes}` is not the same as on the first call to partial_fit: {known}")
        rows = self._read_labels(X, y, sample_weight, first=first)
        unseen = np.setdiff1d(rows.y, known)
        if len(unseen):
            raise ValueError(f"y contains labels that are not among the classes {known}: {unseen}")
        self.classes_ = known
        self._data, self._fitted = [*came, rows], None
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Each class's share of the weight: ``(N, classes)``, in the order of `classes_`; rows add up to 1."""
        share = np.maximum(self._ask(X).mean, 0)
        return np.asarray(share / share.sum(1, keepdims=True))

    def predict(self, X: Any) -> Any:
        """The class with the largest share; the first of several alike: ``(N,)``."""
        found = self.predict_proba(X).argmax(1)
        return self.classes_[found]

    def _read_labels(self, X: Any, y: Any, sample_weight: Any, *, first: bool) -> Rows:
        rows = self._read(X, y, sample_weight, first=first)
        check_classification_targets(rows.y)
        return rows

    def _columns(self) -> Callable[[Any], Floats]:
        return partial(as_places, self.classes_)

    def _encoding(self, targets: Moments) -> Callable[[Floats], Floats]:
        return partial(as_members, len(self.classes_))


def as_places(classes: Any, labels: Any) -> Floats:
    """Each label's place among the classes, ``(n, 1)``."""
    return np.asarray(np.searchsorted(classes, labels)[:, None], np.float64)


def as_members(classes: int, places: Floats) -> Floats:
    """One column a class, 1 where a row is of it."""
    return np.asarray(places == np.arange(classes), np.float64)
