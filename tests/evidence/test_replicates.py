"""Replicates: the trainings of one seed, and the table of seeds × images if each seed is trained on all folds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sweeper.core import metrics
from sweeper.core.records import TrialResult
from sweeper.evidence.replicates import Replicate, get_own_point, stack_rows
from tests.evidence.weighing import simulate, weigh
from tests.support import builders


def rotate(run: TrialResult, folds: int, first: int) -> list[TrialResult]:
    """Return the same confirmation as if each of its images had been scored by the training of its fold."""
    parts = []
    for k in range(folds):
        rows = [i for i in range(len(run.test.images)) if (i + run.spec.seed) % folds == k]
        images = {"images": tuple(run.test.images[i] for i in rows), "data": run.test.data[rows]}
        spec = run.spec.model_copy(update={"fold": k, "number": first + k})
        test = run.test.model_copy(update=images)
        parts.append(run.model_copy(update={"spec": spec, "test": test, "predictions": None}))
    return parts


def simulate_folds(folds: int | None) -> list[TrialResult]:
    runs = simulate({"dice": 0.6, "cross_entropy": 0.5}, 4)
    if folds is None:
        return runs
    return [part for n, run in enumerate(runs) for part in rotate(run, folds, n * folds)]


def test_folds_count_like_one_training_scored_on_all_images() -> None:
    """Were all folds' trainings one, nothing would change but the images' part, which is 4/3 of theirs."""
    groups = [f"g{i // 2}" for i in range(24)]
    for image_groups in (None, groups):
        single = weigh(simulate_folds(None), groups=image_groups)
        folded = weigh(simulate_folds(4), groups=image_groups)
        assert (single.folds, folded.folds) == (None, 4)
        assert folded.test_images == single.test_images == 24
        for a, b in zip(folded.comparisons, single.comparisons, strict=True):
            assert (a.first, a.second, a.difference.estimate) == (b.first, b.second, b.difference.estimate)
            assert a.difference.se_seed == b.difference.se_seed
            assert a.difference.se_image == pytest.approx(math.sqrt(4 / 3) * b.difference.se_image)
        for one, two in zip(folded.finalists, single.finalists, strict=True):
            assert (one.family, one.miou.estimate, one.seeds) == (two.family, two.miou.estimate, two.seeds)
            assert one.miou.se_image == pytest.approx(math.sqrt(4 / 3) * two.miou.se_image)
            assert one.fg_iou.se_image == pytest.approx(math.sqrt(4 / 3) * two.fg_iou.se_image)
            assert (one.trainings, two.trainings) == (12, 3)


def test_each_fold_is_scored_at_the_operating_point_of_its_training() -> None:
    runs = simulate_folds(2)
    target = next(r for r in runs if r.spec.family == "dice" and r.spec.fold == 1)
    high = target.test.points[-1]
    last = target.evaluations[-1].model_copy(update={"point": high})
    changed = target.model_copy(update={"evaluations": (*target.evaluations[:-1], last)})
    before = weigh(runs)
    after = weigh([changed if r is target else r for r in runs])

    def get_level(evidence: Any, family: str) -> float:
        return next(f.miou.estimate for f in evidence.finalists if f.family == family)

    assert get_level(after, "dice") < get_level(before, "dice") - 0.01
    assert get_level(after, "cross_entropy") == get_level(before, "cross_entropy")


def test_a_diverged_fold_misses_all_of_its_images() -> None:
    runs = simulate_folds(4)
    target = next(r for r in runs if r.spec.family == "dice" and r.spec.fold == 2)
    diverged = builders.diverged("dice", target.spec.seed).model_copy(update={"spec": target.spec})
    of_seed = [r for r in runs if r.spec.seed == target.spec.seed]
    evidence = weigh([diverged if r is target else r for r in of_seed])
    dice = next(f for f in evidence.finalists if f.family == "dice")
    assert dice.collapses == 1 and evidence.test_images == 24
    counts = np.zeros((2, 3), dtype=np.int64)
    for run in (r for r in of_seed if r.spec.family == "dice"):
        true, false, missed = metrics.count_at_point(run.test, 0.5).sum(axis=0).T
        fold_counts = np.stack([true, false, missed], axis=-1)
        counts += np.stack([0 * true, 0 * false, true + missed], axis=-1) if run is target else fold_counts
    assert dice.miou.estimate == pytest.approx((counts[:, 0] / counts.sum(axis=1)).mean(), abs=1e-12)


def test_seeds_with_different_folds_are_rejected() -> None:
    runs = simulate_folds(3)
    with pytest.raises(ValueError, match="same test images"):
        weigh(runs[1:])


# --- A training without an answer -----------------------------------------------------------------------------


def make_partial_run(seed: int, images: tuple[int, ...], *, is_lost: bool = False) -> TrialResult:
    """Return a training scored on image 0, with foreground, and image 1, without any: both answered well."""
    counts = builders.histogram_counts([90, 0], [10, 0], [10, 0], [890, 1000])
    run = builders.confirmation("dice", seed, metrics.select_images(counts, images), seed)
    return run.model_copy(update={"test": None}) if is_lost else run


@pytest.mark.parametrize("metric", ["miou", "image_dice", "image_iou"])
def test_a_training_without_predictions_is_right_on_no_image(metric: str) -> None:
    whole, partial = (
        Replicate((make_partial_run(1, (0, 1)),)),
        Replicate((make_partial_run(2, (0,)), make_partial_run(2, (1,), is_lost=True))),
    )
    rows = stack_rows([whole, partial], (0, 1), get_own_point, metric)
    assert (rows[0, 0] == rows[1, 0]).all()
    empty = rows[:, 1]
    if metric == "miou":  # all its pixels are missed: none is falsely alarmed
        assert empty[1, :, 0].sum() == 0 and empty[1, :, 1].sum() == 0 and empty[1, 0, 2] == 1000
    else:
        assert empty[:, 0].tolist() == [[1.0, 1.0], [0.0, 1.0]]
