"""A quick run of bench/answer_calibration.py: the procedure keeps its error, and a broken one is caught.

The true rates of false changes are at most 5 % (bench/answer.md has them from simulations), so that the limits here
are passed with overwhelming probability; the mutations go far beyond them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from bench import answer_simulation as simulation
from bench.answer_calibration import (
    PlayedConfirmation,
    Task,
    compute_upper_limit,
    count_changes,
    count_costs,
    play_confirmation,
)
from sweeper.core.records import Outcome, Sure
from tests.support.marks import rest_slow

STUDIES = 120
LIMIT = int(binom.isf(1e-4, STUDIES, 0.05))
"""False changes among STUDIES that a true rate of 5 % exceeds once in 10,000 tests."""


def simulate(
    drawn_from: simulation.Scenario, losses: int, studies: int, key: int, **broken: object
) -> list[PlayedConfirmation]:
    rng, search = np.random.default_rng(key), simulation.make_search_trials(losses)
    drawn = (simulation.draw_counts(drawn_from, losses, rng) for _ in range(studies))
    keywords: dict[str, Any] = {"scenario": drawn_from, **broken}
    return [play_confirmation(simulation.make_results(*study), search, **keywords) for study in drawn]


def count_false_changes(endings: list[PlayedConfirmation]) -> int:
    return sum(played.choice.outcome is Outcome.CHANGE for played in endings)


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
    rest_slow([(simulation.STREET, 3), (simulation.BINARY, 4), (simulation.UNEQUAL, 3), (simulation.COLLAPSING, 2)]),
    ids=lambda value: getattr(value, "name", value),
)
def test_equal_losses_seldom_cause_a_change(scenario: simulation.Scenario, losses: int) -> None:
    assert count_changes(Task(scenario, losses, STUDIES, (11,))).counts["change"] <= LIMIT


@pytest.mark.slow
def test_a_clear_gain_causes_a_change_whose_lower_end_is_below_the_truth() -> None:
    gain = count_changes(Task(simulation.BINARY, 2, 30, (12,), gap=0.05))
    assert gain.counts["change"] == 30 and max(gain.values["cost"]) == 0
    assert gain.compute_mean("is below") > 0.85


@pytest.mark.slow
def test_equal_losses_seldom_cause_a_change_by_a_mean_over_images() -> None:
    endings = simulate(simulation.TAILS, 4, STUDIES, 8, metric="image_dice")
    assert count_false_changes(endings) <= LIMIT


def test_a_confirmation_ends_early_if_the_cost_of_the_loss_is_known() -> None:
    endings = simulate(simulation.BINARY, 4, 40, 5)
    assert sum(played.choice.sure is not Sure.OPEN for played in endings) > 8
    assert np.mean([played.trainings for played in endings]) < 5 * 4


@pytest.mark.slow
def test_different_losses_get_a_correct_answer() -> None:
    tally = count_costs(Task(simulation.TAILS, 4, 60, (9,), spread=0.01))
    assert tally.compute_mean("cost") < 0.008  # the present loss is kept where no gain is established
    assert tally.compute_mean("holds") > 0.85
    assert tally.counts["wrong"] <= 6


# --- Broken rules are caught --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rule_that_ignores_groups_fails_this_test() -> None:
    few_groups = simulation.FEW_GROUPS[0]
    errors = count_false_changes(simulate(few_groups, 2, 120, 3, scenario=simulation.BINARY))
    assert errors > 0.12 * 120
    assert count_false_changes(simulate(few_groups, 2, 120, 3)) <= binom.isf(1e-4, 120, 0.05)


def test_the_upper_limit_is_clopper_and_pearsons() -> None:
    assert compute_upper_limit(0, 100) == pytest.approx(1 - 0.025 ** (1 / 100))
    assert compute_upper_limit(100, 100) == 1
    assert binom.cdf(80, 2000, compute_upper_limit(80, 2000)) == pytest.approx(0.025)
