"""The words in which a call is described to ``qkv info --explain``, and which path it would take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError

_COUNTS = {"batch": 1, "heads": 8, "key_heads": None, "queries": 1024, "keys": None, "head_dim": 64, "value_dim": None}
_STATISTICS = {
    "entropy": True,
    "max_score": True,
    "top_k": 8,
    "received": True,
    "block_map": "auto",
    "distance": True,
}
_CHOICES = {
    "dtype": ("float32", "bfloat16", "float16", "float64"),
    "mask": ("none", "causal", "array"),
    "bias": ("none", "alibi", "array"),
    "device": ("cpu", "cuda"),
}
WORDS = (*_COUNTS, *_CHOICES, "window", "softcap", "statistics")


def explain_call(words: list[str]) -> dict[str, str]:
    """Which path a call described by ``name=value`` words would take; nothing is computed.

    Raises:
        ArgumentError: for a word that is not understood.
    """
    import qkv
    from qkv.attention import explained

    given = dict(_pair(word) for word in words)
    count = {name: _count(name, given.get(name), default) for name, default in _COUNTS.items()}
    heads, queries = count["heads"] or 1, count["queries"] or 1
    key_heads, keys = count["key_heads"] or heads, count["keys"] or queries
    head_dim = count["head_dim"] or 1
    chosen = {name: _one_of(name, given.get(name, options[0]), options) for name, options in _CHOICES.items()}
    array = _maker(chosen["dtype"], chosen["device"])
    masks: list[Any] = [qkv.Causal()] if chosen["mask"] == "causal" else []
    if chosen["mask"] == "array":
        masks.append(array((queries, keys), "bool"))
    if "window" in given:
        masks.append(qkv.Window(_count("window", given["window"], None), 0))
    options: dict[str, Any] = {"mask": None if not masks else masks[0] if len(masks) == 1 else masks[0] & masks[1]}
    if chosen["bias"] != "none":
        alibi = chosen["bias"] == "alibi"
        options["bias"] = qkv.ALiBi.geometric(heads) if alibi else array((heads, queries, keys), "float32")
    if "softcap" in given:
        options["softcap"] = float(_count("softcap", given["softcap"], None) or 1)
    for name in filter(None, given.get("statistics", "").split(",")):
        _one_of("statistics", name, tuple(_STATISTICS))
        options[name] = _STATISTICS[name]
    shape = (count["batch"] or 1, key_heads, keys)
    told = explained(
        array((count["batch"] or 1, heads, queries, head_dim)),
        array((*shape, head_dim)),
        array((*shape, count["value_dim"] or head_dim)),
        **options,
    )
    return told if chosen["device"] == "cpu" else {**told, "kernel": f"PyTorch on {chosen['device']}"}


def _maker(dtype: str, device: str) -> Callable[..., Any]:
    """Makes arrays of which nothing but the shape matters: their memory is never touched, or is not there."""
    if dtype == "bfloat16" or device != "cpu":
        import torch

        where = "cpu" if device == "cpu" else "meta"
        return lambda shape, kind=dtype: torch.empty(shape, dtype=getattr(torch, kind), device=where)
    import numpy as np

    return lambda shape, kind=dtype: np.empty(shape, kind)


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or name not in WORDS:
        raise ArgumentError(f"explain: expected words like queries=1 or mask=causal ({', '.join(WORDS)}), got {word!r}")
    return name, value


def _count(name: str, text: str | None, default: int | None) -> int | None:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or (int(text) == 0 and name != "window"):
        raise ArgumentError(f"{name}: expected a whole number from 1 on, got {text!r}")
    return int(text)


def _one_of(name: str, text: str, options: tuple[str, ...]) -> str:
    if text not in options:
        raise ArgumentError(f"{name}: expected {', '.join(options)}, got {text!r}")
    return text
