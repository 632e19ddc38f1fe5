"""Centre-line Dice and boundaries against definitions and values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.core.metrics import compute_cldice, compute_detail_scores
from sweeper.core.records import TestDetail


def test_cldice_is_the_harmonic_mean_of_its_two_shares() -> None:
    assert compute_cldice(np.array([3, 4, 1, 2])) == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    assert compute_cldice(np.array([0, 0, 0, 7])) == 0.0  # nothing is predicted
    assert compute_cldice(np.array([0, 5, 0, 0])) == 0.0  # nothing is labelled
    assert np.isnan(compute_cldice(np.zeros(4, int)))


def make_detail() -> TestDetail:
    """Return the counts of three images of a binary task."""
    rng = np.random.default_rng(0)
    boundary, lines = rng.integers(1, 9, (3, 2, 3)), rng.integers(1, 9, (3, 2, 4))
    lines[:, 0] = 0
    return TestDetail(images=(0, 1, 2), boundary=boundary, centreline=lines)


def test_detail_scores_are_of_the_foreground_and_leave_out_undefined_ones() -> None:
    detail = make_detail()
    scores = compute_detail_scores(detail)
    both, more, less = detail.boundary.sum(axis=0)[1]
    assert scores["boundary_iou"] == pytest.approx(both / (both + more + less))
    assert scores["cldice"] == pytest.approx(compute_cldice(detail.centreline.sum(axis=0)[1]))
    empty = detail.model_copy(update={"boundary": np.zeros((3, 2, 3), int), "centreline": np.zeros((3, 2, 4), int)})
    assert set(compute_detail_scores(empty)) == set()
