"""Scores: sacreBLEU's own numbers and signatures, and a comparison that tells chance from difference."""

from __future__ import annotations

import random

import pytest
import sacrebleu

from made_corpus import SENTENCES
from qkv import ArgumentError
from qkv.training import compare, score

REFERENCES = [target for _, target in SENTENCES]


def spoilt(texts: list[str], share: float, seed: int) -> list[str]:
    """The texts with some words replaced."""
    draw = random.Random(seed)
    return [" ".join("quoi" if draw.random() < share else word for word in text.split()) for text in texts]


def test_scores_are_sacrebleus() -> None:
    translations = spoilt(REFERENCES, 0.2, 0)
    found = score(translations, REFERENCES, "fr")
    assert found.bleu == sacrebleu.corpus_bleu(translations, [REFERENCES]).score
    assert found.chrf == sacrebleu.corpus_chrf(translations, [REFERENCES]).score
    assert found.bleu_signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "nc:6" in found.chrf_signature


def test_chinese_is_cut_by_characters() -> None:
    found = score(["无法打开这个文件"], ["无法打开那个文件"], "zh")
    assert "tok:zh" in found.bleu_signature
    assert 0 < found.bleu < 100


def test_a_real_difference_is_told_from_chance() -> None:
    good, poor, like = spoilt(REFERENCES, 0.1, 1), spoilt(REFERENCES, 0.4, 2), spoilt(REFERENCES, 0.1, 3)
    found = compare(good, poor, REFERENCES, "fr")
    assert found.bleu == pytest.approx(score(good, REFERENCES, "fr").bleu)
    assert found.other == pytest.approx(score(poor, REFERENCES, "fr").bleu)
    assert found.p < 0.01
    assert 0 < found.low < found.bleu - found.other < found.high
    equal = compare(good, like, REFERENCES, "fr")
    assert equal.p > 0.05
    assert equal.low < 0 < equal.high


def test_as_many_translations_as_references() -> None:
    with pytest.raises(ArgumentError, match="translations: expected one for each reference, got 1 for 2"):
        score(["a"], ["a", "b"], "fr")
    with pytest.raises(ArgumentError, match="got 0 for 0"):
        score([], [], "fr")
