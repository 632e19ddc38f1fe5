"""Metrics against definitions: confusion matrices counted pixel by pixel, and values computed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.cli.run import command
from sweeper.core import metrics, point_choice
from sweeper.core.records import ImageCounts, MetricScores, Task
from sweeper.core.records.training import BINS, LOGIT_RANGE, TAUS, THRESHOLDS
from sweeper.core.tasks import RULES, guess_task
from sweeper.evidence.intervals import make_image_table
from tests.support.builders import counts_from_iou, histogram_counts, point_counts

EDGES = np.linspace(-LOGIT_RANGE, LOGIT_RANGE, BINS + 1)
seeds = st.integers(0, 2**32 - 1)


def count_confusion(target: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return class counts (C, 3) of one image, counted from the pixels."""
    return np.array(
        [
            [
                np.sum((predicted == c) & (target == c)),
                np.sum((predicted == c) & (target != c)),
                np.sum((predicted != c) & (target == c)),
            ]
            for c in range(classes)
        ]
    )


def compute_miou_slowly(pairs: list[tuple[np.ndarray, np.ndarray]], classes: int) -> float:
    """Return mIoU over all pixels of (target, predicted) images, from intersections and unions of sets."""
    target = np.concatenate([t.ravel() for t, _ in pairs])
    predicted = np.concatenate([p.ravel() for _, p in pairs])
    ious = []
    for c in range(classes):
        truth, answer = set(np.flatnonzero(target == c)), set(np.flatnonzero(predicted == c))
        if truth:
            ious.append(len(truth & answer) / len(truth | answer))
    return sum(ious) / len(ious)


def count_logits(logits: np.ndarray, target: np.ndarray) -> ImageCounts:
    """Return the histogram of logits (n, pixels) by true class (n, pixels)."""
    data = np.zeros((len(logits), 2, BINS), dtype=np.int64)
    for i, (z, t) in enumerate(zip(logits, target, strict=True)):
        for c in (0, 1):
            data[i, c] = np.histogram(np.clip(z[t == c], EDGES[0], EDGES[-1]), EDGES)[0]
    return ImageCounts(kind="histogram", images=tuple(range(len(logits))), points=THRESHOLDS, data=data)


def draw_images(seed: int, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    occurring = rng.integers(0, classes, size=(rng.integers(1, classes + 1),))  # some classes may be absent
    return rng.choice(occurring, (images, 30)), rng.integers(0, classes, (images, 30))


# --- Operating points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [THRESHOLDS, TAUS, (0.25, 0.5)])
def test_the_usual_points_are_stored_by_name(points: tuple[float, ...]) -> None:
    data = np.zeros((1, len(points), 2, 3), dtype=np.uint32)
    counts = ImageCounts(kind="points", images=(0,), points=points, data=data)
    text = counts.model_dump_json()
    assert ImageCounts.model_validate_json(text) == counts
    assert len(text) < 300


@settings(deadline=None, max_examples=40)
@given(seed=seeds, images=st.integers(1, 4), index=st.integers(0, BINS - 2))
def test_counts_at_a_threshold_are_those_of_thresholded_logits(seed: int, images: int, index: int) -> None:
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(0, 5, (images, 60)), rng.integers(0, 2, (images, 60))
    counts = count_logits(logits, target)
    threshold = counts.points[index]
    # Compared in the logit: sigmoid and its inverse would cost the last digits.
    expected = [count_confusion(t, (z >= EDGES[index + 1]).astype(int), 2) for z, t in zip(logits, target, strict=True)]
    np.testing.assert_array_equal(metrics.count_at_point(counts, threshold), expected)
    np.testing.assert_array_equal(metrics.count_at_all_points(counts)[:, index], expected)


def test_thresholds_are_the_sigmoids_of_the_inner_edges_with_a_half_in_the_middle() -> None:
    np.testing.assert_allclose(THRESHOLDS, 1 / (1 + np.exp(-EDGES[1:-1])), rtol=1e-12)
    assert THRESHOLDS[255] == 0.5
    assert 0.0 in TAUS
    assert [RULES[task].plain_point for task in ("binary", "multiclass", "multilabel")] == [0.5, 0.0, 0.5]


def test_an_operating_point_that_is_not_stored_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of the stored 9, got 0\.3"):
        metrics.count_at_point(point_counts(np.ones((2, 3, 3))), 0.3)


@settings(deadline=None, max_examples=15)
@given(seed=seeds)
def test_the_best_point_is_the_best_of_all_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, (3, 80))
    counts = count_logits(rng.normal(3 * target - 4, 2), target)  # shifted, so that 0.5 is a poor choice
    point, value = point_choice.find_best_point(counts)
    each = [metrics.compute_scores(metrics.count_at_point(counts, p)).miou for p in counts.points]
    assert value == pytest.approx(max(each), abs=1e-12)
    assert each[counts.points.index(point)] == pytest.approx(value, abs=1e-12)


