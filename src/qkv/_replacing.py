"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import ArgumentError


def check_place(path: Path) -> None:
    """Raise ``ArgumentError`` where no file can stand; to be asked before the work whose result goes there."""
    if not path.parent.is_dir():
        raise ArgumentError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise ArgumentError(f"{path} cannot be written: it is a folder")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside ``path`` to write; on leaving it takes the place of ``path`` in one step.

    Whatever cuts the writing off (an error, Ctrl-C) leaves ``path`` as it was and nothing beside it.

    Raises:
        ArgumentError: there is no such folder, or no file can be written there.
    """
    check_place(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide it from its other readers
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
