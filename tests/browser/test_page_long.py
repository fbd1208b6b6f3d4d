"""Long texts, decoders and models that read two texts."""

from __future__ import annotations

from typing import Any

import pytest

SECONDS = 0.1
"""The page answers every hover within this time."""

LATENCY = """() => {
  window.latencies = [];
  document.querySelector(".pane").addEventListener("pointerover", (event) => {
    const asked = Number(event.target.dataset.i);
    const since = performance.now();
    const look = () => {
      const painted = window.__qkv.painted;
      if (painted.query === asked && painted.at >= since) window.latencies.push((painted.at - since) / 1000);
      else if (performance.now() - since < 3000) requestAnimationFrame(look);
    };
    if (!Number.isNaN(asked)) requestAnimationFrame(look);
  }, true);
}"""


def test_a_long_text_is_a_pane_and_a_map_from_above(show: Any, decoder: str) -> None:
    shown = show(decoder)
    pane = shown.page.locator(".pane")
    assert pane.evaluate("e => e.scrollHeight > e.clientHeight")
    (tile,) = shown.state("map.tiles")
    assert (tile["rowBlock"], tile["height"], tile["width"]) == (3, 500, 500)
    assert tile["sum"] == pytest.approx(500, rel=1e-3)  # every row of blocks sums to 1
    query = shown.state("selection.query")
    word = pane.locator(f'[data-i="{query}"]')
    assert word.bounding_box()["y"] < pane.bounding_box()["y"] + pane.bounding_box()["height"]


