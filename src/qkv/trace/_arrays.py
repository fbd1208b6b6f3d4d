"""Which arrays the file of a layer may hold, and how their shapes hang together."""

from __future__ import annotations

from collections.abc import Mapping

from ._safetensors import Entry

AXES = {
    "lse": "H N",
    "query": "H N D",
    "key": "G M D",
    "value": "G M V",
    "sink": "H",
    "entropy": "H N",
    "max_score": "H N",
    "distance": "H N",
    "received": "H M",
    "block_map": "H rows columns",
    "top_k_indices": "H N k",
    "top_k_weights": "H N k",
    "mask_keys": "M",
    "mask_array": "1|H N M",
    "bias_table": "1|H 2R+1",
    "bias_array": "1|H N M",
}
"""H captured heads, G key heads, N queries, M keys, head_dim D, value_dim V; one letter is one size everywhere."""

STRUCTURES = ("mask_keys", "mask_array", "bias_table", "bias_array")
"""Those that belong to the mask and the bias, not to the record itself."""

_FLOATS = ("F16", "BF16", "F32", "F64")
_DTYPES = {"mask_keys": ("BOOL",), "mask_array": ("BOOL",), "top_k_indices": ("I32", "I64")}
_LONGEST_AXIS = 1 << 31


def check(entries: Mapping[str, Entry], heads: int) -> tuple[int, int]:
    """Raise ValueError where arrays do not make a layer together; returns N and M."""
    sizes = {"H": heads}
    for name, (dtype, shape, *_) in entries.items():
        if name not in AXES:
            raise ValueError(f"an array named {name!r} is none that a layer has")
        if dtype not in _DTYPES.get(name, _FLOATS):
            raise ValueError(f"{name} has dtype {dtype}, expected {' or '.join(_DTYPES.get(name, _FLOATS))}")
        axes = AXES[name].split()
        if len(axes) != len(shape) or not all(_fits(a, n, sizes, heads) for a, n in zip(axes, shape, strict=True)):
            raise ValueError(f"{name} has shape {shape}, expected ({', '.join(axes)}) with {sizes}")
    stored = [name for name in ("query", "key", "value") if name in entries]
    missing = [name for name in ("lse", "query", "key", "value") if name not in entries]
    if missing and (stored or "lse" in missing or "received" not in entries):
        raise ValueError(f"{', '.join(missing)} of the layer cannot be missing")
    if ("top_k_indices" in entries) != ("top_k_weights" in entries):
        raise ValueError("top_k_indices and top_k_weights belong together")
    if len({entries[name].dtype for name in stored}) > 1:
        raise ValueError("query, key and value have different dtypes")
    if "G" in sizes and (sizes["G"] < 1 or heads % sizes["G"]):
        raise ValueError(f"{sizes['G']} key heads do not divide {heads} query heads")
    if sizes.get("D", 1) < 1:
        raise ValueError("head_dim is 0")
    return sizes["N"], sizes["M"]


def _fits(axis: str, size: int, sizes: dict[str, int], heads: int) -> bool:
    """Whether an axis has the size that it has in the other arrays; the first array says which."""
    if not 0 <= size < _LONGEST_AXIS:
        return False
    if axis == "1|H":
        return size in (1, heads)
    if axis == "2R+1":
        return size % 2 == 1
    return sizes.setdefault(axis, size) == size
