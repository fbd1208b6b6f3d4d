"""The built page: one script and one style sheet, nothing from elsewhere, nothing that a strict policy forbids."""

from __future__ import annotations

import re

from qkv.explorer._files import page_files


def test_the_page_is_one_script_and_one_style_sheet() -> None:
    names = sorted(name for name in page_files() if name)
    assert names == ["assets/favicon.svg", "assets/qkv.css", "assets/qkv.js", "index.html"]
    index = page_files()["index.html"].content.decode()
    assert re.findall(r'(?:src|href)="([^"]+)"', index) == [
        "./assets/favicon.svg",
        "./assets/qkv.js",
        "./assets/qkv.css",
    ]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", index)


def test_the_page_names_no_other_host() -> None:
    for name in ("index.html", "assets/qkv.js", "assets/qkv.css"):
        text = page_files()[name].content.decode()
        hosts = set(re.findall(r"https?://([\w.-]+)", text))
        assert hosts <= {"www.w3.org"}, f"{name} names {hosts}"  # the namespaces of SVG and MathML
        assert "eval(" not in text
        assert not re.search(r"\bimport\(|new Function\(|url\((?!#)", text)


def test_the_page_is_small() -> None:
    assert sum(len(file.content) for file in page_files().values()) < 200_000
