"""The user's own parallel text as a recipe, so that one builder serves it too."""

from __future__ import annotations

from pathlib import Path

from ...errors import ArgumentError
from ._recipe import Cleaning, Recipe, Source
from .readers._table import FORMATS

OWN = Cleaning(shortest=1, longest=200, ratio=6.0, letters=0.3)
"""Whoever brings a text has chosen it: only what cannot be a sentence and its translation is dropped."""


def table_recipe(file: Path, language: str) -> Recipe:
    """A recipe for a .tsv, .jsonl or .parquet file of two columns: a text, and its translation.

    One in twenty sentences goes to validation and one in twenty to test, as such files are small.

    Raises:
        ArgumentError: where there is no such file, or it is of another kind.
    """
    if not file.is_file():
        raise ArgumentError(
            f"data: expected a recipe's name or a file of two columns, got {file}, which does not exist"
        )
    if file.suffix not in FORMATS:
        raise ArgumentError(f"data: expected a file that ends in {', '.join(FORMATS)}, got {file.name}")
    source = Source(file.stem, "table", "the owner's", (str(file.absolute()),), (language,))
    about = f"{file.name}: two columns"
    return Recipe(name=file.stem, about=about, sources=(source,), cleaning=OWN, validation=50, test=50)
