"""A page over a small random trace; the page's own files are stood in for, so no build is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qkv.explorer import Page, _files, open_page
from qkv.trace import MaskStructure, Trace
from random_trace import Shape, record, trace

INDEX = """<!doctype html><html lang="en"><head><meta charset="utf-8" /><title>qkv</title>
<link rel="icon" href="./assets/favicon.svg" type="image/svg+xml" />
<script type="module" crossorigin src="./assets/qkv.js"></script>
<link rel="stylesheet" crossorigin href="./assets/qkv.css">
</head><body><div id="qkv"></div></body></html>"""
SCRIPT = 'const html = "<script>never</script><!-- x -->"; console.log(html);'


@pytest.fixture(autouse=True)
def built_page(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small page in place of the built one, and a secret beside it."""
    folder = tmp_path_factory.mktemp("explorer") / "page"
    (folder / "assets").mkdir(parents=True)
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "index.html").write_text(INDEX)
    (folder / "assets/qkv.js").write_text(SCRIPT)
    (folder / "assets/qkv.css").write_text("body { color: #1d1c1a }")
    (folder / "assets/favicon.svg").write_text("<svg/>")
    monkeypatch.setattr(_files, "FOLDER", folder)
    _files.page_files.cache_clear()
    yield folder
    _files.page_files.cache_clear()


@pytest.fixture(scope="module")
def small_trace() -> Trace:
    layers = [record(layer=layer, part="decoder", mask=MaskStructure(causal=True)) for layer in (0, 1)]
    return trace(layers, predictions=True, kind="decoder")


@pytest.fixture(scope="module")
def wide_trace() -> Trace:
    return trace([record(Shape(1300, 1300), part="decoder", mask=MaskStructure(causal=True))], kind="decoder")


@pytest.fixture(scope="module")
def translation_trace() -> Trace:
    cross = record(Shape(7, 9), kind="cross", part="decoder-target")
    return trace([record(Shape(9, 9)), cross], kind="encoder-decoder")


@pytest.fixture
def page(small_trace: Trace) -> Iterator[Page]:
    with open_page(small_trace, browser=False, block=False) as opened:
        yield opened
