"""After an interim analysis of the confirmation: which losses continue, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sweeper.core.records import Evidence, InterimAnalysis, Interval, Outcome, Regret
from sweeper.evidence.choice import choose
from sweeper.evidence.confirmation_stopping import (
    CONTENDER,
    StoppingDecision,
    compute_chance_of_winner,
    decide_next_step,
)
from sweeper.evidence.intervals import compute_half_width
from sweeper.evidence.phrases import format_stop
from sweeper.evidence.regret import add_regrets
from tests.evidence.weighing import ANALYSES, PLACE, make_gap, make_three_seeds
from tests.support.builders import ORDER, evidence


def decide_step(evidence: Evidence) -> StoppingDecision:
    return decide_next_step(evidence, choose(evidence, ORDER))


def list_continuing(evidence: Evidence) -> set[str]:
    return {evidence.finalists[i].family for i in decide_step(evidence).finalists}


def test_all_finalists_that_may_be_the_best_continue() -> None:
    record = make_three_seeds({"dice": 0.715, "focal": 0.71, "tversky": 0.6, "dice_ce": 0.5}, 0.008, 0.002)
    assert list_continuing(record) == {"dice", "focal"}  # the others are beaten
    assert decide_step(record).code == "COST_OPEN"


SIMILAR = {"dice": 0.701, "focal": 0.701, "tversky": 0.695, "cross_entropy": 0.7}
KEEP = {"dice": 0.72, "focal": 0.715, "tversky": 0.69, "cross_entropy": 0.7}


def test_only_losses_that_may_still_gain_over_cross_entropy_continue() -> None:
    record = make_three_seeds(KEEP, 0.008, 0.002)
    assert choose(record, ORDER).outcome is Outcome.KEEP
    assert list_continuing(record) == {"dice", "focal", "cross_entropy"}
    assert decide_step(record).code == "GAIN_POSSIBLE" and 0.1 <= decide_step(record).chance <= 1


def test_an_unlikely_best_is_dropped_while_cross_entropy_is_kept() -> None:
    levels = {"dice": 0.76, "tversky": 0.72, "cross_entropy": 0.7}
    record = make_three_seeds(levels, 0.008, 0.002, half=0.07)
    assert choose(record, ORDER).outcome is Outcome.KEEP
    assert list_continuing(record) == {"dice", "cross_entropy"}
    close = make_three_seeds(levels | {"dice": 0.73}, 0.008, 0.002, half=0.07)
    assert list_continuing(close) == {"dice", "tversky", "cross_entropy"}


def test_a_likely_change_continues_the_confirmation() -> None:
    record = make_three_seeds({"dice": 0.725, "cross_entropy": 0.7}, 0.006, 0.001, half=0.03)
    dice, plain = record.finalists
    safe = {"regret": Regret(expected=0.004, bound=0.009, best=0.2)}
    record = record.model_copy(update={"finalists": (dice, plain.model_copy(update=safe))})
    assert decide_step(record).finalists


def test_an_unlikely_best_is_dropped_unless_a_clear_winner_is_likely() -> None:
    noisy = make_three_seeds({"dice": 0.715, "focal": 0.71, "tversky": 0.63}, 0.009, 0.002, half=0.09)
    assert noisy.finalists[2].regret.best < CONTENDER
    assert list_continuing(noisy) == {"dice", "focal"}
    likely = make_three_seeds({"dice": 0.75, "focal": 0.71, "tversky": 0.66}, 0.006, 0.002, half=0.12)
    assert decide_step(likely).code == "WINNER_LIKELY"
    assert list_continuing(likely) == {"dice", "focal", "tversky"}


NEAR = {"dice": 0.71, "tversky": 0.7}
AHEAD = {"dice": 0.73, "tversky": 0.7}
FEW = {"test_groups": 3, "few_groups": 3}
SAFE = {"dice": 0.702, "focal": 0.7, "tversky": 0.695}


def make_planned(levels: dict[str, float], **changes: Any) -> Evidence:
    return evidence(levels, **({"analyses": ANALYSES} | changes))


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (make_planned({"dice": 0.75, "focal": 0.7}), "SETTLED"),
        (make_planned({"dice": 0.702, "cross_entropy": 0.7}, half=0.005), "SETTLED"),
        (make_planned({"dice": 0.7}), "ONE_FINALIST"),
        (make_planned({"dice": 0.3, "cross_entropy": 0.2}), "NOTHING_LEARNED"),
        (make_planned(AHEAD, half=1.0, test_images=1), "ONE_IMAGE"),
        (make_planned(AHEAD, half=0.1, analyses=()), "ALL_PLANNED"),
        (make_three_seeds(NEAR, 0.02, 0.002, half=0.1, **FEW), "FEW_GROUPS"),
        (make_three_seeds({"dice": 0.708, "focal": 0.7}, 0.002, 0.001, half=0.03), "ENOUGH"),
        (make_three_seeds(SAFE, 0.003, 0.002, half=0.0095), "ENOUGH"),
        (make_three_seeds(KEEP | {"dice": 0.76}, 0.008, 0.002), "SETTLED"),
        (make_three_seeds(SIMILAR, 0.001, 0.001, half=0.0085), "ENOUGH"),
        (make_three_seeds(KEEP, 0.03, 0.03), "FUTILE"),
        (make_three_seeds(KEEP, 0.02, 0.004, **FEW), "FEW_GROUPS"),
    ],
)
def test_the_confirmation_ends_when_more_seeds_would_hardly_change_the_answer(record: Evidence, code: str) -> None:
    step = decide_step(record)
    assert (step.finalists, step.code) == ((), code)
    assert format_stop(step.code, step.chance).startswith("The confirmation ended: ")


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (make_three_seeds(NEAR, 0.02, 0.002, half=0.1), "COST_OPEN"),
        (make_three_seeds(AHEAD, 0.005, 0.002, half=0.045), "WINNER_LIKELY"),
        (make_three_seeds(NEAR, 0.02, 0.002, half=0.06), "COST_OPEN"),
    ],
)
def test_the_confirmation_continues_while_more_seeds_may_change_the_answer(record: Evidence, code: str) -> None:
    step = decide_step(record)
    assert step.finalists and step.code == code
    assert format_stop(step.code, step.chance).startswith("The confirmation continues: ")


# --- The chance of a winner ---------------------------------------------------------------------------------


def compute_chance(
    gap: Interval, seeds: int = 3, images: int = 24, analyses: Sequence[InterimAnalysis] = ANALYSES[1:]
) -> float:
    return compute_chance_of_winner([(gap, seeds)], images, 0.01, analyses)


def test_the_chance_is_the_same_each_time_and_falls_with_the_noise() -> None:
    chances = [compute_chance(make_gap(0.03, se, 0.002)) for se in (0.002, 0.006, 0.015, 0.05)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.95
    assert chances[-1] < 0.5
    assert compute_chance(make_gap(0.03, 0.006, 0.002)) == chances[1]
    # Without noise it is certainty, either way.
    assert compute_chance(make_gap(0.03, 0.0, 0.0)) == 1
    assert compute_chance(make_gap(0.005, 0.0, 0.0)) == 0  # above 0, below the margin
    assert compute_chance(make_gap(-0.03, 0.0, 0.0)) == 0
    assert compute_chance(make_gap(0.03, 0.0, 0.05)) == 0


def test_a_seed_variance_that_is_implausibly_small_is_corrected() -> None:
    # Three seeds that agree by luck: the interaction, known from many images, says how far apart they belong.
    lucky, corrected = make_gap(0.02, 0.0005, 0.002), make_gap(0.02, 0.0005, 0.002, se_both=0.02)
    assert compute_chance(corrected) < compute_chance(lucky)


def test_the_chance_agrees_with_a_simulation() -> None:
    # Truth drawn around the estimate as the flat prior has it, with a known variance: approximated by many d.o.f.
    rng = np.random.default_rng(3)
    analyses = (InterimAnalysis(seeds=60, error=0.05), InterimAnalysis(seeds=120, error=0.05))
    estimate, sd, won, repeats = 0.02, 0.06, 0, 4000
    for _ in range(repeats):
        truth = rng.normal(estimate, sd / np.sqrt(60))
        new = rng.normal(truth, sd, 60)
        mean = (estimate + new.mean()) / 2
        half = compute_half_width(sd**2 / 120, 120, 0.003**2, 200)
        won += mean >= 0.01 and mean > half
    chance = compute_chance(make_gap(estimate, sd / np.sqrt(60), 0.003), 60, 200, analyses[1:])
    assert chance == pytest.approx(won / repeats, abs=0.05)
    assert 0.05 < chance < 0.95


def test_beating_all_is_less_likely_than_one_but_more_than_independent() -> None:
    gap = make_gap(0.02, 0.009, 0.002)
    single = compute_chance(gap)
    assert 0.2 < single < 0.8
    for rivals in (2, 3, 5):
        chance = compute_chance_of_winner([(gap, 3)] * rivals, 24, 0.01, ANALYSES[1:])
        assert single**rivals + 0.03 < chance < single - 0.03
    hopeless = make_gap(0.03, 0.0, 0.05)
    assert compute_chance_of_winner([(gap, 3), (hopeless, 3)], 24, 0.01, ANALYSES[1:]) == 0


@pytest.mark.parametrize(("se_seed", "can_win"), [(0.004, True), (0.009, False)])
def test_a_comparison_with_all_its_seeds_no_longer_changes(se_seed: float, can_win: bool) -> None:
    gap = make_gap(0.02, 0.006, 0.002)
    chance = compute_chance_of_winner([(gap, 3), (make_gap(0.02, se_seed, 0.002), 8)], 24, 0.01, ANALYSES[1:])
    assert (chance > 0.2) == can_win


def test_a_change_does_not_end_the_confirmation_if_another_may_gain_more() -> None:
    """On six classes dice_focal gained +0.020 on each seed; dice_ce gained +0.116, but one seed lagged."""
    levels = {"dice_ce": 0.816, "dice_focal": 0.72, "cross_entropy": 0.7}
    halves = {("dice_ce", other): 0.16 for other in levels}
    record = add_regrets(make_planned(levels, half=0.007, halves=halves, analysis_index=PLACE[3]))
    decision = choose(record, ORDER)
    assert (decision.outcome, record.finalists[decision.use].family) == (Outcome.CHANGE, "dice_focal")
    assert list_continuing(record) >= {"dice_ce", "dice_focal"}
    last = record.model_copy(update={"analysis_index": len(ANALYSES) - 1})
    assert not decide_next_step(last, decision).finalists
