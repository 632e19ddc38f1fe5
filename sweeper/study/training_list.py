"""Trainings that are known beforehand, as work for an executor: confirmations, rechecks, probes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import optuna

from sweeper.core.events import Observer, ResultStored, TrainingDropped, TrainingStarted
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.storage.results import list_extra_results, store_extra
from sweeper.study.loop import WorkSource

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
