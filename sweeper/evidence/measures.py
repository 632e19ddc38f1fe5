"""What confirmed runs can be measured by besides mIoU: one number per run, from counts that add up over pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from sweeper import metrics
from sweeper.evidence.intervals import Counts, Floats
from sweeper.records import ImageCounts, ImbalanceProfile, PreferenceName, Task, TestDetail, TrialResult

THIN = 0.5
"""A class of which more than this share of the pixels is thin (`ClassProfile.thinness`) is a thin structure."""
_UNIT = 2**20
"""Resampling adds integers: confidence is counted in this unit, the one it was measured in."""
Marks = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Measure:
    """One number per run, from counts that add up over pictures."""

    name: PreferenceName
    text: str
    counts: Counts  # (R, n, …)
    score: Callable[[Counts], Floats]  # (…, R, …) sums → (…, R)
    points: tuple[float, ...] = ()  # per run
    higher: bool = True
    smooth: bool = True
    """Whether leaving out one picture changes it in proportion; else its intervals come from resampled pictures."""

    @property
    def worst(self) -> float:
        """What a run that gave no answer at all is worth."""
        return 0.0 if self.higher else 1.0


def measures(
    runs: Sequence[TrialResult], test: ImageCounts, profile: ImbalanceProfile | None, *, tuned: bool
) -> list[Measure]:
    """All measures that these runs and this profile allow, in the order of `PreferenceName`.

    Args:
        runs: finished confirmations; one without `test` gave no answer at all.
        test: counts of one of them: what the others' look like.
        profile: says which classes are thin; None = none known to be.
        tuned: whether operating points are chosen on validation, for F2 and F½ anew.
    """
    binary = test.kind == "histogram"
    own = [_point(run, binary) for run in runs]
    at_own = _counts(runs, test, own)
    classes = _occurring(at_own)
    of_what = "of the foreground" if binary else "mean over the classes"
    found = []
    wanted: tuple[tuple[PreferenceName, float, str], ...] = (("misses", 2.0, "F2"), ("false_alarms", 0.5, "F½"))
    for name, beta, sign in wanted:
        score = _f_score(beta, classes, binary)
        points = [_own_point(run, binary, beta) if tuned else metrics.default_point(_task(binary)) for run in runs]
        at = "at the operating point that is best for it on validation" if tuned else _at_default(binary)
        found.append(Measure(name, f"{sign} {of_what}, {at}", _counts(runs, test, points), score, tuple(points)))
    found += _detailed(runs, test, profile, own, binary)
    rare = "IoU of the foreground" if binary else "IoU of the worst class"
    found.append(Measure("rare_classes", rare, at_own, _worst_iou(classes, binary), tuple(own), smooth=binary))
    order = get_args(PreferenceName)
    return sorted(found, key=lambda m: order.index(m.name))


def _detailed(
    runs: Sequence[TrialResult],
    test: ImageCounts,
    profile: ImbalanceProfile | None,
    points: Sequence[float],
    binary: bool,
) -> list[Measure]:
    """What needs `TestDetail`, of every run that has an answer at all."""
    details = [run.detail for run in runs]
    if any(d is None and run.test is not None for d, run in zip(details, runs, strict=True)):
        return []
    known = next(d for d in details if d is not None)
    if len(known.pictures) != len(test.pictures):
        return []
    found = []
    boundary = _stacked(details, "boundary")
    contours = metrics.with_contour(boundary.reshape(-1, *boundary.shape[2:]))
    if contours.any():
        of_what = "of the foreground" if binary else "mean over the classes with contours"
        text = f"boundary IoU {of_what}, within {known.boundary_pixels} pixels"
        found.append(
            Measure("boundaries", text, boundary, lambda s: metrics.mean_over(metrics.iou(s), contours), tuple(points))
        )
    lines = _stacked(details, "centreline")
    thin = metrics.with_centreline(lines.reshape(-1, *lines.shape[2:])) & _thin(profile, lines.shape[2])
    if thin.any():
        text = "clDice of the foreground" if binary else "clDice, mean over the thin classes"
        found.append(
            Measure("thin_structures", text, lines, lambda s: metrics.mean_over(metrics.cldice(s), thin), tuple(points))
        )
    confidence = _stacked(details, "confidence", _UNIT)
    text = "expected calibration error of the winning class's probability"
    found.append(Measure("probabilities", text, confidence, _calibration, higher=False, smooth=False))
    return found


def _calibration(summed: Counts) -> Floats:
    """Pixels and right ones were scaled like the confidence: the ratio is the same."""
    return np.nan_to_num(metrics.calibration_error(summed.astype(np.float64)), nan=1.0)


def _f_score(beta: float, classes: Marks, binary: bool) -> Callable[[Counts], Floats]:
    chosen = classes & np.array([False, True]) if binary else classes

    def score(summed: Counts) -> Floats:
        return metrics.mean_over(metrics.f_beta(summed, beta), chosen)

    return score


def _worst_iou(classes: Marks, binary: bool) -> Callable[[Counts], Floats]:
    chosen = classes & np.array([False, True]) if binary else classes

    def score(summed: Counts) -> Floats:
        if not chosen.any():
            return np.zeros(summed.shape[:-2])
        worst: Floats = np.nan_to_num(metrics.iou(summed)[..., chosen], nan=1.0).min(axis=-1)
        return worst

    return score


def _thin(profile: ImbalanceProfile | None, classes: int) -> Marks:
    """(C,) which classes besides the first are thin structures."""
    found = np.zeros(classes, dtype=np.bool_)
    if profile is not None:
        for c, known in enumerate(profile.classes[:classes]):
            found[c] = c > 0 and (known.thinness or 0.0) > THIN
    return found


def _own_point(run: TrialResult, binary: bool, beta: float) -> float:
    """Operating point with the highest F_β on the run's own validation pictures."""
    if run.val is None:
        return _point(run, binary)
    return metrics.best_point_of(run.val, lambda summed, classes: _f_score(beta, classes, binary)(summed))[0]


def _point(run: TrialResult, binary: bool) -> float:
    return run.evaluations[-1].point if run.evaluations else metrics.default_point(_task(binary))


def _task(binary: bool) -> Task:
    return "binary" if binary else "multiclass"


def _at_default(binary: bool) -> str:
    return "at 0.5" if binary else "at τ = 0"


def _occurring(counts: Counts) -> Marks:
    """(C,) which classes have pixels in the test pictures; runs without an answer have none."""
    return metrics.present(counts.reshape(-1, *counts.shape[2:]))


def _counts(runs: Sequence[TrialResult], like: ImageCounts, points: Sequence[float]) -> Counts:
    """(R, n, C, 3), pictures in ascending order; 0 for a run without an answer."""
    classes = 2 if like.kind == "histogram" else like.data.shape[2]
    counts = np.zeros((len(runs), len(like.pictures), classes, 3), dtype=np.int64)
    for r, (run, point) in enumerate(zip(runs, points, strict=True)):
        if run.test is not None:
            counts[r] = metrics.at_point(run.test, point)[np.argsort(run.test.pictures, kind="stable")]
    return counts


def _stacked(details: Sequence[TestDetail | None], name: str, unit: int = 1) -> Counts:
    """(R, n, …) of one array of the details, pictures in ascending order."""
    like = next(getattr(d, name) for d in details if d is not None)
    stacked = np.zeros((len(details), *like.shape), dtype=np.int64)
    for r, detail in enumerate(details):
        if detail is not None:
            values = getattr(detail, name)[np.argsort(detail.pictures, kind="stable")]
            stacked[r] = np.rint(values.astype(np.float64) * unit) if unit > 1 else values
    return stacked
