"""How long a worker is waited for."""

from __future__ import annotations

from sweeper.executors.protocol import Watchdog
from sweeper.system.clocks import RunningClock


class Clock:
    """Seconds that pass on request."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def waited(dog: Watchdog, clock: Clock, seconds: float, purpose: str = "search", stage: str = "rung") -> None:
    dog.start_waiting("w", purpose, stage)  # type: ignore[arg-type]
    clock.now += seconds
    dog.stop_waiting("w")


def test_a_wait_of_twenty_times_the_usual_is_a_hang() -> None:
    clock = Clock()
    dog = Watchdog(clock=clock)
    for seconds in (8.0, 10.0, 500.0):
        waited(dog, clock, seconds)
    dog.start_waiting("w", "search", "rung")
    clock.now += 200
    assert dog.explain_hang("w") is None
    clock.now += 1
    assert dog.explain_hang("w") == "worker hung: nothing came from it for 201 s, and 200 s is the most that is waited"


def test_a_wait_of_another_kind_has_time_until_it_is_known_and_none_below_a_minute_is_a_hang() -> None:
    clock = Clock()
    dog = Watchdog(clock=clock)
    assert dog.get_limit("search", "rung") == 3600
    waited(dog, clock, 0.01)
    assert dog.get_limit("search", "rung") == 60
    dog = Watchdog(clock=clock)
    waited(dog, clock, 10)
    assert dog.get_limit("confirm", "last") == 3600
    waited(dog, clock, 30, "confirm", "last")
    assert dog.get_limit("confirm", "last") == 600
    assert dog.get_limit("search", "rung") == 200


def test_a_process_that_was_stopped_takes_no_worker_for_hung() -> None:
    """As on a laptop that sleeps: parent and workers are stopped together, and continue together."""
    clock = Clock()
    ran = RunningClock(clock)
    dog = Watchdog(clock=ran)
    waited(dog, clock, 1)
    dog.start_waiting("w", "search", "rung")
    for _ in range(4):
        clock.now += 8 * 3600
        assert dog.explain_hang("w") is None
        for _ in range(5):
            clock.now += 1
            ran()
    for _ in range(60):
        clock.now += 1
        ran()
    assert dog.explain_hang("w") is not None


def test_who_waits_itself_or_is_gone_is_not_watched() -> None:
    clock = Clock()
    dog = Watchdog(clock=clock)
    waited(dog, clock, 1)
    clock.now += 1e6
    assert dog.explain_hang("w") is None
    dog.start_waiting("w", "search", "rung")
    dog.forget_worker("w")
    clock.now += 1e6
    assert dog.explain_hang("w") is None
    assert dog.get_limit("search", "rung") == 60  # what became of it is no usual wait
