"""Models that are installed as distributions of their own, as `qkv models pack` makes them.

Such a distribution names its package in the entry point group ``qkv.models``; nothing of it is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

GROUP = "qkv.models"
FOLDER = "model"
"""In the package: a model in Hugging Face's layout."""
STATED = "License-Expression"


@dataclass(frozen=True)
class Distributed:
    """A model that pip installed."""

    folder: Path
    """It lies here, in Hugging Face's layout."""
    licence: str
    """Of the weights, as the distribution states it (SPDX); empty where it states none."""


def distributed() -> dict[str, Distributed]:
    """The installed models by name; a translator is ``translator-en-fr``."""
    found = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        spec = find_spec(point.value) if "." not in point.value else None
        licence = point.dist.metadata[STATED] if point.dist and STATED in point.dist.metadata else ""
        for place in (spec and spec.submodule_search_locations) or ():
            if (Path(place) / FOLDER / "config.json").is_file():
                found[point.name] = Distributed(Path(place) / FOLDER, licence)
    return found


def distributed_folder(name: str) -> Path | None:
    """The folder of the model that is meant; ``translator`` alone means the first of them. None where there is none."""
    found = distributed()
    if name == "translator":
        return next((each.folder for key, each in found.items() if key.startswith("translator-")), None)
    return found[name].folder if name in found else None
