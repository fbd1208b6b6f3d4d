"""The stations from x to a layer's output, with this model's shapes."""

from __future__ import annotations

import math

from qkv.trace import Attention, ModelInfo

from .contract import Derivation, Step
from .head import masked


def derivation(model: ModelInfo, record: Attention) -> Derivation:
    """Return the derivation of one layer: stations that the model lacks (a softcap, a bias) are left out."""
    queries, keys, width = record.queries, record.keys, model.hidden_size
    query_dim, key_dim, value_dim = record.query.shape[-1], record.key.shape[-1], record.value.shape[-1]
    stream = f"{queries} × {width}" if width else ""
    scores = f"{queries} × {keys}"
    usual = math.isclose(record.scale, 1 / math.sqrt(query_dim), rel_tol=1e-4)
    steps = [Step(name="input", shape=stream)]
    if model.norm == "before":
        steps.append(Step(name="norm", shape=stream))
    steps += [
        Step(
            name="qkv",
            shape=f"{queries} × {query_dim}" if queries == keys else f"{queries} × {query_dim}, {keys} × {key_dim}",
        ),
        Step(name="scores", shape=scores),
        Step(name="scale", shape=f"d = {query_dim}" if usual else f"× {record.scale:.4g}"),
    ]
    if record.softcap is not None:
        steps.append(Step(name="softcap", shape=f"{record.softcap:g}"))
    if record.bias_structure.table is not None or record.bias_structure.array is not None:
        steps.append(Step(name="bias", shape=scores))
    steps += [
        Step(name="mask", shape=scores if masked(record) else ""),
        Step(name="softmax", shape=scores),
        Step(name="value", shape=f"{queries} × {value_dim}"),
        Step(name="concat", shape=f"{queries} × {record.head_count * value_dim}"),
        Step(name="output", shape=stream),
        Step(name="norm", shape=stream),
    ]
    inner = model.intermediate_size
    # In a decoder that reads an encoder, cross-attention stands between self-attention and the feed-forward layer.
    if not (model.kind == "encoder-decoder" and record.stack == "decoder"):
        steps.append(Step(name="ffn", shape=f"{width} → {inner} → {width}" if width and inner else ""))
    return Derivation(stack=record.stack, layer=record.layer, steps=steps)
