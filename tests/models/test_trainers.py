"""Hugging Face's trainers and a plain loop under accelerate train our translator as they train any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from test_translator import SIZES, ids
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments, set_seed

from qkv.models import Translator, TranslatorConfig

ROWS = [{"input_ids": source, "labels": target} for source, target in zip(ids(8, 6), ids(8, 5, seed=2), strict=True)]


def fresh() -> Translator:
    set_seed(0)
    return Translator(TranslatorConfig(vocab_size=60, **SIZES, dropout=0.0))


def arguments(kind: type[TrainingArguments], folder: Path, **options: Any) -> Any:
    return kind(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        max_steps=80,
        logging_steps=20,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_trainer(tmp_path: Path, accumulate: int) -> None:
    model = fresh()
    options = arguments(TrainingArguments, tmp_path, gradient_accumulation_steps=accumulate, save_steps=40)
    trainer = Trainer(model=model, args=options, train_dataset=ROWS)
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < losses[0] - 1
    again = Trainer(model=fresh(), args=options, train_dataset=ROWS)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-40"))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.model.parameters(), strict=True))


def test_seq2seq_trainer_evaluates_what_is_written(tmp_path: Path) -> None:
    model = fresh()
    options = arguments(Seq2SeqTrainingArguments, tmp_path, predict_with_generate=True, label_smoothing_factor=0.1)
    right = []

    def metrics(found: Any) -> dict[str, float]:
        width = min(found.predictions.shape[1] - 1, 5)
        right.append((found.predictions[:, 1 : 1 + width] == found.label_ids[:, :width]).mean())
        return {"right": float(right[-1])}

    # Their label smoothing takes the labels away, so a collator gives what the decoder reads, as theirs does.
    moved = model.prepare_decoder_input_ids_from_labels(torch.stack([row["labels"] for row in ROWS]))
    rows: Any = [{**row, "decoder_input_ids": target} for row, target in zip(ROWS, moved, strict=True)]
    trainer = Seq2SeqTrainer(model=model, args=options, train_dataset=rows, eval_dataset=rows, compute_metrics=metrics)
    before = trainer.evaluate(max_new_tokens=5)["eval_right"]
    trainer.train()
    assert trainer.evaluate(max_new_tokens=5)["eval_right"] > before + 0.3


def test_a_loop_under_accelerate() -> None:
    accelerator, model = Accelerator(cpu=True), fresh()
    batches: Any = DataLoader(ROWS, batch_size=4)  # type: ignore[arg-type]
    prepared, optimizer, batches = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2), batches)
    losses: list[Tensor] = []
    for _ in range(30):
        for batch in batches:
            optimizer.zero_grad()
            loss = prepared(**batch).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.detach())
    assert losses[-1] < losses[0] - 1
