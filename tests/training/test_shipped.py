"""The translators in models/, installed by pip: as good as they were, and their words stand where they came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_sample import sample
from typer.testing import CliRunner

from qkv import pretrained
from qkv.cli._app import app
from qkv.training import score, translate

BLEU = {"en-fr": 42.9, "en-zh": 40.6}
"""Greedy, on the sample of the test set."""
TEXT = "The file could not be opened because it does not exist."


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
    ("pair", "words"),
    [("en-fr", {"fichier": "file", "car": "because"}), ("en-zh", {"文件": "file", "因为": "because"})],
)
def test_look_aligns_words(pair: str, words: dict[str, str]) -> None:
    shown = CliRunner().invoke(
        app, ["look", TEXT, "--model", f"translator-{pair}", "--summary"], catch_exceptions=False
    )
    _, aligned = shown.stdout.split("Words as cross-attention aligns them\n")
    found = dict(line.split("━")[0].split("←") for line in aligned.splitlines() if "←" in line)
    found = {written.strip(): read.strip() for written, read in found.items()}
    assert words.items() <= found.items()


@pytest.mark.parametrize("pair", BLEU)
def test_translate_finds_the_one_for_the_language(pair: str) -> None:
    (answer,) = (
        CliRunner().invoke(app, ["translate", TEXT, "--to", pair[3:]], catch_exceptions=False).stdout.splitlines()
    )
    assert ("文件" if pair == "en-zh" else "fichier") in answer
