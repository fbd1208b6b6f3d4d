"""``qkv train``: from parallel text to a model folder, in one command.

The same command goes on after whatever cut it off.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ArgumentError
from ..training import Settings
from ._app import app
from ._telling import first_process, telling
from .data import languages_of

if TYPE_CHECKING:
    from qkv.training import Corpus, Trained

train = typer.Typer(help="Train models on your own text or on built data sets.", no_args_is_help=True)
app.add_typer(train, name="train")

DEFAULT = Settings()


@train.callback()
def _root() -> None:
    """Train models on your own text or on built data sets."""


@train.command("translation")
def translation(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DATA]...",
            help="Folders of 'qkv data build'; or one file of two columns: .tsv .jsonl .parquet. Otherwise what "
            "'qkv data build translation' left in qkv's cache for --pair.",
        ),
    ] = None,
    pair: Annotated[str, typer.Option(help="Languages of a file's two columns, or of the set in the cache.")] = "en-fr",
    out: Annotated[Path | None, typer.Option(help="Folder for the model; otherwise one in qkv's cache.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights, at most.")] = 100_000,
    hours: Annotated[float | None, typer.Option(help="Stop after this time; the same command goes on.")] = None,
    size: Annotated[str, typer.Option(help="Of the model: tiny, small or base.")] = DEFAULT.size,
    vocabulary: Annotated[int, typer.Option(help="Tokens of both languages together.")] = DEFAULT.vocabulary,
    tokens: Annotated[int, typer.Option(help="Of one update, padding counted, on either side.")] = DEFAULT.tokens,
    batches: Annotated[
        str,
        typer.Option(
            help="What every update has as many of: tokens; or sentences, about as many as tokens gives, so that the "
            "words of short ones weigh more."
        ),
    ] = DEFAULT.batches,
    accumulate: Annotated[int, typer.Option(min=1, help="Parts an update is cut into, where memory is short.")] = 1,
    shard: Annotated[
        bool, typer.Option("--shard", help="With torchrun: leave each process its part of the weights, not all.")
    ] = False,
    longest: Annotated[int, typer.Option(help="Tokens on a side; longer pairs are left out.")] = DEFAULT.longest,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = DEFAULT.rate,
    warmup: Annotated[int, typer.Option(help="Updates over which the rate rises from 0.")] = DEFAULT.warmup,
    schedule: Annotated[str, typer.Option(help="Of the rate after that: inverse-sqrt or cosine.")] = DEFAULT.schedule,
    smoothing: Annotated[float, typer.Option(help="Share of a label spread over the vocabulary.")] = DEFAULT.smoothing,
    dropout: Annotated[float, typer.Option(help="Share of values dropped while training.")] = DEFAULT.dropout,
    decay: Annotated[float, typer.Option(help="Of weights, AdamW's.")] = DEFAULT.decay,
    clip: Annotated[float, typer.Option(help="The largest norm of a gradient.")] = DEFAULT.clip,
    seed: Annotated[int, typer.Option(help="Of weights, dropout and the order of sentences.")] = DEFAULT.seed,
    precision: Annotated[
        str,
        typer.Option(
            help="Of matrix products: float32, bfloat16, or auto: at a run's start bfloat16 where the processor has "
            "it, and later what the run was started with."
        ),
    ] = "auto",
    every: Annotated[int, typer.Option(min=1, help="Updates between validations, with a checkpoint each.")] = 500,
    patience: Annotated[int, typer.Option(min=1, help="Validations without a gain before it stops.")] = 10,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints to keep, and to average at the end.")] = 5,
) -> None:
    """Train a translator: tokenizer, model, checkpoints, curve. The same command goes on with a run that was cut off.

    A CUDA or ROCm GPU is used where there is one; torchrun --nproc-per-node 2 --no-python qkv train ... shares each
    update among processes, and with --shard the weights as well.
    """
    from qkv.pretrained import cache_folder
    from qkv.training import best_precision, new_translator
    from qkv.training import train as run

    if hours is not None and not hours > 0:
        raise ArgumentError(f"--hours: expected a number above 0, got {hours}")
    folder = out or cache_folder() / "trained" / _name(data or [], pair)
    settings = Settings(
        size=size,
        vocabulary=vocabulary,
        longest=longest,
        tokens=tokens,
        batches=batches,
        rate=rate,
        warmup=warmup,
        schedule=schedule,
        smoothing=smoothing,
        dropout=dropout,
        decay=decay,
        clip=clip,
        seed=seed,
        precision=best_precision(folder) if precision == "auto" else precision,
    )
    corpora = _corpora(data or [], pair, folder)
    with telling() as told:
        told.say(f"{_described(corpora)}; {settings.size}, {settings.precision}, into {folder}", quiet=True)
        trained = run(
            corpora,
            folder,
            settings,
            new_translator,
            updates=steps,
            every=every,
            patience=patience,
            keep=keep,
            accumulate=accumulate,
            shard=shard,
            seconds=None if hours is None else 3600 * hours,
            report=told.report,
            preparing=lambda step: told.say(step, quiet=True),
        )
        for line in _summary(trained):
            told.say(line)


def _name(data: list[Path], pair: str) -> str:
    """Of a run's folder: two texts of one's own don't meet there, nor do two pairs of languages."""
    from qkv.training import open_corpus

    own = [path.stem for path in data if path.is_file()]
    built = ["-".join(open_corpus(path).languages) for path in data if path.is_dir()]
    return "-".join(["translation", *own, *(built or [pair])])


