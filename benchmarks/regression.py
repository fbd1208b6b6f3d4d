"""Kernel regression beside statsmodels, scikit-learn's pairwise distances and KeOps; our memory and bandwidths.

    python benchmarks/regression.py [--keys 10000 100000 1000000] [--dtype float64 float32] [--peers sklearn keops]
    python benchmarks/regression.py --bandwidth     # leave-one-out on 100,000 rows of 8 features, float32
    python benchmarks/regression.py --memory        # 1,000,000 keys, 10,000 queries, 16 dimensions

Gaussian kernel, 8 features, one bandwidth. The libraries take turns in one process. Fitting is not timed, nor what
a library compiles or warms up on its first queries. Predictions are compared before anything is timed: with the exact
sum in float64, from differences. The ratio is the median over turns of a library's time to ours.

statsmodels: `KernelReg(..., reg_type="lc").fit(queries)`, float64 alone; it works on one query after another.
scikit-learn: `euclidean_distances(squared=True)`, exp and a product, 64 MiB at a time (the fastest size).
KeOps (`pip install pykeops`, and a C++ compiler): `(-|q - k|² / 2h²).exp()`, its two sums, as its manual shows.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

FEATURES, WIDTH = 8, 0.5
QUERIES = {10_000: (1000,), 100_000: (200, 2000), 1_000_000: (100, 1000)}
"""Two rows where statsmodels would take minutes: with few queries with it, with more without."""
SLOW = 600
"""Queries up to which statsmodels takes part beyond 10,000 keys."""
GOALS = {"statsmodels": 10, "sklearn": 5, "keops": 2}
TURNS = 3

Predict = Callable[[Any], Any]


def data(keys: int, dtype: str, features: int = FEATURES) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((keys, features), dtype=np.float32)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + rng.standard_normal(keys, dtype=np.float32) / 5
    return x.astype(dtype), y.astype(dtype)


def exact(x: Any, y: Any, query: Any) -> Any:
    """Row by row, from differences of coordinates."""
    found = []
    for row in query.astype(np.float64):
        weight = np.exp(-(((x - row) / WIDTH) ** 2).sum(1) / 2)
        found.append(weight @ y / weight.sum())
    return np.array(found)


def qkv(x: Any, y: Any) -> Predict:
    from qkv.regression import NadarayaWatson

    predict: Predict = NadarayaWatson(bandwidth=WIDTH).fit(x, y).predict
    return predict


def statsmodels(x: Any, y: Any) -> Predict:
    from statsmodels.nonparametric.kernel_regression import KernelReg

    model = KernelReg(y, x, "c" * FEATURES, reg_type="lc", bw=np.full(FEATURES, WIDTH))
    return lambda query: model.fit(query)[0]


def sklearn(x: Any, y: Any) -> Predict:
    from sklearn.metrics.pairwise import euclidean_distances

    squares = (x * x).sum(1)[None]
    step = max(1, (64 << 20) // (x.itemsize * len(x)))

    def predict(query: Any) -> Any:
        found = np.empty(len(query), x.dtype)
        for start in range(0, len(query), step):
            weight = euclidean_distances(query[start : start + step], x, Y_norm_squared=squares, squared=True)
            weight *= -0.5 / WIDTH**2
            np.exp(weight, out=weight)
            found[start : start + step] = weight @ y / weight.sum(1)
        return found

    return predict


def keops(x: Any, y: Any) -> Predict:
    from pykeops.numpy import LazyTensor

    key, value = LazyTensor(x[None] / x.dtype.type(WIDTH)), np.stack([y, np.ones_like(y)], axis=1)

    def predict(query: Any) -> Any:
        asked = LazyTensor(query[:, None] / x.dtype.type(WIDTH))
        told = (-((asked - key) ** 2).sum(-1) / 2).exp() @ value
        return told[:, 0] / told[:, 1]

    return predict


LIBRARIES = {"statsmodels": statsmodels, "sklearn": sklearn, "keops": keops}


def row(keys: int, queries: int, dtype: str, peers: list[str]) -> str:
    x, y = data(keys, dtype)
    query = data(queries + 7, dtype)[0][7:] * np.asarray(0.9, dtype)
    made = {"qkv": qkv(x, y)} | {name: LIBRARIES[name](x, y) for name in peers}
    few = query[:8]
    expected = exact(x, y, few)
    for name, predict in made.items():
        off = float(np.abs(predict(few) - expected).max())
        assert off < (1e-7 if dtype == "float64" else 2e-3), f"{name} is off by {off}"
    taken: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(TURNS):
        for name, predict in made.items():
            if turn and taken[name][0] > 5:
                continue
            start = time.perf_counter()
            predict(query)
            taken[name].append(time.perf_counter() - start)
    own = taken["qkv"]
    cells = [f"{keys:,}", f"{queries:,}", dtype, f"{min(own) * 1e3:,.0f} ms"]
    for name in LIBRARIES:
        if name in taken:
            ratio = statistics.median(other / mine for other, mine in zip(taken[name], own, strict=False))
            cells.append(f"{min(taken[name]) * 1e3:,.0f} ms, **{ratio:.1f}×**")
        else:
            cells.append("-")
    return "| " + " | ".join(cells) + " |"


def bandwidth() -> None:
    from qkv.regression import NadarayaWatson

    x, y = data(100_000, "float32")
    start = time.perf_counter()
    model = NadarayaWatson().fit(x, y)
    taken = time.perf_counter() - start
    print(
        f"leave-one-out on 100,000 x 8, float32: {taken:.1f} s, R² {model.loo_score_:.3f}, {model.bandwidth_.round(2)}"
    )


def memory() -> None:
    from qkv.regression import NadarayaWatson

    x, y = data(1_000_000, "float32", 16)
    query = data(10_000, "float32", 16)[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    model = NadarayaWatson(bandwidth=WIDTH).fit(x, y)
    start = time.perf_counter()
    model.predict(query)
    taken, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"1,000,000 keys x 10,000 queries x 16, float32: {taken:.1f} s, peak {peak:.0f} MiB ({before:.0f} before fit)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, nargs="+", default=list(QUERIES), choices=list(QUERIES))
    parser.add_argument("--dtype", nargs="+", default=["float64", "float32"], choices=["float64", "float32"])
    parser.add_argument("--peers", nargs="+", default=list(LIBRARIES), choices=list(LIBRARIES))
    parser.add_argument("--bandwidth", action="store_true")
    parser.add_argument("--memory", action="store_true")
    chosen = parser.parse_args()
    if chosen.bandwidth or chosen.memory:
        for work in [bandwidth] * chosen.bandwidth + [memory] * chosen.memory:
            work()
        return
    named = [f"{name}, goal {goal}×" for name, goal in GOALS.items()]
    print("| keys | queries | dtype | qkv | " + " | ".join(named) + " |")
    print("|---:|---:|---|---:|" + "---:|" * len(named))
    for dtype in chosen.dtype:
        for keys in chosen.keys:
            for queries in QUERIES[keys]:
                slow = dtype == "float32" or (keys > 10_000 and queries > SLOW)
                peers = [name for name in chosen.peers if not (name == "statsmodels" and slow)]
                print(row(keys, queries, dtype, peers), flush=True)


if __name__ == "__main__":
    main()
