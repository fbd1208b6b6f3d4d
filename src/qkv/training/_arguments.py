"""A run's settings in the words of Hugging Face's trainer."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ._settings import Settings

LINE = 50
"""Updates between two lines of progress, at most."""


def curve(settings: Settings) -> dict[str, Any]:
    """What decides the curve: AdamW with the paper's betas, its rate, its clipping, the precision and the seed.

    Any ``TrainingArguments`` take it, so that a model beside ours is trained as ours is.
    """
    return {
        "learning_rate": settings.rate,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": settings.schedule.replace("inverse-sqrt", "inverse_sqrt"),
        "optim": "adamw_torch_fused",
        "adam_beta1": 0.9,
        "adam_beta2": 0.98,
        "adam_epsilon": 1e-9,
        "weight_decay": settings.decay,
        "max_grad_norm": settings.clip,
        "bf16": settings.precision == "bfloat16",
        "seed": settings.seed,
    }


def training_arguments(
    settings: Settings, output: Path, updates: int, every: int, accumulate: int
) -> TrainingArguments:
    """All arguments of our trainer: when a line, a validation and a checkpoint are due, on one process or several."""
    on_cpu = not torch.cuda.is_available()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1  # torchrun's
    return TrainingArguments(
        **curve(settings),
        output_dir=str(output),
        max_steps=updates,
        gradient_accumulation_steps=accumulate,
        logging_steps=math.gcd(every, LINE),  # so that a checkpoint never cuts the updates of a line in two
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and several else None,
        ddp_find_unused_parameters=False,
        average_tokens_across_devices=True,
    )
