"""Tokens as people read them: bytes merged into characters, marks of word pieces turned into spaces.

Byte-level tokenizers cut characters apart, Chinese ones above all. Such a character stands whole on its first piece,
and the pieces after it show a mark, so that nothing is shown twice and no replacement character ever appears.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

from ..trace import Candidate, Token

CONTINUED = "·"
"""Stands for a piece that holds only the rest of a character."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NO_SPACE_BEFORE = set(".,!?;:%)]}'’”»、。，！？；：）】》”")
_NO_SPACE_AFTER = set("([{'’“«（【《“")


class _Piece(NamedTuple):
    content: bytes
    space: bool


def byte_alphabet() -> dict[str, int]:
    """The printable character that byte-level tokenizers write for each byte, as GPT-2 chose them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


class Reader:
    """Turns ids into `Token` s for one tokenizer; without one, ids are their own text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor holds its tokenizer

    def tokens(self, ids: Iterable[int], generated: Iterable[bool] | None = None) -> list[Token]:
        """Readable tokens of one text.

        Arguments:
            ids: -1 where the model reads no tokens.
            generated: which of them the model wrote.
        """
        ids = [int(token) for token in ids]
        written = [False] * len(ids) if generated is None else [bool(flag) for flag in generated]
        if self._tokenizer is None or any(token < 0 for token in ids):
            texts = [str(token if token >= 0 else place) for place, token in enumerate(ids)]
            return [
                Token(id=token, text=text, space=place > 0, generated=wrote, word=place)
                for place, (token, text, wrote) in enumerate(zip(ids, texts, written, strict=True))
            ]
        special = [token in self._special for token in ids]
        names = self._tokenizer.convert_ids_to_tokens(ids)
        pieces = [self._piece(name or "", flag) for name, flag in zip(names, special, strict=True)]
        texts = _merged(pieces, special)
        spaces = self._spaces(pieces, texts, special)
        words = _words(texts, spaces, special)
        return [
            Token(id=ids[i], text=texts[i], space=spaces[i], special=special[i], generated=written[i], word=words[i])
            for i in range(len(ids))
        ]

    def candidate(self, token: int, probability: float) -> Candidate:
        """A token that may come next."""
        (read,) = self.tokens([token])
        name = self._tokenizer.convert_ids_to_tokens([token])[0] if self._tokenizer is not None else read.text
        piece = self._piece(name or "", read.special)
        space = piece.space if self._marks_spaces else not (name or "").startswith("##")
        return Candidate(id=token, text=read.text, space=space, probability=probability)

    @cached_property
    def _special(self) -> set[int]:
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        return {*self._tokenizer.all_special_ids, *(token for token, what in added.items() if what.special)}

    @cached_property
    def _is_byte_level(self) -> bool:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is not None:
            return "ByteLevel" in repr(backend.decoder) or "ByteLevel" in repr(backend.pre_tokenizer)
        return hasattr(self._tokenizer, "byte_decoder")

    @cached_property
    def _marks_spaces(self) -> bool:
        """Whether pieces say that a space stands before them; WordPiece says only that none does."""
        vocabulary = self._tokenizer.get_vocab()
        return self._is_byte_level or any("▁" in name for name in vocabulary)

    def _piece(self, name: str, special: bool) -> _Piece:
        if special:
            return _Piece(name.encode(), False)
        if self._is_byte_level:
            content = b"".join(
                bytes([_ALPHABET[letter]]) if letter in _ALPHABET else letter.encode() for letter in name
            )
            return _Piece(content[1:], True) if content.startswith(b" ") else _Piece(content, False)
        if byte := _BYTE.fullmatch(name):
            return _Piece(bytes([int(byte[1], 16)]), False)
        if name.startswith("▁"):
            return _Piece(name[1:].replace("▁", " ").encode(), True)
        if name.startswith("##"):
            return _Piece(name[2:].encode(), False)
        return _Piece(name.removesuffix("</w>").replace("▁", " ").encode(), not self._marks_spaces)

    def _spaces(self, pieces: list[_Piece], texts: list[str], special: list[bool]) -> list[bool]:
        spaces = [piece.space for piece in pieces]
        for place, text in enumerate(texts):
            if place == 0 or special[place] or special[place - 1]:
                spaces[place] = False
            elif not self._marks_spaces:  # punctuation is cut off by the tokenizer: the spaces are as people type them
                before = texts[place - 1]
                close = text[:1] in _NO_SPACE_BEFORE or before[-1:] in _NO_SPACE_AFTER
                spaces[place] = spaces[place] and not close and not (_is_cjk(text[:1]) or _is_cjk(before[-1:]))
        return spaces


def _merged(pieces: list[_Piece], special: list[bool]) -> list[str]:
    """The text of each piece; a character cut apart stands on the piece in which it begins."""
    texts: list[str] = []
    place = 0
    while place < len(pieces):
        content, stop = pieces[place].content, place + 1
        while not special[place] and _is_cut(content) and stop < len(pieces) and not special[stop] and stop - place < 4:
            joined = content + pieces[stop].content
            if pieces[stop].space or not _goes_on(pieces[stop].content):
                break
            content, stop = joined, stop + 1
        if stop - place == 1 or _is_cut(content):  # nothing completes it: its bytes are shown as bytes
            texts.append(_shown(pieces[place].content))
            place += 1
            continue
        parts = [pieces[index].content for index in range(place, stop)]
        texts.extend(_spread(parts, content.decode("utf-8", "strict") if _is_text(content) else _shown(content)))
        place = stop
    return texts


def _spread(parts: list[bytes], text: str) -> list[str]:
    """Hand the characters of a joined text back to the pieces in which they begin."""
    starts, at = [], 0
    for letter in text:
        starts.append(at)
        at += len(letter.encode())
    texts, first = [], 0
    for part in parts:
        begun = "".join(
            letter for letter, start in zip(text, starts, strict=True) if first <= start < first + len(part)
        )
        texts.append(begun or CONTINUED)
        first += len(part)
    return texts


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_cut(content: bytes) -> bool:
    """Whether it ends in the middle of a character."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _goes_on(content: bytes) -> bool:
    """Whether it begins in the middle of a character."""
    return bool(content) and 0x80 <= content[0] < 0xC0


def _shown(content: bytes) -> str:
    """Text, with bytes that belong to no character as <E4>."""
    return re.sub(
        "[\udc80-\udcff]", lambda byte: f"<{ord(byte[0]) - 0xDC00:02X}>", content.decode("utf-8", "surrogateescape")
    )


def _words(texts: list[str], spaces: list[bool], special: list[bool]) -> list[int]:
    """The word that each piece belongs to: a new one after a space, at punctuation and at each Chinese character."""
    words, word = [], -1
    for place, text in enumerate(texts):
        if special[place]:
            words.append(-1)
            continue
        new = place == 0 or special[place - 1] or spaces[place]
        if not new and text != CONTINUED:
            before = texts[place - 1]
            new = not text[:1].isalnum() or not before[-1:].isalnum() or _is_cjk(text[:1]) or _is_cjk(before[-1:])
        word += new
        words.append(word)
    return words


def _is_cjk(letter: str) -> bool:
    return bool(letter) and (unicodedata.east_asian_width(letter) in "WF")


_ALPHABET = byte_alphabet()
