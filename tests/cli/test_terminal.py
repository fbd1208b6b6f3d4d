"""The terminal's palette, bars and ink: exact, visible at the low end, plain when piped."""

from __future__ import annotations

import io
import sys

import pytest

from qkv.cli._terminal import DARK, LIGHT, Palette, console, ink, ink_bar, palette


def test_palette_follows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QKV_THEME", raising=False)
    monkeypatch.delenv("COLORFGBG", raising=False)
    assert palette() is DARK
    monkeypatch.setenv("COLORFGBG", "0;default;15")
    assert palette() is LIGHT
    monkeypatch.setenv("COLORFGBG", "15;0")
    assert palette() is DARK
    monkeypatch.setenv("QKV_THEME", "light")
    assert palette() is LIGHT


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_words_can_be_read(colours: Palette) -> None:
    for name in ("text", "quiet", "ink"):
        assert contrast(getattr(colours, name), colours.paper) >= 4.5, name


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("weight", [0.005, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.7, 1.0])
def test_words_on_ink_can_be_read(theme: str, weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_THEME", theme)
    foreground, background = str(ink("word", weight).style).split(" on ")
    assert contrast(foreground, background) >= 3.5


BARS = {0: "", 0.001: "·", 0.05: "╸", 0.5: "━━━━━", 0.95: "━━━━━━━━━╸", 1: "━" * 10, 7: "━" * 10}


@pytest.mark.parametrize(("value", "drawn"), BARS.items())
def test_bar(value: float, drawn: str) -> None:
    assert ink_bar(value, 10).plain == drawn.ljust(10)
    assert ink_bar(-value, 10).plain == " " * 10


def test_ink_grows_with_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_THEME", "light")
    shades = [luminance(str(ink("a", weight).style).split(" on ")[1]) for weight in (0.01, 0.1, 0.5, 1)]
    assert shades == sorted(shades, reverse=True)
    assert str(ink("a", 0.001).style) == ""


def test_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console().print(ink_bar(1, 4), "[b]苹果[/b]")
    sys.stdout.flush()
    assert raw.getvalue() == b"???? [b]??[/b]\n"
