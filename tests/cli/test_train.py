"""``qkv train``, ``translate`` and ``evaluate``: from a file of two columns to translations and scores."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from made_corpus import SENTENCES, one_thread, write_table
from qkv import ArgumentError, ModelError
from qkv.cli import _telling
from qkv.cli._app import app
from qkv.training import Progress

TEN = SENTENCES[::15]
SETTINGS = [
    *("--size", "tiny", "--vocabulary", "340", "--tokens", "256", "--rate", "5e-3", "--warmup", "20"),
    *("--dropout", "0", "--smoothing", "0"),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def run(*arguments: str, text: str | None = None) -> str:
    result = CliRunner().invoke(app, list(arguments), input=text, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translator that learned ten sentences by heart, from a .tsv in one command."""
    folder = tmp_path_factory.mktemp("ten")
    table = write_table(folder / "ten.tsv", TEN)
    options = ["--every", "40", "--steps", "120", "--precision", "float32"]
    run("train", "translation", str(table), "--out", str(folder / "model"), *options, *SETTINGS)
    return folder / "model"


def known(trained: Path) -> list[tuple[str, str]]:
    """The sentences that it was trained on: a few of ten may have gone to the sets apart."""
    from qkv.training import open_corpus

    return open_corpus(trained / "data").pairs("train")


def test_ten_sentences_are_learned_by_heart(trained: Path) -> None:
    pairs = known(trained)
    assert len(pairs) >= 7
    text = "".join(f"{source}\n" for source, _ in pairs)
    for beams in ("1", "4"):
        answer = run("translate", "-", "--model", str(trained), "--to", "fr", "--beams", beams, text=text)
        assert answer.splitlines() == [target for _, target in pairs]


def test_one_sentence_an_argument_each(trained: Path) -> None:
    (source, target), (other, answer) = known(trained)[:2]
    assert run("translate", source, "", other, "--model", str(trained)).splitlines() == [target, "", answer]


def test_look_shows_all_three_attentions_and_aligns_words(trained: Path) -> None:
    source, target = known(trained)[0]
    shown = run("look", source, "--model", str(trained), "--summary")
    for stack in ("encoder", "decoder", "cross"):
        assert re.search(rf"^{stack}$", shown, re.MULTILINE)
    _, aligned = shown.split("Words as cross-attention aligns them\n")
    written = [line.split(" ")[0] for line in aligned.splitlines()[:-1]]
    assert written == re.findall(r"\w+", target)
    read = re.findall(r"← (\w+)", aligned)
    assert len(read) == len(written)
    assert set(read) <= set(re.findall(r"\w+", source))


def test_scores(trained: Path, tmp_path: Path) -> None:
    options = ["--model", str(trained), "--set", "train", "--beams", "1"]
    text = run("evaluate", str(trained / "data"), *options, "--write", str(tmp_path / "out"))
    assert re.search(r"train +\d+ +100\.0 +100\.0", text)
    assert "tok:13a|smooth:exp" in text
    assert (tmp_path / "out" / "train.txt").read_text().splitlines() == [target for _, target in known(trained)]
    found = json.loads(run("evaluate", str(trained / "data"), *options, "--against", str(trained), "--json"))
    assert found["scores"][0]["bleu"] == pytest.approx(100)
    assert found["scores"][0]["against"]["p"] == 1


def test_progress_is_told(trained: Path) -> None:
    table = str(trained.parent / "ten.tsv")
    again = run("train", "translation", table, "--out", str(trained), "--steps", "121", *SETTINGS)
    assert re.search(r"en-fr: \d+ pairs; tiny, float32, into", again), "a run keeps its precision"
    assert re.search(r"update 121  validation loss \d\.\d{4}, [\d.]+% of tokens right", again)
    assert "done: 121 updates; " in again


LINES = [
    Progress(50, 7000, 0.02, loss=6.21, speed=3128.4, left=3723),
    Progress(500, 7000, 0.19, validation=5.1234, accuracy=0.25),
    Progress(7000, 7000, 2.7, loss=1.234, speed=12345.6, left=0),
]


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> str:
    with open(os.devnull, "w") as nothing:
        screen = Console(file=nothing, force_terminal=terminal, record=True, width=80)
        monkeypatch.setattr(_telling, "console", lambda: screen)
        with _telling.telling() as told:
            for progress in LINES:
                told.report(progress)
        return screen.export_text()


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    assert re.search(r"50 of 7,000 ━{12} loss 6\.210  3,128 tokens/s  1:02:03 left", text)
    assert re.search(r"update 500  validation loss 5\.1234, 25\.0% of tokens right", text)
    assert re.search(r"7,000 of 7,000 ━{12} loss 1\.234  12,346 tokens/s  0:00:00 left", text)
    assert "pass" not in text


