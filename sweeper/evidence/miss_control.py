"""The operating point at which a network misses at most a share of a class: conformal risk control.

Of n exchangeable images with losses L_i(λ) in [0, 1] that rise with λ, the largest λ with

  (L_1(λ) + … + L_n(λ) + 1) / (n + 1) ≤ α

has an expected loss of at most α on the next image (Angelopoulos et al. 2022, arXiv 2208.02814, theorem 1). L_i is the
share of the class's pixels that image i misses; images without the class do not count. Where images are related, their
groups are exchangeable, and L_i is the mean within a group (Lee, Barber & Willett 2023, arXiv 2306.06342, after Dunn et
al. 2018). No n can guarantee an α below 1 / (n + 1).

This guarantee is on average over calibrations. For the expected loss to be at most α in 95 % of them, the p-value of
Hoeffding and Bentkus must be below 0.05 (Bates et al. 2021, arXiv 2101.02703; Angelopoulos et al. 2021, arXiv
2110.01052).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from sweeper.core import metrics
from sweeper.core.errors import UsageError
from sweeper.core.records import HeldOut, MissControl, MissLimit
from sweeper.core.text import join_words, suggest_correction

ERROR = 0.05
"""Share of calibrations that may fail, for `MissControl.sure_point`."""
_ROUNDING = 1e-12

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


def find_class(limit: MissLimit, classes: Sequence[str]) -> int:
    """Return the index of the class that is not to be missed.

    Raises:
        UsageError: if there is no class of that name, or none is given for more than two classes.
    """
    if limit.class_name is None and len(classes) == 2:
        return 1
    if limit.class_name is not None and limit.class_name in classes:
        return list(classes).index(limit.class_name)
    got = "no name"
    if limit.class_name is not None:
        got = repr(limit.class_name) + suggest_correction(limit.class_name, classes)
    raise UsageError(f"--miss-at-most CLASS=SHARE must name one of the classes {join_words(classes)}, got {got}")


def check_units(limit: MissLimit, name: str, units: int) -> None:
    """Refuse a share that this number of images, or groups of related ones, cannot guarantee.

    Raises:
        UsageError: with the least possible share, and the number of images that this one needs.
    """
    if limit.share < 1 / (units + 1) - _ROUNDING:
        raise UsageError(
            f"--miss-at-most {100 * limit.share:.3g}% needs {math.ceil(1 / limit.share - 1 - 1e-9)} test images (or "
            f"groups of related ones) with {name}, found {units}: the least that these allow is 1 / {units + 1} = "
            f"{100 / (units + 1):.1f} %; ask for that, or label more images"
        )


def number_image_units(groups: Sequence[str | None]) -> Places:
    """Return the number (n,) of each image's unit, its group or itself, from 0 without gaps."""
    names = [f"image {i}" if group is None else f"group {group}" for i, group in enumerate(groups)]
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.intp)


def compute_unit_means(losses: Floats, units: Places) -> Floats:
    """Average the losses (n, T) over the images of each unit: (U, T)."""
    summed = np.zeros((int(units.max()) + 1, losses.shape[1]))
    np.add.at(summed, units, losses)
    return np.asarray(summed / np.bincount(units)[:, None])


def find_last_kept(summed: Floats, units: int, share: float) -> Places:
    """Return the index of the last point that keeps the share, −1 where none does.

    `summed` (…, T) are losses summed over `units` units, rising from point to point.
    """
    return np.asarray(((summed + 1) / (units + 1) <= share + _ROUNDING).sum(axis=-1) - 1)


def compute_hoeffding_bentkus(mean: Floats, units: int, share: float) -> Floats:
    """Compute the p-value of "the expected loss is above the share", given the mean of `units` losses in [0, 1]."""
    low = np.minimum(mean, share)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(low > 0, low * np.log(low / share), 0.0)
    hoeffding = np.exp(-units * (hit + (1 - low) * np.log((1 - low) / (1 - share))))
    bentkus = math.e * binom.cdf(np.ceil(units * mean - _ROUNDING), units, share)
    return np.asarray(np.where(mean < share, np.minimum(hoeffding, bentkus), 1.0))


