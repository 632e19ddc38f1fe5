"""One training: what its result depends on, what it counts, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.core import metrics, point_choice
from sweeper.core.contours import Mask, count_boundary_pixels
from sweeper.core.label_parts import Counter, count_contour_pixels, count_lesions, sum_component_dice
from sweeper.core.metrics import compute_detail_scores
from sweeper.core.recipe import Recipe
from sweeper.core.records import Collapse, Conditions, Dataset, ImageCounts
from sweeper.core.records.training import FEW_THRESHOLDS, THRESHOLDS
from sweeper.data import divide_images, open_store
from sweeper.losses import FAMILIES
from sweeper.training.engine import StudyTraining
from sweeper.training.scores import find_never_predicted, judge_collapse
from sweeper.training.training_context import open_context
from sweeper.training.training_steps import compute_rate_factor
from tests.support.loss_cases import pick_required
from tests.support.marks import rest_slow
from tests.support.small_training import SMALL, spec, train, train_to_end

KINDS = {"weighted_ce", "logit_adjusted", "dice_topk", "boundary"}
"""Families that stand for what a training hands to a loss: weights, the classes' prior, nothing, maps of the labels."""
KINDS_FIRST = [
    pytest.param(name, marks=() if name in KINDS else pytest.mark.slow)
    for name, declaration in FAMILIES.items()
    if "binary" in declaration.tasks
]


# --- What decides a result ---


def test_a_result_depends_on_the_spec_and_not_on_the_global_random_state(tiny: Dataset) -> None:
    first = train(tiny)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state must not matter
    before = torch.random.get_rng_state()
    assert train(tiny).model_dump_json() == first.model_dump_json()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_learning_rate_rises_is_constant_and_falls() -> None:
    factors = [compute_rate_factor(step, 100, 0.05, 0.3) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:70] == [1.0] * 66
    assert factors[-1] == pytest.approx(1 / 30)
    assert all(0 < f <= 1 for f in factors)


@pytest.mark.parametrize(
    "recipe", [Recipe(steps=100), Recipe(steps=9), Recipe(steps=7), Recipe(steps=4), Recipe(evaluations=1)]
)
def test_rungs_end_at_the_last_step_and_start_at_a_quarter(recipe: Recipe) -> None:
    rungs = recipe.rungs(recipe.steps)
    assert rungs[-1] == recipe.steps
    assert list(rungs) == sorted(set(rungs))
    assert rungs[0] >= recipe.steps / recipe.evaluations


# --- What a result says ---


