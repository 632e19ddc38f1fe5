"""Optuna's storage, steadied for many processes and for servers that go away for a while."""

from __future__ import annotations

import functools
import shlex
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sweeper.core.errors import SweeperError
from sweeper.core.paths import STORAGE
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_resume_command, replace_options
from sweeper.storage.optuna_internals import CACHE_CALLS
from sweeper.system.clocks import get_running_seconds
from sweeper.system.system_errors import get_cause
from sweeper.system.whole_files import WatchedFile

PATIENCE_SECONDS = 180.0
"""A database that does not answer for so long ends the sweep, which can be resumed."""
PAUSE_SECONDS = (0.1, 5.0)
"""Between two attempts: at first, and at most."""
WARN_SECONDS = 2.0
"""A wait that lasts longer is reported; shorter ones are locks."""
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
"""Queries of Optuna's cache that may be repeated: twice leaves the same behind as once, except for a trial that is
made twice, of which one stays without parameters until a resume ends it."""


def explain_damage(address: str, error: BaseException) -> SweeperError | None:
    """Return the error for an unreadable database, or a value in it; None for any other error."""
    words = get_cause(error)
    unreadable = isinstance(error, JSONDecodeError | UnicodeDecodeError)
    if not unreadable and not any(sign in words for sign in ("malformed", "not a database", "decode to UTF-8")):
        return None
    return explain_damaged_file(address, words)


def explain_damaged_file(address: str, words: str) -> SweeperError:
    """Return the error for an unreadable database, with a library's words as the reason."""
    return SweeperError(
        f"the database {hide_address_secrets(address)} must be whole, and it is damaged: {words}. Stop all sweeps that "
        "use it, then restore a backup, or copy what SQLite can still read: `sqlite3 FILE .recover | sqlite3 NEW`"
    )