def test_the_operating_point_is_that_of_the_mean_in_which_a_group_counts_as_one() -> None:
    """Five images of one group need a low threshold, another image a high one."""
    low, high = THRESHOLDS[100], THRESHOLDS[400]
    data = np.zeros((6, 2, BINS), dtype=np.int64)
    data[:5, 0, 50], data[:5, 1, 200] = 90, 10
    data[5, 0, 300], data[5, 1, 450] = 90, 10
    counts = ImageCounts(kind="histogram", images=tuple(range(6)), points=THRESHOLDS, data=data)
    other = counts.model_copy(update={"data": data[::-1].copy()})
    groups = ["a"] * 5 + [None]
    for ordered, names in ((counts, groups), (other, groups[::-1])):
        scores = point_choice.score_all_points([ordered], "image_dice", names)
        of_images = 2 * 10 / (90 + 20)  # where all of it is foreground
        at_low, at_high = THRESHOLDS.index(low), THRESHOLDS.index(high)
        assert scores[[at_low, at_high]] == pytest.approx([(1 + of_images) / 2, 1 / 2])
        assert point_choice.score_all_points([ordered], "image_dice")[at_high] == pytest.approx(1 / 6)
        rows = metrics.make_image_rows(metrics.count_at_point(ordered, low)[None], "image_dice", "binary")
        units = metrics.sum_by_unit(rows, metrics.number_units(names), "image_dice")
        assert scores[at_low] == pytest.approx(units[0, :, 0, 0].mean())
        halves = [metrics.select_images(ordered, ordered.images[i : i + 3]) for i in (0, 3)]
        assert point_choice.score_all_points(halves, "image_dice", names) == pytest.approx(scores)
        assert point_choice.find_best_point(ordered, "image_dice", names)[1] == scores.max()
    sums = point_choice.score_all_points([counts], "dice", groups)
    assert sums == pytest.approx(point_choice.score_all_points([counts], "dice"))


def test_the_best_point_is_that_nearest_to_the_default_among_equals() -> None:
    counts = point_counts([[[50, 10, 0], [40, 0, 0], [0, 0, 10]]] * 2)
    counts.data[:, 7] = [[50, 0, 0], [40, 0, 0], [10, 0, 0]]
    assert point_choice.find_best_point(counts) == point_choice.find_best_point(counts, "dice") == (TAUS[7], 1.0)
    separable = histogram_counts(tp=[10], fp=[0], fn=[0], tn=[90])
    assert point_choice.find_best_point(separable) == (0.5, 1.0)
    assert point_choice.find_best_point(point_counts([[[5, 0, 0], [3, 1, 1], [2, 1, 1]]]))[0] == 0.0
    shifted = separable.model_copy(update={"data": np.roll(separable.data, -100, axis=-1)})
    # Now perfect only at edges 114 to 198 (foreground in bin 198): the nearest to 0.5 is the highest of them.
    assert point_choice.find_best_point(shifted) == (THRESHOLDS[197], 1.0)


