"""Whole trainings by the user's script, several side by side: each in a folder of its own, none trained twice."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from sweeper.core.base import Record
from sweeper.core.document import json_text
from sweeper.core.errors import InterruptedSweepError, ScriptError, UsageError
from sweeper.core.paths import make_slug
from sweeper.core.records import Task
from sweeper.core.text import format_count, format_duration
from sweeper.scripts.contract import (
    RESULTS,
    TRIAL,
    SplitScored,
    SplitScores,
    TrialDocument,
    read_events,
    write_trial_folder,
)
from sweeper.scripts.launch import ScriptEnd, end_left_processes, fill_places, read_output, run_script
from sweeper.scripts.probe import ScriptStart, find_start_problems
from sweeper.scripts.scores import DataCheck, ScriptTask
from sweeper.system.whole_files import replace_atomically

ENDED = "ended.json"
"""Record of a training that ended: it is not trained again."""
PASSING = re.compile(
    r"out of memory|CUDA error|CUDA driver|cudaError|NCCL|device is lost|fell off the bus", re.IGNORECASE
)
"""What a device or a full memory says, and may not say again."""
NEXT_STEP = "--resume continues if the script stays as it is; after a change of it, begin with another --name."
"""Sentence after the problem of a training, on a line of its own: the problem may end with lines of the log."""
KILLED = -9
"""Status where the system ended it, most often for its memory."""


class ScriptLoss(Record):
    """A loss to train the script with."""

    name: str
    """Distinguishes it from the others: its family, with the parameters where they were given."""
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
    val: float | None
    """Score on validation, at the operating point that is best there."""
    test: float | None
    point: float | None
    """Operating point that validation chose: threshold or τ; null = the script's own rule."""
    seconds: float
    folder: str
    megabytes: float
    """Disk space of its folder."""
    problem: str = ""
    """Why it failed."""
    own_runs: dict[str, str] = Field(default_factory=dict)
    """Runs that the script wrote itself, by the tracker's name (mlflow, wandb)."""


