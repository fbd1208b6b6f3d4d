"""A capture that is cut off, by an error, Ctrl-C or SIGKILL, leaves every complete layer readable."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qkv
from qkv.trace import Trace

LAYERS = 12
SCRIPT = """
import os, signal, sys, time
import torch, qkv
from torch import nn

path, pause, die = sys.argv[1], float(sys.argv[2]), sys.argv[3]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us without it
torch.manual_seed(0)
torch.set_num_threads(1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(32, 96)

    def forward(self, x):
        time.sleep(pause)
        q, k, v = self.project(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + out.transpose(1, 2).flatten(2)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(12))

    def forward(self, input_ids):
        x = nn.functional.one_hot(input_ids, 32).float()
        for layer in self.layers:
            x = layer(x)
        return x


def kill_in_the_middle(digest_of=__import__("hashlib").sha256):
    # The sixth file is cut off after its header: the checksum sees each part before it is written.
    import hashlib
    files = 0

    class Digest:
        def __init__(self):
            nonlocal files
            files += 1
            self.parts, self.real = 0, digest_of()

        def update(self, part):
            self.parts += 1
            if files == 6 and self.parts == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            self.real.update(part)

        def hexdigest(self):
            return self.real.hexdigest()

    hashlib.sha256 = Digest


if die == "inside":
    kill_in_the_middle()
model = Model()
print("ready", flush=True)
with torch.no_grad(), qkv.capture(model, to=path):
    model(torch.arange(40)[None] % 32)
"""


def start(path: Path, pause: float = 0.0, die: str = "never") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(pause), die],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_layer(path: Path, layer: int, process: subprocess.Popen[str]) -> None:
    """Wait for a layer's file, and some more: into the middle of the next."""
    deadline = time.monotonic() + 120
    while not (path / f"text-000-decoder-{layer:03}.safetensors").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline, "the capture did not get that far"
        time.sleep(0.01)
    time.sleep(0.1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """What a run that nobody cuts off captures."""
    path = tmp_path_factory.mktemp("whole") / "a.qkv"
    process = start(path)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    trace = qkv.open_trace(path)
    assert trace.complete
    assert len(trace.attentions) == LAYERS
    return trace


def is_a_beginning(cut: Trace, whole: Trace, layers: range) -> None:
    """The trace holds the first layers of the whole one, and the same weights."""
    assert cut.complete is False
    assert len(cut.attentions) in layers
    assert cut.sequences[0].sides == whole.sequences[0].sides
    for at, one in enumerate(cut.attentions):
        assert one.layer == at
        np.testing.assert_array_equal(one.weights(), whole.weights(at))


def test_killed_between_two_layers(tmp_path: Path, whole: Trace) -> None:
    process = start(tmp_path / "a.qkv", pause=0.4)
    until_layer(tmp_path / "a.qkv", 4, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    is_a_beginning(qkv.open_trace(tmp_path / "a.qkv"), whole, range(5, LAYERS))


def test_killed_while_a_layer_is_written(tmp_path: Path, whole: Trace) -> None:
    """A file that is half written stands under another name, and breaks nothing."""
    process = start(tmp_path / "a.qkv", die="inside")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == -signal.SIGKILL, errors
    assert list((tmp_path / "a.qkv").glob(".*.part"))
    is_a_beginning(qkv.open_trace(tmp_path / "a.qkv"), whole, range(5, 6))


def test_interrupted(tmp_path: Path, whole: Trace) -> None:
    """Ctrl-C leaves the complete layers, and nothing half-written beside them."""
    process = start(tmp_path / "a.qkv", pause=0.4)
    until_layer(tmp_path / "a.qkv", 4, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not list((tmp_path / "a.qkv").glob(".*"))
    is_a_beginning(qkv.open_trace(tmp_path / "a.qkv"), whole, range(5, LAYERS))


def test_an_error_in_the_model(tmp_path: Path) -> None:
    """The error is the model's own; the layers before it are on disk and in `capture.trace`."""
    import torch
    from torch import nn

    class Breaks(nn.Module):
        def forward(self, x: Any) -> Any:
            raise RuntimeError("no such luck")

    layers = [nn.TransformerEncoderLayer(16, 2, dropout=0, batch_first=True).eval() for _ in range(3)]
    model = nn.Sequential(*layers[:2], Breaks(), layers[2]).eval()
    with pytest.raises(RuntimeError, match="no such luck"), qkv.capture(model, to=tmp_path / "a.qkv") as capture:
        model(torch.randn(1, 5, 16))
    for trace in (capture.trace, qkv.open_trace(tmp_path / "a.qkv")):
        assert trace.complete is False
        assert len(trace.attentions) == 2
        assert trace.weights(1, 0).shape == (5, 5)


def test_no_moment_leaves_a_trace_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model writes tokens after its prompts; the folder is copied before and after every step that changes it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64}
    config = LlamaConfig(**sizes, num_hidden_layers=3, num_attention_heads=4, pad_token_id=0, eos_token_id=None)
    model = LlamaForCausalLM(config).eval()
    path = tmp_path / "a.qkv"
    moments: list[Path] = []

    def look() -> None:
        if path.exists():
            moments.append(tmp_path / f"moment-{len(moments)}.qkv")
            shutil.copytree(path, moments[-1])

    def watched(real: Any) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            look()
            found = real(*arguments, **options)
            look()
            return found

        return step

    monkeypatch.setattr(os, "replace", watched(os.replace))
    monkeypatch.setattr(Path, "unlink", watched(Path.unlink))
    with qkv.capture(model, to=path) as capture:
        model.generate(torch.randint(3, 96, (2, 9)), max_new_tokens=4, do_sample=False)
    monkeypatch.undo()
    whole = capture.trace
    assert whole.complete
    assert [one.queries for text in whole for one in text.attentions] == [12] * 6
    assert sorted(file.name for file in path.iterdir() if file.name != "trace.json") == [
        f"text-00{text}-decoder-00{layer}-1.safetensors" for text in range(2) for layer in range(3)
    ]
    opened, seen = 0, set()
    for moment in moments:
        if not (moment / "trace.json").exists():
            assert opened == 0, "a trace that could be read can be read no more"
            continue
        trace = qkv.open_trace(moment)
        opened += 1
        assert len(trace.sequences[0].attentions) >= max((count for count, _ in seen), default=0)
        for text, sequence in enumerate(trace):
            for one in sequence.attentions:
                rows = slice(0, one.queries)
                given = whole.weights(one.layer, sequence=text, rows=rows, columns=slice(0, one.keys))
                np.testing.assert_allclose(one.weights(), given, atol=1e-6)
                seen.add((len(sequence.attentions), one.queries))
    assert (1, 9) in seen
    assert (3, 9) in seen
    assert (3, 12) in seen


def test_written_layers_are_not_kept_in_memory(tmp_path: Path) -> None:
    """What is on disk is a view of the disk: the capture holds no copy of its queries, keys and values."""
    import torch
    from test_store import is_mapped
    from torch import nn

    model = nn.TransformerEncoderLayer(16, 2, dropout=0, batch_first=True).eval()
    with qkv.capture(model, to=tmp_path / "a.qkv") as capture:
        model(torch.randn(1, 5, 16))
        for name, array in capture.trace.attentions[0].tensors.items():
            assert is_mapped(array), name
    assert is_mapped(capture.trace.attentions[0].query)
