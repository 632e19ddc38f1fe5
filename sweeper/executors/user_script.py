"""Trainings by the user's script, for `--command`: each is a process group with its own folder."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from sweeper.core.errors import InterruptedSweepError, ScriptError
from sweeper.core.events import JobResult, Reply, TrainingJob, WorkerHardware, WorkerLayout, WorkerLost
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions, Evaluation, ImageCounts, TrialResult, TrialSpec
from sweeper.core.tasks import RULES
from sweeper.data.folds import get_split
from sweeper.scripts.contract import Split, TrialDocument
from sweeper.scripts.image_names import match_images
from sweeper.scripts.scores import DataCheck, ScriptTask
from sweeper.scripts.script_start import ScriptStart
from sweeper.scripts.starter import ScriptStarter
from sweeper.training.scores import judge_end, score_counts
from sweeper.version import read_versions

DEVICE = "your script"


class ScriptBackend:
    """Backend that trains by the user's script, each training to its end, and its own executor."""

    _conditions: Conditions
    _base: Path
    _task: ScriptTask
    _data_check: DataCheck
    """Set by `open`, as are the others."""

    def __init__(self, command: str, *, workers: int = 1, log: Callable[[str], None] = lambda line: None) -> None:
        """Create the backend; nothing is started.

        Args:
            command: starts the script.
            workers: trainings at a time.
            log: receives messages about trainings.

        Raises:
            UsageError: if the command is invalid.
        """
        self._is_closed = False
        self._starter = ScriptStarter(command, workers=workers, is_stopped=lambda: self._is_closed, log=log)
        self._pool = ThreadPoolExecutor(self._starter.workers, "script")
        self._answers: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self._running = 0

    def get_hardware(self) -> WorkerHardware:
        """Return placeholder hardware: the script chooses its device itself."""
        return WorkerHardware(device="cpu", devices=1, name=DEVICE, precision="float32")

    @property
    def layout(self) -> WorkerLayout:
        """Number of trainings at a time; the script decides about threads."""
        return WorkerLayout(self._starter.workers, 1)

    def measure_step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Return nothing: the script decides about the precision."""
        return {}

    def open(self, conditions: Conditions, checkpoints: Path) -> ScriptBackend:
        """Prepare trainings, each in a folder below `checkpoints`."""
        self._conditions, self._base = conditions, checkpoints.resolve()
        self._task = make_script_task(conditions)
        self._data_check = DataCheck(self._task)
        return self

    @property
    def workers(self) -> int:
        """Number of trainings at a time."""
        return self._starter.workers

    def free(self) -> int:
        """Return how many more trainings can be submitted now."""
        return self.workers - self._running

    def submit(self, job: TrainingJob) -> None:
        """Start a training."""
        self._running += 1
        self._pool.submit(self._do_job, job.spec)

    def poll(self, timeout_seconds: float) -> list[Reply]:
        """Return the answers since the last call, waiting for the first at most this long."""
        answers: list[Reply] = []
        with suppress(queue.Empty):
            answers.append(self._answers.get(block=timeout_seconds > 0, timeout=timeout_seconds or None))
            while True:
                answers.append(self._answers.get_nowait())
        self._running -= len(answers)
        return answers

    def close(self) -> None:
        """End the running trainings, and wait for their end; a resume repeats them."""
        self._is_closed = True
        self._pool.shutdown(cancel_futures=True)

    def _do_job(self, spec: TrialSpec) -> None:
        try:
            self._answers.put(JobResult(self._train(spec)))
        except InterruptedSweepError as error:
            self._answers.put(WorkerLost(spec, str(error)))
        except Exception as error:  # in a thread it would go unnoticed
            self._answers.put(JobResult(_make_failed_result(spec, str(error) or type(error).__name__)))

    def _train(self, spec: TrialSpec) -> TrialResult:
        """Train, and return the result."""
        trial = TrialDocument(
            kind="search" if spec.purpose in ("search", "rate") else "confirm",
            family=spec.family,
            params=spec.params,
            lr_factor=spec.lr,
            seed=spec.seed,
            share=spec.steps / 100,
            fold=spec.fold,
        )
        folder = self._base / f"{spec.purpose}-{spec.number:05d}"
        title = f"{spec.family}, {spec.seed_name}, {spec.steps} % of its length"
        start = self._starter.train(trial, folder, self._task, title)
        if not (problems := self._task.find_problems(start, self._starter.seconds)):
            result = make_script_result(start, spec, self._conditions, self._task)
            problems = self._data_check.find_problems(folder, trial)
        if problems:
            return _make_failed_result(spec, f"{problems[0]}; see {folder}", start.ended.seconds)
        return result


def make_script_task(conditions: Conditions) -> ScriptTask:
    """Return what the trainings of a study by a script share: the data set's split, and what they score."""
    dataset, rules = conditions.dataset, RULES[conditions.dataset.task]
    pixels, labelled = rules.count_pixels(dataset, get_split(conditions, conditions.seed).train)
    return ScriptTask(
        task=dataset.task,
        kinds=dict.fromkeys(("val", "test"), dataset.script_scores),
        metric=conditions.recipe.metric,
        class_pixels=tuple(int(n) for n in pixels),
        labelled_pixels=labelled if rules.has_planes else None,
    )


def make_script_result(start: ScriptStart, spec: TrialSpec, conditions: Conditions, task: ScriptTask) -> TrialResult:
    """Return the result of a training by a script that ended well.

    Raises:
        ScriptError: if its scores are not of the study's images.
    """
    diverged = start.has_diverged
    val = read_image_counts(start, "val", conditions, task)
    scored = score_counts(val, spec, conditions, diverged=diverged)
    end = judge_end(val, scored.point, conditions, diverged=diverged)
    test = None
    if "test" in start.trial.splits and not diverged:
        test = read_image_counts(start, "test", conditions, task)
    seconds = start.ended.seconds
    evaluation = Evaluation(
        **dict(scored), step=spec.steps, train_loss=None, lr=spec.lr, val_images=len(val.images), seconds=seconds
    )
    kept = val if spec.is_tested else val.summed
    return TrialResult(
        spec=spec,
        state="complete",
        evaluations=(evaluation,),
        value=scored.value,
        **end._asdict(),
        val=None if diverged else kept,
        test=test,
        own_runs=start.own_runs,
        seconds=seconds,
        seconds_per_step=seconds / spec.steps,
        device=DEVICE,
        versions=read_versions(),
    )


def read_image_counts(start: ScriptStart, split: Split, conditions: Conditions, task: ScriptTask) -> ImageCounts:
    """Return the counts of a split's images at every operating point, in the data set's order.

    Raises:
        ScriptError: if they are not of the study's images of this split; which images a fold has the script decides.
    """
    wanted = getattr(get_split(conditions, start.trial.seed), split)
    scores = task.read_scores(start.folder, split)
    index = match_images(scores.names, conditions.dataset, split)
    if start.trial.fold is None and {*index} != {*wanted}:
        rule = f"{split} must be the same {len(wanted)} images in each training, got {len(index)} and not all the same"
        raise ScriptError(str(start.folder), [f"{rule}; do not draw the split with t.seed, keep it in a file"])
    return scores.make_counts(index, [conditions.dataset.images[i].labelled for i in index])


def _make_failed_result(spec: TrialSpec, reason: str, seconds: float = 0.0) -> TrialResult:
    return TrialResult(
        spec=spec, state="failed", reason=reason, seconds=seconds, device=DEVICE, versions=read_versions()
    )
