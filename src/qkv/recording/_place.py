"""Where an attention stands in its model: which part, which kind, which layer. A module's path is all that is sure.

Hugging Face's modules may have no ``layer_idx``, and nothing marks cross-attention; PyTorch's have neither.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from torch import nn

CROSS = re.compile(
    r"(^|[._])(cross_?att\w*|encoder_attn|src_att\w*|encdecattention|enc_dec_att\w*|multihead_attn|attn2)([._]|$)", re.I
)
"""What cross-attention is called: BART, T5, BERT and GPT-2, PyTorch, diffusers."""


def reads_two_texts(model: nn.Module) -> bool:
    """Whether the model's decoder reads an encoder: then it has a target side."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return True
    return any(isinstance(module, nn.TransformerDecoderLayer) for module in model.modules())


def part_of(model: nn.Module, path: str) -> Literal["encoder", "decoder"] | None:
    """The part of a two-part model that a path belongs to; the first name on the way that says so decides."""
    module: Any = model
    for segment in path.split("."):
        module = getattr(module, segment, None)
        for name in (segment.lower(), type(module).__name__.lower()):
            if ("encoder" in name) != ("decoder" in name):
                return "encoder" if "encoder" in name else "decoder"
    return None


def first_number(path: str) -> int:
    """The layer that a path speaks of: "encoder.layer.3.attention.self" is 3; 0 where it has no number."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", path)
    return int(found.group(1)) if found else 0
