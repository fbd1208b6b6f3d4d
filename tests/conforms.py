"""Whether an answer is what its TypedDict says: every key, no other, the right types, and only finite numbers."""

from __future__ import annotations

import math
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from qkv.views import contract


def check(value: Any, declared: Any, where: str = "answer") -> None:
    """Raise AssertionError where ``value`` is not of the ``declared`` type."""
    if is_typeddict(declared):
        hints = get_type_hints(declared, vars(contract))
        assert type(value) is dict, f"{where} is {type(value).__name__}"
        assert value.keys() == hints.keys(), f"{where} has {sorted(value)}, the contract says {sorted(hints)}"
        for name, hint in hints.items():
            check(value[name], hint, f"{where}.{name}")
    elif get_origin(declared) is list:
        assert type(value) is list, f"{where} is {type(value).__name__}"
        for at, item in enumerate(value):
            check(item, get_args(declared)[0], f"{where}[{at}]")
    elif get_origin(declared) is dict:
        assert type(value) is dict, f"{where} is {type(value).__name__}"
        for key, item in value.items():
            check(key, get_args(declared)[0], f"{where} key")
            check(item, get_args(declared)[1], f"{where}[{key!r}]")
    elif get_origin(declared) is Literal:
        assert value in get_args(declared), f"{where} is {value!r}"
    elif get_origin(declared) in (Union, types.UnionType):
        assert value is None or len(get_args(declared)) == 2, where
        if value is not None:
            check(value, next(one for one in get_args(declared) if one is not type(None)), where)
    else:
        # bool is an int to isinstance, and a NumPy float is a float: the types must be the plain ones.
        assert type(value) is declared, f"{where} is {type(value).__name__} {value!r}, the contract says {declared}"
        if declared is float:
            assert math.isfinite(value), f"{where} is {value}"
