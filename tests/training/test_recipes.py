"""Every shipped recipe, from packages of real text to a model that translates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from real_sample import PAIRS, sample, write_packages

from made_corpus import TINY
from qkv.training import Trained, new_translator, open_corpus, train, translate
from qkv.training.data import Packages, build, load_recipe

pytest.importorskip("pyarrow")


def test_there_is_a_sample_of_every_pair() -> None:
    assert {f"en-{language}" for language in load_recipe("translation").languages()} == set(PAIRS)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_recipe_builds_and_trains(pair: str, tmp_path: Path) -> None:
    """Each sentence comes back in the set that it was taken from."""
    recipe, rows, language = load_recipe("translation"), sample(pair), pair[3:]
    packages = tmp_path / "packages"
    packages.mkdir()
    write_packages(recipe, language, rows, packages)
    built = build(recipe, ("en", language), tmp_path / "data", Packages(tmp_path / "kept", packages))
    corpus = open_corpus(built.folder)
    for name in corpus.sets:
        assert set(corpus.pairs(name)) == {(row.text, row.translation) for row in rows if row.set == name}, name
    settings = replace(TINY, vocabulary=900, tokens=512)
    trained: Trained = train([corpus], tmp_path / "run", settings, new_translator, updates=3, every=3)
    assert trained.updates == 3
    from transformers import PreTrainedTokenizerFast

    from qkv.models import Translator

    model = Translator.from_pretrained(trained.folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(trained.folder)
    assert len(translate(model, tokenizer, [row.text for row in rows[:3]], to=language)) == 3
