"""What decides the curve of a run: recorded with it, and the same whenever it goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import ArgumentError

RUN = "run.json"
"""What a run's folder says of it."""
BATCHES = ("tokens", "sentences")
SCHEDULES = ("inverse-sqrt", "cosine")
SIZES = {"tiny": (64, 2, 2, 2), "small": (256, 4, 4, 2), "base": (384, 6, 4, 3)}
"""Of a translator: width, heads, layers of the encoder and of the decoder; with 8,000 tokens 0.7, 7 and 17 million
parameters."""
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Settings:
    """How a translator is trained.

    Attributes:
        size: of the model, a name in `qkv.training.SIZES`.
        vocabulary: tokens, of both languages together.
        longest: tokens on a side; longer pairs are left out.
        tokens: of one update of the weights, padding counted, on either side.
        batches: what every update has about as many of: ``tokens``; or ``sentences``, as many as ``tokens`` gives on
            average, so that the words of short ones weigh more.
        rate: the highest learning rate, at the end of the warm-up.
        warmup: updates over which the rate rises from 0.
        schedule: ``inverse-sqrt``, rate · min(t / warmup, sqrt(warmup / t)), the paper's; or ``cosine``, down to 0 at
            the last update.
        smoothing: of labels, 0.1 in the paper.
        dropout: 0.1 in the paper.
        decay: of weights, AdamW's; biases and norms have none.
        clip: the largest norm of a gradient.
        seed: of weights, dropout and the order of sentences.
        precision: of matrix products: ``float32`` or ``bfloat16``, which needs a processor that has it.
    """

    size: str = "small"
    vocabulary: int = 8000
    longest: int = 128
    tokens: int = 4096
    batches: str = "tokens"
    rate: float = 1e-3
    warmup: int = 2000
    schedule: str = "inverse-sqrt"
    smoothing: float = 0.1
    dropout: float = 0.1
    decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, least in (("vocabulary", 1), ("longest", 2), ("tokens", 1), ("warmup", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        for name in ("rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ArgumentError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        for name in ("smoothing", "dropout", "decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(f"{name}: expected a number from 0 to below 1, got {getattr(self, name)}")
        choices = {"size": tuple(SIZES), "batches": BATCHES, "schedule": SCHEDULES, "precision": PRECISIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ArgumentError(f"{name}: expected {' or '.join(known)}, got {getattr(self, name)!r}")


def best_precision(folder: Path | None = None) -> str:
    """The precision of the run in this folder, which keeps its own on every machine.

    Without one: ``"bfloat16"`` where the accelerator, or else the processor, multiplies it natively; ``"float32"``
    elsewhere.
    """
    import torch

    from ..attention._backends._native import isas

    if folder is not None and (known := _recorded(folder)):
        return known
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else "avx512_bf16" in isas()
    return "bfloat16" if native else "float32"


def _recorded(folder: Path) -> str | None:
    """None where no run was started; what is wrong with a record is said where the run goes on."""
    try:
        known = json.loads((folder / RUN).read_text(encoding="utf-8"))["settings"]["precision"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if known in PRECISIONS else None
