"""Jobs of an executor in a process: advance a training up to a rung.

A training continues from memory, from its checkpoint, or from its start: a spec determines the result, so that it gives
the same, to the last digit, wherever it is cut and whichever process continues it.

What ends a training is its own fault (a failed result), or its process's: memory ran out, or the device is lost. That
is recognised wherever it is raised: while the network is built, a checkpoint is read, or an evaluation is made.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from sweeper.core.errors import CheckpointError
from sweeper.core.events import JobResult, TrainingJob, WorkerLost
from sweeper.core.paths import get_checkpoint_path, get_weights_dir_of, get_weights_path
from sweeper.core.records import Collapse, Evaluation, TrialResult, TrialSpec
from sweeper.system.clocks import get_running_seconds
from sweeper.training.engine import StudyTraining
from sweeper.training.failure_causes import explain_failure, is_device_lost, is_out_of_memory, is_process_fault
from sweeper.training.resident_store import TrainingContext
from sweeper.version import versions


class WorkerTrainings:
    """The trainings of this process; the network of the last one stays in memory, so that its next rung begins at once.

    Any other unfinished one is in its checkpoint.
    """

    def __init__(self, context: TrainingContext, checkpoints: Path) -> None:
        """`context`: what they share; `checkpoints`: folder of the paused ones."""
        self._context, self._checkpoints = context, checkpoints
        self._last: tuple[TrialSpec, StudyTraining] | None = None
        self._kept = 0
        """The step of its checkpoint."""
        self.broken: str | None = None
        """Why this process can use its device no more; None while it can."""
        self._reported: set[str] = set()
        """Why steps are not recorded, where that was said."""

    def run_job(self, job: TrainingJob) -> JobResult | WorkerLost:
        """Do a job; never raises."""
        began, note = get_running_seconds(), ""
        training: StudyTraining | None = None
        try:
            if self._last is None or self._last[0] != job.spec:
                self._save_and_free()
                note = self._begin_training(job.spec)
            assert self._last is not None
            _, training = self._last
            while training.step < job.until and not training.is_finished:
                training.advance()
            if (reason := training.graph_fallback_reason) is not None and reason not in self._reported:
                self._reported.add(reason)
                note = f"{note}; " * bool(note) + f"steps of {job.spec.family} are taken one by one, as {reason}"
            if not training.is_finished:
                return JobResult(training.make_result("pruned"), note)
            result = training.make_result("complete")
            self._finish_training(job.spec, training, result)
            return JobResult(result, note)
        except Exception as error:
            self._last = None  # nobody knows what state it is in
            if is_out_of_memory(error):
                return WorkerLost(job.spec, explain_failure(error))
            if is_device_lost(error):
                self.broken = explain_failure(error)
                return WorkerLost(job.spec, self.broken)
            seen = () if training is None else training.evaluations
            seconds = get_running_seconds() - began if training is None else training.elapsed_seconds
            return JobResult(
                make_failed_result(job.spec, seen, explain_failure(error), seconds, str(self._context.device)), note
            )

    def save_last_training(self) -> None:
        """Write the last training to its checkpoint, unless it is there: another process or session may continue it.

        Without the file it is trained from its start.
        """
        if self._last is not None and self._last[1].step > self._kept:
            spec, training = self._last
            _try_to_write(lambda: training.save(self._get_checkpoint_path(spec)))
            self._kept = training.step

    def _save_and_free(self) -> None:
        """Keep the last training, and give its memory back."""
        self.save_last_training()
        self._last = None
        gc.collect()

    def _begin_training(self, spec: TrialSpec) -> str:
        """Make a training, from its checkpoint where there is one; what people should know of that."""
        path, note, training = self._get_checkpoint_path(spec), "", None
        if path.exists():
            try:
                training = StudyTraining(spec, self._context, checkpoint=path)
            except CheckpointError as error:
                path.unlink(missing_ok=True)
                note = f"{' '.join(str(error).split())[:300]}; the training begins again, and gives the same numbers"
        training = training or StudyTraining(spec, self._context)
        self._last, self._kept = (spec, training), training.step
        return note

    def _finish_training(self, spec: TrialSpec, training: StudyTraining, result: TrialResult) -> None:
        """Keep what others may want of a training that is complete, and give its memory back."""
        if spec.keep_predictions and not spec.fold and result.collapse != Collapse.DIVERGED:
            path = get_weights_path(get_weights_dir_of(self._checkpoints), spec)
            _try_to_write(lambda: training.save_weights(path))  # the result is what matters
        _try_to_write(lambda: self._get_checkpoint_path(spec).unlink(missing_ok=True))
        self._last = None

    def _get_checkpoint_path(self, spec: TrialSpec) -> Path:
        return get_checkpoint_path(self._checkpoints, spec)


def _try_to_write(write: Callable[[], None]) -> None:
    """Write a file next to a finished result, which a full disk or lack of memory must not cost."""
    try:
        write()
    except Exception as error:
        if not isinstance(error, OSError | SafetensorError) and not is_process_fault(error):
            raise


def make_failed_result(
    spec: TrialSpec, evaluations: tuple[Evaluation, ...], reason: str, seconds: float, device: str
) -> TrialResult:
    """Return the result of a training that raised: its reason, and what was seen before."""
    return TrialResult(
        spec=spec,
        state="failed",
        value=None,
        evaluations=evaluations,
        collapse=Collapse.NONE,
        collapse_at_default=Collapse.NONE,
        reason=reason,
        seconds=seconds,
        seconds_per_step=None,
        device=device,
        versions=dict(versions()),
    )
