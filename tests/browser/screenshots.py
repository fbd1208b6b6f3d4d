"""The pictures in README and docs: ``python tests/browser/screenshots.py`` takes them of the real page on minilm."""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from qkv import explorer, pretrained, recording

TEXT = "The animal didn't cross the street because it was too tired"
FOLDER = Path(__file__).parents[2] / "docs/img"
DESKTOP, PHONE = (1400, 1000), (390, 844)

PICTURES = {
    "look-light": {"size": DESKTOP, "scheme": "light", "locale": "en-US"},
    "look-dark": {"size": DESKTOP, "scheme": "dark", "locale": "en-US"},
    "look-zh": {"size": DESKTOP, "scheme": "light", "locale": "zh-CN"},
    "look-phone": {"size": PHONE, "scheme": "light", "locale": "en-US"},
}


def take(browser: Browser, url: str, name: str, size: tuple[int, int], scheme: str, locale: str) -> None:
    """Open the page once its answers are there, and write ``docs/img/NAME.png``."""
    phone = size == PHONE
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        locale=locale,
        has_touch=phone,
        is_mobile=phone,
        device_scale_factor=2 if phone else 1,
    )
    page.goto(url)
    while not page.evaluate("!!window.__qkv && window.__qkv.idle && !!window.__qkv.pair"):
        page.wait_for_timeout(50)
    page.wait_for_timeout(300)
    page.screenshot(path=FOLDER / f"{name}.png")
    page.close()


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    trace = recording.read(pretrained.load("minilm"), TEXT)
    with explorer.open_page(trace, browser=False, block=False) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, options in PICTURES.items():
            take(browser, served.url, name, **options)  # type: ignore[arg-type]
        browser.close()


if __name__ == "__main__":
    main()
