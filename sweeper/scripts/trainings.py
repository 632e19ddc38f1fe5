"""Whole trainings by the user's script, several at a time: each in its own folder, none repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.errors import ScriptError, get_cause
from sweeper.core.paths import make_slug
from sweeper.core.records import OperatingPoint
from sweeper.core.text import format_duration
from sweeper.scripts.contract import ENDED, SplitScores, TrialDocument
from sweeper.scripts.scores import DataCheck, ScriptTask
from sweeper.scripts.script_start import ScriptStart
from sweeper.scripts.starter import ScriptStarter, is_transient_failure
from sweeper.system.whole_files import load_record, remove_path, save_record

MOST_LOST = 0.1
"""Loss on the test images by the operating point that validation chose, above which it is reported."""
SIGN_SECONDS = 10.0
"""Longest time between two reports of progress."""
NEXT_STEP = "--resume continues if the script stays as it is; after a change of it, begin with another --study."
"""Sentence after the problem of a training, on its own line: the problem may end with lines of the log."""


class ScriptLoss(Record):
    """A loss to train the script with."""

    name: str
    """Unique name: its family, with the parameters where they were given."""
    family: str
    params: dict[str, float]


class TrainingRow(Record):
    """One training that ended."""

    loss: str
    purpose: Literal["tune", "confirm"]
    lr_factor: float
    share: float
    seed: int
    fold: int | None
    state: Literal["trained", "diverged", "failed"]
    """diverged: logits were not finite, and all answers count as wrong; failed: it gave no scores."""
    val: float | None = None
    """Score on validation, at the operating point that is best there."""
    test: float | None = None
    point: OperatingPoint | None = None
    """Operating point that validation chose: threshold or τ; null = the script's own rule."""
    lost: float = 0.0
    """What another operating point would gain on the test images."""
    seconds: float
    folder: str
    megabytes: float
    """Disk space of its folder."""
    problem: str = ""
    """Why it failed."""
    own_runs: dict[str, str] = Field(default_factory=dict)
    """Runs that the script wrote itself, by the tracker's name (mlflow, wandb)."""


