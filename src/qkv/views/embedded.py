"""All that a self-contained page needs: every weight of the heads shown, and what the page derives pairs from."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkv.trace import Attention

from ._numbers import lengths, shared
from .contract import EmbeddedLayer, EmbeddedThumbnails, StackName, Thumbnails
from .head import masked
from .stacks import Layers
from .survey import Survey


def embedded_layer(record: Attention, surveyed: Survey, heads: Iterable[int]) -> EmbeddedLayer:
    """Return one layer with the ``heads`` shown, by their index in the model."""
    at = [record.position(head) for head in heads]
    keys = [shared(len(record.heads), record.key_heads, position) for position in at]
    return EmbeddedLayer(
        layer=record.layer,
        scale=float(record.scale),
        softcap=None if record.softcap is None else float(record.softcap),
        masked=masked(record),
        query=encode(record.query[at]),
        key=encode(record.key[keys]),
        weights=encode(np.stack([record.weights(record.heads[position]) for position in at])),
        lse=encode(record.lse[at]),
        entropy=encode(surveyed.entropy[at]),
        received=encode(surveyed.received[at]),
        value_norm=encode(lengths(record.value)[keys]),
        output_norm=encode(surveyed.output_norm[at]),
    )


def embedded_thumbnails(header: Thumbnails, values: NDArray[np.float32]) -> EmbeddedThumbnails:
    """Return the small maps of a stack."""
    return EmbeddedThumbnails(header=header, values=encode(values))


def embedded_size(stacks: Mapping[StackName, Layers]) -> int:
    """Return about how many bytes the layers take, without computing any: float32 in base64, four bytes for three."""
    numbers = 0
    for layers in stacks.values():
        for record in layers.records.values():
            dim, queries, keys = record.query.shape[-1], record.queries, record.keys
            numbers += len(layers.heads) * (queries * keys + (queries + keys) * (dim + 3))
    return numbers * 4 * 4 // 3


def encode(values: NDArray[Any]) -> str:
    """Return an array as base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")
