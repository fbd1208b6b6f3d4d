"""What a data set is made of: a TOML file that names packages, how each is read, and what is kept.

``{lang}`` in a package's name stands for the target language, ``{region}`` for the way LibreOffice's packages spell it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ...errors import ArgumentError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REGIONS = {"zh": "zh-cn"}
"""How package names spell a language, where it is not its code."""


@dataclass(frozen=True)
class Source:
    """One kind of text, and where it comes from.

    Attributes:
        name: of the source, ``"applications"``; the column ``origin`` of the data set holds it.
        reader: which reader understands its files, a name in ``readers``.
        licence: of the text.
        shipped: whether weights trained on it may go out. What has no stated licence may not.
        packages: Debian packages, or wheels as ``"name==version"``.
        languages: the target languages that it has.
        held_out: None, or the name of the out-of-domain test set that all of it makes up.
        options: for the reader.
    """

    name: str
    reader: str
    licence: str
    packages: tuple[str, ...]
    languages: tuple[str, ...]
    shipped: bool = True
    held_out: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def packages_for(self, language: str) -> tuple[str, ...]:
        """The packages to bring for one target language."""
        return tuple(name.format(lang=language, region=REGIONS.get(language, language)) for name in self.packages)


@dataclass(frozen=True)
class Cleaning:
    """What a pair must be to be kept; see ``clean``.

    Attributes:
        shortest, longest: words on each side (Chinese: two characters count as one word).
        ratio: of the longer to the shorter side, in words.
        letters: the least share of letters among the characters that are not spaces.
    """

    shortest: int = 3
    longest: int = 40
    ratio: float = 2.5
    letters: float = 0.7


@dataclass(frozen=True)
class Recipe:
    """A data set: its sources, its cleaning, and how many in a thousand are kept apart for validation and test."""

    name: str
    about: str
    sources: tuple[Source, ...]
    cleaning: Cleaning = Cleaning()
    validation: int = 8
    test: int = 8

    def languages(self) -> tuple[str, ...]:
        """Target languages that some source has."""
        return tuple(sorted({language for source in self.sources for language in source.languages}))


def load_recipe(name: str | Path) -> Recipe:
    """The recipe of this name, ``"translation"``, or of this file.

    Raises:
        ArgumentError: for a name that is unknown, or a file that is no recipe.

    >>> load_recipe("translation").languages()
    ('de', 'fr', 'zh')
    """
    folder = resources.files(__package__) / "recipes"
    if isinstance(name, Path):
        text, place = _read(name), str(name)
    else:
        known = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
        if name not in known:
            raise ArgumentError(f"recipe: expected one of {', '.join(known)}, or a .toml file, got {name!r}")
        text, place = (folder / f"{name}.toml").read_text(encoding="utf-8"), name
    try:
        return _recipe(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, TypeError, KeyError) as error:
        raise ArgumentError(f"recipe: {place} is not a recipe: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ArgumentError(f"recipe: {path} cannot be read: {error}") from error


def _recipe(table: dict[str, Any]) -> Recipe:
    sources = tuple(
        Source(**{**entry, "packages": tuple(entry["packages"]), "languages": tuple(entry["languages"])})
        for entry in table.pop("source")
    )
    return Recipe(sources=sources, cleaning=Cleaning(**table.pop("cleaning", {})), **table)
