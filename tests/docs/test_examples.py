"""Every Python block of README and docs runs, in order, page by page; every `qkv` line of a shell block parses."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import click
import pytest
import typer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """(line, text) of every fenced block in one of the languages."""
    text = page.read_text()
    return [
        (text.count("\n", 0, match.start(2)) + 1, match[2]) for match in FENCE.finditer(text) if match[1] in languages
    ]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.models
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python", "pycon")], ids=page_name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "example"}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for line, text in blocks(page, "python", "pycon"):
        if ">>>" in text:
            example = doctest.DocTestParser().get_doctest(text, namespace, page_name(page), str(page), line)
            runner.run(example, clear_globs=False)
            namespace.update(example.globs)
        else:
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), namespace)
    assert runner.failures == 0


def command_lines() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for line, text in blocks(page, "bash", "console", "shell"):
            for offset, command in enumerate(text.replace("\\\n", " ").splitlines()):
                words = shlex.split(command.removeprefix("$ "), comments=True)
                if words[:1] == ["qkv"]:
                    found.append((f"{page_name(page)}:{line + offset}", words[1:]))
    return found


@pytest.mark.parametrize(
    ("where", "arguments"), command_lines(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_command_lines_parse(where: str, arguments: list[str]) -> None:
    """The command exists and takes these options (nothing is run)."""
    from qkv.cli._app import app

    command: click.Command = typer.main.get_command(app)
    context = click.Context(command, info_name="qkv")
    words = [word for word in arguments if word not in ("-h", "--help")]
    while hasattr(command, "resolve_command") and words:
        _, command, words = command.resolve_command(context, words)
        context = click.Context(command, parent=context, info_name=command.name)
    for pipe in ("|", ">", "&&", "<"):
        if pipe in words:
            words = words[: words.index(pipe)]
    if words != arguments or words:
        command.parse_args(context, words)
