"""Where the spread between trainings comes from: the loss family, its parameters, the learning rate, or chance.

The values of the search's trainings are described by a mixed model,

    value = μ + family + f(learning rate) + g_family(parameters) + noise,

f and g being random quadratic curves over the searched ranges (log learning rate; f half shared by all families, half
each family's own), orthogonal to constants under even draws from the range. Its variance components are estimated by
restricted maximum likelihood (Patterson & Thompson 1971; Searle, Casella & McCulloch, *Variance Components*, ch. 6).
A component is thus the variance that drawing this one thing evenly would cause, whatever the sampler drew.

The sampler's bias. It gives good families more trials, at better settings, so that sums of squares over the trials say
as much about the sampler as about the losses (Optuna's default importance put a decisive family first in 0 of 8
studies). What it draws next depends on the values observed so far alone, so that the likelihood of the observed values
is not touched by it (Rubin 1976, *Inference and missing data*: ignorable). That holds as far as the model does: effects
that are not quadratic, and interactions, count as `rest`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]

ENOUGH = 12
"""Fewer trainings than this are not taken apart."""
MOST = 160
"""Of more trainings, evenly spaced ones are used: the work grows with the cube of their number."""
CHANCE = 2.71
"""Twice the gain in log-likelihood that a component must bring: 5 % for a variance at its bound (Self & Liang 1987)."""
EFFECTS = ("family", "parameters", "learning_rate")
_LEAST = 1e-6


@dataclass(frozen=True)
class Point:
    """One training: what was drawn, each number scaled to [0, 1] over its searched range, and what came of it."""

    family: str
    lr: float
    params: Mapping[str, float]
    value: float


@dataclass(frozen=True)
class Spread:
    """Variances of the parts, in squared units of the value."""

    variances: Mapping[str, float]
    """`family`, `parameters`, `learning_rate`, `noise`."""
    shown: frozenset[str]
    """Effects that raise the likelihood more than chance would."""
    used: int
    """Trainings that were looked at."""


def take_apart(points: Sequence[Point]) -> Spread | None:
    """Variance components of these trainings; None where they are too few, of one family, or all alike.

    Low outliers (collapsed trainings) count as 3 interquartile ranges below the lower quartile: how far below says
    nothing about the loss.
    """
    chosen = np.linspace(0, len(points) - 1, min(len(points), MOST)).astype(int)
    used = [points[int(i)] for i in chosen]
    if len(used) < ENOUGH or len({p.family for p in used}) < 2:
        return None
    values = np.array([p.value for p in used])
    low, high = np.quantile(values, [0.25, 0.75])
    values = np.maximum(values, low - 3 * (high - low)) if high > low else values
    scale = float(values.std())
    if scale < 1e-9:
        return None
    kernels = _kernels(used)
    active = [name for name in EFFECTS if kernels[name].any()]
    y = (values - values.mean()) / scale
    best, fitted = _fit(y, [kernels[name] for name in active])
    shown = set()
    for name in active:
        without, _ = _fit(y, [kernels[other] for other in active if other != name])
        if 2 * (best - without) > CHANCE:
            shown.add(name)
    found = dict(zip([*active, "noise"], fitted * scale**2, strict=True))
    variances = {name: float(found.get(name, 0.0)) for name in (*EFFECTS, "noise")}
    families = {p.family: bool(p.params) for p in used}
    variances["parameters"] *= sum(families.values()) / len(families)  # families without parameters do not vary by them
    return Spread(variances, frozenset(shown), len(used))


def _kernels(points: Sequence[Point]) -> dict[str, Floats]:
    """(N, N) covariance that each effect would cause at variance 1."""
    names = sorted({p.family for p in points})
    of = np.array([names.index(p.family) for p in points])
    same = (of[:, None] == of[None, :]).astype(np.float64)
    rate = _curve(np.array([p.lr for p in points]))
    params = np.zeros_like(same)
    for number in range(len(names)):
        rows = np.flatnonzero(of == number)
        coordinates = sorted({c for r in rows.tolist() for c in points[r].params})
        for c in coordinates:
            drawn = np.array([points[r].params.get(c, 0.5) for r in rows.tolist()])
            params[np.ix_(rows, rows)] += _curve(drawn) / len(coordinates)
    return {"family": same, "parameters": params, "learning_rate": rate * (1 + same) / 2}


def _curve(x: Floats) -> Floats:
    """Covariance of a random quadratic on [0, 1] with mean 0 and variance 1 under even draws (Legendre polynomials)."""
    slope, bend = np.sqrt(3) * (2 * x - 1), np.sqrt(5) * (6 * x * x - 6 * x + 1)
    covariance: Floats = (2 * np.outer(slope, slope) + np.outer(bend, bend)) / 3
    return covariance


def _fit(y: Floats, kernels: Sequence[Floats]) -> tuple[float, Floats]:
    """Highest restricted log-likelihood and the variances there, the noise's last; y has variance 1."""
    count = len(kernels) + 1

    def cost(logs: Floats) -> tuple[float, Floats]:
        return _restricted(y, kernels, np.exp(logs))

    bounds = [(np.log(_LEAST), np.log(20.0))] * (count - 1) + [(np.log(1e-4), np.log(20.0))]
    best = None
    for first in (1 / count, 0.02):
        start = np.log(np.full(count, first))
        start[-1] = np.log(0.5)
        found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    variances = np.exp(best.x)
    variances[:-1][variances[:-1] <= 2 * _LEAST] = 0.0
    return -float(best.fun), variances


def _restricted(y: Floats, kernels: Sequence[Floats], variances: Floats) -> tuple[float, Floats]:
    """Minus the restricted log-likelihood (without its constant), and its gradient by the variances' logarithms."""
    n = len(y)
    covariance = variances[-1] * np.eye(n)
    for variance, kernel in zip(variances[:-1], kernels, strict=True):
        covariance += variance * kernel
    factor = cho_factor(covariance, lower=True)
    inverse = cho_solve(factor, np.eye(n))
    column = inverse.sum(axis=1)
    total = float(column.sum())
    projected = inverse - np.outer(column, column) / total  # P of REML: removes the mean
    py = projected @ y
    value = 0.5 * (2 * np.log(np.diag(factor[0])).sum() + np.log(total) + y @ py)
    gradient = np.array(
        [0.5 * v * ((projected * k).sum() - py @ k @ py) for v, k in zip(variances[:-1], kernels, strict=True)]
        + [0.5 * variances[-1] * (np.trace(projected) - py @ py)]
    )
    return float(value), gradient
