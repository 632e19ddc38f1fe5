"""The regret: what choosing a finalist can cost, from the hierarchical model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, norm

from bench import answer_simulation as simulation
from bench.answer_calibration import ORDER
from sweeper.evidence import regret
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.regret import compute_regrets, draw_posterior
from tests.evidence.weighing import simulate, weigh
from tests.support.builders import CONFIRM_SEEDS

FOUR = {"dice": 0.62, "dice_ce": 0.615, "cross_entropy": 0.6, "focal": 0.5}


def draw_exact(centre: list[float], v_seed: float, v_image: float = 0.0, freedom: float = 1e6, images: float = 10**6):
    """Compute the posterior where all pairs have one variance."""
    size = len(centre)
    pairs = np.ones((size, size)) - np.eye(size)
    return regret._draw_means(np.array(centre), v_seed * pairs, freedom, v_image * pairs, images - 1)


def test_variances_of_pairs_give_the_covariance_of_the_contrasts() -> None:
    root = np.random.default_rng(0).normal(size=(5, 5))
    covariance = root @ root.T
    diagonal = np.diag(covariance)
    pairs = diagonal[:, None] + diagonal - 2 * covariance
    basis = regret._make_contrasts(5)
    np.testing.assert_allclose(regret._make_covariance(pairs, basis), basis.T @ covariance @ basis, atol=1e-9)


def test_the_posterior_of_two_losses_with_much_data_is_normal() -> None:
    means, weights = draw_exact([0.0, -0.004], v_seed=0.003**2)
    assert weights.sum() == pytest.approx(1)
    chance = float(weights[means[:, 0] > means[:, 1]].sum())
    assert chance == pytest.approx(compute_chance_of_lead(0.004, [0.003**2]), abs=0.01)


def weigh_spreads(gap: float, variances: list[float]) -> list[tuple[float, float, float]]:
    """Return the posterior weight of each standard deviation of the losses and variance of their gap, by hand."""
    cells = [
        (t, v, norm.pdf(gap, 0, np.sqrt(2 * t * t + v)) * t / (1 + (t / regret.SPREAD) ** 2))
        for t in regret._TAU.tolist()
        for v in variances
    ]
    total = sum(w for *_, w in cells)
    return [(t, v, w / total) for t, v, w in cells]


def compute_chance_of_lead(gap: float, variances: list[float]) -> float:
    """Return the probability that the loss ahead by `gap` is the better one: the difference of two has variance 2t²."""
    shares = [(w, v, 2 * t * t / (2 * t * t + v)) for t, v, w in weigh_spreads(gap, variances)]
    return sum(w * norm.cdf(gap * share / np.sqrt(share * v)) for w, v, share in shares)


def test_the_variance_of_five_images_has_four_degrees_of_freedom() -> None:
    means, weights = draw_exact([0.0, -0.004], v_seed=1e-12, v_image=0.003**2, images=5)
    chance = float(weights[means[:, 0] > means[:, 1]].sum())
    shares = (np.arange(regret.SCALES) + 0.5) / regret.SCALES
    expected = compute_chance_of_lead(0.004, (0.003**2 * 4 / chi2.isf(shares, 4)).tolist())
    assert chance == pytest.approx(expected, abs=0.005)
    means, weights = draw_exact([0.0, -0.004], v_seed=1e-12, v_image=0.003**2, images=np.inf)
    assert float(weights[means[:, 0] > means[:, 1]].sum()) > expected + 0.02


def test_a_gap_beyond_the_prior_is_not_underestimated() -> None:
    means, weights = draw_exact([0.0, -0.223], v_seed=0.12**2, freedom=5)
    cost = means.max(axis=1) - means[:, 1]
    assert float(weights[cost <= 0.223].sum()) < regret.BOUND


def test_probabilities_and_bounds_agree() -> None:
    evidence = weigh(simulate(FOUR))
    rows = [f.regret for f in evidence.finalists]
    assert len(rows) == 4
    assert sum(r.best for r in rows) == pytest.approx(1)
    assert [r.expected for r in rows] == sorted(r.expected for r in rows)  # best estimate first
    for row in rows:
        assert 0 <= row.expected <= row.bound
        assert 0 <= row.best <= 1
    assert rows[-1].best < 0.01 and rows[-1].bound > 0.05


def test_equal_finalists_are_shrunk_together_but_not_an_outlier() -> None:
    def compare_gaps(levels: dict[str, float]) -> tuple[float, float]:
        """Return the measured gap of the first and the last loss, and that of the posterior."""
        evidence = weigh(simulate(levels, 3))
        draws, weights = draw_posterior(evidence)
        means = weights @ draws
        return evidence.finalists[0].miou.estimate - evidence.finalists[-1].miou.estimate, means[0] - means[-1]

    measured, posterior = compare_gaps(dict.fromkeys(FOUR, 0.6))
    assert 0 <= posterior < 0.7 * measured
    measured, posterior = compare_gaps(FOUR | {"focal": 0.3})
    assert posterior > 0.9 * measured


def test_a_regret_needs_two_losses_two_seeds_and_two_images() -> None:
    dice_runs = [r for r in simulate(FOUR) if r.spec.family == "dice"]
    assert compute_regrets(weigh(dice_runs)) is None and weigh(dice_runs).finalists[0].regret is None
    assert compute_regrets(weigh([r for r in simulate(FOUR) if r.spec.seed == CONFIRM_SEEDS[0]])) is None
    one_image = simulate(FOUR, images=1)
    assert {f.regret for f in weigh(one_image).finalists} == {None}


def test_two_seeds_that_agree_by_chance_do_not_narrow_the_posterior() -> None:
    """Without the prior of 3 degrees of freedom their posterior would be as narrow as their luck."""
    runs = simulate({"dice": 0.6, "focal": 0.59}, seed_sd=1e-6, interaction_sd=1e-3, images=400)
    two_seeds = weigh([r for r in runs if r.spec.seed != CONFIRM_SEEDS[2]])
    means, weights = draw_posterior(two_seeds)
    gap = two_seeds.comparisons[0].difference
    spread = means[:, 0] - means[:, 1]
    sd = float(np.sqrt(weights @ (spread - weights @ spread) ** 2))
    assert gap.se_seed < 1e-3 and sd > 0.004  # margin 0.01: 1.5 × 0.01 / √2, on 3 of 4 degrees of freedom, is 0.009


def test_the_bound_holds_as_often_as_its_level() -> None:
    """Of the one with the least expected regret, over losses that differ by 0.01 (standard deviation)."""
    rng, hits, sweeps = np.random.default_rng(4), 0, 150
    for _ in range(sweeps):
        gaps = 0.01 * rng.standard_normal(4)
        runs = simulation.make_results(*simulation.draw_counts(simulation.STREET, 4, rng, gaps=gaps, seeds=3))
        finalists = compute_evidence(
            [run for loss in runs for run in loss[:3]],
            simulation.make_search_trials(4),
            classes=simulation.STREET.classes,
        ).finalists
        best = min(finalists, key=lambda finalist: finalist.regret.expected)
        hits += gaps.max() - gaps[ORDER.index(best.family)] <= best.regret.bound
    assert hits >= 0.88 * sweeps
