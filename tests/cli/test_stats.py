"""``qkv stats``: the same rows in every format, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from qkv import ArgumentError
from qkv.cli._app import app
from qkv.views.tables import HeadRow, LinkRow
from random_trace import record, trace
from tiny_store import bert_folder as bert_folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["stats", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(trace([record(layer=0), record(layer=1)]).save(tmp_path_factory.mktemp("traces") / "small.qkv"))


def test_csv_on_standard_output(saved: str) -> None:
    rows = list(csv.DictReader(io.StringIO(run(saved))))
    assert len(rows) == 2 * 4
    assert list(rows[0]) == list(HeadRow.__annotations__)
    assert rows[5]["layer"] == "1"
    assert 0 < float(rows[0]["entropy_bits"]) < 3.5
    assert rows[0]["induction"] == ""


@pytest.mark.parametrize("pairs", [False, True])
def test_every_format_says_the_same(saved: str, tmp_path: Path, pairs: bool) -> None:
    more = ("--pairs", "--top", "3") if pairs else ()
    files = [tmp_path / name for name in ("heads.csv", "heads.parquet", "heads.json")]
    assert run(saved, "--csv", str(files[0]), "--parquet", str(files[1]), "--json", str(files[2]), *more) == ""
    found = json.loads(files[2].read_text())
    assert list(found[0]) == list((LinkRow if pairs else HeadRow).__annotations__)
    assert len(found) == (2 * 4 * 3 if pairs else 2 * 4)
    assert parquet.read_table(files[1]).to_pylist() == found
    rows = list(csv.DictReader(files[0].open(newline="")))
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in found]
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_one_head(saved: str) -> None:
    (row,) = csv.DictReader(io.StringIO(run(saved, "--layer", "1", "--head", "2")))
    assert (row["layer"], row["head"]) == ("1", "2")


def test_a_text(bert_folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("i ate an apple", "--model", str(bert_folder), "--probe"))))
    assert len(rows) == 2 * 2
    assert all(0 <= float(row["induction"]) <= 1 for row in rows)


def test_a_file_that_cannot_be_written(saved: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"heads\.csv cannot be written: there is no folder"):
        run(saved, "--csv", str(tmp_path / "nowhere/heads.csv"))
    with pytest.raises(ArgumentError, match="cannot be written: it is a folder"):
        run(saved, "--json", str(tmp_path))


def test_what_is_interrupted_leaves_the_old_file(saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "heads.parquet"
    file.write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyarrow.parquet.write_table", interrupted)
    result = CliRunner().invoke(app, ["stats", saved, "--parquet", str(file)])
    assert result.exit_code != 0
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