class ScriptJob(NamedTuple):
    """One training to do."""

    loss: ScriptLoss
    purpose: Literal["tune", "confirm"]
    seed: int
    lr_factor: float = 1.0
    share: float = 1.0
    fold: int | None = None

    @property
    def folder(self) -> str:
        """Name of its folder; the same for the same training."""
        digest = hashlib.sha256(self.loss.model_dump_json().encode()).hexdigest()[:6]
        fold = "" if self.fold is None else f"-fold{self.fold}"
        rate = "" if self.lr_factor == 1 else f"-lr{self.lr_factor:.3g}"
        return f"{self.purpose}-{make_slug(self.loss.name)}-{digest}-seed{self.seed}{fold}{rate}"

    @property
    def title(self) -> str:
        """Description of the training."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        rate = "" if self.lr_factor == 1 else f", {self.lr_factor:.3g} × the rate"
        return f"{self.loss.name}, seed {self.seed}{fold}{rate}"


class ScriptTrainings:
    """Trains a script for a comparison, several trainings at a time."""

    def __init__(
        self,
        starter: ScriptStarter,
        base: Path,
        task: ScriptTask,
        log: Callable[[str], None] = lambda _: None,
        *,
        on_training_end: Callable[[TrainingRow], None] = lambda _: None,
        on_progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        """Create it for folders below `base`; nothing is started.

        `log` receives a line for each training that ended, and `on_training_end` its row, in the thread that waited.
        `on_progress` receives the purpose of the trainings, and how many of how many have ended, every few seconds.
        """
        self._starter, self._base, self._task = starter, base, task
        self._log, self._on_training_end, self._on_progress = log, on_training_end, on_progress
        self._failure: BaseException | None = None
        self._data_check = DataCheck(task)

    def run(self, jobs: Sequence[ScriptJob]) -> list[TrainingRow]:
        """Return the rows of these trainings; those that ended before are not repeated.

        Raises:
            ScriptError: if one gave no scores, but for an error of the script in tuning, or has other images or labels
                than earlier ones; running trainings end first, and are kept.
            InterruptedSweepError: if it was stopped.
        """
        self._failure = None
        with ThreadPoolExecutor(self._starter.workers, "training") as pool:
            started = [pool.submit(self._run_job, job) for job in jobs]
            left = {*started}
            while left:
                left = wait(left, SIGN_SECONDS, FIRST_COMPLETED).not_done
                self._on_progress(jobs[0].purpose, len(jobs) - len(left), len(jobs))
        if self._failure is not None:
            raise self._failure
        rows = [future.result() for future in started]
        return [row for row in rows if row is not None]

    def _run_job(self, job: ScriptJob) -> TrainingRow | None:
        """Return the row of a training; None where it, or an earlier one, failed."""
        try:
            if self._failure is not None:
                return None
            return self._finish_job(job)
        except BaseException as error:  # raised by `run` once the running ones have ended
            self._failure = self._failure or error
            return None

    def _finish_job(self, job: ScriptJob) -> TrainingRow:
        folder = self._base / job.folder
        trial = TrialDocument(
            kind="search" if job.purpose == "tune" else "confirm",
            family=job.loss.family,
            params=job.loss.params,
            lr_factor=job.lr_factor,
            seed=job.seed,
            share=job.share,
            fold=job.fold,
        )
        try:
            row = load_record(folder / ENDED, TrainingRow)
            ScriptError.refuse(str(folder), self._data_check.find_problems(folder, trial))
            return row
        except (FileNotFoundError, NotADirectoryError):  # it has not ended
            pass
        except (OSError, ValueError, ScriptError) as error:
            self._log(f"{job.title}: {get_cause(error)}; once more")
            remove_path(folder)
        start = self._starter.train(trial, folder, self._task, job.title)
        row = self._make_row(job, start)
        save_record(folder / ENDED, row)
        self._on_training_end(row)
        name, score = ("validation", row.val) if job.purpose == "tune" else (self._task.test_name, row.test)
        ended = f"{name} {score:.4f}" if row.state == "trained" else row.state
        self._log(f"{job.title}: {ended}, {format_duration(row.seconds)}")
        return row

    def _make_row(self, job: ScriptJob, start: ScriptStart) -> TrainingRow:
        """Return the row of a training that ended.

        Raises:
            ScriptError: if it gave no scores, except in tuning by an error of the script, or has other images or labels
                than others.
        """
        problems = self._task.find_problems(start, self._starter.seconds)
        make_row = partial(
            TrainingRow,
            **{**job._asdict(), "loss": job.loss.name},
            seconds=round(start.ended.seconds, 3),
            folder=str(start.folder),
            megabytes=round(sum(p.stat().st_size for p in start.folder.rglob("*") if p.is_file()) / 1e6, 3),
            own_runs=start.own_runs,
        )
        if problems and job.purpose == "tune" and not is_transient_failure(start.ended):
            return make_row(state="failed", problem=problems[0])
        problems = problems or self._data_check.find_problems(start.folder, start.trial)
        if problems:
            raise ScriptError(f"{job.title}; see {start.folder}", [f"{problems[0]}\n    {NEXT_STEP}", *problems[1:]])
        diverged, test, lost = start.has_diverged, None, 0.0
        val_scores = self._task.read_scores(start.folder, "val")
        point = self._task.choose_point(val_scores, diverged=diverged)
        val = self._task.score_at_best(val_scores, diverged=diverged)
        if job.purpose == "confirm":
            test_scores = self._task.read_scores(start.folder, "test")
            test = self._task.score_split(test_scores, point, diverged=diverged)
            lost = self._task.score_at_best(test_scores, diverged=diverged) - test
        return make_row(state="diverged" if diverged else "trained", val=val, test=test, point=point, lost=lost)

    def read_test_scores(self, row: TrainingRow) -> SplitScores:
        """Return the test scores of a training of the confirmation; its folder may have been moved with all others."""
        return self._task.read_scores(self._base / Path(row.folder).name, "test")
