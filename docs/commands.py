"""Write docs/commands.md from the commands' own help: ``python docs/commands.py > docs/commands.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

HEADER = """# Commands

Generated from the commands themselves: `python docs/commands.py > docs/commands.md`.
"""


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command below this one, depth first, with the words that call it."""
    if hasattr(command, "commands"):
        for name, child in sorted(command.commands.items()):
            yield from commands(child, f"{path} {name}")
    if not hasattr(command, "commands") or getattr(command, "invoke_without_command", False):
        yield path, command


def describe(parameter: Any) -> str:
    """One line: the spelling, the default, and what it is for."""
    spelling = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        spelling = f"`{(parameter.metavar or parameter.name).upper()}`"
    shown = (
        not parameter.required
        and parameter.default not in (None, False, "", (), [])
        and not callable(parameter.default)
    )
    default = f" (default {parameter.default})" if shown else ""
    return f"- {spelling}{default}: {(getattr(parameter, 'help', None) or '').strip()}"


def page() -> str:
    from qkv.cli._app import app

    parts = [HEADER]
    for path, command in commands(typer.main.get_command(app), "qkv"):
        parts.append(f"## `{path}`\n\n{(command.help or '').strip()}\n")
        parameters = [parameter for parameter in command.params if parameter.name != "help"]
        if parameters:
            parts.append("\n".join(describe(parameter) for parameter in parameters) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
