"""The tables of the search."""

from __future__ import annotations

from sweeper.report import sections
from sweeper.report.facts import collect
from tests.report.test_confirmation import UI, rows
from tests.report.test_markdown import recommended
from tests.support import builders


def test_the_time_of_a_step_is_the_median_over_the_familys_trainings() -> None:
    timed = (("dice", 0.10), ("dice", 0.11), ("dice", 0.13), ("cross_entropy", 0.1), ("focal", None))
    trials = [builders.trial(f, 0.6, i, seconds_per_step=s) for i, (f, s) in enumerate(timed)]
    found = rows(sections.leaderboard(collect(builders.sweep(trials, []), recommended(None)), UI))
    place = found[0].index("ms per step")
    assert {row[0]: row[place] for row in found[2:]} == {"`dice`": "110", "`cross_entropy`": "100", "`focal`": "–"}
