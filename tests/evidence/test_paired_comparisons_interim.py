"""Paired comparisons at an interim analysis: levels, dropped finalists, two seeds, and the ranking on common seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.core.records import Comparison, Evidence, InterimAnalysis, Outcome, Sure, TrialResult
from sweeper.evidence.choice import choose
from sweeper.evidence.intervals import ImageTable, compute_half_width
from sweeper.evidence.paired_comparisons import compare_pairs
from tests.evidence.weighing import ANALYSES, EIGHT, PLACE, change_pairs, get_gap, make_three_seeds, simulate, weigh
from tests.support.builders import ORDER, confirmation, counts_from_iou


def simulate_eight(levels: dict[str, float], **noise: Any) -> list[TrialResult]:
    return simulate(levels, seeds=EIGHT, **noise)


def weigh_first(
    runs: list[TrialResult], seeds: dict[str, int] | int = 3, analyses: tuple[InterimAnalysis, ...] = ANALYSES
) -> Evidence:
    """Return the evidence of so many first seeds, the same for all losses or by family."""
    numbers = seeds if isinstance(seeds, dict) else dict.fromkeys(ORDER, seeds)
    return weigh([run for run in runs if run.spec.seed in EIGHT[: numbers[run.spec.family]]], analyses=analyses)


def test_differences_have_the_level_of_their_analysis_and_scores_95() -> None:
    runs = simulate_eight({"dice": 0.6, "cross_entropy": 0.55})
    for seeds, number in PLACE.items():
        evidence = weigh_first(runs, seeds)
        assert (evidence.analyses, evidence.analysis_index) == (ANALYSES, number)
        for interval, level in (
            (get_gap(evidence, "dice", "cross_entropy"), 1 - ANALYSES[number].error),
            (evidence.finalists[0].miou, 0.95),
        ):
            half = compute_half_width(interval.se_seed**2, seeds, interval.se_image**2, 24, level)
            assert interval.high - interval.estimate == pytest.approx(half)
    plain = weigh_first(runs, 3, analyses=())
    assert plain.analysis_index == 0
    assert get_gap(plain, "dice", "cross_entropy").low > get_gap(weigh_first(runs, 3), "dice", "cross_entropy").low


def test_a_dropped_finalist_keeps_its_seeds_and_level() -> None:
    runs = simulate_eight({"dice": 0.7, "focal": 0.69, "cross_entropy": 0.3})
    seeds = {"dice": 5, "focal": 5, "cross_entropy": 3}
    before, after = weigh_first(runs, 3), weigh_first(runs, seeds)
    assert after.analysis_index == PLACE[5]
    assert {f.family: len(f.seeds) for f in after.finalists} == seeds
    assert get_gap(after, "dice", "cross_entropy") == get_gap(before, "dice", "cross_entropy")
    assert get_gap(after, "dice", "focal") != get_gap(before, "dice", "focal")


def test_two_seeds_never_establish_a_difference_and_three_do() -> None:
    runs = simulate_eight(
        {"dice": 0.7, "cross_entropy": 0.3, "focal": 0.3}, seed_sd=1e-4, interaction_sd=1e-3, image_sd=0.01
    )
    two, three = weigh_first(runs, 2), weigh_first(runs, 3)
    for evidence, is_shown in ((two, False), (three, True)):
        first = evidence.comparisons[0]
        assert get_gap(evidence, "dice", "cross_entropy").low > 0.1  # the interval is reported either way
        assert (first.won, first.floor > 0, first.one_sided < 1) == (is_shown, is_shown, is_shown)
    assert (choose(two, ORDER).outcome, choose(three, ORDER).outcome) == (Outcome.KEEP, Outcome.CHANGE)
    assert two.finalists[0].regret.bound < 0.01  # what dice costs may be reported
    equal = simulate_eight({"dice": 0.7, "focal": 0.7}, seed_sd=1e-5, interaction_sd=1e-4, image_sd=0.01)
    assert choose(weigh_first(equal, 2), ORDER).sure is not Sure.ESTABLISHED
    assert choose(weigh_first(equal, 3), ORDER).sure is Sure.ESTABLISHED


def test_a_finalist_with_fewer_seeds_is_ranked_on_common_seeds() -> None:
    """Its two seeds were lucky ones for all losses: its mean is the highest, and on those seeds others score higher."""
    lucky = {101: 0.2, 102: 0.2} | dict.fromkeys(EIGHT[2:], 0.0)
    runs = [
        confirmation(family, seed, counts_from_iou(level + lucky[seed] + 0.001 * np.arange(-6, 6)), 8 * f + s)
        for f, (family, level) in enumerate({"dice": 0.52, "focal": 0.515, "cross_entropy": 0.5}.items())
        for s, seed in enumerate(EIGHT)
    ]
    evidence = weigh_first(runs, {"dice": 8, "focal": 8, "cross_entropy": 2})
    assert max(evidence.finalists, key=lambda f: f.miou.estimate).family == "cross_entropy"
    assert [f.family for f in evidence.finalists] == ["dice", "focal", "cross_entropy"]
    assert choose(evidence, ORDER).best == 0
    regret = [f.regret.expected for f in evidence.finalists]
    assert regret == sorted(regret)


def test_finalists_without_a_common_seed_are_ranked_by_their_means() -> None:
    runs = simulate_eight({"dice": 0.5, "focal": 0.6})
    separate = [r for r in runs if (r.spec.family == "dice") == (r.spec.seed < 105)]
    evidence = weigh(separate)
    assert [f.family for f in evidence.finalists] == ["focal", "dice"]
    gap = get_gap(evidence, "focal", "dice")
    assert (gap.low, gap.high) == (-1.0, 1.0)


def test_non_inferiority_is_judged_by_a_one_sided_bound() -> None:
    """The two-sided end is beyond the margin, the one-sided within: safe, but not equivalent."""
    evidence = make_three_seeds({"dice": 0.702, "focal": 0.7}, 0.003, 0.002, half=0.0121)
    bounded = change_pairs(evidence, lambda pair: {"at_most_one_sided": pair.difference.estimate + 0.0079})
    assert choose(evidence, ORDER).sure is not Sure.ESTABLISHED
    assert choose(bounded, ORDER).sure is Sure.ESTABLISHED
    for pair in weigh_first(simulate_eight({"dice": 0.6, "focal": 0.6}), 4).comparisons:
        assert pair.difference.estimate < pair.one_sided < pair.ceiling


@pytest.mark.parametrize(("losses", "is_shared"), [(2, False), (3, False), (4, True), (6, True)])
def test_more_than_two_losses_that_may_beat_the_baseline_share_the_error(losses: int, is_shared: bool) -> None:
    """A lead whose interval is barely above 0 is then not won; over another loss it is, whatever their number."""
    noise = np.random.default_rng(1).normal(size=(losses, 5))
    noise[0] = noise[-1] + np.array([-1.0, 1.0, -1.0, 1.0, 0.0])

    def compare(lead: float, baseline: int | None) -> Comparison:
        scores = noise.copy()
        scores[0] += lead
        rows = [{s: 5 * i + s for s in range(5)} for i in range(losses)]
        table = ImageTable(scores.ravel() / 100, np.zeros((5 * losses, 4)))
        pairs = compare_pairs(rows, table, (), 0.0, baseline=baseline)
        return next(pair for pair in pairs if (pair.first, pair.second) == (0, losses - 1))

    nothing = compare(0.0, None).difference
    half = 100 * (nothing.estimate - nothing.low)
    barely, clearly = (compare(factor * half - 100 * nothing.estimate, losses - 1) for factor in (1.02, 1.5))
    assert barely.difference.low > 0 and barely.won is not is_shared
    assert clearly.won and compare(1.02 * half - 100 * nothing.estimate, 1).won


@pytest.mark.parametrize(("seeds", "won"), [(3, False), (4, True)])
def test_a_class_that_only_one_loss_found_decides_nothing_before_four_seeds(seeds: int, won: bool) -> None:
    scores = np.repeat([0.6, 0.4], seeds) + np.tile([0.001, -0.001, 0.0, 0.0][:seeds], 2)
    rows = [{s: seeds * i + s for s in range(seeds)} for i in range(2)]
    alike = np.ones((2 * seeds, 3), dtype=np.bool_)
    found = alike.copy()
    found[-1, 2] = False
    table = ImageTable(scores, np.zeros((2 * seeds, 8)))
    (pair, _), (sure, _) = (compare_pairs(rows, table, (), 0.01, baseline=1, found=each) for each in (found, alike))
    assert pair.won is won and sure.won
    assert (pair.at_least > 0) is won  # its ends count for no other claim, either
