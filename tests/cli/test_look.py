"""``qkv look``: what it takes, what it prints, and that the page answers."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
import transformers
from typer.testing import CliRunner

from qkv import ArgumentError, ModelError, ServerError, TraceError
from qkv.cli._app import app
from qkv.cli._input import read_text, trace_folder
from qkv.explorer import _files
from random_trace import record, trace
from tiny_store import WORDS, word_tokenizer
from tiny_store import bert_folder as bert_folder

SENTENCE = "The animal didn't cross the street because it was too tired"


def run(*arguments: str, typed: str | None = None) -> str:
    result = CliRunner().invoke(app, ["look", *arguments], input=typed, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny-decoder")
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": len(WORDS)}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def page_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page in place of the built one."""
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "index.html").write_text(
        '<!doctype html><html><head><script type="module" src="./qkv.js"></script></head></html>'
    )
    (folder / "qkv.js").write_text("1")
    monkeypatch.setattr(_files, "FOLDER", folder)
    _files.page_files.cache_clear()


def test_a_text(bert_folder: Path) -> None:
    text = run("i ate an apple and an orange", "--model", str(bert_folder), "--summary")
    assert "2 layers × 2 heads" in text
    assert "apple" in text
    assert "http" not in text


def test_a_file_standard_input_and_the_text_say_the_same(bert_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("i ate an apple\n", encoding="utf-8-sig")
    options = ("--model", str(bert_folder), "--summary")
    assert run(str(file), *options) == run("i ate an apple", *options) == run("-", *options, typed="i ate an apple\n")


def test_text_forces(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("apple").write_text("i ate an orange and an apple")
    Path("orange").mkdir()
    options = ("--model", str(bert_folder), "--summary")
    assert "7 tokens" in run("apple", *options)
    assert "1 token" in run("apple", "--text", *options)
    assert "1 token" in run("orange", "--text", *options)
    with pytest.raises(ArgumentError, match=r"orange is a folder, but no trace: it holds no trace\.json; --text takes"):
        run("orange", *options)


def test_layer_and_head_choose_what_it_opens_on(bert_folder: Path) -> None:
    text = run("i ate an apple", "--model", str(bert_folder), "--layer", "1", "--head", "0", "--top", "2", "--summary")
    assert "Layer 1 · head 0: what " in text
    with pytest.raises(TraceError, match=r"layer 7 is not in this trace; it holds encoder layers 0 to 1, heads 0 to 1"):
        run("i ate", "--model", str(bert_folder), "--layer", "7", "--summary")


def test_generate(decoder: str) -> None:
    text = run("i ate an", "--model", decoder, "--generate", "5", "--summary")
    tokens = re.search(r"(\d+) tokens", text)
    assert tokens is not None
    assert int(tokens[1]) > 3
    with pytest.raises((ArgumentError, ModelError), match="target"):
        run("i ate an", "--model", decoder, "--target", "apple")


def test_probe(decoder: str) -> None:
    text = run("i ate an", "--model", decoder, "--probe", "--summary")
    assert "induction" in text


def test_a_trace(tmp_path: Path) -> None:
    path = trace([record(layer=0), record(layer=1)]).save(tmp_path / "small.qkv")
    text = run(str(path), "--summary")
    assert "Random · 2 layers × 4 heads · 11 tokens" in text
    with pytest.raises(ArgumentError, match=r"--model and --probe cannot change a trace: .*small\.qkv holds what"):
        run(str(path), "--model", "minilm", "--probe")
    with pytest.raises(ArgumentError, match="sequence: the trace holds texts 0 to 0, got 1"):
        run(str(path), "--sequence", "1", "--summary")
    with pytest.raises(TraceError):
        run(str(tmp_path / "nowhere.qkv"), "--summary")


def test_a_capture_that_was_cut_off_says_so(tmp_path: Path) -> None:
    path = trace([record(layer=0)]).save(tmp_path / "cut.qkv")
    assert "cut off" not in run(str(path), "--summary")
    index = json.loads((path / "trace.json").read_text())
    (path / "trace.json").write_text(json.dumps({**index, "complete": False}))
    assert "The capture was cut off; these are the layers that were complete." in run(str(path), "--summary")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"text\.txt is empty: there is nothing to read"),
        (b" \n\n", r"text\.txt is empty: there is nothing to read"),
        (b"caf\xe9 au lait", r"text\.txt is not UTF-8 text \(byte 3 is 0xe9\); save it as UTF-8"),
    ],
)
def test_a_file_that_holds_no_text(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(ArgumentError, match=message):
        read_text(str(tmp_path / "text.txt"))


def test_what_is_no_path_is_a_text() -> None:
    long = "word " * 5000
    assert read_text(long) == long
    assert read_text("a\0b") == "a\0b"
    assert trace_folder(long) is None
    assert trace_folder("") is None
    assert trace_folder("what is a file.qkv") is None
    with pytest.raises(ArgumentError, match="the text is empty"):
        read_text("")


@pytest.mark.parametrize("name", ["chaptr.txt", "./chapter", "/gone/chapter", "../notes/Chapter.MD", "~/gone-chapter"])
def test_a_mistyped_file_is_not_read_as_a_text(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=re.escape(name) + ": there is no such file; .* with --text"):
        read_text(name)
    assert read_text(name, as_text=True) == name


@pytest.mark.parametrize("word", ["and/or", "3.14", "end.", "/", "e.g.", "save it as chapter.txt"])
def test_words_with_dots_and_strokes_are_texts(word: str) -> None:
    assert read_text(word) == word


def test_too_many_texts() -> None:
    with pytest.raises(ArgumentError, match="expected one INPUT, or two texts for a model that reads pairs, got 3"):
        run("one", "two", "three")


def test_html(bert_folder: Path, tmp_path: Path, page_stand_in: None) -> None:
    file = tmp_path / "page.html"
    text = run("i ate an apple", "--model", str(bert_folder), "--html", str(file), "--layer", "1")
    assert "page.html holds the page: 0.0 MB" in text
    data = re.search(r'<script type="application/json" id="qkv-data">(.*?)</script>', file.read_text())
    assert data is not None
    assert json.loads(data[1])["overview"]["stacks"][0]["layers"] == [1]
    assert "http" not in text


def test_a_port_in_use(bert_folder: Path, page_stand_in: None) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 is in use"):
            run("i ate", "--model", str(bert_folder), "--port", port, "--no-browser")


def test_the_page_is_served_until_ctrl_c(bert_folder: Path, page_stand_in: None) -> None:
    code = (
        "import sys; from pathlib import Path; from qkv.explorer import _files\n"
        f"_files.FOLDER = Path({str(_files.FOLDER)!r})\n"
        "from qkv.cli import main; main()"
    )
    arguments = ["look", "i ate an apple", "--model", str(bert_folder), "--no-browser"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = next(line.strip() for line in process.stdout if line.startswith("http://127.0.0.1:"))
        overview = json.load(urllib.request.urlopen(f"{url}api/overview", timeout=20))
        assert [token["text"] for token in overview["sides"][0]["tokens"]][:2] == ["i", "ate"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_second_ctrl_c_after_the_command_leaves_no_traceback() -> None:
    code = (
        "import atexit, os, signal\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "from qkv.cli import main; main()"
    )
    process = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=60)
    assert process.returncode == -signal.SIGINT
    assert process.stderr == ""


@pytest.mark.models
def test_minilm_opens_on_it_and_animal_and_names_the_previous_token_head() -> None:
    text = run(SENTENCE, "--summary")
    assert text.startswith("MiniLM-L6 · 6 layers × 12 heads · 15 tokens\n\nLayer 3 · head 1: what it reads\n")
    assert re.search(r"^it +→ animal .* 0\.64$", text, re.MULTILINE)
    assert re.search(r"^L0 H2 +reads the previous token +1\.00$", text, re.MULTILINE)


@pytest.mark.models
def test_smollm2_has_induction_heads() -> None:
    text = run(SENTENCE, "--model", "smollm2", "--probe", "--summary")
    found = dict(
        re.findall(r"^(L\d+ H\d+) +continues what was said before \(induction\) +(\d\.\d\d)$", text, re.MULTILINE)
    )
    assert float(found["L18 H6"]) > 0.85
    assert float(found["L17 H3"]) > 0.55


@pytest.mark.models
@pytest.mark.parametrize(
    ("text", "query", "key"),
    [
        (SENTENCE, "it", "animal"),
        ("My sister bought a red car, but she sold it last week to her neighbour.", "her", "sister"),
        ("The keys to the cabinet are on the table", "are", "keys"),
        ("Attention is all you need", "need", "attention"),
        ("hello world", "world", "hello"),
    ],
)
def test_openings(text: str, query: str, key: str) -> None:
    from qkv import pretrained, recording
    from qkv.views.answers import Answers

    answers = Answers(recording.read(pretrained.load("minilm"), text))
    opening, tokens = answers.overview()["opening"], answers.trace.tokens
    assert (tokens[opening["query"]], tokens[opening["key"]]) == (query, key)


def test_what_would_stop_it_in_the_end_is_told_before_anything_is_read(tmp_path: Path) -> None:
    """The model does not exist: had it been opened first, that would be the error."""
    html = CliRunner().invoke(
        app, ["look", "two words", "--model", "no-such", "--html", str(tmp_path / "gone" / "x.html")]
    )
    assert isinstance(html.exception, ArgumentError)
    assert "there is no folder" in str(html.exception)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        busy = CliRunner().invoke(app, ["look", "two words", "--model", "no-such", "--no-browser", "--port", port])
    assert isinstance(busy.exception, ServerError)
    assert f"port {port}" in str(busy.exception)
