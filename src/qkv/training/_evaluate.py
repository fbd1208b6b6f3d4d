"""How good translations are: BLEU and chrF as sacreBLEU computes them, with the signatures that make them comparable.

BLEU: Papineni et al., 2002; chrF: Popović, 2015; sacreBLEU: Post, "A Call for Clarity in Reporting BLEU Scores", 2018.
The paired bootstrap: Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError
from ._needs import needs

SAMPLES = 1000
TOKENIZERS = {"zh": "zh", "ja": "char", "th": "char"}
"""How BLEU cuts a language into words, where spaces do not."""


@dataclass(frozen=True)
class Score:
    """Of translations against references, on a scale of 0 to 100.

    Attributes:
        bleu, chrf: the scores.
        bleu_signature, chrf_signature: how they were computed.
    """

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


@dataclass(frozen=True)
class Comparison:
    """BLEU of two systems on the same sentences, by paired bootstrap.

    Attributes:
        bleu, other: of the first and of the second system.
        low, high: the 95% confidence interval of ``bleu - other``.
        p: how likely so large a difference is by chance.
    """

    bleu: float
    other: float
    low: float
    high: float
    p: float


def score(translations: Sequence[str], references: Sequence[str], language: str) -> Score:
    """BLEU and chrF of translations, one reference each.

    Args:
        language: of the text; it decides how BLEU cuts words.

    Raises:
        ArgumentError: where the numbers of sentences differ, or there are none.
        DependencyError: where sacrebleu is not installed.

    >>> score(["the cat sat on the mat"], ["the cat sat on the mat"], "en").bleu
    100.0...
    """
    _check(translations, references)
    values, signatures = [], []
    for metric in (_metric(language), needs("sacrebleu.metrics").CHRF()):
        values.append(float(metric.corpus_score(list(translations), [list(references)]).score))
        signatures.append(str(metric.get_signature()))
    return Score(values[0], values[1], signatures[0], signatures[1])


def compare(translations: Sequence[str], others: Sequence[str], references: Sequence[str], language: str) -> Comparison:
    """Whether one system's BLEU differs from another's by more than the choice of sentences explains.

    Each of `SAMPLES` resamples draws as many sentences as there are, with replacement, the same for both systems: the
    paired bootstrap (Koehn, 2004).

    Args:
        translations: of the one system.
        others: of the other one.
        references: one for each sentence.
        language: of the text; it decides how BLEU cuts words.

    Returns:
        Both scores, the interval of their difference, and how likely it is by chance.

    Raises:
        ArgumentError, DependencyError: as `score`.

    >>> references = ["the cat sat on the mat", "the dog lay on the old rug"]
    >>> found = compare(references, ["the cat sat on a mat", "a dog lay on the rug"], references, "en")
    >>> found.bleu > found.other, 0 < found.low <= found.high
    (True, True)
    """
    import numpy as np

    _check(translations, references)
    _check(others, references)
    counts = [
        np.array([_counts(*pair, language) for pair in zip(system, references, strict=True)])
        for system in (translations, others)
    ]
    draws = np.random.default_rng(12345).integers(len(references), size=(SAMPLES, len(references)))
    samples = np.array([[_bleu(part[draw].sum(0)) for draw in draws] for part in counts])
    bleu, other = (_bleu(part.sum(0)) for part in counts)
    differences = samples[0] - samples[1]
    low, high = np.percentile(differences, [2.5, 97.5])
    # Centred, the resamples are differences between systems that do not differ.
    beyond = np.abs(differences - differences.mean()) >= abs(bleu - other)
    return Comparison(bleu, other, float(low), float(high), (int(beyond.sum()) + 1) / (SAMPLES + 1))


def _metric(language: str, **options: Any) -> Any:
    return needs("sacrebleu.metrics").BLEU(tokenize=TOKENIZERS.get(language, "13a"), **options)


def _counts(translation: str, reference: str, language: str) -> list[int]:
    """What a sentence adds to BLEU: matches and n-grams of 1 to 4 words, and both lengths."""
    found = _metric(language, effective_order=True).sentence_score(translation, [reference])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


def _bleu(counts: Any) -> float:
    numbers = [int(number) for number in counts]
    compute = needs("sacrebleu.metrics").BLEU.compute_bleu
    return float(compute(numbers[:4], numbers[4:8], numbers[8], numbers[9]).score)


def _check(translations: Sequence[str], references: Sequence[str]) -> None:
    if len(translations) != len(references) or not references:
        raise ArgumentError(
            f"translations: expected one for each reference, got {len(translations)} for {len(references)}"
        )
