"""Keep an executor busy: the one loop behind the search and the confirmation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sweeper.core.errors import ExecutorError
from sweeper.core.events import NOT_NEEDED, Advanced, Job, Lost
from sweeper.core.records import TrialSpec
from sweeper.executors.failure_limit import Failures
from sweeper.executors.protocol import Executor

POLL_SECONDS = 0.5


class Work(Protocol):
    """Where jobs come from and where results go."""

    @property
    def over(self) -> bool:
        """Whether what still runs is not needed any more."""

    def next(self) -> Job | None:
        """The next job; None when there is none now (it is asked again after each answer)."""

    def advanced(self, answer: Advanced) -> bool:
        """Take what a job gave; whether its training ended, or waits, by that. If not, `next` gives the next job."""

    def died(self, spec: TrialSpec, reason: str) -> None:
        """A worker died under this training."""

    def interrupted(self, reason: str) -> None:
        """The sweep is being stopped, or its time is up, with what runs unfinished."""


def drive(executor: Executor, work: Work, stopping: Callable[[], str | None], failures: Failures | None = None) -> bool:
    """Run until `work` has nothing left to begin; False when `stopping` gave a reason to stop before.

    After a False, an error, or work that is over, the executor is still busy with what was given up: it can only be
    closed.

    Args:
        executor: where the trainings run.
        work: what is trained.
        stopping: a reason to stop, looked at between answers.
        failures: those in a row so far; None = none.

    Raises:
        ExecutorError: if nothing can be trained any more, or too many trainings in a row failed; what was running is
            left to a resume.
    """
    try:
        return _drive(executor, work, stopping, failures or Failures())
    except ExecutorError as error:
        work.interrupted(str(error))
        raise


def _drive(executor: Executor, work: Work, stopping: Callable[[], str | None], failures: Failures) -> bool:
    jobs = 0
    while True:
        if (reason := stopping()) is not None:
            _leave(executor, work, reason)
            return False
        if work.over:
            _leave(executor, work, NOT_NEEDED)
            return True
        while (room := executor.free()) and (job := work.next()) is not None:
            executor.submit(job)
            jobs += 1
        if not jobs and room:  # without room it is waited for: a cluster may have lost its nodes
            return True
        for answer in executor.poll(POLL_SECONDS):
            jobs -= 1
            match answer:
                case Advanced(result):
                    if work.advanced(answer):
                        failures.see(result)
                case Lost(spec, reason):
                    work.died(spec, reason)
                    failures.lost(reason)
        failures.check(executor.workers)


def _leave(executor: Executor, work: Work, reason: str) -> None:
    """Keep what is there and still on its way; the rest is interrupted."""
    for answer in executor.poll(0):
        if isinstance(answer, Advanced):
            work.advanced(answer)
    work.interrupted(reason)
