"""Which path a call takes, as the kernel reports it: asked for beforehand, and logged while calls are made."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import qkv
from qkv.attention import explained
from qkv.attention._backends._native import isa


def arrays(heads: int = 4, queries: int = 64, keys: int = 64, key_heads: int = 4, dtype: str = "float32") -> list[Any]:
    shapes = (heads, queries, 16), (key_heads, keys, 16), (key_heads, keys, 16)
    return [np.zeros(shape, dtype) for shape in shapes]


def test_bounds_and_what_is_read() -> None:
    assert explained(*arrays())["keys"] == "all visited"
    causal = explained(*arrays(), mask=qkv.Causal())
    assert causal["keys"] == "50.8% within bounds, the others are skipped"
    assert causal["mask"] == "none read: bounds say everything"
    window = explained(*arrays(), mask=qkv.Window(3, 0))
    assert window["keys"] == "6.1% within bounds, the others are skipped"
    array = explained(*arrays(), mask=qkv.Causal() & np.eye(64, dtype=bool))
    assert array["keys"] == causal["keys"]
    assert array["mask"] == "an array of booleans read block by block"
    documents = explained(*arrays(), mask=qkv.Documents(np.arange(64) % 2))
    assert documents["mask"] == "documents read block by block"


def test_bias_and_statistics() -> None:
    plain = explained(*arrays())
    assert (plain["bias"], plain["statistics"]) == ("none", "lse")
    bias = qkv.ALiBi.geometric(4) + np.zeros((64, 64), np.float32)
    full = explained(*arrays(), bias=bias, entropy=True, top_k=3, received=True)
    assert full["bias"] == "ALiBi slopes + an array"
    assert full["statistics"].startswith("lse, entropy, top_k, received; the last keep a strip of ")


def test_the_kernels_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_THREADS", "1")
    found = explained(*arrays(heads=4, key_heads=1, queries=300, keys=300))
    isa = qkv.attention._backends._native.isa()  # type: ignore[attr-defined]
    assert found["kernel"].startswith(f"{isa}, computing in float32, 1 thread for ")
    assert "4 query heads of a key head together" in found["path"]
    assert "float64" in explained(*arrays(dtype="float64"))["kernel"]
    assert found["call"] == "float32, query (1, 4, 300, 16), key (1, 1, 300, 16), value (1, 1, 300, 16)"


def test_nothing_to_compute() -> None:
    assert explained(*arrays(keys=0)) == {
        "call": "float32, query (1, 4, 64, 16), key (1, 4, 0, 16), value (1, 4, 0, 16)",
        "path": "the NumPy backend: there is nothing to compute",
    }


def test_calls_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="qkv"):
        qkv.attend(*arrays(), mask=qkv.Causal())
    rows = explained(*arrays(), mask=qkv.Causal())
    message = caplog.records[-1].getMessage()
    assert message.startswith(f"{rows['call']}; {rows['kernel']}; {rows['path']}; keys: 50.8% within bounds")
    caplog.clear()
    qkv.attend(*arrays())
    assert not caplog.records


def test_no_call_goes_without_a_line(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to compute, gradients, and what torch computes."""
    torch = pytest.importorskip("torch")
    x = torch.ones(1, 2, 3, 4, requires_grad=True)
    with caplog.at_level(logging.DEBUG, logger="qkv"):
        qkv.attend(x[:, :, :0], x, x).sum().backward()
        qkv.attend(x, x, x).sum().backward()
        monkeypatch.setattr("qkv.attention._arrays.kernel_reads", lambda tensor: False)
        qkv.attend(x, x, x, softcap=1.0).sum().backward()
    call = "float32, query (1, 2, 3, 4), key (1, 2, 3, 4), value (1, 2, 3, 4)"
    nothing = call.replace("3, 4)", "0, 4)", 1)
    began = [
        f"{nothing}; the NumPy backend: there is nothing to compute",
        f"gradients: {nothing}; the NumPy backend: there is nothing to compute",
        f"{call}; {isa()}, computing in",
        f"gradients: {call}; the compiled backward pass",
        f"{call}; PyTorch on cpu; rows of scores",
        f"gradients: {call}; rows of scores",
    ]
    assert len(caplog.records) == len(began)
    for record, words in zip(caplog.records, began, strict=True):
        assert record.getMessage().startswith(words)


@pytest.mark.parametrize(("value", "lines"), [("1", 2), ("0", 0), ("", 0)])
def test_the_environment_asks_for_the_log(value: str, lines: int) -> None:
    code = "import numpy as np, qkv; x = np.zeros((3, 4)); qkv.attend(x, x, x); qkv.observe(x, x, x, received=True)"
    environment = {**os.environ, "QKV_LOG": value}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert [line.startswith("qkv: float64, query (1, 1, 3, 4)") for line in told.stderr.splitlines()] == [True] * lines