FAINT, CLEAR = "faint", "clear"


def make_images(kinds: Sequence[str]) -> ImageCounts:
    """`FAINT` has a fifth of its foreground below 0.5; `CLEAR` has a false alarm above 0.5 and another one below it."""
    data = np.zeros((len(kinds), 2, BINS), dtype=np.int64)
    data[:, 0, 0] = 1000
    for n, kind in enumerate(kinds):
        foreground = {FAINT: {150: 20, 300: 80}, CLEAR: {400: 100}}[kind]
        data[n, 1, list(foreground)] = list(foreground.values())
        data[n, 0, [200, 300]] = 20 * (kind == CLEAR)
    return ImageCounts(kind="histogram", images=tuple(range(len(kinds))), points=THRESHOLDS, data=data)


@pytest.mark.parametrize("metric", ["miou", "fg_iou", "dice", "image_dice"])
def test_a_tuned_point_that_loses_on_held_out_images_is_not_used(metric: str) -> None:
    mixed = make_images([FAINT, CLEAR] * 3)  # without an image its own kind is the smaller one, and not served
    best = point_choice.find_best_point(mixed, metric)[0]
    assert best < 0.5 == point_choice.choose_point(mixed, metric)
    pairs = ["a", "a", "b", "b", "c", "c"]
    assert point_choice.choose_point(mixed, metric, pairs) == best  # what is left chooses the same
    assert point_choice.choose_point(mixed, metric, [None] * 6) == 0.5
    assert point_choice.choose_point(mixed, metric, ["a"] * 6) == best  # one group shows no loss, nor does one image
    for kinds in ([FAINT], [FAINT] * 4, [FAINT] * 5 + [CLEAR]):
        equal = make_images(kinds)
        assert point_choice.choose_point(equal, metric) == point_choice.find_best_point(equal, metric)[0] < 0.5


def test_a_tuned_point_is_used_if_its_loss_is_within_the_standard_error() -> None:
    mixed = make_images([FAINT] * 4)
    for data, low, false_alarms in zip(mixed.data, (18, 7, 25, 48), (18, 44, 19, 41), strict=True):
        data[1, [150, 300]] = low, 100 - low
        data[0, 200] = false_alarms
    chosen, best = point_choice.choose_point(mixed), point_choice.find_best_point(mixed)[0]
    # Tuned on three images the fourth loses 0.028 ± 0.037; without the factor n − 1 the error would be 0.021.
    assert chosen == best < 0.5


def test_tau_is_tuned_only_if_it_gains_on_held_out_parts_of_the_images() -> None:
    def street(kinds: Sequence[str], hits: int = 62) -> ImageCounts:
        counts = point_counts([[[500, 10, 20], [80, 20, 20], [20, 20, 10]]] * len(kinds))
        for n, kind in enumerate(kinds):
            hit = 100 if kind == FAINT else hits
            counts.data[n, 7, 1] = [hit, 20, 100 - hit]
        return counts

    for repeats, hits, point in ((2, 62, 0), (25, 61, 0), (25, 70, TAUS[7])):
        mixed = street([FAINT, CLEAR] * repeats, hits)
        assert point_choice.find_best_point(mixed)[0] == TAUS[7]
        assert point_choice.choose_point(mixed) == point, (repeats, hits)
    assert point_choice.choose_point(street([FAINT] * 3)) == TAUS[7]


def test_the_chosen_point_loses_nothing_on_average_on_new_images() -> None:
    means = {}
    for shift in (-1.5, -0.5, 0.0, 1.5):
        rng, gains = np.random.default_rng(5), []
        for _ in range(60):
            target = (rng.random((36, 200)) < 0.1).astype(np.int64)
            logits = rng.normal(3 * target - 1.5 + shift + rng.normal(0, 1.0, (36, 1)), 1.2)
            val, test = (count_logits(logits[part], target[part]) for part in (slice(0, 6), slice(6, None)))
            chosen, tuned = (
                metrics.compute_scores(metrics.count_at_point(test, point)).miou
                for point in (point_choice.choose_point(val), point_choice.find_best_point(val)[0])
            )
            gains.append(chosen - tuned)
        means[shift] = float(np.mean(gains))
    assert means[-1.5] > 0.001 and means[1.5] == 0  # six images choose worse than 0.5; far away it is never used
    assert sum(means.values()) / len(means) > -0.001


