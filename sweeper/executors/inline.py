"""Trainings in this process: for `--workers 0`, debugging and tests."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.core.errors import ExecutorError
from sweeper.core.events import JobResult, Reply, TrainingJob, WorkerHardware, WorkerLayout
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions

if TYPE_CHECKING:
    from sweeper.training.job import WorkerTrainings


class InlineBackend:
    """Backend that trains in this process, and its own executor; an exception in a training is a failed result."""

    workers = 1
    _trainings: WorkerTrainings
    """Set by `open`."""

    def __init__(self, device: str, log: Callable[[str], None] = lambda line: None) -> None:
        """Create the backend; `log` receives messages about trainings."""
        self._asked, self._log = device, log
        self._job: TrainingJob | None = None
        self._deterministic = False

    def get_hardware(self) -> WorkerHardware:
        """Probe this process's device."""
        from sweeper.training.hardware import probe_device

        return probe_device(self._asked)

    @property
    def layout(self) -> WorkerLayout:
        """One worker, with its threads."""
        from sweeper.training.hardware import count_torch_threads

        return WorkerLayout(1, count_torch_threads())

    def measure_step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Train some steps in this process."""
        from sweeper.training.probe_steps import measure_step_seconds

        return measure_step_seconds(conditions, precisions)

    def open(self, conditions: Conditions, checkpoints: Path) -> InlineBackend:
        """Open the store and build the network once."""
        from sweeper.training.failure_causes import explain_failure, is_process_fault
        from sweeper.training.worker import prepare_trainings

        self._deterministic = conditions.recipe.engine == "deterministic"
        try:
            self._trainings = prepare_trainings(conditions, self.get_hardware().device, None, checkpoints)
        except Exception as error:
            if is_process_fault(error):
                raise ExecutorError(
                    f"the network could not be built in this process: {explain_failure(error)}"
                ) from error
            raise
        return self

    def free(self) -> int:
        """Return 1 if it is idle, else 0.

        Raises:
            ExecutorError: if this process lost its device.
        """
        if self._trainings.broken is not None:
            raise ExecutorError(f"this process can use its device no more: {self._trainings.broken}")
        return int(self._job is None)

    def submit(self, job: TrainingJob) -> None:
        """Accept the job; the next poll does it."""
        self._job = job

    def poll(self, timeout_seconds: float) -> list[Reply]:
        """Do the job; without one, or with a timeout of 0, save the last training and wait."""
        if self._job is None or not timeout_seconds:
            self._trainings.save_last_training()
            time.sleep(timeout_seconds)
            return []
        job, self._job = self._job, None
        answer = self._trainings.run_job(job)
        if isinstance(answer, JobResult) and answer.note:
            self._log(answer.note)
        return [answer]

    def close(self) -> None:
        """Drop the job, let the garbage collector see all objects again, and restore torch's defaults."""
        self._job = None
        gc.unfreeze()
        gc.collect()
        if self._deterministic:
            from sweeper.training.hardware import settle_numerics

            settle_numerics(False)
