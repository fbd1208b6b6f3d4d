"""The terminal's share of the look: three colours that carry meaning, one ink, and nothing else coloured.

Query, key and value have a colour each; weights are ink, more is darker on light paper and brighter on dark. Piped
output carries the same words and numbers without any colour. ``QKV_THEME=light`` or ``dark`` says what the terminal's
background is; otherwise ``COLORFGBG`` does where the terminal sets it, and dark is taken where nothing is known.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.text import Text

_POWER = 0.6  # the page's: small weights stay visible


@dataclass(frozen=True)
class Palette:
    """Colours as ``#rrggbb``: the page's own."""

    query: str
    key: str
    value: str
    ink: str
    text: str
    quiet: str
    paper: str


LIGHT = Palette("#0072B2", "#D55E00", "#009E73", "#4B2E83", "#1D1C1A", "#6B675F", "#FBFAF6")
DARK = Palette("#56B4E9", "#F0894A", "#3FC79A", "#B79BFF", "#ECEAE4", "#A19C92", "#141414")


def palette() -> Palette:
    """The colours for this terminal's background."""
    theme = os.environ.get("QKV_THEME", "").lower()
    if theme in ("light", "dark"):
        return LIGHT if theme == "light" else DARK
    background = os.environ.get("COLORFGBG", "").rsplit(";", 1)[-1]
    return LIGHT if background in ("7", "15") else DARK


def console(*, stderr: bool = False) -> Console:
    """A console on standard output (or standard error): colour on a terminal, plain when piped, no guessed markup."""
    stream: TextIO = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a terminal without Unicode shows "?" and never a traceback
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def ink_bar(value: float, width: int) -> Text:
    """A thin bar: ``value`` in [0, 1] of ``width`` columns, exact to half a column; a dot for "almost none"."""
    halves = 2 * width * min(max(value, 0.0), 1.0)
    drawn = round(halves)
    bar = "━" * (drawn // 2) + "╸" * (drawn % 2)
    if not drawn and value > 0:
        bar = "·"
    return Text(bar.ljust(width), style=palette().ink, no_wrap=True)


def ink(text: str, weight: float) -> Text:
    """``text`` on the ink of a ``weight`` in [0, 1], as the page's reading line shows it."""
    colours = palette()
    amount = min(max(weight, 0.0), 1.0) ** _POWER
    background = _blend(colours.paper, colours.ink, amount)
    foreground = colours.paper if amount > 0.65 else colours.text
    return Text(text, style=f"{foreground} on {background}" if weight >= 0.005 else "")


def ink_colour(weight: float) -> str:
    """The colour of a cell of weight in [0, 1], from the paper's to the ink's."""
    colours = palette()
    return _blend(colours.paper, colours.ink, min(max(weight, 0.0), 1.0) ** _POWER)


def counted(number: int, noun: str) -> str:
    """``1 layer``, ``1,024 layers``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _blend(start: str, stop: str, amount: float) -> str:
    pairs = ((int(start[i : i + 2], 16), int(stop[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * amount):02x}" for a, b in pairs)
