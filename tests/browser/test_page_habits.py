"""What every page does: keys, languages, light and dark, phones, contrast, a server that stops, a page without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qkv import explorer
from random_trace import MaskStructure, Shape, record, trace

pytestmark = pytest.mark.models

PHONE = {"width": 390, "height": 844}


def test_keys(show: Any, animal: str) -> None:
    shown = show(animal)
    press = shown.page.keyboard.press
    for key, name, wanted in (
        ("ArrowDown", "query", 11),
        ("ArrowUp", "query", 10),
        ("ArrowRight", "key", 3),
        ("ArrowLeft", "key", 2),
        ("]", "head", 2),
        ("[", "head", 1),
        ("}", "layer", 4),
        ("{", "layer", 3),
    ):
        press(key)
        assert shown.state(f"selection.{name}") == wanted
    press("?")
    assert shown.page.locator("dialog").is_visible()
    press("Escape")
    assert not shown.page.locator("dialog").is_visible()
    before = shown.state("theme")
    press("t")
    assert shown.state("theme") != before


def test_search(show: Any, animal: str) -> None:
    shown = show(animal)
    shown.page.keyboard.press("/")
    field = shown.page.get_by_role("searchbox")
    field.fill("The")
    assert shown.page.locator(".search-count").inner_text() == "1 of 2"
    field.press("Enter")
    shown.until(lambda: shown.state("selection.query") == 1, "the first 'the' is asked")
    field.press("Enter")
    shown.until(lambda: shown.state("selection.query") == 7, "the second 'the' is asked")
    field.fill("elephant")
    assert shown.page.locator(".search-count").inner_text() == "not in the text"
    field.press("ArrowLeft")
    assert shown.state("selection.query") == 7
    field.press("Escape")
    assert shown.page.locator(".search").count() == 0


def test_two_languages(show: Any, animal: str) -> None:
    shown = show(animal)
    assert shown.page.locator("html").get_attribute("lang") == "en"
    shown.page.get_by_role("button", name="中文").click()
    assert shown.page.locator("html").get_attribute("lang") == "zh-Hans"
    assert shown.page.locator(".map h2").inner_text().startswith("权重")
    assert "it 读 animal，权重 0.640" in shown.page.locator(".readout").inner_text()
    shown.page.reload()
    shown.settle()
    assert shown.state("language") == "zh"
    assert show(animal, locale="zh-CN").state("language") == "zh"


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(251, 250, 246)"), ("dark", "rgb(20, 20, 20)")])
def test_light_and_dark(show: Any, animal: str, scheme: str, paper: str) -> None:
    shown = show(animal, color_scheme=scheme)

    def colour() -> str:
        return str(shown.page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    assert (shown.state("theme"), colour()) == (scheme, paper)
    shown.page.locator(".theme").click()
    assert shown.state("theme") != scheme
    assert colour() != paper
    shown.page.reload()
    shown.settle()
    assert shown.state("theme") != scheme


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest(":disabled, noscript, script")) continue;
    let behind = element;
    while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const back = luminance(parse(getComputedStyle(behind ?? document.documentElement).backgroundColor));
    const front = luminance(parse(getComputedStyle(element).color));
    const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
    const large = parseFloat(getComputedStyle(element).fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) poor.push(`${walker.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(show: Any, animal: str, scheme: str) -> None:
    shown = show(animal, color_scheme=scheme, reduced_motion="reduce")
    assert shown.page.evaluate(CONTRAST) == []


def test_focus_is_visible_and_motion_is_reduced(show: Any, animal: str) -> None:
    shown = show(animal, reduced_motion="reduce")
    seen = set()
    for _ in range(12):
        shown.page.keyboard.press("Tab")
        seen.add(shown.page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert seen == {"solid"}
    moving = "[...document.querySelectorAll('*')].filter((e) => parseFloat(getComputedStyle(e).transitionDuration) > 0)"
    assert shown.page.evaluate(f"{moving}.length") == 0


def test_a_phone(show: Any, animal: str) -> None:
    shown = show(animal, viewport=PHONE, has_touch=True, is_mobile=True)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390
    tops = [
        shown.page.locator(part).bounding_box()["y"] for part in (".reading", ".heads", ".map", ".why", ".derivation")
    ]
    assert tops == sorted(tops)
    assert "Tap another word" in shown.page.locator(".reading-head").inner_text()
    shown.page.locator(".text .token").nth(6).tap()
    shown.until(lambda: shown.state("selection.key") == 8, "a tapped word is asked")
    shown.page.touchscreen.tap(*shown.canvas_point(3, 0))
    shown.until(lambda: shown.state("selection.query") == 3, "a tapped cell is chosen")


def test_an_address_that_makes_no_sense_opens_the_page(show: Any, animal: str) -> None:
    shown = show(f"{animal}#stack=cross&layer=99&head=-1&query=1e9&key=x")
    assert shown.state("selection.layer") == 3
    assert shown.page.url.endswith("#stack=encoder&layer=3&head=1&query=10&key=2")


def test_a_server_that_stops(show: Any, animal_trace: Any) -> None:
    with explorer.open_page(animal_trace, browser=False, block=False) as served:
        shown = show(served.url)
    shown.page.keyboard.press("]")
    shown.until(lambda: shown.state("disconnected"), "the page notices")
    assert "The server has stopped" in shown.page.get_by_role("status").first.inner_text()
    assert shown.page.locator(".text .token").count() == 15
    assert shown.page.locator(".why").get_attribute("class") == "why stale"  # old numbers do not pass for new ones
    shown.page.get_by_role("button", name="Try again").click()
    shown.until(lambda: shown.state("idle"), "it has tried again")
    assert shown.state("disconnected")
    # The browser itself reports each refused connection.
    assert all("ERR_CONNECTION_REFUSED" in problem or "Failed to load" in problem for problem in shown.problems)
    shown.problems.clear()


def test_the_page_as_one_file(show: Any, animal_trace: Any, animal: str, tmp_path: Path) -> None:
    path = explorer.save_html(animal_trace, tmp_path / "animal.html")
    served, alone = show(animal), show(path.as_uri())
    assert alone.state("selection") == served.state("selection")
    for name in ("weight", "dot", "scaled", "lse", "output_norm"):
        assert alone.state(f"pair.{name}") == pytest.approx(served.state(f"pair.{name}"), rel=1e-4)
    assert alone.state("map.tiles")[0]["sum"] == pytest.approx(15, abs=1e-3)
    alone.page.locator(".text .token").nth(6).click()
    alone.until(lambda: alone.state("selection.key") == 8, "a word is asked without a server")


def test_heads_that_share_keys_in_one_file(show: Any, tmp_path: Path) -> None:
    layer = record(Shape(queries=9, keys=9, heads=6, key_heads=2), part="decoder", mask=MaskStructure(causal=True))
    made = trace([layer], kind="decoder")
    path = explorer.save_html(made, tmp_path / "shared.html")
    with explorer.open_page(made, browser=False, block=False) as page:
        for head in range(6):
            place = f"#stack=decoder&layer=0&head={head}&query=8&key=3"
            served, alone = show(page.url + place), show(path.as_uri() + place)
            assert alone.state("selection.head") == served.state("selection.head") == head
            for name in ("dot", "score", "weight", "links"):
                expected, found = served.state(f"pair.{name}"), alone.state(f"pair.{name}")
                if name == "links":
                    expected, found = ([link["value_norm"] for link in links] for links in (expected, found))
                assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
            assert alone.state("pair.bias") == 0
