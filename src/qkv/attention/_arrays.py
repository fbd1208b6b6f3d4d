"""Arrays of three frameworks seen through NumPy, without a copy and without importing one for another's sake.

Three things are promised: torch and JAX are touched only when one of their arrays arrives; what arrives is seen, not
copied, wherever its strides allow; what is returned belongs to the framework that the caller used.
"""

from __future__ import annotations

import math
import operator
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsFloat, TypeAlias, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from .._typing import Array
from ..errors import ArgumentError
from ._jax import handed, is_jax, read
from ._plan import DType

if TYPE_CHECKING:
    import torch

Framework: TypeAlias = Literal["numpy", "torch", "jax"]
FLOATS: tuple[str, ...] = get_args(DType)


def is_tensor(array: object) -> TypeGuard[torch.Tensor]:
    """Whether this is a torch tensor; never imports torch, since without torch there are none."""
    module = sys.modules.get("torch")
    return module is not None and isinstance(array, module.Tensor)


def is_array(array: object) -> bool:
    return isinstance(array, np.ndarray) or is_tensor(array) or is_jax(array)


class View(NamedTuple):
    """An array as NumPy sees it.

    `data` shares the caller's memory, in its own strides; `dtype` is the name of the caller's dtype, and where that is
    bfloat16 `data` is uint16, because NumPy alone has no such type. `native` is the caller's own dtype object. Of a
    tensor that the kernel does not read, `data` is the tensor itself, without its history.
    """

    data: Any
    dtype: str
    framework: Framework
    native: Any
    device: str = "cpu"

    @property
    def owner(self) -> str:
        """Framework and device: what is computed with has one owner."""
        return self.framework if self.device == "cpu" else f"{self.framework} on {self.device}"

    @property
    def by_torch(self) -> bool:
        """Whether torch computes with it, and not our kernel."""
        return is_tensor(self.data)


def kernel_reads(tensor: torch.Tensor) -> bool:
    """Whether our kernel computes with a tensor; torch's operations do with all others."""
    return tensor.device.type == "cpu"


def view(array: object, name: str, *, gradients: bool = False, devices: bool = False) -> View:
    """See `array` through NumPy; with `devices` also JAX arrays, and tensors that lie elsewhere as they are.

    Raises:
        ArgumentError: for what is neither a NumPy array nor a dense CPU tensor, and for tensors that require gradients
            unless the caller says with `gradients` that it sees to them.
    """
    if isinstance(array, np.ndarray):
        if isinstance(array, np.ma.MaskedArray):
            raise ArgumentError(
                f"{name}: expected a plain array, got a numpy.ma.MaskedArray, whose mask would be lost; "
                "pass its .data and say what may be attended with mask="
            )
        data = np.asarray(array)  # a subclass (numpy.matrix) may have axes of its own mind
        dtype = _name_of(data.dtype)
        return View(data.view(np.uint16) if dtype == "bfloat16" else data, dtype, "numpy", data.dtype)
    if is_tensor(array):
        if not gradients:
            refuse_gradients(array, name)
        return _view_of_tensor(array, name, devices=devices)
    if is_jax(array):
        if not devices:
            raise ArgumentError(
                f"{name}: expected a NumPy array or a torch tensor, got a JAX array, which attend, observe and weights "
                "alone take; convert it with numpy.asarray(...)"
            )
        data = read(array, name)
        return View(data.view(np.uint16) if data.dtype.name == "bfloat16" else data, data.dtype.name, "jax", data.dtype)
    hint = "; convert it with numpy.asarray(..., dtype=numpy.float32)" if isinstance(array, list | tuple) else ""
    raise ArgumentError(f"{name}: expected a NumPy array or a torch tensor, got {type(array).__name__}{hint}")


@lru_cache(maxsize=64)
def _name_of(dtype: np.dtype[Any]) -> str:
    return str(dtype.name)  # NumPy puts it together anew each time


