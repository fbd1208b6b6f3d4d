"""Grids of ink, layer by head: one figure a grid, one cell a head, as many grids side by side as fit.

On a terminal a cell is coloured; where there are many layers, two share a line, as half blocks. Piped output shades
with characters, so the picture survives in a file or a mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from ._terminal import ink_colour, palette

SHADES = " ·░▒▓█"
_TALLEST = 16
"""Layers up to which each has a line of its own."""
_GAP = 3


@dataclass(frozen=True)
class Grid:
    """A figure of every head: ``values[layer][head]``, and the value that is full ink."""

    title: str
    values: Sequence[Sequence[float]]
    full: float
    caption: str

    def ink(self, layer: int, head: int) -> float:
        """How much ink a head's cell has, 0 to 1."""
        return min(max(self.values[layer][head] / self.full, 0.0), 1.0) if self.full > 0 else 0.0


def print_grids(screen: Console, layers: Sequence[int], heads: Sequence[int], grids: Sequence[Grid]) -> None:
    """Print the grids side by side, wrapped to the width of the screen."""
    label = max(len(str(layer)) for layer in layers) + 2
    width = max(len(heads), *(max(len(grid.title), len(grid.caption)) for grid in grids)) + _GAP
    abreast = max(1, min((screen.width - label + _GAP) // width, len(grids)))
    bands = -(-len(grids) // abreast)
    abreast = -(-len(grids) // bands)  # 3 + 3 rather than 5 + 1
    paired = bool(screen.color_system) and len(layers) > _TALLEST
    for start in range(0, len(grids), abreast):
        if start:
            screen.print()
        _print_band(screen, layers, heads, grids[start : start + abreast], label, width, paired)


def _print_band(
    screen: Console,
    layers: Sequence[int],
    heads: Sequence[int],
    grids: Sequence[Grid],
    label: int,
    width: int,
    paired: bool,
) -> None:
    quiet = palette().quiet
    _line(screen, label, "", [Text(grid.title) for grid in grids], width)
    _line(screen, label, "", [Text("".join(str(head % 10) for head in heads), style=quiet)] * len(grids), width)
    for at in range(0, len(layers), 2 if paired else 1):
        cells = [_cells(grid, at, len(heads), paired, bool(screen.color_system)) for grid in grids]
        _line(screen, label, str(layers[at]), cells, width)
    _line(screen, label, "", [Text(grid.caption, style=quiet) for grid in grids], width)


def _cells(grid: Grid, layer: int, heads: int, paired: bool, coloured: bool) -> Text:
    cells = Text()
    for head in range(heads):
        amount = grid.ink(layer, head)
        if not coloured:
            cells.append(SHADES[round(amount**0.6 * (len(SHADES) - 1))])
        elif not paired:
            cells.append(" ", style=f"on {ink_colour(amount)}")
        elif layer + 1 < len(grid.values):
            cells.append("▀", style=f"{ink_colour(amount)} on {ink_colour(grid.ink(layer + 1, head))}")
        else:
            cells.append("▀", style=ink_colour(amount))
    return cells


def _line(screen: Console, label: int, name: str, parts: Sequence[Text], width: int) -> None:
    line = Text(f"{name.rjust(label - 2)}  ", style="", no_wrap=True)
    line.stylize(palette().quiet, 0, label)
    for part in parts:
        line.append_text(part)
        line.append(" " * max(0, width - part.cell_len))
    line.rstrip()
    screen.print(line, soft_wrap=True)
