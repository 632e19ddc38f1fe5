"""The user's metric (`--metric module:function`): a function of confusion counts, which a search maximises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import UsageError
from sweeper.core.metrics import METRICS, Counts, Floats, Objective, make_all_wrong_counts
from sweeper.core.own_code import UserCode, format_error_line, load_code, refuse_user_code

OPTION = "--metric"


def register_metric(code: UserCode | None) -> None:
    """Register the user's function as a metric of this process, under `module:function`; import it at first use."""
    if code is not None:
        METRICS[code.name] = Objective(code.function, ("binary", "multiclass"), _UserMetric(code))


def resolve_verdict_metric(metric: str) -> str:
    """Return the verdict's metric: this one, or mIoU if the user's code is missing or has changed."""
    try:
        code = METRICS[metric].measure
        if isinstance(code, _UserMetric):
            _ = code.function
    except (KeyError, UsageError):
        return "miou"
    return metric


class _UserMetric:
    """The function, called with its arguments."""

    def __init__(self, code: UserCode) -> None:
        self._code = code

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The function, imported once: later changes of its file are not checked.

        Raises:
            UsageError: if it cannot be imported, or its source has changed.
        """
        return load_code(self._code, OPTION)

    def __call__(self, summed: Counts, classes: npt.NDArray[np.bool_]) -> Floats:
        """Compute values (...) of summed counts (..., C, 3); the marked classes are not used.

        Raises:
            UsageError: if the function cannot be imported, fails, or does not return a value in [−1, 1] for each sum.
        """
        function = self.function
        tp, fp, fn = (summed[..., k].astype(np.float64) for k in range(3))
        where = f"{OPTION} {self._code.name}(tp, fp, fn) of shape {tp.shape}"
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.asarray(function(tp, fp, fn), dtype=np.float64)
        except Exception as error:
            raise UsageError(
                f"{where} must give an array of numbers, and failed: {format_error_line(error)}"
            ) from error
        if values.shape != tp.shape[:-1]:
            raise UsageError(
                f"{where} must give one number for each sum, an array of shape {tp.shape[:-1]}, got {values.shape}; "
                "reduce the last axis, which is that of the classes"
            )
        allowed = np.abs(values) <= 1 + 1e-9  # False for NaN
        if not allowed.all():
            wrong = values[~allowed][0]
            raise UsageError(
                f"{where} must be within -1 and 1, the higher the better, got {wrong:g}; say what holds where a class "
                "neither occurs nor is predicted (tp + fp + fn = 0)"
            )
        return values


def check_metric(code: UserCode, classes: int) -> None:
    """Test a metric as a study will use it.

    Raises:
        UsageError: with all of its problems.
    """
    measure = _UserMetric(code)
    rng = np.random.default_rng(0)
    table = rng.integers(1, 1000, (2, 5, classes, classes))  # (…, label, answer)
    some, nothing = _count_outcomes(table), make_all_wrong_counts(_count_outcomes(table))
    perfect = _count_outcomes(table * np.eye(classes, dtype=np.int64))
    table[..., -1, :] = table[..., -1] = 0
    absent = _count_outcomes(table)
    marked = np.ones(classes, dtype=np.bool_)
    try:
        values = {n: measure(c, marked) for n, c in (("some", some), ("perfect", perfect), ("nothing", nothing))}
        measure(absent, marked)
        single = [float(measure(counts, marked)) for counts in some.reshape(-1, classes, 3)]
        problems = [*_find_problems(values, single, measure(3 * some, marked))]
        near = [measure((1 - share) * some + share * nothing, marked) for share in (0.0, 2.0**-13, 2.0**-3)]
        if (near[0] == near[1]).sum() > (near[0] == near[2]).sum() + near[0].size // 2:
            problems.append(
                "it must change with a few pixels, as intervals are made of what single images change; do not round"
            )
    except UsageError as error:
        problems = [str(error)]
    refuse_user_code(problems, OPTION, code, "maximised")


def _count_outcomes(table: Counts) -> Counts:
    """Count true positives, false positives and false negatives (..., C, 3) in confusion tables (..., C, C)."""
    right = table.diagonal(axis1=-2, axis2=-1)
    return np.stack([right, table.sum(axis=-2) - right, table.sum(axis=-1) - right], axis=-1)


def _find_problems(values: dict[str, Floats], single: list[float], scaled: Floats) -> Iterator[str]:
    """Find problems of the values for several images, for each image, and for three times as many images."""
    some = values["some"]
    if not all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(some.ravel(), single, strict=True)):
        yield "it must give the same for a sum by itself as among others; work along the last axis, that of the classes"
    if not np.allclose(some, scaled, rtol=0, atol=1e-6):
        yield (
            "it must not depend on the number of images, and three times the counts gave "
            f"{scaled.flat[0]:.4g} in place of {some.flat[0]:.4g}; divide by pixels, and add no constant"
        )
    if not (values["perfect"] > values["nothing"]).all():
        yield (
            "it must be higher where all pixels are right than where none is, got "
            f"{values['perfect'].flat[0]:.4g} and {values['nothing'].flat[0]:.4g}; give a score, not a cost"
        )
