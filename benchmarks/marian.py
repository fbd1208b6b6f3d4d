"""Training a translator: ours beside transformers' MarianMT with its own Seq2SeqTrainer, on the same text.

    OMP_NUM_THREADS=1 QKV_THREADS=1 .venv/bin/python benchmarks/marian.py data/en-fr out --updates 10000
    ... benchmarks/marian.py data/en-fr out --ours fr --updates 10000    # a run of `qkv train` is our side

Both are of one size, read the same token ids, as many sentences an update on average, and are trained by the same
settings, all of which can be chosen: `--schedule cosine --rate 0.002 --dropout 0.2 --seed 1 ...`. They take turns,
`--turn` updates each, every turn a process of its own; a turn goes on from the last checkpoint, so the comparison may
be killed at any moment and started again.
MarianMT attends by PyTorch's fused attention or by plain operations, whichever is faster in a trial before it starts.

With `--ours RUN` our side is a run of `qkv train`, over or still going on, as it was at `--updates`: MarianMT alone is
trained, with the settings and the text of that run. What is compared of it is copied, for a run drops old checkpoints.

The speeds are medians over lines of 50 updates or a turn, in target tokens a second, without start, validation and
checkpoints; only where both took turns, were they measured side by side. At the end come the losses by length, and both
translate the test sets with four beams, each from its last checkpoint; and ours from what `qkv train` leaves (the
average of the last checkpoints, or the best one), which the other trainer has not.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from qkv.training import Settings, best_precision

STATE = "trainer_state.json"
"""What either trainer writes into a checkpoint last."""
NOT_COMPARED = ("data", "tensorboard", "optimizer.pt", "scheduler.pt")
LENGTHS = (8, 16, 32, 64, math.inf)
"""Most tokens of a target, for each column of losses."""
OURS, LEFT, MARIAN = "ours, last checkpoint", "ours, as it is left", "MarianMT"


@dataclass(frozen=True)
class Plan:
    """What is compared: two folders after as many updates, on a schedule that may be longer."""

    data: Path
    ours: Path
    theirs: Path
    settings: Settings
    updates: int
    schedule: int
    turn: int
    apart: bool
    """Whether ours is a run of its own, without turns."""

    def checkpoint(self, side: str, update: int) -> Path:
        return self.ours / "checkpoints" / f"{update}" if side == "ours" else self.theirs / f"checkpoint-{update}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of `qkv data build`")
    parser.add_argument("out", type=Path, help="for both runs")
    parser.add_argument("--ours", type=Path, metavar="RUN", help="a run of `qkv train` to take as our side")
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--turn", type=int, default=500, help="updates of one before the other goes on")
    parser.add_argument("--first", type=int, help="test sentences of each set; all otherwise")
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--until", type=int, help=argparse.SUPPRESS)
    of_both = parser.add_argument_group("settings of both sides, as of `qkv train`")
    for field in fields(Settings):
        of_both.add_argument(f"--{field.name}", type=type(field.default))
    chosen = parser.parse_args()
    plan = _taken(chosen) if chosen.ours else _in_turns(chosen)
    if chosen.side:
        (_train_ours if chosen.side == "ours" else _train_theirs)(plan, chosen.until)
        return
    for until in [plan.updates] if plan.apart else [*range(plan.turn, plan.updates, plan.turn), plan.updates]:
        for side in ("ours", "theirs"):
            if not (plan.checkpoint(side, until) / STATE).is_file():
                subprocess.run([sys.executable, *sys.argv, f"--side={side}", f"--until={until}"], check=True)
        ours, theirs = _speeds(plan)
        print(f"{until} updates: {ours:,.0f} target tokens/s, MarianMT {theirs:,.0f}", flush=True)
    print(_tables(plan, chosen.first))


def _given(chosen: argparse.Namespace) -> dict[str, Any]:
    values = {field.name: getattr(chosen, field.name) for field in fields(Settings)}
    return {name: value for name, value in values.items() if value is not None}


def _in_turns(chosen: argparse.Namespace) -> Plan:
    """Both sides are trained here."""
    settings = Settings(**{"precision": best_precision(), **_given(chosen)})
    folders = chosen.out / "ours", chosen.out / "theirs"
    return Plan(chosen.data, *folders, settings, chosen.updates, chosen.updates, chosen.turn, apart=False)


def _taken(chosen: argparse.Namespace) -> Plan:
    """Ours is trained elsewhere, or was: what is compared of it is copied, for a run drops its old checkpoints."""
    from qkv.training import open_corpus

    run, update, place = chosen.ours, str(chosen.updates), chosen.out / f"ours-{chosen.updates}"
    facts = json.loads((run / "run.json").read_text())
    for name, value in _given(chosen).items():
        if value != facts["settings"][name]:
            sys.exit(f"--{name}: {run} was trained with {facts['settings'][name]!r}, got {value!r}; leave it out")
    if [each["digest"] for each in facts["data"]] != [open_corpus(chosen.data).digest]:
        sys.exit(f"data: {run} was trained on {', '.join(each['folder'] for each in facts['data'])}, not {chosen.data}")
    if not place.is_dir():
        there = sorted((path.name for path in (run / "checkpoints").glob("[0-9]*")), key=int)
        if update not in there:
            sys.exit(f"--updates: {run} has a checkpoint at {', '.join(there) or 'no update'}, not at {update}")

        def left_out(folder: str, names: list[str]) -> list[str]:
            if Path(folder).name == "checkpoints":
                return [name for name in names if name != update]
            return [name for name in names if name in NOT_COMPARED or name.startswith(".")]

        partial = chosen.out / f".{place.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(run, partial, ignore=left_out)
        partial.replace(place)
    state = json.loads((place / "checkpoints" / update / STATE).read_text())
    folders, settings = (place, chosen.out / "theirs"), Settings(**facts["settings"])
    return Plan(chosen.data, *folders, settings, chosen.updates, state["max_steps"], chosen.turn, apart=True)


def _train_ours(plan: Plan, until: int) -> None:
    from qkv.training import new_translator, open_corpus, train

    train(
        [open_corpus(plan.data)],
        plan.ours,
        plan.settings,
        new_translator,
        updates=plan.schedule,
        every=plan.turn,
        patience=plan.schedule,
        until=until,
    )


def _train_theirs(plan: Plan, until: int) -> None:
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

    from qkv.bench.equal_models import equal_sizes
    from qkv.training import new_translator
    from qkv.training._arguments import LINE, curve
    from qkv.training._batches import Batches
    from qkv.training._encoded import EncodedPairs

    settings, folder = plan.settings, plan.theirs
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "settings.json"
    of_theirs = asdict(settings)
    del of_theirs["batches"]  # its trainer has its own
    if known.is_file() and json.loads(known.read_text()) != of_theirs:
        sys.exit(f"out: {folder} was trained with other settings, see {known}; take another folder")
    known.write_text(json.dumps(of_theirs))
    (encoded,) = (plan.ours / "encoded").glob("train-*")
    pairs = EncodedPairs(encoded)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(plan.ours)

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
        """Target tokens a second, counted as ours are: between two lines of the log. It ends the turn, too."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            self.since, self.tokens = time.monotonic(), Collate.given

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **unused: Any) -> None:
            if "loss" in (logs or {}):
                speed = (Collate.given - self.tokens) / (time.monotonic() - self.since)
                with (folder / "metrics.jsonl").open("a") as file:
                    line = {"update": state.global_step, "loss": logs["loss"], "speed": round(speed, 1)}
                    file.write(json.dumps(line) + "\n")
                self.since, self.tokens = time.monotonic(), Collate.given

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.global_step >= until:
                control.should_log = control.should_save = control.should_training_stop = True

    arguments = Seq2SeqTrainingArguments(
        **curve(settings),
        output_dir=str(folder),
        max_steps=plan.schedule,
        per_device_train_batch_size=Batches(pairs.lengths, settings.tokens, 1, seed=0).sentences,
        train_sampling_strategy="group_by_length",
        label_smoothing_factor=settings.smoothing,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=math.gcd(plan.turn, LINE),
        save_steps=plan.turn,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
    )
    ours: Any = new_translator(tokenizer, settings).config
    collate = Collate(tokenizer)
    attention = _attention(folder, ours, settings, pairs, collate)
    set_seed(settings.seed)
    model = MarianMTModel(equal_sizes(ours, attention=attention))
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
    last = sorted(folder.glob(f"checkpoint-*/{STATE}"), key=lambda file: int(file.parent.name[11:]))
    trainer.train(resume_from_checkpoint=str(last[-1].parent) if last else None)


