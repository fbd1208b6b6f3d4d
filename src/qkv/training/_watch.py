"""What a run tells while it goes on: a line for people, a line of JSON for programs; and when it stops by itself."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from ._trainer import TokenTrainer


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        update, updates: done, and to do in all.
        passes: over the data.
        loss: of training since the last line, smoothing and dropout in it; None in a line about validation.
        validation: mean -log p of a validation token in nats; None in a line about training.
        accuracy: the share of validation tokens that were found likeliest; None in a line about training.
        rate: the learning rate.
        norm: of the last gradient, before it was clipped.
        speed: target tokens a second since the last line.
        left: seconds until ``updates`` at the speed of this run.
        seconds: since this run was started or went on.
    """

    update: int
    updates: int
    passes: float
    loss: float | None = None
    validation: float | None = None
    accuracy: float | None = None
    rate: float | None = None
    norm: float | None = None
    speed: float | None = None
    left: float | None = None
    seconds: float | None = None


Report = Callable[[Progress], None]


class Watch(TrainerCallback):
    """Turns the trainer's logs into `Progress`, for ``metrics.jsonl`` and whoever looks on.

    Args:
        trainer: whose tokens are counted.
        file: gets a line for each; where a run goes on, lines behind its checkpoint are dropped first.
        report: called with each.
    """

    def __init__(self, trainer: TokenTrainer, file: Path, report: Report) -> None:
        self._trainer, self._file, self._report = trainer, file, report
        self._a_pass = trainer.batches().updates_a_pass
        self._start = self._since = time.monotonic()
        self._first = self._tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        """Start the clock, and forget what a killed run wrote behind the checkpoint that this one starts from."""
        self._start = self._since = time.monotonic()
        self._first, self._tokens = state.global_step, 0
        if state.is_world_process_zero:
            kept = [line for line in _lines(self._file) if json.loads(line)["update"] <= state.global_step]
            self._file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **unused: Any) -> None:
        """A line about training or about validation; the trainer's closing summary is neither."""
        logs = logs or {}
        now = time.monotonic()
        done = state.global_step - self._first
        common: dict[str, Any] = {
            "update": state.global_step,
            "updates": state.max_steps,
            "passes": round(state.global_step / self._a_pass, 4),
            "seconds": round(now - self._start, 3),
        }
        if "eval_loss" in logs:
            progress = Progress(**common, validation=logs["eval_loss"], accuracy=logs["eval_accuracy"])
        elif "loss" in logs:
            tokens = self._trainer.target_tokens
            progress = Progress(
                **common,
                loss=logs["loss"],
                rate=logs["learning_rate"],
                norm=logs.get("grad_norm"),
                speed=round((tokens - self._tokens) / max(now - self._since, 1e-9), 1),
                left=round((now - self._start) / max(done, 1) * (state.max_steps - state.global_step), 1),
            )
            self._tokens = tokens
        else:
            return
        self._since = now
        if state.is_world_process_zero:
            with self._file.open("a", encoding="utf-8") as file:
                known = {name: value for name, value in asdict(progress).items() if value is not None}
                file.write(json.dumps(known) + "\n")
            self._report(progress)


class StopEarly(TrainerCallback):
    """Stops where the validation loss no longer improves, a time is over or an update is reached, with a checkpoint.

    Args:
        patience: validations in a row without a new lowest loss.
        seconds: that this run may take; None is no limit.
        until: the update; None is the last.
    """

    def __init__(self, patience: int, seconds: float | None, until: int | None = None) -> None:
        self._patience, self._seconds = patience, math.inf if seconds is None else seconds
        self._until = math.inf if until is None else until
        self._start = time.monotonic()
        self.reason: str | None = None

    def on_evaluate(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        """The history is the trainer's own, which checkpoints carry: going on forgets nothing."""
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        since = len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__)
        if since >= self._patience:
            self.reason = f"the validation loss has not improved {since} times in a row"
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        """Looks at the clock, in the first process for all of them."""
        over = time.monotonic() - self._start > self._seconds
        if args.world_size > 1:
            over = _agreed(over)
        reached = self._until <= state.global_step < state.max_steps
        if over or reached:
            self.reason = "its time is over" if over else f"update {state.global_step} was to be the last"
            control.should_log = control.should_evaluate = control.should_save = True
            control.should_training_stop = True


def _agreed(over: bool) -> bool:
    import torch

    answer = [over]
    torch.distributed.broadcast_object_list(answer, src=0)
    return answer[0]


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``, each as `Progress` has it."""
    return [json.loads(line) for line in _lines(file)]


def _lines(file: Path) -> list[str]:
    """Complete lines alone: the last one may be cut off where a process was killed."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [line for line in text[: text.rfind("\n") + 1].splitlines() if line]
