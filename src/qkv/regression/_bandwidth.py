r"""How wide the kernel is: rules of thumb, and exact leave-one-out cross-validation.

Leave-one-out asks each observation of all the others: attention under `qkv.ExceptSelf`. Its error has an exact gradient
in the logarithms of the bandwidths, out of the same pass. With coordinates u in bandwidths, weights w and prediction f,
:math:`\partial s_{ij} / \partial \log h_a = (u_{ia} - u_{ja})^2`, hence

.. math:: \frac{\partial f_i}{\partial \log h_a} = \sum_j w_{ij} (y_j - f_i) (u_{ia} - u_{ja})^2
          = E[y u_a^2] - f E[u_a^2] - 2 u_{ia} (E[y u_a] - f E[u_a])

where E is the weighted mean under the same weights (the term in :math:`u_{ia}^2` cancels): more columns of values.

Scott, "Multivariate Density Estimation" (1992); Silverman, "Density Estimation" (1986); Li and Racine, "Cross-validated
local linear nonparametric regression" (Statistica Sinica, 2004) on bandwidths for each feature by cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from ._answer import Floats
from ._gaussian import gaussian
from ._kernels import COMPACT
from ._keys import Held, by_differences
from ._pairs import Neighbours
from ._summary import Moments

RULES = ("scott", "silverman")
STAGES = ((2_000, 2_000, 40), (16_000, 8_000, 8), (100_000, 8_000, 4))
"""Each stage starts from the last: (rows, how many of them are predicted from all the others, evaluations at most)."""
COARSE = 1e-2
"""How far a score in float32 may be off here: many rows' errors are averaged."""
SEARCHED = 4_000
"""Rows on which the width of another kernel is searched."""
STARTS = (1 / 256, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 1.0, 2.0)
"""Multiples of Scott's rule that are tried first: a series with seasons has its best bandwidth far below the rule."""
RANGE = 1e3
"""A bandwidth is sought between spread / RANGE and spread * RANGE; at the upper end a feature counts for nothing."""
CELLS = 1 << 24
"""Values that are held at a time for the gradient."""


def rule(name: str, spread: Floats, n: float) -> Floats:
    """Scott's rule, spread * n^(-1 / (d + 4)), or Silverman's, with (n (d + 2) / 4) in place of n.

    Args:
        spread: ``(d,)``, the standard deviation of each feature.
        n: the number of observations, see `Summary.effective` for weighted ones.
    """
    d = len(spread)
    return np.asarray(spread * (n * ((d + 2) / 4 if name == "silverman" else 1)) ** (-1 / (d + 4)))


def leave_one_out(
    x: Floats,
    values: Floats,
    weight: Floats,
    *,
    total: float,
    kernel: str = "gaussian",
    metric: str = "euclidean",
) -> tuple[Floats, float]:
    """The bandwidths ``(d,)`` of least leave-one-out squared error, and that error.

    Rows that repeat one another in every number are one observation of their weights together, left out as one:
    otherwise a repeated row would be predicted by its copy, and a weight of 2 would not be the same as a repetition.
    They come as a `Sample`.

    Args:
        x: ``(n, d)``, rows of which none repeat, in random order.
        values: ``(n, outputs)``, all on one scale.
        weight: ``(n,)`` positive.
        total: how many different rows there are, of which these are a sample.
        kernel, metric: for which the widths are meant.
    """
    if len(x) == 1:
        return np.ones(x.shape[1]), 0.0
    width, error, done = _first(x, values, weight), np.inf, 0
    for rows, asked, evaluations in STAGES:
        n = min(rows, len(x))
        if n == done:
            break
        part = np.s_[:n]
        if done:
            width = width * (n / done) ** (-1 / (x.shape[1] + 4))
        width, error = _descend(x[part], values[part], weight[part], width, asked, evaluations)
        done = n
    width = width * (total / done) ** (-1 / (x.shape[1] + 4))
    if (kernel, metric) == ("gaussian", "euclidean"):
        return width, error
    return _fitted_to(kernel, metric, x, values, weight, width, total)


