"""After an interim analysis of the confirmation: which losses continue, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sweeper.core.records import Evidence, InterimAnalysis, Interval, Regret, Verdict
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
from tests.support.builders import ORDER, evidence

ANALYSES = plan_analyses(2, 8)
PLACE = {analysis.seeds: place for place, analysis in enumerate(ANALYSES)}
EIGHT = tuple(range(101, 109))


def step(found: Evidence) -> StoppingDecision:
    return decide_next_step(found, decide_verdict(found, ORDER))


def on(found: Evidence) -> set[str]:
    return {found.finalists[i].family for i in step(found).finalists}


WIDE = {"half": 0.05, "analyses": ANALYSES, "analysis_index": PLACE[3]}


def three_seeds(levels: dict[str, float], se_seed: float, se_image: float, **changes: Any) -> Evidence:
    """Open comparisons whose standard errors are known."""
    found = evidence(levels, **(WIDE | changes))
    known = tuple(
        c.model_copy(update={"difference": c.difference.model_copy(update={"se_seed": se_seed, "se_image": se_image})})
        for c in found.comparisons
    )
    return add_regrets(found.model_copy(update={"comparisons": known}))


def test_all_that_may_be_the_best_go_on() -> None:
    levels = {"dice": 0.715, "focal": 0.71, "tversky": 0.6, "dice_ce": 0.5}
    found = three_seeds(levels, 0.008, 0.002)
    following = step(found)
    assert following.continues
    assert on(found) == {"dice", "focal"}  # the others are beaten
    assert "dice and focal continue to 4 seeds" in following.reason
    assert "as what dice can cost is open" in following.reason


ALIKE = {"dice": 0.701, "focal": 0.701, "tversky": 0.695, "cross_entropy": 0.7}
KEPT = {"dice": 0.72, "focal": 0.715, "tversky": 0.69, "cross_entropy": 0.7}


def test_while_cross_entropy_is_kept_only_those_go_on_that_may_yet_be_shown_to_gain() -> None:
    found = three_seeds(KEPT, 0.008, 0.002)
    assert decide_verdict(found, ORDER).action == "keep"
    assert step(found).continues and on(found) == {"dice", "focal", "cross_entropy"}
    assert "as a gain may still be established (" in step(found).reason
    assert "dice, focal and cross_entropy, up to 4 seeds." in step(found).reason


def test_while_cross_entropy_is_kept_a_finalist_that_is_hardly_the_best_gets_no_more_seeds() -> None:
    levels = {"dice": 0.76, "tversky": 0.72, "cross_entropy": 0.7}
    two = {"finalists": {family: {"seeds": EIGHT[:2]} for family in levels}, "analysis_index": PLACE[2]}
    found = three_seeds(levels, 0.008, 0.002, **two)
    assert decide_verdict(found, ORDER).action == "keep"
    assert on(found) == {"dice", "cross_entropy"}
    close = three_seeds(levels | {"dice": 0.73}, 0.008, 0.002, **two)
    assert on(close) == {"dice", "tversky", "cross_entropy"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (three_seeds(KEPT | {"dice": 0.76}, 0.008, 0.002), "a change to dice has an established gain."),
        (three_seeds(ALIKE, 0.001, 0.001, half=0.0085), "keeping cross-entropy costs at most 0.012"),
        (
            three_seeds(KEPT, 0.03, 0.03),
            "3 seeds: the chance that up to 8 seeds establish a gain is less than 1 %.",
        ),
        (three_seeds(KEPT, 0.02, 0.004, test_groups=3, few_groups=3), "3 groups, too few to show more, and the chance"),
    ],
)
def test_it_ends_when_the_action_is_known_or_a_change_is_hardly_to_be_shown(found: Evidence, said: str) -> None:
    assert not step(found).continues and said in step(found).reason


def test_a_change_that_is_likely_is_waited_for_unless_probable_is_enough() -> None:
    sure = {"cross_entropy": {"regret": Regret(expected=0.004, bound=0.009, within_rope=0.98, best=0.2)}}
    found = three_seeds({"dice": 0.725, "cross_entropy": 0.7}, 0.006, 0.001, half=0.03)
    known = found.finalists[1].model_copy(update=sure["cross_entropy"])
    found = found.model_copy(update={"finalists": (found.finalists[0], known)})
    assert step(found).continues
    assert not decide_next_step(found, decide_verdict(found, ORDER), "probable").continues


def test_an_unbeaten_finalist_that_is_hardly_the_best_is_left_out_unless_a_winner_is_likely() -> None:
    noisy = three_seeds({"dice": 0.715, "focal": 0.71, "tversky": 0.63}, 0.009, 0.002, half=0.09)
    tversky = noisy.finalists[2].regret
    assert tversky is not None and tversky.best < CONTENDER
    assert on(noisy) == {"dice", "focal"}
    likely = three_seeds({"dice": 0.75, "focal": 0.71, "tversky": 0.66}, 0.006, 0.002, half=0.12)
    assert step(likely).continues and "a clear winner is likely" in step(likely).reason
    assert on(likely) == {"dice", "focal", "tversky"}


NEAR = {"dice": 0.71, "tversky": 0.7}
AHEAD = {"dice": 0.73, "tversky": 0.7}
FEW = {"test_groups": 3, "few_groups": 3}
TWO = {"finalists": {family: {"seeds": EIGHT[:2]} for family in NEAR}, "analysis_index": PLACE[2]}
ONE = {"finalists": {family: {"seeds": EIGHT[:1]} for family in NEAR}, "half": 1.0, "analyses": plan_analyses(1, 5)}
SAFE = {"dice": 0.702, "focal": 0.7, "tversky": 0.695}


def planned(levels: dict[str, float], **changes: Any) -> Evidence:
    return evidence(levels, **({"analyses": ANALYSES} | changes))


@pytest.mark.parametrize(
    ("found", "until", "said"),
    [
        (planned({"dice": 0.75, "cross_entropy": 0.7}), "settled", "a clear winner is established"),
        (planned({"dice": 0.702, "cross_entropy": 0.7}, half=0.005), "settled", "equivalence is established"),
        (planned({"dice": 0.7}), "settled", "only one finalist"),
        (planned({"dice": 0.3, "cross_entropy": 0.2}), "settled", "nothing was learned"),
        (planned(AHEAD, half=1.0, test_images=1), "settled", "no number of seeds"),
        (planned(AHEAD, half=0.1, analyses=()), "settled", "all that were planned"),
        (three_seeds(NEAR, 0.02, 0.002, half=0.1, **FEW), "settled", "from 3 groups, too few to show what dice"),
        (three_seeds({"dice": 0.708, "focal": 0.7}, 0.002, 0.001, half=0.03), "settled", "chance that up to 8 seeds"),
        (three_seeds(SAFE, 0.003, 0.002, half=0.0095), "settled", "is a safe choice, and the chance"),
        (three_seeds(AHEAD, 0.005, 0.002, half=0.045), "probable", "dice costs at most"),
    ],
)
def test_it_ends_when_there_is_nothing_left_to_find_out(found: Evidence, until: Any, said: str) -> None:
    following = decide_next_step(found, decide_verdict(found, ORDER), until)
    assert (following.continues, following.finalists) == (False, ())
    assert following.reason.startswith("The confirmation ended after 3 seeds: ") and said in following.reason


@pytest.mark.parametrize(
    ("found", "until", "said"),
    [
        (three_seeds(NEAR, 0.02, 0.002, half=0.1), "settled", "what dice can cost is open"),
        (three_seeds(NEAR, 0.02, 0.002, half=0.1, **FEW, **TWO), "settled", "what dice can cost is open"),
        (planned(NEAR, **ONE), "settled", "continue to 2 seeds."),
        (three_seeds(AHEAD, 0.005, 0.002, half=0.045), "settled", "a clear winner is likely"),
        (three_seeds(NEAR, 0.02, 0.002, half=0.06), "probable", "what dice can cost is open"),
    ],
)
def test_it_goes_on_while_more_seeds_may_tell(found: Evidence, until: Any, said: str) -> None:
    following = decide_next_step(found, decide_verdict(found, ORDER), until)
    assert following.continues and following.finalists and said in following.reason


# --- The chance of a winner ---------------------------------------------------------------------------------


def measured(estimate: float, se_seed: float, se_image: float, se_both: float = 0.0, borrowed: float = 0.0) -> Interval:
    known = {"se_seed": se_seed, "se_image": se_image, "se_both": se_both, "borrowed": borrowed}
    return Interval(estimate=estimate, low=-1, high=1, **known)


def chance(
    gap: Interval, seeds: int = 3, images: int = 24, analyses: Sequence[InterimAnalysis] = ANALYSES[1:]
) -> float:
    return compute_chance_of_winner([(gap, seeds)], images, 0.01, analyses)


def test_the_chance_is_the_same_each_time_and_falls_with_the_noise() -> None:
    chances = [chance(measured(0.03, se, 0.002)) for se in (0.002, 0.006, 0.015, 0.05)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.95
    assert chances[-1] < 0.5
    assert chance(measured(0.03, 0.006, 0.002)) == chances[1]
    # Without noise it is certainty, either way.
    assert chance(measured(0.03, 0.0, 0.0)) == 1
    assert chance(measured(0.005, 0.0, 0.0)) == 0  # above 0, below the ROPE
    assert chance(measured(-0.03, 0.0, 0.0)) == 0
    assert chance(measured(0.03, 0.0, 0.05)) == 0


def test_a_seed_variance_that_is_too_small_to_be_true_is_not_believed() -> None:
    # Three seeds that agree by luck: the interaction, known from many images, says how far apart they belong.
    lucky, honest = measured(0.02, 0.0005, 0.002), measured(0.02, 0.0005, 0.002, se_both=0.02)
    assert chance(honest) < chance(lucky) < chance(measured(0.02, 0.0005, 0.002, borrowed=4.0))


def test_the_chance_agrees_with_playing_it_out() -> None:
    # Truth drawn around the estimate as the flat prior has it, with the variance known: many d.o.f. stand in for that.
    rng = np.random.default_rng(3)
    analyses = (InterimAnalysis(seeds=60, error=0.05), InterimAnalysis(seeds=120, error=0.05))
    estimate, sd, won, plays = 0.02, 0.06, 0, 4000
    for _ in range(plays):
        truth = rng.normal(estimate, sd / np.sqrt(60))
        new = rng.normal(truth, sd, 60)
        mean = (estimate + new.mean()) / 2
        half = compute_half_width(sd**2 / 120, 120, 0.003**2, 200)
        won += mean >= 0.01 and mean > half
    found = chance(measured(estimate, sd / np.sqrt(60), 0.003), 60, 200, analyses[1:])
    assert found == pytest.approx(won / plays, abs=0.05)
    assert 0.05 < found < 0.95


def test_to_beat_all_is_less_likely_than_to_beat_one_and_likelier_than_if_they_shared_nothing() -> None:
    gap = measured(0.02, 0.009, 0.002)
    alone = chance(gap)
    assert 0.2 < alone < 0.8
    for rivals in (2, 3, 5):
        found = compute_chance_of_winner([(gap, 3)] * rivals, 24, 0.01, ANALYSES[1:])
        assert alone**rivals + 0.03 < found < alone - 0.03
    hopeless = measured(0.03, 0.0, 0.05)
    assert compute_chance_of_winner([(gap, 3), (hopeless, 3)], 24, 0.01, ANALYSES[1:]) == 0


@pytest.mark.parametrize(("se_seed", "there"), [(0.004, True), (0.009, False)])
def test_a_comparison_that_has_all_its_seeds_is_what_it_is(se_seed: float, there: bool) -> None:
    gap = measured(0.02, 0.006, 0.002)
    found = compute_chance_of_winner([(gap, 3), (measured(0.02, se_seed, 0.002), 8)], 24, 0.01, ANALYSES[1:])
    assert (found > 0.2) == there


@pytest.mark.parametrize(
    "levels, half, is_open",
    [(SAFE, 0.0095, False), ({"dice": 0.701, "focal": 0.7}, 0.0099, False), (NEAR, 0.1, True), (AHEAD, 0.1, True)],
)
def test_only_an_undecided_verdict_is_called_open_at_the_last_analysis(
    levels: dict[str, float], half: float, is_open: bool
) -> None:
    last = {"analyses": ANALYSES[: PLACE[3] + 1], "analysis_index": PLACE[3]}
    found = three_seeds(levels, 0.003, 0.002, half=half, **last)
    reason = step(found).reason
    assert (decide_verdict(found, ORDER).verdict is Verdict.UNDECIDED) == is_open
    assert ("open" in reason) == is_open and not step(found).continues


def test_a_change_does_not_end_it_while_another_loss_is_expected_to_gain_more() -> None:
    """On six classes dice_focal gained +0.020 on each seed; dice_ce gained +0.116, but one seed lagged."""
    levels = {"dice_ce": 0.816, "dice_focal": 0.72, "cross_entropy": 0.7}
    pairs = [(a, b) for a in levels for b in levels if a != b]
    halves = {pair: 0.16 if "dice_ce" in pair else 0.007 for pair in pairs}
    changes = {"half": 0.007, "halves": halves, "analyses": ANALYSES, "analysis_index": PLACE[3]}
    evidence_of_three = add_regrets(evidence(levels, **changes))
    decision = decide_verdict(evidence_of_three, ORDER)
    assert (decision.action, evidence_of_three.finalists[decision.recommended or 0].family) == ("change", "dice_focal")
    assert decision.head == "Change to dice_focal: +0.020 mIoU; dice_ce may gain more (+0.12, not established)."
    following = decide_next_step(evidence_of_three, decision)
    assert following.continues
    assert {evidence_of_three.finalists[i].family for i in following.finalists} >= {"dice_ce", "dice_focal"}
    last = evidence_of_three.model_copy(update={"analysis_index": len(ANALYSES) - 1})
    assert not decide_next_step(last, decision).continues