def _attention(folder: Path, ours: Any, settings: Any, pairs: Any, collate: Any) -> str:
    """The faster of MarianMT's attentions: forward and backward of one update, in turns; decided once."""
    import torch
    from transformers import MarianMTModel

    from qkv.bench.equal_models import equal_sizes

    known = folder / "attention.txt"
    if known.is_file():
        return known.read_text()
    models = {name: MarianMTModel(equal_sizes(ours, attention=name)).train() for name in ("sdpa", "eager")}
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


def _speeds(plan: Plan) -> tuple[float, float]:
    """Target tokens a second of both, medians over the lines of what is compared."""
    from qkv.training import read_metrics

    ours, theirs = (
        statistics.median(line["speed"] for line in lines if "speed" in line and line["update"] <= plan.updates)
        for lines in (read_metrics(folder / "metrics.jsonl") for folder in (plan.ours, plan.theirs))
    )
    return ours, theirs


def _tables(plan: Plan, first: int | None) -> str:
    """Sizes, speeds; BLEU of both on each test set, the difference, and its 95% interval by paired bootstrap."""
    from transformers import MarianMTModel, PreTrainedTokenizerFast

    from qkv.models import Translator
    from qkv.training import compare, open_corpus, translate

    corpus = open_corpus(plan.data)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(plan.ours)
    places = {
        OURS: (Translator, plan.checkpoint("ours", plan.updates)),
        MARIAN: (MarianMTModel, plan.checkpoint("theirs", plan.updates)),
    }
    result = json.loads((plan.ours / "run.json").read_text()).get("result", {})
    if result.get("updates") == plan.updates:
        places[LEFT] = (Translator, plan.ours)
    models: dict[str, Any] = {name: kind.from_pretrained(place).eval() for name, (kind, place) in places.items()}
    ours, theirs = _speeds(plan)
    attention = (plan.theirs / "attention.txt").read_text()
    lines = [
        "",
        "| model | parameters | target tokens/s | ratio |",
        "|---|--:|--:|--:|",
        f"| ours{', speed of a run of its own' if plan.apart else ''} | {models[OURS].num_parameters():,} "
        f"| {ours:,.0f} | {ours / theirs:.2f} |",
        f"| {MARIAN} ({attention}) | {models[MARIAN].num_parameters():,} | {theirs:,.0f} | |",
        "",
        "| loss of a token, targets of | " + " | ".join(f"to {most}" for most in LENGTHS) + " | all |",
        "|---|" + "--:|" * (len(LENGTHS) + 1),
        *(f"| {key} | " + " | ".join(f"{loss:.4f}" for loss in _losses(plan, models[key])) + " |" for key in places),
        "",
        "| set | model | BLEU | MarianMT | difference | 95% | p |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    for name, count in corpus.sets.items():
        if not name.startswith("test") or not count:
            continue
        pairs = corpus.pairs(name)[:first]
        sources, references = [source for source, _ in pairs], [target for _, target in pairs]
        written = {key: translate(model, tokenizer, sources, beams=4) for key, model in models.items()}
        for key in (key for key in (OURS, LEFT) if key in written):
            found = compare(written[key], written[MARIAN], references, corpus.languages[1])
            lines.append(
                f"| {name}, {len(pairs)} | {key} | {found.bleu:.2f} | {found.other:.2f} "
                f"| {found.bleu - found.other:+.2f} | {found.low:+.2f} to {found.high:+.2f} | {found.p:.3f} |"
            )
    return "\n".join(lines)


def _losses(plan: Plan, model: Any) -> list[float]:
    """The mean of -log p over the tokens of the validation set: of targets up to each of `LENGTHS`, and of all.

    An update of theirs holds as many sentences, one of ours as many tokens or sentences: with tokens, words of short
    sentences weigh less.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    from qkv.models._loss import IGNORED
    from qkv.training._encoded import EncodedPairs

    (encoded,) = (plan.ours / "encoded").glob("validation-*")
    pairs = EncodedPairs(encoded)
    order = sorted(range(len(pairs)), key=lambda row: int(pairs.lengths[row].max()))
    losses, counts = torch.zeros(len(LENGTHS)), torch.zeros(len(LENGTHS))
    for first in range(0, len(order), 24):
        sides = zip(*(pairs[row] for row in order[first : first + 24]), strict=True)
        sources, targets = ([torch.tensor(ids.tolist()) for ids in side] for side in sides)
        read = pad_sequence(sources, batch_first=True, padding_value=model.config.pad_token_id)
        labels = pad_sequence(targets, batch_first=True, padding_value=IGNORED)
        mask = (read != model.config.pad_token_id).long()
        with torch.inference_mode():
            scores = model(input_ids=read, attention_mask=mask, labels=labels).logits.float().transpose(1, 2)
        found = cross_entropy(scores, labels, ignore_index=IGNORED, reduction="none")
        for row, target in enumerate(targets):
            column = next(place for place, most in enumerate(LENGTHS) if len(target) <= most)
            losses[column] += found[row].sum()
            counts[column] += len(target)
    return [*(losses / counts).tolist(), float(losses.sum() / counts.sum())]


if __name__ == "__main__":
    main()