def find_controlled_point(held_out: HeldOut, limit: MissLimit, classes: Sequence[str], before: float) -> MissControl:
    """Return the least cautious operating point that keeps the limit, no less cautious than `before`.

    It is one of the points at which these images were counted. A `before` between two of them, the median of two
    trainings, counts as the more cautious one.

    With several classes a more cautious τ may miss more pixels: what counts is the most that is missed at that τ
    or a more cautious one.

    Args:
        held_out: the network's answers on images that neither trained it nor chose `before`.
        limit: the user's limit.
        classes: names in index order.
        before: operating point without the limit.

    Raises:
        UsageError: if the class is unknown, the images are too few, or no point keeps the limit.
    """
    number, counts = find_class(limit, classes), held_out.counts
    name = classes[number]
    swept = metrics.count_at_all_points(counts)
    labelled = swept[:, 0, :, 0] + swept[:, 0, :, 2]
    # With two classes low thresholds favour the second; high τ favour all but the most common.
    low_is_cautious = (number == 1) if counts.kind == "histogram" else number == int(labelled.sum(axis=0).argmax())
    sign = 1 if low_is_cautious else -1
    order = np.argsort(sign * np.asarray(counts.points))
    points, class_counts = np.asarray(counts.points)[order], swept[:, order, number]
    having = labelled[:, number] > 0
    units = number_image_units([group for group, has in zip(held_out.groups, having, strict=True) if has])
    n = len(np.unique(units))
    check_units(limit, name, n)
    missed = np.maximum.accumulate(class_counts[having, :, 2] / labelled[having, number, None], axis=1)
    means = compute_unit_means(missed, units)
    summed = means.sum(axis=0)
    last = int(find_last_kept(summed, n, limit.share))
    usual = max(0, int((sign * points <= sign * before + _ROUNDING).sum()) - 1)
    if last < 0:
        raise UsageError(
            f"--miss-at-most {100 * limit.share:.3g}% cannot be kept by this network: even at the most cautious "
            f"operating point, {points[0]:.3g}, an average test image misses {100 * summed[0] / n:.1f} % of {name}; "
            "allow more, or train longer"
        )

    def precision(at: Places) -> float | None:
        hit, false, _ = class_counts[np.arange(len(class_counts)), at].sum(axis=0)
        return float(hit / (hit + false)) if hit + false else None

    # For each unit the point that the others give; the most cautious one where the others are too few.
    without = np.clip(find_last_kept(summed - means, n - 1, limit.share), 0, usual)
    at = np.full(len(class_counts), min(last, usual))
    at[having] = without[units]
    sure = np.flatnonzero(np.maximum.accumulate(compute_hoeffding_bentkus(summed / n, n, limit.share)) <= ERROR)
    return MissControl(
        class_name=name,
        share=limit.share,
        images=int(having.sum()),
        groups=None if n == having.sum() else n,
        point=float(points[min(last, usual)]),
        before=float(points[usual]),
        missed=float(means[np.arange(n), without].mean()),
        missed_before=float(means[:, usual].mean()),
        precision=precision(at),
        precision_before=precision(np.full(len(class_counts), usual)),
        sure_point=float(points[min(int(sure[-1]), usual)]) if len(sure) else None,
    )


def format_miss_control(misses: MissControl, point_name: str) -> list[str]:
    """Explain what the limit means and costs, in sentences; `point_name` is `threshold` or `τ`."""
    n, one, many = misses.images, "An image", "test images"
    if misses.groups is not None:
        n, one, many = misses.groups, "A group", "groups of test images"
    after, before = (
        "and nothing is predicted" if p is None else f"with precision {p:.3f}"
        for p in (misses.precision, misses.precision_before)
    )
    surer = f"At no {point_name} is the limit shown to be kept in 95 % of calibrations."
    if misses.sure_point is not None:
        surer = f"In 95 % of calibrations it is kept at {point_name} {misses.sure_point:.3g}."
    usual = f"The {point_name} is the same without the limit."
    if misses.moved:
        usual = (
            f"Without the limit, at {point_name} {misses.before:.3g}, it misses {100 * misses.missed_before:.1f} %, "
            f"{before}."
        )
    return [
        f"At {point_name} {misses.point:.3g} this network {misses.promise}. That is expected of new images like the "
        f"{n} {many} that have it. {n} are too few for a limit below {100 / (n + 1):.1f} %.",
        f"The limit is kept on average over images and calibrations. {surer} Pixels are counted: a small object may be "
        "missed as a whole.",
        f"{one} that is left out of the calibration misses {100 * misses.missed:.1f} % on average, {after}. {usual}",
        "Another network needs its own calibration. The same images named the loss; that costs little (docs/misses.md "
        "has figures).",
    ]
