"""A training is admitted if it would end within its share of the time, at the pace of recent trainings."""

from __future__ import annotations

from math import inf

from sweeper.core.events import ResultStored
from sweeper.study.timekeeper import Timekeeper
from tests.support import builders


def test_a_training_is_admitted_by_the_slowest_recent_pace() -> None:
    now = [0.0]
    timekeeper = Timekeeper(100.0, lambda: now[0])
    assert timekeeper.make_admission(0.6)(10**9)  # nothing is known yet
    now[0] = 20.0
    for number, seconds in enumerate((20.0, 10.0)):  # of 100 steps each
        timekeeper.notify(ResultStored(builders.trial("dice", 0.6, number, seconds=seconds)))
    usable = 100 - 10
    assert timekeeper.make_admission(1.0)(350) and not timekeeper.make_admission(1.0)(351)
    assert not timekeeper.make_admission(0.2)(1)
    now[0] = usable - 1
    assert not timekeeper.is_over()
    now[0] = usable
    assert timekeeper.is_over()
    assert Timekeeper(inf, lambda: 1e9).make_admission(0.1)(10**9)


def test_the_pace_of_earlier_sessions_counts() -> None:
    timekeeper = Timekeeper(100.0, lambda: 0.0, before=[builders.trial("dice", 0.6, 0)])  # 0.1 s a step
    assert timekeeper.make_admission(1.0)(900) and not timekeeper.make_admission(1.0)(901)
