"""Hugging Face's trainer on batches of about as many tokens each, with an exact validation loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import Trainer

from ..errors import TrainingError
from ._batches import Batches
from ._checkpoints import OF_THE_OPTIMIZER
from ._collate import IGNORED
from ._encoded import EncodedPairs
from ._shards import accept_parts, keep_whole_states, shard_model, whole_weights


class TokenTrainer(Trainer):
    """A trainer whose updates come from `Batches`, whatever the number of processes and accumulation steps.

    The whole run is one epoch of ``max_steps`` updates to Hugging Face's trainer; `Batches` passes over the data
    as often as that takes. ``target_tokens`` counts the labels of this process's updates so far, over all processes.

    Args:
        tokens: of one update, padding counted.
        by: what each update has about as many of, ``"tokens"`` or ``"sentences"``.
        shard: whether each process holds a part of the weights, not all.
        **arguments: of ``transformers.Trainer``; ``train_dataset`` and ``eval_dataset`` are `EncodedPairs`.
    """

    def __init__(self, *, tokens: int, by: str = "tokens", shard: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._tokens, self._by = tokens, by
        self._shard = shard
        self._network: Any = arguments["model"]
        self.target_tokens = 0

    def batches(self) -> Batches:
        """This process's share of every update."""
        return Batches(
            self._pairs(self.train_dataset).lengths,
            self._tokens,
            self.args.max_steps,
            by=self._by,
            seed=self.args.seed,
            accumulate=self.args.gradient_accumulation_steps,
            processes=self.args.world_size,
            process=self.args.process_index,
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """What `batches` gives is one process's already, so nothing divides it again."""
        pinned = self.args.device.type == "cuda"
        return DataLoader(
            self._pairs(self.train_dataset),  # type: ignore[arg-type]
            batch_sampler=self.batches(),
            collate_fn=self.data_collator,
            pin_memory=pinned,
        )

    def create_optimizer(self, *arguments: Any) -> Any:
        """The optimizer, of the parts of the weights where these are shared: a checkpoint's are loaded by now."""
        if not self._shard:
            return super().create_optimizer(*arguments)
        shard_model(self._network, self.args.device.type)
        accept_parts(self.accelerator)
        optimizer = super().create_optimizer(*arguments)
        keep_whole_states(optimizer)
        return optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """A model folder with whole weights, written by the first process."""
        weights = whole_weights(self._network)
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        # The first process asks for the state, to write it: the others ask too, and so give their parts.
        if self._shard and not self.args.should_save and self.optimizer is not None:
            self.optimizer.state_dict()
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Into the processor's memory first: whole states may not fit where parts do, and transformers 4.57 asks several
        # processes on processors for a device "cpu:0", which nothing can be loaded to.
        for name, part in zip(OF_THE_OPTIMIZER, (self.optimizer, self.lr_scheduler), strict=True):
            if checkpoint is not None and part is not None:
                part.load_state_dict(torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True))

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one update, and how many labels it has over all processes."""
        samples, labels = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.target_tokens += int(labels or 0)
        return samples, labels

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One batch forward and backward.

        Raises:
            TrainingError: where the loss is not a number.
        """
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"train: the loss is {loss.item()} at update {self.state.global_step + 1}. {self._advice()}"
            )
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """What `measure` gives, under names that the trainer keeps in its history: ``eval_loss``, ``eval_accuracy``."""
        measured = self.measure(eval_dataset)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self, pairs: Any = None) -> dict[str, float]:
        """The mean over all labels of -log p, without smoothing and dropout, as ``loss``; and ``accuracy``, the share
        of labels that the model finds likeliest. All processes together, each a share.

        Args:
            pairs: to measure on; otherwise those for validation.

        Raises:
            TrainingError: where the loss is not a number.
        """
        pairs = self._pairs(self.eval_dataset if pairs is None else pairs)
        sums = torch.zeros(3, dtype=torch.float64)
        batches = Batches(
            pairs.lengths,
            self._tokens,
            1,
            seed=0,
            processes=self.args.world_size,
            process=self.args.process_index,
        )
        self._network.eval()
        for rows in batches.one_pass():
            sums += self._measured(self.data_collator([pairs[row] for row in rows]))
        # The trainer's device carries the sum: some back ends, CUDA's among them, take no other.
        loss, right, labels = self.accelerator.reduce(sums.to(self.args.device), reduction="sum").tolist()
        if not math.isfinite(loss):
            raise TrainingError(
                f"train: the validation loss is {loss} at update {self.state.global_step}. {self._advice()}"
            )
        return {"loss": loss / labels, "accuracy": right / labels}

    @torch.no_grad()
    def _measured(self, batch: dict[str, Any]) -> torch.Tensor:
        inputs = self._prepare_inputs(batch)
        labels = inputs.pop("labels")
        with self.accelerator.autocast():
            logits = self._network(**inputs).logits.float()
        there = labels != IGNORED
        loss = cross_entropy(logits[there], labels[there], reduction="sum")
        right = (logits[there].argmax(-1) == labels[there]).sum()
        return torch.stack([loss.double(), right.double(), there.sum().double()]).cpu()

    def _advice(self) -> str:
        return (
            f"The weights went astray: start a new run, with another --out and a lower --rate (it is "
            f"{self.args.learning_rate:g}), a longer --warmup (it is {self.args.warmup_steps:g}) or --precision float32"
        )

    @staticmethod
    def _pairs(dataset: Any) -> EncodedPairs:
        assert isinstance(dataset, EncodedPairs)
        return dataset
