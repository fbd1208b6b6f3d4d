"""JAX arrays on the CPU, read where they lie and given back; JAX is touched only when one of its arrays arrives.

JAX's transformations (jit, grad, vmap) see no values, and our kernel sees nothing else: inside of one is an error.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError


def is_jax(array: object) -> bool:
    """Whether this is a JAX array; never imports JAX, since without it there are none."""
    kind = getattr(sys.modules.get("jax"), "Array", None)
    return kind is not None and isinstance(array, kind)


def read(array: Any, name: str) -> NDArray[Any]:
    """The same memory as a NumPy array that cannot be written to.

    Raises:
        ArgumentError: for an array that is being traced, or lies elsewhere.
    """
    jax = sys.modules["jax"]
    if isinstance(array, jax.core.Tracer):
        raise ArgumentError(
            f"{name}: expected a JAX array with values, got one that is being traced (jit, grad, vmap); qkv has no "
            "gradients and no compilation for JAX: call it outside, leading axes are batch axes"
        )
    devices = sorted(array.devices(), key=str)
    if len(devices) != 1 or devices[0].platform != "cpu":
        raise ArgumentError(
            f"{name}: expected a JAX array on the CPU, got one on {', '.join(map(str, devices))}; "
            "move it with jax.device_put(x, jax.devices('cpu')[0])"
        )
    if array.dtype.name == "bfloat16":  # of which NumPy's DLPack knows nothing
        return np.asarray(array)
    return np.from_dlpack(array)


def handed(value: Any) -> Any:
    """A NumPy array, or a tuple of them, for a caller who uses JAX; its 64 bits are JAX's to allow."""
    if isinstance(value, tuple):
        return type(value)(*map(handed, value))
    return sys.modules["jax"].numpy.asarray(value)
