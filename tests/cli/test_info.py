"""``qkv info``: the facts, as text and as JSON, and which path a call takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import qkv
from qkv.cli._app import app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["info", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_THREADS", "5")
    text = run()
    rows = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert rows["qkv"].strip() == qkv.__version__
    assert rows["threads"].strip() == "5"
    assert rows["numpy"].strip() == np.__version__
    assert {"instruction", "compiled", "torch", "cache"} <= rows.keys()
    assert "Which path" not in text


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKV_CACHE", "/somewhere/else")
    facts = json.loads(run("--json"))
    assert facts["version"] == qkv.__version__
    assert facts["isa"] in facts["isas"]
    assert facts["isas"][0] == "baseline"
    assert facts["threads"] >= 1
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["cache"] == "/somewhere/else"
    assert facts["compiler"].split()[0] in ("GNU", "Clang", "AppleClang")
    assert "paths" not in facts
    assert "float64" in json.loads(run("--json", "--explain"))["paths"]


def test_explain_is_true() -> None:
    text = " ".join(run("--explain").split())
    assert "float64 Computed in float64 throughout." in text
    assert "tensors that require grad The same forward pass" in text


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; from qkv.cli.info import facts; facts(); print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_a_wrong_instruction_set_is_one_clear_line() -> None:
    code = "import sys; sys.argv = ['qkv', 'info']; from qkv.cli import main; main()"
    environment = {**os.environ, "QKV_ISA": "mmx"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert told.returncode != 0
    assert told.stderr.startswith("qkv: QKV_ISA: expected one of the instruction sets")
    assert "Traceback" not in told.stderr


def test_a_call_of_ones_own() -> None:
    text = " ".join(run("--explain", "heads=8", "key_heads=2", "queries=1", "keys=500", "dtype=bfloat16").split())
    assert "bfloat16, query (1, 8, 1, 64), key (1, 2, 500, 64)" in text
    assert "all visited" in text
    words = ("queries=100", "window=9", "mask=array", "bias=alibi", "softcap=30", "statistics=received,top_k")
    called = json.loads(run("--json", "--explain", *words))["call"]
    assert called["keys"] == "9.6% within bounds, the others are skipped"
    assert called["mask"] == "an array of booleans read block by block"
    assert called["statistics"].startswith("lse, top_k, received; ")
    called = json.loads(run("--json", "--explain", "device=cuda", "mask=causal"))["call"]
    assert called["kernel"] == "PyTorch on cuda"
    assert called["path"].startswith("output: torch.nn.functional.scaled_dot_product_attention, is_causal=True")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--explain", "rows=3"], r"explain: expected words like queries=1 .* got 'rows=3'"),
        (["--explain", "queries=many"], "queries: expected a whole number from 1 on, got 'many'"),
        (["--explain", "dtype=int8"], "dtype: expected float32, bfloat16, float16, float64, got 'int8'"),
        (["--explain", "statistics=all"], "statistics: expected entropy, .*, got 'all'"),
        (["queries=3"], "info: expected no words without --explain"),
    ],
)
def test_words_that_are_not_understood(words: list[str], message: str) -> None:
    with pytest.raises(qkv.ArgumentError, match=message):
        run(*words)
