"""Weighing at an interim analysis: levels, who was dropped, two seeds, the ranking on common seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.core.records import Comparison, Evidence, InterimAnalysis, TrialResult, Verdict
from sweeper.evidence.intervals import ImageTable, compute_half_width
from sweeper.evidence.paired_comparisons import compare_pairs, compute_evidence
from sweeper.evidence.verdict import decide_verdict
from tests.evidence.test_confirmation_stopping import ANALYSES, EIGHT, PLACE, three_seeds
from tests.evidence.test_paired_comparisons import SEARCH, gap
from tests.support.builders import BINARY, ORDER, confirmation, counts_from_iou, simulated_confirmations


def simulated(levels: dict[str, float], seed: int = 0, **noise: Any) -> list[TrialResult]:
    return simulated_confirmations(levels, np.random.default_rng(seed), seeds=EIGHT, **noise)


def weighed(
    runs: list[TrialResult], have: dict[str, int] | int = 3, analyses: tuple[InterimAnalysis, ...] = ANALYSES
) -> Evidence:
    """Return the evidence of the first `seeds` seeds, of all or by family."""
    taken = [
        run for run in runs if EIGHT.index(run.spec.seed) < (have if isinstance(have, int) else have[run.spec.family])
    ]
    return compute_evidence(taken, SEARCH, classes=BINARY, analyses=analyses)


def test_differences_are_at_the_level_of_their_interim_analysis_and_own_scores_at_95() -> None:
    runs = simulated({"dice": 0.6, "cross_entropy": 0.55})
    for have, number in PLACE.items():
        found = weighed(runs, have)
        assert (found.analyses, found.analysis_index) == (ANALYSES, number)
        for interval, seeds, level in (
            (gap(found, "dice", "cross_entropy"), have, 1 - ANALYSES[number].error),
            (found.finalists[0].miou, have, 0.95),
        ):
            half = compute_half_width(interval.se_seed**2, seeds, interval.se_image**2, 24, level)
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


def test_two_seeds_show_nothing_however_clear_they_are_and_a_third_does() -> None:
    runs = simulated(
        {"dice": 0.7, "cross_entropy": 0.3, "focal": 0.3}, seed_sd=1e-4, interaction_sd=1e-3, image_sd=0.01
    )
    two, three = weighed(runs, 2), weighed(runs, 3)
    for found, shown in ((two, False), (three, True)):
        first = found.comparisons[0]
        assert gap(found, "dice", "cross_entropy").low > 0.1  # the interval is reported either way
        assert (first.won, first.floor > 0, first.one_sided < 1) == (shown, shown, shown)
        assert (decide_verdict(found, ORDER).verdict is Verdict.CLEAR_WINNER) == shown
    words = " ".join(decide_verdict(two, ORDER).reasons)
    assert "only 2 common seeds; at least 3 are needed" in words
    assert (decide_verdict(two, ORDER).action, decide_verdict(three, ORDER).action) == ("keep", "change")
    assert decide_verdict(two, ORDER).head == "Keep cross-entropy for now: at least 3 common seeds are needed."
    assert two.finalists[0].regret is not None and two.finalists[0].regret.bound < 0.01  # what dice costs may be said
    same = simulated({"dice": 0.7, "focal": 0.7}, seed_sd=1e-5, interaction_sd=1e-4, image_sd=0.01)
    assert decide_verdict(weighed(same, 2), ORDER).verdict is Verdict.UNDECIDED
    assert decide_verdict(weighed(same, 3), ORDER).verdict is Verdict.EQUIVALENT


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
    decision = decide_verdict(found, ORDER)
    assert decision.best == 0
    regret = [f.regret.expected for f in found.finalists if f.regret is not None]
    assert regret == sorted(regret)


def test_finalists_without_a_common_seed_are_ranked_by_their_means() -> None:
    runs = simulated({"dice": 0.5, "focal": 0.6})
    apart = [r for r in runs if (r.spec.family == "dice") == (r.spec.seed < 105)]
    found = compute_evidence(apart, SEARCH, classes=BINARY)
    assert [f.family for f in found.finalists] == ["focal", "dice"]
    assert (gap(found, "focal", "dice").low, gap(found, "focal", "dice").high) == (-1.0, 1.0)


def test_non_inferiority_is_judged_by_a_one_sided_end() -> None:
    """The two-sided end is beyond the ROPE, the one-sided within: safe, but not equivalent."""
    found = three_seeds({"dice": 0.702, "focal": 0.7}, 0.003, 0.002, half=0.0121)
    ends = [c.model_copy(update={"at_most_one_sided": c.difference.estimate + 0.0079}) for c in found.comparisons]
    assert decide_verdict(found, ORDER).verdict is Verdict.UNDECIDED
    assert decide_verdict(found.model_copy(update={"comparisons": tuple(ends)}), ORDER).verdict is Verdict.SAFE_CHOICE
    weighed_ones = weighed(simulated({"dice": 0.6, "focal": 0.6}), 4).comparisons
    for c in weighed_ones:
        assert c.difference.estimate < c.one_sided < c.ceiling


@pytest.mark.parametrize(("losses", "shared"), [(2, False), (3, False), (4, True), (6, True)])
def test_those_that_may_win_over_the_baseline_share_the_error_beyond_two(losses: int, shared: bool) -> None:
    """Of a lead whose interval only just lies above 0; over another loss it is won whatever their number."""
    noise = np.random.default_rng(1).normal(size=(losses, 5))
    noise[0] = noise[-1] + np.array([-1.0, 1.0, -1.0, 1.0, 0.0])

    def compared(lead: float, baseline: int | None) -> Comparison:
        scores = noise.copy()
        scores[0] += lead
        rows = [{s: 5 * i + s for s in range(5)} for i in range(losses)]
        table = ImageTable(scores.ravel() / 100, np.zeros((5 * losses, 4)))
        found = compare_pairs(rows, table, (), 0.0, baseline=baseline)
        return next(c for c in found if (c.first, c.second) == (0, losses - 1))

    nothing = compared(0.0, None).difference
    half = 100 * (nothing.estimate - nothing.low)
    barely, clearly = (compared(factor * half - 100 * nothing.estimate, losses - 1) for factor in (1.02, 1.5))
    assert barely.difference.low > 0 and barely.won is not shared
    assert clearly.won and compared(1.02 * half - 100 * nothing.estimate, None).won
