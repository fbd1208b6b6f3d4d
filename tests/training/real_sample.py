"""Real pairs out of every set of the shipped recipe's data, and packages made of them that the recipe reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import made_packages as make

from qkv.training.data import Recipe
from qkv.training.data._recipe import REGIONS, Source

FOLDER = Path(__file__).parent / "sample"
PAIRS = tuple(sorted(file.stem for file in FOLDER.glob("*.jsonl")))


class Row(NamedTuple):
    """A pair, the set that it is in, and the source that it came from."""

    set: str
    origin: str
    text: str
    translation: str


def sample(pair: str) -> list[Row]:
    lines = map(json.loads, (FOLDER / f"{pair}.jsonl").read_text(encoding="utf-8").splitlines())
    return [Row(*line.values()) for line in lines]


def write_packages(recipe: Recipe, language: str, rows: list[Row], folder: Path) -> None:
    """All packages that the recipe asks for, with these rows in them."""
    verses: list[Row] = []
    for source in recipe.sources:
        if language not in source.languages:
            continue
        own = [row for row in rows if row.origin == source.name]
        if source.reader == "verses":
            verses += own
            options = source.options
        else:
            _WRITERS[source.reader](source, language, own, folder)
    if verses:
        # The wheel of verses gives each verse a book of its own, and one of these is held out.
        book = next(source.options["book"] for source in recipe.sources if "book" in source.options)
        (held,) = (row for row in verses if row.set == "test-book")
        verses.remove(held)
        order = [*verses[: book - 1], held, *verses[book - 1 :]]
        editions = options["editions"]
        texts = {editions["en"]: [row.text for row in order], editions[language]: [row.translation for row in order]}
        make.write_verses(folder, texts)


def _gettext(source: Source, language: str, rows: list[Row], folder: Path) -> None:
    names = source.packages_for(language)
    place = make.locale_path("zh_CN" if language == "zh" else language)
    for number, name in enumerate(names):
        messages = {row.text: row.translation for row in rows[number :: len(names)]}
        make.write_deb(folder, name, {place: make.catalogue(messages, folder)})


def _office_help(source: Source, language: str, rows: list[Row], folder: Path) -> None:
    place = "usr/share/libreoffice/help/{}/text/main.html"
    region = {"zh-cn": "zh-CN"}.get(REGIONS.get(language, language), language)
    for name, column, where in zip(
        source.packages_for(language), ("text", "translation"), ("en-US", region), strict=True
    ):
        page = make.help_page({str(number): getattr(row, column) for number, row in enumerate(rows)})
        make.write_deb(folder, name, {place.format(where): page})


def _manual(source: Source, language: str, rows: list[Row], folder: Path) -> None:
    half = len(rows) // 2
    for number, name in enumerate(source.packages_for(language)):
        own = rows[:half] if number % 2 else rows[half:]
        column, place = ("text", "") if number < 2 else ("translation", f"{language}/")
        text = "".join(f".PP\n{getattr(row, column)}\n" for row in own)
        page = make.manual(f".TH PAGE 1\n.SH NAME\n{text}")
        make.write_deb(folder, name, {f"usr/share/man/{place}man1/page{number % 2}.1.gz": page})


_WRITERS = {"gettext": _gettext, "office_help": _office_help, "manual": _manual}
