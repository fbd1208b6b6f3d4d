"""What torch.compile leaves as it is: calls that end in the kernel, which no graph of torch operations holds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def left_to_python(function: Callable[P, R]) -> Callable[P, R]:
    """Have torch.compile break its graph around calls of a function, which then run as without it.

    Tracing them would follow NumPy's views of tensors into the binding. Where one graph is wanted,
    `qkv.nn.functional.scaled_dot_product_attention` is an operator that graphs hold.
    """

    @wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> R:
        # Without it nothing is compiled. Whether a trace is going on says too little: a frame that it gave up is run as
        # it is, and frames called from there would be traced again.
        if "torch._dynamo" in sys.modules:
            from ._uncompiled import uncompiled

            found: R = uncompiled(function, *args, **options)
            return found
        return function(*args, **options)

    return called