# --- Scores -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(seed=seeds, images=st.integers(1, 4), classes=st.integers(2, 5))
def test_miou_is_the_mean_over_the_classes_that_occur(seed: int, images: int, classes: int) -> None:
    target, predicted = draw_images(seed, images, classes)
    pairs = list(zip(target, predicted, strict=True))
    scores = metrics.compute_scores(np.array([count_confusion(t, p, classes) for t, p in pairs]))
    assert scores.miou == pytest.approx(compute_miou_slowly(pairs, classes), abs=1e-12)
    for c in range(classes):
        occurs = bool((target == c).any())
        assert (scores.iou[c] is None) == (not occurs)
        if occurs:
            iou, hit = scores.iou[c], np.sum((target == c) & (predicted == c))
            assert iou is not None
            assert scores.recall[c] == pytest.approx(hit / np.sum(target == c))
            assert scores.precision[c] == pytest.approx(hit / max(1, np.sum(predicted == c)))
    present = [iou for iou in scores.iou if iou is not None]
    assert scores.dice == pytest.approx(np.mean([2 * iou / (1 + iou) for iou in present]))


def test_an_image_is_scored_over_the_classes_of_its_labels() -> None:
    empty, full = [[97, 0, 3], [0, 3, 0]], [[80, 5, 5], [10, 5, 5]]
    unlabelled = [[0, 0, 0], [0, 0, 0]]
    mious = metrics.compute_image_mious(np.array([empty, full, unlabelled]), "binary")
    assert mious == pytest.approx([0.97, (80 / 90 + 10 / 20) / 2, 0.0])
    overlapping = metrics.compute_image_mious(np.array([[[0, 0, 0]] * 2, [[8, 1, 1], [0, 5, 0]]]), "multilabel")
    assert overlapping == pytest.approx([1.0, (0.8 + 0) / 2])
    assert list(mious[:2]) == [metrics.compute_scores(np.array([image])).miou for image in (empty, full)]


def test_a_mean_over_images_follows_the_convention_for_images_without_the_class() -> None:
    right, alarmed, half = [[9, 0, 0], [0, 0, 0]], [[8, 0, 0], [0, 1, 0]], [[7, 1, 1], [1, 1, 1]]
    unlabelled = [[0, 0, 0], [0, 0, 0]]
    counts = np.array([right, alarmed, half, unlabelled])

    def mean(metric: str, counts: npt.NDArray[np.int64], task: Task | None = None) -> float:
        summed = metrics.make_image_rows(counts, metric, task or guess_task(counts.shape[-2])).sum(axis=0)
        return float(metrics.compute_objective(summed, metrics.find_present_classes(counts), metric))

    assert mean("image_iou", counts) == pytest.approx((1 + 0 + 1 / 3) / 3)  # of the foreground alone
    assert mean("image_dice", counts) == pytest.approx((1 + 0 + 1 / 2) / 3)
    third = np.zeros((4, 1, 3), dtype=np.int64)
    third[1] = 0, 2, 0  # predicted where it is not: left out
    assert mean("image_iou", np.concatenate([counts, third], axis=1)) == pytest.approx(
        (1 + 1 + (7 / 9 + 1 / 3) / 2) / 3
    )
    # Overlapping classes are each scored as a foreground, over all images.
    assert mean("image_iou", counts[:3], "multilabel") == pytest.approx(((1 + 8 / 8 + 7 / 9) + (1 + 0 + 1 / 3)) / 6)


