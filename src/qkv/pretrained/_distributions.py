"""Models that are installed as distributions of their own, as `qkv models pack` makes them.

Such a distribution names its package in the entry point group ``qkv.models``; nothing of it is imported.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

GROUP = "qkv.models"
FOLDER = "model"
"""In the package: a model in Hugging Face's layout."""


def distributed() -> dict[str, Path]:
    """The folders of installed models, by name; a translator is ``translator-en-fr``."""
    found = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        spec = find_spec(point.value) if "." not in point.value else None
        for place in (spec and spec.submodule_search_locations) or ():
            if (Path(place) / FOLDER / "config.json").is_file():
                found[point.name] = Path(place) / FOLDER
    return found


def distributed_folder(name: str) -> Path | None:
    """The folder of the model that is meant; ``translator`` alone means the first of them. None where there is none."""
    found = distributed()
    if name == "translator":
        return next((folder for each, folder in found.items() if each.startswith("translator-")), None)
    return found.get(name)
