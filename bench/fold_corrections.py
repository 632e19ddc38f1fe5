"""What could be added to the interval of repeated cross-validations by image, and what it would cost.

    python bench/fold_corrections.py [--tables 20000]

The regressions of bench/judge_calibration.py, drawn many at a time, with the intervals of `sweeper judge`. Of equally
good methods, the share of tables with a winner; behind it the share in which a true difference of 2.8 standard
deviations is seen. `missing` is the part of the true variance that an interval without correction does not have: what a
training image does to the scores of others is the same in all rotations. Candidates:

    none      no correction
    network   the covariance of the scores that one network gave is added, as if each fold's network were a unit
    images    what trainings do to single images, K − 1 times (K folds): all that training images can do by pairs
    now       what `sweeper judge` has: the images' part times K / (K − 1), as a network sees (K − 1) / K of the images
    by fold   no correction of these, but the interval of scores by fold (Nadeau and Bengio 2003)

`chance` is the standard deviation of what each training adds to its weights by itself, as initial weights do.
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
CANDIDATES = ("none", "network", "images", "now", "by fold")


class Design(NamedTuple):
    """Rotations of a cross-validation of two regressions."""

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
    """Return squared errors (tables, 2, rotations, images) of two equally good regressions, and the folds."""
    rotations, folds, n, width, chance = design
    features = rng.standard_normal((BATCH, n, 2 * width))
    target = features.sum(2, keepdims=True) + 3 * rng.standard_normal((BATCH, n, 1))
    errors = np.empty((BATCH, 2, rotations, n))
    order = np.broadcast_to(np.arange(n) % folds, (BATCH, rotations, n))
    fold_of = rng.permuted(order, axis=2)
    for r in range(rotations):
        for fold in range(folds):
            tested = fold_of[:, r] == fold
            for m in range(2):
                own = features[..., m * width : (m + 1) * width]
                train = (own * ~tested[..., None]).swapaxes(1, 2)
                weights = np.linalg.solve(train @ own + np.eye(width), train @ target)
                weights = weights + chance * rng.standard_normal(weights.shape)
                errors[:, m, r][tested] = ((own @ weights - target)[..., 0] ** 2)[tested]
    return errors, fold_of


def measure_network(errors: Floats, fold_of: npt.NDArray[np.intp]) -> float:
    """Return the mean covariance of differences (rotations, images) of one fold, less each image's own mean."""
    rest = errors - errors.mean(axis=0)
    total = pairs = 0.0
    for values, folds in zip(rest, fold_of, strict=True):
        sums, squares, sizes = (np.bincount(folds, weights) for weights in (values, values**2, None))
        total += float((sums**2 - squares).sum())
        pairs += float((sizes * (sizes - 1)).sum())
    return total / pairs * len(errors) / (len(errors) - 1)


def compute_fold_width(errors: Floats, fold_of: npt.NDArray[np.intp], folds: int) -> float:
    """Return half the width of the corrected interval of differences (rotations, images), by fold."""
    means = np.array(
        [values[of == fold].mean() for values, of in zip(errors, fold_of, strict=True) for fold in range(folds)]
    )
    variance = (1 / len(means) + 1 / (folds - 1)) * float(means.var(ddof=1))
    return compute_half_width(variance, len(means), 0.0, np.inf)


def list_widths(design: Design, errors: Floats, fold_of: npt.NDArray[np.intp]) -> tuple[float, float, list[float]]:
    """Return the difference of a table (2, rotations, images), its variance, and half the width by each candidate."""
    means = errors.mean(axis=2)
    gap = compute_nested_interval(*(ImageTable(m, e - m[:, None]) for m, e in zip(means, errors, strict=True)))
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
    """Yield `list_widths` of each table."""
    rng = np.random.default_rng((0, *design[:4], int(10 * design.chance)))
    for _ in range(tables // BATCH):
        yield from (list_widths(design, *table) for table in zip(*draw_errors(design, rng), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=20000, help=f"of each design, in steps of {BATCH}")
    tables = parser.parse_args().tables
    print(f"| rotations × folds, images, features, chance | missing | {' | '.join(CANDIDATES)} |")
    print("| --- |" + " --: |" * (1 + len(CANDIDATES)))
    for design in DESIGNS:
        gaps, variances, widths = (np.array(each) for each in zip(*list_tables(design, tables), strict=True))
        true = 2.8 * gaps.std()
        called, seen = ((np.abs(gaps)[:, None] > widths).mean(axis=0), (gaps[:, None] + true > widths).mean(axis=0))
        cells = [f"{100 * c:.2f} %, {100 * s:.0f} %" for c, s in zip(called, seen, strict=True)]
        missing = 1 - variances.mean() / gaps.var()
        name = f"{design.rotations} × {design.folds}, {', '.join(f'{value:g}' for value in design[2:])}"
        print(f"| {name} | {100 * missing:.0f} % | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
