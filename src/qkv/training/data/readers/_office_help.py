"""LibreOffice's handbook: one HTML file a page and language; paragraphs share their id across languages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from .._deb import members
from .._pair import Pair

_PAGE = re.compile(r"libreoffice/help/[^/]+/(text/.+\.html)$")


def read_office_help(packages: Sequence[Path], language: str, options: Mapping[str, Any]) -> Iterator[Pair]:
    """The paragraphs that both the English package, which comes first, and the other one have."""
    english, translated = (dict(_pages(package)) for package in packages)
    for path, page in english.items():
        if path not in translated:
            continue
        there = _paragraphs(translated[path])
        for mark, text in _paragraphs(page).items():
            if mark in there:
                yield Pair(text, there[mark], path)


def _pages(package: Path) -> Iterator[tuple[str, str]]:
    for path, content in members(package):
        if found := _PAGE.search(path):
            yield found[1], content.decode("utf-8", "replace")


def _paragraphs(page: str) -> dict[str, str]:
    parser = _Paragraphs()
    parser.feed(page)
    return parser.found


class _Paragraphs(HTMLParser):
    """Collects the text of each paragraph and heading that has an id."""

    _KINDS = ("p", "h1", "h2", "h3", "h4")

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._open: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in self._KINDS:
            self._open = dict(attributes).get("id")
            if self._open:
                self.found[self._open] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in self._KINDS:
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found[self._open] += data
