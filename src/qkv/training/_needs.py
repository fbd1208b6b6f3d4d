"""Optional dependencies of training: imported where they are used; where one is missing, its extra is named."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import DependencyError


def needs(module: str) -> Any:
    """The module, imported.

    Raises:
        DependencyError: where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(f"{module} is needed here and is not installed: pip install 'qkv[train]'") from error
