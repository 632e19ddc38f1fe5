"""Optuna's storage, made robust for many processes and temporarily unreachable servers."""

from __future__ import annotations

import functools
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
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sweeper.core.errors import SweeperError, get_cause, iterate_causes
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_resume_command
from sweeper.storage.optuna_internals import CACHE_CALLS
from sweeper.system.clocks import get_running_seconds
from sweeper.system.whole_files import WatchedFile

PATIENCE_SECONDS = 180.0
"""Longest wait for a database; then the sweep ends, and can be resumed."""
PAUSE_SECONDS = (0.1, 5.0)
"""First and longest pause between two attempts."""
WARN_SECONDS = 2.0
"""Waits longer than this are reported; shorter ones are locks."""
REPEATED = (
    *("set_study_user_attr", "set_study_system_attr", "get_study_id_from_name", "get_study_name_from_id"),
    *("get_study_directions", "get_study_user_attrs", "get_study_system_attrs", "get_all_studies"),
    *("get_trial_id_from_study_id_trial_number", "set_trial_intermediate_value", "set_trial_user_attr"),
    *("set_trial_system_attr", "get_trial", *CACHE_CALLS),
)
"""Idempotent queries of Optuna's cache. The exception is creating a trial: if repeated, one trial stays without
parameters until a resume ends it."""


def explain_damage(address: str, error: BaseException) -> SweeperError | None:
    """Return the error for an unreadable database, or an unreadable value in it; None for any other error."""
    words = get_cause(error)
    unreadable = isinstance(error, JSONDecodeError | UnicodeDecodeError)
    if not unreadable and not any(sign in words for sign in ("malformed", "not a database", "decode to UTF-8")):
        return None
    return explain_damaged_file(address, words)


def explain_damaged_file(address: str, words: str) -> SweeperError:
    """Return the error for an unreadable database, with a library's message as the reason."""
    return SweeperError(
        f"the database {hide_address_secrets(address)} must be whole, and it is damaged: {words}. Stop all sweeps that "
        "use it, then restore a backup, or copy what SQLite can still read: `sqlite3 FILE .recover | sqlite3 NEW`"
    )


def is_away(error: BaseException) -> bool:
    """Return whether a database error is temporary: a lock, or a server away, starting or without free connections."""
    for one in iterate_causes(error):
        if isinstance(one, PoolTimeoutError) or getattr(one, "connection_invalidated", False):
            return True
        if isinstance(one, OperationalError | InterfaceError):
            words = str(one.orig).lower()
            if "sqlite" in type(one.orig).__module__:
                return "locked" in words or "busy" in words
            return not any(word in words for word in ("disk", "no space", "password"))
    return False


class RetryingStorage(RDBStorage):
    """RDBStorage that waits, for a bounded time, for an unreachable database."""

    def __init__(
        self, url: str, *, warn: Callable[[str], None], engine_kwargs: dict[str, Any], file: Path | None = None
    ) -> None:
        """Open the storage.

        Args:
            url: SQLAlchemy's address.
            warn: called when a wait is long, and when it is over.
            engine_kwargs: SQLAlchemy's options.
            file: the database's file, for SQLite.
        """
        self._warn = warn
        self._files: list[WatchedFile] = []
        self._log_size = 0
        self.study = "NAME"
        """Study that this process runs, for suggested commands."""
        self.address = url
        """Value of `--storage`, set by `open_storage`."""
        self.places = ""
        """Other options of suggested commands."""
        super().__init__(url, engine_kwargs=engine_kwargs)
        if file is not None:
            self._files = [WatchedFile(Path(f"{file.resolve()}{end}")) for end in ("", "-wal", "-shm")]
        weakref.finalize(self, self.engine.dispose)  # closing the last connection moves SQLite's log into its file

    def checkpoint(self, mode: str = "PASSIVE") -> None:
        """Move SQLite's log into the file, except for parts that current readers need."""
        if self._files:
            with self.engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA wal_checkpoint({mode})")

    def check_file(self) -> None:
        """Check that the files of a SQLite database are still the opened ones; writes to deleted files are lost.

        Raises:
            SweeperError: if a file was deleted or replaced, or the log was truncated and its writes are lost.
        """
        found = [(watched.path, watched.find_fault()) for watched in self._files]
        faults = [f"{path} {fault}" for path, fault in found if fault is not None]
        faults += [f"{watched.path} was truncated" for watched in self._files[1:2] if self._has_lost_log(watched.path)]
        if not faults:
            return
        with suppress(DBAPIError):  # the deleted file is still open; a left log would corrupt a new file
            self.checkpoint("TRUNCATE")
        file = self._files[0]
        step = f"What {file.path} holds is kept" if file.find_fault() is None else "Put it back, or restore a backup"
        raise SweeperError(
            f"{faults[0]} while the study was stored in it: what is written from now on would be lost, so that this "
            f"process ends here. {step}. Then: "
            f"{format_resume_command(self.study, self.address, self.places)}"
        )

    def _has_lost_log(self, log: Path) -> bool:
        """Return whether the log became shorter, which sweeper never does, and its writes are lost."""
        with suppress(OSError):
            size, before = log.stat().st_size, self._log_size
            self._log_size = size
            if size < before:
                try:
                    self.checkpoint()
                except DBAPIError:
                    self._log_size = before
                    return True
        return False

    def call_patiently(self, call: Callable[[], Any]) -> Any:
        """Return the call's result; repeat the call while the database is unreachable.

        Raises:
            SweeperError: if this takes longer than `PATIENCE_SECONDS`, or the database's file was deleted, replaced or
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
        """See `RDBStorage`. If the first attempt was stored but its answer lost, the repeated call detects this."""
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
        if name == "set_study_user_attr":  # such as plan, phases and confirmations
            self.checkpoint()
        return result

    return call


for _name in REPEATED:
    setattr(RetryingStorage, _name, _repeat_call(_name))
