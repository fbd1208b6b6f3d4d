"""Attention as regression: Nadaraya-Watson estimators in scikit-learn's manner, on the kernel of `qkv.attend`."""

from .._optional import imports_for as _imports_for

with _imports_for("qkv.regression", extra="regression"):
    import scipy as _scipy  # noqa: F401
    import sklearn as _sklearn  # noqa: F401

from ._base import Attention as Attention
from ._classifier import NadarayaWatsonClassifier as NadarayaWatsonClassifier
from ._lookup import Lookup as Lookup
from ._lookup import lookup as lookup
from ._regressor import NadarayaWatson as NadarayaWatson
