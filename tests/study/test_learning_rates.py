"""The common optimum of the learning rate, and the rates that are drawn around it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeper.core.records import Collapse, Coordinate, RateFit, TrialResult
from sweeper.study.learning_rates import (
    RATE_DECADES,
    choose_confirmation_range,
    choose_search_rate,
    draw_rate,
    fit_rates,
    is_one_rate,
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
    fit = fit_rates([], SEARCHED)
    assert fit.best == pytest.approx(1e-3) and fit.trainings == 0
    assert 0.3 < fit.spread < 0.6


@pytest.mark.parametrize("best", [4e-4, 1e-3, 4e-3])
def test_families_of_different_levels_are_fitted_together(best: float) -> None:
    tried = make_curve("dice", 0.7, best) + make_curve("cross_entropy", 0.5, best) + make_curve("focal", 0.6, best)
    fit = fit_rates(tried, SEARCHED)
    assert abs(math.log10(fit.best / best)) < 0.12
    assert fit.spread < fit_rates(tried[:3], SEARCHED).spread < fit_rates([], SEARCHED).spread


def test_a_family_tried_at_one_rate_hardly_moves_the_common_rate() -> None:
    """Levels are each family's own: a good loss at one rate says nothing of that rate."""
    tried = make_curve("cross_entropy", 0.5, 1e-3) + make_curve("focal", 0.52, 1e-3)
    with_leader = [*tried, *(complete("dice", 5e-3, 0.75) for _ in range(6))]
    assert abs(math.log10(fit_rates(with_leader, SEARCHED).best / fit_rates(tried, SEARCHED).best)) < 0.1


def test_one_collapsed_training_hardly_moves_the_common_rate() -> None:
    tried = make_curve("dice", 0.7, 2e-3) + make_curve("cross_entropy", 0.5, 2e-3)
    collapsed = [complete(t.spec.family, t.spec.lr, 0.1 if t is tried[1] else t.value) for t in tried]
    assert abs(math.log10(fit_rates(collapsed, SEARCHED).best / 2e-3)) < 0.25


def test_trainings_that_diverge_move_the_common_rate_away() -> None:
    tried = make_curve("dice", 0.7, 1e-3, fall=0.02)
    diverged = [complete("focal", 9e-3, None), complete("dice", 8e-3, None)]
    assert fit_rates([*tried, *diverged], SEARCHED).best < fit_rates(tried, SEARCHED).best


def test_the_spread_of_the_common_rate_is_its_error() -> None:
    """Trials drawn as the search draws them, with noise of heavy tails."""
    rng, errors, spreads = np.random.default_rng(3), [], []
    for _ in range(60):
        best, fall = rng.uniform(-3.4, -2.4), float(np.exp(rng.normal(np.log(0.1), 0.6)))
        levels, fit, tried = rng.normal(0.6, 0.06, 7), fit_rates([], SEARCHED), list[TrialResult]()
        for number in range(3):
            for family, level in enumerate(levels):
                lr = 1e-3 if number == 0 else choose_search_rate(fit, SEARCHED, number)
                value = level - fall * (math.log10(lr) - best) ** 2 + 0.015 * rng.standard_t(3)
                tried += [complete(str(family), lr, float(value))] * (family < 4 or number == 0)
            fit = fit_rates(tried, SEARCHED)
        errors.append(math.log10(fit.best) - best)
        spreads.append(fit.spread)
    assert np.sqrt(np.mean(np.square(errors))) < 0.25
    assert np.mean(np.abs(errors) < 2 * np.array(spreads)) > 0.9


def test_the_search_draws_near_the_common_rate_and_within_the_range() -> None:
    fit = RateFit(best=5e-3, spread=0.1, trainings=20)
    rates = [choose_search_rate(fit, SEARCHED, number) for number in range(7)]
    assert all(5e-3 / 10**0.36 <= rate <= SEARCHED.high for rate in rates)
    assert rates[1] > rates[0] > rates[2]  # the middle, then upwards, then downwards
    assert len(set(rates)) == 7
    near = [choose_search_rate(fit, SEARCHED, number, curve=False) for number in range(7)]
    assert near[0] == near[2] == rates[0] < near[1] < rates[1]  # first trials of one configuration each
    assert near[3:] == rates[3:]


def test_the_confirmation_draws_evenly_around_the_common_rate() -> None:
    rates = choose_confirmation_range(1e-3, SEARCHED)
    assert math.log10(rates.high / rates.low) == pytest.approx(2 * RATE_DECADES)
    assert draw_rate(rates, 0) == pytest.approx(1e-3, rel=1e-2)
    logs = sorted(math.log10(draw_rate(rates, number)) for number in range(7))
    assert np.diff(logs) == pytest.approx(np.full(6, 2 * RATE_DECADES / 8), abs=2e-3)
    edge = choose_confirmation_range(9e-3, SEARCHED)
    assert edge.high == SEARCHED.high and edge.low == pytest.approx(9e-3 / 10**RATE_DECADES)


@pytest.mark.parametrize(("low", "high", "expected"), [(1e-3, 1e-3, True), (1e-3, 1.4e-3, True), (1e-3, 2e-3, False)])
def test_a_narrow_range_is_one_rate(low: float, high: float, expected: bool) -> None:
    assert is_one_rate(Coordinate(kind="log", low=low, high=high)) is expected
