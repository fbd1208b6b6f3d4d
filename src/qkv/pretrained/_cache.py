"""Where models lie: one folder a model, complete or absent, each with a manifest that says where it came from.

``QKV_CACHE`` names the cache; otherwise it is ``$XDG_CACHE_HOME/qkv`` or ``~/.cache/qkv``::

    models/minilm/      config.json, tokenizer.json, model.safetensors, qkv.json (the manifest)
    archives/           packages that were downloaded and verified, but not yet converted
    embeddings/3f0a.../ texts that were embedded, in a folder for each model's weights
    locks/              one lock a model, so that two processes never fetch the same one at once
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ._catalogue import Entry, catalogue, entry

MANIFEST = "qkv.json"
FORMAT = 1  # raise it when a conversion changes: older folders are then fetched and converted again
PARTIAL = ".partial-"


def cache_folder() -> Path:
    """The folder that holds everything qkv keeps for the user; it need not exist yet."""
    if chosen := os.environ.get("QKV_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "qkv"


def model_folder(name: str) -> Path:
    """Where the model of this name lies once it is there."""
    return cache_folder() / "models" / name


def archive_file(model: Entry) -> Path:
    """Where the model's package lies between download and conversion."""
    return cache_folder() / "archives" / model.archive


def installed() -> tuple[str, ...]:
    """The names of the catalogue's models that are there and whole."""
    return tuple(model.name for model in catalogue() if is_installed(model.name))


def is_installed(name: str) -> bool:
    """Whether this model's manifest is readable and every file has the size that the manifest gives it."""
    folder = model_folder(name)
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("format") != FORMAT:
        return False
    files: dict[str, dict[str, Any]] = manifest["files"]
    return all(_size(folder / file) == facts["size"] for file, facts in files.items())


def disk_usage(name: str | None = None) -> int:
    """Bytes that this model takes in the cache, downloads not yet converted included; of all of them without a name."""
    if name is None:
        return sum(disk_usage(model.name) for model in catalogue())
    return sum(sum(sizes_under(path)) for path in _paths_of(entry(name)))


def remove(name: str) -> int:
    """Delete this model from the cache, with whatever an interrupted ``get`` left behind; returns the bytes freed.

    Raises ``ModelError`` for a name that is not in the catalogue, or when there is nothing to delete.
    """
    model = entry(name)
    with locked(name):
        paths = _paths_of(model)
        if not paths:
            raise ModelError(f"model {name!r} is not in the cache ({cache_folder()}): there is nothing to remove.")
        freed = disk_usage(name)
        for path in paths:
            discard(path)
    return freed


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a converted model; None where it is missing or unreadable."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else None


def write_manifest(folder: Path, model: Entry, conversion: str) -> None:
    """Say in ``qkv.json`` where the files of ``folder`` came from, and what they are."""
    files = {
        str(path.relative_to(folder).as_posix()): {"size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "format": FORMAT,
        "name": model.name,
        "title": model.title,
        "licence": model.licence,
        "source": model.source,
        "package": {"name": model.package, "version": model.version, "file": model.archive, "sha256": model.sha256},
        "conversion": conversion,
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold this model's lock; the operating system frees it when the process ends, however it ends."""
    from filelock import FileLock

    folder = cache_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        lock.acquire()
    except OSError as error:
        raise ModelError(
            f"the cache {cache_folder()} cannot be written ({error.strerror}): set QKV_CACHE to a folder that can."
        ) from error
    try:
        yield
    finally:
        lock.release()


def discard(path: Path) -> None:
    """Delete a file or a folder, out of sight first: nobody ever meets a model of which half is gone."""
    if path.is_dir() and PARTIAL not in path.name:
        path = path.replace(path.with_name(f".{path.name}{PARTIAL}{os.getpid()}"))
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def leftovers(model: Entry) -> list[Path]:
    """Temporary folders of this model: of a ``get`` that is running, or, under the lock, of one that was killed."""
    pattern = f".{model.name}{PARTIAL}*"
    return [path for room in ("models", "archives") for path in (cache_folder() / room).glob(pattern)]


def sizes_under(path: Path) -> list[int]:
    """Sizes of the files in a folder (or of the one file), in which another process may be at work meanwhile."""
    files = [path] if path.is_file() else [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return [size for file in files if (size := _size(file)) >= 0]


def _paths_of(model: Entry) -> list[Path]:
    candidates = (model_folder(model.name), archive_file(model))
    return [path for path in candidates if path.exists()] + leftovers(model)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # missing, or gone since it was listed
        return -1
