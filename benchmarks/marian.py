"""Training a translator: ours beside transformers' MarianMT with its own Seq2SeqTrainer, on the same text.

    OMP_NUM_THREADS=1 QKV_THREADS=1 .venv/bin/python benchmarks/marian.py data/en-fr out --updates 10000

Both are of one size, read the same token ids, as many sentences an update on average, on the same schedule: AdamW
(fused), bfloat16 where the processor multiplies it, dropout, label smoothing. They take turns, `--turn` updates each,
every turn a process of its own; a turn goes on from the last checkpoint, so the comparison may be killed at any moment
and started again.
MarianMT attends by PyTorch's fused attention or by plain operations, whichever is faster in a trial before it starts.

The speeds are medians over lines of 50 updates or a turn, in target tokens a second, without start, validation and
checkpoints. At the end both translate the test sets with four beams, each from its last checkpoint; and ours from what
`qkv train` leaves (the average of the last checkpoints, or the best one), which the other trainer has not.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LINE = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of `qkv data build`")
    parser.add_argument("out", type=Path, help="for both runs")
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--turn", type=int, default=500, help="updates of one before the other goes on")
    parser.add_argument("--size", default="small")
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--warmup", type=int, default=2000)
    parser.add_argument("--first", type=int, help="test sentences of each set; all otherwise")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        (_train_ours if chosen.side == "ours" else _train_theirs)(chosen)
        return
    for target in range(chosen.turn, chosen.updates + chosen.turn, chosen.turn):
        for side in ("ours", "theirs"):
            if not _checkpoint(chosen.out, side, min(target, chosen.updates)).is_dir():
                options = [
                    f"--{name}={getattr(chosen, name)}" for name in ("turn", "size", "vocabulary", "tokens", "warmup")
                ]
                turn = [str(chosen.data), str(chosen.out), f"--updates={min(target, chosen.updates)}", *options]
                subprocess.run([sys.executable, __file__, *turn, f"--side={side}"], check=True)
        print(f"{min(target, chosen.updates)} updates: {_speeds(chosen.out)}", flush=True)
    print(_scores(chosen))


def _checkpoint(out: Path, side: str, update: int) -> Path:
    return (
        out
        / side
        / ("checkpoints" if side == "ours" else "")
        / (f"{update}" if side == "ours" else f"checkpoint-{update}")
    )


def _settings(chosen: argparse.Namespace) -> Any:
    from qkv.training import Settings, best_precision

    names = ("size", "vocabulary", "tokens", "warmup")
    return Settings(**{name: getattr(chosen, name) for name in names}, precision=best_precision())


def _train_ours(chosen: argparse.Namespace) -> None:
    from qkv.training import new_translator, open_corpus, train

    every = math.gcd(chosen.turn, chosen.updates)
    corpora = [open_corpus(chosen.data)]
    train(corpora, chosen.out / "ours", _settings(chosen), new_translator, updates=chosen.updates, every=every)


def _train_theirs(chosen: argparse.Namespace) -> None:
    """MarianMT as transformers trains it, on the ids that our run encoded."""
    import torch
    from torch.utils.data import Dataset
    from transformers import (
        DataCollatorForSeq2Seq,
        MarianMTModel,
        PreTrainedTokenizerFast,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        TrainerCallback,
        set_seed,
    )

    from qkv.training._batches import TokenBatches
    from qkv.training._encoded import EncodedPairs

    settings, folder = _settings(chosen), chosen.out / "theirs"
    folder.mkdir(parents=True, exist_ok=True)
    (encoded,) = (chosen.out / "ours" / "encoded").glob("train-*")
    pairs = EncodedPairs(encoded)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(chosen.out / "ours")

    class Pairs(Dataset[dict[str, list[int]]]):
        def __len__(self) -> int:
            return len(pairs)

        def __getitem__(self, row: int) -> dict[str, list[int]]:
            source, target = pairs[row]
            return {"input_ids": source.tolist(), "labels": target.tolist()}

    class Collate(DataCollatorForSeq2Seq):  # type: ignore[misc]
        """Theirs, and a count of what it gave."""

        given = 0

        def __call__(self, features: Any, return_tensors: Any = None) -> Any:
            batch = super().__call__(features, return_tensors)
            Collate.given += int((batch["labels"] != -100).sum())
            return batch

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Target tokens a second, counted as ours are: between two lines of the log."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            self.since, self.tokens = time.monotonic(), Collate.given

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **unused: Any) -> None:
            if "loss" in (logs or {}):
                speed = (Collate.given - self.tokens) / (time.monotonic() - self.since)
                with (folder / "metrics.jsonl").open("a") as file:
                    line = {"update": state.global_step, "loss": logs["loss"], "speed": round(speed, 1)}
                    file.write(json.dumps(line) + "\n")
                self.since, self.tokens = time.monotonic(), Collate.given

    set_seed(settings.seed)
    updates_a_pass = TokenBatches(pairs.lengths, settings.tokens, 1, seed=0).updates_a_pass
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder),
        max_steps=chosen.updates,
        per_device_train_batch_size=round(len(pairs) / updates_a_pass),
        train_sampling_strategy="group_by_length",
        learning_rate=settings.rate,
        warmup_steps=settings.warmup,
        lr_scheduler_type="inverse_sqrt",
        label_smoothing_factor=settings.smoothing,
        optim="adamw_torch_fused",
        adam_beta2=0.98,
        adam_epsilon=1e-9,
        weight_decay=settings.decay,
        max_grad_norm=settings.clip,
        bf16=settings.precision == "bfloat16",
        seed=settings.seed,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=math.gcd(chosen.turn, LINE),
        save_steps=math.gcd(chosen.turn, chosen.updates),
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
    )
    collate = Collate(tokenizer)
    attention = _attention(folder, tokenizer, settings, pairs, collate)
    config = _config(tokenizer, settings, attention)
    model = MarianMTModel(config)
    collate.model = model
    Collate.given = 0
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=Pairs(),
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    last = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda file: int(file.parent.name[11:]))
    trainer.train(resume_from_checkpoint=str(last[-1].parent) if last else None)


def _config(tokenizer: Any, settings: Any, attention: str) -> Any:
    from transformers import MarianConfig

    from qkv.training import SIZES

    width, heads, encoder, decoder = SIZES[settings.size]
    return MarianConfig(
        vocab_size=len(tokenizer),
        d_model=width,
        encoder_layers=encoder,
        decoder_layers=decoder,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=512,
        dropout=settings.dropout,
        attention_dropout=settings.dropout,
        activation_dropout=settings.dropout,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=tokenizer.bos_token_id,
        forced_eos_token_id=None,
        attn_implementation=attention,
    )


def _attention(folder: Path, tokenizer: Any, settings: Any, pairs: Any, collate: Any) -> str:
    """The faster of MarianMT's attentions: forward and backward of one update, in turns; decided once."""
    import torch
    from transformers import MarianMTModel

    known = folder / "attention.txt"
    if known.is_file():
        return known.read_text()
    models = {name: MarianMTModel(_config(tokenizer, settings, name)).train() for name in ("sdpa", "eager")}
    middle = sorted(range(len(pairs)), key=lambda row: int(pairs.lengths[row].max()))[len(pairs) // 2 :][:100]
    rows = [dict(zip(("input_ids", "labels"), (ids.tolist() for ids in pairs[row]), strict=True)) for row in middle]
    collate.model = models["sdpa"]
    batch = collate(rows)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(5):
        for name, model in models.items():
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
                loss = model(**batch).loss
            loss.backward()
            times[name].append(time.perf_counter() - start)
    fastest = min(times, key=lambda name: min(times[name]))
    known.write_text(fastest)
    return fastest


def _speeds(out: Path) -> str:
    medians = {}
    for side in ("ours", "theirs"):
        lines = [json.loads(line) for line in (out / side / "metrics.jsonl").read_text().splitlines()]
        medians[side] = statistics.median(line["speed"] for line in lines if "speed" in line)
    attention = (out / "theirs" / "attention.txt").read_text()
    return (
        f"{medians['ours']:,.0f} target tokens/s, MarianMT ({attention}) {medians['theirs']:,.0f}: "
        f"ratio {medians['ours'] / medians['theirs']:.2f}"
    )


def _scores(chosen: argparse.Namespace) -> str:
    """A table: BLEU of both on each test set, the difference, and its 95% interval by paired bootstrap."""
    from transformers import MarianMTModel, PreTrainedTokenizerFast

    from qkv.models import Translator
    from qkv.training import compare, open_corpus, translate

    corpus = open_corpus(chosen.data)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(chosen.out / "ours")
    places = {
        "ours, last checkpoint": (Translator, _checkpoint(chosen.out, "ours", chosen.updates)),
        "ours, as it is left": (Translator, chosen.out / "ours"),
        "MarianMT": (MarianMTModel, _checkpoint(chosen.out, "theirs", chosen.updates)),
    }
    models: dict[str, Any] = {name: kind.from_pretrained(place).eval() for name, (kind, place) in places.items()}
    sizes = ", ".join(f"{name}: {model.num_parameters():,}" for name, model in models.items() if "left" not in name)
    lines = [
        f"parameters: {sizes}",
        "",
        "| set | model | BLEU | MarianMT | difference | 95% | p |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    for name, count in corpus.sets.items():
        if not name.startswith("test") or not count:
            continue
        pairs = corpus.pairs(name)[: chosen.first]
        sources, references = [source for source, _ in pairs], [target for _, target in pairs]
        written = {key: translate(model, tokenizer, sources, beams=4) for key, model in models.items()}
        for key in ("ours, last checkpoint", "ours, as it is left"):
            found = compare(written[key], written["MarianMT"], references, corpus.languages[1])
            lines.append(
                f"| {name}, {len(pairs)} | {key} | {found.bleu:.2f} | {found.other:.2f} "
                f"| {found.bleu - found.other:+.2f} "
                f"| {found.low:+.2f} to {found.high:+.2f} | {found.p:.3f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
