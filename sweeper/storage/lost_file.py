"""A SQLite database that is deleted or replaced while a study is stored in it: noticed, and its content saved."""

from __future__ import annotations

import itertools
import sqlite3
import weakref
from datetime import UTC, datetime
from pathlib import Path

from sweeper.core.errors import SweeperError
from sweeper.core.text import resume_command
from sweeper.system.same_file import SameFile

_told: dict[tuple[int, int], str] = {}
"""What became of each file that was lost: a process may have several storages open on one, and saves it once."""


class Guard:
    """Holds one connection, so that the content of a file that was deleted can still be read here, and nowhere else."""

    def __init__(self, path: Path) -> None:
        """Guard the database that lies at `path` now.

        Raises:
            sqlite3.Error, OSError: if it cannot be opened.
        """
        self._connection = sqlite3.connect(path, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens the files, not only the name
        self._file = SameFile(path)
        _told.pop(self._file.identity, None)  # the number of a file that is gone is given to another
        self._lost: str | None = None

    def check(self, study: str) -> None:
        """Nothing while the same file lies at the path.

        Args:
            study: for the command that goes on with it.

        Raises:
            SweeperError: if it was deleted or replaced, also if another has been put there since.
        """
        if self._lost is None and (fault := self._file.fault()) is not None:
            self._lost = _told.get(self._file.identity) or (
                self._moved(fault, study)
                if self._file.moved()
                else f"{self._file.path} {fault} while the study was stored in it: whatever is written from now on "
                f"would be lost, so that this process ends here. {self._save(study)}"
            )
            _told[self._file.identity] = self._lost
        if self._lost is not None:
            raise SweeperError(self._lost)

    def _moved(self, fault: str, study: str) -> str:
        now = self._file.now()
        resume = resume_command(study) if now is None else resume_command(study, f"sqlite:///{now}")
        return (
            f"{self._file.path} {fault}, while the study was stored in it, so that this process ends here. Everything "
            f"finished lies there. Go on in the folder of its new name, with: {resume}"
        )

    def _save(self, study: str) -> str:
        path = self._file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            saved = _new(path)
            try:
                target = sqlite3.connect(saved)
                try:
                    self._connection.backup(target)
                finally:
                    target.close()
            except BaseException:
                saved.unlink(missing_ok=True)
                raise
        except (OSError, sqlite3.Error) as error:
            return (
                f"Its content could not be saved beside it ({error}). Put a copy of the database back in its place, "
                f"and go on with: {resume_command(study, f'sqlite:///{path}')}"
            )
        return (
            f"Everything stored so far was saved as {saved}. Go on with: "
            f"{resume_command(study, f'sqlite:///{saved}')} (or move it to the place of the old one first)"
        )


def _new(path: Path) -> Path:
    """A new, empty file beside `path`."""
    now = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    for number in itertools.count(1):
        saved = path.with_name(f"{path.stem}.saved-{now}{'' if number == 1 else f'-{number}'}{path.suffix}")
        try:
            saved.touch(exist_ok=False)
        except FileExistsError:
            continue
        return saved
    raise AssertionError("unreachable")
