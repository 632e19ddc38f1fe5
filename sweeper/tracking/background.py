"""Passes of a projection in a thread beside the training loop, which never waits for MLflow before its end.

What happens between two passes is written by one. While MLflow is away the loop goes on, what is to be is kept in
memory, and passes are tried now and then: what a process that is killed did not write follows from the study.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from sweeper.core.causes import cause
from sweeper.core.redact import shown_address
from sweeper.tracking.projection import LostStoreError, Projection

PASS_EVERY = 1.0
"""Seconds between two passes while trainings run."""
FIRST_PAUSE, LONGEST_PAUSE = 3.0, 60.0
"""Seconds without a pass after one that failed: twice as long after each that wrote nothing."""
PAUSE_AT_END = 0.5
"""The same while somebody waits."""
MOST_SECONDS = 300.0
"""How long somebody waits for a store that takes something now and then."""
LAST_SECONDS = 2.0
"""How long somebody waits who was asked to stop."""
TOLD_EVERY = 10.0
"""Seconds between two lines about what is still to be written."""


class Background:
    """The thread, and what the loop may ask of it. What is said to people is said by the loop's thread alone."""

    def __init__(
        self,
        projection: Projection,
        uri: str,
        *,
        warn: Callable[[str], None],
        say: Callable[[str], None],
        stopped: Callable[[], bool],
        command: str,
    ) -> None:
        """Begin.

        Args:
            projection: of a study that has begun.
            uri: names the store to people.
            warn: is told when it goes away and comes back.
            say: is told how far it is where somebody waits.
            stopped: whether somebody asked not to wait any longer.
            command: writes what the store lacks.
        """
        self._projection, self._place = projection, shown_address(uri)
        self._warn, self._say, self._stopped, self._command = warn, say, stopped, command
        self._told = deque[str]()
        self._waited = self._refused = False
        self.failure: Exception | None = None
        """Why the last pass was cut off; None = it was not."""
        self._woken = threading.Event()
        self._passed = threading.Event()
        threading.Thread(target=self._run, name="MLflow", daemon=True).start()

    @property
    def left(self) -> str:
        """What is not yet written; "" where that is nothing, or the store is lost."""
        return "" if isinstance(self.failure, LostStoreError) else self._projection.left

    def wake(self) -> None:
        """Something is to be written."""
        self._woken.set()

    def tell(self) -> None:
        """Say what the thread has to say."""
        while self._told:
            self._warn(self._told.popleft())

    def wait(self, patience: float, beat: Callable[[], None]) -> None:
        """Wait until everything is written, or the store took nothing for `patience` seconds.

        A store that takes something now and then is waited for as long as `MOST_SECONDS`, and one that was asked for
        by a process that is to stop `LAST_SECONDS`. `beat` is called meanwhile, as a sign of life.
        """
        began = progress = told = time.monotonic()
        writes = self._projection.writes
        self._waited = True
        while self.left:
            self._passed.clear()
            self._woken.set()
            self._passed.wait(PAUSE_AT_END)
            beat()
            self.tell()
            now = time.monotonic()
            if self._projection.writes > writes:
                writes, progress = self._projection.writes, now
            until = began + LAST_SECONDS if self._stopped() else min(progress + patience, began + MOST_SECONDS)
            if now >= until:
                break
            if now - told >= TOLD_EVERY:
                told = now
                self._say(f"MLflow at {self._place}: {self.left} still to be written")
        self._waited = False
        self.tell()

    def lacks(self) -> str | None:
        """What the store lacks, and the command that writes it; None = nothing."""
        if not (left := self.left):
            return None
        why = "" if self.failure is None else f" ({cause(self.failure)})"
        return (
            f"MLflow at {self._place} did not take everything: {left} left{why}. The study is whole; when "
            f"MLflow answers, this writes what it lacks: {self._command}"
        )

    # --- In the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause, ended = PASS_EVERY, float("-inf")
        while not self._projection.closed and not isinstance(self.failure, LostStoreError):
            self._woken.clear()
            rest = ended + self._pause(pause) - time.monotonic()
            if not self.left:
                self._woken.wait()
            elif rest > 0:
                self._woken.wait(rest)
            else:
                pause = self._pass(pause)
                ended = time.monotonic()
                self._passed.set()

    def _pause(self, usual: float) -> float:
        if not self._waited:
            return usual
        return 0.0 if self.failure is None else PAUSE_AT_END

    def _pass(self, pause: float) -> float:
        """One pass; seconds until the next one."""
        writes = self._projection.writes
        try:
            self._projection.sync()
            failure = None
        except Exception as error:
            failure = error
        if self._projection.refused is not None and not self._refused:
            self._refused = True
            self._told.append(
                f"MLflow at {self._place} refuses what it is told: {cause(self._projection.refused)}. Such copies are "
                "left out; the sweep goes on, its storage and the report have everything"
            )
        before, self.failure = self.failure, failure
        if failure is None:
            if before is not None:
                self._told.append(f"MLflow at {self._place} answers again, and has everything")
            return PASS_EVERY
        if before is None:
            self._told.append(self._away(failure))
        again = before is not None and self._projection.writes == writes
        return min(LONGEST_PAUSE, 2 * pause) if again else FIRST_PAUSE

    def _away(self, failure: Exception) -> str:
        if isinstance(failure, LostStoreError):
            return (
                f"{failure}: it is told nothing more. The sweep goes on, its storage and the report have everything. "
                f"Afterwards, to write its runs again: {self._command}"
            )
        return (
            f"MLflow at {self._place} fails: {cause(failure)}. The sweep goes on; what MLflow lacks is written when it "
            "answers again"
        )
