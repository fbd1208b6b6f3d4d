"""Optional dependencies: imported where they are used, and asked for by the extra that brings them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import DependencyError


@contextmanager
def imports_for(what: str, extra: str) -> Iterator[None]:
    """Import in this block what `what` needs.

    Raises:
        DependencyError: a module is not installed; the message names it, and the extra of qkv that has it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise DependencyError(f"{what} needs {error.name}: pip install 'qkv[{extra}]'") from error
