"""A Debian package, read without installing or unpacking it: an ``ar`` archive that holds a compressed tar archive."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ...errors import ArgumentError

_MAGIC = b"!<arch>\n"
_HEADER = 60


def members(package: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file in a .deb, in their order; links are passed over.

    Raises:
        ArgumentError: where it is no .deb, is cut off, or is compressed in a way that Python cannot read.
    """
    with package.open("rb") as file:
        name, data = _data_archive(file, package)
        try:
            with tarfile.open(fileobj=data, mode="r:*") as archive:
                for entry in archive:
                    content = archive.extractfile(entry) if entry.isreg() else None
                    if content is not None:
                        yield entry.name.removeprefix("./"), content.read()
        except (tarfile.TarError, EOFError) as error:
            raise ArgumentError(
                f"package: {package.name} cannot be read ({name}: {error}); is it whole? Zstandard needs a Python "
                f"whose tarfile reads it: take the package of Debian rather than Ubuntu"
            ) from error


def _data_archive(file: IO[bytes], package: Path) -> tuple[str, IO[bytes]]:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ArgumentError(f"package: expected a .deb file, got {package.name}, which does not begin like one")
    while len(header := file.read(_HEADER)) == _HEADER:
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return name, io.BytesIO(file.read(size))
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ArgumentError(f"package: {package.name} holds no data; it is cut off, or no package")
