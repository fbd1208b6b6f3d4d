"""Two processes, each with half of every update, follow the curve of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import qkv
from made_corpus import made_corpus
from qkv.training import read_metrics

SOURCES = Path(qkv.__file__).parents[1]

RUN = """
import dataclasses, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from made_corpus import TINY
from qkv.training import new_translator, open_corpus, train
still = dataclasses.replace(TINY, dropout=0.0)
train([open_corpus(Path(sys.argv[1]))], Path(sys.argv[2]), still, new_translator, updates=20, every=10)
"""


def test_two_processes_follow_the_curve_of_one(tmp_path: Path) -> None:
    """The data hold sentences of 5 to 9 words, so updates and their halves are ragged."""
    corpus = made_corpus(tmp_path / "corpus")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    for name, launcher in (
        ("one", [sys.executable]),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]),
    ):
        command = [*launcher, str(script), str(corpus.folder), str(tmp_path / name), str(Path(__file__).parents[1])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 4
    for line, other in zip(one, two, strict=True):
        for value in ("update", "loss", "validation", "norm"):
            assert line.get(value) == pytest.approx(other.get(value), abs=1e-3), value
    assert (tmp_path / "two" / "model.safetensors").is_file()
