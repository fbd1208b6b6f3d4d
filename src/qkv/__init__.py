"""qkv: attention you can look into."""

from __future__ import annotations

from .errors import ArgumentError as ArgumentError
from .errors import CaptureError as CaptureError
from .errors import DependencyError as DependencyError
from .errors import KernelError as KernelError
from .errors import ModelError as ModelError
from .errors import QkvError as QkvError
from .errors import ServerError as ServerError
from .errors import TraceError as TraceError

__version__ = "0.1.0"