class ScriptJob(NamedTuple):
    """One training that is wanted."""

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
        """The training in words."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        rate = "" if self.lr_factor == 1 else f", {self.lr_factor:.3g} × the rate"
        return f"{self.loss.name}, seed {self.seed}{fold}{rate}"


class ScriptStarter:
    """Starts whole trainings by a script, some at a time, each on its share of the GPUs."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        seconds: float = inf,
        workers: int = 1,
        gpus_each: int = 0,
        is_stopped: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make it; nothing is started.

        Args:
            words: of the command.
            seconds: that one training may take.
            workers: trainings at a time.
            gpus_each: GPUs of each training; 0 = all trainings see all.
            is_stopped: whether to end what runs and start no more.
            say: is given a line where a training is started once more, and once where one left processes.

        Raises:
            UsageError: if there are fewer GPUs than the trainings need.
        """
        self._words, self.seconds, self.workers = words, seconds, workers
        self.is_stopped, self._say = is_stopped, say
        self._slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for slot in share_gpus(workers, gpus_each):
            self._slots.put(slot)
        self._has_remarked = False
        self._writing = threading.Lock()  # ast.parse of Python 3.11 fails in two threads at once

    def train(
        self, trial: TrialDocument, folder: Path, task: Task, frequencies: Sequence[float], title: str
    ) -> ScriptStart:
        """Train once, and once more where the device or the memory failed; return the last start.

        Args:
            trial: what the training is to use.
            folder: of the training; where it exists, an earlier process of the training was stopped.
            task: of the loss.
            frequencies: shares of the classes, for the loss.
            title: the training in words.

        Raises:
            InterruptedSweepError: if it was stopped.
            LossError: if the loss cannot be made.
        """
        slot = self._slots.get()
        try:
            start = self._start(trial, folder, task, frequencies, slot)
            if _may_pass(start.ended) and not self.is_stopped():
                self._say(f"{title}: {start.ended.last[-1] if start.ended.last else 'killed'}; once more")
                start = self._start(trial, folder, task, frequencies, slot)
        finally:
            self._slots.put(slot)
        if self.is_stopped():
            raise InterruptedSweepError("stopped", 130)
        if start.ended.remark and not self._has_remarked:
            self._has_remarked = True
            self._say(f"{title}: {start.ended.remark}")
        return start

    def _start(
        self, trial: TrialDocument, folder: Path, task: Task, frequencies: Sequence[float], slot: dict[str, str]
    ) -> ScriptStart:
        if self.is_stopped():
            raise InterruptedSweepError("stopped", 130)
        if folder.exists() and not _is_of_trial(folder, trial):
            end_left_processes(folder)
            shutil.rmtree(folder)
        if folder.exists():
            trial = trial.model_copy(update={"resumed": True})
            end_left_processes(folder)
            for path in [folder / RESULTS, folder / "stop", *folder.glob("val*.npz"), *folder.glob("test*.npz")]:
                path.unlink(missing_ok=True)
        with self._writing:
            write_trial_folder(folder, trial, task, frequencies)
        ended = run_script(
            fill_places(self._words, trial, folder),
            folder,
            seconds=self.seconds,
            is_done=self.is_stopped,
            grace=0.0,
            environment={**slot, "MASTER_PORT": str(_find_free_port())},
        )
        return ScriptStart(folder, trial, ended, read_events(folder))


class ScriptTrainings:
    """Trains a script as often as a comparison wants, some trainings at a time."""

    def __init__(
        self, starter: ScriptStarter, base: Path, task: ScriptTask, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Make it; nothing is started.

        Args:
            starter: starts the script.
            base: folder of the trainings' folders.
            task: what they share.
            say: is given a line for each training that ended.
        """
        self._starter, self._base, self._task, self._say = starter, base, task, say
        self._failure: BaseException | None = None
        self._data_check = DataCheck()

    def run(self, jobs: Iterable[ScriptJob]) -> list[TrainingRow]:
        """Return the rows of these trainings; those that ended before are not trained again.

        Raises:
            ScriptError: if one failed in the confirmation, or has other images or labels than those before. Those in
                work end first, and are kept.
            InterruptedSweepError: if it was stopped.
        """
        self._failure = None
        with ThreadPoolExecutor(self._starter.workers, "training") as pool:
            rows = list(pool.map(self._run_job, jobs))
        if self._failure is not None:
            raise self._failure
        return [row for row in rows if row is not None]

    def _run_job(self, job: ScriptJob) -> TrainingRow | None:
        """Return the row of a training; None where it, or one before it, failed."""
        try:
            if self._failure is not None:
                return None
            row = self._finish_job(job)
            self._check_data(job, row)
            return row
        except BaseException as error:  # raised by `run` once those in work have ended
            self._failure = self._failure or error
            return None

    def _finish_job(self, job: ScriptJob) -> TrainingRow:
        folder = self._base / job.folder
        with suppress(OSError, ValidationError):
            return TrainingRow.model_validate_json((folder / ENDED).read_text("utf-8"))
        trial = TrialDocument(
            kind="search" if job.purpose == "tune" else "confirm",
            family=job.loss.family,
            params=job.loss.params,
            lr_factor=job.lr_factor,
            seed=job.seed,
            share=job.share,
            splits=("val",) if job.purpose == "tune" else ("val", "test"),
            fold=job.fold,
            class_pixels=self._task.class_pixels,
        )
        start = self._starter.train(trial, folder, self._task.task, self._task.frequencies, job.title)
        row = self._make_row(job, start)
        with replace_atomically(folder / ENDED) as part:
            part.write_text(row.model_dump_json(indent=2), "utf-8")
        score = "failed" if row.test is None else f"{self._task.test_name} {row.test:.4f}"
        if job.purpose == "tune" and row.val is not None:
            score = f"validation {row.val:.4f}"
        self._say(f"{job.title}: {score if row.state != 'diverged' else 'diverged'}, {format_duration(row.seconds)}")
        return row

    def _make_row(self, job: ScriptJob, start: ScriptStart) -> TrainingRow:
        """Return the row of a training that ended.

        Raises:
            ScriptError: if it is of the confirmation, and gave no scores.
        """
        problems = list(find_start_problems(start, self._starter.seconds))
        if not problems:
            problems += self._find_other_kinds(start)
        if problems and job.purpose == "confirm":
            raise ScriptError(f"{job.title}; see {start.folder}", [f"{problems[0]}\n    {NEXT_STEP}", *problems[1:]])
        diverged = not all(line.finite for line in start.list_events(SplitScored))
        val = test = point = None
        if not problems:
            val_scores = self._task.read_scores(start.folder, "val")
            point = self._task.choose_point(val_scores, diverged=diverged)
            val = self._task.score_validation(val_scores, diverged=diverged)
            if job.purpose == "confirm":
                test_scores = self._task.read_scores(start.folder, "test")
                test = self._task.score_split(test_scores, point, diverged=diverged)
        return TrainingRow(
            loss=job.loss.name,
            purpose=job.purpose,
            lr_factor=job.lr_factor,
            share=job.share,
            seed=job.seed,
            fold=job.fold,
            state="failed" if problems else "diverged" if diverged else "trained",
            val=val,
            test=test,
            point=point,
            seconds=round(start.ended.seconds, 3),
            folder=str(start.folder),
            megabytes=round(sum(p.stat().st_size for p in start.folder.rglob("*") if p.is_file()) / 1e6, 3),
            problem=problems[0] if problems else "",
            own_runs=start.own_runs,
        )

    def _find_other_kinds(self, start: ScriptStart) -> Iterator[str]:
        """Find scores of another kind than the probe's."""
        for line in start.list_events(SplitScored):
            if line.what != (kind := self._task.kinds[line.split]):
                yield f"scores of {line.split} must be {kind}, as in the probe, got {line.what}; give the same in each"
                return

    def _check_data(self, job: ScriptJob, row: TrainingRow) -> None:
        """Refuse images or labels that are others than in the trainings before.

        Raises:
            ScriptError: if they are.
        """
        if row.state == "failed":
            return
        folder = self._base / job.folder
        for split in ("val", "test") if job.purpose == "confirm" else ("val",):
            if problems := self._data_check.find_problems(split, self._task.read_scores(folder, split), job.fold):
                raise ScriptError(f"{job.title}; see {folder}", problems)

    def read_test_scores(self, row: TrainingRow) -> SplitScores:
        """Return the test scores of a training of the confirmation; its folder may have been moved with all others."""
        return self._task.read_scores(self._base / Path(row.folder).name, "test")