@settings(deadline=None, max_examples=25)
@given(seed=seeds, images=st.integers(2, 12))
def test_the_influences_on_a_mean_over_images_are_their_distances_from_it(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    rows = metrics.make_image_rows(rng.integers(0, 50, (3, images, 2, 3)), "image_dice", "binary")
    table = make_image_table(
        rows, lambda summed: metrics.compute_objective(summed, np.array([True, True]), "image_dice")
    )
    values = rows[..., 0, 0]
    np.testing.assert_allclose(table.shares, values - values.mean(axis=1, keepdims=True), atol=1e-6)
    units = np.arange(images) // 2
    units_rows = metrics.sum_by_unit(rows, units, "image_dice")
    means = [[values[r, units == unit].mean() for unit in range(units.max() + 1)] for r in range(3)]
    np.testing.assert_allclose(units_rows[..., 0, 0], means)
    assert (units_rows[..., 0, 1] == 1).all()


def test_a_class_that_a_replicate_lacks_is_right_only_if_not_predicted() -> None:
    marked = np.array([True, True])
    assert metrics.compute_objective(np.array([[100, 0, 0], [0, 0, 0]]), marked) == 1.0
    assert metrics.compute_objective(np.array([[99, 0, 1], [0, 1, 0]]), marked) == pytest.approx(0.99 / 2)
    np.testing.assert_array_equal(metrics.compute_objective(np.zeros((4, 2, 3), int), ~marked), np.zeros(4))
    assert metrics.compute_constant_miou(point_counts(np.zeros((2, 3, 3), int))) == 0.0


def test_the_table_of_metrics_is_complete() -> None:
    """The values of `--metric`, the computed scores and the printed ones are the same."""
    values = next(option for option in command.params if option.name == "metric").metavar
    assert values == "|".join((*metrics.METRICS, "MODULE:FUNCTION"))
    summed = np.array([[90, 3, 5], [20, 5, 3]])
    scores = metrics.compute_scores(summed[None])
    for name in set(metrics.METRICS) & set(MetricScores.model_fields):
        assert float(metrics.compute_objective(summed, np.array([True, True]), name)) == getattr(scores, name)


def test_the_objective_works_on_many_replicates_at_once() -> None:
    rng = np.random.default_rng(0)
    for metric, definition in metrics.METRICS.items():
        marked = np.array([False, True] if definition.tasks == ("binary",) else [True, False, True])
        sums = metrics.make_image_rows(rng.integers(1, 100, (5, 7, len(marked), 3)), metric, definition.tasks[-1])
        together = metrics.compute_objective(sums, marked, metric)
        assert together.shape == (5, 7)
        assert together[3, 2] == pytest.approx(float(metrics.compute_objective(sums[3, 2], marked, metric)))


@settings(deadline=None, max_examples=40)
@given(seed=seeds, classes=st.integers(2, 5))
def test_the_constant_answer_has_the_score_of_the_most_common_class(seed: int, classes: int) -> None:
    target, _ = draw_images(seed, 3, classes)
    predicted = np.full_like(target, np.bincount(target.ravel()).argmax())
    counts = np.array([count_confusion(t, p, classes) for t, p in zip(target, predicted, strict=True)])
    constant = metrics.compute_constant_miou(point_counts(counts))
    assert constant == pytest.approx(metrics.compute_scores(counts).miou)
    # It does not depend on what was predicted.
    other = np.array([count_confusion(t, t, classes) for t in target])
    assert metrics.compute_constant_miou(point_counts(other)) == constant


# --- Stored counts -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(images=st.integers(1, 40), seed=seeds)
def test_the_sum_over_images_has_the_same_scores(images: int, seed: int) -> None:
    counts = counts_from_iou(np.random.default_rng(seed).uniform(0.2, 0.9, images))
    one = counts.summed
    assert one.images == () and len(one.data) == 1
    assert metrics.compute_scores(metrics.count_at_point(one, 0.5)) == metrics.compute_scores(
        metrics.count_at_point(counts, 0.5)
    )
    assert point_choice.find_best_point(one) == point_choice.find_best_point(counts)