def is_away(error: BaseException) -> bool:
    """Return whether a database error is temporary: the server is away, starting or full of connections; a lock."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, PendingRollbackError):
        # Optuna takes every error of its long query for one of its length, and asks again in the broken session.
        cause = cause.__context__
    if isinstance(cause, PoolTimeoutError):
        return True
    if not isinstance(cause, DBAPIError):
        return False
    if cause.connection_invalidated:
        return True
    if not isinstance(cause, OperationalError | InterfaceError):
        return False
    words = str(cause.orig).lower()
    if "sqlite" in type(cause.orig).__module__:
        return "locked" in words or "busy" in words
    return "disk" not in words and "no space" not in words and "password" not in words


class RetryingStorage(RDBStorage):
    """RDBStorage that waits, for a bounded time, for a database that went away."""

    def __init__(
        self,
        url: str,
        *,
        warn: Callable[[str], None],
        engine_kwargs: dict[str, Any],
        file: Path | None = None,
    ) -> None:
        """Open it.

        Args:
            url: SQLAlchemy's.
            warn: called when a wait is long, and when it is over.
            engine_kwargs: SQLAlchemy's.
            file: the database's, for SQLite.
        """
        self._warn = warn
        self._files: list[WatchedFile] = []
        self._log_size = 0
        self.study = "NAME"
        """Study that this process continues, once it is open; used in proposed commands."""
        self.address = url
        """As `--storage` names it, once `open_storage` has opened it."""
        self.tracking: Path | None = None
        """MLflow's file, where it has one, for the same commands."""
        self.places = ""
        """Other options of these commands."""
        super().__init__(url, engine_kwargs=engine_kwargs)
        if file is not None:
            self._files = [WatchedFile(Path(f"{file.resolve()}{end}")) for end in ("", "-wal", "-shm")]
        weakref.finalize(self, self.engine.dispose)  # the last one that closes a SQLite file puts its log into it

    def checkpoint(self, mode: str = "PASSIVE") -> None:
        """Put what SQLite's log holds into the file itself, as far as nobody reads what was before."""
        if self._files:
            with self.engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA wal_checkpoint({mode})")

    def check_file(self) -> None:
        """Return while the files of a SQLite database are those that were opened: what is written to others is lost.

        Raises:
            SweeperError: if one was deleted or replaced, or the log truncated while it held what the file does not.
        """
        for watched in self._files:
            if (fault := watched.find_fault()) is not None:
                break
        else:
            if (fault := self._log_fault()) is None:
                return
            watched = self._files[1]
        file = self._files[0]
        with suppress(DBAPIError):  # what was deleted is still open here; a log that stays would spoil another file
            self.checkpoint("TRUNCATE")
        if watched is not file:
            resume = format_resume_command(self.study, self.address, self.places)
            then = f"What {file.path} holds is kept. To resume: {resume}"
        elif (new := file.find_new_place()) is not None:
            then = f"Everything finished is stored in {new}. To resume there: {self._command_in(new)}"
        else:
            then = f"Restore a backup. Then: {format_resume_command(self.study, f'sqlite:///{file.path}', self.places)}"
        raise SweeperError(
            f"{watched.path} {fault} while the study was stored in it: what is written from now on would be lost, "
            f"so that this process ends here. {then}"
        )

    def _log_fault(self) -> str | None:
        """Say so where the log became shorter, and lacks what it should hold; nobody of ours shortens it."""
        if self._files:
            with suppress(OSError):
                size = self._files[1].path.stat().st_size
                if size < self._log_size:
                    try:
                        self.checkpoint()
                    except DBAPIError:
                        return "was truncated"
                self._log_size = size
        return None

    def _command_in(self, new: Path) -> str:
        """Return the command that resumes the study at its file's place after a folder was renamed."""
        storage = STORAGE if new == Path.cwd() / "sweeper.db" else f"sqlite:///{new}"
        resume = format_resume_command(self.study, storage, self.places)
        if self.tracking is not None and not self.tracking.exists():  # moved, and MLflow keeps absolute addresses
            resume = replace_options(resume, {"--tracking-uri": "sqlite:///mlflow-2.db"})
        return f"cd {shlex.quote(str(Path.cwd()))} && {resume}"

    def call_patiently(self, call: Callable[[], Any]) -> Any:
        """Return the call's result, repeated while the database is away.

        Raises:
            SweeperError: if that lasts longer than `PATIENCE_SECONDS`, or the database's file was deleted, replaced or
                damaged.
        """
        self.check_file()
        began, (pause, longest), warned = get_running_seconds(), PAUSE_SECONDS, False
        while True:
            try:
                result = call()
            except (StorageInternalError, DBAPIError, PoolTimeoutError, JSONDecodeError, UnicodeDecodeError) as error:
                self.check_file()
                if (fault := explain_damage(self.address, error)) is not None:
                    raise fault from error
                if not is_away(error):
                    raise
                gone, reason = get_running_seconds() - began, get_cause(error)
                if gone >= PATIENCE_SECONDS:
                    resume = format_resume_command(self.study, self.address, self.places)
                    raise SweeperError(
                        f"the study's database did not answer for {gone:.0f} s ({reason}); everything "
                        f"finished is kept. When it is back: {resume}"
                    ) from error
                if gone >= WARN_SECONDS and not warned:
                    warned = True
                    self._warn(
                        f"the study's database does not answer ({reason}); waiting for it, up to "
                        f"{PATIENCE_SECONDS:.0f} s. Workers finish what they are at"
                    )
                time.sleep(pause)
                pause = min(2 * pause, longest)
            else:
                if warned:
                    self._warn(f"the study's database answers again, after {get_running_seconds() - began:.0f} s")
                return result

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See `RDBStorage`. What was stored, and its confirmation lost, is found so when it is asked for again."""
        tries = 0

        def change() -> bool:
            nonlocal tries
            tries += 1
            try:
                changed = super(RetryingStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if tries == 1:
                    raise
                changed = False
            return changed or (tries > 1 and super(RetryingStorage, self).get_trial(trial_id).state == state)

        done = bool(self.call_patiently(change))
        if state.is_finished():
            self.checkpoint()
        return done


def _repeat_call(name: str) -> Callable[..., Any]:
    original = getattr(RDBStorage, name)

    @functools.wraps(original)
    def call(self: RetryingStorage, *args: Any, **kwargs: Any) -> Any:
        result = self.call_patiently(lambda: original(self, *args, **kwargs))
        if name == "set_study_user_attr":  # plan, phases and confirmations are such
            self.checkpoint()
        return result

    return call


for _name in REPEATED:
    setattr(RetryingStorage, _name, _repeat_call(_name))