def test_hovering_is_answered_at_once(show: Any, decoder: str) -> None:
    shown = show(decoder)
    shown.page.evaluate(LATENCY)
    box = shown.page.locator(".pane").bounding_box()
    for at in range(12):
        shown.page.mouse.move(box["x"] + 30 + at * 61, box["y"] + 20 + at % 5 * 28)
        shown.page.wait_for_timeout(120)
    latencies = sorted(shown.page.evaluate("window.latencies"))
    assert len(latencies) >= 6
    assert latencies[len(latencies) // 2] < SECONDS


def test_zooming_ends_at_exact_cells(show: Any, decoder: str) -> None:
    shown = show(f"{decoder}#stack=decoder&layer=0&head=1&query=700&key=650")
    x, y = shown.canvas_point(700, 650)
    shown.page.mouse.move(x, y)
    for _ in range(30):
        shown.page.mouse.wheel(0, -240)
        shown.page.wait_for_timeout(15)
    shown.settle()
    assert shown.state("map.camera.rowScale") >= 25
    fine = shown.state("map.tiles")[-1]
    assert fine["rowBlock"] == 1
    shown.page.mouse.move(*shown.canvas_point(700, 650))
    shown.page.wait_for_timeout(50)
    pointed = shown.page.locator(".readout").inner_text()
    weight = shown.state("pair.weight")
    assert "(position 700)" in pointed
    assert f"{weight:.3f}" in pointed or weight < 0.001
    row = shown.state("map.camera.row")
    shown.page.mouse.down()
    shown.page.mouse.move(x, y - 120, steps=4)
    shown.page.mouse.up()
    assert shown.state("map.camera.row") > row
    assert shown.state("selection.query") == 700  # a drag chooses nothing
    shown.page.get_by_role("button", name="Whole map").click()
    assert shown.state("map.camera.row") == 0


def test_keys_keep_the_pair_in_view(show: Any, decoder: str) -> None:
    shown = show(f"{decoder}#stack=decoder&layer=0&head=0&query=300&key=200")
    shown.page.get_by_role("button", name="Go to the pair").click()
    for _ in range(40):
        shown.page.keyboard.press("ArrowDown")
    camera, plot = shown.state("map.camera"), shown.state("map.plot")
    assert shown.state("selection.query") == 340
    assert camera["row"] <= 340 < camera["row"] + plot["height"] / camera["rowScale"]
    pane, word = shown.page.locator(".pane").bounding_box(), shown.page.locator('.pane [data-i="340"]').bounding_box()
    assert pane["y"] <= word["y"] <= pane["y"] + pane["height"]


def test_what_is_masked_says_so(show: Any, decoder: str) -> None:
    shown = show(f"{decoder}#stack=decoder&layer=0&head=0&query=5&key=9")
    assert shown.state("pair.masked") is True
    assert "may not read" in shown.page.locator(".readout").inner_text()
    assert "the mask sets this score to −∞" in shown.page.locator(".sum").inner_text()


def test_a_softcap_is_a_step(show: Any, decoder: str) -> None:
    shown = show(f"{decoder}#stack=decoder&layer=1&head=0&query=400&key=399")
    steps = shown.page.locator(".sum .formula").all_inner_texts()
    assert "softcap" in steps
    assert abs(shown.state("pair.capped")) <= 5
    names = shown.page.locator(".station .formula").all_inner_texts()
    assert names.index("softcap") == names.index("÷ √d") + 1


def test_a_decoder_shows_what_comes_next(show: Any, decoder: str) -> None:
    shown = show(decoder)
    candidates = shown.page.locator(".next li")
    assert [" ".join(line.split()) for line in candidates.all_inner_texts()] == ["fox 50.0%", "es 25.0%"]
    shown.page.keyboard.press("ArrowDown")
    shown.settle()
    assert shown.state("predictions.position") == shown.state("selection.query")


def test_cross_attention_reads_from_one_text_in_the_other(show: Any, translator: str) -> None:
    shown = show(f"{translator}#stack=cross&layer=1&head=2&query=4&key=6")
    asking, reading = shown.page.locator(".text").all()
    assert (asking.locator(".token").count(), reading.locator(".token").count()) == (9, 13)
    asking.locator(".token").nth(2).hover()
    shown.until(lambda: shown.state("painted.query") == 2, "the row of the pointed word is painted")
    weights = shown.state("painted.weights")
    assert len(weights) == 13
    strongest = max(range(13), key=weights.__getitem__)
    shown.page.wait_for_timeout(200)
    assert reading.locator(".token").nth(strongest).evaluate("e => e.style.background") != ""
    assert asking.locator(".token").nth(2).evaluate("e => e.style.background") == ""
    reading.locator(".token").nth(7).click()
    assert shown.state("selection.key") == 7


def test_stacks_are_changed_among_all_heads(show: Any, translator: str) -> None:
    shown = show(f"{translator}#stack=cross&layer=1&head=2&query=4&key=12")
    assert shown.page.locator(".heads canvas").count() == 3
    shown.page.locator(".heads canvas").first.click(position={"x": 40, "y": 40})
    shown.settle()
    assert shown.state("selection.stack") == "encoder"
    assert shown.page.locator(".text").count() == 1
    assert shown.page.locator(".text .token").count() == 13
    shown.page.locator(".heads canvas").nth(1).focus()
    shown.page.keyboard.press("ArrowRight")
    shown.settle()
    assert shown.state("selection.stack") == "decoder"
    assert shown.page.locator(".text .token").count() == 9


PINCH = """([x, y]) => {
  const canvas = document.querySelector(".map canvas");
  canvas.setPointerCapture = () => {};
  const box = canvas.getBoundingClientRect();
  const send = (type, pointerId, dx) => canvas.dispatchEvent(new PointerEvent(type, {
    pointerId, pointerType: "touch", bubbles: true, cancelable: true, clientX: box.left + x + dx, clientY: box.top + y,
  }));
  send("pointerdown", 1, -20); send("pointerdown", 2, 20);
  for (let spread = 20; spread <= 120; spread += 10) {
    send("pointermove", 1, -spread);
    send("pointermove", 2, spread);
  }
  send("pointerup", 1, -120); send("pointerup", 2, 120);
}"""


def test_two_fingers_zoom(show: Any, decoder: str) -> None:
    shown = show(decoder, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    before, plot, selection = shown.state("map.camera"), shown.state("map.plot"), shown.state("selection")
    shown.page.evaluate(PINCH, [plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2])
    after = shown.state("map.camera")
    assert after["rowScale"] == pytest.approx(before["rowScale"] * 6, rel=0.05)
    assert shown.state("selection") == selection  # two fingers choose nothing
    shown.settle()
