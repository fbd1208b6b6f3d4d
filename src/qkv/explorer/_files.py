"""The built page as a table of files, read once: a request can name only what is in the table.

Serving from a table instead of from a folder leaves nothing to traverse: no path is ever joined, no link followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qkv.errors import ServerError

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True)
class File:
    """One file of the page."""

    content: bytes
    media_type: str


FOLDER = Path(__file__).parent / "page"


@cache
def page_files() -> dict[str, File]:
    """Return the built page, ``{"index.html": ..., "assets/qkv.js": ...}``.

    Raises:
        ServerError: the page was not built (a checkout in which ``npm run build`` never ran).
    """
    found = {
        path.relative_to(FOLDER).as_posix(): File(
            path.read_bytes(), MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        )
        for path in FOLDER.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    if "index.html" not in found:
        raise ServerError(
            "the explorer's page is not built in this checkout: run `npm ci && npm run build` in web/ (wheels bring it)"
        )
    return found
