"""How far a long text is: a bar on standard error, on a terminal only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ._terminal import console, palette

if TYPE_CHECKING:
    from qkv.views.answers import Answers


@contextlib.contextmanager
def bar(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows ``done`` of ``total``; it shows nothing where nobody watches."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    colours = palette()
    columns = (
        TextColumn(doing, style=colours.quiet),
        BarColumn(bar_width=28, style=colours.quiet, complete_style=colours.ink, finished_style=colours.ink),
        MofNCompleteColumn(),
    )
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("")
        yield lambda done, total: progress.update(task, completed=done, total=total)


def prepare(answers: Answers) -> None:
    """Survey every layer, and show how far that is."""
    with bar("looking at every layer") as progress:
        answers.prepare(progress)
