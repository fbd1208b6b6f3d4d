"""What ``--model`` names, ready to run: a model of the catalogue that is missing is fetched first, visibly."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from ..errors import ModelError
from ._terminal import console, palette

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from qkv.pretrained import Pretrained, Progress

_DOING = {"wait": "waiting for its turn", "download": "fetching", "check": "checking", "convert": "converting"}


def open_model(name: str, *, trust_remote_code: bool = False) -> Pretrained:
    """What ``--model`` names, ready to read texts; a missing model of the catalogue is fetched, and its progress shown.

    Raises:
        ModelError: there is no such model, or it reads no texts (said before anything is fetched).
    """
    from qkv import pretrained

    known = next((model for model in pretrained.catalogue() if model.name == name), None)
    if known and known.reads != "text":
        raise ModelError(f"model {name!r} reads {known.reads}: it cannot read a text.")
    if known and not pretrained.is_installed(name):
        fetch(name)
    quiet = palette().quiet
    with console(stderr=True).status(Text(f"opening {name}", style=quiet), spinner_style=quiet):
        return pretrained.load(name, trust_remote_code=trust_remote_code)


def fetch(name: str) -> None:
    """``get`` with a progress bar on a terminal, and a line a step elsewhere; on standard error."""
    from qkv import pretrained

    title, screen, start = pretrained.entry(name).title, console(stderr=True), time.monotonic()
    if screen.is_terminal:
        with _bars(screen) as bars:
            pretrained.get(name, _Bar(bars, title))
    else:
        pretrained.get(name, _Lines(title))
    size = decimal(pretrained.disk_usage(name))
    screen.print(f"{title} is ready: {size}, in {time.monotonic() - start:.0f} s", style=palette().quiet)


class _Bar:
    """Shows each step of ``get`` as a bar of its own length, one after the other in one line."""

    def __init__(self, bars: Bars, title: str) -> None:
        self._bars, self._title = bars, title
        self._task = bars.add_task(title, total=None)

    def __call__(self, progress: Progress) -> None:
        if progress.step == "done":
            self._bars.remove_task(self._task)
            return
        description = f"{self._title}  {_DOING[progress.step]}"
        self._bars.update(self._task, description=description, total=progress.total or None, completed=progress.done)


class _Lines:
    """Prints the steps of ``get`` as they begin."""

    def __init__(self, title: str) -> None:
        self._title, self._step = title, "wait"

    def __call__(self, progress: Progress) -> None:
        if progress.step not in (self._step, "done"):
            size = f", {decimal(progress.total)}" if progress.total else ""
            print(f"{self._title}: {_DOING[progress.step]}{size}", file=sys.stderr, flush=True)
        self._step = progress.step


def _bars(screen: Console) -> Bars:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    colours = palette()
    return Progress(
        TextColumn("{task.description}", style=colours.text),
        BarColumn(bar_width=28, style=colours.quiet, complete_style=colours.ink, pulse_style=colours.ink),
        DownloadColumn(),
        console=screen,
        transient=True,
    )
