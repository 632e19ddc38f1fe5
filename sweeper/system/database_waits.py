"""How long a process waits for a database that does not answer."""

from __future__ import annotations

from collections.abc import Callable

HURRY_SECONDS = 2.0
"""A process that is to stop waits no longer for any answer."""


class Patience:
    """One process's, shared by all that talks to a database for it: a wait that was given up is not begun anew."""

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """`stopping` says whether the process was asked to stop."""
        self._stopping = stopping
        self.given_up = False
        """The database did not answer for as long as it was waited for."""

    def hurries(self) -> bool:
        """Whether every wait is to be short from now on."""
        return self.given_up or self._stopping()

    def seconds(self, usual: float) -> float:
        """How long to wait for what is waited for `usual` seconds otherwise."""
        return min(usual, HURRY_SECONDS) if self.hurries() else usual
