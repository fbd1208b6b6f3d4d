"""How a training goes: on a terminal a bar with what is measured above it; lines where output is piped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from ._terminal import console, palette

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from qkv.training import Progress


def first_process() -> bool:
    """Whether this is torchrun's first process, or the only one: it speaks and builds for all."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def telling() -> Iterator[Telling]:
    """Give what tells how a run goes; on a terminal its bar stands below all lines until the end."""
    screen = console()
    if not first_process():
        yield Telling(None, None)
    elif not screen.is_terminal:
        yield Telling(screen, None)
    else:
        with _bar(screen) as bar:
            yield Telling(screen, bar)


class Telling:
    """Tells the first process's reader how a run goes.

    Args:
        screen: where to; None tells nobody.
        bar: on a terminal.
    """

    def __init__(self, screen: Console | None, bar: Bar | None) -> None:
        self._screen, self._bar = screen, bar
        self._task = None if bar is None else bar.add_task("starting", total=None, told="")

    def say(self, line: str, *, quiet: bool = False) -> None:
        """Print a line, above the bar."""
        if self._screen is not None:
            self._screen.print(Text(line, style=palette().quiet if quiet else ""), soft_wrap=True)

    def report(self, progress: Progress) -> None:
        """Print a line about validation; move the bar, or print a line, about training."""
        if progress.validation is not None:
            self.say(
                f"update {progress.update:,}  validation loss {progress.validation:.4f}, "
                f"{100 * (progress.accuracy or 0):.1f}% of tokens right"
            )
            return
        where = f"{progress.update:,} of {progress.updates:,}"
        measured = f"{progress.speed:,.0f} tokens/s  {_clock(progress.left or 0)} left"
        if self._bar is None or self._task is None:
            self.say(f"update {where}  pass {progress.passes:.2f}  loss {progress.loss:.4f}  {measured}", quiet=True)
            return
        self._bar.update(
            self._task,
            description=where,
            completed=progress.update,
            total=progress.updates,
            told=f"loss {progress.loss:.3f}  {measured}",
            refresh=True,
        )


def _bar(screen: Console) -> Bar:
    """Moves back and forth until the first report, which takes a while on a slow machine; 80 columns are enough."""
    from rich.progress import BarColumn, Progress, TextColumn

    colours = palette()
    return Progress(
        TextColumn("{task.description}", style=colours.text),
        BarColumn(12, colours.quiet, complete_style=colours.ink, finished_style=colours.ink, pulse_style=colours.ink),
        TextColumn("{task.fields[told]}", style=colours.quiet),
        console=screen,
        transient=True,
        refresh_per_second=2,  # training has better use for the processor
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
