"""Attention over arrays: computed, observed, recomputed window by window, and taken apart step by step."""

from . import _explain
from . import reference as reference
from ._attend import attend as attend
from ._attend import observe as observe
from ._biases import ALiBi as ALiBi
from ._biases import ArrayBias as ArrayBias
from ._biases import Bias as Bias
from ._biases import KeyBias as KeyBias
from ._biases import RelativeBias as RelativeBias
from ._compute import explained as explained
from ._compute import observed as observed
from ._mask import ArrayMask as ArrayMask
from ._mask import Mask as Mask
from ._masks import Causal as Causal
from ._masks import Documents as Documents
from ._masks import ExceptSelf as ExceptSelf
from ._masks import Padding as Padding
from ._masks import Window as Window
from ._observation import Observation as Observation
from ._observation import TopK as TopK
from ._partial import Partial as Partial
from ._partial import merge as merge
from ._steps import steps as steps
from ._steps import steps_from_inputs as steps_from_inputs
from ._weights import weights as weights
from .reference import Steps as Steps

_explain.log_calls()
