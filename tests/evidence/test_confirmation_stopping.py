"""After an interim analysis of the confirmation: which losses continue, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sweeper.core.records import Evidence, InterimAnalysis, Interval, Regret
from sweeper.evidence.confirmation_stopping import (
    CONTENDER,
    StoppingDecision,
    compute_chance_of_winner,
    decide_next_step,
)
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.intervals import compute_half_width
from sweeper.evidence.regret import add_regrets
from sweeper.evidence.verdict import decide_verdict
from tests.evidence.weighing import ANALYSES, EIGHT, PLACE, make_gap, make_three_seeds
from tests.support.builders import ORDER, evidence


def decide_step(evidence: Evidence) -> StoppingDecision:
    return decide_next_step(evidence, decide_verdict(evidence, ORDER))


def list_continuing(evidence: Evidence) -> set[str]:
    return {evidence.finalists[i].family for i in decide_step(evidence).finalists}


def test_all_finalists_that_may_be_the_best_continue() -> None:
    record = make_three_seeds({"dice": 0.715, "focal": 0.71, "tversky": 0.6, "dice_ce": 0.5}, 0.008, 0.002)
    step = decide_step(record)
    assert step.continues
    assert list_continuing(record) == {"dice", "focal"}  # the others are beaten
    assert "dice and focal continue to 4 seeds" in step.reason
    assert "as what dice can cost is open" in step.reason


SIMILAR = {"dice": 0.701, "focal": 0.701, "tversky": 0.695, "cross_entropy": 0.7}
KEEP = {"dice": 0.72, "focal": 0.715, "tversky": 0.69, "cross_entropy": 0.7}


def test_only_losses_that_may_still_gain_over_cross_entropy_continue() -> None:
    record = make_three_seeds(KEEP, 0.008, 0.002)
    assert decide_verdict(record, ORDER).action == "keep"
    assert list_continuing(record) == {"dice", "focal", "cross_entropy"}
    assert "as a gain may still be established (" in decide_step(record).reason
    assert "dice, focal and cross_entropy, up to 4 seeds." in decide_step(record).reason


def test_an_unlikely_best_is_dropped_while_cross_entropy_is_kept() -> None:
    levels = {"dice": 0.76, "tversky": 0.72, "cross_entropy": 0.7}
    two = {"finalists": {family: {"seeds": EIGHT[:2]} for family in levels}, "analysis_index": PLACE[2]}
    record = make_three_seeds(levels, 0.008, 0.002, **two)
    assert decide_verdict(record, ORDER).action == "keep"
    assert list_continuing(record) == {"dice", "cross_entropy"}
    close = make_three_seeds(levels | {"dice": 0.73}, 0.008, 0.002, **two)
    assert list_continuing(close) == {"dice", "tversky", "cross_entropy"}


def test_a_likely_change_continues_the_confirmation() -> None:
    record = make_three_seeds({"dice": 0.725, "cross_entropy": 0.7}, 0.006, 0.001, half=0.03)
    dice, plain = record.finalists
    safe = {"regret": Regret(expected=0.004, bound=0.009, within_margin=0.98, best=0.2)}
    record = record.model_copy(update={"finalists": (dice, plain.model_copy(update=safe))})
    assert decide_step(record).continues


def test_an_unlikely_best_is_dropped_unless_a_clear_winner_is_likely() -> None:
    noisy = make_three_seeds({"dice": 0.715, "focal": 0.71, "tversky": 0.63}, 0.009, 0.002, half=0.09)
    assert noisy.finalists[2].regret.best < CONTENDER
    assert list_continuing(noisy) == {"dice", "focal"}
    likely = make_three_seeds({"dice": 0.75, "focal": 0.71, "tversky": 0.66}, 0.006, 0.002, half=0.12)
    assert "a clear winner is likely" in decide_step(likely).reason
    assert list_continuing(likely) == {"dice", "focal", "tversky"}


NEAR = {"dice": 0.71, "tversky": 0.7}
AHEAD = {"dice": 0.73, "tversky": 0.7}
FEW = {"test_groups": 3, "few_groups": 3}
TWO = {"finalists": {family: {"seeds": EIGHT[:2]} for family in NEAR}, "analysis_index": PLACE[2]}
ONE = {"finalists": {family: {"seeds": EIGHT[:1]} for family in NEAR}, "half": 1.0, "analyses": plan_analyses(1, 5)}
SAFE = {"dice": 0.702, "focal": 0.7, "tversky": 0.695}


def make_planned(levels: dict[str, float], **changes: Any) -> Evidence:
    return evidence(levels, **({"analyses": ANALYSES} | changes))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (make_planned({"dice": 0.75, "cross_entropy": 0.7}), "a clear winner is established"),
        (make_planned({"dice": 0.702, "cross_entropy": 0.7}, half=0.005), "equivalence is established"),
        (make_planned({"dice": 0.7}), "only one finalist"),
        (make_planned({"dice": 0.3, "cross_entropy": 0.2}), "nothing was learned"),
        (make_planned(AHEAD, half=1.0, test_images=1), "no number of seeds"),
        (make_planned(AHEAD, half=0.1, analyses=()), "all that were planned"),
        (make_three_seeds(NEAR, 0.02, 0.002, half=0.1, **FEW), "from 3 groups, too few to show what dice"),
        (
            make_three_seeds({"dice": 0.708, "focal": 0.7}, 0.002, 0.001, half=0.03),
            "chance that up to 8 seeds",
        ),
        (make_three_seeds(SAFE, 0.003, 0.002, half=0.0095), "is a safe choice, and the chance"),
        (make_three_seeds(KEEP | {"dice": 0.76}, 0.008, 0.002), "a change to dice has an established gain."),
        (make_three_seeds(SIMILAR, 0.001, 0.001, half=0.0085), "keeping cross-entropy costs at most 0.011"),
        (make_three_seeds(KEEP, 0.03, 0.03), "chance that up to 8 seeds establish a gain is less than 1 %."),
        (make_three_seeds(KEEP, 0.02, 0.004, **FEW), "3 groups, too few to show more, and the chance"),
    ],
)
def test_the_confirmation_ends_when_more_seeds_would_hardly_change_the_answer(record: Evidence, reason: str) -> None:
    step = decide_next_step(record, decide_verdict(record, ORDER))
    assert (step.continues, step.finalists) == (False, ())
    assert step.reason.startswith("The confirmation ended after 3 seeds: ") and reason in step.reason


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (make_three_seeds(NEAR, 0.02, 0.002, half=0.1), "what dice can cost is open"),
        (make_three_seeds(NEAR, 0.02, 0.002, half=0.1, **FEW, **TWO), "what dice can cost is open"),
        (make_planned(NEAR, **ONE), "continue to 2 seeds."),
        (make_three_seeds(AHEAD, 0.005, 0.002, half=0.045), "a clear winner is likely"),
        (make_three_seeds(NEAR, 0.02, 0.002, half=0.06), "what dice can cost is open"),
    ],
)
def test_the_confirmation_continues_while_more_seeds_may_change_the_answer(record: Evidence, reason: str) -> None:
    step = decide_next_step(record, decide_verdict(record, ORDER))
    assert step.continues and step.finalists and reason in step.reason


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
    assert (
        compute_chance(corrected) < compute_chance(lucky) < compute_chance(make_gap(0.02, 0.0005, 0.002, borrowed=4.0))
    )


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


@pytest.mark.parametrize(
    ("levels", "half", "se_seed", "strength"),
    [
        (SAFE, 0.0095, 0.003, "shown"),
        ({"dice": 0.701, "focal": 0.7}, 0.0099, 0.003, "shown"),
        (NEAR, 0.1, 0.003, "probable"),
        (NEAR, 0.1, 0.03, "open"),
    ],
)
def test_only_an_open_verdict_is_called_open_at_the_last_analysis(
    levels: dict[str, float], half: float, se_seed: float, strength: str
) -> None:
    last = {"analyses": ANALYSES[: PLACE[3] + 1], "analysis_index": PLACE[3]}
    record = make_three_seeds(levels, se_seed, 0.002, half=half, **last)
    reason = decide_step(record).reason
    assert decide_verdict(record, ORDER).strength == strength
    assert ("open" in reason) == (strength == "open") and not decide_step(record).continues


def test_a_change_does_not_end_the_confirmation_if_another_may_gain_more() -> None:
    """On six classes dice_focal gained +0.020 on each seed; dice_ce gained +0.116, but one seed lagged."""
    levels = {"dice_ce": 0.816, "dice_focal": 0.72, "cross_entropy": 0.7}
    halves = {("dice_ce", other): 0.16 for other in levels}
    record = add_regrets(make_planned(levels, half=0.007, halves=halves, analysis_index=PLACE[3]))
    decision = decide_verdict(record, ORDER)
    assert (decision.action, record.finalists[decision.recommended].family) == ("change", "dice_focal")
    assert decision.head == "Change to dice_focal: +0.020 mIoU; dice_ce may gain more (+0.12, not established)."
    assert list_continuing(record) >= {"dice_ce", "dice_focal"}
    last = record.model_copy(update={"analysis_index": len(ANALYSES) - 1})
    assert not decide_next_step(last, decision).continues
