"""What is kept of raw pairs: sentences of people, without the marks of the programs that they come from."""

from __future__ import annotations

import html
import re
import unicodedata

from ._pair import Pair
from ._recipe import Cleaning

_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_SPACES = re.compile(r"\s+")
_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_ACCELERATOR = re.compile(r"(?<![&\w])[_&](?=\w)|(?<=\w)[_&](?=[a-z])|\((?:_|&)[A-Za-z]\)")
_PLACEHOLDER = re.compile(
    r"%(?:\d+\$)?[-+ #0]*[\d*]*(?:\.[\d*]+)?(?:hh|h|ll|l|q|j|z|t|L)?[a-zA-Z%]|\{\d*\}|\$\{?\w+\}?|%\d"
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-ZÀ-Ý«\"“(])|(?<=[。！？])")


def clean(text: str, *, accelerators: bool = True) -> str:
    """One line without tags, doubled spaces and, where a program's text has them, keyboard accelerators.

    >>> clean("Open <b>_File</b>&hellip;")
    'Open File…'
    >>> clean("AT&amp;t writes snake_case", accelerators=False)
    'AT&t writes snake_case'
    """
    text = html.unescape(_TAG.sub("", text))
    if accelerators:
        text = _ACCELERATOR.sub("", text)
    return _SPACES.sub(" ", unicodedata.normalize("NFC", text)).strip()


def sentences(pair: Pair) -> list[Pair]:
    """A paragraph as its sentences, where both sides have the same number of them; otherwise itself.

    >>> [p.text for p in sentences(Pair("It rains. We stay.", "Il pleut. Nous restons.", ""))]
    ['It rains.', 'We stay.']
    """
    here, there = ([part for part in _SENTENCE.split(side) if part] for side in pair[:2])
    if len(here) != len(there):
        return [pair]
    return [Pair(text, translation, pair.document) for text, translation in zip(here, there, strict=True)]


def words(text: str) -> float:
    """How many words long a text is; of Chinese characters two make one.

    >>> words("Attention is all you need"), words("注意力机制")
    (5.0, 2.5)
    """
    characters = len(_CJK.findall(text))
    return len(_CJK.sub(" ", text).split()) + characters / 2


def is_kept(pair: Pair, rules: Cleaning, languages: tuple[str, str]) -> bool:
    """Whether a clean pair is a sentence and its translation, as far as can be seen without reading it.

    Args:
        languages: of the text and of the translation.
    """
    here, there = words(pair.text), words(pair.translation)
    if not (rules.shortest <= here <= rules.longest and rules.shortest / 2 <= there <= rules.longest * 1.5):
        return False
    if max(here, there) > rules.ratio * min(here, there):
        return False
    if (
        pair.text == pair.translation
        or _letters(pair.text) < rules.letters
        or _letters(pair.translation) < rules.letters
    ):
        return False
    if not all(_in_its_script(side, language) for side, language in zip(pair[:2], languages, strict=True)):
        return False
    return sorted(_PLACEHOLDER.findall(pair.text)) == sorted(_PLACEHOLDER.findall(pair.translation))


def normalised(text: str) -> str:
    """What two sentences have in common that differ in case, punctuation and spaces only: letters and digits.

    >>> normalised("Save the File?") == normalised("save the file")
    True
    """
    return "".join(letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalnum())


def _in_its_script(text: str, language: str) -> bool:
    """Whether Chinese characters are there for Chinese and for no other; Japanese and Korean are written either way."""
    return language in ("ja", "ko") or (language == "zh") == bool(_CJK.search(text))


def _letters(text: str) -> float:
    """The share of letters among what is not a space."""
    dense = text.replace(" ", "")
    return sum(letter.isalpha() for letter in dense) / max(len(dense), 1)
