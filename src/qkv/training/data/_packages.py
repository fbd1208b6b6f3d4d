"""Where packages come from: Debian's through apt or out of a folder, wheels through pip; kept, known by sha256."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import ArgumentError, DependencyError


@dataclass(frozen=True)
class Package:
    """A package's file, and what the manifest says of it."""

    name: str
    version: str
    sha256: str
    path: Path


class Packages:
    """Brings packages into a folder and keeps them there.

    Args:
        kept: where downloads are kept; a package that lies there is not fetched again.
        folder: .deb files that somebody else brought, used instead of apt.
    """

    def __init__(self, kept: Path, folder: Path | None = None) -> None:
        self._kept, self._folder = kept, folder
        if folder is not None and not folder.is_dir():
            raise ArgumentError(f"packages: expected a folder of .deb files, got {folder}, which is not one")

    def bring(self, names: Iterable[str]) -> list[Package]:
        """The packages of these names, fetched where they are missing.

        Raises:
            DependencyError: where there is neither apt nor a folder that holds the package.
            ArgumentError: for a package that there is not.
        """
        return [self._one(name) for name in names]

    def _one(self, name: str) -> Package:
        if Path(name).is_absolute():  # a file of the user's own
            return _package(Path(name).name, Path(name))
        return self._wheel(name) if "==" in name else self._deb(name)

    def _deb(self, name: str) -> Package:
        for place in (self._folder, self._kept):
            if place is not None and (files := sorted(place.glob(f"{name}_*.deb"))):
                return _package(name, files[-1])
        if self._folder is not None:
            raise ArgumentError(f"packages: expected {name}_*.deb in {self._folder}, which has none")
        if shutil.which("apt-get") is None:
            raise DependencyError(
                f"package {name} comes from Debian through apt, which this machine does not have: download the .deb "
                f"files from a Debian mirror into a folder, and name it with --packages DIR"
            )
        return _package(name, self._fetched(["apt-get", "download", "-q", name], name))

    def _wheel(self, requirement: str) -> Package:
        name, _, version = requirement.partition("==")
        stem = f"{name.replace('-', '_')}-{version}-"
        for place in (self._folder, self._kept):
            if place is not None and (files := sorted(place.glob(f"{stem}*.whl"))):
                return _package(name, files[-1])
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", requirement]
        return _package(name, self._fetched(pip, requirement))

    def _fetched(self, command: list[str], name: str) -> Path:
        """What the command downloads into its working folder; seen by others only when it is whole."""
        self._kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._kept, prefix=".partial-") as folder:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            files = [file for file in Path(folder).iterdir() if file.suffix in (".deb", ".whl")]
            if done.returncode or len(files) != 1:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
                raise ArgumentError(
                    f"package {name} could not be fetched ({last[0]}); is the index up to date (apt-get update), or "
                    f"has the package another name in this release? --packages DIR takes files that are there"
                )
            return files[0].replace(self._kept / files[0].name)


def _package(name: str, path: Path) -> Package:
    match path.suffix:
        case ".whl":
            version = path.name.split("-")[1]
        case ".deb":
            version = path.name.split("_")[1].replace("%3a", ":")
        case _:
            version = "file"
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return Package(name, version, digest.hexdigest(), path)
