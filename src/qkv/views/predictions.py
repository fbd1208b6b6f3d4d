"""What the model would write next."""

from __future__ import annotations

from qkv.errors import TraceError
from qkv.trace import Sequence

from .contract import Candidate, Predictions
from .stacks import check_index


def predictions(sequence: Sequence, position: int) -> Predictions:
    """Return the likeliest next tokens after one position of the decoder's text, likeliest first.

    Raises:
        TraceError: the model predicts no next token, or its predictions were not kept.
        ArgumentError: there is no such position.
    """
    if sequence.predictions is None:
        raise TraceError("this trace holds no predictions: only a decoder read as a language model has them")
    check_index("position", position, len(sequence.predictions))
    return Predictions(
        position=position,
        candidates=[
            Candidate(text=one.text, space=one.space, probability=one.probability)
            for one in sequence.predictions[position]
        ],
    )
