"""How each kind of package is read: files in, raw pairs out.

A reader takes the source's packages, in the recipe's order, and the target language, and yields pairs as they lie
there; cleaning, splitting into sentences and dropping copies come after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._pair import Pair
from ._gettext import read_gettext
from ._manual import read_manual
from ._office_help import read_office_help
from ._table import read_table
from ._verses import read_verses

Reader = Callable[[Sequence[Path], str, Mapping[str, Any]], Iterator[Pair]]

READERS: dict[str, Reader] = {
    "gettext": read_gettext,
    "manual": read_manual,
    "office_help": read_office_help,
    "table": read_table,
    "verses": read_verses,
}
