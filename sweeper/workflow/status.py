"""The status file of a running sweep, or comparison in the user's script: what it is doing, for users and monitors.

The training loop itself writes it, not a thread, so that a hanging loop shows as silence.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.errors import InterruptedSweepError, NothingCompletedError, SweeperError, UsageError, check_address
from sweeper.core.events import (
    ResultStored,
    SweepEvent,
    TrainingDropped,
    TrainingEvaluated,
    TrainingPaused,
    TrainingResumed,
)
from sweeper.core.paths import COMPARISONS, STATUS, STORAGE, make_folder_name
from sweeper.core.records import TrialResult
from sweeper.core.text import format_comparison_resume_command, format_resume_command, suggest_correction
from sweeper.system.locks import get_sqlite_path, require_database_file
from sweeper.system.postgres import is_postgres
from sweeper.system.whole_files import load_record, remove_left, save_record
from sweeper.workflow.phase_progress import NO_TRAININGS, PhaseCounts, PhaseProgress

BEAT_SECONDS = 10.0
"""Longest time between two signs of life of a running sweep while it trains, writes to MLflow or draws its report."""
SILENT_SECONDS = 300.0
"""After a longer silence a sweep counts as hanging: it may prepare data or wait for its database for some minutes."""
FAILURES = 3
"""Number of failed trainings in a row that is a problem."""

COMPARISON_STATUS = "status.json"
"""The status file of a comparison, in its folder."""
REPORT = "report"
"""Phase after the last training: MLflow gets what it lacks, and the report is written."""

State = Literal["running", "finished", "stopped", "failed"]


class SweepLife(Record):
    """Status of a running sweep, or of a comparison."""

    study: str
    command: Literal["run", "confirm"] = "run"
    """The command of sweeper that runs it."""
    state: State
    phase: str = ""
    """`probe`, `rate`, `first`, `search`, `replicate`, `confirm`, `final` or `report`, of a comparison `tune` or
    `confirm`; "" before the first."""
    done: int = 0
    total: int = 0
    """Trainings of the phase; the report has none."""
    written: float
    """Seconds since 1970, UTC."""
    progress: float
    """Time of the last evaluation or result."""
    failures: int = 0
    """Failures in a row, up to now: trainings that failed, and attempts whose worker died, or hung and was ended."""
    last_reason: str | None = None
    """Reason of the last failure."""
    answer: str = ""
    """The answer so far, in a sentence; "" before the first."""
    places: str = ""
    """Other options of the command that resumes it: where its files are."""
    pid: int
    host: str


def get_status_file(storage: str, study: str) -> Path:
    """Return the status file of a study: next to a SQLite file, else below the working folder."""
    path = get_sqlite_path(storage)
    folder = STATUS if path is None else path.parent / STATUS
    return folder / f"{make_folder_name(study)}.json"


class Heartbeat:
    """Writes the status file of one sweep; a full disk or an unwritable folder never ends a sweep."""

    def __init__(
        self,
        path: Path,
        study: str,
        clock: Callable[[], float] = time.time,
        *,
        places: str = "",
        command: Literal["run", "confirm"] = "run",
    ) -> None:
        self._path, self._clock = path, clock
        now = clock()
        process = {"pid": os.getpid(), "host": socket.gethostname()}
        remove_left(path.parent)
        self._progress = PhaseProgress()
        names = {"study": study, "places": places, "command": command}
        self._life = SweepLife(state="running", written=now, progress=now, **process, **names)
        self._write_file()

    def record_sign_of_life(self) -> None:
        """Record that the loop is alive; written every `BEAT_SECONDS`."""
        if not 0 <= self._clock() - self._life.written < BEAT_SECONDS:
            self._write_file()

    def begin_phase(self, name: str, total: int, held: PhaseCounts = NO_TRAININGS) -> None:
        """Begin a phase."""
        self._progress = PhaseProgress(name, total, held)
        self._update(phase=name)

    def record_progress(self, phase: str, done: int, total: int) -> None:
        """Record how many trainings of a comparison's phase have ended."""
        if (phase, done, total) == (self._life.phase, self._life.done, self._life.total):
            self.record_sign_of_life()
            return
        self._progress.done, self._progress.total = done, total
        self._update(phase=phase, progress=self._clock())

    def record_answer(self, sentence: str) -> None:
        """Record another answer so far."""
        self._update(answer=sentence)

    def record_end(self, state: State) -> None:
        """Record that the sweep is over."""
        self._update(state=state)

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, NothingCompletedError):
            self.record_end("finished")
        else:
            self.record_end("stopped" if issubclass(kind, InterruptedSweepError | KeyboardInterrupt) else "failed")

    def notify(self, event: SweepEvent) -> None:
        """Record an evaluation or result as progress; count failures and lost workers until something succeeds.

        Trainings that the time limit or a stop interrupted are no failures.
        """
        self._progress.notify(event)
        match event:
            case TrainingEvaluated():
                self._update(progress=self._clock())
            case ResultStored(TrialResult(state="failed", reason=reason)):
                self._update(failures=self._life.failures + 1, last_reason=reason)
            case ResultStored():
                self._update(failures=0, progress=self._clock())
            case TrainingPaused() | TrainingResumed():
                self._update()
            case TrainingDropped(_, reason, died=True):
                self._update(failures=self._life.failures + 1, last_reason=reason)

    def _update(self, **values: object) -> None:
        counted = {"done": self._progress.done, "total": self._progress.total}
        self._life = self._life.model_copy(update={**counted, **values})
        self._write_file()

    def _write_file(self) -> None:
        self._life = self._life.model_copy(update={"written": self._clock()})
        with suppress(OSError):
            save_record(self._path, self._life)


