"""Data in pieces, from Dask and Parquet, answers as the same data in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from exact import weights
from sklearn.datasets import load_diabetes, load_iris

from qkv import ArgumentError
from qkv.regression import NadarayaWatson, NadarayaWatsonClassifier
from qkv.regression import _summary as summaries
from qkv.regression._summary import Summary

FAR = np.array([[1e4, 0, 0], [0, 1e12, 0], [-1e3, -1e3, 5]])


@pytest.fixture(autouse=True)
def _in_this_thread() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def data(n: int = 400, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(dtype)
    x[50:60] = x[0]  # rows that repeat one another
    y = np.sin(2 * x[:, 0]) + x[:, 1] + rng.normal(size=n) / 10
    y[50:60] = y[0]
    return x, y, rng.integers(0, 4, n).astype(float)


def frame(x: np.ndarray, y: np.ndarray, mass: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "price": y, "times": mass})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files, one of them without a row, in row groups of 37."""
    table = frame(*data())
    (tmp_path / "rows").mkdir()
    for number, part in enumerate((table[:90], table[90:91], table[91:91], table[91:])):
        part.to_parquet(tmp_path / "rows" / f"part-{number}.parquet", row_group_size=37)
    return tmp_path / "rows"


def same(scattered: NadarayaWatson, held: NadarayaWatson, query: np.ndarray, tolerance: float = 1e-6) -> None:
    """Every answer, near and far."""
    query = np.concatenate([query, FAR.astype(query.dtype)])
    asked = pd.DataFrame(query, columns=list("abc")) if hasattr(scattered, "feature_names_in_") else query
    np.testing.assert_allclose(scattered.bandwidth_, held.bandwidth_, rtol=1e-6)  # which a search rounds
    for found, expected in zip(
        scattered.predict(asked, return_std=True), held.predict(query, return_std=True), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=max(tolerance, 1e-6))
    found, expected = scattered.attention(asked, top_k=5), held.attention(query, top_k=5)
    np.testing.assert_allclose(found.weights, expected.weights, atol=tolerance)
    apart = np.abs(np.diff(expected.weights, axis=1)).min(1) > 1e-6  # no ties, which either may win
    np.testing.assert_array_equal(found.indices[apart], expected.indices[apart])
    enough = held.effective_neighbours(query)
    np.testing.assert_allclose(scattered.effective_neighbours(asked), enough, rtol=10 * tolerance + 1e-7)


