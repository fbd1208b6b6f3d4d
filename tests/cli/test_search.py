"""``qkv search``: entries by what they mean, embedded once, and what their values say together."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from rich.cells import cell_len
from typer.testing import CliRunner

from qkv import ArgumentError, DependencyError, ModelError
from qkv.cli._app import app
from qkv.pretrained import _embed, embed, load
from qkv.regression._collection import debian_packages, read_packages, read_texts
from tiny_store import bert_folder as bert_folder

SAMPLE = Path(__file__).parent / "packages.txt"
TEXTS = ["i ate an apple", "an orange", "apple and orange", "i ate an apple and an orange .", "phone"]


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["search", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QKV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apt-cache that knows the sample."""
    program = tmp_path / "bin" / "apt-cache"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = dumpavail ] && cat "{SAMPLE}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_packages_are_read_as_apt_prints_them() -> None:
    found = read_packages(SAMPLE.read_text().splitlines(keepends=True))
    assert len(found) == 12
    row = found.names.index("stockfish")
    assert found.texts[row] == "stockfish: strong chess engine, to play chess against"  # the first of two versions
    assert found.numbers["size, MB"][row] == 46223 / 1024
    assert found.classes["section"][row] == "games"
    row = found.names.index("unrar")
    assert (found.texts[row], found.classes["section"][row]) == ("unrar: Unarchiver for .rar files", "utils")
    assert np.isnan(found.numbers["size, MB"][row])
    assert "nothing-told" not in found.names


def test_embeddings_are_means_of_the_last_states(bert_folder: Path, cache: Path) -> None:
    pretrained = load(bert_folder)
    found = embed(pretrained, TEXTS)
    model = transformers.BertModel.from_pretrained(bert_folder).eval()
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            state = model(**pretrained.text_tokenizer()(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(state, dim=0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    long = embed(pretrained, ["apple " * 100, "apple " * 24])
    np.testing.assert_array_equal(long[0], long[1])  # cut at what the model reads


def test_texts_are_embedded_once_and_an_interruption_goes_on(
    bert_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_embed, "PART", 2)
    pretrained, told = load(bert_folder), []

    def interrupted(done: int, total: int) -> None:
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(pretrained, TEXTS, interrupted)
    first = embed(pretrained, TEXTS, lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)  # two had been kept
    told.clear()
    np.testing.assert_array_equal(embed(pretrained, TEXTS[::-1], lambda *seen: told.append(seen))[::-1], first)
    assert not told
    part = next(cache.rglob("*.npz"))
    part.write_bytes(part.read_bytes()[:40])
    np.testing.assert_allclose(embed(pretrained, TEXTS, lambda *seen: told.append(seen)), first, atol=1e-6)
    assert told
    parts = len(list(cache.rglob("*.npz")))
    embed(pretrained, ["phone phone"], keep=False)
    assert len(list(cache.rglob("*.npz"))) == parts


def test_packages_are_ranked_and_their_values_weighed(bert_folder: Path, cache: Path, apt: None) -> None:
    command = ("apple", "--in", "packages", "--model", bert_folder, "--temperature", "0.1")
    found = json.loads(run(*command, "--top", "12", "--json"))
    weights = np.array([row["weight"] for row in found["found"]])
    assert found["entries"] == 12 == len(weights)
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(weights) <= 0).all()
    pretrained = load(bert_folder)
    keys, asked = embed(pretrained, [row["text"] for row in found["found"]]), embed(pretrained, ["apple"])[0]
    expected = np.exp(keys @ asked / 0.1)
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-4)
    sizes = np.array([row["size, MB"] for row in found["found"]], np.float64)
    known = np.isfinite(sizes)
    assert known.sum() == 11
    mean = np.average(sizes[known], weights=weights[known])
    assert found["weighted"]["size, MB"] == pytest.approx(mean, rel=1e-4)
    games = sum(row["weight"] for row in found["found"] if row["section"] == "games")
    assert found["weighted"]["section"]["games"] == pytest.approx(games, rel=1e-4)
    only = json.loads(run(*command, "--section", "games", "--json"))
    assert {row["name"] for row in only["found"]} == {"gnuchess", "stockfish", "gnubg", "0ad"}
    words = run(*command, "--top", "3")
    assert "3 texts, " in words
    assert "section, weighted over all: " in words
    assert all(cell_len(line) <= 80 for line in words.splitlines())


def test_texts_of_ones_own(bert_folder: Path, cache: Path, tmp_path: Path) -> None:
    lines, table = tmp_path / "texts.txt", tmp_path / "texts.csv"
    lines.write_text("\n\n".join(TEXTS))
    model = ("--model", bert_folder)
    found = json.loads(run("an orange", "--file", lines, *model, "--json"))
    assert found["found"][0]["text"] == "an orange"
    assert found["weighted"] == {}
    assert "an orange" in run("an orange", "--file", lines, *model)
    table.write_text("about,price,kind\n" + "".join(f"{t},{i},{'ab'[i % 2]}\n" for i, t in enumerate(TEXTS)))
    cold = ("--temperature", "0.0001", "--column", "about")
    found = json.loads(run("an orange", "--file", table, *model, *cold, "--value", "price", "--json"))
    assert found["weighted"]["price"] == pytest.approx(1)
    found = json.loads(run("an orange", "--file", table, *model, *cold, "--value", "kind", "--json"))
    assert found["weighted"]["kind"] == {"b": pytest.approx(1), "a": pytest.approx(0)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["play"], "either --in packages or --file"),
        (["play", "--in", "books"], "--in: expected packages, got 'books'"),
        (["play", "--in", "packages", "--section", "gems"], "section: expected one of .*games.* got 'gems'"),
        (["play", "--in", "packages", "--value", "x"], "--column and --value go with --file"),
        (["play", "--in", "packages", "--temperature", "0"], "--temperature: expected a positive number, got 0.0"),
        (["play", "--in", "packages", "--temperature", "nan"], "--temperature: expected a positive number"),
        ([" ", "--in", "packages"], "is empty"),
        (["play", "--file", "none.txt"], "file: none.txt cannot be read: No such file"),
        (["play", "--file", "empty.txt"], "file: empty.txt is empty"),
        (["play", "--file", "full.txt", "--section", "games"], "--section goes with --in packages"),
        (["play", "--file", "full.txt", "--column", "x"], "has no columns"),
        (["play", "--file", "two.csv"], "column: expected one of a, b, got None"),
        (["play", "--file", "two.csv", "--column", "a", "--value", "c"], "value: expected one of a, b, got c"),
    ],
)
def test_what_will_not_do(
    apt: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n")
    Path("full.txt").write_text("a text\n")
    Path("two.csv").write_text("a,b\nx,1\n")
    with pytest.raises(ArgumentError, match=message):
        run(*arguments)


def test_machines_without_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DependencyError, match=r"told by apt-cache, which this machine does not have.*--file"):
        run("play", "--in", "packages")
    monkeypatch.undo()

    class Silent:
        stdout = io.StringIO("")

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *raised: object) -> None: ...

    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/apt-cache")
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: Silent())
    with pytest.raises(ArgumentError, match="apt knows none on this machine: run apt-get update"):
        debian_packages()


def test_a_decoder_embeds_nothing(bert_folder: Path) -> None:
    from dataclasses import replace

    with pytest.raises(ModelError, match="is a decoder: embedding needs an encoder, such as minilm"):
        embed(replace(load(bert_folder), kind="decoder"), TEXTS)


def test_a_table_of_one_column_needs_no_name(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("title\nfirst\nsecond\n")
    assert read_texts(tmp_path / "one.csv").texts == ["first", "second"]
