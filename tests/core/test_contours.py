"""Contours and centre lines, against slow definitions and topology."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sweeper.core.contours import (
    compute_skeleton,
    count_boundary_pixels,
    count_centreline_pixels,
    find_densest_window,
    find_near_boundary,
    measure_thinness,
)
from sweeper.core.records import IGNORE

seeds = st.integers(0, 2**32 - 1)


def draw_labels(seed: int, classes: int = 3, ignored: float = 0.1) -> np.ndarray:
    """Draw blobs of some classes with an ignored region or two."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 20, 2))
    smooth = ndimage.gaussian_filter(rng.normal(size=(classes, *shape)), (0, 1.2, 1.2))
    mask = smooth.argmax(0).astype(np.uint8)
    mask[ndimage.gaussian_filter(rng.random(shape), 1.0) < ignored * 4] = IGNORE
    return mask


def find_near_slowly(mask: np.ndarray, pixels: int) -> np.ndarray:
    places = [(y, x) for y, x in np.ndindex(mask.shape) if mask[y, x] != IGNORE]
    near = np.zeros(mask.shape, dtype=bool)
    for y, x in places:
        near[y, x] = any(mask[v, u] != mask[y, x] and (v - y) ** 2 + (u - x) ** 2 <= pixels**2 for v, u in places)
    return near


@settings(deadline=None, max_examples=40)
@given(seed=seeds, pixels=st.integers(1, 9))
def test_the_boundary_band_follows_its_definition_at_any_width(seed: int, pixels: int) -> None:
    """Widths up to 5 are computed by another method than larger ones."""
    mask = draw_labels(seed)
    np.testing.assert_array_equal(find_near_boundary(mask, pixels), find_near_slowly(mask, pixels))


@settings(deadline=None, max_examples=60)
@given(seed=seeds, share=st.floats(0.1, 0.95), opened=st.booleans())
def test_thinning_keeps_pieces_and_holes(seed: int, share: float, opened: bool) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(1, 24, 2))) < share
    if opened:
        mask = ndimage.binary_closing(mask)
    line = compute_skeleton(mask)
    assert not (line & ~mask).any()
    outside = [np.pad(~m, 1, constant_values=True) for m in (mask, line)]
    assert ndimage.label(line, np.ones((3, 3)))[1] == ndimage.label(mask, np.ones((3, 3)))[1]
    assert ndimage.label(outside[1])[1] == ndimage.label(outside[0])[1]
    np.testing.assert_array_equal(compute_skeleton(line), line)


def test_thinning_a_large_disc_leaves_few_pixels() -> None:
    y, x = np.mgrid[:101, :101]
    line = compute_skeleton((y - 50) ** 2 + (x - 50) ** 2 <= 45**2)
    assert 1 <= line.sum() <= 15


@settings(deadline=None, max_examples=30)
@given(seed=seeds, pixels=st.integers(1, 3))
def test_boundary_counts_are_intersections_of_bands(seed: int, pixels: int) -> None:
    label, answer = draw_labels(seed), draw_labels(seed + 1, ignored=0.0)
    answer = np.resize(answer, label.shape)
    counts = count_boundary_pixels(label, answer, 3, pixels)
    masked = np.where(label == IGNORE, IGNORE, answer)
    for c in range(3):
        truth = find_near_slowly(label, pixels) & (label == c)
        band = find_near_slowly(masked, pixels) & (masked == c)
        assert counts[c].tolist() == [(truth & band).sum(), (band & ~truth).sum(), (truth & ~band).sum()]


def test_a_perfect_answer_is_perfect_whatever_is_predicted_on_ignored_pixels() -> None:
    label = draw_labels(3)
    answer = np.where(label == IGNORE, np.uint8(2), label)
    assert (label == IGNORE).any()
    assert count_boundary_pixels(label, answer, 3, 2)[:, 1:].sum() == 0
    counts = count_centreline_pixels(label, answer, np.array([True, True, True]))
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    np.testing.assert_array_equal(counts[:, 0], counts[:, 3])


def test_a_broken_line_loses_centre_line_and_a_shifted_one_does_not() -> None:
    label = np.zeros((20, 40), dtype=np.uint8)
    label[9:12] = 1
    broken, shifted = label.copy(), np.roll(label, 1, axis=0)
    broken[:, 15:25] = 0
    classes = np.array([False, True])
    hit, all_predicted, covered, all_label = count_centreline_pixels(label, broken, classes)[1]
    assert hit == all_predicted and covered == pytest.approx(0.75 * all_label, abs=2)
    hit, all_predicted, covered, all_label = count_centreline_pixels(label, shifted, classes)[1]
    assert hit == all_predicted and covered == all_label
    assert count_centreline_pixels(label, broken, classes)[0].sum() == 0  # not requested


def test_thinness_is_the_share_of_thin_pixels_of_each_class() -> None:
    mask = np.zeros((30, 30), dtype=np.uint8)
    mask[10:12] = 1
    shares = measure_thinness([mask], 3)
    assert shares[1] == 1.0 and 0 < shares[0] < 0.3 and shares[2] == 0.0


def thin_slowly(mask: np.ndarray) -> np.ndarray:
    """Guo & Hall's A1 as it is published: every pixel is tested in each of its two subiterations."""
    alive = np.pad(mask, 1)
    while True:
        before = alive.copy()
        for p in (0, 4):  # x1 in the east, anticlockwise; the second subiteration is the first, turned by half
            turns = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
            x = [np.roll(alive, (-dy, -dx), (0, 1)) for dy, dx in turns]
            crossings = sum((~x[i] & (x[i + 1] | x[(i + 2) % 8])).astype(int) for i in (0, 2, 4, 6))
            first = sum((x[i] | x[i + 1]).astype(int) for i in (0, 2, 4, 6))
            second = sum((x[i + 1] | x[(i + 2) % 8]).astype(int) for i in (0, 2, 4, 6))
            least = np.minimum(first, second)
            stays = (x[p + 1] | x[p + 2] | ~x[(p + 7) % 8]) & x[p]
            alive = alive & ~((crossings == 1) & (least >= 2) & (least <= 3) & ~stays)
        if (alive == before).all():
            return alive[1:-1, 1:-1]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.95])
def test_the_skeleton_equals_that_of_the_published_algorithm(share: float) -> None:
    rng = np.random.default_rng(int(100 * share))
    for _ in range(40):
        mask = rng.random(rng.integers(8, 48, 2)) < share
        np.testing.assert_array_equal(compute_skeleton(mask), thin_slowly(mask))


def test_the_densest_window_holds_the_most_marks() -> None:
    marks = np.zeros((400, 500), dtype=bool)
    marks[10:12, 10:12] = True
    marks[300:320, 400:430] = True
    window = find_densest_window(marks, (144, 192))
    assert marks[window].shape == (144, 192)
    assert marks[window].sum() == 600
    assert find_densest_window(marks, (128, 128), 32) == (slice(192, 320), slice(320, 448))
    assert marks[:50, :40][find_densest_window(marks[:50, :40], (144, 192))].shape == (50, 40)
