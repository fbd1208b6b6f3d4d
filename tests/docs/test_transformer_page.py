"""The walk through the Transformer: every box and row leads to a file that is there, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURE = DOCS / "img" / "transformer.svg"
SVG = "{http://www.w3.org/2000/svg}"


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["transformer.md", "transformer.zh.md"])
def test_links_lead_somewhere(name: str) -> None:
    found = links(DOCS / name)
    assert len(found) > 15
    assert [link for link in found if not (DOCS / link).exists()] == []


def test_both_languages_walk_the_same_way() -> None:
    sources = [
        [link for link in links(DOCS / name) if "src/" in link] for name in ("transformer.md", "transformer.zh.md")
    ]
    assert sources[0] == sources[1]


def test_each_box_opens_its_file() -> None:
    boxes = ElementTree.parse(PICTURE).getroot().findall(f"{SVG}a")
    assert len(boxes) > 20
    assert all((PICTURE.parent / box.attrib["href"]).is_file() for box in boxes)
    on_the_page = {(DOCS / link).resolve() for link in links(DOCS / "transformer.md")}
    assert {(PICTURE.parent / box.attrib["href"]).resolve() for box in boxes} <= on_the_page
