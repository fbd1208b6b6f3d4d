"""One run, from parallel text to a model folder; the same call goes on with what an earlier one left.

A run's folder::

    run.json                 settings, updates, data, versions; at the end which weights won, and their validation loss
    tokenizer.json ...       learned first
    encoded/                 the text as token ids
    checkpoints/500/ ...     each a model folder, complete or absent
    metrics.jsonl, loss.svg  what the run told
    config.json, model.safetensors, generation_config.json   the model, when the run is over
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, PrinterCallback

from .._quiet import quiet_transformers
from .._replacing import replacing
from ..errors import ArgumentError
from ._arguments import training_arguments
from ._checkpoints import Checkpoints, KeepCheckpoints, load_average
from ._collate import Collate
from ._corpus import Corpus
from ._encoded import EncodedPairs, digest, encode
from ._loss import SmoothedLoss
from ._memory import keep_freed_memory
from ._plot import write_plot
from ._settings import RUN as RUN
from ._settings import Settings
from ._shards import whole_weights
from ._tensorboard import tensorboard
from ._tokenizer import train_tokenizer
from ._trainer import TokenTrainer
from ._watch import Progress, Report, StopEarly, Watch, read_metrics

METRICS, PLOT = "metrics.jsonl", "loss.svg"

Build = Callable[[PreTrainedTokenizerFast, Settings], PreTrainedModel]


@dataclass(frozen=True)
class Trained:
    """What a run came to.

    Attributes:
        folder: of the model.
        updates: of its weights.
        validation: mean -log p of a validation token, in nats.
        weights: which won: ``"the average of ..."`` or ``"checkpoint ..."``.
        reason: why the run ended; None at its last update.
    """

    folder: Path
    updates: int
    validation: float
    weights: str
    reason: str | None


def train(
    corpora: Sequence[Corpus],
    folder: Path,
    settings: Settings,
    build: Build,
    *,
    updates: int,
    every: int = 500,
    patience: int = 10,
    keep: int = 5,
    accumulate: int = 1,
    shard: bool = False,
    seconds: float | None = None,
    until: int | None = None,
    report: Report = lambda progress: None,
    preparing: Callable[[str], None] = lambda step: None,
) -> Trained:
    r"""Train a translator on one or several data sets.

    Killed at any moment, it goes on from its last complete checkpoint and follows the same curve. The order of
    sentences, and with it the curve, does not depend on ``accumulate``, on the number of processes (``torchrun``) or on
    ``shard``.

    Args:
        corpora: what to train on; their sets ``validation`` measure, or, where these are empty, ``train``.
        folder: of the run.
        settings: what decides the curve.
        build: makes the model for a tokenizer, with fresh weights.
        updates: at most. The cosine schedule falls to 0 over them, so there they decide the curve too.
        every: updates between validations, each of which writes a checkpoint.
        patience: validations without a new lowest loss after which the run stops.
        keep: checkpoints to keep, and to average at the end.
        accumulate: parts that an update is cut into, one after the other, where memory is short.
        shard: leave each process its part of weights, gradients and optimizer state, where memory is short (FSDP2).
        seconds: after which the run stops; None is no limit.
        until: the update after which this call stops, for another one to go on; None goes on to the last. The schedule
            is that of all `updates`.
        report: called with each `Progress`, in the first process.
        preparing: told of each step before the first update: learning the tokenizer, encoding the text.

    Returns:
        The model's folder, its validation loss, which weights won, and why the run ended.

    Raises:
        ArgumentError: where a number is out of range, the folder holds another run, no pair is short enough, or
            ``shard`` finds one process alone.
        DependencyError: where ``shard`` finds a PyTorch before 2.6.
        TrainingError: where the loss is not a number.

    >>> import tempfile
    >>> from qkv.training import new_translator, open_corpus
    >>> from qkv.training.data import Packages, build, table_recipe
    >>> with tempfile.TemporaryDirectory() as name:
    ...     place = Path(name)
    ...     pairs = [f"Room {number} is free.\tLa chambre {number} est libre.\n" for number in range(60)]
    ...     _ = (place / "rooms.tsv").write_text("".join(pairs), encoding="utf-8")
    ...     _ = build(table_recipe(place / "rooms.tsv", "fr"), ("en", "fr"), place / "rooms", Packages(place))
    ...     tiny = Settings(size="tiny", vocabulary=300, tokens=256, warmup=2)
    ...     trained = train([open_corpus(place / "rooms")], place / "model", tiny, new_translator, updates=2, every=2)
    >>> trained.updates, trained.weights
    (2, 'checkpoint 2')
    """
    counts = {"steps": updates, "every": every, "patience": patience, "keep": keep, "accumulate": accumulate}
    for name, value in counts.items():
        if value < 1:
            raise ArgumentError(f"{name}: expected 1 or more, got {value}")
    checkpoints = Checkpoints(folder, keep)
    last = checkpoints.last()
    done = int(last.name) if last else 0
    if until is not None and until <= done:
        raise ArgumentError(f"until: expected an update after {done}, where the run in {folder} stands, got {until}")
    keep_freed_memory()
    arguments = training_arguments(settings, checkpoints.partial, updates, every, accumulate)
    if shard and arguments.world_size < 2:
        raise ArgumentError(
            "shard: expected several processes to share the weights, got one: start them with "
            "`torchrun --nproc-per-node 2 --no-python qkv train ...`, or leave out --shard"
        )
    with arguments.main_process_first(local=False, desc="the data"):
        tokenizer, pairs, measured = _prepare(corpora, folder, settings, updates, preparing)
        if arguments.should_save:
            checkpoints.discard_partial()
    transformers.set_seed(settings.seed)
    model = build(tokenizer, settings)
    trainer = TokenTrainer(
        tokens=settings.tokens,
        by=settings.batches,
        shard=shard,
        model=model,
        args=arguments,
        train_dataset=pairs,
        eval_dataset=measured,
        processing_class=tokenizer,
        data_collator=Collate(tokenizer.pad_token_id, model.config.decoder_start_token_id),
        compute_loss_func=SmoothedLoss(settings.smoothing),
    )
    trainer.remove_callback(PrinterCallback)
    stop = StopEarly(patience, seconds, until)

    def told(progress: Progress) -> None:
        report(progress)
        if progress.validation is not None:
            write_plot(read_metrics(folder / METRICS), folder / PLOT)

    callbacks = [Watch(trainer, folder / METRICS, told), stop, KeepCheckpoints(checkpoints)]
    if arguments.should_save:  # the first process alone: two that open a new folder at once trip over one another
        callbacks += tensorboard(folder)
    for callback in callbacks:
        trainer.add_callback(callback)
    with quiet_transformers():
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        validation, chosen = _choose(trainer, model, checkpoints)
        weights = whole_weights(model)
        if arguments.should_save:
            _save(model, weights, folder)
    if arguments.should_save:
        _record(folder, {"updates": trainer.state.global_step, "validation": validation, "weights": chosen})
    return Trained(folder, trainer.state.global_step, validation, chosen, stop.reason)


def _prepare(
    corpora: Sequence[Corpus], folder: Path, settings: Settings, updates: int, preparing: Callable[[str], None]
) -> tuple[PreTrainedTokenizerFast, EncodedPairs, EncodedPairs]:
    """The tokenizer and the encoded sets: made by the first call, opened by every other one."""
    facts = {
        "settings": asdict(settings),
        "updates": updates,
        "data": [
            {"folder": str(corpus.folder.absolute()), "languages": list(corpus.languages), "digest": corpus.digest}
            for corpus in corpora
        ],
    }
    known = _read(folder / RUN)
    if known:
        _compare(folder, known, facts)
        if known.get("updates") != updates:
            _write(folder / RUN, {**known, "updates": updates})
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        texts = [text for corpus in corpora for pair in corpus.pairs("train") for text in pair]
        preparing(f"learning {settings.vocabulary:,} tokens from {len(texts):,} sentences")
        tokenizer = train_tokenizer(
            texts,
            settings.vocabulary,
            source_languages=sorted({corpus.languages[0] for corpus in corpora}),
            target_languages=sorted({corpus.languages[1] for corpus in corpora}),
        )
        tokenizer.save_pretrained(folder)
        _write(folder / RUN, {**facts, "versions": _versions()})
    sets = []
    for name in ("train", "validation"):
        parts = [(corpus, name if corpus.sets.get(name) else "train") for corpus in corpora]
        mark = digest(*(f"{corpus.digest}/{part}" for corpus, part in parts), str(settings.longest))
        place = folder / "encoded" / f"{name}-{mark}"
        if not place.is_dir():
            preparing(f"turning the set {name!r} into tokens")
            pairs_by_language = [(corpus.pairs(part), corpus.languages[1]) for corpus, part in parts]
            encode(pairs_by_language, tokenizer, place, longest=settings.longest)
        sets.append(EncodedPairs(place))
        if not len(sets[-1]):
            raise ArgumentError(f"data: no pair of the set {name!r} has at most {settings.longest} tokens a side")
    return tokenizer, sets[0], sets[1]


def _compare(folder: Path, known: dict[str, Any], now: dict[str, Any]) -> None:
    """A folder goes on with its own run alone."""
    same = [(name, known["settings"].get(name), value) for name, value in now["settings"].items()]
    if now["settings"]["schedule"] == "cosine" and "updates" in known:  # they are the schedule's length
        same.append(("steps", known["updates"], now["updates"]))
    for name, before, value in same:
        if before != value:
            raise ArgumentError(
                f"{name}: the run in {folder} was started with {before!r}, and this is {value!r}: "
                "take that, or another --out"
            )
    if [each["digest"] for each in known["data"]] != [each["digest"] for each in now["data"]]:
        before = ", ".join(each["folder"] for each in known["data"])
        raise ArgumentError(
            f"data: the run in {folder} was started on other text ({before}): take that, or another --out"
        )


def _choose(trainer: TokenTrainer, model: PreTrainedModel, checkpoints: Checkpoints) -> tuple[float, str]:
    """Load the average of the last checkpoints or the best one, whichever has the lower validation loss."""
    candidates = [checkpoints.all()[-checkpoints.keep :]]
    if best := checkpoints.best():
        candidates.append([best])
    losses = []
    for folders in candidates:
        load_average(model, folders)
        losses.append(trainer.measure()["loss"])
    chosen = candidates[losses.index(min(losses))]
    load_average(model, chosen)
    names = ", ".join(folder.name for folder in chosen)
    return min(losses), f"checkpoint {names}" if len(chosen) == 1 else f"the average of {names}"


def _save(model: PreTrainedModel, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Put the model's files into the run's folder, each by renaming."""
    temporary = folder / ".model.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary, state_dict=weights)
    for file in sorted(temporary.iterdir()):
        file.replace(folder / file.name)
    temporary.rmdir()


def _record(folder: Path, result: dict[str, Any]) -> None:
    _write(folder / RUN, {**(_read(folder / RUN) or {}), "result": result})


def _read(file: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ArgumentError(f"out: {file} cannot be read ({error}): take another folder with --out") from error
    return facts if isinstance(facts, dict) else None


def _write(file: Path, facts: dict[str, Any]) -> None:
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    from .. import __version__

    return {
        "qkv": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