class StatusRow(SweepLife):
    """Status of one sweep, or comparison."""

    ok: bool
    problems: tuple[str, ...]
    silent_seconds: float
    """Seconds since its last sign of life."""
    stalled_seconds: float
    """Seconds since its last progress."""
    gone: bool
    """Whether its process ended without reporting its end, or hangs."""

    @property
    def activity(self) -> str:
        """What it does now: its state, or `gone`."""
        return "gone" if self.gone else self.state


class StatusDocument(Document):
    """Document that `sweeper studies show` prints."""

    SCHEMA: ClassVar[str] = "sweeper.status/1"

    ok: bool
    studies: tuple[StatusRow, ...]


def diagnose_sweep(life: SweepLife, now: float, storage: str = STORAGE, session: str = "") -> StatusRow:
    """Diagnose whether the sweep is alive and makes progress.

    Only on its own machine can a dead process be detected; elsewhere its silence indicates it. `now` is in seconds
    since 1970, UTC. `session` is the process that began the study's last session, "" if not known: if it is another
    one, the end of this one no longer matters.
    """
    if session not in {"", f"process {life.pid} on {life.host}"}:
        answer = f"{session} has continued it since; its status is in the folder of that process"
        life = life.model_copy(update={"state": "stopped", "answer": answer})
    problems, resume = [], format_resume_command(life.study, storage, life.places)
    if life.command == "confirm":
        resume = format_comparison_resume_command(life.study, life.places)
    silent = max(0.0, now - life.written)
    gone = False
    if life.state == "running":
        if life.host == socket.gethostname() and not _is_alive(life.pid):
            problems.append(f"its process {life.pid} on {life.host} is gone: {resume}")
        elif silent > SILENT_SECONDS:
            problems.append(f"nothing was heard of process {life.pid} on {life.host} for {silent:.0f} s: it hangs")
        gone = bool(problems)
        if life.failures >= FAILURES:
            problems.append(f"{life.failures} trainings in a row failed; the last: {life.last_reason}")
    elif life.state == "failed":
        problems.append(f"it ended with an error: {resume}")
    return StatusRow(
        **dict(life),
        ok=not problems,
        problems=tuple(problems),
        gone=gone,
        silent_seconds=silent,
        stalled_seconds=max(0.0, now - life.progress),
    )


def diagnose_studies(storage: str, study: str | None) -> tuple[StatusRow, ...]:
    """Diagnose a study or comparison, or each one with a status file; the database is not opened.

    PostgreSQL is asked who continued a study with a problem: another machine has its own status file.

    Raises:
        UsageError: if nothing is known, of the studies where a storage is named, or the address is invalid.
    """
    check_address("--storage", storage)
    if not is_postgres(storage):
        require_database_file(storage)
    folder, compared = get_status_file(storage, "any").parent, COMPARISONS.glob(f"*/{COMPARISON_STATUS}")
    lives = [life for life in map(read_life, [*sorted(folder.glob("*.json")), *sorted(compared)]) if life is not None]
    rows = []
    for life in lives:
        if study in {None, life.study}:
            row = diagnose_sweep(life, time.time(), storage)
            is_in_doubt = not row.ok and life.command == "run"
            if is_in_doubt and is_postgres(storage):
                row = diagnose_sweep(life, time.time(), storage, read_last_session(storage, life.study))
            rows.append(row)
    found = rows
    if study is None and storage != STORAGE:
        found = [row for row in rows if row.command == "run"]
    if not found:
        near = suggest_correction(study or "", [life.study for life in lives])
        raise UsageError(
            f"nothing is known of {study or 'any study'} in {folder}{near}; name the --storage of the run, in the "
            "folder of the sweep"
        )
    return tuple(rows)


def read_last_session(storage: str, study: str) -> str:
    """Return the process that began a study's last session, from its storage; "" if that does not answer."""
    from sweeper import storage as studies  # loads Optuna, which the check of a live sweep does not need

    with suppress(SweeperError):
        stored = studies.open_study(studies.open_storage(storage, create=False), study)
        return str(stored.user_attrs.get(studies.SESSION, ""))
    return ""


def read_life(path: Path) -> SweepLife | None:
    """Read a status file; None if it is missing or invalid."""
    try:
        return load_record(path, SweepLife)
    except (OSError, ValueError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # belongs to another user
        return True
    return True
