"""Programs' messages: gettext catalogues (``.mo``), whose keys are the English text."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._needs import needs
from .._deb import members
from .._pair import Pair

_LOCALES = {"zh": "zh_CN"}


def read_gettext(packages: Sequence[Path], language: str, options: Mapping[str, Any]) -> Iterator[Pair]:
    """Message and translation from every catalogue of the language, its first plural form too."""
    polib = needs("polib")
    locale = _LOCALES.get(language, language)
    catalogue = re.compile(rf"(?:^|/){locale}(?:\.UTF-8)?/LC_MESSAGES/([^/]+)\.mo$")
    for package in packages:
        for path, content in members(package):
            if not (found := catalogue.search(path)):
                continue
            with tempfile.NamedTemporaryFile(suffix=".mo") as file:
                file.write(content)
                file.flush()
                entries = polib.mofile(file.name)
            document = f"{package.name.partition('_')[0]}/{found[1]}"
            for entry in entries:
                yield Pair(entry.msgid, entry.msgstr or entry.msgstr_plural.get(0, ""), document)
