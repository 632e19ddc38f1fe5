"""Sends operations to MLflow: at once while it answers; while it does not, they wait on disk and are sent in order.

An operation whose answer was lost is looked up before it is sent again, so that each is there exactly once. While
MLflow is away a call costs the trainings one short attempt now and then, and nothing in between. Files that it does
not take wait by themselves, and nothing waits behind them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from mlflow.tracking import MlflowClient

from sweeper.core.causes import cause
from sweeper.core.redact import shown_address
from sweeper.core.text import count
from sweeper.tracking.mlflow_writes import (
    FILE_ATTEMPTS,
    FILES,
    Operation,
    find_run,
    is_refused,
    send,
    without_what_is_there,
)
from sweeper.tracking.spool import Spool, Spooled

FIRST_PAUSE, LONGEST_PAUSE = 3.0, 60.0
"""Seconds without an attempt after MLflow failed: twice as long after each failure."""
SLICE_SECONDS = 1.0
"""How long what waited may be sent at a time while trainings wait for their answers."""
MOST_FLUSH_SECONDS = 300.0
"""How long a store that takes something now and then may take for what waited, before the report and after it."""
FIRST_FLUSH_PAUSE, LONGEST_FLUSH_PAUSE = 0.1, 1.0
"""Seconds between two attempts at the end, where nobody waits for anything else: twice as long after each failure."""
TOLD_EVERY = 10.0
"""Seconds between two lines about what is still to be sent."""
KEPT = {"FINISHED", "FAILED"}


class Courier:
    """Delivers the operations of one study to one MLflow store."""

    def __init__(
        self,
        client: MlflowClient,
        spool: Spool,
        *,
        place: str,
        warn: Callable[[str], None],
        found: Callable[[dict[str, str]], None],
        say: Callable[[str], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`place` names the store to people; `found` is told the runs of `search/00012` and the like when they were
        made too late for their results, once everything was sent; `say` is told how far a long `flush` is,
        `stopped` ends it, and `beat` is called meanwhile, as a sign of life."""
        self._client, self._spool, self._place = client, spool, shown_address(place)
        self._warn, self._found, self._clock = warn, found, clock
        self._say, self._stopped, self._beat = say, stopped, beat
        self._sent = 0
        """How many of the operations that waited were sent."""
        self.runs = spool.runs()
        """Ids of runs by our keys."""
        first = spool.first()
        self._waiting = first is not None and first.operation.kind != FILES
        self._files = first is not None
        """Whether files may wait."""
        self._away = self._told_files = False
        self._pause, self._retry_at = FIRST_PAUSE, 0.0
        self._refused = self._lost = False

    @property
    def waiting(self) -> int:
        """How many operations were not sent yet."""
        return len(self._spool) if self._waiting or self._files else 0

    @property
    def behind(self) -> bool:
        """Whether anything but files was not sent yet."""
        return self._waiting

    def post(self, operation: Operation) -> None:
        """Send it, or keep it. Nothing is raised: MLflow has copies, and the study's storage has everything."""
        if self._lost:
            return
        attempted = False
        if not self._waiting:
            try:
                self._deliver(operation)
                return
            except Exception as error:
                if is_refused(error):
                    self._tell_refused(error)
                    return
                attempted = True
                self._fail(error, files=operation.kind == FILES)
        try:
            known = {"run_id": operation.run_id or self.runs.get(operation.key)}
            self._spool.append(operation.model_copy(update=known), attempted=attempted)
            self._files = self._files or operation.kind == FILES
            self._waiting = self._waiting or operation.kind != FILES
        except (OSError, sqlite3.Error) as error:
            self._lost = True
            self._warn(
                f"MLflow at {self._place} is away, and {self._spool.path} cannot be written ({error}): nothing more "
                "is kept for it; the sweep goes on, its storage and the report have everything"
            )
            return
        if self._clock() >= self._retry_at:
            self.drain(SLICE_SECONDS)

    def drain(self, seconds: float, *, file_attempts: int = 0) -> bool:
        """Send what waits for at most so long, give or take one operation; whether nothing waits any more.

        Files come last. Each is sent at most `file_attempts` times in a row; with 0 they stay, and do not count.
        """
        if not self._waiting and not (self._files and file_attempts):
            return True
        until = self._clock() + seconds
        try:
            while (first := self._spool.first()) is not None:
                if first.operation.kind == FILES:
                    self._caught_up(but_files=True)
                    if not file_attempts:
                        return True
                if self._clock() >= until:
                    return False
                if not self._replay(first, file_attempts):
                    return False
            self._found(self._spool.kept())
            self._spool.remove()
        except (OSError, sqlite3.Error) as error:
            self._fail(error)
            return False
        self._files = False
        self._caught_up()
        return True

    def _caught_up(self, *, but_files: bool = False) -> None:
        """Everything was sent, or everything but files."""
        if self._waiting:
            self._found(self._spool.kept())
            self._waiting = False
            self._files = but_files
            self._pause = FIRST_PAUSE
        if self._away:
            self._away = False
            but = " but the report's files" if but_files else ""
            self._warn(f"MLflow at {self._place} answers again, and has been told everything{but}")

    def flush(
        self, wait: float, sleep: Callable[[float], None] = time.sleep, *, file_attempts: int = FILE_ATTEMPTS
    ) -> int:
        """Send what waits; where the store fails, try again until it took nothing for `wait` seconds.

        A store that fails now and then, or is started again meanwhile, gets everything in the end, for as long as
        `MOST_FLUSH_SECONDS`. With `wait` 0 there is one attempt, of about a second where it answers, and none where it
        has just failed. Files alone are waited for where `file_attempts` is not less than `FILE_ATTEMPTS`; otherwise
        they have that many attempts, once.

        Returns:
            How many operations are still waiting.
        """
        if not wait and self._clock() < self._retry_at:
            return self.waiting
        began = told = progress = self._clock()
        sent, pause = self._sent, FIRST_FLUSH_PAUSE
        while not self.drain(SLICE_SECONDS, file_attempts=file_attempts):
            self._beat()
            now = self._clock()
            if self._sent > sent:
                sent, progress, pause = self._sent, now, FIRST_FLUSH_PAUSE
            left = min(progress + wait, began + MOST_FLUSH_SECONDS) - now
            if not wait or left <= 0 or self._stopped():
                break
            if not self._waiting and file_attempts < FILE_ATTEMPTS and now < self._retry_at:
                break
            if now - told >= TOLD_EVERY:
                told = now
                waiting = count(self.waiting, "operation is", "operations are")
                self._say(f"MLflow at {self._place}: {waiting} still to be sent")
            if now < self._retry_at:  # it failed
                sleep(min(pause, left))
                pause = min(LONGEST_FLUSH_PAUSE, 2 * pause)
        return self.waiting

    def _deliver(self, operation: Operation, file_attempts: int = FILE_ATTEMPTS) -> str:
        run_id = operation.run_id or self.runs.get(operation.key, "")
        if not run_id and operation.kind != "create":
            return ""  # its run was refused
        run_id = send(self._client, operation, run_id, file_attempts=file_attempts)
        self.runs[operation.key] = run_id
        return run_id

    def _replay(self, first: Spooled, file_attempts: int = FILE_ATTEMPTS) -> bool:
        """Send the operation whose turn it is; False when MLflow does not take it now."""
        operation = first.operation
        try:
            if first.attempted:
                if operation.kind == "create" and (there := find_run(self._client, operation)) is not None:
                    operation = operation.model_copy(update={"run_id": there})
                elif operation.kind == "batch" and (known := operation.run_id or self.runs.get(operation.key)):
                    operation = without_what_is_there(self._client, operation, known)
            else:
                self._spool.attempt(first.number)
            created = operation.kind == "create" and operation.run_id is not None
            run_id = operation.run_id if created else self._deliver(operation, file_attempts)
        except Exception as error:
            if not is_refused(error):
                if operation.kind == FILES:  # those of another folder have their turn
                    self._spool.postpone(first.number)
                self._fail(error, files=operation.kind == FILES)
                return False
            self._tell_refused(error)
            self._spool.drop(first.number)
            return True
        if run_id:
            self.runs[operation.key] = run_id
        kept = operation.kind == "status" and operation.status in KEPT
        self._spool.done(first.number, operation.key, run_id or "", kept=kept)
        self._sent += 1
        self._pause = FIRST_PAUSE
        return True

    def _fail(self, error: Exception, *, files: bool = False) -> None:
        self._retry_at = self._clock() + self._pause
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        if files:
            if not self._told_files:
                self._told_files = True
                self._warn(
                    f"MLflow at {self._place} does not take the report's files: {cause(error)}. They are sent again at "
                    "the end, and where that fails, by the next session or report; all else is sent as ever"
                )
        elif not self._away:
            self._away = True
            self._warn(
                f"MLflow at {self._place} does not answer: {cause(error)}. The sweep goes on; what MLflow is to be "
                f"told is kept in {self._spool.path} and sent when it answers again"
            )

    def _tell_refused(self, error: Exception) -> None:
        if not self._refused:
            self._refused = True
            self._warn(
                f"MLflow at {self._place} refuses what it is told: {cause(error)}. Such copies are left out; the sweep "
                "goes on, its storage and the report have everything"
            )
