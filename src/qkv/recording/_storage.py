"""From a torch tensor to what a trace keeps: a copy on the CPU, in the dtype that the user chose."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..trace._tensors import Raw, raw

Storage: TypeAlias = Literal["model", "float32", "float16", "bfloat16"]
STORAGES: tuple[str, ...] = get_args(Storage)


def stored(tensor: Tensor, storage: Storage = "model") -> Raw:
    """A copy that nothing else holds; "model" keeps the dtype."""
    dtype = tensor.dtype if storage == "model" else getattr(torch, storage)
    copy = torch.empty(tensor.shape, dtype=dtype)
    copy.copy_(tensor.detach())
    if dtype == torch.bfloat16:
        return Raw("BF16", copy.view(torch.int16).numpy().view("uint16"))
    return raw(copy.numpy())
