"""Confidence intervals on tables whose true values are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from sweeper.core import metrics
from sweeper.core.records import Interval
from sweeper.evidence.intervals import (
    ImageTable,
    compute_half_width,
    compute_paired_interval,
    compute_variance_parts,
    make_image_table,
    negate_interval,
)
from tests.support.builders import simulated_confirmations


def test_the_critical_value_is_students_for_one_source_of_error() -> None:
    assert compute_half_width(1e-4, 3, 0.0, 24) == pytest.approx(0.01 * student.ppf(0.975, 2))
    assert compute_half_width(0.0, 3, 1e-4, 24) == pytest.approx(0.01 * student.ppf(0.975, 23))
    assert compute_half_width(1e-4, 3, 0.0, 24, borrowed=4.0) == pytest.approx(0.01 * student.ppf(0.975, 6))
    mixed = (student.ppf(0.975, 2) * 1 + student.ppf(0.975, 23) * 3) / 4
    assert compute_half_width(1e-4, 3, 3e-4, 24) == pytest.approx(mixed * 0.02)
    # So are those of a table.
    scores = np.array([0.5, 0.52, 0.57])
    interval = compute_paired_interval(ImageTable(scores, np.zeros((3, 24))), (0, 1))
    assert interval.se_seed == pytest.approx(scores.std(ddof=1) / np.sqrt(3))
    assert interval.high - interval.estimate == pytest.approx(student.ppf(0.975, 2) * interval.se_seed)
    x = np.random.default_rng(0).normal(size=12)
    interval = compute_paired_interval(ImageTable(np.zeros(3), np.tile(x - x.mean(), (3, 1))), (-9, 9), 0.99)
    assert interval.se_image == pytest.approx(x.std(ddof=1) / np.sqrt(12))
    assert interval.high == pytest.approx(student.ppf(0.995, 11) * interval.se_image)


def test_a_negated_interval_is_the_mirror_image_without_minus_zero() -> None:
    mirror = negate_interval(Interval(estimate=0.0, low=-0.1, high=0.3, se_seed=0.1, se_image=0.2))
    assert (mirror.low, mirror.high, mirror.se_seed) == (-0.3, 0.1, 0.1)
    assert str(mirror.estimate) == "0.0"


def compute_miou(summed: np.ndarray) -> np.ndarray:
    return np.asarray(metrics.compute_objective(summed, np.array([True, True])))


def test_the_standard_error_from_influences_is_that_of_resampling() -> None:
    # Without its Monte-Carlo noise; here for a difference of mIoU, which is a ratio of sums.
    for seed, images in ((0, 24), (1, 40), (2, 120)):
        runs = simulated_confirmations({"dice": 0.6, "focal": 0.58}, np.random.default_rng(seed), images=images)
        counts = np.stack([metrics.count_at_point(run.test, 0.5) for run in runs])
        table = make_image_table(counts, compute_miou).select_rows([0, 1, 2], [3, 4, 5])
        drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), 8000)
        values = compute_miou(np.einsum("bn,rnkc->brkc", drawn, counts))
        resampled = (values[:, :3] - values[:, 3:]).mean(axis=1).std() * np.sqrt(images / (images - 1))
        columns = table.shares.mean(axis=0)
        standard_error = np.sqrt(np.square(columns).sum() / (images * (images - 1)))
        assert standard_error == pytest.approx(resampled, rel=0.05)
        np.testing.assert_allclose(table.shares.sum(axis=1), 0, atol=1e-7)


def test_the_influence_of_an_image_on_miou_is_the_derivative() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 500, (4, 9, 5, 3))
    counts[:, 1:, 4] = 0  # a class of a single image
    classes = np.array([True, True, False, True, True])
    table = make_image_table(counts, lambda summed: metrics.compute_objective(summed, classes))
    union, true = counts.sum(axis=-1), counts[..., 0]
    iou = (true.sum(axis=1) / union.sum(axis=1))[:, None]
    of_classes = (true - iou * union) / union.sum(axis=1)[:, None]
    np.testing.assert_allclose(table.shares, 9 * of_classes[..., classes].mean(axis=-1), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(table.shares.sum(axis=1), 0, atol=1e-7)


def test_the_variance_is_unbiased_and_counts_the_interaction_once() -> None:
    # A crossed two-way layout whose components are known: seeds 0.3, images 0.8, both 2.
    rng, seeds, images, variances = np.random.default_rng(0), 4, 12, []
    for _ in range(4000):
        x = 0.3 * rng.normal(size=(seeds, 1)) + 0.8 * rng.normal(size=images) + 2 * rng.normal(size=(seeds, images))
        means = x.mean(axis=1)
        parts = compute_variance_parts(ImageTable(means, x - means[:, None]))
        variances.append((parts.v_seed, parts.v_seed + parts.v_image, means.mean() ** 2))
    v_seed, total, true = np.mean(variances, axis=0)
    assert v_seed == pytest.approx(0.09 / seeds + 4 / (seeds * images), rel=0.05)
    assert true == pytest.approx(0.09 / seeds + 0.64 / images + 4 / (seeds * images), rel=0.08)
    assert total == pytest.approx(true, rel=0.12)  # counting it twice would add a half
    # Where the interaction is all there is, nothing is left to the choice of images (except for chance, upwards).
    interactions = np.random.default_rng(1).normal(size=(300, seeds, images))
    parts_of_all = [
        compute_variance_parts(ImageTable(x.mean(axis=1), x - x.mean(axis=1, keepdims=True))) for x in interactions
    ]
    total = np.mean([p.v_seed + p.v_image for p in parts_of_all])
    assert total == pytest.approx(1 / (seeds * images), rel=0.35)  # counted twice it would be 2 / (S n)
    assert all(p.v_both <= p.v_seed for p in parts_of_all)


@pytest.mark.parametrize(("seeds", "images"), [(1, 24), (3, 1), (3, 0), (1, 1), (0, 0)])
def test_a_table_too_small_for_a_variance_gives_the_full_range(seeds: int, images: int) -> None:
    interval = compute_paired_interval(ImageTable(np.full(seeds, 0.2), np.zeros((seeds, images))), (-1, 1))
    assert (interval.low, interval.high) == (-1, 1)
    assert max(interval.se_seed, interval.se_image) == 1


def test_few_groups_have_a_prior_of_their_variance() -> None:
    """V ← ((n − 1) v + 3 · 0.03² / n) / (n + 2) on n + 2 degrees of freedom, with folds after their factor."""
    shares = np.array([[0.01, -0.01], [0.01, -0.01], [0.01, -0.01]])
    table = ImageTable(np.full(3, 0.05), shares, folds=5, prior=0.03)
    interval, without = (compute_paired_interval(each, (-1, 1)) for each in (table, replace(table, prior=0.0)))
    assert without.se_image**2 == pytest.approx(1.25 * 1e-4)
    assert interval.se_image**2 == pytest.approx((1.25 * 1e-4 + 3 * 0.03**2 / 2) / 4)
    half = student.ppf(0.975, 4) * interval.se_image
    assert interval.high - interval.estimate == pytest.approx(half)
    assert table.select_rows([0, 1], [1, 2]).prior == 0.03


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_with_two_images_the_interval_is_no_narrower_than_of_the_images_alone(level: float) -> None:
    """Of ten seeds: their interaction is then in the images' part, which has one degree of freedom."""
    rng = np.random.default_rng(2)
    values = rng.normal(0.05, 0.05, (1, 2)) + rng.normal(0, 0.03, (10, 2))
    scores = values.mean(axis=1)
    table = ImageTable(scores, values - scores[:, None])
    interval = compute_paired_interval(table, (-9, 9), level)
    images = values.mean(axis=0)
    half = student.ppf((1 + level) / 2, 1) * images.std(ddof=1) / 2**0.5
    assert interval.se_image == pytest.approx(images.std(ddof=1) / 2**0.5)
    assert interval.high - interval.estimate >= half - 1e-12
