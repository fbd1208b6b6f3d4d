"""From a recipe to a data set: packages in, Parquet files and a manifest out; a build that was cut off goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import ArgumentError
from .._corpus import digest_of, written
from .._needs import needs
from ._clean import clean, is_kept, sentences
from ._packages import Package, Packages
from ._pair import Pair
from ._recipe import Cleaning, Recipe, Source
from ._split import key_of, set_of
from .readers import READERS

MANIFEST = "manifest.json"
FORMAT = 1
"""Raise it when reading or cleaning changes: parts that are kept from before are then read again."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """A data set on disk.

    Attributes:
        folder: of ``train.parquet``, ``validation.parquet``, ``test.parquet``, one ``test-NAME.parquet`` for each
            out-of-domain set, and ``manifest.json``. Columns: source, target, origin, document.
        counts: pairs by set.
        warnings: packages that are not the files that the last build here read.
    """

    folder: Path
    counts: dict[str, int]
    warnings: tuple[str, ...] = ()


def build(
    recipe: Recipe,
    languages: tuple[str, str],
    folder: Path,
    packages: Packages,
    *,
    only_shippable: bool = True,
    report: Report = lambda line: None,
) -> Built:
    """Read, clean and split everything that a recipe names for one pair of languages.

    A sentence's set follows from its source text alone (`set_of`), copies are dropped by that text without case and
    punctuation, and what an out-of-domain set holds is in no other: no source sentence is in two sets, whichever
    language is the source. The first source that has a sentence keeps it.

    Args:
        languages: of the columns source and target, ``("en", "fr")``; the recipe's own texts are English first.
        folder: for the data set; the parts that are done are kept in it, so that a build that was cut off goes on.
        packages: where they come from.
        only_shippable: leave out sources without a stated licence, on which nothing that is given away may be trained.
        report: called with a line as each source is done.

    Raises:
        ArgumentError: for a pair that no source has, a package that there is not, or when nothing is left.
        DependencyError: where polib or pyarrow is not installed, or neither apt nor a folder brings the packages.
    """
    spoken, swapped = _spoken(recipe, languages)
    foreign = spoken[1]
    sources = [
        source for source in recipe.sources if foreign in source.languages and (source.shipped or not only_shippable)
    ]
    sources.sort(key=lambda source: source.held_out is None)  # what is held out first: nobody else may have it
    folder.mkdir(parents=True, exist_ok=True)
    known = _manifest(folder)
    seen: set[bytes] = set()
    sets: dict[str, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    facts: list[dict[str, Any]] = []
    warnings: list[str] = []
    for source in sources:
        found = packages.bring(source.packages_for(foreign))
        warnings += _changes(found, known)
        kept = 0
        for text, translation, document in _part(source, found, spoken, recipe.cleaning, folder):
            here, there = (translation, text) if swapped else (text, translation)
            key = key_of(here)
            if key in seen:
                continue
            seen.add(key)
            kept += 1
            name = f"test-{source.held_out}" if source.held_out else set_of(key, recipe)
            sets.setdefault(name, []).append(
                {"source": here, "target": there, "origin": source.name, "document": document}
            )
        facts.append(_facts(source, found, kept))
        report(f"{source.name}: {kept:,} pairs")
    if not sets["train"]:
        raise ArgumentError(f"data: nothing is left of {recipe.name} for {'-'.join(languages)} after cleaning")
    for name, rows in sets.items():
        _write(folder / f"{name}.parquet", rows, languages)
    counts = {name: len(rows) for name, rows in sets.items()}
    manifest = {
        "format": FORMAT,
        "recipe": recipe.name,
        "languages": list(languages),
        "cleaning": asdict(recipe.cleaning),
        "counts": counts,
        "sources": facts,
        "sha256": {name: _sha256(folder / f"{name}.parquet") for name in sets},
    }
    if digest := _kept_digest(folder, manifest):
        manifest["digest"] = digest
    _replace(folder / MANIFEST, written(manifest))
    return Built(folder, counts, tuple(dict.fromkeys(warnings)))


def _spoken(recipe: Recipe, languages: tuple[str, str]) -> tuple[tuple[str, str], bool]:
    """The languages of the recipe's texts and of their translations, and whether they are asked for the other way."""
    there = recipe.languages()
    own = all(source.reader == "table" for source in recipe.sources)  # whose texts may be in any language
    for spoken in (languages, languages[::-1]):
        text, translation = spoken
        if translation in there and text not in there and (own or text == "en"):
            return (text, translation), spoken != languages
    pairs = ", ".join(f"en-{language}" for language in there)
    raise ArgumentError(f"pair: expected one of {pairs}, or one of them reversed, got {'-'.join(languages)}")


