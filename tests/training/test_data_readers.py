"""Readers: from small packages of each kind to the pairs that lie in them."""

from __future__ import annotations

from pathlib import Path

import made_packages as make
import pytest

from qkv.errors import ArgumentError
from qkv.training.data._deb import members
from qkv.training.data.readers import READERS


def test_deb_gives_back_its_files(tmp_path: Path):
    package = make.write_deb(tmp_path, "tool", {"usr/a": b"first", "usr/b": b"second"})
    assert dict(members(package)) == {"usr/a": b"first", "usr/b": b"second"}


@pytest.mark.parametrize("cut", [3, 30, 300])
def test_deb_that_is_cut_off_is_an_error_that_names_it(tmp_path: Path, cut: int):
    package = make.write_deb(tmp_path, "tool", {"usr/a": bytes(range(256)) * 40})
    package.write_bytes(package.read_bytes()[:cut])
    with pytest.raises(ArgumentError, match=r"tool_1\.0-1_all\.deb"):
        list(members(package))


def test_gettext_reads_the_catalogues_of_one_language(tmp_path: Path):
    french = make.catalogue({"Open the file": "Ouvrir le fichier"}, tmp_path)
    chinese = make.catalogue({"Open the file": "打开文件"}, tmp_path)
    files = {make.locale_path("fr"): french, make.locale_path("zh_CN"): chinese, make.locale_path("zh_TW"): french}
    package = make.write_deb(tmp_path, "tool", files)
    read = READERS["gettext"]
    assert list(read([package], "fr", {})) == [("Open the file", "Ouvrir le fichier", "tool/tool")]
    assert list(read([package], "zh", {})) == [("Open the file", "打开文件", "tool/tool")]
    assert list(read([package], "de", {})) == []


def test_office_help_pairs_paragraphs_by_their_id(tmp_path: Path):
    place = "usr/share/libreoffice/help/{}/text/swriter/main.html"
    english = make.help_page({"a": "Save <span>your</span> work.", "b": "Only in English."})
    french = make.help_page({"c": "Seulement en français.", "a": "Enregistrez votre travail."})
    packages = [
        make.write_deb(tmp_path, "help-en", {place.format("en-US"): english}),
        make.write_deb(tmp_path, "help-fr", {place.format("fr"): french}),
    ]
    pairs = list(READERS["office_help"](packages, "fr", {}))
    assert pairs == [("Save your work.", "Enregistrez votre travail.", "text/swriter/main.html")]


ENGLISH = r""".TH CP 1
.SH NAME
cp \- copy files
.SH DESCRIPTION
.PP
Copy \fISOURCE\fP to
.BR DEST (1)
now.
.TP
\fB\-f\fP
force it
.EX
code stays out
.EE
.SH BUGS
None.
"""
FRENCH = r""".TH CP 1
.SH NOM
cp \- copier des fichiers
.SH DESCRIPTION
.PP
Copier \fISOURCE\fP vers
.BR DEST (1)
maintenant.
.TP
\fB\-f\fP
forcer
.EX
le code reste dehors
.EE
.SH BOGUES
.PP
Aucune.
.SH TRADUCTION
Personne.
"""


def test_manual_pairs_sections_that_are_built_alike(tmp_path: Path):
    packages = [
        make.write_deb(tmp_path, "manpages", {"usr/share/man/man1/cp.1.gz": make.manual(ENGLISH)}),
        make.write_deb(tmp_path, "manpages-fr", {"usr/share/man/fr/man1/cp.1.gz": make.manual(FRENCH)}),
    ]
    texts = {(text, translation) for text, translation, _ in READERS["manual"](packages, "fr", {})}
    assert ("cp - copy files", "cp - copier des fichiers") in texts
    assert ("Copy SOURCE to DEST(1) now.", "Copier SOURCE vers DEST(1) maintenant.") in texts
    assert ("force it", "forcer") in texts
    assert not any("None" in text or "code" in text for text, _ in texts)  # another structure; no language


def test_verses_pair_editions_and_can_be_one_book(tmp_path: Path):
    editions = {"4": ["God`s light.", "The end."], "l": ["(1:2) La lumière.", "La fin."]}
    wheel = make.write_verses(tmp_path, editions)
    options = {"editions": {"en": "4", "fr": "l"}}
    read = READERS["verses"]
    assert list(read([wheel], "fr", options)) == [
        ("God's light.", "La lumière.", "book 1"),
        ("The end.", "La fin.", "book 2"),
    ]
    assert list(read([wheel], "fr", options | {"book": 2})) == [("The end.", "La fin.", "book 2")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.tsv", "A cat\tUn chat\n\nTwo dogs\tDeux chiens\textra\n"),
        ("own.jsonl", '{"n": 1, "en": "A cat", "fr": "Un chat"}\n["Two dogs", "Deux chiens"]\n'),
    ],
)
def test_table_reads_two_columns(tmp_path: Path, name: str, content: str):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8-sig")
    assert list(READERS["table"]([file], "fr", {})) == [("A cat", "Un chat", "own"), ("Two dogs", "Deux chiens", "own")]


def test_table_reads_parquet(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    file = tmp_path / "own.parquet"
    columns = {
        "id": [1, 2, 3],
        "en": ["A cat", None, "A dog"],
        "fr": ["Un chat", "Un chien", None],
        "it": ["Un gatto"] * 3,
    }
    pyarrow.parquet.write_table(arrow.table(columns), file)
    assert list(READERS["table"]([file], "fr", {})) == [("A cat", "Un chat", "own")]


@pytest.mark.parametrize(
    ("name", "content"), [("own.tsv", "A cat\tUn chat\nno tab\n"), ("own.jsonl", '["a", "b"]\n{\n')]
)
def test_table_names_the_line_that_is_wrong(tmp_path: Path, name: str, content: str):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ArgumentError, match=r"own\.\w+, line 2: expected"):
        list(READERS["table"]([file], "fr", {}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "own.tsv",
            "A caf\xe9\tUn caf\xe9\n".encode("latin-1"),
            r"own\.tsv: expected UTF-8, got the byte 0xe9 .*: save it as",
        ),
        (
            "own.jsonl",
            '["A cat", "Un chat"]\n'.encode("utf-16"),
            r"own\.jsonl: expected UTF-8, got the byte 0xff .*: save it as",
        ),
        (
            "own.parquet",
            b"PAR1 and then no Parquet",
            r"own\.parquet: expected a Parquet file, got one that cannot be read \(",
        ),
        ("own.parquet", b"", r"own\.parquet: expected a Parquet file, got one that cannot be read \("),
    ],
)
def test_table_that_cannot_be_read_says_what_to_do(tmp_path: Path, name: str, content: bytes, message: str):
    pytest.importorskip("pyarrow")
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ArgumentError, match=message):
        list(READERS["table"]([file], "fr", {}))


def test_table_of_parquet_needs_two_text_columns(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    file = tmp_path / "own.parquet"
    for columns in ({"id": [1]}, {"id": [1], "en": ["A cat"]}):
        pyarrow.parquet.write_table(arrow.table(columns), file)
        with pytest.raises(
            ArgumentError, match=r"own\.parquet, line 1: expected a text and its translation, got \d columns"
        ):
            list(READERS["table"]([file], "fr", {}))
