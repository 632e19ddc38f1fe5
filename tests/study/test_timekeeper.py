"""There is time for what would end before its share is over, by the pace of late."""

from __future__ import annotations

from sweeper.core.events import ResultStored
from sweeper.study.timekeeper import Timekeeper
from tests.support import builders


def test_there_is_time_for_a_training_at_the_slowest_recent_pace() -> None:
    now = [0.0]
    time = Timekeeper(100.0, lambda: now[0])
    assert time.make_admission(0.6)(10**9)  # nothing is known yet
    now[0] = 20.0
    for seconds in (20.0, 10.0):  # of 100 steps each
        time.notify(ResultStored(builders.trial("dice", 0.6, 0, seconds=seconds)))
    usable = 100 - 10
    assert time.make_admission(1.0)(350) and not time.make_admission(1.0)(351)
    assert not time.make_admission(0.2)(1)
    now[0] = usable - 1
    assert not time.is_over()
    now[0] = usable
    assert time.is_over()
    assert Timekeeper(None, lambda: 1e9).make_admission(0.1)(10**9)


def test_the_pace_of_earlier_sessions_counts() -> None:
    time = Timekeeper(100.0, lambda: 0.0, before=[builders.trial("dice", 0.6, 0)])  # 0.1 s a step
    assert time.make_admission(1.0)(900) and not time.make_admission(1.0)(901)