def test_rungs_score_a_subset_of_the_images_and_the_end_all(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(e.complete and e.part is None and e.part_value == e.value for e in train(tiny).evaluations)
    monkeypatch.setattr("sweeper.training.engine.RUNG_IMAGES", 1)
    result = train(tiny)
    split = divide_images(tiny, test_seed=0, seed=0)
    assert [e.images for e in result.evaluations] == [1, 1, 1, len(split.val)]
    assert result.val is not None and (result.val.images, len(result.val.data)) == ((), 1)
    assert result.val.data.sum() == sum(tiny.images[i].height * tiny.images[i].width for i in split.val)
    assert result.value == result.evaluations[-1].value
    assert result.test is None


def test_the_end_scores_as_many_images_as_are_affordable(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    work = SMALL.steps * SMALL.batch_size * SMALL.size**2
    budgets: list[int] = []

    def select(_: Dataset, images: tuple[int, ...], work: int, *_more: float) -> tuple[int, ...]:
        budgets.append(work)
        return images[:2]

    monkeypatch.setattr("sweeper.training.engine.select_scored_images", select)
    last = train(tiny).evaluations[-1]
    assert (last.images, last.val_images, last.complete) == (2, 2, True) and budgets == [work, work]


@pytest.mark.parametrize("metric", rest_slow(["dice", "fg_iou"], 1))
def test_the_end_is_also_scored_on_the_images_of_the_rungs(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, metric: Any
) -> None:
    monkeypatch.setattr("sweeper.training.engine.RUNG_IMAGES", 1)
    recipe = SMALL.model_copy(update={"metric": metric})
    training = StudyTraining(spec(), open_context(Conditions(dataset=tiny, recipe=recipe, seed=0), "cpu"))
    *rungs, last = train_to_end(training).evaluations
    # The network of the end, counted on only the image of the rungs.
    counts, _ = training._evaluator.count(training._steps.average.model, training._rung_images)
    point, value = point_choice.find_best_point(counts, metric)
    assert [e.complete for e in (*rungs, last)] == [False, False, False, True]
    assert all(e.part is None and e.part_value == e.value for e in rungs)
    assert last.part is not None and last.part.images == 1 < last.images == last.val_images
    assert last.part_value == last.part.value == pytest.approx(value) and last.part.point == point
    assert last.part_value != last.value


def test_groups_count_as_one_where_the_operating_point_of_a_mean_is_chosen(tiny: Dataset) -> None:
    sides = ["train"] * 8 + ["val"] * 4 + ["test"] * 3
    images = [info.model_copy(update={"split": side}) for info, side in zip(tiny.images, sides, strict=True)]
    images[8:11] = [info.model_copy(update={"group": "video"}) for info in images[8:11]]
    grouped = tiny.model_copy(update={"images": tuple(images)})
    recipe = SMALL.model_copy(update={"metric": "image_dice"})
    result = train(grouped, recipe, purpose="confirm", seed=1000)
    last = result.evaluations[-1]
    assert result.val is not None and result.val.images == (8, 9, 10, 11)
    groups = ["video"] * 3 + [None]
    assert (last.point, last.value) == pytest.approx(point_choice.find_best_point(result.val, "image_dice", groups))
    assert last.value != pytest.approx(point_choice.find_best_point(result.val, "image_dice")[1])


def test_a_confirmation_is_scored_at_the_chosen_point_and_a_trial_at_its_best(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def choose(*arguments: object) -> float:
        calls.append(arguments)
        return THRESHOLDS[100]

    monkeypatch.setattr(point_choice, "choose_point", choose)
    confirmed = train(tiny, purpose="confirm", seed=1000, keep_predictions=99)
    assert [e.point for e in confirmed.evaluations] == [THRESHOLDS[100]] * 4
    last, test = confirmed.evaluations[-1], confirmed.test
    assert test is not None and confirmed.val is not None and confirmed.predictions is not None
    assert last.chosen == metrics.compute_scores(metrics.count_at_point(confirmed.val, THRESHOLDS[100]))
    counts = metrics.count_at_point(test, THRESHOLDS[100])[:, 1]
    assert [int(mask.sum()) for mask in confirmed.predictions.masks] == (counts[:, 0] + counts[:, 1]).tolist()
    assert calls[-1][1:] == ("miou", [None] * len(confirmed.val.images))
    calls.clear()
    trial = train(tiny)
    assert not calls
    assert trial.val is not None and trial.evaluations[-1].point == point_choice.find_best_point(trial.val)[0]


@pytest.mark.parametrize(
    ("metric", "count"),
    [("lesion_f1", count_lesions), ("cc_dice", sum_component_dice), ("boundary_iou", count_contour_pixels)],
)
def test_a_metric_of_whole_label_maps_is_maximised_and_kept_at_15_thresholds(
    tiny: Dataset, metric: str, count: Callable[[Mask, int, int], Counter]
) -> None:
    recipe = SMALL.model_copy(update={"metric": metric})
    result = train(tiny, recipe, purpose="confirm", seed=1000, keep_predictions=99)
    last, store = result.evaluations[-1], open_store(tiny.store)
    assert result.val is not None and result.test is not None and result.predictions is not None
    assert (last.point, last.value) == pytest.approx(point_choice.find_best_point(result.val, metric))
    parts = metrics.select_metric_counts(result.test, metric)
    assert parts.points == FEW_THRESHOLDS and 0.5 in parts.points and parts.data.shape[1] == 15
    at_point = metrics.count_at_point(parts, last.point)
    for n, index in enumerate(result.test.images):
        expected = count(store.get_mask(index), 2)(result.predictions.masks[n])
        np.testing.assert_array_equal(at_point[n], expected)
        if metric == "boundary_iou":
            assert result.detail is not None
            np.testing.assert_array_equal(result.detail.boundary[n, 1], expected[1])
            assert compute_detail_scores(result.detail)["boundary_iou"] == pytest.approx(
                float(metrics.compute_objective(at_point.sum(axis=0), metrics.find_present_classes(at_point), metric))
            )


def test_a_confirmation_is_scored_on_the_locked_test_split_by_all_measures_of_the_same_pixels(tiny: Dataset) -> None:
    result = train(tiny, SMALL, purpose="confirm", seed=1000, keep_predictions=2)
    detail, counts, predicted = result.detail, result.test, result.predictions
    assert detail is not None and counts is not None and predicted is not None
    split = divide_images(tiny, test_seed=0, seed=0)
    assert detail.images == counts.images == split.test and predicted.images == split.test[:2]
    assert result.val is not None and result.val.images == divide_images(tiny, test_seed=0, seed=1000).val
    at_chosen = metrics.count_at_point(counts, result.evaluations[-1].point)
    for n, index in enumerate(predicted.images):
        assert int(predicted.masks[n].sum()) == at_chosen[n, 1, :2].sum()
        expected = count_boundary_pixels(open_store(tiny.store).get_mask(index), predicted.masks[n], 2)
        np.testing.assert_array_equal(detail.boundary[n], expected)
    assert detail.centreline[:, 1, 3].sum() > 0 and detail.centreline[:, 0].sum() == 0
    assert set(compute_detail_scores(detail)) == {"boundary_iou", "cldice"}


def test_a_diverging_training_ends_with_value_zero(tiny: Dataset) -> None:
    result = train(tiny, lr=1e30)
    assert result.collapse == result.collapse_at_default == Collapse.DIVERGED
    assert result.value == 0.0
    assert result.state == "complete"
    assert len(result.evaluations) < 4


@pytest.mark.parametrize("family", KINDS_FIRST)
def test_every_family_trains(tiny: Dataset, family: str) -> None:
    result = train(tiny, family=family, params=pick_required(family, "binary"))
    assert result.collapse != Collapse.DIVERGED
    assert all(e.train_loss is not None for e in result.evaluations)


@pytest.mark.parametrize("family", sorted(KINDS))
def test_each_kind_trains_on_several_classes(tiny_street: Dataset, family: str) -> None:
    assert train(tiny_street, family=family, params={}).collapse != Collapse.DIVERGED


def make_counts(*rows: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    return np.array([rows], dtype=np.int64)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (make_counts((990, 10, 0), (0, 0, 10)), Collapse.ALL_BACKGROUND),
        (make_counts((0, 0, 990), (10, 990, 0)), Collapse.NO_BETTER_THAN_CONSTANT),
        (make_counts((700, 10, 290), (0, 290, 10)), Collapse.NO_BETTER_THAN_CONSTANT),
        (make_counts((985, 4, 5), (6, 5, 4)), Collapse.NONE),
        (make_counts((900, 10, 0), (80, 0, 0), (0, 0, 10)), Collapse.CLASS_NEVER_PREDICTED),
        (make_counts((900, 0, 0), (90, 0, 0), (0, 0, 0)), Collapse.NONE),
    ],
)
def test_collapses_are_recognised(counts: np.ndarray[Any, Any], expected: Collapse) -> None:
    points = ImageCounts(kind="points", images=(0,), points=(0.0,), data=counts[:, None])
    assert judge_collapse(points, 0.0) == expected


def test_classes_that_are_never_predicted_are_listed() -> None:
    counts = make_counts((900, 10, 0), (80, 0, 0), (0, 0, 10), (0, 0, 0))
    assert find_never_predicted(counts, ("ground", "road", "sign", "absent")) == ("sign",)


@pytest.mark.cuda
@pytest.mark.parametrize("family", KINDS_FIRST)
def test_every_family_trains_on_a_gpu(tiny: Dataset, family: str) -> None:
    params = pick_required(family, "binary")
    conditions = Conditions(dataset=tiny, recipe=SMALL.model_copy(update={"precision": "bfloat16"}), seed=0)
    training = StudyTraining(spec(family=family, params=params), open_context(conditions, "cuda"))
    assert train_to_end(training).collapse != Collapse.DIVERGED
