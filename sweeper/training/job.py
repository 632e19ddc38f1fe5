"""Run an executor's jobs in a process: advance a training to a rung.

A training continues from memory, from its checkpoint, or from its start. The spec determines the result to the last
digit, wherever the training is interrupted and whichever process continues it.

A training ends by its own fault (a failed result) or its process's: out of memory, or device lost. A process's fault is
recognised wherever it is raised: while building the network, reading a checkpoint or evaluating.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from sweeper.core.errors import CheckpointError, get_cause
from sweeper.core.events import JobResult, TrainingJob, WorkerLost
from sweeper.core.records import Collapse, Evaluation, TrialResult, TrialSpec
from sweeper.core.training_files import get_checkpoint_path, get_weights_dir_of, get_weights_path
from sweeper.system.clocks import get_running_seconds
from sweeper.training.engine import StudyTraining
from sweeper.training.failure_causes import explain_failure, is_device_lost, is_out_of_memory, is_process_fault
from sweeper.training.training_context import TrainingContext
from sweeper.version import read_versions


class WorkerTrainings:
    """The trainings of this process; the last one stays in memory, so that its next rung begins at once.

    All other unfinished trainings are in their checkpoints.
    """

    def __init__(self, context: TrainingContext, checkpoints: Path) -> None:
        """`context`: shared by the trainings; `checkpoints`: folder of the paused ones."""
        self._context, self._checkpoints = context, checkpoints
        self._last: tuple[TrialSpec, StudyTraining] | None = None
        self._kept = 0
        """Step of the last training's checkpoint."""
        self.broken: str | None = None
        """Why this process cannot use its device any more; None while it can."""
        self._reported: set[str] = set()
        """Reasons for not recording steps that have been reported."""

    def run_job(self, job: TrainingJob) -> JobResult | WorkerLost:
        """Run a job; never raises."""
        began, note = get_running_seconds(), ""
        training: StudyTraining | None = None
        try:
            if self._last is None or self._last[0] != job.spec:
                self.save_last_training()
                self._last = None
                gc.collect()  # frees its memory
                note = self._begin_training(job.spec)
            assert self._last is not None
            _, training = self._last
            while training.step < job.until and not training.is_finished:
                training.advance()
            reason = training.graph_fallback_reason
            if reason is not None and reason not in self._reported:
                self._reported.add(reason)
                note = f"{note}; " * bool(note) + f"steps of {job.spec.family} are taken one by one, as {reason}"
            if not training.is_finished:
                return JobResult(training.make_result("pruned"), note)
            result = training.make_result("complete")
            self._finish_training(job.spec, training, result)
            return JobResult(result, note)
        except Exception as error:
            self._last = None  # its state is unknown
            if is_out_of_memory(error):
                return WorkerLost(job.spec, explain_failure(error))
            if is_device_lost(error):
                self.broken = explain_failure(error)
                return WorkerLost(job.spec, self.broken)
            seen, seconds = tuple[Evaluation, ...](), get_running_seconds() - began
            if training is not None:
                seen, seconds = training.evaluations, training.elapsed_seconds
            failed = TrialResult(
                spec=job.spec,
                state="failed",
                evaluations=seen,
                reason=explain_failure(error),
                seconds=seconds,
                device=str(self._context.device),
                versions=read_versions(),
            )
            return JobResult(failed, note)

    def save_last_training(self) -> None:
        """Write the last training's checkpoint if it has advanced: another process or session may continue it.

        If the file cannot be written, the training restarts from its beginning.
        """
        if self._last is not None and self._last[1].step > self._kept:
            spec, training = self._last
            _try_to_write(lambda: training.save(get_checkpoint_path(self._checkpoints, spec)))
            self._kept = training.step

    def _begin_training(self, spec: TrialSpec) -> str:
        """Create a training, from its checkpoint if there is one, and return a note for the user."""
        path, note, training = get_checkpoint_path(self._checkpoints, spec), "", None
        if path.exists():
            try:
                training = StudyTraining(spec, self._context, checkpoint=path)
            except CheckpointError as error:
                path.unlink(missing_ok=True)
                note = f"{get_cause(error)}; the training begins again, and gives the same numbers"
        training = training or StudyTraining(spec, self._context)
        self._last, self._kept = (spec, training), training.step
        return note

    def _finish_training(self, spec: TrialSpec, training: StudyTraining, result: TrialResult) -> None:
        """Write a complete training's weights if wanted, delete its checkpoint, and free its memory."""
        is_kept = spec.keep_predictions and not spec.fold
        if is_kept and result.collapse != Collapse.DIVERGED:
            path = get_weights_path(get_weights_dir_of(self._checkpoints), spec)
            _try_to_write(lambda: training.save_weights(path))  # the result is what matters
        _try_to_write(lambda: get_checkpoint_path(self._checkpoints, spec).unlink(missing_ok=True))
        self._last = None


def _try_to_write(write: Callable[[], None]) -> None:
    """Write a file; a full disk or lack of memory must not lose the result."""
    try:
        write()
    except Exception as error:
        if not isinstance(error, OSError | SafetensorError) and not is_process_fault(error):
            raise
