"""``qkv regress``: honest scores, the rows behind a prediction, and clear sentences for tables that will not do."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyRegressor
from sklearn.metrics import r2_score
from typer.testing import CliRunner

from qkv import ArgumentError
from qkv.cli._app import app
from qkv.regression import NadarayaWatson
from qkv.regression._study import study
from qkv.regression._table import prepare, read_table

SVG = "{http://www.w3.org/2000/svg}"


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["regress", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def answer(*arguments: str | Path) -> Any:
    return json.loads(run(*arguments, "--json"))


@pytest.fixture(scope="module")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = load_diabetes(as_frame=True, scaled=False).frame
    frame["sex"] = frame["sex"].map({1.0: "female", 2.0: "male"})
    file = tmp_path_factory.mktemp("tables") / "diabetes.csv"
    frame.to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = load_iris(as_frame=True)
    frame = found.frame
    frame["species"] = [found.target_names[label] for label in frame.pop("target")]
    file = tmp_path_factory.mktemp("tables") / "iris.parquet"
    frame.to_parquet(file)
    return file


def test_scores_are_those_of_rows_that_were_held_out(diabetes: Path) -> None:
    """By hand: the rows of the same split, scaled and encoded by what was learnt from alone."""
    found = answer(diabetes, "--target", "target", "--seed", "3")
    assert (found["learnt"], found["held_out"], found["kind"]) == (332, 110, "number")
    by_method = {score["method"].split()[-1]: score for score in found["scores"]}
    assert list(by_method) == ["qkv", "neighbours", "mean"]
    table = prepare(read_table(diabetes), "target")
    done = study(table, seed=3)
    assert set(done.learnt) | set(done.held_out) == set(range(442))
    assert not set(done.learnt) & set(done.held_out)
    frame = table.features.assign(sex=table.features["sex"] == "male").astype(np.float64)
    frame = frame[["age", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "sex"]].to_numpy()
    x, asked = frame[done.learnt], frame[done.held_out]
    mean, deviation = x.mean(0), x.std(0)
    mean[-1], deviation[-1] = 0, 1
    truth = table.target[done.held_out]
    model = NadarayaWatson(bandwidth=done.model.bandwidth_).fit((x - mean) / deviation, table.target[done.learnt])
    r2 = r2_score(truth, model.predict((asked - mean) / deviation))
    assert by_method["qkv"]["r2"] == pytest.approx(r2, abs=1e-3)
    plain = DummyRegressor().fit(x, table.target[done.learnt])
    assert by_method["mean"]["r2"] == pytest.approx(r2_score(truth, plain.predict(asked)))
    assert by_method["qkv"]["r2"] > by_method["mean"]["r2"] + 0.2


def test_the_rows_behind_a_prediction(diabetes: Path) -> None:
    table = prepare(read_table(diabetes), "target")
    done = study(table)
    for row in (int(done.held_out[0]), int(done.learnt[0])):
        found = answer(diabetes, "--target", "target", "--explain", str(row), "--top", "442")["explanation"]
        assert found["learnt_without_it"] == (row in done.learnt)
        rows = {one["row"]: one for one in found["rows"]}
        assert row not in rows
        assert set(rows) <= set(map(int, done.learnt))
        weights = np.array([one["weight"] for one in rows.values()])
        assert weights.sum() == pytest.approx(1)
        assert found["effective_neighbours"] == pytest.approx(np.exp(-(weights * np.log(weights)).sum()), rel=1e-3)
        told = sum(one["weight"] * one["target"] for one in rows.values())
        assert found["prediction"] == pytest.approx(told, rel=1e-4)
        spread = np.sqrt(sum(one["weight"] * (one["target"] - told) ** 2 for one in rows.values()))
        assert found["standard_deviation"] == pytest.approx(spread, rel=1e-3)
        assert rows[found["rows"][0]["row"]]["features"]["sex"] in ("female", "male")


def test_classes(iris: Path, tmp_path: Path) -> None:
    found = answer(iris, "--target", "species", "--explain", "100")
    assert found["kind"] == "classes"
    ours, near, plain = found["scores"]
    assert ours["accuracy"] > 0.9 < near["accuracy"]
    assert plain["method"] == "the commonest class"
    assert plain["accuracy"] == pytest.approx(1 / 3, abs=0.05)
    assert plain["brier"] == pytest.approx(2 / 3, abs=0.02)
    assert found["explanation"]["prediction"] == "virginica"
    numbers = pd.read_parquet(iris).assign(species=lambda frame: frame["species"].astype("category").cat.codes)
    numbers.to_json(tmp_path / "numbers.jsonl", orient="records", lines=True)
    again = answer(tmp_path / "numbers.jsonl", "--target", "species", "--classes")
    assert [score["accuracy"] for score in again["scores"]] == [score["accuracy"] for score in found["scores"]]
    assert answer(tmp_path / "numbers.jsonl", "--target", "species")["kind"] == "number"


def test_the_same_seed_gives_the_same_words(diabetes: Path) -> None:
    words = run(diabetes, "--target", "target", "--explain", "5")
    assert words == run(diabetes, "--target", "target", "--explain", "5")
    assert re.search(r"on the rows held out +R² +mean absolute error", words)
    assert "hardly counts" in words
    assert "Row 5: target predicted" in words
    assert "% of the weight" in words
    assert all(cell_len(line) <= 80 for line in words.splitlines())
    assert words != run(diabetes, "--target", "target", "--explain", "5", "--seed", "1")


@pytest.mark.parametrize(
    ("columns", "tag"), [(("bmi", "target"), "polygon"), (("bmi", "bp", "target"), "polyline"), (("sex",), "polyline")]
)
def test_plots(diabetes: Path, tmp_path: Path, columns: tuple[str, ...], tag: str) -> None:
    frame = pd.read_csv(diabetes)
    if columns == ("sex",):
        frame[["bmi", "bp", "sex"]].to_csv(tmp_path / "some.tsv", index=False, sep="\t")
    else:
        frame[list(columns)].to_csv(tmp_path / "some.tsv", index=False, sep="\t")
    picture = tmp_path / "some.svg"
    words = run(tmp_path / "some.tsv", "--target", columns[-1], "--plot", picture)
    assert str(picture) in words.replace("\n", "")
    root = xml.fromstring(picture.read_text())
    assert list(root.iter(SVG + tag))
    assert len(list(root.iter(SVG + "circle"))) >= (10 if columns == ("sex",) else 100)
    assert "nan" not in picture.read_text()


def test_gaps_and_other_columns_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=60), "colour": rng.choice(["red", "blue"], 60)})
    frame["y"] = frame["x"] * np.where(frame["colour"] == "red", 1, -1)
    frame["day"] = pd.date_range("2024-01-01", periods=60).strftime("%Y-%m-%d")
    frame["name"] = [f"row {i}" for i in range(60)]
    frame["same"], frame["empty"] = 3, None
    frame.loc[[3, 4], "x"] = np.nan
    frame.loc[7, "colour"] = None
    frame.loc[9, "y"] = np.nan
    frame.loc[11, "colour"] = "green"  # never seen, or seen once
    file = tmp_path / "gaps.csv"
    frame.to_csv(file, index=False)
    for seed in range(4):
        found = answer(file, "--target", "y", "--seed", str(seed))
        assert found["learnt"] + found["held_out"] == 59
    kinds = {width["feature"]: width["kind"] for width in found["bandwidths"]}
    assert kinds == {"x": "number", "colour": "category", "day": "date"}
    assert found["notes"] == [
        "1 row without y left out",
        "2 rows without x: the median is taken there",
        "name left out: text of 59 different values",
        "same left out: the same everywhere",
        "empty left out: no values",
    ]
    assert set(kinds) - {"day"} == {w["feature"] for w in answer(file, "--target", "y", "--drop", "day")["bandwidths"]}
    assert answer(file, "--target", "y", "--explain", "10")["explanation"]["row"] == 10
    with pytest.raises(ArgumentError, match="--explain: there is no row 9 with a y: expected one up to 59"):
        run(file, "--target", "y", "--explain", "9")


GOOD = "x,y\n" + "".join(f"{i},{i % 3}\n" for i in range(12))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (GOOD, "--target z", "target: there is no column 'z'; the columns are x, y"),
        (GOOD, "--target y --drop z", "drop: there is no column 'z'; the columns are x, y"),
        (GOOD, "--target y --drop x", "expected at least one column beside y to predict it from, got none"),
        (GOOD, "--target y --held-out 0.01", "held_out: expected a share that leaves at least 2 of 12 rows"),
        (GOOD, "--target y --held-out 1.5", "held_out: expected a share that leaves at least 2 of 12 rows"),
        (GOOD, "--target y --held-out nan", "held_out: expected a share"),
        (GOOD, "--target y --kernel square", "kernel: expected one of gaussian"),
        (GOOD, "--target y --plot picture.png", "--plot: expected a name that ends in .svg, got picture.png"),
        (GOOD, "--target y --plot nowhere/a.svg", "there is no folder nowhere"),
        (GOOD, "--target y --explain 12", "--explain: there is no row 12 with a y: expected one up to 11"),
        ("x,y\n1,2\n", "--target y", "expected at least 10 rows with a y, got 1"),
        ("x,y\n", "--target y", "expected at least 10 rows with a y, got 0"),
        ("", "--target y", "is empty"),
        (GOOD.replace("5,2", "oops,2"), "--target y", "column 'x': expected numbers, got 1 values that are none, the "
         "first 'oops' in row 5: correct them, empty them, or leave the column out with --drop"),
        (GOOD.replace("5,2", "inf,2"), "--target y", "column 'x': expected finite numbers, got infinity in row 5"),
        (GOOD.replace("5,2", "5,-inf"), "--target y", "column 'y': expected finite numbers, got infinity in row 5"),
        ("x,y\n" + "".join(f"{i},7\n" for i in range(12)), "--target y", "y is 7.0 in every row: there is nothing"),
        ("x,y\n" + "".join(f"7,{i}\n" for i in range(12)), "--target y", "got none: x left out: the same everywhere"),
        ("x,y\n" + "".join(f"{i},n{i}\n" for i in range(40)), "--target y", "expected numbers or classes, got 40 diff"),
        ('x,y\n"1,2\n', "--target y", "cannot be read as .csv"),
    ],
)  # fmt: skip
def test_what_will_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, options: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text(text)
    with pytest.raises(ArgumentError, match=message.replace("'", ".")):
        run("data.csv", *options.split())


def test_files_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "nested.jsonl").write_text("".join(f'{{"x": [{i}], "y": {i}}}\n' for i in range(12)))
    with pytest.raises(ArgumentError, match="column 'x': expected one value a row, got lists or objects"):
        run(tmp_path / "nested.jsonl", "--target", "y")
    for name, message in (
        ("missing.csv", "data: there is no file"),
        ("notes.docx", "expected a .csv, .tsv, .jsonl or .parquet file"),
        ("broken.parquet", "cannot be read as .parquet"),
        ("broken.jsonl", "cannot be read as .jsonl"),
        ("latin.csv", "cannot be read as .csv: 'utf-8' codec"),
    ):
        if name.startswith(("broken", "latin")):
            (tmp_path / name).write_bytes(b"caf\xe9,{")
        with pytest.raises(ArgumentError, match=message):
            run(tmp_path / name, "--target", "y")


def test_many_classes_with_one_row_each_side(tmp_path: Path) -> None:
    """A class that stands in the held-out rows alone counts as wrong, in every method, and breaks nothing."""
    labels = ["a"] * 20 + ["b"] * 20 + ["c"]
    pd.DataFrame({"x": np.arange(41.0), "label": labels}).to_csv(tmp_path / "rare.csv", index=False)
    table = prepare(read_table(tmp_path / "rare.csv"), "label")
    done = next(d for d in (study(table, seed=seed) for seed in range(20)) if 40 in d.held_out)
    assert "c" not in done.model.classes_
    assert all(score.first < 1 for score in done.scores)


def test_the_documents_example(diabetes: Path, tmp_path: Path) -> None:
    """Word by word; digits may differ in the last places from machine to machine."""
    page = Path(__file__).resolve().parents[2] / "docs" / "regression.md"
    command, shown = re.search(
        r"^qkv regress (diabetes.*?)\n```\n\n```text\n(.*?)```", page.read_text(), re.M | re.S
    ).groups()  # type: ignore[union-attr]
    words = command.replace("diabetes.csv", str(diabetes)).replace("diabetes.svg", str(tmp_path / "a.svg")).split()
    printed = run(*words)
    for text in (shown, printed):
        assert "drawn into" in text
    plain = [re.sub(r"[\d.,]+|[━╸·]+", "#", text.split("drawn into")[0]).split() for text in (shown, printed)]
    assert plain[0] == plain[1]
