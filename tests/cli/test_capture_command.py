"""``qkv capture``: a trace on disk that `look` and `stats` open without the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import qkv
from qkv import ArgumentError
from qkv.cli._app import app
from tiny_store import bert_folder as bert_folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_what_is_kept_can_be_looked_at(bert_folder: Path, tmp_path: Path) -> None:
    text, model = "i ate an apple and an orange", ("--model", str(bert_folder))
    path = tmp_path / "reading.qkv"
    said = run("capture", text, *model, "--out", str(path))
    assert f"{path} holds 7 tokens, 2 layers: " in said
    assert said.rstrip().endswith("MB")
    assert [one.name for one in tmp_path.iterdir()] == ["reading.qkv"]
    assert run("look", str(path), "--summary") == run("look", text, *model, "--summary")
    assert run("stats", str(path)) == run("stats", text, *model)


def test_the_ending_is_added(bert_folder: Path, tmp_path: Path) -> None:
    run("capture", "i ate", "--model", str(bert_folder), "-o", str(tmp_path / "reading.v1"))
    assert [one.name for one in tmp_path.iterdir()] == ["reading.v1.qkv"]


def test_only_some_layers_and_heads(bert_folder: Path, tmp_path: Path) -> None:
    options = ("--layer", "1", "--head", "0", "--model", str(bert_folder))
    run("capture", "i ate an apple", *options, "--out", str(tmp_path / "one.qkv"))
    run("capture", "i ate an apple", "--model", str(bert_folder), "--out", str(tmp_path / "all.qkv"))
    one, whole = qkv.open_trace(tmp_path / "one.qkv"), qkv.open_trace(tmp_path / "all.qkv")
    assert [(layer.layer, layer.heads) for layer in one.attentions] == [(1, (0,))]
    np.testing.assert_array_equal(one.weights(1, 0), whole.weights(1, 0))


def test_a_trace_is_captured_already(bert_folder: Path, tmp_path: Path) -> None:
    run("capture", "i ate", "--model", str(bert_folder), "--out", str(tmp_path / "reading.qkv"))
    with pytest.raises(ArgumentError, match=r"reading\.qkv is a trace already; capture takes a text"):
        run("capture", str(tmp_path / "reading.qkv"), "--out", str(tmp_path / "again.qkv"))
