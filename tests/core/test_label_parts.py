"""Components, their regions and contours, against definitions computed pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core import metrics
from sweeper.core.contours import Mask, count_boundary_pixels
from sweeper.core.label_parts import UNIT, count_contour_pixels, count_lesions, label_components, sum_component_dice
from sweeper.core.records import IGNORE
from sweeper.core.tasks import guess_task

seeds = st.integers(0, 2**32 - 1)


def draw_scene(seed: int, classes: int = 2) -> tuple[Mask, Mask]:
    """Return a label map of 14 × 17 pixels with ignored ones, and an answer that is often right."""
    rng = np.random.default_rng(seed)
    label = (rng.random((14, 17)) < 0.3) * rng.integers(1, classes, (14, 17))
    answer = np.where(rng.random(label.shape) < 0.85, label, rng.integers(0, classes, label.shape))
    return np.where(rng.random(label.shape) < 0.05, IGNORE, label).astype(np.uint8), answer.astype(np.uint8)


def flood(inside: np.ndarray) -> list[set[tuple[int, int]]]:
    """Return the components, flooded pixel by pixel."""
    remaining, components = {(int(y), int(x)) for y, x in np.argwhere(inside)}, []
    while remaining:
        component, todo = set(), [remaining.pop()]
        while todo:
            y, x = todo.pop()
            component.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & remaining
            remaining -= near
            todo += near
        components.append(component)
    return components


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_components_are_connected_at_edges_and_corners(seed: int) -> None:
    label, _ = draw_scene(seed)
    ids, count = label_components(label == 1)
    components = [{(int(y), int(x)) for y, x in np.argwhere(ids == number)} for number in range(1, count + 1)]
    assert sorted(map(sorted, components)) == sorted(map(sorted, flood(label == 1)))


@settings(deadline=None, max_examples=30)
@given(seed=seeds, classes=st.integers(2, 4))
def test_lesions_are_matched_one_to_one_above_half_their_union(seed: int, classes: int) -> None:
    label, answer = draw_scene(seed, classes)
    counts = count_lesions(label, classes)(answer)
    assert not counts[0].any()
    for c in range(1, classes):
        truth, answers = flood(label == c), flood((answer == c) & (label != IGNORE))
        hits = sum(2 * len(a & b) > len(a | b) for a in truth for b in answers)
        assert counts[c].tolist() == [hits, len(answers) - hits, len(truth) - hits]


@settings(deadline=None, max_examples=30)
@given(seed=seeds, classes=st.integers(2, 4))
def test_cc_dice_is_the_mean_dice_in_the_regions_of_the_components(seed: int, classes: int) -> None:
    label, answer = draw_scene(seed, classes)
    pixels = np.stack(np.indices(label.shape), axis=-1)
    regions = {}
    for c in range(1, classes):
        truth = flood(label == c)
        if truth:
            gaps = np.stack(
                [((pixels[:, :, None] - np.array(sorted(one))) ** 2).sum(axis=-1).min(axis=-1) for one in truth]
            )
            answer[(gaps == gaps.min(axis=0)).sum(axis=0) > 1] = 0  # as near to two: to either
            regions[c] = gaps.argmin(axis=0), truth
    counts = sum_component_dice(label, classes)(answer)
    means = []
    for c, (region, truth) in regions.items():
        predicted = (answer == c) & (label != IGNORE)
        dice = []
        for number, component in enumerate(truth):
            hits = sum(predicted[place] for place in component)
            dice.append(2 * hits / (len(component) + int((predicted & (region == number)).sum())))
        assert counts[c, 0] / UNIT == pytest.approx(sum(dice), abs=1e-4) and counts[c].sum() == UNIT * len(truth)
        means.append(np.mean(dice))
    labelled = label != IGNORE
    for c in set(range(1, classes)) - regions.keys():
        is_alarm = (labelled & (answer == c)).any()
        means += [float(not is_alarm)] if classes == 2 or is_alarm else []
    rows = metrics.make_image_rows(counts[None], "cc_dice", guess_task(classes))
    assert rows[0, 0, 0] == pytest.approx(np.mean(means), abs=1e-4)


def score_components(label: Mask, answer: Mask, classes: int) -> list[float]:
    """Return the sum of an image's CC-Dice, and how many images it counts as."""
    counts = sum_component_dice(label, classes)(answer)
    scores: list[float] = metrics.make_image_rows(counts[None], "cc_dice", guess_task(classes))[0, 0].tolist()
    return scores


def test_an_image_without_objects_scores_1_only_without_predictions() -> None:
    empty, alarm = np.zeros((6, 6), np.uint8), np.eye(6, dtype=np.uint8)
    assert score_components(empty, empty, 2) == [1.0, 1.0] and score_components(empty, alarm, 2) == [0.0, 1.0]
    # With three classes only a false alarm counts.
    assert score_components(empty, empty, 3) == [0.0, 0.0] and score_components(empty, 2 * alarm, 3) == [0.0, 1.0]
    assert count_lesions(empty, 2)(alarm).tolist() == [[0, 0, 0], [0, 1, 0]]  # a diagonal is one component
    unknown = np.full((6, 6), IGNORE, np.uint8)
    assert score_components(unknown, alarm, 2) == [0.0, 0.0] and not count_lesions(unknown, 2)(alarm).any()


def test_contours_of_two_classes_are_those_of_the_foreground() -> None:
    for classes in (2, 3):
        label, answer = draw_scene(1, classes)
        counts = count_contour_pixels(label, classes)(answer)
        np.testing.assert_array_equal(counts[1:], count_boundary_pixels(label, answer, classes, 2)[1:])
        assert counts[0].any() == (classes > 2)