def _corpora(data: list[Path], pair: str, folder: Path) -> list[Corpus]:
    """What to train on; a file of the user's own is split and cleaned into the run's folder first."""
    from qkv.pretrained import cache_folder
    from qkv.training import open_corpus

    if not data:
        built = cache_folder() / "data" / f"translation-{pair}"
        if not built.is_dir():
            raise ArgumentError(
                f"data: {built} is not there: run `qkv data build translation --pair {pair}`, or name DATA"
            )
        return [open_corpus(built)]
    files = [path for path in data if path.is_file()]
    if not files:
        return [open_corpus(path) for path in data]
    if len(data) > 1:
        raise ArgumentError(f"data: expected folders, or one file of two columns, got {', '.join(map(str, data))}")
    from qkv.training import data as room

    file, languages = files[0], languages_of(pair)
    place = folder / "data"
    manifest = place / "manifest.json"
    while not manifest.is_file() and not first_process():
        time.sleep(0.1)  # the first process is at it; torchrun ends all of them where it fails
    if not manifest.is_file():
        packages = room.Packages(cache_folder() / "packages", None)
        room.build(room.table_recipe(file, languages[1]), languages, place, packages)
    corpus = open_corpus(place)
    _check_text(corpus, file, languages, folder)
    return [corpus]


def _check_text(corpus: Corpus, file: Path, languages: tuple[str, str], folder: Path) -> None:
    """A run goes on with the text that it was started on: what lies split in its folder came from this very file."""
    advice = f"take another --out, or remove {folder} to start again"
    if corpus.languages != languages:
        before, now = ("-".join(pair) for pair in (corpus.languages, languages))
        raise ArgumentError(f"--pair: the run in {folder} was started with {before}, and this is {now}: {advice}")
    sources = json.loads((corpus.folder / "manifest.json").read_bytes())["sources"]
    read = {package["sha256"]: package["name"] for source in sources for package in source["packages"]}
    if hashlib.sha256(file.read_bytes()).hexdigest() not in read:
        which = "has changed since" if file.name in read.values() else "holds other text"
        names = ", ".join(read.values())
        raise ArgumentError(f"data: the run in {folder} was started on {names}, and {file} {which}: {advice}")


def _described(corpora: list[Corpus]) -> str:
    return ", ".join(f"{'-'.join(corpus.languages)}: {corpus.sets['train']:,} pairs" for corpus in corpora)


def _summary(trained: Trained) -> list[str]:
    why = f"stopped, as {trained.reason}" if trained.reason else "done"
    return [
        f"{why}: {trained.updates:,} updates; {trained.weights}, validation loss {trained.validation:.4f}",
        f'try it: qkv translate "..." --model {trained.folder}',
    ]
