"""The planned interim analyses: their seeds, and the error that each may spend."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sweeper.evidence.interim_analyses import compute_level, find_analysis, foresee_level, plan_analyses

ANALYSES = plan_analyses(2, 8)


def test_no_analysis_is_planned_that_can_decide_nothing() -> None:
    spent = [(3, 10), (4, 5), (5, 4), (6, 3), (8, 3)]  # one more has 3
    assert [(analysis.seeds, round(28 * analysis.spent / 0.05, 6)) for analysis in ANALYSES] == spent
    assert plan_analyses(3, 8) == plan_analyses(1, 8) == ANALYSES


@pytest.mark.parametrize(
    ("least", "most", "seeds"),
    [
        (3, 3, [3]),
        (2, 2, [2]),
        (1, 1, [1]),
        (1, 2, [2]),
        (1, 3, [3]),
        (3, 7, [3, 4, 5, 6, 7]),
        (5, 34, [5, 6, 8, 13, 21, 34]),
    ],
)
def test_every_plan_leaves_a_part_of_five_per_cent(least: int, most: int, seeds: list[int]) -> None:
    analyses = plan_analyses(least, most)
    assert [analysis.seeds for analysis in analyses] == seeds
    assert 0.033 < sum(analysis.spent for analysis in analyses) < 0.047
    assert all(analysis.error >= analysis.spent for analysis in analyses)
    assert analyses[0].error == analyses[0].spent


def test_another_plan_keeps_what_was_made_and_shares_what_is_left() -> None:
    made = plan_analyses(3, 5)
    assert plan_analyses(3, 3, made=made) == plan_analyses(4, 5, made=made) == plan_analyses(5, 5, made=made) == made
    assert [plan_analyses(3, 8, made=ANALYSES[:count]) for count in range(6)] == [ANALYSES] * 6
    more, most = plan_analyses(3, 8, made=made), plan_analyses(8, 21, made=made)
    assert more[:3] == most[:3] == made
    assert [[analysis.seeds for analysis in plan[3:]] for plan in (more, most)] == [[6, 8], [8, 13, 21]]
    for _ in range(5):
        made = plan_analyses(3, made[-1].seeds + 1, made=made)
        assert 0 < made[-1].spent < made[-2].spent and sum(analysis.spent for analysis in made) < 0.05


def test_more_seeds_than_planned_are_foreseen_at_their_own_level() -> None:
    made = plan_analyses(3, 5)
    assert foresee_level(made, 5) == compute_level(made, 5) and foresee_level((), 9) == 0.95
    ((*_, last),) = [plan_analyses(9, 9, made=made)]
    assert foresee_level(made, 9) == pytest.approx(1 - last.spent)


@pytest.mark.parametrize(("least", "most", "made"), [(3, 8, 0), (3, 5, 0), (2, 13, 0), (8, 8, 2), (3, 13, 3)])
def test_every_interim_analysis_rejects_as_often_as_it_spends(least: int, most: int, made: int) -> None:
    analyses, paths = plan_analyses(least, most, made=plan_analyses(3, 5)[:made]), 60_000
    values = np.random.default_rng(7).standard_normal((paths, most))
    undecided = np.ones(paths, dtype=bool)
    for analysis in analyses:
        p = stats.ttest_1samp(values[:, : analysis.seeds], 0.0, axis=1).pvalue
        rejected = int((undecided & (p < analysis.error)).sum())
        low, high = stats.binom.interval(1 - 1e-4, paths, analysis.spent)
        assert low <= rejected <= high, f"{analysis}: {rejected / paths:.4f}"
        undecided &= p >= analysis.error


def test_one_sided_bounds_of_all_interim_analyses_hold_jointly_in_95_per_cent() -> None:
    """They are those of intervals at twice the error: what one side spends, and no more."""
    paths = 60_000
    values = np.random.default_rng(8).standard_normal((paths, 8))
    wrong = np.zeros(paths, dtype=bool)
    for analysis in ANALYSES:
        below = stats.ttest_1samp(values[:, : analysis.seeds], 0.0, axis=1, alternative="less").pvalue
        wrong |= below < analysis.error
    assert 0.03 < wrong.mean() < 0.05


def test_a_number_of_seeds_belongs_to_the_first_analysis_with_as_many() -> None:
    assert [find_analysis(ANALYSES, seeds) for seeds in (1, 3, 4, 5, 6, 7, 8, 9)] == [0, 0, 1, 2, 3, 4, 4, 4]
    assert find_analysis((), 3) == 0
    assert compute_level((), 3) == 0.95
    assert compute_level(ANALYSES, 5) == pytest.approx(1 - ANALYSES[2].error)
    assert compute_level(ANALYSES, 13) == pytest.approx(1 - ANALYSES[-1].error)
