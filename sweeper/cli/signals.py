"""Ctrl-C, SIGTERM and SIGHUP: the first asks the sweep to stop cleanly, a second Ctrl-C aborts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from sweeper.core.errors import InterruptedSweepError

STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
"""SIGHUP comes when the terminal is closed; a platform without it has none."""


class StopRequest:
    """Remembers the first signal as an exit status; installed for as long as the `with` block runs.

    SIGHUP stays ignored where it is, as under `nohup`.

    Before `defer` was called nothing was trained and nothing can be lost: a signal ends the program at once.
    """

    def __init__(self, say: Callable[[str], None], doing: str = "trained") -> None:
        """`say`: is told that the stop was heard; `doing`: what the command does with its images, as a participle."""
        self.status: int | None = None
        self._doing = doing
        self._deferred = False
        self._say = say
        self._before: dict[signal.Signals, object] = {}

    def defer(self) -> None:
        """From now on, the first signal asks for a clean stop."""
        self._deferred = True

    def __enter__(self) -> StopRequest:
        for number in STOPPING:
            if number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, _: FrameType | None) -> None:
        if not self._deferred:
            raise InterruptedSweepError(f"stopped before anything was {self._doing}", 128 + number)
        if self.status is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.status = 128 + number
        self._say("stopping: what is finished is kept (Ctrl-C again to abort at once)")
