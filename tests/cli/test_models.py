"""``qkv models``: the list, getting, removing, and the progress that is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from qkv import ModelError
from qkv.cli import _opening
from qkv.cli._app import app
from qkv.pretrained import Entry
from tiny_store import bert_folder as bert_folder
from tiny_store import cache as cache
from tiny_store import shipped as shipped


def run(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_list_get_remove(shipped: Entry, cache: Path) -> None:
    before, _ = run("models")
    assert "minilm" in before
    assert "kB to get" in before
    assert not cache.exists()

    _, told = run("models", "get", "minilm", "minilm")
    assert told.splitlines()[0].startswith("MiniLM-L6: fetching, ")
    assert [line.split(",")[0] for line in told.splitlines()][1:-1] == ["MiniLM-L6: checking", "MiniLM-L6: converting"]
    assert told.splitlines()[-1].startswith("MiniLM-L6 is ready: ")

    after, _ = run("models")
    assert "to get" not in after
    assert str(cache) in after.replace("\n", "")
    again, told = run("models", "get", "minilm")
    assert again.startswith("minilm is there: ")
    assert told == ""

    gone, _ = run("models", "remove", "minilm")
    assert gone.startswith("minilm removed: ")
    assert run("models")[0] == before


def test_list_as_json(shipped: Entry, cache: Path) -> None:
    facts = json.loads(run("models", "--json")[0])
    assert facts["cache"] == str(cache)
    assert facts["disk"] == 0
    assert [model["name"] for model in facts["models"]] == ["minilm"]
    assert (facts["models"][0]["installed"], facts["models"][0]["path"]) == (False, None)
    run("models", "get", "minilm")
    facts = json.loads(run("models", "--json")[0])
    assert facts["models"][0]["path"] == str(cache / "models" / "minilm")
    assert facts["models"][0]["disk"] == facts["disk"] > 0


def test_list_fits_80_columns_and_is_plain_when_piped(cache: Path) -> None:
    output, _ = run("models")
    assert "\x1b" not in output
    assert all(len(line) <= 80 for line in output.splitlines() if str(cache) not in line)


def test_wrong_name_is_told_before_anything_is_fetched(shipped: Entry, cache: Path) -> None:
    for action in ("get", "remove"):
        with pytest.raises(ModelError, match="'minlm' is not in the catalogue"):
            run("models", action, "minilm", "minlm")
    assert not cache.exists()


def test_a_model_that_reads_no_texts_is_refused_before_anything_is_fetched(cache: Path) -> None:
    with pytest.raises(ModelError, match="'whisper-tiny' reads sound: it cannot read a text"):
        _opening.open_model("whisper-tiny")
    assert not cache.exists()


def test_progress_bar_on_a_terminal(shipped: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w") as nothing:
        screen = Console(file=nothing, force_terminal=True, record=True, width=80)
        monkeypatch.setattr(_opening, "console", lambda stderr=False: screen)
        _opening.fetch("minilm")
        shown = screen.export_text()
    assert "MiniLM-L6  " in shown
    assert "MiniLM-L6 is ready" in shown


def test_open_model_fetches_what_is_missing(shipped: Entry, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _opening.open_model("minilm").title == "MiniLM-L6"
    assert "MiniLM-L6 is ready" in capsys.readouterr().err
    _opening.open_model("minilm")
    assert capsys.readouterr().err == ""


def test_errors_are_one_sentence_without_a_traceback() -> None:
    line = "from qkv.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", line, "models", "get", "minlm"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        "qkv: model 'minlm' is not in the catalogue. Did you mean 'minilm'? There is: minilm, "
    )
    assert done.stderr.count("\n") == 1


def test_help_is_quick_and_loads_no_framework() -> None:
    line = (
        "import sys\nfrom qkv.cli._app import app\napp(['--help'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    best = float("inf")
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-c", line], check=True, capture_output=True)
        after = os.times()
        best = min(best, sum(after[2:4]) - sum(before[2:4]))  # of a processor, whatever else runs: what children used
    assert best < 1.0  # 0.2 s
