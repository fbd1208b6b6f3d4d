"""Tokens as people read them: bytes merged into characters, marks of word pieces turned into spaces.

Byte-level tokenizers cut characters apart, Chinese ones above all. Such a character stands whole on its first piece,
and the pieces after it show a mark, so that nothing is shown twice and no replacement character ever appears.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from itertools import groupby
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
        pieces = [self._piece(name, flag) for name, flag in zip(self._names(ids), special, strict=True)]
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
        if self._tokenizer is None:
            return Candidate(id=token, text=read.text, space=True, probability=probability)
        (name,) = self._names([token])
        space = self._piece(name, read.special).space if self._marks_spaces else not name.startswith("##")
        return Candidate(id=token, text=read.text, space=space, probability=probability)

    def _names(self, ids: list[int]) -> list[str]:
        """What the tokenizer calls them; models may have more ids than their tokenizer has names."""
        names = self._tokenizer.convert_ids_to_tokens(ids)
        return [str(token) if name is None else name for token, name in zip(ids, names, strict=True)]

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
    for is_special, run in groupby(zip(special, pieces, strict=True), key=lambda each: each[0]):
        members = [piece for _, piece in run]
        if is_special:
            texts.extend(piece.content.decode() for piece in members)
        else:
            texts.extend(_spread(members))
    return texts


def _spread(pieces: list[_Piece]) -> list[str]:
    """Join the bytes of pieces, and hand each character to the piece in which it begins; <E4> for a stray byte."""
    starts, contents, at = [], [], 0
    for piece in pieces:
        contents.append(b" " * piece.space + piece.content)  # a space ends whatever character was begun
        starts.append(at + piece.space)
        at += len(contents[-1])
    begun: list[list[str]] = [[] for _ in pieces]
    place, at = 0, 0
    for letter in b"".join(contents).decode("utf-8", "surrogateescape"):
        while place + 1 < len(pieces) and starts[place + 1] - pieces[place + 1].space <= at:
            place += 1
        if at >= starts[place]:
            begun[place].append(f"<{ord(letter) - 0xDC00:02X}>" if "\udc80" <= letter <= "\udcff" else letter)
        at += len(letter.encode("utf-8", "surrogateescape"))
    return ["".join(letters) or CONTINUED * bool(piece.content) for letters, piece in zip(begun, pieces, strict=True)]


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
