"""A trace as tables: one row a head, or one row a link, for data frames and spreadsheets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np

from qkv.trace import Token

from .answers import Answers
from .contract import StackName
from .top_links import top_links


class HeadRow(TypedDict):
    """What one head does over one text."""

    text: int
    """Index of the text in the trace."""
    stack: StackName
    layer: int
    head: int
    queries: int
    keys: int
    entropy_bits: float
    first: float
    previous: float
    next: float
    distance: float
    induction: float | None
    received_most: int
    """The key that receives most weight."""
    received_most_token: str
    received_most_share: float
    """Its share of all weight."""


class LinkRow(TypedDict):
    """A query, a key, and the weight with which the one reads the other."""

    text: int
    stack: StackName
    layer: int
    head: int
    query: int
    query_token: str
    key: int
    key_token: str
    weight: float


def head_rows(answers: Answers) -> Iterator[HeadRow]:
    """Yield a row for every head, by stack, layer and head; the figures are those of the contract's HeadFigures."""
    for stack, figures in zip(answers.stacks.values(), answers.overview()["stacks"], strict=True):
        for (layer, record), row in zip(stack.records.items(), figures["figures"], strict=True):
            received = answers.surveys[stack.name, layer].received
            for head, found in zip(stack.heads, row, strict=True):
                mine = received[record.position(head)]
                most = int(np.argmax(mine)) if mine.size else -1
                total = float(mine.sum())
                yield HeadRow(
                    text=answers.sequence_index,
                    stack=stack.name,
                    layer=layer,
                    head=head,
                    queries=record.queries,
                    keys=record.keys,
                    entropy_bits=found["entropy"],
                    first=found["first"],
                    previous=found["previous"],
                    next=found["next"],
                    distance=found["distance"],
                    induction=found["induction"],
                    received_most=most,
                    received_most_token=_text(stack.key_tokens, most),
                    received_most_share=float(mine[most]) / total if total else 0.0,
                )


def link_rows(answers: Answers, top: int) -> Iterator[LinkRow]:
    """Yield the ``top`` links of every head by weight, sinks and special tokens among them."""
    for stack in answers.stacks.values():
        for layer, record in stack.records.items():
            for head in stack.heads:
                for link in top_links(record, head, stack.query_tokens, stack.key_tokens, top, words_only=False):
                    yield LinkRow(
                        text=answers.sequence_index,
                        stack=stack.name,
                        layer=layer,
                        head=head,
                        query=link.query,
                        query_token=_text(stack.query_tokens, link.query),
                        key=link.key,
                        key_token=_text(stack.key_tokens, link.key),
                        weight=link.weight,
                    )


def _text(tokens: list[Token], position: int) -> str:
    return tokens[position].text if 0 <= position < len(tokens) else ""
