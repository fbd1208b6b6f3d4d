"""What a table teaches: one part is learnt from, the other held out, and scored beside simple baselines.

Encoding, scaling, bandwidths and the baseline's k are all chosen on the first part alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ..errors import ArgumentError
from ._answer import Floats, Ints
from ._classifier import NadarayaWatsonClassifier
from ._regressor import NadarayaWatson
from ._table import Table

NEIGHBOURS = (1, 2, 3, 5, 8, 13, 21, 34, 55)
"""What the baseline of nearest neighbours chooses from, by five-fold cross-validation."""
TRIED = 5_000
"""Rows on which it does."""
OFTEN = 32
"""Categories of a column that have a column of their own; rarer ones share one."""


class Scores(NamedTuple):
    """One method on the held-out rows: R² and mean absolute error; of classes, accuracy and Brier's score."""

    name: str
    first: float
    second: float


class Width(NamedTuple):
    """How far a feature's difference counts: its bandwidth in standard deviations; of a category, as 0 and 1."""

    feature: str
    bandwidth: float


@dataclass
class Explanation:
    """One prediction and the rows behind it.

    Attributes:
        row: its number in the file.
        learnt: whether it was learnt from; its own target is left out of the prediction then.
        prediction: a number, or a label.
        spread: the weighted standard deviation of the targets; of classes, the prediction's probability.
        neighbours: the effective number of rows.
        rows, weights: the heaviest rows, as numbers in the file, and their weights.
    """

    row: int
    learnt: bool
    prediction: Any
    spread: float
    neighbours: float
    rows: Ints
    weights: Floats


@dataclass
class Study:
    """A fitted model, and how it does on the rows held out."""

    table: Table
    encoder: Any
    model: NadarayaWatson | NadarayaWatsonClassifier
    learnt: Ints
    """Which rows of the table were learnt from."""
    held_out: Ints
    scores: list[Scores]
    """Ours first."""
    measures: tuple[str, str]
    prediction: NDArray[Any]
    """``(held out,)``."""
    spread: Floats
    """``(held out,)``: the standard deviation behind each; of classes, the probability of the predicted one."""

    def predict(self, features: Any) -> tuple[NDArray[Any], Floats]:
        """Predictions for a frame of features, and the spread of each."""
        return _predicted(self.model, _encoded(self.encoder, features))

    def widths(self) -> list[Width]:
        """The features, narrowest bandwidth first: those that matter most; of a category its narrowest column."""
        narrowest: dict[str, float] = {}
        names = self.encoder.get_feature_names_out()
        for name, width in zip(names, self.model.bandwidth_, strict=True):
            source = name.split("__", 1)[1]
            if name.startswith("category__"):
                source = max((c for c in self.table.kinds if source.startswith(f"{c}_")), key=len)
            narrowest[source] = min(narrowest.get(source, np.inf), float(width))
        return [Width(*pair) for pair in sorted(narrowest.items(), key=lambda pair: pair[1])]

    def explain(self, row: int, top: int = 10) -> Explanation:
        """The rows that the prediction of one row rests on.

        Args:
            row: its number in the file, from 0.
            top: how many rows to name.

        Raises:
            ArgumentError: the file has no such row, or that row has no target.
        """
        at = np.flatnonzero(self.table.rows == row)
        if not len(at):
            raise ArgumentError(
                f"explain: expected the number of a row with a {self.table.name}, from {self.table.rows[0]} to "
                f"{self.table.rows[-1]}, got {row}"
            )
        others = self.learnt[self.learnt != at[0]]
        model, query = self.model, _encoded(self.encoder, self.table.features.iloc[at])
        if len(others) < len(self.learnt):
            model = type(model)(kernel=model.kernel, bandwidth=model.bandwidth_)
            model.fit(_encoded(self.encoder, self.table.features.iloc[others]), self.table.target[others])
        seen = model.attention(query, top_k=top)
        found, spread = _predicted(model, query)
        kept = seen.indices[0] >= 0
        return Explanation(
            row=row,
            learnt=len(others) < len(self.learnt),
            prediction=found[0],
            spread=float(spread[0]),
            neighbours=float(model.effective_neighbours(query)[0]),
            rows=self.table.rows[others[seen.indices[0][kept]]],
            weights=seen.weights[0][kept],
        )


