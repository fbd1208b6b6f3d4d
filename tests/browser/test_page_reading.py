"""The page on MiniLM: what it opens on, the reading line, the map, the heads, the reasons."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytestmark = pytest.mark.models

IT, ANIMAL = 10, 2


def text(shown: Any, selector: str) -> str:
    return " ".join(shown.page.locator(selector).inner_text().split())


def test_opens_on_it_reading_animal(show: Any, animal: str) -> None:
    shown = show(animal)
    assert shown.state("selection") == {"stack": "encoder", "layer": 3, "head": 1, "query": IT, "key": ANIMAL}
    assert shown.state("pair.weight") == pytest.approx(0.64, abs=0.005)
    assert text(shown, ".about") == "MiniLM-L6 · 6 layers × 12 heads · 15 tokens"
    assert shown.page.title() == "MiniLM-L6 · qkv"
    assert "it reads animal with 0.640" in text(shown, ".readout")
    assert text(shown, ".why h2") == "Why it → animal"


def test_every_number_of_the_reason_is_the_models(show: Any, animal: str) -> None:
    shown = show(animal)
    pair = shown.state("pair")
    assert sum(pair["product"]) == pytest.approx(pair["dot"], abs=1e-3)
    assert math.exp(pair["score"] - pair["lse"]) == pytest.approx(pair["weight"], rel=1e-4)
    lines = [" ".join(line.split()) for line in shown.page.locator(".sum .step").all_inner_texts()]
    assert lines[0].startswith(f"q·k = {pair['dot']:.2f}")
    assert lines[1].startswith(f"÷ √32 = {pair['scaled']:.2f}")
    assert lines[2].startswith("softmax = 0.640")
    assert len(lines) == 3  # no softcap and no bias in this model
    strongest = pair["links"][0]
    first = text(shown, ".output li:first-child")
    assert first == f"animal {strongest['weight']:.2f} × ‖v‖ {strongest['value_norm']:.1f}"


def test_hovering_a_word_repaints_the_others(show: Any, animal: str) -> None:
    shown = show(animal)
    words = shown.page.locator(".text .token")
    words.nth(6).hover()  # cross
    shown.until(lambda: shown.state("painted.query") == 6, "the row of 'cross' is painted")
    weights = shown.state("painted.weights")
    assert sum(weights) == pytest.approx(1, abs=1e-4)
    assert max(range(15), key=weights.__getitem__) == 8  # street
    shown.page.wait_for_timeout(200)
    ink = [words.nth(at).evaluate("e => getComputedStyle(e).backgroundColor") for at in (8, 13)]
    assert ink[0] != ink[1]
    red, _, blue = (int(part) for part in ink[0][4:-1].split(","))
    assert red < 160 < blue + 60  # violet, and a good deal of it
    shown.page.locator(".about").hover()
    shown.until(lambda: shown.state("painted.query") == IT, "the chosen word's row is back")


def test_clicking_a_word_asks_it_and_the_address_remembers(show: Any, animal: str) -> None:
    shown = show(animal)
    shown.page.locator(".text .token").nth(6).click()
    shown.until(lambda: shown.state("selection.key") == 8, "'cross' reads 'street' most")
    shown.settle()
    assert shown.page.url.endswith("#stack=encoder&layer=3&head=1&query=6&key=8")
    assert text(shown, ".why h2") == "Why cross → street"
    shown.page.reload()
    shown.settle()
    assert shown.state("selection.query") == 6


def test_the_map_is_read_and_clicked(show: Any, animal: str) -> None:
    shown = show(animal)
    shown.page.mouse.move(*shown.canvas_point(6, 8))
    shown.until(lambda: shown.state("pointed.query") == 6, "the cell is pointed at")
    assert "cross reads street with 0.589" in text(shown, ".readout")
    assert shown.state("painted.query") == 6
    shown.page.mouse.click(*shown.canvas_point(6, 8))
    shown.settle()
    assert shown.state("pair.weight") == pytest.approx(0.59, abs=0.01)
    x, y = shown.canvas_point(6, 14)
    shown.page.mouse.move(x + 45, y)
    assert text(shown, ".readout").startswith(f"cross: entropy {shown.state('head.entropy')[6]:.2f} bits")


def test_heads_are_previewed_and_chosen(show: Any, animal: str) -> None:
    shown = show(animal)
    grid = shown.page.locator(".heads canvas")
    box = grid.bounding_box()
    step = (box["width"] - 22) / 12
    place = {"x": 22 + 2.5 * step, "y": 18 + 0.5 * step}
    grid.hover(position=place)
    assert shown.state("preview") == {"stack": "encoder", "layer": 0, "head": 2}
    assert "Layer 0 · head 2" in text(shown, ".figures h2")
    assert shown.state("selection.layer") == 3
    previous = next(row for row in shown.page.locator(".figure").all() if "previous" in row.inner_text())
    assert float(previous.locator(".number").inner_text()) == pytest.approx(1.0, abs=0.01)
    grid.click(position=place)
    shown.settle()
    assert (shown.state("selection.layer"), shown.state("selection.head")) == (0, 2)
    assert shown.state("head.figures.previous") == pytest.approx(1.0, abs=0.01)


def test_figures_explain_themselves(show: Any, animal: str) -> None:
    shown = show(animal)
    shown.page.get_by_role("button", name="mean entropy").click()
    assert "0 bits is one token, 3.9 bits would be all tokens alike" in text(shown, ".figure dd.note")


def test_every_step_of_the_derivation_opens(show: Any, animal: str) -> None:
    shown = show(animal)
    stations = shown.page.locator(".station")
    assert [" ".join(name.split()) for name in stations.locator(".formula").all_inner_texts()] == (
        ["x", "Q K V", "QKᵀ", "÷ √d", "mask", "softmax", "· V", "concat", "WO", "+ norm", "FFN"]
    )
    shown.page.get_by_role("button", name="中文").click()
    assert [" ".join(name.split()) for name in stations.locator(".formula").all_inner_texts()] == (
        ["x", "Q K V", "QKᵀ", "÷ √d", "掩码", "softmax", "· V", "拼接", "WO", "+ 归一化", "FFN"]
    )
    shown.page.get_by_role("button", name="EN", exact=True).click()
    told = set()
    for at in range(stations.count()):
        stations.nth(at).click()
        assert stations.nth(at).get_attribute("aria-expanded") == "true"
        told.add(text(shown, ".explained"))
    assert len(told) == stations.count()
    assert any("Here it · animal = 20.51" in sentence for sentence in told)
    shown.page.keyboard.press("Escape")
    assert "Open a step" in text(shown, ".explained")


def test_pictures_are_saved(show: Any, animal: str, tmp_path: Any) -> None:
    shown = show(animal)
    for section, words in ((".map", ("animal", "street")), (".heads", ("11",)), (".why", ("q × k",))):
        for kind in ("SVG", "PNG"):
            with shown.page.expect_download() as started:
                shown.page.locator(section).get_by_role("button", name=kind).first.click()
            path = tmp_path / started.value.suggested_filename
            started.value.save_as(path)
            content = path.read_bytes()
            if kind == "PNG":
                assert content.startswith(b"\x89PNG")
                assert len(content) > 2000
            else:
                drawn = content.decode()
                assert drawn.startswith("<svg")
                assert "NaN" not in drawn
                assert "undefined" not in drawn
                assert all(f">{word}<" in drawn for word in words)
    assert path.name.startswith("qkv-minilm-encoder-L3H1")