def _view_of_tensor(tensor: torch.Tensor, name: str, *, devices: bool) -> View:
    import torch

    refuse_tangents(tensor, name)
    elsewhere = devices and not kernel_reads(tensor)
    if tensor.device.type != "cpu" and not elsewhere:
        raise ArgumentError(f"{name}: expected a tensor on the CPU, got one on {tensor.device}; move it with .cpu()")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        what, how = f"layout {tensor.layout}", "convert it with .to_dense()"
        if tensor.is_quantized:
            what, how = "a quantized one", "convert it with .dequantize()"
        elif tensor.is_nested:
            what, how = "a nested one", "pad it with torch.nested.to_padded_tensor and mask with qkv.Padding(lengths)"
        raise ArgumentError(f"{name}: expected a dense tensor, got {what}; {how}")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if elsewhere:
        return View(tensor.detach(), dtype, "torch", tensor.dtype, str(tensor.device))
    try:
        if dtype == "bfloat16":
            return View(tensor.detach().view(torch.int16).numpy().view(np.uint16), dtype, "torch", tensor.dtype)
        return View(tensor.numpy(force=True), dtype, "torch", tensor.dtype)
    except TypeError:  # 8-bit floats, which NumPy does not know
        raise ArgumentError(
            f"{name}: expected float16, bfloat16, float32 or float64, got {dtype}; convert it, to float32 say"
        ) from None
    except RuntimeError:
        raise ArgumentError(
            f"{name}: expected a tensor whose memory can be read, got one inside a transform of torch (vmap, grad, "
            "compile) or without memory; call qkv outside of it, leading axes are batch axes"
        ) from None


def refuse_gradients(array: object, name: str) -> None:
    """Raise for a tensor that requires gradients: it would be cut off from what it was computed from."""
    if is_tensor(array) and array.requires_grad and sys.modules["torch"].is_grad_enabled():
        raise ArgumentError(
            f"{name}: no gradients come from here, and this tensor requires them (qkv.attend and qkv.observe give "
            "them to query, key, value, bias and sink); pass it with .detach(), or call under torch.no_grad()"
        )


def refuse_tangents(tensor: torch.Tensor, name: str) -> None:
    """Raise for a tensor of forward-mode differentiation: what comes from here would have tangents of 0."""
    if sys.modules["torch"].autograd.forward_ad.unpack_dual(tensor).tangent is not None:
        raise ArgumentError(
            f"{name}: no forward-mode derivatives (torch.func.jvp, jacfwd) come from here; "
            "use those of reverse mode: torch.func.vjp, jacrev"
        )


def learned(array: object) -> torch.Tensor | None:
    """The tensor itself where it requires gradients: it is then read anew at each use, since learning changes it."""
    return array if is_tensor(array) and array.requires_grad else None


def host(data: Any) -> NDArray[Any]:
    """A view's data where NumPy can compute with it."""
    if not is_tensor(data):
        array: NDArray[Any] = data
        return array
    return data.detach().cpu().numpy()


def usable(data: Any) -> Any:
    """The array itself where a backend can walk it (last axis contiguous, aligned, native), else a copy."""
    if is_tensor(data):
        return data
    size = data.dtype.itemsize
    if data.flags.c_contiguous and data.flags.aligned and data.dtype.isnative:
        return data
    contiguous = data.ndim == 0 or data.shape[-1] <= 1 or data.strides[-1] == size
    walkable = contiguous and data.flags.aligned and data.dtype.isnative and not any(s % size for s in data.strides)
    return data if walkable else np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))


def real(dtype: str) -> Literal["float32", "float64"]:
    """What is computed in, and the dtype of statistics: float32, and float64 for float64."""
    return "float64" if dtype == "float64" else "float32"


def widen(data: Any, dtype: str) -> Any:
    """A view's data as float32, or float64 if that is what it is; without a copy where it is so already."""
    if is_tensor(data):
        return data.to(getattr(sys.modules["torch"], real(dtype)))
    if dtype == "bfloat16":
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data.astype(real(dtype), copy=False)


