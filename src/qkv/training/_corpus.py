"""Parallel text to train on, as `qkv.training.data.build` leaves it: a folder of Parquet files and a manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ._needs import needs

Texts = list[tuple[str, str]]
"""Sentences and their translations."""


@dataclass(frozen=True)
class Corpus:
    """A built data set.

    Attributes:
        folder: where it lies.
        languages: of the source and the target, ``("en", "fr")``.
        sets: pairs by set: ``train``, ``validation``, ``test``, and out-of-domain sets such as ``test-book``.
        digest: changes when any of its files does; by it a run knows its data.
    """

    folder: Path
    languages: tuple[str, str]
    sets: dict[str, int]
    digest: str

    def pairs(self, name: str) -> Texts:
        """The pairs of one set.

        Raises:
            ArgumentError: where there is no such set, or its file cannot be read.
        """
        if name not in self.sets:
            raise ArgumentError(
                f"set: expected one of {', '.join(self.sets)}, got {name!r}; {self.folder} has no other"
            )
        try:
            table = needs("pyarrow.parquet").read_table(self.folder / f"{name}.parquet", columns=["source", "target"])
        except (OSError, ValueError, KeyError) as error:
            raise ArgumentError(f"data: {self.folder / name}.parquet cannot be read: {error}") from error
        return list(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))


def open_corpus(folder: Path) -> Corpus:
    r"""The data set in this folder.

    Args:
        folder: that `qkv.training.data.build` made.

    Returns:
        What it holds; the text itself is read by `Corpus.pairs`.

    Raises:
        ArgumentError: where there is none, or it has nothing to train on.

    >>> import tempfile
    >>> from qkv.training.data import Packages, build, table_recipe
    >>> with tempfile.TemporaryDirectory() as place:
    ...     table = Path(place) / "two.tsv"
    ...     _ = table.write_text("Good morning.\tBonjour.\nSee you soon.\tÀ bientôt.\n", encoding="utf-8")
    ...     built = build(table_recipe(table, "fr"), ("en", "fr"), Path(place) / "two", Packages(Path(place)))
    ...     open_corpus(built.folder).pairs("train")
    [('Good morning.', 'Bonjour.'), ('See you soon.', 'À bientôt.')]
    """
    manifest = folder / "manifest.json"
    try:
        content = manifest.read_bytes()
        facts = json.loads(content)
        source, target = facts["languages"]
        sets = {str(name): int(count) for name, count in facts["counts"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"data: expected a folder that 'qkv data build' made, got {folder} ({manifest.name}: {error})"
        ) from error
    if not sets.get("train"):
        raise ArgumentError(f"data: {folder} has no pair to train on: its set 'train' is empty")
    return Corpus(folder, (source, target), sets, digest_of(content))


def digest_of(manifest: bytes) -> str:
    """The digest of the data set with this ``manifest.json``.

    A data set that was built again to the same text keeps the digest that it had. Whether a source may train what is
    given away is no part of it: earlier manifests, whose runs are to go on, do not say so.
    """
    facts = json.loads(manifest)
    if "digest" in facts:
        return str(facts["digest"])
    sources = facts.get("sources", [])
    if any("shipped" in source for source in sources):
        facts["sources"] = [{name: each[name] for name in each if name != "shipped"} for each in sources]
        manifest = written(facts)
    return hashlib.sha256(manifest).hexdigest()


def written(manifest: dict[str, Any]) -> bytes:
    """A manifest as the content of its file."""
    return json.dumps(manifest, indent=2, ensure_ascii=False).encode()
