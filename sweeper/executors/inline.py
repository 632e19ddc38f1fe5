"""Trainings in this process, one at a time: for `--executor inline`, debugging and tests."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.core.errors import ExecutorError
from sweeper.core.events import Answer, Evaluated, Hardware, TrainingEvent, WorkerLost
from sweeper.core.records import Conditions, TrialSpec

if TYPE_CHECKING:
    from sweeper.training.job import Job


class InlineExecutor:
    """Trains in this process, one training at a time; an exception in a training is a failed result."""

    def __init__(self, device: str, log: Callable[[str], None] = lambda line: None) -> None:
        """`log` is told what people should know of a training."""
        self._asked, self._log = device, log
        self._job: Job | None = None
        self._spec: TrialSpec | None = None
        self._answer: Answer | None = None
        self._lost: str | None = None

    def hardware(self) -> Hardware:
        """Probe this process's device."""
        from sweeper.training.hardware import probe

        self._hardware = probe(self._asked)
        return self._hardware

    def has_weights(self, encoder: str) -> bool:
        """Look into the local cache."""
        from sweeper.training.model import imagenet_cached

        return imagenet_cached(encoder)

    def configure(self, conditions: Conditions, checkpoints: Path) -> None:
        """Open the store and build the network once."""
        from sweeper.data.store import open_store
        from sweeper.training.failure_causes import explain, not_its_own
        from sweeper.training.job import WorkerContext, leave_to_the_end
        from sweeper.training.worker import check_model

        try:
            check_model(conditions)
        except Exception as error:
            if not_its_own(error):
                raise ExecutorError(f"the network could not be built in this process: {explain(error)}") from error
            raise
        self._context = WorkerContext(
            conditions, open_store(conditions.dataset.store), self._hardware.device, checkpoints
        )
        leave_to_the_end()

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def free(self) -> int:
        """One when idle.

        Raises:
            ExecutorError: if this process lost its device.
        """
        if self._lost is not None:
            raise ExecutorError(f"this process can use its device no more: {self._lost}")
        return 0 if self._spec else 1

    def submit(self, spec: TrialSpec) -> None:
        """Take the training; it is begun at the next poll."""
        from sweeper.training.job import Job

        self._spec, self._job, self._answer = spec, Job(spec, self._context), "go"

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        """Train to the next evaluation, or to the result; nothing where there is no time, or nothing to train."""
        spec = self._spec
        if spec is None or self._job is None or self._answer is None or timeout_seconds == 0:
            time.sleep(timeout_seconds)
            return []
        event = self._job.proceed(self._answer)
        if isinstance(event, Evaluated):
            if event.note:
                self._log(event.note)
            self._answer = "go" if event.last else None
            return [event]
        self._job.free()
        self._spec = self._job = None
        if isinstance(event, WorkerLost):
            self._lost = event.reason
        return [event]

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """Let the one training go on, stop or pause; an answer to another one comes too late."""
        if spec == self._spec and self._answer is None:
            self._answer = answer

    def close(self) -> None:
        """Forget the training, and let what was left out of collections be collected again."""
        self._spec = self._job = None
        gc.unfreeze()
