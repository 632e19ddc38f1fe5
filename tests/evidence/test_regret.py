"""What taking a finalist can cost: the regret from the hierarchical model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, norm

from bench import verdict_simulation as simulation
from bench.verdict_calibration import ORDER
from sweeper.core.records import TrialResult
from sweeper.evidence import regret
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.regret import compute_regrets, draw_posterior
from tests.evidence.test_paired_comparisons import weighed
from tests.support.builders import simulated_confirmations

FOUR = {"dice": 0.62, "dice_ce": 0.615, "cross_entropy": 0.6, "focal": 0.5}


def simulated(levels: dict[str, float] = FOUR, seed: int = 0, **changes: object) -> list[TrialResult]:
    return simulated_confirmations(levels, np.random.default_rng(seed), **changes)  # type: ignore[arg-type]


def exact(centre: list[float], v_seed: float, v_image: float = 0.0, freedom: float = 1e6, images: float = 10**6):
    """Compute the posterior where all pairs have one variance."""
    size = len(centre)
    pairs = np.ones((size, size)) - np.eye(size)
    return regret._draw_means(np.array(centre), v_seed * pairs, freedom, v_image * pairs, images)


def test_variances_of_pairs_give_the_covariance_of_the_contrasts() -> None:
    root = np.random.default_rng(0).normal(size=(5, 5))
    covariance = root @ root.T
    diagonal = np.diag(covariance)
    pairs = diagonal[:, None] + diagonal - 2 * covariance
    basis = regret._make_contrasts(5)
    np.testing.assert_allclose(regret._make_covariance(pairs, basis), basis.T @ covariance @ basis, atol=1e-9)


def test_with_much_data_the_posterior_of_two_is_the_normal_one_of_their_difference() -> None:
    means, weights = exact([0.0, -0.004], v_seed=0.003**2)
    gap = means[:, 0] - means[:, 1]
    shrunken = sum(  # by hand, over the grid of tau: the difference of two has variance 2 tau squared
        w * norm.cdf(0.004 * (b := 2 * t * t / (2 * t * t + 0.003**2)) / np.sqrt(b * 0.003**2))
        for t, w in _weights(0.004, 0.003**2)
    )
    assert weights.sum() == pytest.approx(1)
    assert float(weights[gap > 0].sum()) == pytest.approx(shrunken, abs=0.01)


def _weights(gap: float, variance: float) -> list[tuple[float, float]]:
    found = [
        (t, norm.pdf(gap, 0, np.sqrt(2 * t * t + variance)) * np.exp(-0.5 * (t / regret.SPREAD) ** 2) * t)
        for t in regret._TAU.tolist()
    ]
    total = sum(w for _, w in found)
    return [(t, w / total) for t, w in found]


def test_a_variance_that_five_images_tell_is_as_uncertain_as_a_chi_squared_of_four_degrees_of_freedom() -> None:
    means, weights = exact([0.0, -0.004], v_seed=1e-12, v_image=0.003**2, images=5)
    gap = means[:, 0] - means[:, 1]
    cells = []  # by hand: the variance is 4 / chi squared times what was measured
    for share in (np.arange(regret.SCALES) + 0.5) / regret.SCALES:
        variance = 0.003**2 * 4 / chi2.isf(share, 4)
        cells += [
            (
                t,
                variance,
                norm.pdf(0.004, 0, np.sqrt(2 * t * t + variance)) * np.exp(-0.5 * (t / regret.SPREAD) ** 2) * t,
            )
            for t in regret._TAU.tolist()
        ]
    total = sum(w for *_, w in cells)
    better = sum(w / total * norm.cdf(0.004 * (b := 2 * t * t / (2 * t * t + v)) / np.sqrt(b * v)) for t, v, w in cells)
    assert float(weights[gap > 0].sum()) == pytest.approx(better, abs=0.005)
    unlimited, even = exact([0.0, -0.004], v_seed=1e-12, v_image=0.003**2, images=np.inf)
    assert float(even[unlimited[:, 0] > unlimited[:, 1]].sum()) > better + 0.02


def test_probabilities_and_bounds_fit_together() -> None:
    found = weighed(simulated())
    rows = [f.regret for f in found.finalists if f.regret is not None]
    assert len(rows) == 4
    assert sum(r.best for r in rows) == pytest.approx(1)
    assert [r.expected for r in rows] == sorted(r.expected for r in rows)  # best estimate first
    for row in rows:
        assert 0 <= row.expected <= row.bound
        assert row.best <= row.within_rope <= 1
        assert (row.bound <= found.rope) == (row.within_rope >= regret.BOUND)
    assert rows[-1].best < 0.01 and rows[-1].bound > 0.05


def test_equal_finalists_are_drawn_together_and_a_lone_outlier_is_not() -> None:
    equal = weighed(simulated(dict.fromkeys(FOUR, 0.6), seed=3))
    drawn = draw_posterior(equal)
    assert drawn is not None
    raw = equal.finalists[0].miou.estimate - equal.finalists[-1].miou.estimate
    means = drawn[1] @ drawn[0]
    assert 0 <= means[0] - means[-1] < 0.7 * raw
    apart = weighed(simulated(FOUR | {"focal": 0.3}, seed=3))
    drawn = draw_posterior(apart)
    assert drawn is not None
    raw, means = apart.finalists[0].miou.estimate - apart.finalists[-1].miou.estimate, drawn[1] @ drawn[0]
    assert means[0] - means[-1] > 0.9 * raw


def test_what_cannot_be_known_is_not_told() -> None:
    alone = [r for r in simulated() if r.spec.family == "dice"]
    assert compute_regrets(weighed(alone)) is None and weighed(alone).finalists[0].regret is None
    assert compute_regrets(weighed([r for r in simulated() if r.spec.seed == 101])) is None
    one = simulated(images=1)
    assert {f.regret for f in weighed(one).finalists} == {None}


def test_two_seeds_that_agree_by_luck_are_believed_as_far_as_variances_of_trainings_go() -> None:
    """Without the prior of 3 degrees of freedom their posterior would be as narrow as their luck."""
    alike = simulated({"dice": 0.6, "focal": 0.59}, seed_sd=1e-6, interaction_sd=1e-3, images=400)
    two = weighed([r for r in alike if r.spec.seed != 103])
    drawn = draw_posterior(two)
    assert drawn is not None
    gap = two.comparisons[0].difference
    means, weights = drawn
    spread = means[:, 0] - means[:, 1]
    sd = float(np.sqrt(weights @ (spread - weights @ spread) ** 2))
    assert gap.se_seed < 1e-3 and sd > 0.004  # ROPE 0.01: 1.5 × 0.01 / √2, on 3 of 4 degrees of freedom, is 0.009


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Of the one with the least expected regret, over losses that differ by 0.01 (standard deviation)."""
    rng, held, sweeps = np.random.default_rng(4), 0, 150
    for _ in range(sweeps):
        gaps = 0.01 * rng.standard_normal(4)
        runs = simulation.trainings(*simulation.draw(simulation.STREET, 4, rng, gaps=gaps, seeds=3))
        found = compute_evidence(
            [run for loss in runs for run in loss[:3]], simulation.searched(4), classes=simulation.STREET.classes
        ).finalists
        named = min((f for f in found if f.regret is not None), key=lambda f: f.regret.expected if f.regret else 1.0)
        assert named.regret is not None
        true = gaps.max() - gaps[ORDER.index(named.family)]
        held += true <= named.regret.bound
    assert held >= 0.88 * sweeps


def test_the_gain_is_drawn_towards_the_others_and_that_of_the_baseline_is_0() -> None:
    evidence = weighed(simulated({"dice": 0.66, "dice_ce": 0.61, "cross_entropy": 0.6, "focal": 0.6}, images=60))
    assert evidence.baseline is not None
    best, base = evidence.finalists[0], evidence.finalists[evidence.baseline]
    assert best.regret is not None and base.regret is not None
    raw = best.miou.estimate - base.miou.estimate
    assert best.family == "dice" and base.regret.gain == 0
    assert best.regret.gain is not None and 0 < best.regret.gain < raw
    alone = weighed([r for r in simulated() if r.spec.family != "cross_entropy"])
    assert all(f.regret is not None and f.regret.gain is None for f in alone.finalists)
