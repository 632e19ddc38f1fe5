"""Components, their regions and contours, against definitions worked out pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core import metrics
from sweeper.core.contours import Mask, count_boundary_pixels
from sweeper.core.label_parts import UNIT, count_contour_pixels, count_lesions, label_components, sum_component_dice
from sweeper.core.records import IGNORE

seeds = st.integers(0, 2**32 - 1)


def scene(seed: int, classes: int = 2) -> tuple[Mask, Mask]:
    """Return a label map of 14 × 17 pixels with ignored ones, and an answer that is often right."""
    rng = np.random.default_rng(seed)
    label = (rng.random((14, 17)) < 0.3) * rng.integers(1, classes, (14, 17))
    answer = np.where(rng.random(label.shape) < 0.85, label, rng.integers(0, classes, label.shape))
    return np.where(rng.random(label.shape) < 0.05, IGNORE, label).astype(np.uint8), answer.astype(np.uint8)


def parts(inside: np.ndarray) -> list[set[tuple[int, int]]]:
    """Components, flooded pixel by pixel."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(inside)}, []
    while left:
        own, todo = set(), [left.pop()]
        while todo:
            y, x = todo.pop()
            own.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(own)
    return found


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_components_hang_together_at_edges_and_corners(seed: int) -> None:
    label, _ = scene(seed)
    ids, count = label_components(label == 1)
    found = [{(int(y), int(x)) for y, x in np.argwhere(ids == number)} for number in range(1, count + 1)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, parts(label == 1)))


@settings(deadline=None, max_examples=30)
@given(seed=seeds, classes=st.integers(2, 4))
def test_lesions_are_matched_one_to_one_above_half_their_union(seed: int, classes: int) -> None:
    label, answer = scene(seed, classes)
    counts = count_lesions(label, classes, 2)(answer)
    assert not counts[0].any()
    for c in range(1, classes):
        truth, found = parts(label == c), parts((answer == c) & (label != IGNORE))
        pairs = [
            (a, b)
            for a in range(len(truth))
            for b in range(len(found))
            if 2 * len(truth[a] & found[b]) > len(truth[a] | found[b])
        ]
        assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
        assert counts[c].tolist() == [len(pairs), len(found) - len(pairs), len(truth) - len(pairs)]


@settings(deadline=None, max_examples=30)
@given(seed=seeds, classes=st.integers(2, 4))
def test_cc_dice_is_the_mean_dice_in_the_regions_of_the_components(seed: int, classes: int) -> None:
    label, answer = scene(seed, classes)
    pixels = np.stack(np.indices(label.shape), axis=-1)
    wanted = {}
    for c in range(1, classes):
        truth = parts(label == c)
        if truth:
            gaps = np.stack(
                [((pixels[:, :, None] - np.array(sorted(own))) ** 2).sum(axis=-1).min(axis=-1) for own in truth]
            )
            answer[(gaps == gaps.min(axis=0)).sum(axis=0) > 1] = 0  # as near to two: to either
            wanted[c] = gaps.argmin(axis=0), truth
    counts = sum_component_dice(label, classes, 2)(answer)
    means = []
    for c, (region, truth) in wanted.items():
        given_ = (answer == c) & (label != IGNORE)
        dice = []
        for number, own in enumerate(truth):
            hits = sum(given_[place] for place in own)
            dice.append(2 * hits / (len(own) + int((given_ & (region == number)).sum())))
        assert counts[c, 0] / UNIT == pytest.approx(sum(dice), abs=1e-4) and counts[c].sum() == UNIT * len(truth)
        means.append(np.mean(dice))
    known = label != IGNORE
    absent = set(range(1, classes)) - wanted.keys()
    means += [
        float(classes == 2 and alarm == 0) for c in absent if (alarm := (known & (answer == c)).sum()) or classes == 2
    ]
    rows = metrics.make_image_rows(counts[None], "cc_dice")
    assert rows[0, 0, 0] == pytest.approx(np.mean(means), abs=1e-4)


def test_an_image_without_objects_counts_whether_anything_was_predicted() -> None:
    empty, alarm = np.zeros((6, 6), np.uint8), np.eye(6, dtype=np.uint8)
    for answer, value in ((empty, 1.0), (alarm, 0.0)):
        assert metrics.make_image_rows(sum_component_dice(empty, 2, 2)(answer)[None], "cc_dice")[0].tolist() == [
            [value, 1.0]
        ]
    assert count_lesions(empty, 2, 2)(alarm).tolist() == [[0, 0, 0], [0, 1, 0]]  # a diagonal hangs together
    for answer, scored in ((empty, [0.0, 0.0]), (2 * alarm, [0.0, 1.0])):  # of three classes a false alarm alone counts
        assert metrics.make_image_rows(sum_component_dice(empty, 3, 2)(answer)[None], "cc_dice")[0].tolist() == [scored]
    unknown = np.full((6, 6), IGNORE, np.uint8)
    assert metrics.make_image_rows(sum_component_dice(unknown, 2, 2)(alarm)[None], "cc_dice")[0].tolist() == [
        [0.0, 0.0]
    ]
    assert not count_lesions(unknown, 2, 2)(alarm).any()


def test_contours_are_those_of_the_foreground_where_there_are_two_classes() -> None:
    for classes in (2, 3):
        label, answer = scene(1, classes)
        found, all_of_them = (
            count_contour_pixels(label, classes, 2)(answer),
            count_boundary_pixels(label, answer, classes, 2),
        )
        np.testing.assert_array_equal(found[1:], all_of_them[1:])
        assert found[0].any() == (classes > 2)