def study(table: Table, *, kernel: str = "gaussian", held_out: float = 0.25, seed: int = 0) -> Study:
    """Fit on one part of a table, and score on the other.

    Numbers are brought to mean 0 and standard deviation 1; categories become a column of 0 and 1 each.

    Args:
        table: what `prepare` made.
        kernel: as in `NadarayaWatson`.
        held_out: the share of rows to score on.
        seed: of the split.
    """
    learnt, other = _split(table, held_out, seed)
    encoder = _encoder(table)
    train, target = table.features.iloc[learnt], table.target[learnt]
    if len(np.unique(target)) < 2:
        raise ArgumentError(f"target: {table.name} is {target[0]} in all rows that are learnt from; try another --seed")
    encoder.fit(train)
    x, asked, truth = _encoded(encoder, train), _encoded(encoder, table.features.iloc[other]), table.target[other]
    family = NadarayaWatsonClassifier if table.classes else NadarayaWatson
    model = family(kernel).fit(x, target)
    prediction, spread = _predicted(model, asked)
    near, k = _nearest(x, target, table.classes)
    plain = (DummyClassifier(strategy="prior") if table.classes else DummyRegressor()).fit(x, target)
    rivals = [
        ("qkv", model),
        (f"{k} nearest neighbours", near),
        ("the commonest class" if table.classes else "the mean", plain),
    ]
    return Study(
        table,
        encoder,
        model,
        learnt,
        other,
        [_score(name, rival, asked, truth, table.classes) for name, rival in rivals],
        ("accuracy", "Brier score") if table.classes else ("R²", "mean absolute error"),
        prediction,
        spread,
    )


def _split(table: Table, share: float, seed: int) -> tuple[Ints, Ints]:
    rows = np.arange(len(table.rows))
    count = round(share * len(rows)) if np.isfinite(share) else 0
    if not 2 <= count <= len(rows) - 2:
        raise ArgumentError(
            f"held_out: expected a share that leaves at least 2 of {len(rows)} rows on either side, got {share}"
        )
    alike = None
    if table.classes:
        sizes = np.unique(table.target, return_counts=True)[1]
        alike = table.target if sizes.min() >= 2 and len(sizes) <= min(count, len(rows) - count) else None
    learnt, other = train_test_split(rows, test_size=count, random_state=seed, stratify=alike)
    return np.sort(learnt), np.sort(other)


def _encoder(table: Table) -> Any:
    names: dict[bool, list[str]] = {True: [], False: []}
    for name, kind in table.kinds.items():
        names[kind == "category"].append(name)
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    categories = OneHotEncoder(
        drop="if_binary", handle_unknown="infrequent_if_exist", max_categories=OFTEN, sparse_output=False
    )
    return ColumnTransformer([("number", numbers, names[False]), ("category", categories, names[True])])


def _encoded(encoder: Any, features: Any) -> Floats:
    """Float32 serves: the features are standardised, and the estimator computes again what float32 cannot tell."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found unknown categories", category=UserWarning)
        return np.asarray(encoder.transform(features), np.float32)


def _predicted(model: Any, x: Floats) -> tuple[NDArray[Any], Floats]:
    if isinstance(model, NadarayaWatson):
        mean, std = model.predict(x, return_std=True)
        return mean, std
    shares = model.predict_proba(x)
    return model.classes_[shares.argmax(1)], shares.max(1)


def _nearest(x: Floats, target: NDArray[Any], classes: bool) -> tuple[Any, int]:
    """Nearest neighbours with the k that cross-validation likes best."""
    some = np.random.default_rng(0).permutation(len(x))[:TRIED]
    folds = KFold(min(5, len(some)), shuffle=True, random_state=0)
    few = [k for k in NEIGHBOURS if k <= len(some) // 2]
    rival = KNeighborsClassifier() if classes else KNeighborsRegressor()
    scoring = "accuracy" if classes else "neg_mean_squared_error"
    search = GridSearchCV(rival, {"n_neighbors": few}, scoring=scoring, cv=folds, refit=False)
    k = int(search.fit(x[some], target[some]).best_params_["n_neighbors"])
    return rival.set_params(n_neighbors=k).fit(x, target), k


def _score(name: str, model: Any, x: Floats, truth: NDArray[Any], classes: bool) -> Scores:
    found = model.predict(x)
    if not classes:
        return Scores(name, float(r2_score(truth, found)), float(mean_absolute_error(truth, found)))
    # A class that nobody learnt has probability 0: its rows cost the squares of all other probabilities, and 1.
    shares, right = model.predict_proba(x), truth[:, None] == model.classes_
    brier = ((shares - right) ** 2).sum(1) + ~right.any(1)
    return Scores(name, float(accuracy_score(truth, found)), float(brier.mean()))
