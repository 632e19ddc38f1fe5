"""The planned interim analyses: their seeds, and the error that each may spend."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sweeper.evidence.interim_analyses import compute_level, find_analysis, plan_analyses

ANALYSES = plan_analyses(2, 8)


def test_no_analysis_is_planned_that_can_decide_nothing() -> None:
    spent = [(3, 0.02), (4, 0.01), (5, 0.008), (6, 0.006), (8, 0.006)]
    assert [(analysis.seeds, round(analysis.spent, 6)) for analysis in ANALYSES] == spent
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
def test_every_plan_spends_five_per_cent(least: int, most: int, seeds: list[int]) -> None:
    analyses = plan_analyses(least, most)
    assert [analysis.seeds for analysis in analyses] == seeds
    assert sum(analysis.spent for analysis in analyses) == pytest.approx(0.05)
    assert all(analysis.error >= analysis.spent for analysis in analyses)
    assert analyses[0].error == analyses[0].spent


@pytest.mark.parametrize(("least", "most"), [(3, 8), (3, 5), (2, 13)])
def test_every_interim_analysis_rejects_as_often_as_it_spends(least: int, most: int) -> None:
    analyses, paths = plan_analyses(least, most), 60_000
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
