"""docs/commands.md is what the commands say of themselves, and they say something about every option."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import typer

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("commands_page", DOCS / "commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(generator: ModuleType) -> None:
    expected = generator.page()
    assert (DOCS / "commands.md").read_text() == expected, "run: python docs/commands.py > docs/commands.md"


def test_every_command_and_option_is_explained(generator: ModuleType) -> None:
    from qkv.cli._app import app

    found = dict(generator.commands(typer.main.get_command(app), "qkv"))
    assert {"qkv look", "qkv info", "qkv predict", "qkv similar", "qkv stats", "qkv capture"} <= found.keys()
    silent = [
        f"{path} {parameter.name}"
        for path, command in found.items()
        for parameter in command.params
        if parameter.name != "help" and not getattr(parameter, "help", None)
    ]
    assert not silent
    assert not [path for path, command in found.items() if not command.help]
