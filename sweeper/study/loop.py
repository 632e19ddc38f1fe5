"""The loop that keeps an executor busy in search and confirmation, and trainings known beforehand as its work.

It ends when too many trainings in a row fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import optuna

from sweeper.core.errors import ExecutorError
from sweeper.core.events import (
    NOT_NEEDED,
    JobResult,
    Observer,
    Reply,
    ResultStored,
    TrainingContinued,
    TrainingDropped,
    TrainingEvaluated,
    TrainingJob,
    TrainingResumed,
    TrainingStarted,
    WorkerLost,
)
from sweeper.core.records import Evaluation, TrialResult, TrialSpec
from sweeper.executors.protocol import Executor
from sweeper.storage.results import list_extra_results, store_extra

IN_A_ROW = 8
"""Failures in a row, beyond one for each worker, that end the loop: a cause that fails every training (a full memory, a
GPU in an error state, missing images) would use up the trials."""


class FailureCount:
    """Counts trainings that failed, or whose worker died, since the last one that gave a result.

    Workers that die together, as with a node of a cluster, count once each; so the limit grows with their number.
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
        """Count a training whose worker died."""
        self._count, self._reason = self._count + 1, reason

    def check_limit(self, workers: int) -> None:
        """Stop if too many trainings in a row failed for this number of workers.

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

    Subclasses decide which training begins next, and what happens to results and interrupted trainings.
    """

    def __init__(self, recorder: Observer) -> None:
        """Create an empty source whose trainings `recorder` observes."""
        self._recorder = recorder
        self._running: dict[int, TrialSpec] = {}
        self._going: list[TrialSpec] = []
        """Running trainings that are between two rungs."""
        self._reported: dict[int, int] = {}
        """Last reported step of each training."""

    @property
    def is_over(self) -> bool:
        """Whether the running trainings are no longer needed; False unless a subclass overrides it."""
        return False

    def next(self) -> TrainingJob | None:
        """Return the job of a continuing training's next rung, else of one that begins; None if there is none now.

        The loop asks again after each answer.
        """
        spec = self._going.pop(0) if self._going else self._begin_training()
        return None if spec is None else TrainingJob(spec, until=self._reported[spec.number] + 1)

    def take_answer(self, answer: JobResult) -> bool:
        """Take the answer of a job; return whether its training ended or waits. If not, `next` gives its next job."""
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
        """Return a training that begins or continues, after `_note_begun`; None if there is none now."""
        raise NotImplementedError

    def _note_begun(self, spec: TrialSpec, event: TrainingStarted | TrainingResumed, step: int = 0) -> None:
        """Record that a training runs from now on; its evaluations up to `step` have been reported."""
        self._running[spec.number], self._reported[spec.number] = spec, step
        self._recorder.notify(event)

    def _report_evaluation(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """Report an evaluation, once."""
        if evaluation.step > self._reported[spec.number]:
            self._reported[spec.number] = evaluation.step
            self._recorder.notify(TrainingEvaluated(spec, evaluation))

    def _pause_at_rung(self, spec: TrialSpec, result: TrialResult) -> bool:
        """Pause a training that could continue, or end it; return whether that was done."""
        return False

    def store_result(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store the result of a training that ended."""
        raise NotImplementedError

    def handle_dead_worker(self, spec: TrialSpec, reason: str) -> None:
        """Handle the death of the worker that ran this training."""
        raise NotImplementedError

    def handle_interruption(self, reason: str) -> None:
        """Handle the end of the sweep, by a stop or the time limit, with trainings unfinished."""
        raise NotImplementedError


def run_work(
    executor: Executor, work: WorkSource, stopping: Callable[[], str | None], failures: FailureCount | None = None
) -> bool:
    """Run until `work` has nothing left to begin; return False when `stopping` gave a reason to stop before.

    After that, an error, or work that is over, the executor still runs the abandoned jobs: the next work gets each
    worker at its next rung, and the answer to its abandoned job is ignored.

    `stopping` is called between answers, and returns a reason to stop, or None; `failures` are those in a row so far.

    Raises:
        ExecutorError: if no more training is possible, or too many in a row failed; a resume trains what was running.
    """
    try:
        return _run_until_idle(executor, work, stopping, failures or FailureCount())
    except ExecutorError as error:
        work.handle_interruption(str(error))
        raise


def _run_until_idle(
    executor: Executor, work: WorkSource, stopping: Callable[[], str | None], failures: FailureCount
) -> bool:
    jobs = set[str]()

    def answers(seconds: float) -> Iterator[Reply]:
        for answer in executor.poll(seconds):
            spec = answer.spec if isinstance(answer, WorkerLost) else answer.result.spec
            if spec.name in jobs:
                jobs.remove(spec.name)
                yield answer

    def leave(reason: str) -> None:
        """Take the answers that have arrived, and interrupt the rest."""
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
        while room := executor.free():
            job = work.next()
            if job is None:
                break
            executor.submit(job)
            jobs.add(job.spec.name)
        if not jobs and room:  # without room wait: a cluster may have lost its nodes
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


ATTEMPTS = 2
"""Number of dead workers after which a training has failed."""


def index_completed(results: Iterable[TrialResult]) -> dict[object, TrialResult]:
    """Index completed trainings by their key."""
    return {result.spec.key: result for result in results if result.state == "complete"}


class TrainingList(WorkSource):
    """Specs in their order; each result becomes a study attribute, and completed trainings are not repeated.

    A spec gets the smallest free number, so that an interruption does not change the numbers of a batch.
    """

    def __init__(
        self,
        study: optuna.Study,
        specs: Sequence[TrialSpec],
        *,
        recorder: Observer,
        admit: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Queue `specs`, all of one purpose, with new numbers; `admit(steps)` = such a training may still begin."""
        super().__init__(recorder)
        self._study, self._admit = study, admit
        self._queue: list[TrialSpec] = []
        if specs:
            done = list_extra_results(study, specs[0].purpose)
            have, used_numbers = index_completed(done), {result.spec.number for result in done}
            free = (number for number in range(len(done) + len(specs)) if number not in used_numbers)
            self._queue = [spec.model_copy(update={"number": next(free)}) for spec in specs if spec.key not in have]
        self._deaths = Counter[int]()

    @property
    def is_complete(self) -> bool:
        """Whether every training has ended, including failed ones."""
        return not self._queue and not self._running

    def __len__(self) -> int:
        """Return how many trainings have not begun."""
        return len(self._queue)

    def _begin_training(self) -> TrialSpec | None:
        """Return the next training; None if none is left or may begin."""
        if not self._queue or not self._admit(self._queue[0].steps):
            return None
        spec = self._queue.pop(0)
        self._note_begun(spec, TrainingStarted(spec))
        return spec

    def store_result(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store a result with the study."""
        store_extra(self._study, result)
        self._running.pop(spec.number, None)
        self._recorder.notify(ResultStored(result))

    def handle_dead_worker(self, spec: TrialSpec, reason: str) -> None:
        """Queue the training once more, then count it as failed."""
        self._recorder.notify(TrainingDropped(spec, reason, died=True))
        self._deaths[spec.number] += 1
        if self._deaths[spec.number] < ATTEMPTS:
            self._running.pop(spec.number, None)
            self._queue.append(spec)
        else:
            attempts = f"{reason}, on each of {ATTEMPTS} attempts"
            self.store_result(spec, TrialResult(spec=spec, state="failed", reason=attempts, device=""))

    def handle_interruption(self, reason: str) -> None:
        """Report the running trainings as dropped; a resume repeats them."""
        for spec in self._running.values():
            self._recorder.notify(TrainingDropped(spec, reason, died=False))
