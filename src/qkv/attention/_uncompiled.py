"""The way out of a graph that torch.compile records; imported once it may be recording, for it needs torch."""

from __future__ import annotations

from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def uncompiled(function: Any, *args: Any, **options: Any) -> Any:
    """The call, with nothing in it recorded."""
    return function(*args, **options)
