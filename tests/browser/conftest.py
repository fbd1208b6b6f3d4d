"""Real Chromium on the real server: the page is asked what it shows, by value, through ``window.__qkv``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from qkv import explorer

TEXT = "The animal didn't cross the street because it was too tired"
DESKTOP = {"width": 1400, "height": 1000}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "the page is tested in a real browser: install Chromium (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def animal_trace() -> Any:
    """MiniLM reading the sentence of the drawings."""
    from qkv import pretrained, recording

    return recording.read(pretrained.load("minilm"), TEXT)


@pytest.fixture(scope="session")
def animal(animal_trace: Any) -> Iterator[str]:
    """The address of the page that shows it."""
    with explorer.open_page(animal_trace, browser=False, block=False) as page:
        yield page.url


@pytest.fixture(scope="session")
def decoder() -> Iterator[str]:
    """A causal stack with shared key heads, a softcap in its second layer, and predictions; 1,500 tokens."""
    from random_trace import MaskStructure, Shape, record, trace

    shape = Shape(queries=1500, keys=1500, heads=3, key_heads=1, dim=16, value_dim=16)
    causal = MaskStructure(causal=True)
    layers = [
        record(shape, layer=0, part="decoder", mask=causal, spread=3.0),
        record(shape, layer=1, part="decoder", mask=causal, spread=3.0, softcap=5.0),
    ]
    made = trace(layers, predictions=True, kind="decoder", norm="before")
    with explorer.open_page(made, browser=False, block=False) as page:
        yield page.url


@pytest.fixture(scope="session")
def translator() -> Iterator[str]:
    """An encoder, a decoder and cross-attention: two texts of different length."""
    from random_trace import MaskStructure, Shape, record, trace

    source, target, cross = (Shape(queries=n, keys=m, heads=4, key_heads=4) for n, m in ((13, 13), (9, 9), (9, 13)))
    causal = MaskStructure(causal=True)
    records = [
        *(record(source, layer=layer, seed=1) for layer in range(3)),
        *(record(target, layer=layer, seed=2, part="decoder-target", mask=causal) for layer in range(2)),
        *(record(cross, layer=layer, seed=3, kind="cross", part="decoder-target") for layer in range(2)),
    ]
    with explorer.open_page(trace(records, kind="encoder-decoder"), browser=False, block=False) as page:
        yield page.url


class Shown:
    """A page in the browser, and what it says of itself."""

    def __init__(self, page: Page, allowed: str) -> None:
        self.page = page
        self.problems: list[str] = []
        self._allowed = allowed
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._allowed, "blob:", "data:")):
            self.problems.append(f"asked elsewhere: {request.url}")

    def state(self, name: str) -> Any:
        """A value of ``window.__qkv``, by its path."""
        return self.page.evaluate(f"window.__qkv?.{name}")

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
        """Wait for a condition. (The page's security policy forbids what Playwright's own waiting would evaluate.)"""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            self.page.wait_for_timeout(20)
        raise AssertionError(f"did not happen within {seconds:g} s: {what}")

    def settle(self) -> None:
        """Until every answer is there and the chosen pair is the one explained."""

        def settled() -> bool:
            return bool(
                self.page.evaluate(
                    """() => { const q = window.__qkv; return !!q && q.idle && !!q.pair
                    && q.pair.query === q.selection.query && q.pair.key === q.selection.key }"""
                )
            )

        self.until(settled, "the page has its answers")
        self.page.wait_for_timeout(30)

    def canvas_point(self, query: float, key: float) -> tuple[float, float]:
        """Where a pair's cell lies in the window."""
        canvas = self.page.locator(".map canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        plot, camera = self.state("map.plot"), self.state("map.camera")
        x = box["x"] + plot["x"] + (key + 0.5 - camera["column"]) * camera["columnScale"]
        y = box["y"] + plot["y"] + (query + 0.5 - camera["row"]) * camera["rowScale"]
        return x, y


@pytest.fixture
def show(chromium: Browser) -> Iterator[Callable[..., Shown]]:
    """Open an address: ``show(url, **context options)``; at the end nothing may have gone wrong in any page."""
    opened: list[Shown] = []

    def open_(url: str, *, settle: bool = True, **options: Any) -> Shown:
        context = chromium.new_context(**{"viewport": DESKTOP, "locale": "en-US", **options})
        allowed = "file://" if url.startswith("file:") else url.split("#")[0]
        shown = Shown(context.new_page(), allowed)
        opened.append(shown)
        shown.page.goto(url)
        if settle:
            shown.settle()
        return shown

    yield open_
    for shown in opened:
        shown.page.context.close()
    assert [problem for shown in opened for problem in shown.problems] == []
