"""The limit of a wait for a worker."""

from __future__ import annotations

from sweeper.executors.protocol import Watchdog
from sweeper.system.clocks import RunningClock


class Clock:
    """Seconds that pass on request."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wait(dog: Watchdog, clock: Clock, seconds: float, purpose: str = "search", stage: str = "rung") -> None:
    dog.start_waiting("w", purpose, stage)  # type: ignore[arg-type]
    clock.now += seconds
    dog.stop_waiting("w")


def test_a_wait_of_twenty_times_the_usual_is_a_hang() -> None:
    clock = Clock()
    dog = Watchdog(clock=clock)
    for seconds in (8.0, 10.0, 500.0):
        wait(dog, clock, seconds)
    dog.start_waiting("w", "search", "rung")
    clock.now += 200
    assert dog.explain_hang("w") is None
    clock.now += 1
    assert dog.explain_hang("w") == "worker hung: nothing came from it for 201 s, and 200 s is the most that is waited"


def test_the_limit_is_an_hour_for_a_kind_of_wait_without_history_and_never_below_a_minute() -> None:
    clock = Clock()
    dog = Watchdog(clock=clock)
    assert dog.get_limit("search", "rung") == 3600
    wait(dog, clock, 0.01)
    assert dog.get_limit("search", "rung") == 60
    dog = Watchdog(clock=clock)
    wait(dog, clock, 10)
    assert dog.get_limit("confirm", "last") == 3600
    wait(dog, clock, 30, "confirm", "last")
    assert dog.get_limit("confirm", "last") == 600
    assert dog.get_limit("search", "rung") == 200


def test_a_suspended_process_takes_no_worker_for_hung() -> None:
    """As on a laptop that sleeps: parent and workers are stopped together, and continue together."""
    clock = Clock()
    running_clock = RunningClock(clock)
    dog = Watchdog(clock=running_clock)
    wait(dog, clock, 1)
    dog.start_waiting("w", "search", "rung")
    for _ in range(4):
        clock.now += 8 * 3600
        assert dog.explain_hang("w") is None
        for _ in range(5):
            clock.now += 1
            running_clock()
    for _ in range(60):
        clock.now += 1
        running_clock()
    assert dog.explain_hang("w") is not None


def test_idle_and_forgotten_workers_are_not_watched() -> None:
    clock = Clock()
    dog = Watchdog(clock=clock)
    wait(dog, clock, 1)
    clock.now += 1e6
    assert dog.explain_hang("w") is None
    dog.start_waiting("w", "search", "rung")
    dog.forget_worker("w")
    clock.now += 1e6
    assert dog.explain_hang("w") is None
    assert dog.get_limit("search", "rung") == 60  # the wait for a forgotten worker is not counted
