"""Keep an executor busy: the one loop behind the search and the confirmation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sweeper.core.errors import ExecutorError
from sweeper.core.events import NOT_NEEDED, Answer, Evaluated, Finished, OutOfMemory, Paused, WorkerLost
from sweeper.core.records import Evaluation, TrialResult, TrialSpec
from sweeper.executors.failure_limit import Failures
from sweeper.executors.protocol import Executor

POLL_SECONDS = 0.5


class Work(Protocol):
    """Where specs come from and where results go."""

    @property
    def over(self) -> bool:
        """Whether what still runs is not needed any more."""

    def next(self) -> TrialSpec | None:
        """The next training to start; None when there is none now (it is asked again after each event)."""

    def reported(self, spec: TrialSpec, evaluation: Evaluation, last: bool) -> Answer:
        """Take an evaluation; what becomes of the training (ignored when it is the last)."""

    def paused(self, spec: TrialSpec, result: TrialResult) -> None:
        """A training was told to pause, and did; `next` may give it again."""

    def finished(self, spec: TrialSpec, result: TrialResult) -> None:
        """Take a result."""

    def died(self, spec: TrialSpec, reason: str) -> None:
        """A worker died under this training."""

    def interrupted(self, spec: TrialSpec, reason: str) -> None:
        """The sweep is being stopped, or its time is up, with this training unfinished."""


def drive(executor: Executor, work: Work, stopping: Callable[[], str | None], failures: Failures | None = None) -> bool:
    """Run until `work` has nothing left to begin; False when `stopping` gave a reason to stop before.

    After a False, an error, or work that is over, the executor is still busy with what was given up: it can only be
    closed.

    Args:
        executor: where the trainings run.
        work: what is trained.
        stopping: a reason to stop, looked at between events.
        failures: those in a row so far; None = none.

    Raises:
        ExecutorError: if nothing can be trained any more, or too many trainings in a row failed; what was running is
            left to a resume.
    """
    running: list[TrialSpec] = []
    try:
        return _drive(executor, work, stopping, running, failures or Failures())
    except ExecutorError as error:
        for spec in running:
            work.interrupted(spec, str(error))
        raise


def _drive(
    executor: Executor,
    work: Work,
    stopping: Callable[[], str | None],
    running: list[TrialSpec],
    failures: Failures,
) -> bool:
    while True:
        if (reason := stopping()) is not None:
            _leave(executor, work, running, reason)
            return False
        if work.over:
            _leave(executor, work, running, NOT_NEEDED)
            return True
        while (room := executor.free()) and (begun := work.next()) is not None:
            running.append(begun)
            executor.submit(begun)
        if not running and room:  # without room it is waited for: a cluster may have lost its nodes
            return True
        for event in executor.poll(POLL_SECONDS):
            failures.see(event)
            match event:
                case Evaluated(spec, evaluation, last):
                    answer = work.reported(spec, evaluation, last)
                    if not last:
                        executor.answer(spec, answer)
                case Paused(spec, result):
                    running.remove(spec)
                    work.paused(spec, result)
                case Finished(spec, result):
                    running.remove(spec)
                    work.finished(spec, result)
                case OutOfMemory(spec, reason) | WorkerLost(spec, reason):
                    running.remove(spec)
                    work.died(spec, reason)
        failures.check(executor.workers)


def _leave(executor: Executor, work: Work, running: list[TrialSpec], reason: str) -> None:
    """Keep what is finished and still on its way; the rest is interrupted."""
    for event in executor.poll(0):
        if isinstance(event, Finished | Paused):
            running.remove(event.spec)
            (work.finished if isinstance(event, Finished) else work.paused)(event.spec, event.result)
    for spec in running:
        work.interrupted(spec, reason)