def _part(
    source: Source, found: list[Package], spoken: tuple[str, str], rules: Cleaning, folder: Path
) -> Iterator[Pair]:
    """The clean pairs of one source: those kept from an earlier build that read the same files, or read now."""
    files = [package.sha256 for package in found]
    # What decides the text, and nothing else: a licence that is corrected makes no source be read again.
    identity = [FORMAT, source.reader, source.options, spoken, asdict(rules), files]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    part = folder / "parts" / f"{source.name}-{digest}.parquet"
    if not part.exists():
        part.parent.mkdir(exist_ok=True)
        raw = READERS[source.reader]([package.path for package in found], spoken[1], source.options)
        _write(part, [pair._asdict() for pair in _cleaned(raw, source, rules, spoken)], spoken)
    for row in needs("pyarrow.parquet").read_table(part).to_pylist():
        yield Pair(**row)


def _cleaned(raw: Iterator[Pair], source: Source, rules: Cleaning, spoken: tuple[str, str]) -> Iterator[Pair]:
    programs = source.reader != "table"  # in a text of one's own, _ and & are letters
    for pair in raw:
        text, translation = (clean(side, accelerators=programs) for side in pair[:2])
        whole = Pair(text, translation, pair.document)
        for piece in sentences(whole):
            if is_kept(piece, rules, spoken):
                yield piece


def _facts(source: Source, found: list[Package], kept: int) -> dict[str, Any]:
    packages = [{"name": each.name, "version": each.version, "sha256": each.sha256} for each in found]
    return {
        "name": source.name,
        "licence": source.licence,
        "shipped": source.shipped,
        "pairs": kept,
        "packages": packages,
    }


def _manifest(folder: Path) -> dict[str, str]:
    """The sha256 of each package that the last build here read, by name."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {each["name"]: each["sha256"] for source in manifest["sources"] for each in source["packages"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _kept_digest(folder: Path, manifest: dict[str, Any]) -> str | None:
    """The digest of the data set that lies here, where the new one has the same text but would get another.

    So a run goes on after a build that only corrected what is said of the text, such as a licence.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        before, digest = json.loads(content), digest_of(content)
        same = all(before[name] == manifest[name] for name in ("languages", "counts", "sha256"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if same and digest != digest_of(written(manifest)) else None


def _changes(found: list[Package], known: dict[str, str]) -> Iterator[str]:
    for package in found:
        if known.get(package.name, package.sha256) != package.sha256:
            yield (
                f"{package.name} {package.version} is not the file that the last build read (sha256 "
                f"{package.sha256[:12]}, then {known[package.name][:12]}): this data set differs from it"
            )


def _write(file: Path, rows: list[dict[str, str]], languages: tuple[str, str]) -> None:
    arrow, parquet = needs("pyarrow"), needs("pyarrow.parquet")
    names = list(rows[0]) if rows else ["source", "target", "origin", "document"]
    schema = arrow.schema([(name, arrow.string()) for name in names], metadata={"languages": "-".join(languages)})
    temporary = file.with_name(f".{file.name}.partial")
    parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")
    temporary.replace(file)


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.partial")
    temporary.write_bytes(content)
    temporary.replace(file)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