def error_and_gradient(
    x: Floats, values: Floats, weight: Floats, width: Floats, asked: int | None = None
) -> tuple[float, Floats]:
    """The mean squared leave-one-out error of a Gaussian kernel, and its gradient in log(width).

    The mean is over the first rows, as many as are asked; each is predicted from all other rows.
    """
    u = (x / width).astype(x.dtype)
    part = np.s_[:asked]
    own, near, log_weight = np.arange(len(x[part])), Neighbours(u), _log(weight)
    share = (weight[part] / weight[part].sum())[:, None]
    outputs, d = values.shape[1], x.shape[1]
    step = max(1, CELLS // (len(x) * 2 * (outputs + 1)))
    mean, gradient = values[part], np.zeros(d)
    for start in range(0, d, step):
        a = np.asarray(u[:, start : start + step], np.float64)
        moments = np.concatenate([a, a * a], axis=1)
        columns = np.concatenate([values, moments, *(values[:, [o]] * moments for o in range(outputs))], axis=1)
        told = gaussian(u[part], Held(near, columns, log_weight), own=own, tolerance=COARSE).mean
        mean, width_of = told[:, :outputs], moments.shape[1]
        expected = told[:, outputs:].reshape(len(told), outputs + 1, width_of)
        covariance = expected[:, 1:] - mean[:, :, None] * expected[:, :1]
        first, second = np.split(covariance, 2, axis=2)
        slope = second - 2 * a[part][:, None, :] * first
        gradient[start : start + step] = np.einsum("no,noa->a", 2 * share * (mean - values[part]), slope)
    return float((share * (mean - values[part]) ** 2).sum()), gradient


def _descend(
    x: Floats, values: Floats, weight: Floats, start: Floats, asked: int, evaluations: int
) -> tuple[Floats, float]:
    """L-BFGS on the logarithms; the best point seen is kept, since the evaluations may run out midway."""
    best: list[tuple[float, Floats]] = []
    middle = np.log(_spread(x, weight))

    def objective(log_width: Floats) -> tuple[float, Floats]:
        error, gradient = error_and_gradient(x, values, weight, np.exp(log_width), asked)
        if not best or error < best[0][0]:
            best[:] = [(error, np.exp(log_width))]
        scale = unit if unit > 0 else 1.0
        return error / scale, gradient / scale

    unit = float(np.average(((values - values.mean(0)) ** 2).sum(1), weights=weight))
    bounds = list(zip(middle - np.log(RANGE), middle + np.log(RANGE), strict=True))
    begin = np.clip(np.log(start), middle - np.log(RANGE), middle + np.log(RANGE))
    minimize(
        objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxfun": evaluations, "ftol": 1e-7}
    )
    return best[0][1], best[0][0]


def _first(x: Floats, values: Floats, weight: Floats) -> Floats:
    """The best multiple of Scott's rule, on the rows of the first stage."""
    part = np.s_[: STAGES[0][0]]
    effective = float(weight[part].sum() ** 2 / (weight[part] ** 2).sum())
    scott = rule("scott", _spread(x[part], weight[part]), effective)
    errors = [plain_error(x[part], values[part], weight[part], scott * times) for times in STARTS]
    return np.asarray(scott * STARTS[int(np.argmin(errors))])


def plain_error(
    x: Floats,
    values: Floats,
    weight: Floats,
    width: Floats,
    kernel: str = "gaussian",
    metric: str = "euclidean",
) -> float:
    """The mean squared leave-one-out error of any kernel."""
    u, own = (x / width).astype(x.dtype), np.arange(len(x))
    near, log_weight = Neighbours(u, kernel, metric), _log(weight)
    ask = gaussian if (kernel, metric) == ("gaussian", "euclidean") else by_differences
    mean = ask(u, Held(near, values, log_weight), own=own).mean
    return float(np.average(((mean - values) ** 2).sum(1), weights=weight))


def _fitted_to(
    kernel: str, metric: str, x: Floats, values: Floats, weight: Floats, width: Floats, total: float
) -> tuple[Floats, float]:
    """The Gaussian kernel's widths, all stretched alike for another kernel, whose error need not have a gradient."""
    part = np.s_[:SEARCHED]
    grow = (min(len(x), SEARCHED) / total) ** (-1 / (x.shape[1] + 4))

    def error(log_times: float) -> float:
        times = grow * float(np.exp(log_times))
        return plain_error(x[part], values[part], weight[part], width * times, kernel, metric)

    low, high = (np.log(0.5), np.log(8)) if kernel in COMPACT else (np.log(0.125), np.log(4))
    found = _minimum(error, low, high)
    return width * np.exp(found), error(found)


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """A grid, then Brent's method around its best point."""
    grid = np.linspace(low, high, 9)
    errors = [function(float(at)) for at in grid]
    best = int(np.argmin(errors))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(function, bounds=around, method="bounded", options={"maxiter": 12})
    return float(found.x) if found.fun < errors[best] else float(grid[best])


def _spread(x: Floats, weight: Floats) -> Floats:
    return Moments.of(x, weight).spread(x.dtype)


def _log(weight: Floats) -> Floats | None:
    """Logarithms, 0 for the heaviest; None where all are alike."""
    return None if np.ptp(weight) == 0 else np.asarray(np.log(weight) - np.log(weight.max()))
