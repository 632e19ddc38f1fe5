"""Compare corrections of the interval of repeated cross-validations by image: what they would correct and cost.

    python bench/fold_corrections.py [--tables 20000]

Draws tables of cross-validated regressions as bench/judge_calibration.py does, and computes the intervals of `sweeper
judge` with each correction. The rotations train on the same images, and the effect of a training image on the scores of
others is the same in all of them. An interval without correction does not include this covariance. The candidates:

    none      no correction
    network   adds the covariance of the scores that one network gave, as if each fold's network were a unit
    images    adds K − 1 times the effects of trainings on single images (K folds), the most that pairs of images add
    now       multiplies the images' part by K / (K − 1), as a network sees (K − 1) / K of the images; `sweeper judge`
              does this
    by fold   the interval of scores by fold instead (Nadeau and Bengio 2003)

Prints for each design and candidate the share of tables with a winner if both methods are equal, and the share in which
a true difference of 2.8 standard deviations is detected. `missing` is the share of the true variance that the interval
without correction does not include. `chance` is the standard deviation of what each training adds to its weights at
random, as initial weights do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sweeper.evidence.intervals import ImageTable, compute_half_width, compute_nested_interval

Floats = npt.NDArray[np.float64]
BATCH = 500
"""Tables that are drawn at a time."""
CANDIDATES = ("none", "network", "images", "now", "by fold")


class Design(NamedTuple):
    """Design of a cross-validation of two regressions."""

    rotations: int
    folds: int
    images: int
    features: int = 6
    chance: float = 0.0


DESIGNS = (
    Design(3, 5, 60),
    Design(5, 5, 60),
    Design(10, 5, 60),
    Design(5, 10, 60),
    Design(5, 5, 200),
    Design(5, 5, 60, features=2),
    Design(5, 5, 60, features=15),
    Design(5, 5, 60, chance=0.5),
    Design(5, 5, 60, chance=1.0),
)


def draw_errors(design: Design, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Draw squared errors of two equally good regressions, (tables, 2, rotations, images), and the folds of images."""
    rotations, folds, n, width, chance = design
    features = rng.standard_normal((BATCH, n, 2 * width))
    target = features.sum(2, keepdims=True) + 3 * rng.standard_normal((BATCH, n, 1))
    errors = np.empty((BATCH, 2, rotations, n))
    order = np.broadcast_to(np.arange(n) % folds, (BATCH, rotations, n))
    fold_of = rng.permuted(order, axis=2)
    for r in range(rotations):
        for fold in range(folds):
            is_test = fold_of[:, r] == fold
            for m in range(2):
                x = features[..., m * width : (m + 1) * width]
                train = (x * ~is_test[..., None]).swapaxes(1, 2)
                weights = np.linalg.solve(train @ x + np.eye(width), train @ target)
                weights = weights + chance * rng.standard_normal(weights.shape)
                errors[:, m, r][is_test] = ((x @ weights - target)[..., 0] ** 2)[is_test]
    return errors, fold_of


def measure_network(errors: Floats, fold_of: npt.NDArray[np.intp]) -> float:
    """Return the mean covariance of differences (rotations, images) within a fold, without the means of the images."""
    residuals = errors - errors.mean(axis=0)
    total = pairs = 0.0
    for values, folds in zip(residuals, fold_of, strict=True):
        sums, squares, sizes = (np.bincount(folds, weights) for weights in (values, values**2, None))
        total += float((sums**2 - squares).sum())
        pairs += float((sizes * (sizes - 1)).sum())
    return total / pairs * len(errors) / (len(errors) - 1)


def compute_fold_width(errors: Floats, fold_of: npt.NDArray[np.intp], folds: int) -> float:
    """Return half the width of the corrected interval by fold, from differences (rotations, images)."""
    rotations = list(zip(errors, fold_of, strict=True))
    means = np.array([values[numbers == fold].mean() for values, numbers in rotations for fold in range(folds)])
    variance = (1 / len(means) + 1 / (folds - 1)) * float(means.var(ddof=1))
    return compute_half_width(variance, len(means), 0.0, np.inf)


def list_widths(design: Design, errors: Floats, fold_of: npt.NDArray[np.intp]) -> tuple[float, float, list[float]]:
    """Return the mean difference of errors (2, rotations, images), its variance, and half the width by candidate."""
    means = errors.mean(axis=2)
    first, second = (ImageTable(m, e - m[:, None]) for m, e in zip(means, errors, strict=True))
    gap = compute_nested_interval(first, second)
    v_seed, v_image, k = gap.se_seed**2, gap.se_image**2, design.folds
    extra = (
        0.0,
        max(0.0, measure_network(errors[0] - errors[1], fold_of)),
        (k - 1) * design.rotations * gap.se_both**2,
        v_image / (k - 1),
    )
    widths = [compute_half_width(v_seed, design.rotations, v_image + v, design.images) for v in extra]
    widths.append(compute_fold_width(errors[0] - errors[1], fold_of, k))
    return gap.estimate, v_seed + v_image, widths


def list_tables(design: Design, tables: int) -> Iterator[tuple[float, float, list[float]]]:
    """Yield `list_widths` of at least this number of tables, a multiple of `BATCH`."""
    rng = np.random.default_rng((0, *design[:4], int(10 * design.chance)))
    for _ in range(-(-tables // BATCH)):
        yield from (list_widths(design, *table) for table in zip(*draw_errors(design, rng), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tables", type=int, default=20000, help=f"of each design, rounded up to a multiple of {BATCH}"
    )
    tables = parser.parse_args().tables
    print(f"| rotations × folds, images, features, chance | missing | {' | '.join(CANDIDATES)} |")
    print("| --- |" + " --: |" * (1 + len(CANDIDATES)))
    for design in DESIGNS:
        gaps, variances, widths = (np.array(each) for each in zip(*list_tables(design, tables), strict=True))
        false = (np.abs(gaps)[:, None] > widths).mean(axis=0)
        detected = (gaps[:, None] + 2.8 * gaps.std() > widths).mean(axis=0)
        cells = [f"{100 * f:.2f} %, {100 * d:.0f} %" for f, d in zip(false, detected, strict=True)]
        missing = 1 - variances.mean() / gaps.var()
        name = f"{design.rotations} × {design.folds}, {', '.join(f'{value:g}' for value in design[2:])}"
        print(f"| {name} | {100 * missing:.0f} % | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
