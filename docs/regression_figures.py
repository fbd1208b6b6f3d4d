"""Every score, figure and number of the "real data" parts of docs/regression.md.

    python docs/regression_figures.py [scores] [figures] [trace]

Scores are by cross-validation with fixed folds; what a method has to choose, it chooses from its training rows alone:
Nadaraya-Watson by leave-one-out, the nearest neighbours' number and the kernel ridge's two numbers by five inner folds,
the Gaussian process by its marginal likelihood. The data come with scikit-learn and statsmodels.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import statsmodels.api as sm
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import qkv
from qkv._figure import Figure, linear
from qkv.regression import NadarayaWatson

IMAGES = Path(__file__).parent / "img"


def methods(features: int, shared: bool = False) -> dict[str, Any]:
    """The regressors that are compared; classes are regressed as columns of 0 and 1.

    `shared` gives the Gaussian process one length for all features (of 64 it would take an hour).
    """
    numbers = {"n_neighbors": [1, 2, 3, 5, 8, 12, 20, 30, 50]}
    ridge = {"alpha": np.logspace(-3, 1, 5), "gamma": np.logspace(-3, 1, 9) / features}
    lengths = RBF(np.full(1 if shared else features, 3.0), (1e-2, 1e4))
    process = ConstantKernel(1.0, (1e-2, 1e3)) * lengths + WhiteKernel(0.1, (1e-6, 10))
    found = {
        "Nadaraya-Watson": NadarayaWatson(),
        "k nearest neighbours": GridSearchCV(KNeighborsRegressor(), numbers),
        "kernel ridge": GridSearchCV(KernelRidge(kernel="rbf"), ridge),
        "Gaussian process": GaussianProcessRegressor(process, random_state=0),
    }
    scaled = {name: TransformedTargetRegressor(model, transformer=StandardScaler()) for name, model in found.items()}
    return {name: make_pipeline(StandardScaler(), model) for name, model in scaled.items()}


def r2(truth: Any, found: Any) -> float:
    return float(1 - ((truth - found) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def error(truth: Any, found: Any) -> float:
    return float(np.sqrt(((truth - found) ** 2).mean()))


def accuracy(truth: Any, found: Any) -> float:
    return float((truth.argmax(1) == found.argmax(1)).mean())


def carbon() -> tuple[Any, Any]:
    """Weeks, in years since 1900, and CO2 over Mauna Loa in ppm; weeks without a measurement are left out."""
    table = sm.datasets.co2.load_pandas().data.dropna()
    day = table.index.day_of_year.to_numpy() - 1
    return table.index.year.to_numpy() + day / 365.25 - 1900, table["co2"].to_numpy()


def seasons(t: Any) -> Any:
    return np.stack([t, np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], axis=1)


def economy() -> tuple[Any, Any, Any]:
    """A quarter's unemployment, inflation, interest and growth in the USA; the next one's inflation; and this one's."""
    table = sm.datasets.macrodata.load_pandas().data
    growth = 100 * np.diff(np.log(table["realgdp"]), prepend=np.nan)
    x = np.stack([*(table[name].to_numpy() for name in ("unemp", "infl", "tbilrate")), growth], axis=1)
    return x[1:-1], table["infl"].to_numpy()[2:], x[1:-1, 1]


