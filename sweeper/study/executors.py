"""Where trainings run: one interface, and the simplest place: this very process (for debugging and tests).

`poll` returns events; after each `Reported` that is not the training's last, `answer` must say what becomes of it. A
training that was told to pause is begun again, in any worker, by submitting the same spec once more.
`sweeper.study.processes` has the place that sweeps use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sweeper.errors import ExecutorError
from sweeper.records import Conditions, Evaluation, TrialResult, TrialSpec
from sweeper.training.messages import Answer, DeviceLost, Exhausted, Hardware, Looked, Waits

if TYPE_CHECKING:
    from sweeper.training.job import Job


@dataclass(frozen=True)
class Reported:
    """A training looked at its validation pictures; `last` when it has nothing more to ask."""

    spec: TrialSpec
    evaluation: Evaluation
    last: bool


@dataclass(frozen=True)
class Finished:
    """A training gave its result (failed ones included)."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class Paused:
    """A training was told to pause and waits in its checkpoint; `result` is what it gave if it never goes on."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class Died:
    """The worker died under the training; nothing is known of it but the reason."""

    spec: TrialSpec
    reason: str


Event = Reported | Finished | Paused | Died


class Executor(Protocol):
    """A place where trainings run."""

    def hardware(self) -> Hardware:
        """What the machine offers; called once, first."""

    def has_weights(self, encoder: str) -> bool:
        """Whether ImageNet weights of the encoder lie in the local cache; may be called second."""

    def configure(self, conditions: Conditions, checkpoints: Path) -> None:
        """Make ready for trainings under these conditions; called once, before the first of them.

        Args:
            conditions: the study's.
            checkpoints: folder of the paused trainings; made when it is needed.

        Raises:
            UsageError: if the network cannot be built as asked.
        """

    @property
    def workers(self) -> int:
        """How many trainings run at a time; known once `hardware` was asked."""

    def free(self) -> int:
        """How many more trainings can be submitted now.

        Raises:
            ExecutorError: if none can be any more.
        """

    def submit(self, spec: TrialSpec) -> None:
        """Start a training, or go on with a paused one. Only when `free() > 0`."""

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Events since the last call, waiting for the first at most this long."""

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """What becomes of a training that reported; nothing where that one is gone."""

    def close(self) -> None:
        """End everything, running trainings included. Safe to call twice."""


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
        from sweeper.training.causes import explain, not_its_own
        from sweeper.training.job import Workshop
        from sweeper.training.worker import check_model

        try:
            check_model(conditions)
        except Exception as error:
            if not_its_own(error):
                raise ExecutorError(f"the network could not be built in this process: {explain(error)}") from error
            raise
        self._workshop = Workshop(conditions, open_store(conditions.dataset.store), self._hardware.device, checkpoints)

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

        self._spec, self._job, self._answer = spec, Job(spec, self._workshop), "go"

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Train to the next evaluation, or to the result; nothing where there is no time."""
        spec = self._spec
        if spec is None or self._job is None or self._answer is None or timeout_seconds == 0:
            return []
        told = self._job.proceed(self._answer)
        if isinstance(told, Looked):
            if told.note:
                self._log(told.note)
            self._answer = "go" if told.last else None
            return [Reported(spec, told.evaluation, last=told.last)]
        self._job.free()
        self._spec = self._job = None
        if isinstance(told, Exhausted | DeviceLost):
            self._lost = told.reason if isinstance(told, DeviceLost) else None
            return [Died(spec, told.reason)]
        return [Paused(spec, told.result) if isinstance(told, Waits) else Finished(spec, told.result)]

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """Let the one training go on, stop or pause; an answer to another one comes too late."""
        if spec == self._spec and self._answer is None:
            self._answer = answer

    def close(self) -> None:
        """Forget the training."""
        self._spec = self._job = None
