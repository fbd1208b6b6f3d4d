"""One head: its marginals and its figures."""

from __future__ import annotations

from qkv.trace import Attention

from ._numbers import floats
from .contract import Head, HeadFigures
from .survey import Survey


def head(record: Attention, surveyed: Survey, head: int, figures: HeadFigures | None = None) -> Head:
    """Return the marginals of one head's map.

    Args:
        record: the layer.
        surveyed: what its heads do.
        head: by its index in the model.
        figures: in place of the survey's own (where the induction score is known, say).
    """
    at = record.position(head)
    return Head(
        stack=record.stack,
        layer=record.layer,
        head=head,
        scale=float(record.scale),
        softcap=None if record.softcap is None else float(record.softcap),
        masked=masked(record),
        entropy=floats(surveyed.entropy[at]),
        received=floats(surveyed.received[at]),
        figures=figures or surveyed.figures[at],
    )


def masked(record: Attention) -> bool:
    """Whether some query may not read some key."""
    mask = record.mask_structure
    return (
        mask.causal
        or mask.window is not None
        or (mask.keys is not None and not bool(mask.keys.all()))
        or (mask.array is not None and not bool(mask.array.all()))
    )