def scores() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    t, co2 = carbon()
    x, y, now = economy()
    diabetes, iris, digits = (load(return_X_y=True) for load in (load_diabetes, load_iris, load_digits))
    mixed = KFold(5, shuffle=True, random_state=0)
    even = StratifiedKFold(5, shuffle=True, random_state=0)
    last = [(np.flatnonzero(t < 97), np.flatnonzero(t >= 97))]
    weeks = seasons(t[::4]), co2[::4]
    folds: list[tuple[str, Any, Any, Any, Callable[[Any, Any], float], bool]] = [
        ("diabetes, R²", *diabetes, list(mixed.split(diabetes[0])), r2, False),
        ("iris, right", iris[0], np.eye(3)[iris[1]], list(even.split(*iris)), accuracy, False),
        ("digits, right", digits[0], np.eye(10)[digits[1]], list(even.split(*digits))[:2], accuracy, True),
        ("co2, weeks left out, error in ppm", *weeks, list(mixed.split(weeks[0])), error, False),
        (
            "co2, after 1996, error in ppm",
            seasons(t[::4]),
            co2[::4],
            [(a[a % 4 == 0] // 4, b[b % 4 == 0] // 4) for a, b in last],
            error,
            False,
        ),
        ("macrodata, next quarter's inflation, error", x, y, list(TimeSeriesSplit(5).split(x)), error, False),
    ]
    names = list(methods(1))
    print("| data | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    for title, features, target, parts, score, shared in folds:
        cells = []
        for name, model in methods(features.shape[1], shared).items():
            found = [score(target[b], model.fit(features[a], target[a]).predict(features[b])) for a, b in parts]
            cells.append(f"{np.mean(found):.3f}" + (f" ± {np.std(found):.3f}" if len(found) > 1 else ""))
            print("  ", title, name, cells[-1], file=sys.stderr, flush=True)
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)
    kept = [error(y[b], now[b]) for _, b in TimeSeriesSplit(5).split(x)]
    print(f"inflation as it is now, error: {np.mean(kept):.3f} ± {np.std(kept):.3f}")


def carbon_figure() -> str:
    """Five years, predicted from all others and from themselves."""
    t, co2 = carbon()
    model = NadarayaWatson().fit(t[:, None], co2)
    part = (t >= 85) & (t < 90)
    grid = np.linspace(85, 90, 400)
    figure = Figure(
        "CO₂ over Mauna Loa",
        "weekly means (statsmodels' co2) and kernel regression on time alone",
        linear([85, 90]),
        linear(co2[part]),
        "year, 19..",
        "ppm",
        right=190,
    )
    figure.dots(zip(t[part], co2[part], strict=True), colour="key", radius=2, opacity=0.6)
    for width, name, dashes in ((1.0, "one year", "7 4"), (60 / 365.25, "60 days", "2 3")):
        line = NadarayaWatson(bandwidth=width).fit(t[:, None], co2).predict(grid[:, None])
        figure.line(list(zip(grid, line, strict=True)), name=f"h = {name}", dashes=dashes)
    chosen = float(model.bandwidth_[0])
    line = model.predict(grid[:, None])
    figure.line(
        list(zip(grid, line, strict=True)), name=f"leave-one-out: {chosen * 365.25:.1f} days", colour="ink", width=2.5
    )
    print(f"co2: leave-one-out {chosen * 365.25:.2f} days, R² {model.loo_score_:.4f}")
    return figure.svg()


def bmi() -> tuple[Any, Any]:
    """Body mass index, and how diabetes went on in the year after; 442 people."""
    data = load_diabetes(scaled=False)
    return data.data[:, 2], data.target


def diabetes_figure() -> str:
    x, y = bmi()
    grid = np.linspace(x.min(), x.max(), 200)
    figure = Figure(
        "Diabetes a year on, by body mass index",
        "442 people (scikit-learn's diabetes), four regressions, each with what it chose",
        linear(x),
        linear(y),
        "body mass index",
        "progression",
        right=190,
    )
    figure.dots(zip(x, y, strict=True), colour="key", radius=2, opacity=0.35)
    for (name, model), dashes in zip(list(methods(1).items())[1:], ("2 3", "7 4", "10 3 2 3"), strict=True):
        line = model.fit(x[:, None], y).predict(grid[:, None])
        figure.line(list(zip(grid, line, strict=True)), name=name, dashes=dashes)
    model = NadarayaWatson().fit(x[:, None], y)
    mean = model.predict(grid[:, None])
    figure.line(list(zip(grid, mean, strict=True)), name="Nadaraya-Watson", colour="ink", width=2.5)
    print(f"diabetes on bmi alone: h {model.bandwidth_[0]:.3f}, leave-one-out R² {model.loo_score_:.3f}")
    return figure.svg()


def lesson() -> dict[str, Any]:
    """The weeks of a year as keys, their CO2 as values, and each week of the year as a query, at several bandwidths."""
    t, co2 = carbon()
    part = (t >= 85) & (t < 86)
    key, value = t[part], co2[part]
    query = 85 + (np.arange(52) + 0.5) / 52
    widths = [0.005, 0.015, 0.06, 0.15, 0.5]
    chosen = float(NadarayaWatson().fit(key[:, None], value).bandwidth_[0])
    maps = []
    for width in sorted([*widths, chosen]):
        # Attention as everybody knows it: one more coordinate of the keys holds -k²/2, the queries' is 1.
        q, k = (query - 85.5) / width, (key - 85.5) / width
        q, k = np.stack([q, np.ones_like(q)], 1), np.stack([k, -(k**2) / 2], 1)
        seen = qkv.observe(q, k, value[:, None], scale=1.0, entropy=True)
        weights = qkv.weights(q, k, lse=seen.lse, scale=1.0)
        direct = NadarayaWatson(bandwidth=width).fit(key[:, None], value).predict(query[:, None])
        assert np.allclose(seen.output[:, 0], direct)
        maps.append(
            {
                "bandwidth": round(width, 4),
                "chosen": width == chosen,
                "prediction": np.round(seen.output[:, 0], 2).tolist(),
                "effective_neighbours": np.round(np.exp(seen.entropy), 2).tolist(),
                "weights": np.round(weights, 3).tolist(),
            }
        )
    return {
        "data": "statsmodels co2: weekly means of CO2 over Mauna Loa, ppm, in 1985",
        "key": np.round(key, 4).tolist(),
        "value": np.round(value, 2).tolist(),
        "query": np.round(query, 4).tolist(),
        "maps": maps,
    }


def trace(path: str = "regression-lesson.qkv") -> None:
    """The same weeks as a text, and a head for each bandwidth: ``qkv look regression-lesson.qkv``."""
    from qkv.trace import Attention, BiasStructure, MaskStructure, ModelInfo, Sequence, Token, Trace
    from qkv.trace._tensors import Tensors, raw

    t, co2 = carbon()
    part = (t >= 85) & (t < 86)
    key, value = t[part], co2[part]
    widths = [one["bandwidth"] for one in lesson()["maps"]]
    placed = np.stack([(key - 85.5) / width for width in widths])
    arrays = {
        "query": np.stack([placed, np.ones_like(placed)], axis=2),
        "key": np.stack([placed, -(placed**2) / 2], axis=2),
        "value": np.tile(value[None, :, None], (len(widths), 1, 1)),
    }
    arrays["lse"] = qkv.observe(*arrays.values(), scale=1.0).lse
    tensors = Tensors({name: raw(array.astype(np.float32)) for name, array in arrays.items()})
    heads = tuple(range(len(widths)))
    record = Attention(
        path="bandwidths",
        kind="self",
        part="encoder",
        layer=0,
        heads=heads,
        head_count=len(heads),
        scale=1.0,
        softcap=None,
        query_side="input",
        key_side="input",
        tensors=tensors,
        mask_structure=MaskStructure(),
        bias_structure=BiasStructure(),
    )
    days = np.datetime64("1985-01-01") + np.round((key - 85) * 365.25).astype(int)
    words = [Token(at, str(day)[5:], space=at > 0, word=at) for at, day in enumerate(days)]
    model = ModelInfo("Nadaraya-Watson", "bandwidths", "encoder", 2 * len(heads), 1, len(heads), len(words), "after")
    Trace(model, [Sequence({"input": words}, [record], None)]).save(path)


def map_figure(found: dict[str, Any]) -> str:
    """Attention of queries (down) over keys (across) at three bandwidths."""
    size, gap, top = 4, 24, 64
    chosen = next(one for one in found["maps"] if one["chosen"])
    three = {"a copy": found["maps"][0], "leave-one-out": chosen, "a mean": found["maps"][-1]}
    side = size * len(found["query"])
    subtitle = "weights of the weeks of 1985 (across) for the weeks of 1985 (down); full colour is a row's heaviest"
    width, height = 3 * side + 2 * gap + 48, top + side + 60
    drawn = Figure("Kernel regression is attention", subtitle, linear([0, 1]), linear([0, 1]), "")
    parts = [
        line for line in drawn.svg().splitlines() if not line.startswith(("<line", '<text class="quiet" x="6', "</svg"))
    ]
    head = "\n".join(parts).replace(f'viewBox="0 0 {drawn.width} {drawn.height}"', f'viewBox="0 0 {width} {height}"')
    parts = [re.sub(r'(?m)^<text class="quiet" (?!x="20").*\n?', "", head)]
    for place, (title, one) in enumerate(three.items()):
        left = 24 + place * (side + gap)
        weights = np.array(one["weights"])
        levels = np.minimum(np.ceil(12 * weights / weights.max(1, keepdims=True)), 12).astype(int)
        runs: dict[int, list[str]] = {}
        for row, line in enumerate(levels):
            starts = np.flatnonzero(np.diff(line, prepend=-1))
            for start, stop in zip(starts, [*starts[1:], len(line)], strict=True):
                long = (stop - start) * size
                runs.setdefault(int(line[start]), []).append(
                    f"M{left + start * size} {top + row * size}h{long}v{size}h-{long}z"
                )
        for level, cells in sorted(runs.items()):
            if level:
                parts.append(f'<path class="ink-dot" opacity="{level / 12:.2f}" d="{"".join(cells)}"/>')
        parts.append(f'<text x="{left}" y="{top + side + 20}">h = {365.25 * one["bandwidth"]:.0f} days: {title}</text>')
        enough = np.median(one["effective_neighbours"])
        parts.append(f'<text class="quiet" x="{left}" y="{top + side + 38}">rests on {enough:.1f} weeks</text>')
    return "\n".join([*parts, "</svg>", ""])


def figures() -> None:
    found = lesson()
    for name, picture in {
        "regression-co2": carbon_figure(),
        "regression-diabetes": diabetes_figure(),
        "regression-maps": map_figure(found),
    }.items():
        (IMAGES / f"{name}.svg").write_text(picture, encoding="utf-8")
        print(name, len(picture) // 1000, "kB")
    (Path(__file__).parent / "regression-lesson.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    for one in found["maps"]:
        print(
            "h",
            one["bandwidth"],
            "a week in June",
            one["prediction"][24],
            "effective",
            one["effective_neighbours"][24],
            one["weights"][24][20:29],
        )


if __name__ == "__main__":
    for name in sys.argv[1:] or ["figures", "scores"]:
        {"scores": scores, "figures": figures, "trace": trace}[name]()
