"""Optuna's storage, steadied for many processes and for servers that go away for a while."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sweeper.core.causes import cause
from sweeper.core.errors import SweeperError
from sweeper.core.text import resume_command
from sweeper.storage.lost_file import Guard
from sweeper.storage.optuna_internals import CACHE_CALLS, TRIALS
from sweeper.system.clocks import running_seconds
from sweeper.system.database_waits import Patience

T = TypeVar("T")

PATIENCE_SECONDS = 180.0
"""A database that does not answer for so long ends the sweep, which can be resumed."""
PAUSE_SECONDS = (0.1, 5.0)
"""Between two attempts: at first, and at most."""
TOLD_SECONDS = 2.0
"""A wait that lasts longer is told: shorter ones are locks."""
REPEATED = (
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial",
    *CACHE_CALLS,
)
"""What Optuna's cache asks of a database: to do it twice leaves the same behind as once, but for
a trial that is made twice, of which one stays without parameters until a resume ends it."""


def is_away(error: BaseException) -> bool:
    """Whether a database error will pass by itself: the server is away, starting or full of connections; a lock."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, PendingRollbackError):
        # Optuna takes every error of its long query for one of its length, and asks again in the broken session.
        cause = cause.__context__
    if isinstance(cause, PoolTimeoutError):
        return True
    if not isinstance(cause, DBAPIError):
        return False
    if cause.connection_invalidated or _read_only(cause):
        return True
    if not isinstance(cause, OperationalError | InterfaceError):
        return False
    words = str(cause.orig).lower()
    if "sqlite" in type(cause.orig).__module__:
        return "locked" in words or "busy" in words
    return "disk" not in words and "no space" not in words and "password" not in words


def _read_only(error: BaseException) -> bool:
    """Whether PostgreSQL takes no writes: the session's server became a standby, and another takes its place."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return getattr(getattr(cause, "orig", None), "sqlstate", None) == "25006"


class SteadyStorage(RDBStorage):
    """RDBStorage that waits, for a bounded time, for a database that went away."""

    def __init__(
        self,
        url: str,
        *,
        warn: Callable[[str], None],
        engine_kwargs: dict[str, Any],
        file: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Open it.

        Args:
            url: SQLAlchemy's.
            warn: is told when a wait lasts, and when it is over.
            engine_kwargs: SQLAlchemy's.
            file: the database's, for SQLite.
            patience: of this process.
        """
        self._warn, self._guard = warn, None
        self.study: str | None = None
        """Name of the study that this process goes on with, once it is opened: for commands that are proposed."""
        self.address = url
        """As `--storage` names it, once `open_storage` has opened it."""
        self.patience = patience or Patience()
        super().__init__(url, engine_kwargs=engine_kwargs)
        self._guard = None if file is None else Guard(file)

    @property
    def named(self) -> str:
        """Its name for a command, `NAME` while none is known."""
        return self.study or "NAME"

    def check_file(self) -> None:
        """Nothing while a SQLite database is still the file at its path.

        Raises:
            SweeperError: if that file was deleted or replaced; says where its content was saved.
        """
        if self._guard is not None:
            self._guard.check(self.named)

    def patiently(self, call: Callable[[], Any]) -> Any:
        """The call's result, repeated while the database is away.

        Raises:
            SweeperError: if that lasts longer than `PATIENCE_SECONDS`, or the database's file was deleted or replaced.
        """
        self.check_file()
        began, (pause, longest), told = running_seconds(), PAUSE_SECONDS, False
        while True:
            try:
                found = call()
            except (StorageInternalError, DBAPIError, PoolTimeoutError) as error:
                if not is_away(error):
                    raise
                gone, reason = running_seconds() - began, cause(error)
                if _read_only(error):
                    self.engine.dispose()  # a new connection may lead to the server that takes writes
                if gone >= (limit := self.patience.seconds(PATIENCE_SECONDS)):
                    self.patience.given_up = True
                    raise SweeperError(
                        f"the study's database did not answer for {max(limit, gone):.0f} s ({reason}); everything "
                        f"finished is kept. When it is back: {resume_command(self.named, self.address)}"
                    ) from error
                if gone >= TOLD_SECONDS and not told:
                    told = True
                    self._warn(
                        f"the study's database does not answer ({reason}); waiting for it, up to "
                        f"{PATIENCE_SECONDS:.0f} s. Workers finish what they are at"
                    )
                self._pause(pause)
                pause = min(2 * pause, longest)
            else:
                self.patience.given_up = False
                if told:
                    self._warn(f"the study's database answers again, after {running_seconds() - began:.0f} s")
                return found

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.patience.hurries():
            time.sleep(min(left, 0.2))
        if self.patience.hurries():
            time.sleep(0.1)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See `RDBStorage`. A waiting trial is taken by one process alone: SQLite knows no locks on rows, so that
        Optuna's own way gives it to two that look at the same time."""
        if state == TrialState.RUNNING:
            # Tells our own claim, whose confirmation was lost, from another's.
            stamp = datetime.now(UTC).replace(tzinfo=None)
            return bool(self.patiently(lambda: self._claim(trial_id, stamp)))
        tries = 0

        def end() -> bool:
            nonlocal tries
            tries += 1
            try:
                return super(SteadyStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if tries > 1 and super(SteadyStorage, self).get_trial(trial_id).state == state:
                    return True  # the attempt before was stored, and its confirmation lost
                raise

        return bool(self.patiently(end))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives in a transaction of its own; repeated while the database is away, so it must bear that.

        Raises:
            SweeperError: as `patiently`; or if what it reads is damaged.
        """

        def once() -> T:
            with self.engine.begin() as connection:
                return work(connection)

        try:
            found: T = self.patiently(once)
        except DBAPIError as error:
            if (told := self._damage("get_", error)) is None:
                raise
            raise told from error
        return found

    def _damage(self, name: str, error: Exception) -> SweeperError | None:
        """What to say where a read failed because a record, or the file, was changed; None for any other cause."""
        from sweeper.storage.damage import name_damage

        if isinstance(error, StorageInternalError | DBAPIError):
            words = cause(error).lower()
            if not any(sign in words for sign in ("malformed", "not a database", "decode to utf-8")):
                return None
        elif isinstance(error, KeyError) or not name.startswith(("get_", "_get_")):
            return None
        return name_damage(self.url, error, self.study)

    def _claim(self, trial_id: int, stamp: datetime) -> bool:
        mine = TRIALS.c.trial_id == trial_id
        with self.engine.begin() as connection:
            waiting = update(TRIALS).where(mine, TRIALS.c.state == TrialState.WAITING)
            if connection.execute(waiting.values(state=TrialState.RUNNING, datetime_start=stamp)).rowcount:
                return True
            state, started = connection.execute(select(TRIALS.c.state, TRIALS.c.datetime_start).where(mine)).one()
        if state.is_finished():
            raise UpdateFinishedTrialError(f"trial with id {trial_id} has ended already")
        return bool(state == TrialState.RUNNING and started == stamp)


def _repeated(name: str) -> Callable[..., Any]:
    original = getattr(RDBStorage, name)

    @functools.wraps(original)
    def call(self: SteadyStorage, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.patiently(lambda: original(self, *args, **kwargs))
        except (ValueError, TypeError, LookupError, AssertionError, StorageInternalError, DBAPIError) as error:
            if (told := self._damage(name, error)) is None:
                raise
            raise told from error

    return call


for _name in REPEATED:
    setattr(SteadyStorage, _name, _repeated(_name))
