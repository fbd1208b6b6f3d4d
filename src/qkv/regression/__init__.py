"""Attention as regression: Nadaraya-Watson estimators in scikit-learn's manner, on the kernel of `qkv.attend`."""

try:
    import scipy as _scipy  # noqa: F401
    import sklearn as _sklearn  # noqa: F401
except ModuleNotFoundError as error:
    from ..errors import DependencyError

    raise DependencyError(f"qkv.regression needs {error.name}: pip install 'qkv[regression]'") from error

from ._base import Attention as Attention
from ._classifier import NadarayaWatsonClassifier as NadarayaWatsonClassifier
from ._lookup import Lookup as Lookup
from ._lookup import lookup as lookup
from ._regressor import NadarayaWatson as NadarayaWatson