def test_lines_where_output_is_piped_and_the_first_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False).splitlines() == [
        "update 50 of 7,000  pass 0.02  loss 6.2100  3,128 tokens/s  1:02:03 left",
        "update 500  validation loss 5.1234, 25.0% of tokens right",
        "update 7,000 of 7,000  pass 2.70  loss 1.2340  12,346 tokens/s  0:00:00 left",
    ]
    monkeypatch.setenv("RANK", "1")
    for terminal in (True, False):
        assert shown(monkeypatch, terminal) == ""


def test_the_text_that_is_given_is_looked_at(trained: Path, tmp_path: Path) -> None:
    def stopped(file: Path, message: str, *options: str) -> None:
        told = f"the run in {trained} was started {message}: take another --out, or remove {trained} to start again"
        with pytest.raises(ArgumentError, match=re.escape(told)):
            run("train", "translation", str(file), "--out", str(trained), *options, *SETTINGS)

    before = {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()}
    other = write_table(tmp_path / "other.tsv", SENTENCES[1::15])
    stopped(other, f"on ten.tsv, and {other} holds other text")
    edited = write_table(tmp_path / "ten.tsv", [*TEN, ("Yes.", "Oui.")])
    stopped(edited, f"on ten.tsv, and {edited} has changed since")
    stopped(write_table(tmp_path / "ten.tsv", TEN), "with en-fr, and this is en-it", "--pair", "en-it")
    assert {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()} == before


def test_the_same_text_elsewhere_goes_on(trained: Path, tmp_path: Path) -> None:
    moved = write_table(tmp_path / "moved.tsv", TEN)
    assert "done: 122 updates; " in run(
        "train", "translation", str(moved), "--out", str(trained), "--steps", "122", *SETTINGS
    )


def test_two_texts_without_a_folder_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_CACHE", str(tmp_path / "cache"))
    for name, pairs in (("one", TEN), ("two", SENTENCES[1::15])):
        table = write_table(tmp_path / f"{name}.tsv", pairs)
        told = run("train", "translation", str(table), "--steps", "1", *SETTINGS)
        assert f"into {tmp_path / 'cache' / 'trained' / f'translation-{name}-en-fr'}\n" in told
    run("data", "build", str(tmp_path / "one.tsv"), "--pair", "en-de", "--out", str(tmp_path / "german"))
    told = run("train", "translation", str(tmp_path / "german"), "--steps", "1", *SETTINGS)
    assert f"into {tmp_path / 'cache' / 'trained' / 'translation-en-de'}\n" in told


def test_what_it_cannot_do(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_CACHE", str(tmp_path))
    with pytest.raises(ArgumentError, match="run `qkv data build translation --pair en-de`, or name DATA"):
        run("train", "translation", "--pair", "en-de")
    with pytest.raises(ArgumentError, match="--hours: expected a number above 0, got 0"):
        run("train", "translation", "--hours", "0")
    with pytest.raises(ArgumentError, match="to: expected fr, which this model translates into, got 'de'"):
        run("translate", "A cat", "--model", str(trained), "--to", "de")
    with pytest.raises(ArgumentError, match=r"--set: expected train, validation, test, which .* has, got 'book'"):
        run("evaluate", str(trained / "data"), "--model", str(trained), "--set", "book")


def test_a_run_that_is_not_over(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "500").mkdir(parents=True)
    (tmp_path / "run.json").write_text("{}")
    message = f"its training is not over, so there is no model yet; its last checkpoint is {tmp_path}/checkpoints/500"
    with pytest.raises(ModelError, match=re.escape(message)):
        run("translate", "A cat", "--model", str(tmp_path))


def test_a_model_that_does_not_translate() -> None:
    with pytest.raises(ModelError, match="model 'minilm' does not translate: it is an encoder, not an encoder-decoder"):
        run("translate", "A cat", "--model", "minilm")