@pytest.mark.parametrize("bandwidth", ["loo", "scott", "silverman", 0.3, 1e-4, [0.2, 5.0, 1e3]], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_dask_arrays(bandwidth: Any, weighted: bool) -> None:
    x, y, mass = data()
    held = NadarayaWatson(bandwidth=bandwidth).fit(x, y, mass if weighted else None)
    pieces = da.from_array(x, chunks=((100, 1, 0, 299), (2, 1)))
    scattered = NadarayaWatson(bandwidth=bandwidth).fit(pieces, da.from_array(y, chunks=70), mass if weighted else None)
    same(scattered, held, np.concatenate([x[:40], x[40:80] + 1e-5]))
    assert scattered.score(x, y) == pytest.approx(held.score(x, y))


@pytest.mark.parametrize(
    ("kernel", "metric"),
    [("laplacian", "euclidean"), ("epanechnikov", "euclidean"), ("boxcar", "chebyshev"), ("gaussian", "manhattan")],
)
def test_other_kernels(kernel: str, metric: str) -> None:
    x, y, mass = data()
    for bandwidth in (0.05, 0.6, "scott"):
        held = NadarayaWatson(kernel, bandwidth=bandwidth, metric=metric).fit(x, y, mass)
        model = NadarayaWatson(kernel, bandwidth=bandwidth, metric=metric)
        scattered = model.fit(da.from_array(x, chunks=(90, 3)), y, mass)
        same(scattered, held, x[:50] + 0.01)
        if bandwidth != "scott":
            expected = weights(x[:50] + 0.01, x, bandwidth, kernel, metric, mass) @ y
            np.testing.assert_allclose(scattered.predict(x[:50] + 0.01), expected.astype(float), atol=1e-7)


def test_float32() -> None:
    x, y, _ = data(dtype=np.float32)
    for width in (1e-3, 0.3):
        held = NadarayaWatson(bandwidth=width).fit(x, y)
        same(NadarayaWatson(bandwidth=width).fit(da.from_array(x, chunks=(130, 3)), y), held, x[:60], 2e-3)


def test_dask_frames_and_queries_in_pieces() -> None:
    x, y, mass = data()
    table = frame(x, y, mass)
    table["other"] = -y
    held = NadarayaWatson(bandwidth=0.4).fit(x, np.stack([y, -y], axis=1), mass)
    parts = dd.from_pandas(table, npartitions=5)
    scattered = NadarayaWatson(bandwidth=0.4).fit(parts, ["price", "other"], "times")
    assert list(scattered.feature_names_in_) == ["a", "b", "c"]
    same(scattered, held, x[:30])
    expected = held.predict(x)
    np.testing.assert_allclose(scattered.predict(parts[["a", "b", "c"]]), expected, atol=1e-9)
    np.testing.assert_allclose(held.predict(da.from_array(x, chunks=(150, 3))), expected, atol=1e-9)
    beside = NadarayaWatson(bandwidth=0.4).fit(parts[["a", "b", "c"]], parts[["price", "other"]], parts["times"])
    np.testing.assert_allclose(beside.predict(table[["a", "b", "c"]]), expected, atol=1e-9)
    with pytest.raises(ValueError, match="feature names should match"):
        scattered.predict(parts[["b", "a", "c"]])


@pytest.mark.parametrize("rows", [250_000, 40])
def test_parquet(folder: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkv.regression._parquet.PIECE", rows)
    x, y, mass = data()
    held = NadarayaWatson().fit(x, y, mass)
    for path in (folder, str(folder / "*.parquet")):
        scattered = NadarayaWatson().fit(path, "price", "times")
        same(scattered, held, x[:40])
    assert list(scattered.feature_names_in_) == ["a", "b", "c"]
    assert scattered.loo_score_ == pytest.approx(held.loo_score_)
    np.testing.assert_allclose(scattered.predict(folder), held.predict(x), atol=1e-9)
    np.testing.assert_allclose(held.predict(frame(x, y, mass)[["a", "b", "c"]].to_numpy()), held.predict(x))


def test_parquet_types(tmp_path: Path) -> None:
    """Whole numbers, float32 alone, an index, several targets, a column in names of folders, categories."""
    x, y, mass = data()
    table = frame(x, y, mass).astype({"a": np.float32, "b": np.float32, "c": np.float32})
    table.index = pd.Index(np.arange(len(table)) * 3, name="row")
    table["other"] = (y * 10).round().astype(int)
    table["class"] = pd.Categorical(np.where(y > 0.5, "high", "low"))
    table.to_parquet(tmp_path / "one.parquet")
    given = ["price", "other"]
    numbers = table.drop(columns="class")
    numbers.to_parquet(tmp_path / "numbers.parquet")
    scattered = NadarayaWatson(bandwidth=0.4).fit(tmp_path / "numbers.parquet", given, "times")
    held = NadarayaWatson(bandwidth=0.4).fit(x.astype(np.float32), table[given].to_numpy(), mass)
    assert scattered.n_features_in_ == 3
    np.testing.assert_allclose(scattered.predict(table[["a", "b", "c"]]), held.predict(x.astype(np.float32)), atol=1e-3)
    labels = table.drop(columns=given)
    labels.to_parquet(tmp_path / "labels.parquet")
    classifier = NadarayaWatsonClassifier(bandwidth=0.4).fit(tmp_path / "labels.parquet", "class", "times")
    assert list(classifier.classes_) == ["high", "low"]
    cut = table.drop(columns=["class", "times", "other"]).assign(side=(mass > 1).astype(int))
    cut.to_parquet(tmp_path / "cut", partition_cols=["side"], index=False)
    assert list(NadarayaWatson(bandwidth=1.0).fit(tmp_path / "cut", "price").feature_names_in_) == [*"abc", "side"]


def test_classes() -> None:
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    held = NadarayaWatsonClassifier().fit(X, names)
    scattered = NadarayaWatsonClassifier().fit(da.from_array(X, chunks=(60, 4)), names)  # no piece has all classes
    assert list(scattered.classes_) == list(held.classes_)
    np.testing.assert_allclose(scattered.predict_proba(X), held.predict_proba(X), atol=1e-8)
    assert (scattered.predict(da.from_array(X, chunks=(60, 4))) == held.predict(X)).all()


def test_a_cluster() -> None:
    """Two worker processes and a scheduler on this machine: keys stay with the workers."""
    from distributed import Client, LocalCluster

    X, y = load_diabetes(return_X_y=True)
    options = {"host": "127.0.0.1", "dashboard_address": None, "protocol": "tcp"}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster,
        Client(cluster) as client,
        dask.config.set(scheduler=client),
    ):
        pieces = client.persist(da.from_array(X, chunks=(100, 10)))
        scattered = NadarayaWatson().fit(pieces, y)
        held = NadarayaWatson().fit(X, y)
        np.testing.assert_allclose(scattered.bandwidth_, held.bandwidth_, rtol=1e-6)
        np.testing.assert_allclose(scattered.predict(X), held.predict(X), rtol=1e-6)
        far = np.full((1, 10), 1e6)
        np.testing.assert_allclose(scattered.predict(far), held.predict(far), rtol=1e-9)
        with pytest.raises(ArgumentError, match=r"piece 1 of the data: Input X contains NaN"):
            NadarayaWatson().fit(da.from_array(np.where(np.arange(len(X))[:, None] == 150, np.nan, X), (100, 10)), y)


def test_a_sample_does_not_depend_on_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on the order of rows; and it tells how many different rows there are."""
    monkeypatch.setattr(summaries, "SAMPLED", 1000)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6000, 2))[rng.integers(0, 6000, 20_000)]
    y, mass = x[:, :1] * 2, rng.exponential(size=len(x))
    expected = len(np.unique(x, axis=0))
    whole = Summary.of(x, y, mass)
    assert len(whole.sample.x) == 1000
    assert whole.distinct == pytest.approx(expected, rel=0.1)
    shuffled = rng.permutation(len(x))
    parts = [Summary.of(x[rows], y[rows], mass[rows]) for rows in np.array_split(shuffled, 9)]
    joined = parts[0].join(*parts[1:])
    for name in ("code", "x", "y", "count"):
        np.testing.assert_array_equal(getattr(joined.sample, name), getattr(whole.sample, name))
    np.testing.assert_allclose(joined.sample.weight, whole.sample.weight)
    np.testing.assert_allclose(joined.features.deviation, whole.features.deviation)
    np.testing.assert_allclose(joined.features.mean, np.average(x, axis=0, weights=mass))
    _, inverse = np.unique(x, axis=0, return_inverse=True)
    total = np.bincount(inverse.ravel(), weights=mass)
    assert joined.effective == pytest.approx(total.sum() ** 2 / (total**2).sum(), rel=0.1)


def test_more_rows_than_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then too the bandwidths are those of memory."""
    monkeypatch.setattr(summaries, "SAMPLED", 150)
    x, y, mass = data()
    held = NadarayaWatson().fit(x, y, mass)
    scattered = NadarayaWatson().fit(da.from_array(x, chunks=(33, 3)), y, mass)
    np.testing.assert_allclose(scattered.bandwidth_, held.bandwidth_, rtol=1e-6)


def test_errors(folder: Path, tmp_path: Path) -> None:
    x, y, mass = data()
    pieces, table = da.from_array(x, chunks=(100, 3)), dd.from_pandas(frame(x, y, mass), npartitions=3)
    (tmp_path / "text.parquet").write_text("not a table")
    (tmp_path / "empty").mkdir()
    words = frame(x, y, mass).assign(a="word")
    words.to_parquet(tmp_path / "words.parquet")
    model = NadarayaWatson(bandwidth=1.0)
    for arguments, message in (
        ((pieces, None), "y: expected targets, got None"),
        ((pieces, y[:-1]), "y: expected 400 rows as X has, got 399"),
        ((da.from_array(x[:, 0]), y), "X: expected \\(rows, features\\), got a Dask array of 1 axes"),
        ((table, "cost"), "expected names of X's columns, got \\['cost'\\]"),
        (
            (table[["a"]], dd.from_pandas(frame(x, y, mass)["price"], npartitions=2)),
            "expected 3 pieces as X has, got 2",
        ),
        ((table[["a"]], y), "y: expected it cut like X"),
        ((pieces, np.where(np.arange(400) == 7, np.nan, y)), "piece 0 of the data: y: expected a value in every row"),
        ((pieces * 1e200, y), "of the data: X: expected numbers up to 1e\\+140"),
        ((pieces, y * 1e200), "of the data: y: expected numbers up to 1e\\+140"),
        ((pieces, y, mass * 1e60), "of the data: sample_weight: expected 0 or numbers from 1e-50 to 1e\\+50"),
        ((pieces, y, -mass), "of the data: sample_weight: expected no negative numbers"),
        ((folder, "cost"), "y: expected one of the columns a, b, c, price, times, got 'cost'"),
        ((folder, y), "y: expected the name of a column"),
        ((folder, "price", mass), "sample_weight: expected the name of a column"),
        ((folder, ["a", "b", "c", "price", "times"]), "X: expected features beside"),
        ((tmp_path / "none", "price"), "where nothing is"),
        ((tmp_path / "empty", "price"), "found none"),
        ((tmp_path / "text.parquet", "price"), "X: expected Parquet files at"),
        ((tmp_path / "words.parquet", "price"), "X: expected numbers in column 'a'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.fit(*arguments)
    with pytest.raises(ArgumentError, match="at least one positive weight"):
        model.fit(pieces, y, 0 * mass)
    model.fit(folder, "price", "times")
    with pytest.raises(ArgumentError, match="X: expected the columns a, b, c"):
        model.predict(_written(tmp_path / "short.parquet", frame(x, y, mass)[["a"]]))
    with pytest.raises(ArgumentError, match="lies in pieces; give all pieces to fit"):
        model.partial_fit(x, y)
    with pytest.raises(ArgumentError, match="partial_fit expects data in memory, got a dask Array"):
        NadarayaWatson().partial_fit(pieces, y)
    with pytest.raises(ArgumentError, match="y: expected one label for each row"):
        NadarayaWatsonClassifier().fit(table, ["price", "times"])
    with pytest.raises(ValueError, match="Unknown label type"):
        NadarayaWatsonClassifier().fit(pieces, y)


def _written(path: Path, table: pd.DataFrame) -> Path:
    table.to_parquet(path)
    return path


@pytest.mark.parametrize("missing", ["dask", "pyarrow.dataset"])
def test_what_is_missing_is_named(missing: str, folder: Path) -> None:
    code = (
        f"import sys; from qkv.regression import NadarayaWatson; assert 'dask' not in sys.modules\n"
        f"sys.modules[{missing!r}] = None\n"
        "class Array: ndim, shape, chunks = 2, (4, 1), ((4,), (1,))\n"
        "Array.__dask_graph__ = lambda self: None\n"
        "Array.rechunk = lambda self, chunks: self\n"
        f"NadarayaWatson().fit({str(folder)!r} if {missing!r} != 'dask' else Array(), 'price')\n"
    )
    if missing == "dask":
        code = (
            "import sys; sys.modules['dask'] = None\n"
            "from qkv import DependencyError\nfrom qkv.regression._pieces import needs\nneeds('dask')\n"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert f"data in pieces needs {missing}: pip install 'qkv[dask]'" in done.stderr
