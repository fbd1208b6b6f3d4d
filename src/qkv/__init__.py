"""qkv: attention you can look into.

The array API is here at once; importing it loads NumPy and the kernel, nothing else. What needs more (`capture`,
`open_trace`, the rooms) is loaded when it is first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .attention import ALiBi as ALiBi
from .attention import ArrayMask as ArrayMask
from .attention import Bias as Bias
from .attention import Causal as Causal
from .attention import Documents as Documents
from .attention import ExceptSelf as ExceptSelf
from .attention import KeyBias as KeyBias
from .attention import Mask as Mask
from .attention import Observation as Observation
from .attention import Padding as Padding
from .attention import Partial as Partial
from .attention import RelativeBias as RelativeBias
from .attention import Steps as Steps
from .attention import TopK as TopK
from .attention import Window as Window
from .attention import attend as attend
from .attention import merge as merge
from .attention import observe as observe
from .attention import steps as steps
from .attention import steps_from_inputs as steps_from_inputs
from .attention import weights as weights
from .errors import ArgumentError as ArgumentError
from .errors import CaptureError as CaptureError
from .errors import DependencyError as DependencyError
from .errors import KernelError as KernelError
from .errors import ModelError as ModelError
from .errors import QkvError as QkvError
from .errors import ServerError as ServerError
from .errors import TraceError as TraceError
from .errors import TrainingError as TrainingError

if TYPE_CHECKING:
    from .adapters import register as register
    from .recording import capture as capture
    from .trace import open_trace as open_trace

__version__ = "0.1.0"

_LATER = {"capture": "recording", "register": "adapters", "open_trace": "trace"}
_ROOMS = (
    "adapters",
    "errors",
    "explorer",
    "models",
    "nn",
    "pretrained",
    "recording",
    "similarity",
    "trace",
    "training",
    "views",
)


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'qkv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_ROOMS} - {"_LATER", "_ROOMS", "importlib", "TYPE_CHECKING", "Any"})
