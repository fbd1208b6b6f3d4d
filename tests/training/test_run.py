"""A run: it learns, goes on as if it had never stopped, and says clearly what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from transformers import AutoModelForSeq2SeqLM

import qkv
from made_corpus import TINY, made_corpus
from qkv import ArgumentError, TrainingError
from qkv.training import Corpus, Progress, Settings, best_precision, new_translator, open_corpus, read_metrics, train
from qkv.training._checkpoints import load_average

SOURCES = Path(qkv.__file__).parents[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return made_corpus(tmp_path_factory.mktemp("corpus"))


def curve(folder: Path) -> list[tuple[Any, ...]]:
    """What was measured, without what the clock says."""
    names = ("update", "loss", "validation", "accuracy", "rate", "norm")
    return [tuple(line.get(name) for name in names) for line in read_metrics(folder / "metrics.jsonl")]


def tensorboard_losses(folder: Path) -> list[float]:
    """The validation losses that TensorBoard's file holds: length, checksum, an event, checksum, and so on."""
    (file,) = folder.glob("events.out.tfevents.*")
    content, losses = file.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        losses += [value.simple_value for value in event.summary.value if value.tag == "eval/loss"]
        content = content[16 + length :]
    return losses


@pytest.fixture(scope="module")
def whole(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 60 updates in one go."""
    folder = tmp_path_factory.mktemp("whole")
    train([corpus], folder, TINY, new_translator, updates=60, every=10)
    return folder


def test_it_learns_and_leaves_a_model(whole: Path) -> None:
    lines = read_metrics(whole / "metrics.jsonl")
    losses = [line["validation"] for line in lines if "validation" in line]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 1
    assert all(line["speed"] > 0 for line in lines if "loss" in line)
    model = AutoModelForSeq2SeqLM.from_pretrained(whole)
    assert model.config.vocab_size == 340
    assert (whole / "loss.svg").read_text().startswith("<svg")
    assert tensorboard_losses(whole / "tensorboard") == pytest.approx(losses)
    result = json.loads((whole / "run.json").read_text())["result"]
    assert result["updates"] == 60
    assert result["validation"] <= min(losses) + 1e-6
    assert result["weights"].startswith(("the average of 20, 30, 40, 50, 60", "checkpoint "))


def test_checkpoints_are_models_and_only_the_last_can_be_gone_on_from(whole: Path) -> None:
    found = sorted(int(path.name) for path in (whole / "checkpoints").iterdir() if path.name.isdigit())
    assert found[-5:] == [20, 30, 40, 50, 60]
    with_optimizer = [step for step in found if (whole / "checkpoints" / str(step) / "optimizer.pt").exists()]
    assert with_optimizer == [50, 60]
    AutoModelForSeq2SeqLM.from_pretrained(whole / "checkpoints" / "50")


def test_the_average_is_the_mean_of_the_weights(whole: Path) -> None:
    folders = [whole / "checkpoints" / str(step) for step in (40, 50, 60)]
    models = [AutoModelForSeq2SeqLM.from_pretrained(folder) for folder in folders]
    result = AutoModelForSeq2SeqLM.from_pretrained(folders[0])
    load_average(result, folders)
    for name, parameter in result.named_parameters():
        mean = torch.stack([model.get_parameter(name).double() for model in models]).mean(0)
        torch.testing.assert_close(parameter.double(), mean, rtol=1e-6, atol=1e-7)


def test_more_updates_later_follow_the_same_curve(corpus: Corpus, whole: Path, tmp_path: Path) -> None:
    train([corpus], tmp_path, TINY, new_translator, updates=30, every=10)
    train([corpus], tmp_path, TINY, new_translator, updates=60, every=10)
    assert curve(tmp_path) == curve(whole)
    assert json.loads((tmp_path / "run.json").read_text())["updates"] == 60


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from made_corpus import TINY
from qkv.training import new_translator, open_corpus, train
import qkv.training._checkpoints as checkpoints

def report(progress):
    if progress.update >= 40:
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[4] == "writing":  # in the middle of a checkpoint
    finish = checkpoints.Checkpoints.finish
    def report(progress): pass
    def killed(self, update):
        if update == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        finish(self, update)
    checkpoints.Checkpoints.finish = killed
train([open_corpus(Path(sys.argv[1]))], Path(sys.argv[2]), TINY, new_translator, updates=60, every=10, report=report)
"""


@pytest.mark.parametrize("moment", ["between", "writing"])
def test_killed_it_goes_on_with_the_same_curve(corpus: Corpus, whole: Path, tmp_path: Path, moment: str) -> None:
    arguments = [str(corpus.folder), str(tmp_path), str(Path(__file__).resolve().parents[1]), moment]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (tmp_path / "metrics.jsonl").open("a").write('{"update": 41, "lo')  # cut off in the middle of a line
    if moment == "writing":
        assert (tmp_path / "checkpoints" / ".partial" / "checkpoint-30").is_dir()
    started: list[Progress] = []
    train([corpus], tmp_path, TINY, new_translator, updates=60, every=10, report=started.append)
    assert started[0].update == (40 if moment == "between" else 30), "it did not go on from the last checkpoint"
    assert curve(tmp_path) == curve(whole)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_what_comes_before_the_first_update_is_told_once(corpus: Corpus, tmp_path: Path) -> None:
    told: list[str] = []
    for updates in (2, 3):
        train([corpus], tmp_path, TINY, new_translator, updates=updates, every=2, preparing=told.append)
    sentences = 2 * corpus.sets["train"]
    assert told == [
        f"learning 340 tokens from {sentences} sentences",
        "turning the set 'train' into tokens",
        "turning the set 'validation' into tokens",
    ]


def test_accumulation_changes_nothing_but_rounding(corpus: Corpus, tmp_path: Path) -> None:
    still = dataclasses.replace(TINY, dropout=0.0)
    for name, parts in (("one", 1), ("three", 3)):
        train([corpus], tmp_path / name, still, new_translator, updates=20, every=10, accumulate=parts)
    for one, three in zip(curve(tmp_path / "one"), curve(tmp_path / "three"), strict=True):
        assert [value for value in one if value is not None] == pytest.approx(
            [value for value in three if value is not None], abs=1e-3
        )


def test_it_stops_where_validation_no_longer_improves(corpus: Corpus, tmp_path: Path) -> None:
    frozen = dataclasses.replace(TINY, rate=1e-12)
    trained = train([corpus], tmp_path, frozen, new_translator, updates=500, every=2, patience=3)
    assert trained.updates < 30
    assert trained.reason == "the validation loss has not improved 3 times in a row"


def test_it_stops_when_its_time_is_over(corpus: Corpus, tmp_path: Path) -> None:
    start = time.monotonic()
    trained = train([corpus], tmp_path, TINY, new_translator, updates=100_000, every=50_000, seconds=2)
    assert trained.reason == "its time is over"
    assert 0 < trained.updates < 100_000
    assert time.monotonic() - start < 60
    assert (tmp_path / "checkpoints" / str(trained.updates) / "optimizer.pt").is_file()


def test_it_stops_at_an_update_and_goes_on_with_the_same_schedule(corpus: Corpus, tmp_path: Path) -> None:
    falling = dataclasses.replace(TINY, schedule="cosine")
    train([corpus], tmp_path / "whole", falling, new_translator, updates=20, every=10)
    stopped = train([corpus], tmp_path / "parts", falling, new_translator, updates=20, every=10, until=10)
    assert (stopped.updates, stopped.reason) == (10, "update 10 was to be the last")
    with pytest.raises(ArgumentError, match=r"until: expected an update after 10, where the run in .* stands, got 10"):
        train([corpus], tmp_path / "parts", falling, new_translator, updates=20, every=10, until=10)
    done = train([corpus], tmp_path / "parts", falling, new_translator, updates=20, every=10, until=20)
    assert (done.updates, done.reason) == (20, None)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_updates_may_hold_as_many_sentences(corpus: Corpus, tmp_path: Path) -> None:
    by_sentences = dataclasses.replace(TINY, batches="sentences", warmup=0)
    for name, settings in (("tokens", dataclasses.replace(TINY, warmup=0)), ("sentences", by_sentences)):
        train([corpus], tmp_path / name, settings, new_translator, updates=2, every=1)
    assert curve(tmp_path / "sentences") != curve(tmp_path / "tokens")
    with pytest.raises(ArgumentError, match=r"batches: the run in .* was started with 'tokens', and this is 'sente"):
        train([corpus], tmp_path / "tokens", by_sentences, new_translator, updates=3)


def test_the_length_of_a_falling_schedule_may_not_change(corpus: Corpus, tmp_path: Path) -> None:
    falling = dataclasses.replace(TINY, schedule="cosine")
    train([corpus], tmp_path, falling, new_translator, updates=4, every=2, until=2)
    record = tmp_path / "run.json"
    facts = json.loads(record.read_text())
    assert facts["updates"] == 4
    with pytest.raises(ArgumentError, match=r"steps: the run in .* was started with 4, and this is 6: take that, or"):
        train([corpus], tmp_path, falling, new_translator, updates=6, every=2)
    del facts["updates"]  # as an earlier version wrote it
    record.write_text(json.dumps(facts))
    assert train([corpus], tmp_path, falling, new_translator, updates=4, every=2).updates == 4
    assert json.loads(record.read_text())["updates"] == 4


def test_a_loss_that_is_no_number_stops_it(corpus: Corpus, tmp_path: Path) -> None:
    def poisoned(tokenizer: Any, settings: Settings) -> Any:
        model = new_translator(tokenizer, settings)
        with torch.no_grad():
            next(model.parameters())[10] = float("nan")
        return model

    message = r"train: the loss is nan at update \d+\. The weights went astray: start a new run, .* lower --rate"
    with pytest.raises(TrainingError, match=message):
        train([corpus], tmp_path, TINY, poisoned, updates=20)


def test_a_folder_goes_on_with_its_own_run_alone(corpus: Corpus, whole: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(TINY, rate=0.5)
    with pytest.raises(ArgumentError, match=r"rate: the run in .* was started with 0.003, and this is 0.5"):
        train([corpus], whole, other, new_translator, updates=60)
    manifest = json.loads((corpus.folder / "manifest.json").read_text())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "manifest.json").write_text(json.dumps({**manifest, "recipe": "another"}))
    with pytest.raises(ArgumentError, match=r"data: the run in .* was started on other text"):
        train([open_corpus(elsewhere)], whole, TINY, new_translator, updates=60)


def test_a_run_keeps_its_precision_on_every_machine(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text('{"settings": {"precision": "float8"}}')
    assert best_precision(tmp_path) == best_precision(tmp_path / "broken") == best_precision()
    for precision in ("bfloat16", "float32"):
        (tmp_path / "run.json").write_text(json.dumps({"settings": {"precision": precision}}))
        assert best_precision(tmp_path) == precision


def test_what_it_cannot_train_on(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"no pair of the set 'train' has at most 3 tokens a side"):
        train([corpus], tmp_path, dataclasses.replace(TINY, longest=3), new_translator, updates=5)
    with pytest.raises(ArgumentError, match="every: expected 1 or more, got 0"):
        train([corpus], tmp_path, TINY, new_translator, updates=5, every=0)
    with pytest.raises(ArgumentError, match="accumulate: expected 1 or more, got 0"):
        train([corpus], tmp_path, TINY, new_translator, updates=5, accumulate=0)
    (tmp_path / "manifest.json").write_text('{"languages": ["en", "fr"], "counts": {"train": 0}}')
    with pytest.raises(ArgumentError, match=re.escape(f"data: {tmp_path} has no pair to train on")):
        open_corpus(tmp_path)
    with pytest.raises(ArgumentError, match="data: expected a folder that 'qkv data build' made, got"):
        open_corpus(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "huge"}, "size: expected tiny or small or base, got 'huge'"),
        ({"rate": 0.0}, "rate: expected a number above 0, got 0.0"),
        ({"dropout": 1.0}, "dropout: expected a number from 0 to below 1, got 1.0"),
        ({"batches": "words"}, "batches: expected tokens or sentences, got 'words'"),
        ({"schedule": "linear"}, "schedule: expected inverse-sqrt or cosine, got 'linear'"),
        ({"tokens": 0}, "tokens: expected 1 or more, got 0"),
    ],
)
def test_settings_say_what_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        Settings(**change)
