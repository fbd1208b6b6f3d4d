"""Texts to look up, with what is known of each: Debian's packages, or lines and tables of one's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DependencyError
from ._answer import Floats


@dataclass
class Collection:
    """What is searched, in order.

    Attributes:
        names: what an entry is called; "" where the text says all.
        texts: what an entry is about: what is embedded.
        numbers: a value of each, by the name of the value; NaN where it is not known.
        classes: a label of each, likewise.
    """

    names: list[str]
    texts: list[str]
    numbers: dict[str, Floats]
    classes: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.texts)

    def only(self, kept: NDArray[np.bool_]) -> Collection:
        """Some of the entries."""
        rows = np.flatnonzero(kept)
        return Collection(
            [self.names[row] for row in rows],
            [self.texts[row] for row in rows],
            {name: values[rows] for name, values in self.numbers.items()},
            {name: labels[rows] for name, labels in self.classes.items()},
        )


def debian_packages(section: str | None = None) -> Collection:
    """The packages that apt knows on this machine: name and short description, size when installed in MB, section.

    Args:
        section: only those of this section ("games"), whatever the area of the archive.

    Raises:
        DependencyError: this machine has no apt.
        ArgumentError: apt knows no packages, or none of the section.
    """
    if shutil.which("apt-cache") is None:
        raise DependencyError(
            "packages are told by apt-cache, which this machine does not have: run this on Debian or Ubuntu, or search "
            "texts of your own with --file"
        )
    command = ["apt-cache", "dumpavail"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace") as process:
        assert process.stdout is not None
        found = read_packages(process.stdout)
    if not len(found):
        raise ArgumentError("packages: apt knows none on this machine: run apt-get update, or give texts with --file")
    if section is None:
        return found
    sections = found.classes["section"]
    if section not in sections:
        raise ArgumentError(f"section: expected one of {', '.join(sorted(set(sections)))}, got {section!r}")
    return found.only(sections == section)


def read_packages(lines: Iterable[str]) -> Collection:
    """The packages of a list as apt prints and keeps it: fields a line, an empty line between packages."""
    found: dict[str, tuple[str, float, str]] = {}
    fields: dict[str, str] = {}
    for line in chain(lines, [""]):
        if line.strip():
            name, colon, value = line.partition(":")
            if colon and not name[:1].isspace():
                fields.setdefault(name, value.strip())
            continue
        about = fields.get("Description", fields.get("Description-en", ""))
        if about and "Package" in fields:
            size = float(fields["Installed-Size"]) / 1024 if fields.get("Installed-Size", "").isdigit() else np.nan
            section = fields.get("Section", "unknown").rsplit("/", 1)[-1]  # contrib/games, universe/games
            found.setdefault(fields["Package"], (about, size, section))  # the first of several versions
        fields = {}
    return Collection(
        list(found),
        [f"{name}: {about}" for name, (about, _, _) in found.items()],
        {"size, MB": np.array([size for _, size, _ in found.values()], np.float64)},
        {"section": np.array([section for _, _, section in found.values()], object)},
    )


def read_texts(file: Path, column: str | None = None, value: str | None = None) -> Collection:
    """Texts of one's own: a line each of a text file, or a column of a table.

    Args:
        file: .csv, .tsv, .jsonl or .parquet is a table, all else text in UTF-8.
        column: of a table, the one that holds the texts; it may be left out where there is only one.
        value: of a table, a column of numbers or labels.

    Raises:
        ArgumentError: the file or the column is not there, cannot be read, or is empty.
    """
    if not any(suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet") for suffix in file.suffixes[-2:]):
        return _lines(file, column or value)
    from pandas.api import types

    from ._table import read_table

    frame = read_table(file)
    if column is None and len(frame.columns) == 1:
        column = frame.columns[0]
    for name, option in ((column, "column"), (value, "value")):
        if (name is None and option == "column") or (name is not None and name not in frame.columns):
            raise ArgumentError(f"{option}: expected one of {', '.join(frame.columns)}, got {name}")
    frame = frame[frame[column].notna()]
    texts = [str(text) for text in frame[column]]
    if not texts:
        raise ArgumentError(f"file: {file} has no texts in {column}")
    found = Collection([""] * len(texts), texts, {}, {})
    if value is not None and types.is_numeric_dtype(frame[value].dtype):
        found.numbers[value] = np.asarray(frame[value].to_numpy(np.float64, na_value=np.nan))
    elif value is not None:
        found.classes[value] = np.asarray(frame[value].astype(str), object)
    return found


def _lines(file: Path, asked: str | None) -> Collection:
    if asked is not None:
        raise ArgumentError(f"column: {file} is a text of one entry a line and has no columns; a table ends in .csv")
    try:
        texts = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ArgumentError(f"file: {file} cannot be read: {why}") from error
    if not texts:
        raise ArgumentError(f"file: {file} is empty")
    return Collection([""] * len(texts), texts, {}, {})
