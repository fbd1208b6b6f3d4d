"""The words of a translation, aligned: beneath what was written, the word of the input that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_page_habits import CONTRAST, PHONE

from qkv import explorer
from qkv.trace import Sequence, Token, Trace
from qkv.views.answers import Answers
from random_trace import WORDS, MaskStructure, Shape, record, tokens, trace

CROSS = "#stack=cross&layer=0&head=1&query=2&key=3"


def text(words: str) -> list[Token]:
    """Tokens from ``<s> il n' +existe``: a plus goes on without a space, ``~`` with the same word."""
    found: list[Token] = []
    word = -1
    for piece in words.split():
        word += not piece.startswith(("~", "<"))
        special = piece.startswith("<")
        found.append(Token(0, piece.lstrip("+~"), piece[0] not in "+~<", special, False, -1 if special else word))
    return found


SOURCE = text("The st ~ation does not +. </s>")
WRITTEN = text("<s> La g ~are n +' +existe pas +.")
GLOSSED = ["La", "gare", "n'", "existe", "pas."]


def translation(read: list[Token], written: list[Token]) -> Trace:
    source, target, cross = (
        Shape(queries=n, keys=m, heads=2, key_heads=2)
        for n, m in ((len(read),) * 2, (len(written),) * 2, (len(written), len(read)))
    )
    records = [
        record(source),
        record(target, part="decoder-target", mask=MaskStructure(causal=True)),
        *(record(cross, layer=layer, kind="cross", part="decoder-target", spread=3.0) for layer in range(2)),
    ]
    model = trace(records, kind="encoder-decoder").model
    return Trace(model, [Sequence({"input": read, "target": written}, records)])


@pytest.fixture(scope="module")
def station() -> Trace:
    return translation(SOURCE, WRITTEN)


@pytest.fixture(scope="module")
def served(station: Trace) -> Iterator[str]:
    with explorer.open_page(station, browser=False, block=False) as page:
        yield page.url + CROSS


def glosses(shown: Any) -> list[tuple[str, str]]:
    """What is written and what stands beneath it."""
    written, beneath = shown.page.locator(".written"), shown.page.locator(".gloss")
    shown.until(lambda: "" not in beneath.all_inner_texts(), "the glosses are there")
    return list(zip(written.all_inner_texts(), beneath.all_inner_texts(), strict=True))


def expected(traced: Trace) -> list[str]:
    words = Answers(traced).alignment()["words"]
    return ["".join(token.text for token in SOURCE[one["read_start"] : one["read_stop"]]) for one in words]


def test_each_written_word_stands_over_the_one_it_came_from(show: Any, served: str, station: Trace) -> None:
    shown = show(served)
    assert glosses(shown) == list(zip(GLOSSED, expected(station), strict=True))
    for gloss, word in zip(shown.page.locator(".gloss").all(), shown.page.locator(".written").all(), strict=True):
        above, beneath = word.bounding_box(), gloss.bounding_box()
        assert beneath["y"] >= above["y"] + above["height"] - 1
        assert abs(beneath["x"] - above["x"]) < 4
    asking, reading = shown.page.locator(".text").all()
    assert asking.locator(".token").count() == len(WRITTEN)
    assert reading.locator(".gloss").count() == 0
    assert "beneath: the word of the input read most" in shown.page.locator(".side-name").first.inner_text()
    assert "dashed: where the word that asks came from" in shown.page.locator(".side-name").last.inner_text()


def test_in_chinese(show: Any, served: str) -> None:
    shown = show(served, locale="zh-CN")
    glosses(shown)
    assert "虚线：选中的词由它译来" in shown.page.locator(".side-name").last.inner_text()
    assert "词下：写出它时读得最多的原文词" in shown.page.locator(".side-name").first.inner_text()


def test_a_word_marks_what_it_came_from(show: Any, served: str, station: Trace) -> None:
    shown = show(served)
    glosses(shown)
    asking, reading = shown.page.locator(".text").all()

    def marked() -> list[int]:
        return [int(span.get_attribute("data-i")) for span in reading.locator(".is-aligned").all()]

    for one in Answers(station).alignment()["words"]:
        asking.locator(".token").nth(one["stop"] - 1).hover()
        wanted = list(range(one["read_start"], one["read_stop"]))
        shown.until(lambda wanted=wanted: marked() == wanted, "what it came from is marked")
    asking.locator(".token").first.hover()  # a special token came from nowhere
    shown.until(lambda: marked() == [], "nothing is marked")
    asking.locator(".gloss").nth(1).click()  # the gloss is part of its word
    shown.until(lambda: shown.state("selection.query") == 2, "its word is asked")


