"""Checkpoints that are whole or absent, and the average of the last ones.

Hugging Face's trainer writes into ``checkpoints/.partial``; what is complete is renamed to ``checkpoints/<update>``. So
a process may be killed at any moment. Each is also a model folder: ``qkv translate --model DIR/checkpoints/500``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback

from ._shards import part_like

PARTIAL = ".partial"
FULL = 2
"""Of how many checkpoints the optimizer's state is kept: it is two thirds of their size."""
OF_THE_OPTIMIZER = ("optimizer.pt", "scheduler.pt")


class Checkpoints:
    """The complete checkpoints of one run.

    Args:
        folder: of the run.
        keep: how many to keep, the best one beside them.
    """

    def __init__(self, folder: Path, keep: int = 5) -> None:
        self.folder = folder / "checkpoints"
        self.partial = self.folder / PARTIAL
        self.keep = keep

    def all(self) -> list[Path]:
        """Complete checkpoints, the oldest first."""
        found = [path for path in self.folder.glob("*") if path.name.isdigit() and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name))

    def last(self) -> Path | None:
        """The newest one that training can go on from."""
        whole = [path for path in self.all() if (path / OF_THE_OPTIMIZER[0]).is_file()]
        return whole[-1] if whole else None

    def finish(self, update: int) -> None:
        """Rename the checkpoint that was just written, and drop what is no longer kept."""
        place = self.folder / str(update)
        shutil.rmtree(place, ignore_errors=True)
        (self.partial / f"checkpoint-{update}").replace(place)
        self._prune()

    def discard_partial(self) -> None:
        """Delete what a killed process left half written."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def best(self) -> Path | None:
        """The kept checkpoint with the lowest validation loss."""
        losses = {path: loss for path in self.all() if (loss := _loss_at(path)) is not None}
        return min(losses, key=lambda path: losses[path]) if losses else None

    def _prune(self) -> None:
        found, best = self.all(), self.best()
        for path in found[: -self.keep]:
            if path != best:
                # Out of the way first, so that a kill in between leaves no half of a checkpoint under its name.
                gone = path.replace(self.folder / f"{PARTIAL}-{path.name}")
                shutil.rmtree(gone, ignore_errors=True)
        for path in found[:-FULL]:
            for name in OF_THE_OPTIMIZER:
                (path / name).unlink(missing_ok=True)


class KeepCheckpoints(TrainerCallback):
    """Has each checkpoint renamed once every process has written its part."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def on_save(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        """Called behind the trainer's own writing."""
        if args.world_size > 1:
            torch.distributed.barrier()
        if args.should_save:
            self._checkpoints.finish(state.global_step)
        if args.world_size > 1:
            torch.distributed.barrier()


@torch.no_grad()
def load_average(model: PreTrainedModel, folders: Sequence[Path]) -> None:
    """Set a model's weights to the mean of those in the folders, summed in float64.

    The paper averages its last 5 checkpoints (Vaswani et al., 2017, section 6.1).
    """
    kind = type(model)
    sums = [torch.zeros(parameter.shape, dtype=torch.float64) for parameter in model.parameters()]
    for folder in folders:
        other = kind.from_pretrained(folder, dtype=torch.float32)
        for total, parameter in zip(sums, other.parameters(), strict=True):
            total += parameter
    for total, parameter in zip(sums, model.parameters(), strict=True):
        parameter.copy_(part_like(total / len(folders), parameter))


def _loss_at(checkpoint: Path) -> float | None:
    """The validation loss at this checkpoint's own update."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        losses = [entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(losses[-1]) if losses else None
