"""``qkv data build``: from the user's own file to a data set, and clear sentences for what it cannot do."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from qkv import ArgumentError
from qkv.cli._app import app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["data", "build", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QKV_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "own.tsv"
    file.write_text("".join(f"Word {'a' * n}\tMot {'a' * n}\n" for n in range(1, 101)))
    return file


def test_own_file_becomes_a_data_set(table: Path, tmp_path: Path) -> None:
    text = run(str(table), "--pair", "en-fr", "--out", str(tmp_path / "set"))
    assert "own: 100 pairs" in text
    counts = [int(count) for count in re.findall(r"(\d+) (?:train|validation|test)\b", text)]
    assert sum(counts) == 100
    rows = parquet.read_table(tmp_path / "set" / "train.parquet").to_pylist()
    assert {"source": "Word aaaa", "target": "Mot aaaa", "origin": "own", "document": "own"} in rows


def test_without_out_it_lies_in_the_cache(table: Path, tmp_path: Path) -> None:
    run(str(table), "--pair", "en-it")
    assert (tmp_path / "cache" / "data" / "own-en-it" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translation", "--pair", "english"], "--pair: expected two languages such as en-fr, got 'english'"),
        (["translation", "--pair", "en-it"], "expected one of en-de, en-fr, en-zh"),
        (["nothing"], "expected one of translation"),
        (["nothing.tsv"], "does not exist"),
        (["translation", "--packages", "nowhere"], "expected a folder of .deb files, got nowhere"),
    ],
)
def test_what_it_cannot_do(table: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        run(*arguments)
