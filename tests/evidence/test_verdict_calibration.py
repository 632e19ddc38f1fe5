"""A quick run of bench/verdict_calibration.py: the procedure keeps its error, and a broken one is caught.

The true rates of clear winners are below 5 % (bench/verdict.md has them from simulations), so that the limits here
are passed with overwhelming probability; the mutations go far beyond them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from bench import verdict_simulation as simulation
from bench.verdict_calibration import (
    ORDER,
    PlayedConfirmation,
    Task,
    compute_true_sds,
    compute_upper_limit,
    count_actions,
    count_choices,
    count_false_winners,
    count_unsafe,
    count_winners,
    find_gap,
    play_confirmation,
    simulate_oracle,
)
from tests.support.marks import rest_slow

SWEEPS = 120
LIMIT = int(binom.isf(1e-4, SWEEPS, 0.05))
"""False winners among SWEEPS that a true rate of 5 % exceeds once in 10,000 tests."""


def simulate(
    drawn_from: simulation.Scenario, losses: int, sweeps: int, key: int, **broken: object
) -> list[PlayedConfirmation]:
    rng, search = np.random.default_rng(key), simulation.make_search_trials(losses)
    drawn = (simulation.draw_counts(drawn_from, losses, rng) for _ in range(sweeps))
    keywords: dict[str, Any] = {"scenario": drawn_from, **broken}
    return [play_confirmation(simulation.make_results(*sweep), search, **keywords) for sweep in drawn]


def count_wrong(scenario: simulation.Scenario, losses: int, endings: list[PlayedConfirmation]) -> int:
    return count_false_winners(scenario, losses, Counter(p.winner for p in endings))


# --- The simulator ------------------------------------------------------------------------------------------


def test_simulated_equal_losses_have_equal_scores() -> None:
    for scenario in (simulation.BINARY, simulation.UNEQUAL, simulation.TAILS):
        one, two = simulation.simulate_population(scenario, 2, 30)
        assert one == pytest.approx(two, abs=0.002)
    one, two = simulation.simulate_population(simulation.ONE_COLLAPSES, 2, 30)
    assert one - two == pytest.approx(0.15 * (0.5 - simulation.COLLAPSED) / 2, abs=0.018)


def test_simulated_gaps_are_gaps_in_miou_and_counts_are_consistent() -> None:
    rng = np.random.default_rng(0)
    means = [
        simulation.compute_miou(simulation.draw_counts(simulation.BINARY, 2, rng, gap=0.03)[0]).mean(axis=1)
        for _ in range(60)
    ]
    assert np.diff(np.mean(means, axis=0))[0] == pytest.approx(-0.03, abs=0.004)
    counts, _ = simulation.draw_counts(simulation.TAILS, 3, rng)
    assert (counts >= 0).all()
    assert (counts[..., 0, 1] == counts[..., 1, 2]).all()  # background's false positives are the object's misses
    counts, _ = simulation.draw_counts(simulation.RARE, 3, rng)
    assert (counts >= 0).all()
    assert (counts[..., 1].sum(axis=-1) == counts[..., 2].sum(axis=-1)).all()  # what one has too much another lacks
    has_class = counts[0, 0, :, 2, [0, 2]].sum(axis=0) > 0
    assert (
        2 <= has_class.sum() < 16 and counts[:, :, ~has_class, 2, 1].any()
    )  # false alarms where there is nothing of it


def test_the_common_effect_of_a_seed_cancels_in_differences() -> None:
    rng = np.random.default_rng(2)
    means = np.stack([simulation.compute_miou(simulation.draw_counts(simulation.STREET, 2, rng)[0]) for _ in range(60)])
    unpaired, paired = means.var(axis=2, ddof=1).mean(), (means[:, 0] - means[:, 1]).var(axis=1, ddof=1).mean()
    assert 0.53 <= 1 - paired / (2 * unpaired) <= 0.99  # what pairing took away in real sweeps


# --- The product's rule -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "losses"),
    rest_slow([(simulation.COLLAPSING, 2), (simulation.BINARY, 4), (simulation.STREET, 2), (simulation.UNEQUAL, 2)]),
    ids=lambda value: getattr(value, "name", value),
)
def test_equal_losses_seldom_give_a_clear_winner_over_all_interim_analyses(
    scenario: simulation.Scenario, losses: int
) -> None:
    assert count_wrong(scenario, losses, simulate(scenario, losses, SWEEPS, 7)) <= LIMIT


@pytest.mark.slow
def test_equal_losses_seldom_cause_a_change_and_a_clear_gain_does() -> None:
    assert count_actions(Task(simulation.STREET, 4, SWEEPS, (11,))).winners["change"] <= LIMIT
    gain = count_actions(Task(simulation.BINARY, 2, 30, (12,), gap=0.05))
    assert gain.winners["change"] == 30 and np.concatenate(gain.mious).max() == 0


@pytest.mark.slow
def test_equal_losses_seldom_give_a_clear_winner_by_a_mean_over_images() -> None:
    assert count_wrong(simulation.TAILS, 4, simulate(simulation.TAILS, 4, SWEEPS, 8, metric="image_dice")) <= LIMIT


@pytest.mark.slow
def test_a_better_loss_is_found_nearly_as_often_as_by_an_oracle() -> None:
    sweeps = 150
    gap = find_gap(0.95, simulation.STREET, 2, (3,), sweeps=300)
    tally = count_winners(Task(simulation.STREET, 2, sweeps, (4,), gap=gap, to_the_end=True))
    mious = np.stack(tally.mious)
    oracle = simulate_oracle(mious, compute_true_sds(mious)).mean()
    assert oracle > 0.85
    assert tally.last_winners[ORDER[0]] >= 0.65 * oracle * sweeps
    assert tally.winners[ORDER[0]] == 0  # as it is cross-entropy, all end before: that it is kept is known
    assert tally.last_winners[ORDER[0]] >= tally.winners[ORDER[0]]
    assert tally.winners[ORDER[1]] == 0


def test_a_confirmation_ends_early_if_the_cost_of_the_loss_is_known() -> None:
    endings = simulate(simulation.BINARY, 4, 40, 5)
    assert Counter(p.ending for p in endings)["enough"] > 20
    assert np.mean([p.trainings for p in endings]) < 5 * 4


@pytest.mark.slow
def test_different_losses_get_a_correct_answer() -> None:
    tally = count_choices(Task(simulation.TAILS, 4, 60, (9,), gap=0.01))
    cost, share_correct = np.concatenate(tally.mious).mean(axis=0)
    assert cost < 0.008  # cross-entropy is kept where no gain is established
    assert share_correct > 0.85
    assert tally.winners["probable"] + tally.winners["safe"] + tally.winners["clear_winner"] <= 6


@pytest.mark.slow
def test_a_loss_that_is_worse_by_more_than_the_margin_is_seldom_called_safe() -> None:
    tally = count_unsafe(Task(simulation.BINARY, 2, 200, (10,), gap=0.0101, images=160))
    assert tally.winners["safe"] <= LIMIT


# --- Broken rules are caught --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rule_that_ignores_groups_fails_this_test() -> None:
    few_groups = simulation.FEW_GROUPS[0]
    errors = count_wrong(few_groups, 2, simulate(few_groups, 2, 120, 3, scenario=simulation.BINARY))
    assert errors > 0.12 * 120
    assert count_wrong(few_groups, 2, simulate(few_groups, 2, 120, 3)) <= binom.isf(1e-4, 120, 0.05)


def test_the_upper_limit_is_clopper_and_pearsons() -> None:
    assert compute_upper_limit(0, 100) == pytest.approx(1 - 0.025 ** (1 / 100))
    assert compute_upper_limit(100, 100) == 1
    assert binom.cdf(80, 2000, compute_upper_limit(80, 2000)) == pytest.approx(0.025)
