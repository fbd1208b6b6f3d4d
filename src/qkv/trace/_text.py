"""What was read and written: tokens as people read them, and the likeliest next ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

SideName: TypeAlias = Literal["input", "target"]
"""``input`` for most models; ``target`` too where a decoder reads an encoder."""


@dataclass(frozen=True, slots=True)
class Token:
    """One position of a text.

    Attributes:
        id: the tokenizer's number; -1 where the model reads no tokens (image patches, vectors).
        text: readable: bytes merged into characters, no word-piece marks.
        space: a space stands before it in running text.
        special: added by the tokenizer (``[CLS]``, ``<s>``), not part of the text.
        generated: written by the model, not given to it.
        word: index of the word that it is a piece of; -1 for a special token.
    """

    id: int
    text: str
    space: bool = False
    special: bool = False
    generated: bool = False
    word: int = -1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that the model may write next.

    Attributes:
        id: the tokenizer's number.
        text: readable, as in `Token`.
        space: a space stands before it in running text.
        probability: between 0 and 1, over the whole vocabulary.
    """

    id: int
    text: str
    space: bool
    probability: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a trace knows of the model that it was taken from.

    Attributes:
        name: what to load it by, "smollm2" or "org/model"; the class's name for a module of one's own.
        title: its name as people write it, "SmolLM2-135M".
        kind: what its attention reads: both ways, causally, or a decoder that reads an encoder.
        hidden_size: width of the residual stream; 0 where it is not known.
        layers: layers of a stack (of the decoder, where there are two).
        heads: query heads of a layer.
        intermediate_size: width of the feed-forward layer, None where it is not known.
        norm: layer normalisation "before" attention (GPT-2, Llama) or "after" it (BERT, the paper), None where it is
            not known.
        architecture: the name of its class.
        dtype: of the model's attention, "float32".
    """

    name: str
    title: str
    kind: Literal["encoder", "decoder", "encoder-decoder"]
    hidden_size: int = 0
    layers: int = 0
    heads: int = 0
    intermediate_size: int | None = None
    norm: Literal["before", "after"] | None = None
    architecture: str = ""
    dtype: str = ""
