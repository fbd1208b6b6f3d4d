"""The answers that the page is tested on are what Python answers today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_fixtures import ANIMAL, FOLDER, IT, TEXT, write

from conforms import check
from qkv.views import contract

DECLARED: dict[str, Any] = {
    "overview": contract.Overview,
    "head": contract.Head,
    "row": contract.Row,
    "pair": contract.Pair,
    "derivation": contract.Derivation,
    "embedded": contract.Embedded,
    "window": contract.Window,
    "window-blocks": contract.Window,
    "thumbnails": contract.Thumbnails,
}


def test_every_fixture_keeps_the_contract() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == DECLARED.keys()
    for name, declared in DECLARED.items():
        check(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")), declared, name)


@pytest.mark.parametrize("name", ["window", "window-blocks", "thumbnails"])
def test_binary_fixtures_have_the_size_of_their_header(name: str) -> None:
    header = json.loads((FOLDER / f"{name}.json").read_text())
    values = np.fromfile(FOLDER / f"{name}.f32", "<f4")
    assert values.size == header.get("layers", 1) * header.get("heads", 1) * header["height"] * header["width"]


def test_it_reads_animal() -> None:
    pair = json.loads((FOLDER / "pair.json").read_text())
    tokens = json.loads((FOLDER / "overview.json").read_text())["sides"][0]["tokens"]
    assert (tokens[IT]["text"], tokens[ANIMAL]["text"]) == ("it", "animal")
    assert round(pair["weight"], 2) == 0.64


@pytest.mark.models
def test_they_are_what_the_model_answers(tmp_path: Path) -> None:
    from qkv import pretrained, recording

    write(recording.read(pretrained.load("minilm"), TEXT), tmp_path)
    for name in DECLARED:
        made, kept = (json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path, FOLDER))
        assert shape(made) == shape(kept), f"{name}: run `python tests/views/page_fixtures.py`"
    overview, kept = (json.loads((folder / "overview.json").read_text()) for folder in (tmp_path, FOLDER))
    assert overview["sides"] == kept["sides"]
    assert overview["opening"] == kept["opening"]
    for name in ("window", "thumbnails"):
        made, kept = (np.fromfile(folder / f"{name}.f32", "<f4") for folder in (tmp_path, FOLDER))
        np.testing.assert_allclose(made, kept, atol=1e-3)


def shape(answer: Any) -> Any:
    """An answer without its numbers: names, lengths and words."""
    if isinstance(answer, dict):
        return {name: shape(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [shape(value) for value in answer]
    if isinstance(answer, float):
        return "number"
    return len(answer) if isinstance(answer, str) and len(answer) > 80 else answer
