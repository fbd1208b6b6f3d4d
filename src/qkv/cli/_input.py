"""From what stands on the command line to a trace: a text is read by a model, a trace is opened."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from ._opening import open_model
from ._terminal import console, palette

if TYPE_CHECKING:
    from qkv.pretrained import Pretrained
    from qkv.trace import Trace
    from qkv.views.induction import InductionScores

DEFAULT_MODEL = "minilm"

FILE_BEGINNINGS = ("/", "./", "../", "~/")
FILE_ENDINGS = (".csv", ".html", ".json", ".md", ".py", ".rst", ".tex", ".text", ".txt")


@dataclass(frozen=True)
class Opened:
    """A trace, and the induction scores of its model where they were asked for."""

    trace: Trace
    induction: InductionScores | None = None


def open_input(
    source: Sequence[str],
    *,
    as_text: bool = False,
    model: str | None = None,
    target: str | None = None,
    generate: int = 0,
    probe: bool = False,
    trust_remote_code: bool = False,
    **reading: Any,
) -> Opened:
    """Return the trace that ``source`` names, or that a model makes of the text it names.

    Args:
        source: One INPUT, or two texts for a model that reads pairs.
        as_text: Take every INPUT as a text.
        model, target, generate, trust_remote_code: How a text is read.
        probe: Measure induction on the model too.
        reading: Further options of `qkv.recording.read`.

    Raises:
        ArgumentError: no text, too many, or options for a model beside a trace.
    """
    if len(source) > 2:
        raise ArgumentError(
            f"expected one INPUT, or two texts for a model that reads pairs, got {len(source)}: put a text in quotes"
        )
    if len(source) == 1 and not as_text and (folder := trace_folder(source[0])):
        chosen = {"--model": model, "--target": target, "--generate": generate, "--probe": probe}
        given = [name for name, value in chosen.items() if value]
        if given:
            raise ArgumentError(
                f"{' and '.join(given)} cannot change a trace: {folder} holds what a model read; give a text instead"
            )
        from qkv.trace import open_trace

        return Opened(open_trace(folder))
    texts = [read_text(one, as_text=as_text) for one in source]
    pretrained = open_model(model or DEFAULT_MODEL, trust_remote_code=trust_remote_code)
    quiet = palette().quiet
    with console(stderr=True).status(f"{pretrained.title} is reading", spinner_style=quiet):
        from qkv.recording import read

        trace = read(pretrained, *texts, target=target, generate=generate, **reading)
        return Opened(trace, _probe(pretrained) if probe else None)


def trace_folder(source: str) -> Path | None:
    """Return the path where ``source`` names a trace: a folder with a trace in it, or a name that ends in .qkv.

    Raises:
        ArgumentError: it names a folder in which no trace is.
    """
    path = Path(source).expanduser()
    if source.endswith(".qkv") and len(source.split()) == 1:
        return path
    if not source or not _is(path, "dir"):
        return None
    if not (path / "trace.json").exists():
        raise ArgumentError(f"{source} is a folder, but no trace: it holds no trace.json; --text takes it as a text")
    return path


def read_text(source: str, *, as_text: bool = False) -> str:
    """Return the text that ``source`` is, or that stands in the file it names, or on standard input for ``-``.

    Raises:
        ArgumentError: there is no text in it, it is not UTF-8, or it names a file and there is none.
    """
    path = Path(source).expanduser()
    if not as_text and source == "-":
        raw, where = sys.stdin.buffer.read(), "standard input"
    elif not as_text and _is(path, "file"):
        try:
            raw, where = path.read_bytes(), str(path)
        except OSError as error:
            raise ArgumentError(f"{path} cannot be read: {error.strerror}; --text takes it as a text") from error
    elif not as_text and _is_file_name(source):
        raise ArgumentError(f"{source}: there is no such file; correct the name, or take it as a text with --text")
    else:
        raw, where = source.encode("utf-8", "surrogateescape"), "the text"
    try:
        text = raw.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"{where} is not UTF-8 text (byte {error.start} is {raw[error.start]:#04x}); save it as UTF-8 text"
        ) from error
    if not text.strip():
        raise ArgumentError(f"{where} is empty: there is nothing to read")
    return text


def _is_file_name(source: str) -> bool:
    """Whether one word can only be meant as a file: a mistyped name must not be read as if it were the text."""
    return len(source.split()) == 1 and (
        (source.startswith(FILE_BEGINNINGS) and len(source) > 3) or source.lower().endswith(FILE_ENDINGS)
    )


def _is(path: Path, kind: str) -> bool:
    """Whether a path is a file or a folder; a text that can be no path (too long, a NUL in it) is neither."""
    try:
        return path.is_dir() if kind == "dir" else path.is_file()
    except (OSError, ValueError):
        return False


def _probe(pretrained: Pretrained) -> InductionScores:
    from ._probe import probe

    return probe(pretrained)
