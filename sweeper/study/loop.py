"""Keep an executor busy: the one loop behind the search and the confirmation, which ends where everything fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sweeper.core.errors import ExecutorError
from sweeper.core.events import (
    NOT_NEEDED,
    Answer,
    JobResult,
    Observer,
    TrainingContinued,
    TrainingEvaluated,
    TrainingJob,
    TrainingResumed,
    TrainingStarted,
    WorkerLost,
)
from sweeper.core.records import Evaluation, TrialResult, TrialSpec
from sweeper.executors.protocol import Executor

IN_A_ROW = 8
"""So many failures in a row, beyond one for each worker, and nothing more is begun: what fails everything (a full
memory, a GPU in an error state, images that are gone) would use up the trials."""


class FailureCount:
    """Counts trainings that failed, or whose worker died, since the last one that gave a result.

    Workers that are lost all at once, as with a node of a cluster, count once each; so the limit grows with them.
    """

    def __init__(self) -> None:
        self._count = 0
        self._reason = ""

    def record_result(self, result: TrialResult) -> None:
        """Count a training that ended or waits with this result."""
        if result.state == "failed":
            self.record_lost_worker(result.reason or "no reason is known")
        else:
            self._count = 0

    def record_lost_worker(self, reason: str) -> None:
        """Count a lost worker."""
        self._count, self._reason = self._count + 1, reason

    def check_limit(self, workers: int) -> None:
        """Stop if there were too many for so many workers.

        Raises:
            ExecutorError: if so.
        """
        if self._count >= IN_A_ROW + workers:
            raise ExecutorError(
                f"{self._count} trainings in a row failed, and at most {IN_A_ROW + workers - 1} may with {workers} "
                f"at a time; the last: {self._reason}"
            )


POLL_SECONDS = 0.5


class WorkSource:
    """Source of jobs and receiver of results: trainings in progress, each rung by rung.

    What begins next, what becomes of a result and what happens to a training that was cut off, its kinds decide.
    """

    def __init__(self, recorder: Observer) -> None:
        """Make one whose trainings `recorder` observes."""
        self._recorder = recorder
        self._running: dict[int, TrialSpec] = {}
        self._going: list[TrialSpec] = []
        """Those of them that are between two rungs."""
        self._reported: dict[int, int] = {}
        """Last reported step of each training."""

    @property
    def is_over(self) -> bool:
        """Whether what still runs is not needed any more; never, unless its kind says otherwise."""
        return False

    def next(self) -> TrainingJob | None:
        """Return the next rung of a continuing training, else of one that begins.

        None if there is none now (the loop asks again after each answer).
        """
        spec = self._going.pop(0) if self._going else self._begin_training()
        return None if spec is None else TrainingJob(spec, until=self._reported[spec.number] + 1)

    def take_answer(self, answer: JobResult) -> bool:
        """Take what a job gave; whether its training ended, or waits, by that. If not, `next` gives the next job."""
        result, spec = answer.result, answer.result.spec
        for evaluation in result.evaluations:
            self._report_evaluation(spec, evaluation)
        if answer.finished:
            self.store_result(spec, result)
        elif not self._pause_at_rung(spec, result):
            self._recorder.notify(TrainingContinued(spec, result))
            self._going.append(spec)
            return False
        return True

    def _begin_training(self) -> TrialSpec | None:
        """Return a training that begins or continues, noted by `_note_begun`; None if there is none now."""
        raise NotImplementedError

    def _note_begun(self, spec: TrialSpec, event: TrainingStarted | TrainingResumed, step: int = 0) -> None:
        """Note that a training runs from now on, whose evaluations were reported up to a step."""
        self._running[spec.number], self._reported[spec.number] = spec, step
        self._recorder.notify(event)

    def _report_evaluation(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """Report an evaluation, once."""
        if evaluation.step > self._reported[spec.number]:
            self._reported[spec.number] = evaluation.step
            self._recorder.notify(TrainingEvaluated(spec, evaluation))

    def _pause_at_rung(self, spec: TrialSpec, result: TrialResult) -> bool:
        """Return whether a training that could continue does not, and see to that."""
        return False

    def store_result(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store the result of a training that ended."""
        raise NotImplementedError

    def handle_dead_worker(self, spec: TrialSpec, reason: str) -> None:
        """Handle the death of the worker that ran this training."""
        raise NotImplementedError

    def handle_interruption(self, reason: str) -> None:
        """Handle a stop of the sweep, or the end of its time, with trainings unfinished."""
        raise NotImplementedError


def run_work(
    executor: Executor, work: WorkSource, stopping: Callable[[], str | None], failures: FailureCount | None = None
) -> bool:
    """Run until `work` has nothing left to begin; False when `stopping` gave a reason to stop before.

    After a False, an error, or work that is over, the executor is still busy with what was given up: the next work
    gets its workers as they come to a rung, and what they answer then is left out.

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
        return _run_until_idle(executor, work, stopping, failures or FailureCount())
    except ExecutorError as error:
        work.handle_interruption(str(error))
        raise


def _run_until_idle(
    executor: Executor, work: WorkSource, stopping: Callable[[], str | None], failures: FailureCount
) -> bool:
    jobs = set[tuple[str, int]]()

    def answers(seconds: float) -> Iterator[Answer]:
        for answer in executor.poll(seconds):
            spec = answer.spec if isinstance(answer, WorkerLost) else answer.result.spec
            if (key := (spec.purpose, spec.number)) in jobs:
                jobs.discard(key)
                yield answer

    def leave(reason: str) -> None:
        """Keep what is there and still on its way; the rest is interrupted."""
        for answer in answers(0):
            if isinstance(answer, JobResult):
                work.take_answer(answer)
        work.handle_interruption(reason)

    while True:
        if (reason := stopping()) is not None:
            leave(reason)
            return False
        if work.is_over:
            leave(NOT_NEEDED)
            return True
        while (room := executor.free()) and (job := work.next()) is not None:
            executor.submit(job)
            jobs.add((job.spec.purpose, job.spec.number))
        if not jobs and room:  # without room it is waited for: a cluster may have lost its nodes
            return True
        for answer in answers(POLL_SECONDS):
            match answer:
                case JobResult(result):
                    if work.take_answer(answer):
                        failures.record_result(result)
                case WorkerLost(spec, reason):
                    work.handle_dead_worker(spec, reason)
                    failures.record_lost_worker(reason)
        failures.check_limit(executor.workers)
