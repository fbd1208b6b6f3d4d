"""Manual pages: sections of a page and its translation that have the same macros in the same order."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._deb import members
from .._pair import Pair

_PAGE = re.compile(r"share/man/(?:([a-z]{2})/)?man\d/([^/]+)\.gz$")
_FONT = re.compile(r"\\f(?:\[[^\]]*\]|\([A-Z]{2}|.)|\\s[-+]?\d|\\[&/,|^%:]|\\c$")
_CHARACTERS = {"\\-": "-", "\\ ": " ", "\\~": " ", "\\(em": "—", "\\(en": "–", "\\(aq": "'", "\\(dq": '"', "\\e": "\\"}
_INLINE = re.compile(r"^\.(?:[BI]|[BIR]{2}|SM|SB)\b\s*")


def read_manual(packages: Sequence[Path], language: str, options: Mapping[str, Any]) -> Iterator[Pair]:
    """The paragraphs of sections that are built alike in English and in the other language."""
    english: dict[str, str] = {}
    translated: dict[str, str] = {}
    for package in packages:
        for path, content in members(package):
            found = _PAGE.search(path)
            if found and found[1] in (None, language):
                page = gzip.decompress(content).decode("utf-8", "replace")
                (translated if found[1] else english).setdefault(found[2], page)
    for name, page in english.items():
        if name in translated:
            yield from _aligned(page, translated[name], name)


def _aligned(page: str, other: str, name: str) -> Iterator[Pair]:
    # A translation may end with a section of its own, on its translators.
    for section, translation in zip(_sections(page), _sections(other), strict=False):
        if [macro for macro, _ in section] == [macro for macro, _ in translation]:
            for (_, text), (_, translated) in zip(section, translation, strict=True):
                yield Pair(text, translated, name)


def _sections(page: str) -> list[list[tuple[str, str]]]:
    """For each section its paragraphs: the macro that opens one, and its text."""
    sections: list[list[tuple[str, str]]] = [[]]
    literal = False
    tagged = False  # the line after .TP is a paragraph's tag, not its text
    for line in page.splitlines():
        if line.startswith(('.\\"', "'\\\"")):
            continue
        macro = line.split()[0] if line.startswith(".") and line.strip(". ") else ""
        literal = (literal or macro in (".EX", ".nf")) and macro not in (".EE", ".fi")
        if macro == ".SH":
            sections.append([])
        elif literal or macro in (".EE", ".fi"):
            continue
        elif macro and not _INLINE.match(line):
            sections[-1].append((macro, ""))
            tagged = macro == ".TP"
        elif tagged:
            sections[-1].append(("", ""))
            tagged = False
        elif sections[-1]:
            opened, text = sections[-1].pop()
            sections[-1].append((opened, f"{text} {_plain(_words(line))}".strip()))
        else:
            sections[-1].append(("", _plain(_words(line))))
    return sections


def _words(line: str) -> str:
    """The text of a line; of a line in a font, whose arguments are joined where fonts alternate."""
    found = _INLINE.match(line)
    if not found:
        return line
    arguments = re.findall(r'"([^"]*)"|(\S+)', line[found.end() :])
    joined = "" if found[0].strip() in (".BR", ".BI", ".IR", ".IB", ".RB", ".RI") else " "
    return joined.join(quoted or bare for quoted, bare in arguments)


def _plain(text: str) -> str:
    text = _FONT.sub("", text)
    for escape, character in _CHARACTERS.items():
        text = text.replace(escape, character)
    return text
