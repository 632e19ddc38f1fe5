"""Interim analyses of the confirmation: their levels, who goes on, and when it ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeper.core.records import Evidence, InterimAnalysis, Interval, TrialResult, Verdict
from sweeper.evidence.confirmation_stopping import CONTENDER, NextStep, chance_of_a_winner, next_step, planned_analyses
from sweeper.evidence.interim_analyses import analysis_at, level_at
from sweeper.evidence.intervals import half_width
from sweeper.evidence.paired_comparisons import weigh
from sweeper.evidence.regret import with_regrets
from sweeper.evidence.verdict import decide
from sweeper.evidence.what_would_settle import planned_half_width, seeds_needed
from tests.support.builders import (
    BINARY,
    ORDER,
    confirmation,
    counts_from_iou,
    evidence,
    simulated_confirmations,
    trial,
)

SEARCH = {family: trial(family, 0.7, i) for i, family in enumerate(ORDER)}
ANALYSES = planned_analyses(2, 8)
PLACE = {analysis.seeds: place for place, analysis in enumerate(ANALYSES)}
EIGHT = tuple(range(101, 109))


def simulated(levels: dict[str, float], seed: int = 0, **noise: Any) -> list[TrialResult]:
    return simulated_confirmations(levels, np.random.default_rng(seed), seeds=EIGHT, **noise)


def weighed(
    runs: list[TrialResult], have: dict[str, int] | int = 3, analyses: tuple[InterimAnalysis, ...] = ANALYSES
) -> Evidence:
    """Evidence of the first so many seeds, of all or by family."""
    taken = [
        run for run in runs if EIGHT.index(run.spec.seed) < (have if isinstance(have, int) else have[run.spec.family])
    ]
    return weigh(taken, SEARCH, classes=BINARY, analyses=analyses)


def step(found: Evidence) -> NextStep:
    return next_step(found, decide(found, ORDER))


def on(found: Evidence) -> set[str]:
    return {found.finalists[i].family for i in step(found).finalists}


def gap(found: Evidence, first: str, second: str) -> Interval:
    names = [f.family for f in found.finalists]
    return next(c.difference for c in found.comparisons if (names[c.first], names[c.second]) == (first, second))


# --- The plan -----------------------------------------------------------------------------------------------


def test_the_race_s_interim_analyses_spend_the_error_as_planned_and_nothing_on_two_seeds() -> None:
    spent = [(2, 0), (3, 0.02), (4, 0.01), (5, 0.008), (6, 0.006), (8, 0.006)]
    assert [(analysis.seeds, round(analysis.spends, 6)) for analysis in ANALYSES] == spent
    assert planned_analyses(3, 8) == ANALYSES[1:]  # a MIN of one's own stays a minimum, and changes no level


@pytest.mark.parametrize(
    ("least", "most", "seeds"),
    [
        (3, 3, [3]),
        (2, 2, [2]),
        (1, 3, [1, 2, 3]),
        (3, 7, [3, 4, 5, 6, 7]),
        (2, 8, [2, 3, 4, 5, 6, 8]),
        (5, 34, [5, 6, 8, 13, 21, 34]),
    ],
)
def test_every_plan_spends_five_per_cent_on_what_can_show_anything(least: int, most: int, seeds: list[int]) -> None:
    analyses = planned_analyses(least, most)
    assert [analysis.seeds for analysis in analyses] == seeds
    spending = [analysis for analysis in analyses if analysis.spends]
    assert [analysis.seeds for analysis in spending] == [n for n in seeds if n >= 3]
    if spending:
        assert sum(analysis.spends for analysis in spending) == pytest.approx(0.05)
        assert all(analysis.error >= analysis.spends for analysis in spending)
        assert spending[0].error == spending[0].spent


@pytest.mark.parametrize(("least", "most"), [(3, 8), (3, 5), (2, 13)])
def test_every_interim_analysis_lets_through_what_it_spends(least: int, most: int) -> None:
    analyses, paths = planned_analyses(least, most), 60_000
    values = np.random.default_rng(7).standard_normal((paths, most))
    alive = np.ones(paths, dtype=bool)
    for analysis in (analysis for analysis in analyses if analysis.spends):
        p = stats.ttest_1samp(values[:, : analysis.seeds], 0.0, axis=1).pvalue
        through = int((alive & (p < analysis.error)).sum())
        low, high = stats.binom.interval(1 - 1e-4, paths, analysis.spends)
        assert low <= through <= high, f"{analysis}: {through / paths:.4f}"
        alive &= p >= analysis.error


def test_one_sided_ends_of_all_interim_analyses_hold_together_in_95_per_cent() -> None:
    """They are those of intervals at twice the error: what one side spends, and no more."""
    paths = 60_000
    values = np.random.default_rng(8).standard_normal((paths, 8))
    wrong = np.zeros(paths, dtype=bool)
    for analysis in ANALYSES[1:]:
        below = stats.ttest_1samp(values[:, : analysis.seeds], 0.0, axis=1, alternative="less").pvalue
        wrong |= below < analysis.error
    assert 0.03 < wrong.mean() < 0.05


@pytest.mark.parametrize(("least", "most"), [(0, 3), (5, 3)])
def test_an_impossible_plan_is_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match=rf"1 ≤ MIN ≤ MAX, got {least}\.\.{most}"):
        planned_analyses(least, most)


def test_a_number_of_seeds_belongs_to_the_first_interim_analysis_that_has_as_many() -> None:
    assert [analysis_at(ANALYSES, seeds) for seeds in (1, 3, 4, 5, 6, 7, 8, 9)] == [0, 1, 2, 3, 4, 5, 5, 5]
    assert analysis_at((), 3) == 0
    assert level_at((), 3) == 0.95
    assert level_at(ANALYSES, 5) == pytest.approx(1 - ANALYSES[3].error)
    assert level_at(ANALYSES, 13) == pytest.approx(1 - ANALYSES[-1].error)


# --- Weighing at an interim analysis ------------------------------------------------------------------------


def test_differences_are_at_the_level_of_their_interim_analysis_and_own_scores_at_95() -> None:
    runs = simulated({"dice": 0.6, "cross_entropy": 0.55})
    for have, number in PLACE.items():
        found = weighed(runs, have)
        assert (found.analyses, found.analysis_index) == (ANALYSES, number)
        for interval, seeds, level in (
            (gap(found, "dice", "cross_entropy"), have, 1 - ANALYSES[number].error),
            (found.finalists[0].miou, have, 0.95),
        ):
            half = half_width(interval.se_seed**2, seeds, interval.se_image**2, 24, level)
            assert interval.high - interval.estimate == pytest.approx(half)
    plain = weighed(runs, 3, analyses=())
    assert plain.analysis_index == 0
    assert gap(plain, "dice", "cross_entropy").low > gap(weighed(runs, 3), "dice", "cross_entropy").low


def test_a_finalist_that_was_dropped_keeps_its_seeds_and_the_level_of_its_interim_analysis() -> None:
    runs = simulated({"dice": 0.7, "focal": 0.69, "cross_entropy": 0.3})
    have = {"dice": 5, "focal": 5, "cross_entropy": 3}
    before, after = weighed(runs, 3), weighed(runs, have)
    assert after.analysis_index == PLACE[5]
    assert {f.family: len(f.seeds) for f in after.finalists} == have
    assert gap(after, "dice", "cross_entropy") == gap(before, "dice", "cross_entropy")
    assert gap(after, "dice", "focal") != gap(before, "dice", "focal")


# --- What follows -------------------------------------------------------------------------------------------

WIDE = {"half": 0.05, "analyses": ANALYSES, "analysis_index": PLACE[3]}


def three_seeds(levels: dict[str, float], se_seed: float, se_image: float, **changes: Any) -> Evidence:
    """Open comparisons whose standard errors are known."""
    found = evidence(levels, **(WIDE | changes))
    known = tuple(
        c.model_copy(update={"difference": c.difference.model_copy(update={"se_seed": se_seed, "se_image": se_image})})
        for c in found.comparisons
    )
    return with_regrets(found.model_copy(update={"comparisons": known}))


def test_all_that_may_be_the_best_go_on_and_the_baseline_while_it_is_unbeaten() -> None:
    levels = {"dice": 0.715, "focal": 0.71, "tversky": 0.6, "cross_entropy": 0.5}
    found = three_seeds(levels, 0.008, 0.002)
    following = step(found)
    assert following.go_on
    assert on(found) == {"dice", "focal"}  # tversky is beaten, and so is the baseline
    assert "dice and focal go on to 4 seeds" in following.reason
    assert "as what dice can cost is open" in following.reason
    behind = {("dice", "cross_entropy"): 0.3, ("dice", "tversky"): 0.3}
    unbeaten = three_seeds(levels, 0.008, 0.002, halves=behind)
    baseline = unbeaten.finalists[3].regret
    assert baseline is not None and baseline.best < CONTENDER
    assert on(unbeaten) == {"dice", "focal", "cross_entropy"}


def test_an_unbeaten_finalist_that_is_hardly_the_best_is_left_out_unless_a_winner_is_likely() -> None:
    noisy = three_seeds({"dice": 0.715, "focal": 0.71, "tversky": 0.63}, 0.009, 0.002, half=0.09)
    tversky = noisy.finalists[2].regret
    assert tversky is not None and tversky.best < CONTENDER
    assert on(noisy) == {"dice", "focal"}
    likely = three_seeds({"dice": 0.75, "focal": 0.71, "tversky": 0.66}, 0.006, 0.002, half=0.12)
    assert step(likely).go_on and "a clear winner is likely" in step(likely).reason
    assert on(likely) == {"dice", "focal", "tversky"}


def test_a_dropped_finalist_goes_on_again_when_the_new_leader_does_not_beat_it() -> None:
    few = {"seeds": EIGHT[:3]}
    more = {"seeds": EIGHT[:5]}
    found = three_seeds(
        {"dice": 0.715, "focal": 0.71, "cross_entropy": 0.5},
        0.008,
        0.002,
        finalists={"dice": more, "focal": few, "cross_entropy": more},
        analysis_index=PLACE[5],
    )
    assert "focal" in on(found)


NEAR = {"dice": 0.71, "cross_entropy": 0.7}
AHEAD = {"dice": 0.73, "cross_entropy": 0.7}
FEW = {"test_groups": 3, "few_groups": 3}
TWO = {"finalists": {family: {"seeds": EIGHT[:2]} for family in NEAR}, "analysis_index": PLACE[2]}
ONE = {"finalists": {family: {"seeds": EIGHT[:1]} for family in NEAR}, "half": 1.0, "analyses": planned_analyses(1, 5)}
SAFE = {"dice": 0.702, "focal": 0.7, "cross_entropy": 0.695}


def planned(levels: dict[str, float], **changes: Any) -> Evidence:
    return evidence(levels, **({"analyses": ANALYSES} | changes))


@pytest.mark.parametrize(
    ("found", "until", "said"),
    [
        (planned({"dice": 0.75, "cross_entropy": 0.7}), "settled", "a clear winner is shown"),
        (planned({"dice": 0.702, "cross_entropy": 0.7}, half=0.005), "settled", "equivalence is shown"),
        (planned({"dice": 0.7}), "settled", "only one finalist"),
        (planned({"dice": 0.3, "cross_entropy": 0.2}), "settled", "nothing was learned"),
        (planned(AHEAD, half=1.0, test_images=1), "settled", "no number of seeds"),
        (planned(AHEAD, half=0.1, analyses=()), "settled", "all that were planned"),
        (three_seeds(AHEAD, 0.01, 0.002, analysis_index=PLACE[8]), "settled", "all that were planned"),
        (three_seeds(NEAR, 0.02, 0.002, half=0.1, **FEW), "settled", "from 3 groups, too few to show what dice"),
        (three_seeds({"dice": 0.708, "focal": 0.7}, 0.002, 0.001, half=0.03), "settled", "chance that up to 8 seeds"),
        (three_seeds(SAFE, 0.003, 0.002, half=0.0095), "settled", "is a safe choice, and the chance"),
        (three_seeds(AHEAD, 0.005, 0.002, half=0.045), "probable", "dice costs at most"),
    ],
)
def test_it_ends_when_there_is_nothing_left_to_find_out(found: Evidence, until: Any, said: str) -> None:
    following = next_step(found, decide(found, ORDER), until)
    assert (following.go_on, following.finalists) == (False, ())
    assert following.reason.startswith("The confirmation ended after 3 seeds: ") and said in following.reason


@pytest.mark.parametrize(
    ("found", "until", "said"),
    [
        (three_seeds(NEAR, 0.02, 0.002, half=0.1), "settled", "what dice can cost is open"),
        (three_seeds(NEAR, 0.02, 0.002, half=0.1, **FEW, **TWO), "settled", "what dice can cost is open"),
        (planned(NEAR, **ONE), "settled", "go on to 2 seeds."),
        (three_seeds(AHEAD, 0.005, 0.002, half=0.045), "settled", "a clear winner is likely"),
        (three_seeds(NEAR, 0.02, 0.002, half=0.06), "probable", "what dice can cost is open"),
    ],
)
def test_it_goes_on_while_more_seeds_may_tell(found: Evidence, until: Any, said: str) -> None:
    following = next_step(found, decide(found, ORDER), until)
    assert following.go_on and following.finalists and said in following.reason


# --- The chance of a winner ---------------------------------------------------------------------------------


def measured(estimate: float, se_seed: float, se_image: float, se_both: float = 0.0, borrowed: float = 0.0) -> Interval:
    known = {"se_seed": se_seed, "se_image": se_image, "se_both": se_both, "borrowed": borrowed}
    return Interval(estimate=estimate, low=-1, high=1, **known)


def chance(
    gap: Interval, seeds: int = 3, images: int = 24, analyses: Sequence[InterimAnalysis] = ANALYSES[1:]
) -> float:
    return chance_of_a_winner([(gap, seeds)], images, 0.01, analyses)


def test_the_chance_is_the_same_each_time_and_falls_with_the_noise() -> None:
    chances = [chance(measured(0.03, se, 0.002)) for se in (0.002, 0.006, 0.015, 0.05)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.95
    assert chances[-1] < 0.5
    assert chance(measured(0.03, 0.006, 0.002)) == chances[1]


def test_without_noise_the_chance_is_certainty_either_way() -> None:
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
        half = half_width(sd**2 / 120, 120, 0.003**2, 200)
        won += mean >= 0.01 and mean > half
    found = chance(measured(estimate, sd / np.sqrt(60), 0.003), 60, 200, analyses[1:])
    assert found == pytest.approx(won / plays, abs=0.05)
    assert 0.05 < found < 0.95


def test_to_beat_all_is_less_likely_than_to_beat_one_and_likelier_than_if_they_shared_nothing() -> None:
    gap = measured(0.02, 0.009, 0.002)
    alone = chance(gap)
    assert 0.2 < alone < 0.8
    for rivals in (2, 3, 5):
        found = chance_of_a_winner([(gap, 3)] * rivals, 24, 0.01, ANALYSES[1:])
        assert alone**rivals + 0.03 < found < alone - 0.03


def test_a_comparison_that_is_certain_changes_nothing_and_a_hopeless_one_everything() -> None:
    gap, certain, hopeless = measured(0.02, 0.009, 0.002), measured(0.2, 0.0, 0.0), measured(0.03, 0.0, 0.05)
    assert chance_of_a_winner([(gap, 3), (hopeless, 3)], 24, 0.01, ANALYSES[1:]) == 0
    found = chance_of_a_winner([(gap, 3), (certain, 3)], 24, 0.01, ANALYSES[1:])
    assert found == pytest.approx(chance(gap), abs=0.05)


@pytest.mark.parametrize(("se_seed", "there"), [(0.004, True), (0.009, False)])
def test_a_comparison_that_has_all_its_seeds_is_what_it_is(se_seed: float, there: bool) -> None:
    gap = measured(0.02, 0.006, 0.002)
    found = chance_of_a_winner([(gap, 3), (measured(0.02, se_seed, 0.002), 8)], 24, 0.01, ANALYSES[1:])
    assert (found > 0.2) == there


# --- What would settle it -----------------------------------------------------------------------------------


def test_planned_widths_split_the_variance_into_what_seeds_images_and_both_shrink() -> None:
    now, found = (3, 24), measured(0.02, 0.005, 0.004, se_both=0.003)
    assert planned_half_width(found, now, now) == pytest.approx(half_width(0.005**2, 3, 0.004**2, 24))
    twice = planned_half_width(found, now, (6, 48))
    v_seed = (0.005**2 - 0.003**2) / 2 + 0.003**2 / 4
    assert twice == pytest.approx(half_width(v_seed, 6, 0.004**2 / 2, 48))
    at_analysis = planned_half_width(found, now, (8, 24), ANALYSES)
    assert at_analysis > planned_half_width(found, now, (8, 24))


def test_what_would_settle_it_is_told_at_the_level_of_the_interim_analysis_and_as_an_option() -> None:
    noisy = measured(0.03, 0.02, 0.002)
    without, at_analyses = seeds_needed(noisy, 3, 24, 0.03), seeds_needed(noisy, 3, 24, 0.03, analyses=ANALYSES)
    assert without is not None and at_analyses is not None
    assert at_analyses > without
    found = three_seeds({"dice": 0.73, "cross_entropy": 0.7}, 0.02, 0.002)
    (sentence,) = decide(found, ORDER, "sweeper run --study x --resume").next_steps
    assert at_analyses > 8
    option = f"(`sweeper run --study x --resume --confirm-seeds 2..{at_analyses}`)"
    assert f"some {at_analyses} seeds in place of 3 {option}" in sentence


def test_fewer_seeds_than_were_planned_are_asked_for_by_the_plan_s_last_number() -> None:
    """The plan ended before them as futile, and would only end again."""
    found = three_seeds({"dice": 0.73, "cross_entropy": 0.7}, 0.011, 0.002)
    (sentence,) = decide(found, ORDER, "sweeper run --study x --resume").next_steps
    wanted = re.fullmatch(r".*some (\d+) seeds in place of 3 \(`[^`]* --confirm-seeds 8`, which ends at 8 .*", sentence)
    assert wanted is not None and 3 < int(wanted[1]) < 8


def test_where_images_come_in_groups_groups_are_asked_for() -> None:
    found = three_seeds({"dice": 0.73, "cross_entropy": 0.7}, 0.0005, 0.03, test_groups=12)
    (sentence,) = decide(found, ORDER).next_steps
    assert "groups of test images in place of 12 would settle it" in sentence


def test_the_reasons_name_the_level_of_the_interim_analysis() -> None:
    reasons = decide(three_seeds({"dice": 0.75, "cross_entropy": 0.7}, 0.01, 0.01, half=0.02), ORDER).reasons
    assert "(98 % interval +0.030 to +0.070)" in reasons[0]


# --- Two seeds ----------------------------------------------------------------------------------------------


def test_two_seeds_show_nothing_however_clear_they_are_and_a_third_does() -> None:
    runs = simulated(
        {"dice": 0.7, "cross_entropy": 0.3, "focal": 0.3}, seed_sd=1e-4, interaction_sd=1e-3, image_sd=0.01
    )
    two, three = weighed(runs, 2), weighed(runs, 3)
    for found, shown in ((two, False), (three, True)):
        first = found.comparisons[0]
        assert gap(found, "dice", "cross_entropy").low > 0.1  # the interval is told either way
        assert (first.won, first.floor > 0, first.one_sided < 1) == (shown, shown, shown)
        assert (decide(found, ORDER).verdict is Verdict.CLEAR_WINNER) == shown
    words = " ".join(decide(two, ORDER).reasons)
    assert "2 common seeds, and fewer than 3 show nothing" in words
    assert decide(two, ORDER).strength == "probable"  # what it can cost may be said
    same = simulated({"dice": 0.7, "focal": 0.7}, seed_sd=1e-5, interaction_sd=1e-4, image_sd=0.01)
    assert decide(weighed(same, 2), ORDER).verdict is Verdict.UNDECIDED
    assert decide(weighed(same, 3), ORDER).verdict is Verdict.EQUIVALENT


# --- Ranking by differences ---------------------------------------------------------------------------------


def test_a_finalist_with_fewer_seeds_is_ranked_on_those_that_it_shares() -> None:
    """Its two seeds were lucky ones for all losses: its mean is the highest, and on those seeds others read higher."""
    lucky = {101: 0.2, 102: 0.2} | dict.fromkeys(EIGHT[2:], 0.0)
    runs = [
        confirmation(family, seed, counts_from_iou(level + lucky[seed] + 0.001 * np.arange(-6, 6)), 8 * f + s)
        for f, (family, level) in enumerate({"dice": 0.52, "focal": 0.515, "cross_entropy": 0.5}.items())
        for s, seed in enumerate(EIGHT)
    ]
    found = weighed(runs, {"dice": 8, "focal": 8, "cross_entropy": 2})
    means = {f.family: f.miou.estimate for f in found.finalists}
    assert max(means, key=means.__getitem__) == "cross_entropy"
    assert [f.family for f in found.finalists] == ["dice", "focal", "cross_entropy"]
    decision = decide(found, ORDER)
    assert decision.best == 0
    regret = [f.regret.expected for f in found.finalists if f.regret is not None]
    assert regret == sorted(regret)


def test_finalists_without_a_common_seed_are_ranked_by_their_means() -> None:
    runs = simulated({"dice": 0.5, "focal": 0.6})
    apart = [r for r in runs if (r.spec.family == "dice") == (r.spec.seed < 105)]
    found = weigh(apart, SEARCH, classes=BINARY)
    assert [f.family for f in found.finalists] == ["focal", "dice"]
    assert (gap(found, "focal", "dice").low, gap(found, "focal", "dice").high) == (-1.0, 1.0)


def test_non_inferiority_is_judged_by_a_one_sided_end() -> None:
    """The two-sided end lies beyond the ROPE, the one-sided within: safe, but not equivalent."""
    found = three_seeds({"dice": 0.702, "focal": 0.7}, 0.003, 0.002, half=0.0121)
    ends = [c.model_copy(update={"at_most_one_sided": c.difference.estimate + 0.0079}) for c in found.comparisons]
    assert decide(found, ORDER).verdict is Verdict.UNDECIDED
    assert decide(found.model_copy(update={"comparisons": tuple(ends)}), ORDER).verdict is Verdict.SAFE_CHOICE
    weighed_ones = weighed(simulated({"dice": 0.6, "focal": 0.6}), 4).comparisons
    for c in weighed_ones:
        assert c.difference.estimate < c.one_sided < c.ceiling
