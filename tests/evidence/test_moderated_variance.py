"""Variances of differences over few seeds, moderated by those of the other pairs of losses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import polygamma

from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.intervals import ImageTable, compute_half_width
from sweeper.evidence.moderated_variance import MAX_BORROWED, _invert_trigamma, moderate_variances
from sweeper.evidence.paired_comparisons import compare_pairs
from tests.evidence.weighing import simulate, weigh

FOUR = {"dice": 0.62, "dice_ce": 0.61, "cross_entropy": 0.6, "focal": 0.6}


@given(st.floats(1e-3, 1e6))
def test_the_trigamma_function_is_inverted(x: float) -> None:
    assert _invert_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-5)


def test_similar_variances_borrow_the_most_by_smyths_formula() -> None:
    variances, seeds = np.array([1.0, 1.1, 0.9, 1.2, 0.8, 1.0]), np.full(6, 3)
    moderated, borrowed = moderate_variances(variances, seeds, 4)
    assert borrowed == MAX_BORROWED
    np.testing.assert_allclose(moderated, (2 * variances + 4 * 1.0) / 6)


def test_no_more_is_borrowed_than_the_contrasts_contain() -> None:
    assert moderate_variances(np.array([1.0, 1.1, 0.9]), np.full(3, 3), 3)[1] == 2  # (K − 2)(S − 1)
    assert moderate_variances(np.array([1.0, 1.1, 0.9]), np.full(3, 8), 3)[1] == MAX_BORROWED


def test_one_collapse_does_not_hide_the_gain_of_other_losses() -> None:
    """Scores of five seeds; the pair's own differences are 0.03 ± 0.006, whatever a third loss does."""
    rng = np.random.default_rng(1)
    base = 0.6 + 0.01 * rng.standard_normal(5)
    scores = np.stack([base, base + 0.03 + 0.006 * rng.standard_normal(5), base - np.array([0, 0.5, 0, 0, 0])])
    images = 0.02 * rng.standard_normal((3, 40)) / 40
    shares = np.repeat(images - images.mean(axis=1, keepdims=True), 5, axis=0)
    places = [{seed: 5 * loss + seed for seed in range(5)} for loss in range(3)]
    analyses = plan_analyses(2, 5)
    table = ImageTable(scores.ravel(), shares)
    (gap, without) = (
        next(pair for pair in compare_pairs(losses, table, analyses, 0.01, baseline=0) if pair.first == 1)
        for losses in (places, places[:2])
    )
    assert gap.won and gap.difference.borrowed == 0
    assert gap.difference.high == pytest.approx(without.difference.high)


@pytest.mark.parametrize(("variances", "losses"), [([1.0], 2), ([0.0, 0.0, 0.0], 3), ([0.0, 0.0, 2.0], 3)])
def test_two_finalists_or_no_variance_change_nothing(variances: list[float], losses: int) -> None:
    moderated, borrowed = moderate_variances(np.array(variances), np.full(len(variances), 3), losses)
    assert borrowed == 0
    np.testing.assert_array_equal(moderated, variances)


def test_the_spread_of_the_variances_limits_what_is_borrowed() -> None:
    """One loss 25 times as noisy: so are half of the pairs, and the others borrow nothing from them."""
    rng = np.random.default_rng(0)
    borrowed = []
    for _ in range(200):
        chi = rng.chisquare(7, 6) / 7
        borrowed.append(moderate_variances(chi * np.array([1, 1, 1, 625, 625, 625]), np.full(6, 8), 4)[1])
    assert np.median(borrowed) < 1
    similar = [moderate_variances(rng.chisquare(7, 6) / 7, np.full(6, 8), 4)[1] for _ in range(200)]
    assert np.median(similar) == MAX_BORROWED


def test_comparisons_report_the_degrees_of_freedom_that_they_use() -> None:
    runs = simulate(FOUR, 2)
    evidence = weigh(runs)
    gaps = [c.difference for c in evidence.comparisons]
    assert {gap.borrowed for gap in gaps} == {gaps[0].borrowed} and 0 < gaps[0].borrowed <= MAX_BORROWED
    for gap in gaps:
        half = compute_half_width(gap.se_seed**2, 3, gap.se_image**2, 24, 0.95, borrowed=gap.borrowed)
        assert gap.high - gap.estimate == pytest.approx(half)
    assert all(f.miou.borrowed == 0 for f in evidence.finalists)
    two = [run for run in runs if run.spec.family in {"dice", "focal"}]
    assert {c.difference.borrowed for c in weigh(two).comparisons} == {0}