def _is_of_trial(folder: Path, trial: TrialDocument) -> bool:
    """Return whether a folder is of this training: a script may continue from what it kept there."""
    try:
        before = json.loads((folder / TRIAL).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return {**before, "resumed": False} == {**json.loads(json_text(trial.document)), "resumed": False}


def _may_pass(ended: ScriptEnd) -> bool:
    """Return whether a training failed by what the next start may be spared."""
    if ended.status == 0 or ended.is_late:
        return False
    return ended.status == KILLED or any(PASSING.search(line) for line in ended.last)


def share_gpus(workers: int, gpus_each: int) -> list[dict[str, str]]:
    """Return the variables of each of so many trainings at a time.

    Args:
        workers: trainings at a time.
        gpus_each: GPUs of each; 0 = all see all.

    Raises:
        UsageError: if there are fewer.
    """
    if not gpus_each:
        return [{} for _ in range(workers)]
    gpus = _list_gpus()
    if len(gpus) < workers * gpus_each:
        raise UsageError(
            f"--workers × --gpus-per-trial must be at most the GPUs that there are, got {workers} × {gpus_each} of "
            f"{format_count(len(gpus), 'GPU')}; give fewer (CUDA_VISIBLE_DEVICES says which are used)"
        )
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[n * gpus_each : (n + 1) * gpus_each])} for n in range(workers)]


def _list_gpus() -> list[str]:
    """Return the GPUs that may be used, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [word.strip() for word in visible.split(",") if word.strip() not in ("", "-1")]
    listed = read_output("nvidia-smi", "-L") or ""
    return [match[1] for line in listed.splitlines() if (match := re.match(r"GPU (\d+):", line))]


def _find_free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])
