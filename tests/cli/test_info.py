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
    assert "tensors that require grad An error while gradients are on" in text
    import torch

    tensor = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(qkv.ArgumentError, match="gradients"):
        qkv.attend(tensor, tensor, tensor)
    assert qkv.attend(tensor.detach(), tensor.detach(), tensor.detach()).dtype == torch.float32


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