def test_a_weak_one_is_greyer(show: Any, served: str, station: Trace) -> None:
    shown = show(served)
    glosses(shown)
    weights = [one["weight"] for one in Answers(station).alignment()["words"]]
    colours = shown.page.locator(".gloss").evaluate_all("all => all.map((e) => getComputedStyle(e).color)")
    spread = []
    for colour in colours:
        red, green, blue = (int(part) for part in colour[4:-1].split(","))
        spread.append(max(red, green, blue) - min(red, green, blue))
    order = sorted(range(len(weights)), key=weights.__getitem__)
    assert [spread[at] for at in order] == sorted(spread)
    assert spread[order[0]] < spread[order[-1]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(show: Any, served: str, scheme: str) -> None:
    shown = show(served, color_scheme=scheme, reduced_motion="reduce")
    glosses(shown)
    assert shown.page.evaluate(CONTRAST) == []
    before = shown.page.locator(".gloss").first.evaluate("e => e.style.color")
    shown.page.keyboard.press("t")
    assert shown.page.locator(".gloss").first.evaluate("e => e.style.color") != before
    assert shown.page.evaluate(CONTRAST) == []


def test_on_a_phone_words_and_glosses_wrap_together(show: Any, served: str) -> None:
    shown = show(served, viewport=PHONE, has_touch=True, is_mobile=True)
    glosses(shown)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390

    def parted() -> bool:
        """Whether n' and existe, which are one run, ever stand on two lines, however wide the text is."""
        found = []
        for width in range(120, 330, 10):
            shown.page.evaluate(f"document.querySelector('.text').style.width = '{width}px'")
            tops = [word.bounding_box()["y"] for word in shown.page.locator(".word").all()]
            found.append(tops[2] != tops[3])
        return any(found)

    assert not parted()
    shown.page.evaluate("document.querySelectorAll('.run').forEach((run) => { run.style.whiteSpace = 'normal'; })")
    assert parted()


def test_text_that_reads_itself_has_none(show: Any, served: str) -> None:
    for stack in ("encoder", "decoder"):
        shown = show(served.replace("cross", stack))
        assert shown.page.locator(".gloss, .side-name, .is-aligned").count() == 0


def test_what_is_no_text_has_none(show: Any) -> None:
    sound = translation([Token(-1, "")] * 7, WRITTEN)
    with explorer.open_page(sound, browser=False, block=False) as page:
        shown = show(page.url + CROSS, settle=False)
        asked: list[str] = []
        shown.page.on("request", lambda request: asked.append(request.url))
        shown.page.reload()
        shown.settle()
        assert shown.page.locator(".text").count() == 2
        assert shown.page.locator(".gloss, .is-aligned").count() == 0
        assert "beneath" not in shown.page.locator(".side-name").first.inner_text()
        assert any("api/pair" in url for url in asked)
        assert not any("api/alignment" in url for url in asked)


def test_a_long_text_is_aligned_where_it_is_seen(show: Any) -> None:
    with explorer.open_page(translation(tokens(150), tokens(900)), browser=False, block=False) as page:
        shown = show(page.url + CROSS)
        shown.until(lambda: shown.state("idle"), "what is seen is there")
        pane = shown.page.locator(".pane").first
        first = shown.state("aligned.length")
        assert 100 < first < 600
        assert pane.locator('[data-word="5"] .gloss').inner_text() in WORDS
        last = pane.locator('[data-word="899"] .gloss')
        assert last.inner_text() == ""
        pane.evaluate("e => { e.scrollTop = e.scrollHeight; }")
        shown.until(lambda: last.inner_text() in WORDS and last.inner_text(), "the end is aligned when it is seen")
        assert first < shown.state("aligned.length") < 900


def test_where_a_word_came_from_is_brought_into_a_long_text(show: Any) -> None:
    traced = translation(tokens(900), tokens(900))
    words = Answers(traced).alignment()["words"]
    with explorer.open_page(traced, browser=False, block=False) as page:
        shown = show(page.url + CROSS)
        asking, reading = shown.page.locator(".pane").all()
        wanted = next(word for word in words[5:60] if word["read_start"] > 600)
        assert reading.evaluate("e => e.scrollTop") == 0
        asking.locator(f'[data-word="{wanted["start"]}"] .token').first.hover()
        shown.until(lambda: reading.evaluate("e => e.scrollTop") > 0, "it is brought into the pane")
        marked, around = reading.locator(".is-aligned").first.bounding_box(), reading.bounding_box()
        assert around["y"] <= marked["y"] <= around["y"] + around["height"]
        asking.locator(".token").first.hover()


def test_the_page_as_one_file_has_them(show: Any, station: Trace, tmp_path: Path) -> None:
    alone = show(explorer.save_html(station, tmp_path / "station.html").as_uri() + CROSS)
    assert glosses(alone) == list(zip(GLOSSED, expected(station), strict=True))
    one_head = show(explorer.save_html(station, tmp_path / "one.html", layers=[0], heads=[1]).as_uri() + CROSS)
    assert glosses(one_head) == glosses(alone)  # they are of all layers and heads, whatever is shown
