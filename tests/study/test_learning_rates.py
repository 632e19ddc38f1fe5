"""The common optimum of the learning rate, and the rates that are drawn around it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeper.core.records import Collapse, Coordinate, TrialResult
from sweeper.study.learning_rates import (
    RATE_DECADES,
    choose_best_rate,
    choose_drawn_range,
    draw_rate,
    fit_rate,
    is_one_rate,
    list_tried_rates,
    needs_lower_rate,
)
from tests.support import builders

SEARCHED = Coordinate(kind="log", low=1e-4, high=1e-2)
RATES = (3e-4, 1e-3, 3e-3)


def complete(family: str, lr: float, value: float | None) -> TrialResult:
    """Return a complete training; without a value one that diverged."""
    collapse = Collapse.DIVERGED if value is None else Collapse.NONE
    spec = builders.spec(family, lr=lr)
    return builders.trial(family, value or 0.0, spec=spec, collapse=collapse, evaluations=())


def make_curve(
    family: str, level: float, best: float, fall: float = 0.1, rates: tuple[float, ...] = RATES
) -> list[TrialResult]:
    """Return trainings without noise: `fall` mIoU a decade from the best rate."""
    return [complete(family, lr, level - fall * math.log10(lr / best) ** 2) for lr in rates]


def test_the_common_rate_without_trainings_is_the_middle_of_the_range() -> None:
    assert fit_rate([], SEARCHED) == pytest.approx(1e-3)
    assert list_tried_rates(SEARCHED) == pytest.approx((1e-3, 3e-3, 3.33e-4))
    single = Coordinate(kind="fixed", low=2e-3, high=2e-3)
    assert list_tried_rates(single) == (2e-3,) and fit_rate([complete("dice", 2e-3, 0.5)], single) == 2e-3


@pytest.mark.parametrize("best", [5e-4, 1e-3, 2e-3])
def test_families_of_different_levels_are_fitted_together(best: float) -> None:
    tried = make_curve("dice", 0.7, best) + make_curve("cross_entropy", 0.5, best) + make_curve("focal", 0.6, best)
    assert abs(math.log10(fit_rate(tried, SEARCHED) / best)) < 0.12


def test_the_lower_rate_is_tried_unless_both_losses_gain_at_the_higher() -> None:
    rates = list_tried_rates(SEARCHED)[:2]
    rising = [*make_curve("dice", 0.7, 4e-3, rates=rates), *make_curve("focal", 0.6, 4e-3, rates=rates)]
    falling = [*rising[:2], *make_curve("focal", 0.6, 5e-4, rates=rates)]
    assert not needs_lower_rate(rising, SEARCHED) and needs_lower_rate(falling, SEARCHED)


def test_a_script_keeps_each_losses_best_rate() -> None:
    rates = list_tried_rates(SEARCHED)
    tried = [complete("dice", lr, value) for lr, value in zip(rates, (0.5, 0.52, 0.4), strict=True)]
    assert choose_best_rate(tried, SEARCHED) == rates[1]
    assert choose_best_rate([*tried, complete("dice", 9e-3, None)], SEARCHED) == rates[1]
    assert choose_best_rate([complete("dice", lr, 0.5) for lr in rates[::-1]], SEARCHED) == rates[0]
    assert choose_best_rate([], SEARCHED) == rates[0]


def test_a_family_tried_at_one_rate_hardly_moves_the_common_rate() -> None:
    """Levels are each family's own: a good loss at one rate says nothing of that rate."""
    tried = make_curve("cross_entropy", 0.5, 1e-3) + make_curve("focal", 0.52, 1e-3)
    with_leader = [*tried, *(complete("dice", 5e-3, 0.75) for _ in range(6))]
    assert abs(math.log10(fit_rate(with_leader, SEARCHED) / fit_rate(tried, SEARCHED))) < 0.1


def test_one_collapsed_training_hardly_moves_the_common_rate() -> None:
    tried = make_curve("dice", 0.7, 2e-3) + make_curve("cross_entropy", 0.5, 2e-3)
    collapsed = [complete(t.spec.family, t.spec.lr, 0.1 if t is tried[1] else t.value) for t in tried]
    assert abs(math.log10(fit_rate(collapsed, SEARCHED) / 2e-3)) < 0.25


def test_trainings_that_diverge_move_the_common_rate_away() -> None:
    tried = make_curve("dice", 0.7, 1e-3, fall=0.02)
    diverged = [complete("focal", 9e-3, None), complete("dice", 8e-3, None)]
    assert fit_rate([*tried, *diverged], SEARCHED) < fit_rate(tried, SEARCHED)


def test_the_rate_of_two_noisy_losses_is_near_the_optimum() -> None:
    """Two losses as the study tries them, with noise of heavy tails: what a wrong rate costs is below a hundredth."""
    rng, costs = np.random.default_rng(3), []
    for _ in range(60):
        best, fall = rng.uniform(-3.4, -2.4), float(np.exp(rng.normal(np.log(0.1), 0.6)))
        tried = [
            complete(family, lr, float(0.6 - fall * (math.log10(lr) - best) ** 2 + 0.015 * rng.standard_t(3)))
            for family in ("dice", "focal")
            for lr in list_tried_rates(SEARCHED)
        ]
        costs.append(fall * (math.log10(fit_rate(tried, SEARCHED)) - best) ** 2)
    assert np.mean(costs) < 0.01


def test_fresh_seeds_draw_evenly_around_the_common_rate() -> None:
    rates = choose_drawn_range(1e-3, SEARCHED)
    assert math.log10(rates.high / rates.low) == pytest.approx(2 * RATE_DECADES)
    assert draw_rate(rates, 0) == pytest.approx(1e-3, rel=1e-2)
    logs = sorted(math.log10(draw_rate(rates, number)) for number in range(7))
    assert np.diff(logs) == pytest.approx(np.full(6, 2 * RATE_DECADES / 8), abs=2e-3)
    edge = choose_drawn_range(9e-3, SEARCHED)
    assert edge.high == SEARCHED.high and edge.low == pytest.approx(9e-3 / 10**RATE_DECADES)


@pytest.mark.parametrize(("low", "high", "expected"), [(1e-3, 1e-3, True), (1e-3, 1.4e-3, True), (1e-3, 2e-3, False)])
def test_a_narrow_range_is_one_rate(low: float, high: float, expected: bool) -> None:
    assert is_one_rate(Coordinate(kind="log", low=low, high=high)) is expected
