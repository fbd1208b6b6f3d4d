"""What docs/regression.md says of 1985 is what its data and its script say, and the lesson opens as a trace."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import qkv
from qkv.regression import NadarayaWatson

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("regression_figures", DOCS / "regression_figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_data_is_what_the_script_writes(script: ModuleType) -> None:
    written, found = json.loads((DOCS / "regression-lesson.json").read_text()), script.lesson()
    for name in ("key", "value", "query"):
        assert written[name] == found[name]
    for one, other in zip(written["maps"], found["maps"], strict=True):
        assert one["chosen"] == other["chosen"]
        for name in ("bandwidth", "prediction", "effective_neighbours", "weights"):
            np.testing.assert_allclose(one[name], other[name], atol=0.011)  # a unit of what was rounded


def test_the_figures_of_the_page(script: ModuleType) -> None:
    """The picture in docs/img is the one that the script draws from the data."""
    lesson = json.loads((DOCS / "regression-lesson.json").read_text())
    assert script.map_figure(lesson) == (DOCS / "img" / "regression-maps.svg").read_text()


def test_the_lesson_is_a_trace(script: ModuleType, tmp_path: Path) -> None:
    script.trace(str(tmp_path / "lesson.qkv"))
    trace = qkv.open_trace(tmp_path / "lesson.qkv")
    lesson = json.loads((DOCS / "regression-lesson.json").read_text())
    key, value = np.array(lesson["key"])[:, None], np.array(lesson["value"])
    for head, one in enumerate(lesson["maps"]):
        told = NadarayaWatson(bandwidth=one["bandwidth"]).fit(key, value).predict(key)
        np.testing.assert_allclose(trace.weights(0, head) @ value, told, atol=0.05)
