"""Two processes, each with half of every update, follow the curve of one; so they do where they share the weights."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed.fsdp
from transformers import AutoModelForSeq2SeqLM

import qkv
from made_corpus import TINY, made_corpus
from qkv import ArgumentError, DependencyError
from qkv.training import Corpus, Progress, new_translator, read_metrics, train
from qkv.training._shards import shard_model

SOURCES = Path(qkv.__file__).parents[1]
STILL = dataclasses.replace(TINY, dropout=0.0)
public_fsdp = pytest.mark.skipif(
    not hasattr(torch.distributed.fsdp, "fully_shard"), reason="this PyTorch keeps FSDP2 private"
)

RUN = """
import dataclasses, os, signal, sys
from pathlib import Path
corpus, folder, tests, *words = sys.argv[1:]
sys.path.insert(0, tests)
from made_corpus import TINY
from qkv.training import new_translator, open_corpus, train

made = []
def build(tokenizer, settings):
    made.append(new_translator(tokenizer, settings))
    return made[0]

def report(progress):
    print("update", progress.update, flush=True)
    if "killed" in words and progress.update == 20:
        os.kill(os.getpid(), signal.SIGKILL)

still, shard = dataclasses.replace(TINY, dropout=0.0), "shard" in words
train([open_corpus(Path(corpus))], Path(folder), still, build, updates=20, every=10, shard=shard, report=report)
print("tensorboard", "tensorboardX" in sys.modules)
if shard:
    parts = [(part.to_local().numel(), part.numel()) for part in made[0].parameters()]
    print("share", sum(part for part, _ in parts) / sum(whole for _, whole in parts))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sentences of 5 to 9 words, so updates and their halves are ragged."""
    return made_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def one(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 updates in one process."""
    folder = tmp_path_factory.mktemp("one")
    train([corpus], folder, STILL, new_translator, updates=20, every=10)
    return folder


def in_two_processes(corpus: Corpus, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = folder.with_suffix(".py")
    script.write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    command += [str(corpus.folder), str(folder), str(Path(__file__).parents[1]), *words]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode == 0) == ("killed" not in words), done.stderr
    return done


def assert_same_curve(folder: Path, other: Path) -> None:
    lines, others = (read_metrics(each / "metrics.jsonl") for each in (folder, other))
    assert len(lines) == len(others) == 4
    for line, expected in zip(lines, others, strict=True):
        for value in ("update", "loss", "validation", "norm"):
            assert line.get(value) == pytest.approx(expected.get(value), abs=1e-3), value


def test_two_processes_follow_the_curve_of_one(corpus: Corpus, one: Path, tmp_path: Path) -> None:
    done = in_two_processes(corpus, tmp_path / "two")
    assert sorted(re.findall(r"tensorboard (\w+)", done.stdout)) == ["False", "True"], "one process writes for both"
    assert_same_curve(tmp_path / "two", one)
    assert (tmp_path / "two" / "model.safetensors").is_file()


@public_fsdp
def test_shared_weights_follow_the_curve_and_killed_go_on_in_any_number_of_processes(
    corpus: Corpus, one: Path, tmp_path: Path
) -> None:
    two, alone = tmp_path / "two", tmp_path / "alone"
    in_two_processes(corpus, two, "shard", "killed")
    assert [path.name for path in (two / "checkpoints").glob("[0-9]*")] == ["10"]
    shutil.copytree(two, alone)
    done = in_two_processes(corpus, two, "shard")
    assert re.findall(r"update (\d+)", done.stdout) == ["20", "20"], "it did not go on from the checkpoint"
    shares = [float(share) for share in re.findall(r"share (\S+)", done.stdout)]
    assert len(shares) == 2
    assert sum(shares) == pytest.approx(1)
    assert max(shares) < 0.51
    assert_same_curve(two, one)

    started: list[Progress] = []
    train([corpus], alone, STILL, new_translator, updates=20, every=10, report=started.append)
    assert [progress.update for progress in started] == [20, 20]
    assert_same_curve(alone, one)

    whole = AutoModelForSeq2SeqLM.from_pretrained(one)
    for folder in (two, two / "checkpoints" / "10", two / "checkpoints" / "20"):
        model = AutoModelForSeq2SeqLM.from_pretrained(folder)
        assert model.config.architectures == whole.config.architectures
        assert [weight.shape for weight in model.parameters()] == [weight.shape for weight in whole.parameters()]


def test_one_process_has_nobody_to_share_with(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"shard: expected several processes to share the weights, got one: start"):
        train([corpus], tmp_path, STILL, new_translator, updates=1, shard=True)
    assert not list(tmp_path.iterdir())


def test_an_older_pytorch_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.distributed.fsdp, "fully_shard", raising=False)
    with pytest.raises(
        DependencyError, match=r"shard: expected a PyTorch with fully_shard in public, 2\.6 or newer, got"
    ):
        shard_model(torch.nn.Linear(2, 2), "cpu")
