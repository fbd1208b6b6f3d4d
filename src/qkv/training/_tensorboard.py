"""TensorBoard, where one of its two writers is installed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


def tensorboard(folder: Path) -> list[TrainerCallback]:
    """Hugging Face's own callback, writing into ``folder/tensorboard``; nothing where TensorBoard is missing."""
    known = {"tensorboard": "torch.utils.tensorboard", "tensorboardX": "tensorboardX"}
    found = next((module for name, module in known.items() if importlib.util.find_spec(name)), None)
    if found is None:
        return []
    callback: Any = importlib.import_module("transformers.integrations").TensorBoardCallback
    writer = importlib.import_module(found).SummaryWriter(str(folder / "tensorboard"))
    return [callback(writer)]