def narrow(values: NDArray[Any], into: Any, dtype: str) -> None:
    """Write float32 or float64 values into an array of `dtype`, rounding to nearest, ties to even."""
    if is_tensor(into):
        into.copy_(sys.modules["torch"].from_numpy(values))
        return
    if dtype != "bfloat16" or into.dtype != np.uint16:
        into[...] = values
        return
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    into[...] = np.where(np.isnan(values), 0x7FC0, rounded)


def empty(shape: tuple[int, ...], dtype: str, like: View) -> tuple[Array, Any]:
    """A new array in the framework of `like`, and the view through which it is filled."""
    if like.framework == "torch":
        import torch

        tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)
        if like.by_torch:
            return tensor, tensor
        return tensor, tensor.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else tensor.numpy()
    array = np.empty(shape, dtype=like.native if dtype == "bfloat16" else dtype)
    return array, array.view(np.uint16) if dtype == "bfloat16" else array


def give(values: NDArray[Any], dtype: str, like: View) -> Array:
    """Computed values as a new array of `dtype`, in the framework of `like`."""
    array, data = empty(values.shape, dtype, like)
    narrow(values, data, dtype)
    return handed(array) if like.framework == "jax" else array


def fitted(values: Any, dtype: str) -> Any:
    """Real numbers as float32 or float64, where what is finite stays finite: only -inf itself means masked."""
    if is_tensor(values):
        torch = sys.modules["torch"]
        wanted = getattr(torch, dtype)
        if torch.finfo(values.dtype).max > torch.finfo(wanted).max:
            largest = torch.finfo(wanted).max
            values = values.clamp(-largest, largest).where(~values.isinf(), values)
        return values.to(wanted)
    if values.dtype == dtype:
        return values
    largest = np.finfo(dtype).max
    bounded: NDArray[Any] = np.where(np.isinf(values), values, np.clip(values, -largest, largest)).astype(dtype)
    return bounded


def numbers(values: object, name: str) -> NDArray[np.float64]:
    """A parameter of a bias (slopes, a table): any real numbers, lists too, as float64."""
    if is_array(values):
        seen = view(_near(values, name), name, gradients=True)
        if seen.dtype == "bfloat16":
            wide: NDArray[np.float64] = widen(seen.data, "bfloat16").astype(np.float64)
            return wide
        values = seen.data
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "iuf":
            raise ValueError
        return array.astype(np.float64)
    except (ValueError, TypeError):
        raise ArgumentError(f"{name}: expected real numbers, got {describe(values)}") from None


def _near(values: object, name: str) -> object:
    """A parameter where NumPy can read it."""
    return values.cpu() if is_tensor(values) else read(values, name) if is_jax(values) else values


def integers(values: object, name: str) -> NDArray[np.int64]:
    """A parameter of a mask (lengths, document ids): any integers, lists too, as int64."""
    try:
        values = _near(values, name)
        array = view(values, name).data if is_array(values) else np.asarray(values)
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError
        return array.astype(np.int64)
    except ArgumentError:
        raise
    except (ValueError, TypeError):
        raise ArgumentError(f"{name}: expected integers, got {describe(values)}") from None


def check_count(value: object, name: str, least: int = 0) -> int:
    """An integer argument, NumPy's integers too; True and False are none."""
    if not isinstance(value, bool | np.bool_):
        try:
            count = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            count = least - 1
        if count >= least:
            return count
    raise ArgumentError(f"{name}: expected an integer of at least {least}, got {describe(value)}")


def check_number(value: SupportsFloat, name: str, expected: str) -> float:
    """A finite number, also as an array or tensor of no axes."""
    refuse_gradients(value, name)
    try:
        if isinstance(value, bool | np.bool_ | str | bytes):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ArgumentError(f"{name}: expected {expected}, got {describe(value)}") from None
    if not math.isfinite(number):
        raise ArgumentError(f"{name}: expected {expected}, got {value}")
    return number


def describe(value: object) -> str:
    """What came, for an error message: a dtype and a shape, or a short repr."""
    if is_array(value):
        dtype = str(value.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
        return f"{dtype} of shape {tuple(value.shape)}"  # type: ignore[attr-defined]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
