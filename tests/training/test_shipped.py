"""The translators in models/, installed by pip: as good as they were, and their words stand where they came from."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from real_sample import sample
from typer.testing import CliRunner

from qkv import pretrained
from qkv.cli._app import app
from qkv.recording import read
from qkv.trace import Token
from qkv.training import score, translate
from qkv.views.answers import Answers

BLEU = {"en-fr": 42.9, "en-zh": 40.2}
"""Greedy, on the sample of the test set."""
MEANT = {
    "en-fr": {
        "fichier": "file",
        "fichiers": "files",
        "erreur": "error",
        "liste": "list",
        "nom": "name",
        "texte": "text",
        "ligne": "line",
        "commande": "command",
        "valeur": "value",
        "nombre": "number",
        "si": "if",
        "et": "and",
        "ou": "or",
        "dans": "in",
        "pour": "for",
        "avec": "with",
        "par": "by",
    },
    "en-zh": {
        "文件": "file",
        "错误": "error",
        "列表": "list",
        "用户": "user",
        "选项": "option",
        "图像": "image",
        "文本": "text",
        "命令": "command",
        "打开": "open",
        "窗口": "window",
        "颜色": "color",
        "类型": "type",
        "版本": "version",
        "如果": "if",
        "和": "and",
        "或": "or",
        "它": "it",
    },
}
"""Words that stand for one English word nearly always."""
TEXT = "The file could not be opened because it does not exist."
TURNED = "Open the selected file in a new window."
"""Its halves change places in Chinese: README's picture."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    packed = {folder.name for folder in (Path(__file__).parents[2] / "models").iterdir()}
    assert packed == {f"translator-{pair}" for pair in BLEU}
    missing = packed - set(pretrained.distributed())
    assert not missing, f"not installed: {missing}; pip install --no-deps models/..., as make test-install does"


@pytest.mark.parametrize("pair", BLEU)
def test_the_score_on_a_sample(pair: str) -> None:
    """Rounding differs between processors, and may turn a word or two."""
    opened = pretrained.load(f"translator-{pair}")
    rows = [row for row in sample(pair) if row.set == "test"]
    written = translate(opened.model, opened.text_tokenizer(), [row.text for row in rows], beams=1)
    found = score(written, [row.translation for row in rows], pair[3:]).bleu
    assert BLEU[pair] - 1 < found < BLEU[pair] + 1


@pytest.mark.parametrize(
    ("pair", "text", "words"),
    [
        ("en-fr", TEXT, {"fichier": "file", "car": "because"}),
        ("en-zh", TEXT, {"不存在": "exist", "因为": "because"}),
        ("en-zh", TURNED, {"新": "new", "窗口中": "window", "打开": "Open", "选中的": "selected", "文件": "file"}),
    ],
)
def test_look_aligns_words(pair: str, text: str, words: dict[str, str]) -> None:
    shown = CliRunner().invoke(
        app, ["look", text, "--model", f"translator-{pair}", "--summary"], catch_exceptions=False
    )
    _, aligned = shown.stdout.split("Words as cross-attention aligns them\n")
    found = dict(line.split("━")[0].split("←") for line in aligned.splitlines() if "←" in line)
    found = {written.strip(): read.strip() for written, read in found.items()}
    assert words.items() <= found.items()


@pytest.mark.parametrize("pair", BLEU)
def test_words_stand_where_they_came_from(pair: str) -> None:
    """Of words whose meaning is known, at least three in five are aligned with the word that means it, as a translator
    wrote them; a word of the source drawn by chance would be one in ten."""
    opened, right, asked = pretrained.load(f"translator-{pair}"), 0, 0
    for row in (row for row in sample(pair) if row.set == "test"):
        trace = read(opened, row.text, target=row.translation, predictions=0)
        sides = trace.sequences[0].sides
        english = _words(sides["input"])
        for one in Answers(trace).alignment()["words"]:
            word = MEANT[pair].get(_text(sides["target"][one["start"] : one["stop"]]))
            if word is not None and english.count(word) == 1:
                asked += 1
                right += _text(sides["input"][one["read_start"] : one["read_stop"]]) == word
    assert asked > 20
    assert right > 0.6 * asked


def _words(tokens: list[Token]) -> list[str]:
    return [_text(list(pieces)) for _, pieces in groupby(tokens, key=lambda token: token.word)]


def _text(pieces: list[Token]) -> str:
    return "".join(piece.text for piece in pieces).strip().lower()


@pytest.mark.parametrize("pair", BLEU)
def test_translate_finds_the_one_for_the_language(pair: str) -> None:
    (answer,) = (
        CliRunner().invoke(app, ["translate", TEXT, "--to", pair[3:]], catch_exceptions=False).stdout.splitlines()
    )
    assert ("文件" if pair == "en-zh" else "fichier") in answer
