"""What the page needs to open: the texts, the stacks with the figures of every head, and where to look first."""

from __future__ import annotations

from collections.abc import Mapping

import qkv
from qkv.trace import ModelInfo, Sequence
from qkv.trace import Token as TracedToken

from .contract import HeadFigures, Overview, Selection, Side, Stack, StackName, Token
from .induction import InductionScores
from .opening import opening
from .stacks import Layers
from .survey import Survey

Surveys = Mapping[tuple[StackName, int], Survey]
"""By stack and layer."""


def overview(
    model: ModelInfo,
    sequence: Sequence,
    stacks: Mapping[StackName, Layers],
    surveys: Surveys,
    induction: InductionScores | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> Overview:
    """Return what the page opens on.

    Args:
        model, sequence: from the trace.
        stacks: the layers and heads to show.
        surveys: of all those layers.
        induction: scores from a probe, where one was run.
        layer, head: open on the most telling pair of this layer or head.
    """
    return Overview(
        model=model.name,
        title=model.title,
        sides=[Side(name=name, tokens=[token(one) for one in tokens]) for name, tokens in sequence.sides.items()],
        stacks=[_stack(layers, surveys, induction or {}) for layers in stacks.values()],
        opening=choose_opening(stacks, surveys, layer, head),
        predicts=sequence.predictions is not None,
        version=qkv.__version__,
    )


def token(one: TracedToken) -> Token:
    """Return a token as the contract has it."""
    return Token(text=one.text, space=one.space, special=one.special, generated=one.generated, word=one.word)


def choose_opening(
    stacks: Mapping[StackName, Layers], surveys: Surveys, layer: int | None = None, head: int | None = None
) -> Selection:
    """Return the most telling head and pair, of one layer or head where they are given."""
    return opening(
        (name, at, one, surveys[name, at].telling[record.position(one)])
        for name, layers in stacks.items()
        for at, record in layers.records.items()
        for one in layers.heads
        if layer in (None, at) and head in (None, one)
    )


def head_figures(
    surveys: Surveys, layers: Layers, layer: int, head: int, induction: InductionScores | None = None
) -> HeadFigures:
    """Return one head's figures, with its induction score where that is known."""
    figures = surveys[layers.name, layer].figures[layers.records[layer].position(head)]
    return {**figures, "induction": (induction or {}).get((layers.name, layer, head))}


def _stack(layers: Layers, surveys: Surveys, induction: InductionScores) -> Stack:
    first = layers.first
    return Stack(
        name=layers.name,
        query_side=first.query_side,
        key_side=first.key_side,
        layers=list(layers.records),
        heads=list(layers.heads),
        key_heads=first.key_heads,
        head_dim=int(first.query.shape[-1]),
        value_dim=int(first.value.shape[-1]),
        causal=first.causal,
        figures=[
            [head_figures(surveys, layers, layer, head, induction) for head in layers.heads] for layer in layers.records
        ],
    )
